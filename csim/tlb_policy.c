/* tlb_policy.c: the replacement policies.
 *
 * lru      the way used longest ago; a stamp per slot, given at every hit and fill, all different.
 * plru     a binary tree per set, each node pointing at the half to evict from; a use turns the
 *          nodes on its path away from the way used. With ways that are no power of two the tree
 *          is the one of the next power of two, and a node whose upper half has no way at all
 *          points to the lower half; so 10 ways are a tree of 8 beside a tree of 2, as in Rocket's
 *          replacement unit (rocket-chip c1dda5827, util/Replacement.scala, PseudoLRU).
 * fifo     the way filled longest ago; a hit changes nothing (OpenC910, OpenC906 second level).
 * random   uniform over the ways. The draw is rng.h's (seed, RNG_REPLACEMENT, hart, item), item the
 *          array's number in the hart and a count of its draws, so that no other randomness of a
 *          run moves it. Stands for the LFSRs of hardware (CVA6 shared TLB).
 * rr       a pointer, one for all sets of the array, moves past the way just filled (NaxRiscv,
 *          VexiiRiscv: a counter per storage that steps at each refill).
 * setplru  the same trees as plru under the name XiangShan gives them when there are several sets.
 * srrip    2-bit re-reference prediction: a fill predicts 2, a hit 0, the victim is the lowest way
 *          that predicts 3, after all have been aged until there is one (Jaleel et al., ISCA 2010).
 *
 * A fence leaves all of this as it is: hardware clears valid bits and keeps the replacement bits
 * (rocket-chip TLB.scala:718-727, cva6_tlb.sv:331-345).
 */
#include "tlb_policy.h"

#include <stddef.h>

#include "csim.h"
#include "rng.h"

enum { RRPV_SOON = 0, RRPV_LONG = 2, RRPV_DISTANT = 3, STREAM_SHIFT = 48 };

static void leave_alone(struct tlb_order *order, uint32_t set, uint32_t way)
{
    (void)order, (void)set, (void)way;
}

static uint32_t slot_of(const struct tlb_order *order, uint32_t set, uint32_t way)
{
    return set * order->ways + way;
}

static void stamp(struct tlb_order *order, uint32_t set, uint32_t way)
{
    order->stamps[slot_of(order, set, way)] = ++order->tick;
}

static uint32_t oldest(struct tlb_order *order, uint32_t set)
{
    const uint64_t *stamps = order->stamps + slot_of(order, set, 0);
    uint64_t least = stamps[0];
    uint32_t found = 0;
    for (uint32_t way = 1; way < order->ways; way++) {
        bool older = stamps[way] < least;           /* no branch: nobody can guess who is */
        found = older ? way : found;
        least = older ? stamps[way] : least;
    }
    return found;
}

static uint32_t tree_height(uint32_t ways)
{
    uint32_t height = 0;
    while ((UINT32_C(1) << height) < ways)
        height++;
    return height;
}

static void tree_turn_away(struct tlb_order *order, uint32_t set, uint32_t way)
{
    tlb_policy_turn_away(order, set, way);
}

static uint32_t tree_follow(struct tlb_order *order, uint32_t set)
{
    return tlb_policy_follow(order, set);
}

/* A node's bit is set when it points to its upper half. */
static void draw_tree(struct tlb_order *order)
{
    order->tree_height = tree_height(order->ways);
    for (uint32_t way = 0; way < order->ways; way++) {
        uint32_t node = 1;
        for (uint32_t below = order->tree_height; below-- > 0;) {
            uint64_t upper = way >> below & 1;
            order->tree_path[way] |= UINT64_C(1) << node;
            order->tree_away[way] |= (upper ^ 1) << node;
            node = 2 * node + (uint32_t)upper;
        }
    }
    for (uint64_t word = 0; word < TLB_TREE_WORDS; word++)
        order->tree_victim[word] = (uint8_t)tlb_policy_lead(order, word << 1);
}

static uint32_t drawn(struct tlb_order *order, uint32_t set)
{
    (void)set;
    uint64_t item = (uint64_t)order->stream << STREAM_SHIFT | order->draws++;
    uint64_t draw = rng_draw(order->seed, RNG_REPLACEMENT, order->hart, item);
    return (uint32_t)rng_below(draw, order->ways);
}

static void point_past(struct tlb_order *order, uint32_t set, uint32_t way)
{
    (void)set;
    order->next_way = way + 1 == order->ways ? 0 : way + 1;
}

static uint32_t pointed_at(struct tlb_order *order, uint32_t set)
{
    (void)set;
    return order->next_way;
}

static void predict_soon(struct tlb_order *order, uint32_t set, uint32_t way)
{
    order->stamps[slot_of(order, set, way)] = RRPV_SOON;
}

static void predict_long(struct tlb_order *order, uint32_t set, uint32_t way)
{
    order->stamps[slot_of(order, set, way)] = RRPV_LONG;
}

static uint32_t distant(struct tlb_order *order, uint32_t set)
{
    uint64_t *rrpv = order->stamps + slot_of(order, set, 0);
    uint64_t highest = 0;
    uint32_t found = 0;
    for (uint32_t way = 0; way < order->ways; way++) {
        if (rrpv[way] > highest) {
            highest = rrpv[way];
            found = way;
        }
    }
    for (uint32_t way = 0; way < order->ways; way++)
        rrpv[way] += RRPV_DISTANT - highest;
    return found;
}

static const struct tlb_policy policies[] = {
    {"lru", stamp, stamp, oldest, true, true, false, true},
    {"plru", tree_turn_away, tree_turn_away, tree_follow, true, true, true, false},
    {"fifo", leave_alone, stamp, oldest, false, true, false, true},
    {"random", leave_alone, leave_alone, drawn, false, true, false, false},
    {"rr", leave_alone, point_past, pointed_at, false, true, false, false},
    {"setplru", tree_turn_away, tree_turn_away, tree_follow, true, true, true, false},
    {"srrip", predict_soon, predict_long, distant, true, false, false, false},
};

enum { POLICIES = sizeof policies / sizeof policies[0] };

const struct tlb_policy *tlb_policy_at(uint32_t policy)
{
    return policy < POLICIES ? &policies[policy] : NULL;
}

const char *csim_tlb_policy_name(uint32_t policy)
{
    return policy < POLICIES ? policies[policy].name : NULL;
}

void tlb_policy_create(struct tlb_order *order, struct arena *arena, uint32_t sets, uint32_t ways,
                       uint64_t seed, uint32_t hart, uint32_t stream)
{
    *order = (struct tlb_order){
        .seed = seed, .hart = hart, .stream = stream, .sets = sets, .ways = ways,
        .stamps = arena_take(arena, (size_t)sets * ways, sizeof order->stamps[0]),
        .trees = arena_take(arena, sets, sizeof order->trees[0]),
        .tree_path = arena_take(arena, ways, sizeof order->tree_path[0]),
        .tree_away = arena_take(arena, ways, sizeof order->tree_away[0]),
    };
    order->tree_victim = arena_take(arena, TLB_TREE_WORDS, sizeof order->tree_victim[0]);
    if (order->tree_victim != NULL)
        draw_tree(order);
}
