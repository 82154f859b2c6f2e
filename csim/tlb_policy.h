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

enum { TLB_WAYS_MAX = 64 };      /* a tree has at most 63 inner nodes: one word */

/* What any of them remembers of one array; each reads only its own part. */
struct tlb_order {
    uint64_t *stamps;            /* per slot: time of the last use or of the fill; srrip: RRPV */
    uint64_t *trees;             /* per set: bit n of the word is node n, 1 the root */
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
    bool hit_repeats;            /* a hit right after a use of the same way changes nothing */
    bool ages;                   /* stamps say who has been there longest: lru, fifo */
};

/* NULL past the end. */
const struct tlb_policy *tlb_policy_at(uint32_t policy);

void tlb_policy_create(struct tlb_order *order, struct arena *arena, uint32_t sets, uint32_t ways,
                       uint64_t seed, uint32_t hart, uint32_t stream);

#endif
