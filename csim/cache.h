/* cache.h: where a line of memory lies: L1 data cache, L2, last level or DRAM. What the footprint
 * sweep asks instead of drawing from the machine's mix: PTE lines and data share the caches.
 */
#ifndef CACHE_H
#define CACHE_H

#include <stdint.h>

#include "arena.h"
#include "csim.h"

enum { CACHE_LINE_SHIFT = 6 };

struct cache {
    uint32_t sets, ways;         /* ways = 0: absent */
    uint64_t *lines;             /* per set, last used first: 1 + line; 0: empty */
};

struct caches {
    struct cache level[CSIM_PLACE_DRAM];
    uint32_t cycles[CSIM_PLACES];
    uint32_t pte_first;          /* the first place that a PTE read asks */
    uint64_t pte_reads[CSIM_PLACES], data_reads[CSIM_PLACES];
};

/* The sizes are those of mmu_check_machine(). */
void cache_create(struct caches *caches, struct arena *arena, const struct csim_machine *machine);

/* Reads a line, moves it up; returns the cycles, counts the place. */
uint32_t cache_read_pte(struct caches *caches, uint64_t pa);
uint32_t cache_read_data(struct caches *caches, uint64_t pa);

#endif
