/* tlb.h: sets, ways, sectors, page sizes: find, fill, drop. An array knows no cycles, no counters
 * and not who fenced it: a cause is the caller's number.
 *
 * The address of an entry is (vpn, level, ASID); CSIM_NAPOT counts as a level. An entry holds a PTE
 * word: a leaf, an invalid PTE (V clear: a negative entry), or, in a page-walk cache, a pointer.
 * The PTE's G bit is not asked: whoever fills says whether the entry is global.
 *
 * Invariants: at most one live entry and at most one dropped tag per exact tag (ASID included).
 */
#ifndef TLB_H
#define TLB_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "csim.h"
#include "pte.h"
#include "rv.h"
#include "tlb_policy.h"

enum {
    TLB_SECTORS_MAX = 8,         /* the PTEs of a 64-byte line */
    TLB_EPOCHS = 256,
    TLB_VPN_BITS = 45            /* Sv57: 57 - 12 */
};

struct tlb_array {
    uint32_t sets, ways;         /* ways = 0: absent */
    uint32_t sector_shift;       /* log2 of the sectors */
    uint32_t sector_level;       /* neighbours of this level share a tag; others own one alone */
    uint32_t levels;             /* bit i: may hold entries of level i */
    uint32_t levels_used;        /* ... and ever did */

    uint64_t *tags;              /* per slot: index 44:0, level 47:45, ASID 63:48 */
    uint8_t *held;               /* per slot, a bit per sector: an entry is there */
    uint8_t *global;             /* ... it is global */
    uint8_t *dropped;            /* ... a valid one was, until a fence dropped it */
    uint8_t *epochs;             /* per slot: the epoch its `held` is from */
    struct pte *ptes;            /* per slot and sector */
    uint16_t *filter;            /* per hash: slots whose tag falls there; 0: no slot has it */
    uint16_t *memo;              /* per hash: the slot found last */
    uint16_t *full;              /* per set: 1 + the epoch in which no way was free; 0: unknown */
    uint32_t filter_shift;       /* 64 - log2 of the filter's size */
    uint16_t asid;               /* of all tags, unless many_asids */
    bool hashed;                 /* filter and memo are kept: there are many ways */
    bool filled, many_asids;
    bool negatives;              /* an invalid PTE ever came in */
    uint8_t *causes;             /* per slot and sector: why, where `dropped` */

    uint8_t epoch;               /* `held` of another epoch is void: a full fence ended it */
    uint8_t ended_by[TLB_EPOCHS];
    const struct tlb_policy *policy;
    struct tlb_order order;
};

/* Where an entry was found. */
struct tlb_place {
    struct tlb_array *array;
    uint32_t set, way;
    uint32_t sector;
    uint32_t level;
};

/* The aligned group of 8 PTEs around one, as much of it as is known. */
struct tlb_line {
    struct pte ptes[TLB_SECTORS_MAX];
    uint8_t known;               /* bit i: ptes[i] */
    uint8_t global;              /* bit i: what ptes[i] leads to is global */
};

/* One cache level: a base array and one for superpages. */
struct tlb {
    struct tlb_array array[2];
    uint32_t levels;             /* sizes held in either */
    uint32_t homed[2];           /* per array: levels it is the home of */
    int8_t home[CSIM_NAPOT + 1]; /* the array that holds level i; -1: none */
    int8_t piece[CSIM_SIZES];    /* the largest held level up to i; -1: none */
    bool trace;                  /* the last lookup saw its tag without an entry: ask dropped */
};

/* `stream` tells the arrays of a hart apart: its own random numbers. */
void tlb_array_create(struct tlb_array *array, struct arena *arena, const struct csim_array *shape,
                      uint32_t sector_level, uint64_t seed, uint32_t hart, uint32_t stream);

/* A live entry. Changes nothing. */
bool tlb_array_find(struct tlb_array *array, uint64_t vpn, uint32_t level, uint16_t asid,
                    struct tlb_place *place);

/* ... *trace becomes true when a slot has the tag without an entry for it. */
bool tlb_array_trace(struct tlb_array *array, uint64_t vpn, uint32_t level, uint16_t asid,
                     struct tlb_place *place, bool *trace);

/* A dropped tag, and why. */
bool tlb_array_dropped(const struct tlb_array *array, uint64_t vpn, uint32_t level, uint16_t asid,
                       uint8_t *cause);

/* Fills, under the tag of (vpn, level, asid), those of line's PTEs that are in `take` and share
 * the tag; none: nothing happens. Returns how many negative entries came in that were not there.
 * */
uint32_t tlb_array_fill(struct tlb_array *array, uint64_t vpn, uint32_t level, uint16_t asid,
                        const struct tlb_line *line, uint8_t take);

/* The same for one PTE, the one of (vpn, level). */
uint32_t tlb_array_fill_one(struct tlb_array *array, uint64_t vpn, uint32_t level, uint16_t asid,
                            struct pte pte, bool global);

/* Live entries become dropped tags (negative ones vanish: nobody profited from them). */
void tlb_array_drop_all(struct tlb_array *array, uint8_t cause);
void tlb_array_drop_asid(struct tlb_array *array, uint16_t asid, uint8_t cause);
void tlb_array_drop_page(struct tlb_array *array, uint64_t vpn, uint8_t cause);
void tlb_array_drop_page_asid(struct tlb_array *array, uint64_t vpn, uint16_t asid,
                              uint8_t cause);
void tlb_array_drop_low8(struct tlb_array *array, uint64_t vpn, uint8_t cause);
/* ... in the sets that vpn has under each size the array may hold. */
void tlb_array_drop_set(struct tlb_array *array, uint64_t vpn, uint8_t cause);

/* Negative entries that overlap [vpn, vpn + pages) vanish. */
void tlb_array_forget(struct tlb_array *array, uint64_t vpn, uint64_t pages);

/* After tags were changed from outside: the filter and the memo follow them. */
void tlb_array_rehash(struct tlb_array *array);

void tlb_create(struct tlb *tlb, struct arena *arena, const struct csim_array shape[2],
                uint64_t seed, uint32_t hart, uint32_t stream);

/* A live entry of any size, the smallest first; a hit counts as a use. */
bool tlb_lookup(struct tlb *tlb, uint64_t vpn, uint16_t asid, struct tlb_place *place);

/* After a miss: a fence dropped what would have answered. Never when `trace` is false. */
bool tlb_dropped(const struct tlb *tlb, uint64_t vpn, uint16_t asid, uint8_t *cause);

/* log2 of the pages under an entry. */
static inline uint32_t tlb_span_bits(uint32_t level)
{
    return level == CSIM_NAPOT ? RV_NAPOT_BITS : RV_VPN_BITS * level;
}

/* The level of the PTE in an entry. */
static inline uint32_t tlb_pte_level(uint32_t level) { return level == CSIM_NAPOT ? 0 : level; }

static inline uint32_t tlb_slot(const struct tlb_place *place)
{
    return place->set * place->array->ways + place->way;
}

static inline struct pte tlb_pte(const struct tlb_place *place)
{
    return place->array->ptes[(tlb_slot(place) << place->array->sector_shift) + place->sector];
}

static inline bool tlb_is_global(const struct tlb_place *place)
{
    return place->array->global[tlb_slot(place)] >> place->sector & 1;
}

static inline void tlb_use(const struct tlb_place *place)
{
    const struct tlb_policy *policy = place->array->policy;
    if (policy->trees)
        tlb_policy_turn_away(&place->array->order, place->set, place->way);
    else if (policy->hits_count)
        policy->hit(&place->array->order, place->set, place->way);
}

#endif
