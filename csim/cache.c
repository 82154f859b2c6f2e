/* cache.c: three levels of set-associative caches of 64-byte lines, each with exact LRU.
 *
 * A read asks one level after the other and fills all that missed on its way back, so a line that
 * is used often stays in every level it was read through. Levels do not know of each other: a line
 * that leaves the last level may stay in the first (no inclusion), and the order of use in a level
 * counts only the reads that reached it, as in hardware. The index is the line's address modulo the
 * sets: physical, so scattered frames collide as they do on a board whose pages are not coloured.
 *
 * Reads of PTEs begin where the walker is attached: at the L1 data cache, or at L2 (XiangShan).
 *
 * Left out: stores and write-backs, prefetchers, other agents, queues and banks, hashed indexes,
 * random replacement. Under uniform random references the last one changes nothing: whatever leaves
 * is as likely to be asked for next as whatever stays.
 */
#include "cache.h"

#include <stdbool.h>
#include <string.h>

static void create(struct cache *cache, struct arena *arena, uint32_t bytes, uint32_t ways)
{
    *cache = (struct cache){.ways = bytes == 0 ? 0 : ways};
    if (cache->ways == 0)
        return;
    cache->sets = (bytes >> CACHE_LINE_SHIFT) / ways;
    cache->lines = arena_take(arena, (size_t)cache->sets * ways, sizeof cache->lines[0]);
}

void cache_create(struct caches *caches, struct arena *arena, const struct csim_machine *machine)
{
    *caches = (struct caches){
        .cycles = {machine->read_l1d_cycles, machine->read_l2_cycles, machine->read_llc_cycles,
                   machine->read_dram_cycles},
        .pte_first = machine->pte_via == CSIM_PTE_L1D ? CSIM_PLACE_L1D : CSIM_PLACE_L2,
    };
    create(&caches->level[CSIM_PLACE_L1D], arena, machine->cache_l1d_bytes,
           machine->cache_l1d_ways);
    create(&caches->level[CSIM_PLACE_L2], arena, machine->cache_l2_bytes, machine->cache_l2_ways);
    create(&caches->level[CSIM_PLACE_LLC], arena, machine->cache_llc_bytes,
           machine->cache_llc_ways);
}

/* True when the line was there; afterwards it is, as the last used of its set. */
static bool use(struct cache *cache, uint64_t line)
{
    uint64_t *set = &cache->lines[(line & (cache->sets - 1)) * cache->ways], tag = line + 1;
    uint32_t way = 0;
    while (way < cache->ways - 1 && set[way] != tag)
        way++;
    bool hit = set[way] == tag;
    memmove(&set[1], &set[0], way * sizeof set[0]);
    set[0] = tag;
    return hit;
}

static uint32_t find(struct caches *caches, uint64_t pa, uint32_t first)
{
    for (uint32_t place = first; place < CSIM_PLACE_DRAM; place++)
        if (caches->level[place].ways != 0
            && use(&caches->level[place], pa >> CACHE_LINE_SHIFT))
            return place;
    return CSIM_PLACE_DRAM;
}

uint32_t cache_read_pte(struct caches *caches, uint64_t pa)
{
    uint32_t place = find(caches, pa, caches->pte_first);
    caches->pte_reads[place]++;
    return caches->cycles[place];
}

uint32_t cache_read_data(struct caches *caches, uint64_t pa)
{
    uint32_t place = find(caches, pa, CSIM_PLACE_L1D);
    caches->data_reads[place]++;
    return caches->cycles[place];
}
