/* mark.h: a bitmap of one bit per hart in shared memory, and the cache lines it lies in.
 *
 * Marks are a log of when somebody set bits, plus each hart's last clear. A test at t sees the
 * marks visible to that hart by t (own ones at once, others' after the visibility delay); a
 * clear removes those visible at that time, never a later one. Calls come in the order of time. */
#ifndef MARK_H
#define MARK_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "csim.h"

enum { MARK_LOG = 1024, MARK_LINE_WORDS = 8 };

struct mark_entry {
    uint64_t at_cycles;
    uint32_t hart;             /* who marked */
    uint32_t first_n;          /* harts below it are marked; ... */
    uint32_t own;              /* ... or only the marking one; ... */
    uint32_t width;            /* ... or, if not 0: so many bits from hart first_n on are as ... */
    uint32_t zero;
    uint64_t word;             /* ... here: a word was stored back */
};

struct mark_line {
    uint64_t version;          /* grows with every store */
    uint32_t owner;            /* who stored last */
    bool shared;               /* somebody else has read it since */
};

struct mark {
    uint32_t words, harts;
    struct mark_entry log[MARK_LOG];
    uint64_t logged;           /* ever; the log holds the last MARK_LOG */
    uint64_t *aged_at_cycles;  /* per hart: when a mark that left the log is visible; 0 = none */
    uint64_t *cleared_at_cycles; /* per hart: its last clear ... */
    uint64_t *cleared_logged;  /* ... and `logged` then: later entries are later marks */
    bool stored_back;          /* the program has a plain clear: tests remember what they read */
    uint64_t *read_words;      /* per hart: its word as the last test read it */
    struct mark_line *lines;
    uint32_t lines_nr;
    uint64_t *seen;            /* [hart][line]: version that hart holds */
    uint32_t visible_after_cycles;
};

/* What an access cost: how many lines came from another hart. */
struct mark_cost { uint32_t transfers; };

void mark_create(struct mark *mark, struct arena *arena, uint32_t words, uint32_t harts,
                 uint32_t visible_after_cycles);

/* Plain stores to all words; bits of harts below first_n, or of `hart` alone. */
struct mark_cost mark_store(struct mark *mark, uint32_t hart, uint32_t first_n, bool own,
                            uint64_t at_cycles);

/* A load of the hart's own word. */
bool mark_test(struct mark *mark, uint32_t hart, uint64_t at_cycles, struct mark_cost *cost);

/* Clears the own bit: atomically, at once, or by storing back the word of the last test, which
 * others see later and which wipes bits set in between. width 32 reaches the low half of the
 * word only. An atomic clear comes when the hart's own stores to the mark have drained. */
struct mark_cost mark_clear(struct mark *mark, uint32_t hart, bool amo, uint32_t width,
                            uint64_t at_cycles);

#endif
