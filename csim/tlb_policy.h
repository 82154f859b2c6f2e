/* tlb_policy.h: which way leaves. One `struct tlb_policy` per algorithm; the family ends in its
 * table, and Python asks for the names.
 *
 * A policy sees slots (set * ways + way) and is told of every hit and every fill. It is asked for
 * a victim only when no way of the set is free: a way that never held anything, or whose entry a
 * fence dropped, is taken first, lowest way first, whatever the policy (tlb.c).
 */
#ifndef TLB_POLICY_H
#define TLB_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"

enum {
    TLB_WAYS_MAX = 64,           /* a tree has at most 63 inner nodes: one word */
    TLB_TREE_SMALL = 8, TLB_TREE_WORDS = 128
};

/* What any of them remembers of one array; each reads only its own part. */
struct tlb_order {
    uint64_t *stamps;            /* per slot: time of the last use or of the fill; srrip: RRPV */
    uint64_t *trees;             /* per set: bit n of the word is node n, 1 the root */
    uint64_t *tree_path;         /* per way: the nodes from the root to it */
    uint64_t *tree_away;         /* per way: what they say when they all point away from it */
    uint8_t *tree_victim;        /* up to 8 ways: per word of nodes 1 to 7, the way they lead to */
    uint32_t tree_height;
    uint64_t tick;               /* lru, fifo: stamps given so far */
    uint64_t draws;              /* random: numbers drawn so far */
    uint64_t seed;
    uint32_t hart;
    uint32_t stream;             /* which array of the hart: its own stream of draws */
    uint32_t sets, ways;
    uint32_t next_way;           /* rr: one pointer for the whole array */
};

struct tlb_policy {
    const char *name;
    void (*hit)(struct tlb_order *order, uint32_t set, uint32_t way);
    void (*fill)(struct tlb_order *order, uint32_t set, uint32_t way);
    uint32_t (*victim)(struct tlb_order *order, uint32_t set);
    bool hits_count;             /* a hit changes the order */
    bool hit_repeats;            /* a hit right after a use of the same way changes nothing */
    bool trees;                  /* order is in `trees`: plru, setplru */
    bool ages;                   /* stamps say who has been there longest: lru, fifo */
};

/* plru, for those who know they have one: a use of the way, and the way that leaves. */
static inline void tlb_policy_turn_away(struct tlb_order *order, uint32_t set, uint32_t way)
{
    order->trees[set] = (order->trees[set] & ~order->tree_path[way]) | order->tree_away[way];
}

static inline uint32_t tlb_policy_lead(const struct tlb_order *order, uint64_t tree)
{
    uint32_t way = 0, node = 1;
    if ((order->ways & (order->ways - 1)) == 0) {   /* a whole tree: its leaves are the ways */
        while (node < order->ways)
            node = 2 * node + (uint32_t)(tree >> node & 1);
        return node - order->ways;
    }
    for (uint32_t below = order->tree_height; below-- > 0;) {
        uint32_t upper = tree >> node & 1;
        upper &= (2 * way + 1) << below < order->ways;
        way = 2 * way + upper;
        node = 2 * node + upper;
    }
    return way;
}

static inline uint32_t tlb_policy_follow(const struct tlb_order *order, uint32_t set)
{
    uint64_t tree = order->trees[set];
    if (order->ways <= TLB_TREE_SMALL)
        return order->tree_victim[tree >> 1 & (TLB_TREE_WORDS - 1)];
    return tlb_policy_lead(order, tree);
}

/* NULL past the end. */
const struct tlb_policy *tlb_policy_at(uint32_t policy);

void tlb_policy_create(struct tlb_order *order, struct arena *arena, uint32_t sets, uint32_t ways,
                       uint64_t seed, uint32_t hart, uint32_t stream);

#endif
