/* tlb_batch.h: one array over many references at once: which of them miss.
 *
 * While an array is open for batches it holds tags only: the PTEs under them are not kept, as
 * whoever opened it can find them again when he closes it (mmu_batch.c). A reference is a key: the
 * page's index within its size, the level and the ASID as they stand in a tag, sector included.
 *
 * Contract: an array is opened, gets any number of passes, and is closed; in between nobody else
 * may use it. After closing it answers every question as it would have, had each reference been
 * looked up and each miss been filled one after the other. Under LRU which way holds an entry may
 * differ, which nothing can tell unless two entries match one page.
 */
#ifndef TLB_BATCH_H
#define TLB_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "csim.h"
#include "tlb.h"
#include "tlb_batch_log.h"

enum { TLB_BATCH_MEMO = 4096 };

struct tlb_batch {
    struct tlb_array *array;     /* NULL or without ways: absent, everything misses */
    enum csim_simd simd;
    uint64_t kind;               /* what the tags of all entries have in common: level, ASID */
    bool ordered;                /* a set's tags stand most recent first; else slots have stamps */
    bool misses_much;            /* the last pass did, where the form stays the same */
    uint16_t *memo;              /* per low bits of a tag: the slot it was found in last */
    bool logged;                 /* one large set: ordered means that the log has the tags */
    struct tlb_batch_log log;
    uint64_t *tags, *stamps, *trees;      /* as of the last tlb_batch_save() */
    uint8_t *held;
    uint16_t *full;
    uint64_t draws;
    uint32_t next_way;
    bool was_ordered;
};

/* Memory for batches over this array. */
void tlb_batch_create(struct tlb_batch *batch, struct arena *arena, struct tlb_array *array);

/* False: this array cannot be run in batches as it is now: it remembers what a fence dropped, or
 * holds entries of another ASID or another level. */
bool tlb_batch_open(struct tlb_batch *batch, uint32_t level, uint16_t asid, enum csim_simd simd);

/* Looks up the keys in their order and fills each miss at once. Returns the number of misses,
 * whose keys go to `missed` (room for n + 8); hits[i], unless NULL, says whether key i hit. */
uint32_t tlb_batch_pass(struct tlb_batch *batch, const uint64_t *keys, uint32_t n,
                        uint64_t *missed, uint8_t *hits);

/* One reference after another to the same key changes nothing but the first. */
bool tlb_batch_repeats_free(const struct tlb_batch *batch);

/* The array as it is now can be restored, until it is closed. */
void tlb_batch_save(struct tlb_batch *batch);
void tlb_batch_restore(struct tlb_batch *batch);

/* The key of a slot's sector 0, *held its sectors; false: the slot is free. Only when closed or
 * just opened. */
bool tlb_batch_slot(const struct tlb_batch *batch, uint32_t slot, uint64_t *key, uint8_t *held);

/* Ends the batches; the PTEs of the slots held are to be written by the caller. */
void tlb_batch_close(struct tlb_batch *batch, uint32_t level, uint16_t asid);

#endif
