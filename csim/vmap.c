/* vmap.c: lowest fit from a growing end, and pools of purged areas by size.
 *
 * Source: linux 6.12, mm/vmalloc.c: alloc_vmap_area (a guard page behind each area), lazily freed
 * areas gathered until lazy_max_pages, one flush for all of them in __purge_vmap_area_lazy, then
 * pools of areas below 256 pages per size (6.9 and later) that reuse without another flush;
 * kernel/fork.c: NR_CACHED_STACKS per hart.
 * Left out: the merging of larger purged areas (their addresses are not used again), and nodes: the
 * pools are one for all harts.
 */
#include "vmap.h"

#include <assert.h>

void vmap_create(struct vmap *vmap, struct arena *arena, uint32_t areas, uint32_t harts,
                 uint32_t stack_slots, uint64_t lazy_pages_max)
{
    vmap->areas = arena_take(arena, areas, sizeof vmap->areas[0]);
    vmap->areas_nr = 0;
    vmap->room = areas;
    vmap->end_page = 0;
    for (uint32_t pages = 0; pages < VMAP_POOL_PAGES; pages++)
        vmap->pool[pages] = VMAP_NONE;
    vmap->lazy = VMAP_NONE;
    vmap->lazy_pages = 0;
    vmap->lazy_pages_max = lazy_pages_max;
    vmap->cached = arena_take(arena, (size_t)harts * stack_slots, sizeof vmap->cached[0]);
    vmap->cached_nr = arena_take(arena, harts, sizeof vmap->cached_nr[0]);
    vmap->slots = stack_slots;
}

uint32_t vmap_alloc(struct vmap *vmap, uint32_t pages, uint32_t align_pages)
{
    uint32_t whole = pages + 1;
    if (whole < VMAP_POOL_PAGES && vmap->pool[whole] != VMAP_NONE) {
        uint32_t area = vmap->pool[whole];
        if (vmap->areas[area].page % align_pages == 0) {
            vmap->pool[whole] = vmap->areas[area].next;
            return area;
        }
    }
    assert(vmap->areas_nr < vmap->room);
    uint32_t area = vmap->areas_nr++;
    uint64_t page = (vmap->end_page + align_pages - 1) / align_pages * align_pages;
    vmap->areas[area] = (struct vmap_area){.page = page, .pages = whole, .next = VMAP_NONE};
    vmap->end_page = page + whole;
    return area;
}

bool vmap_free(struct vmap *vmap, uint32_t area)
{
    vmap->areas[area].next = vmap->lazy;
    vmap->lazy = area;
    vmap->lazy_pages += vmap->areas[area].pages;
    return vmap->lazy_pages > vmap->lazy_pages_max;
}

void vmap_purge(struct vmap *vmap, uint32_t reuse_gate)
{
    while (vmap->lazy != VMAP_NONE) {
        uint32_t area = vmap->lazy;
        struct vmap_area *a = &vmap->areas[area];
        vmap->lazy = a->next;
        a->next = VMAP_NONE;
        a->reuse_gate = reuse_gate;
        if (a->pages >= VMAP_POOL_PAGES)
            continue;
        a->next = vmap->pool[a->pages];
        vmap->pool[a->pages] = area;
    }
    vmap->lazy_pages = 0;
}

uint32_t vmap_cached_stack(struct vmap *vmap, uint32_t hart)
{
    if (vmap->cached_nr[hart] == 0)
        return VMAP_NONE;
    return vmap->cached[(size_t)hart * vmap->slots + --vmap->cached_nr[hart]];
}

bool vmap_cache_stack(struct vmap *vmap, uint32_t hart, uint32_t area)
{
    if (vmap->cached_nr[hart] == vmap->slots)
        return false;
    vmap->cached[(size_t)hart * vmap->slots + vmap->cached_nr[hart]++] = area;
    return true;
}
