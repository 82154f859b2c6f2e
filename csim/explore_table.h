/* explore_table.h: the states seen so far, and how each was first reached.
 *
 * A state is a record: 64-bit words, the top byte of the first being their number. States are
 * numbered from 0 in the order they were offered; a breadth-first search offers them level by
 * level, so number order is level order.
 *
 * Exact: every record is kept and equality is equality of records. Otherwise only the 64-bit
 * fingerprint of a state is kept for ever, and its record until the search has expanded it.
 *
 * All memory is the caller's, given once; a full table says so and never drops a state. */
#ifndef EXPLORE_TABLE_H
#define EXPLORE_TABLE_H

#include <stdbool.h>
#include <stdint.h>

enum { EXPLORE_RECORD_WORDS_MAX = 255, EXPLORE_BATCH = 64, EXPLORE_KEYS = 258 };

#define EXPLORE_NO_STATE UINT32_MAX

/* A state offered and not yet looked up. */
struct explore_offer {
    uint64_t print;
    uint32_t at;          /* of its record in `waiting` */
    uint32_t parent;
    uint16_t length;
    uint16_t label;
};

struct explore_table {
    uint64_t *slots;      /* open addressing: fingerprints; exact: half of one and the place of the
                           * record. 0: empty */
    uint32_t *parents;    /* by number; EXPLORE_NO_STATE for the first state */
    uint16_t *labels;     /* by number: the transition out of its parent */
    uint64_t *heap;       /* records; a ring unless exact */
    uint64_t heap_words;
    uint64_t ring_words;  /* of them in use: the ring's size */
    uint64_t used_words;  /* that must not be overwritten */
    uint64_t head, tail;  /* where the next record is written, and the next is taken */
    uint64_t keys[EXPLORE_KEYS]; /* of the fingerprints */
    uint32_t log2;        /* slots in use: 2^log2 and a tail that never wraps */
    uint32_t log2_max;
    uint32_t full_at;     /* states for which the slots in use are enough */
    uint32_t states;
    uint32_t states_max;
    uint32_t taken;
    uint32_t exact;
    uint32_t offers_nr;
    uint32_t waiting_words;
    struct explore_offer offers[EXPLORE_BATCH];
    uint64_t waiting[EXPLORE_BATCH * EXPLORE_RECORD_WORDS_MAX];
};

/* Lays an empty table out in `bytes` of memory, 8-byte aligned, whatever is in them. False when
 * that is too little to start. */
bool explore_table_open(struct explore_table *table, void *memory, uint64_t bytes,
                        uint64_t states_max, uint64_t seed, bool exact);

/* Where to write the next record to offer: EXPLORE_RECORD_WORDS_MAX words. */
uint64_t *explore_table_room(struct explore_table *table);
/* Offers the record just written there: unless it is known it gets the next number, `parent` and
 * `label`. Looks up in batches, hence later. False: the table is full, and stays so. */
bool explore_table_offer(struct explore_table *table, uint32_t length, uint32_t parent,
                         uint16_t label);
/* Looks up what is still waiting; then `states` counts all that was offered. */
bool explore_table_flush(struct explore_table *table);

/* The record of the state whose number follows the one taken last; NULL when all are taken. It is
 * valid until the next offer. */
const uint64_t *explore_table_take(struct explore_table *table);

#endif
