/* mmu_batch.h: many references of one hart to a page table that nobody stores to meanwhile.
 *
 * The result is that of mmu_begin() and mmu_step() for one reference after the other, time,
 * counters and what the caches hold included; only faster. Between two calls the mmu may be used
 * in any way.
 */
#ifndef MMU_BATCH_H
#define MMU_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "mmu.h"
#include "pagetable.h"
#include "tlb_batch.h"

enum { MMU_BATCH_REFERENCES = 4096, MMU_BATCH_BLOCK = 512, MMU_BATCH_SLACK = 8,
       MMU_BATCH_TABLES = 1024 };

struct mmu_batch_table {         /* a last-level table: where the PTEs of 512 pages lie */
    uint64_t region;             /* the VPN above level 0, + 1; 0: none */
    uint64_t word;               /* index of its first PTE in pagetable.frames */
    uint64_t pointer_pa;         /* where the PTE lies that points to it */
    bool global;                 /* a pointer on the way there was */
};

struct mmu_batch {
    struct mmu *mmu;
    const struct pagetable *pt;
    struct tlb_batch l1i, l1d, l1st, l2;
    struct tlb_batch pwc[CSIM_SIZES];
    uint64_t *keys;              /* of a block */
    uint64_t *l1_missed, *l2_missed, *pointers;
    uint16_t *at, *next_at;      /* walks that found no pointer yet */
    uint8_t *hits;
    uint8_t *reads;              /* per walk: PTEs it reads */
    struct mmu_batch_table *tables;   /* by region; as of `stores` */
    uint64_t stores;

    struct mmu_request request;  /* of the stream */
    struct tlb_batch *l1;
    uint64_t leaf_mask, leaf_want;    /* a leaf that answers, and sets nothing */
    uint64_t last_key;
    enum csim_simd simd;
    bool open;
};

struct mmu_batch_sum {
    uint64_t cycles;             /* all references took */
    uint64_t faults;             /* references not translated */
    uint64_t batched;            /* references that went in batches */
};

/* The mmu and its table outlive the batch. */
void mmu_batch_create(struct mmu_batch *batch, struct arena *arena, struct mmu *mmu,
                      const struct pagetable *pt);

/* References to `vas` in turn, the first at `at_cycles`, all of them like `request` but for the
 * address, none speculative. A walk in flight is aborted. */
void mmu_batch_run(struct mmu_batch *batch, const struct mmu_request *request,
                   const uint64_t *vas, uint64_t vas_nr, enum csim_simd simd,
                   uint64_t at_cycles, struct mmu_batch_sum *sum);

#endif
