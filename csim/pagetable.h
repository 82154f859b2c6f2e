/* pagetable.h: the tree of PTEs in simulated memory. Every PTE store goes through here, and so does
 * the answer to "what does hart h see at time t".
 *
 * Simulated memory is one dense window of table frames [base_ppn, base_ppn + frames_nr) plus,
 * for golden vectors, a short list of words; what is in neither reads as zero inside RAM and is an
 * access fault outside it.
 *
 * A store by hart a at t is seen by a's walker from t + store_drain_cycles on, by the others'
 * coherence_cycles later. A walk of a hart that lags behind must still find the old value, so the
 * last stores are kept, with the value they replaced, until the slowest hart has passed them.
 */
#ifndef PAGETABLE_H
#define PAGETABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "csim.h"
#include "pte.h"

struct pagetable_version {      /* one recent store */
    uint64_t pa;
    uint64_t before;            /* what the word held */
    uint64_t at_cycles;
    uint32_t hart;              /* who stored */
    uint32_t older;             /* previous version of the same word in the ring, or none */
};

struct pagetable {
    uint64_t *frames;           /* frames_nr x 512 words */
    uint64_t base_ppn;
    uint32_t frames_nr, frames_used;
    uint32_t levels;            /* 3, 4, 5 */
    uint64_t root_ppn;
    uint64_t ram_first, ram_end;
    const struct csim_word *words;  /* golden vectors only */
    uint32_t words_nr;

    struct pagetable_version *ring; /* the last `ring_nr` stores, oldest overwritten */
    uint32_t ring_nr;
    uint64_t stores;            /* ever made; the ring holds the last min(stores, ring_nr) */
    uint64_t settled_at_cycles; /* from here on every hart sees every store made so far */
    uint32_t store_drain_cycles, coherence_cycles;
};

/* Sizes the window; the root frame is taken. Frames come zeroed. */
void pagetable_create(struct pagetable *pt, struct arena *arena, uint32_t levels,
                      uint32_t frames_nr, uint32_t ring_nr, const struct csim_machine *machine);

/* False: no memory there (an access fault). */
bool pagetable_read(const struct pagetable *pt, uint64_t pa, uint32_t hart, uint64_t at_cycles,
                    struct pte *pte);

/* What an explicit load of the storing hart would find: the newest value. */
struct pte pagetable_newest(const struct pagetable *pt, uint64_t pa);

/* Maps [va, va + pages * 4 KiB) with leaves of `level` to consecutive frames from `ppn`, allocating
 * tables on the way; returns the number of PTE stores (non-leaf ones included). One store each
 * `store_cycles`, the first at `at_cycles`. */
uint32_t pagetable_map(struct pagetable *pt, uint64_t va, uint32_t pages, uint32_t level,
                       uint64_t ppn, uint64_t flags, uint32_t hart, uint64_t at_cycles,
                       uint32_t store_cycles);

/* Clears V (writes zero) on every leaf of [va, va + pages * 4 KiB); returns the PTE stores. */
uint32_t pagetable_unmap(struct pagetable *pt, uint64_t va, uint32_t pages, uint32_t hart,
                         uint64_t at_cycles, uint32_t store_cycles);

/* The newest leaf of va, V clear when there is none. */
struct pte pagetable_leaf(const struct pagetable *pt, uint64_t va);

/* True when the ring is about to forget a store that a hart now at `slowest_at_cycles` may still
 * have to look behind; the caller then advances that hart first. */
bool pagetable_must_wait(const struct pagetable *pt, uint32_t stores, uint64_t slowest_at_cycles);

#endif
