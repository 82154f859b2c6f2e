/* tables.c: what is mapped at the start: kernel text and linear map with 2 MiB leaves, user pages
 * and the harts' own stacks with 4 KiB leaves.
 *
 * Root entries of the areas that mappings come and go in are filled from the start, as Linux does
 * since 6.5 (7d3332be011e, pgtable_cache_init), so a walk can find an invalid entry at most one
 * level below the root. The harts' own stacks lie in the vmalloc area, 32 GiB past its start: in
 * the middle of Sv39's.
 */
#include "tables.h"

#include <assert.h>

#include "rv.h"

enum { HOME_OFFSET_PAGES = 1 << 23, HOME_PAGES = 4, HOME_STRIDE_PAGES = 8, PAGES_2M = 512 };

#define KERNEL_BITS                                                                                \
    (RV_PTE_V | RV_PTE_R | RV_PTE_W | RV_PTE_X | RV_PTE_G | RV_PTE_A | RV_PTE_D)
#define USER_BITS (RV_PTE_V | RV_PTE_R | RV_PTE_W | RV_PTE_X | RV_PTE_U | RV_PTE_A | RV_PTE_D)

/* Table frames that a dense range of `pages` needs at all levels below the root, wherever it
 * lies. */
static uint64_t dense(uint64_t pages, uint32_t levels)
{
    uint64_t frames = 0;
    for (uint32_t level = 1; level < levels; level++)
        frames += (pages >> (9 * level)) + 2;
    return frames;
}

/* A set of table spans already counted: open addressing over a power of two. */
static bool insert(uint64_t *set, uint64_t mask, uint64_t key)
{
    uint64_t at = (key * UINT64_C(0x9e3779b97f4a7c15)) >> 20;
    for (;; at++) {
        uint64_t *slot = &set[at & mask];
        if (*slot == key)
            return false;
        if (*slot == 0) {
            *slot = key;
            return true;
        }
    }
}

static uint64_t spans_of(const struct csim_item *item, uint32_t levels)
{
    return ((uint64_t)item->pages / PAGES_2M + 2) * levels;
}

static uint64_t count_item(const struct csim_item *item, uint32_t levels, uint64_t *set,
                           uint64_t mask)
{
    uint64_t frames = 0;
    uint64_t last = item->va + ((uint64_t)item->pages << PAGE_SHIFT) - 1;
    for (uint32_t level = 1; level < levels; level++) {
        uint32_t shift = PAGE_SHIFT + 9 * level;
        for (uint64_t span = item->va >> shift; span <= last >> shift; span++)
            frames += insert(set, mask, (uint64_t)level << 56 | (span << 8 >> 8) | 1u << 31);
    }
    return frames;
}

static uint64_t items_frames(const struct csim_params *params, const struct workload *workload,
                             struct arena *scratch)
{
    uint64_t spans = 1;
    for (uint64_t i = 0; i < workload->items_nr; i++)
        if (workload->items[i].kind == CSIM_ITEM_MAP)
            spans += spans_of(&workload->items[i], params->machine.levels);
    uint64_t slots = 16;
    while (slots < 2 * spans)
        slots *= 2;
    uint64_t *set = arena_take(scratch, slots, sizeof set[0]);
    uint64_t frames = 0;
    for (uint64_t i = 0; scratch->block != 0 && i < workload->items_nr; i++)
        if (workload->items[i].kind == CSIM_ITEM_MAP)
            frames += count_item(&workload->items[i], params->machine.levels, set, slots - 1);
    return frames;
}

uint32_t tables_frames_max(const struct csim_params *params, const struct csim_layout *layout,
                           const struct workload *workload, struct arena *scratch)
{
    (void)layout;
    const struct csim_workload *w = &params->workload;
    uint32_t levels = params->machine.levels;
    uint64_t frames = 1;
    frames += dense(w->text_pages, levels) + dense(w->linear_pages, levels);
    frames += dense(w->user_pages, levels);
    frames += dense((uint64_t)params->harts * HOME_STRIDE_PAGES, levels);
    frames += dense((uint64_t)params->harts * NESTED_PAGES * 2, levels);
    frames += items_frames(params, workload, scratch);
    assert(frames < UINT32_MAX);
    return (uint32_t)frames;
}

uint64_t tables_area_pages_max(void) { return HOME_OFFSET_PAGES; }

static uint64_t own_first(const struct csim_layout *layout)
{
    return layout->vmalloc_first + ((uint64_t)HOME_OFFSET_PAGES << PAGE_SHIFT);
}

bool tables_has_own(const struct csim_params *params, uint64_t va, uint32_t pages)
{
    struct csim_layout layout;
    csim_layout(params->machine.levels, &layout);
    uint64_t each = HOME_STRIDE_PAGES + 2 * (uint64_t)NESTED_PAGES;
    uint64_t first = own_first(&layout), end = first + (params->harts * each << PAGE_SHIFT);
    return va < end && va + ((uint64_t)pages << PAGE_SHIFT) > first;
}

static uint32_t whole_2m(uint32_t pages) { return (pages + PAGES_2M - 1) / PAGES_2M * PAGES_2M; }

static void map(struct world *world, uint64_t va, uint32_t pages, uint32_t level, uint64_t bits)
{
    (void)pagetable_map(&world->pt, va, pages, level, world->next_ppn, bits, 0, 0, 0);
    world->next_ppn += whole_2m(pages);
}

void tables_fill(struct world *world, const struct workload *workload)
{
    const struct csim_workload *w = &world->params.workload;
    const struct csim_layout *l = &world->layout;
    uint64_t user = (l->user_first + (PAGES_2M << PAGE_SHIFT) - 1) >> 21 << 21;
    map(world, l->text_first, whole_2m(w->text_pages), 1, KERNEL_BITS);
    map(world, l->linear_first, whole_2m(w->linear_pages), 1, KERNEL_BITS);
    world->layout.user_first = user;
    map(world, user, w->user_pages, 0, USER_BITS);
    uint64_t home = own_first(l);
    uint64_t stride = (uint64_t)HOME_STRIDE_PAGES << PAGE_SHIFT;
    uint64_t nested = home + stride * world->harts_nr;
    for (uint32_t id = 0; id < world->harts_nr; id++) {
        struct hart *hart = &world->harts[id];
        hart->home_stack = (struct range){home + stride * id, HOME_PAGES, 0};
        map(world, hart->home_stack.va, HOME_PAGES, 0, KERNEL_BITS);
        hart->nested_va = nested + ((uint64_t)id * 2 * NESTED_PAGES << PAGE_SHIFT);
    }
    pagetable_preallocate(&world->pt, l->vmalloc_first, 0);
    for (uint64_t i = 0; i < workload->items_nr; i++)
        if (workload->items[i].kind == CSIM_ITEM_MAP)
            pagetable_preallocate(&world->pt, workload->items[i].va, 0);
}
