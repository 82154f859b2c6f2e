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
 *
 * The stores to one word are ordered as the calls were made; a hart sees the last of them that has
 * reached it. Times of stores need not grow from call to call.
 */
#ifndef PAGETABLE_H
#define PAGETABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "csim.h"
#include "pte.h"
#include "trace.h"

struct pagetable_version {      /* one recent store */
    uint64_t pa;
    uint64_t before;            /* what the word held */
    uint64_t at_cycles;
    uint32_t hart;              /* who stored */
    uint32_t older;             /* previous store to the same word: so many stores ago; 0 = none */
};

struct pagetable {
    uint64_t *frames;           /* frames_nr x 512 words, the newest values */
    uint32_t *newest;           /* per word: 1 + ring slot of its last store; 0 = never stored */
    uint64_t base_ppn;
    uint32_t frames_nr, frames_used;
    uint32_t *spare;            /* frames given back by a superpage that replaced a table */
    uint32_t spare_nr;
    uint32_t levels;            /* 3, 4, 5 */
    uint64_t root_ppn;
    uint64_t ram_first, ram_end;
    const struct csim_word *words;  /* golden vectors only */
    uint32_t words_nr;

    struct pagetable_version *ring; /* the last `ring_nr` stores, oldest overwritten */
    uint32_t ring_nr;           /* a power of two */
    uint64_t stores;            /* ever made; the ring holds the last min(stores, ring_nr) */
    uint64_t settled_at_cycles; /* from here on every hart sees every store made so far */
    uint32_t store_drain_cycles, coherence_cycles;
    struct trace *trace;        /* stores are logged here; NULL: nobody asks */
};

/* Sizes the window; the root frame is taken. Frames come zeroed. ring_nr is rounded up to a power
 * of two; it must hold the stores of the largest single map or unmap. */
void pagetable_create(struct pagetable *pt, struct arena *arena, uint32_t levels,
                      uint32_t frames_nr, uint32_t ring_nr, const struct csim_machine *machine);

/* A memory of a few words that nobody stores to, owned by the caller: golden vectors. */
void pagetable_of_words(struct pagetable *pt, const struct csim_word *words, uint32_t words_nr,
                        uint64_t ram_first, uint64_t ram_end);

/* False: no memory there (an access fault). */
bool pagetable_read(const struct pagetable *pt, uint64_t pa, uint32_t hart, uint64_t at_cycles,
                    struct pte *pte);

/* What an explicit load of the storing hart would find: the newest value. */
struct pte pagetable_newest(const struct pagetable *pt, uint64_t pa);

/* One PTE store to a word of the window; every other store ends here. */
void pagetable_store(struct pagetable *pt, uint64_t pa, struct pte pte, uint32_t hart,
                     uint64_t at_cycles);

/* Maps [va, va + pages * 4 KiB) with leaves of `level` to consecutive frames from `ppn`, allocating
 * tables on the way; returns the number of PTE stores (non-leaf ones included). One store each
 * `store_cycles`, the first at `at_cycles`. `flags` are the leaf's other bits, V included. va,
 * pages and ppn are aligned to the leaf. A table that a superpage replaces must be empty. */
uint32_t pagetable_map(struct pagetable *pt, uint64_t va, uint32_t pages, uint32_t level,
                       uint64_t ppn, uint64_t flags, uint32_t hart, uint64_t at_cycles,
                       uint32_t store_cycles);

/* The root entry of va gets its table, as kernels do once for areas that all roots share. */
void pagetable_preallocate(struct pagetable *pt, uint64_t va, uint64_t at_cycles);

/* Clears V (writes zero) on every leaf of [va, va + pages * 4 KiB); returns the PTE stores. Tables
 * stay. A superpage must be covered whole. */
uint32_t pagetable_unmap(struct pagetable *pt, uint64_t va, uint32_t pages, uint32_t hart,
                         uint64_t at_cycles, uint32_t store_cycles);

/* The newest leaf of va, V clear when there is none. */
struct pte pagetable_leaf(const struct pagetable *pt, uint64_t va);

/* What explicit loads of a hart find at that time: its own stores at once, those of others when
 * they have reached it. V clear when there is no leaf. */
struct pte pagetable_load(const struct pagetable *pt, uint64_t va, uint32_t hart,
                          uint64_t at_cycles);

/* Every store made so far reaches every hart at once, also for a hart that lags behind. */
void pagetable_settle(struct pagetable *pt);

/* True when `stores` more stores would make the ring forget one that a hart now at
 * `slowest_at_cycles` may still have to look behind; the caller then advances that hart first.
 * `stores` is at most ring_nr. */
bool pagetable_must_wait(const struct pagetable *pt, uint32_t stores, uint64_t slowest_at_cycles);

#endif
