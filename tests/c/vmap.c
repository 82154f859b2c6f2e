/* Addresses of the vmalloc area: guard pages, alignment, what is reused and when. */
#include <stdlib.h>

#include "rng.h"
#include "table.h"
#include "vmap.h"

enum { AREAS = 4000, HARTS = 3, SLOTS = 2, LAZY_MAX = 30 };

static void open_vmap(struct vmap *vmap, struct arena *arena)
{
    *arena = (struct arena){0};
    vmap_create(vmap, arena, AREAS, HARTS, SLOTS, LAZY_MAX);             /* only measures */
    if (!arena_open(arena, arena->used_bytes))
        abort();
    vmap_create(vmap, arena, AREAS, HARTS, SLOTS, LAZY_MAX);
}

/* MAKE: want is the first page; FREE: whether a purge is due; n names the n-th area made. */
enum kind { NOTHING, MAKE, FREE, PURGE, GATE, LAZY };

static const struct {
    const char *name;
    struct { enum kind kind; uint32_t n, align_pages; uint64_t want; } steps[12];
} rows[] = {
    {"one after the other, a guard page between",
     {{MAKE, 1, 1, 0}, {MAKE, 4, 1, 2}, {MAKE, 64, 1, 7}, {MAKE, 1, 1, 72}}},
    {"a stack is aligned to twice its size",
     {{MAKE, 1, 1, 0}, {MAKE, 4, 8, 8}, {MAKE, 4, 8, 16}, {MAKE, 1, 1, 21}}},
    {"freed lazily: not reused", {{MAKE, 4, 1, 0}, {FREE, 0, 0, 0}, {MAKE, 4, 1, 5}}},
    {"purged: reused, behind the purge's gate",
     {{MAKE, 4, 1, 0}, {FREE, 0, 0, 0}, {PURGE, 9, 0, 0}, {MAKE, 4, 1, 0}, {GATE, 1, 0, 9}}},
    {"a fresh area waits for nobody", {{MAKE, 4, 1, 0}, {GATE, 0, 0, 0}}},
    {"reused by areas of its size only",
     {{MAKE, 4, 1, 0}, {FREE, 0, 0, 0}, {PURGE, 9, 0, 0}, {MAKE, 3, 1, 5}, {MAKE, 4, 1, 0}}},
    {"reused once", {{MAKE, 4, 1, 0}, {FREE, 0, 0, 0}, {PURGE, 9, 0, 0}, {MAKE, 4, 1, 0},
                     {MAKE, 4, 1, 5}}},
    {"freed after the purge: not reused",
     {{MAKE, 4, 1, 0}, {PURGE, 9, 0, 0}, {FREE, 0, 0, 0}, {MAKE, 4, 1, 5}}},
    {"reused where it is aligned only",
     {{MAKE, 1, 1, 0}, {MAKE, 4, 1, 2}, {FREE, 1, 0, 0}, {PURGE, 9, 0, 0}, {MAKE, 4, 8, 8},
      {MAKE, 4, 1, 2}}},
    {"the gate of the last purge", {{MAKE, 4, 1, 0}, {FREE, 0, 0, 0}, {PURGE, 8, 0, 0},
                                    {MAKE, 4, 1, 0}, {FREE, 1, 0, 0}, {PURGE, 9, 0, 0},
                                    {MAKE, 4, 1, 0}, {GATE, 2, 0, 9}}},
    {"254 pages and a guard page have a pool",
     {{MAKE, 254, 1, 0}, {FREE, 0, 0, 1}, {PURGE, 9, 0, 0}, {MAKE, 254, 1, 0}}},
    {"255 pages do not", {{MAKE, 255, 1, 0}, {FREE, 0, 0, 1}, {PURGE, 9, 0, 0},
                          {MAKE, 255, 1, 256}}},
    {"a purge is due past the limit, guard pages counted",
     {{MAKE, 9, 1, 0}, {MAKE, 9, 1, 10}, {MAKE, 9, 1, 20}, {MAKE, 9, 1, 30}, {FREE, 0, 0, 0},
      {FREE, 1, 0, 0}, {FREE, 2, 0, 0}, {LAZY, 0, 0, 30}, {FREE, 3, 0, 1}, {LAZY, 0, 0, 40},
      {PURGE, 9, 0, 0}, {LAZY, 0, 0, 0}}},
};

static void check_rows(struct table *table)
{
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct arena arena;
        struct vmap vmap;
        uint32_t made[12], made_nr = 0;
        const char *name = rows[i].name;
        open_vmap(&vmap, &arena);
        table->rows++;
        for (size_t k = 0; k < 12 && rows[i].steps[k].kind != NOTHING; k++) {
            uint32_t n = rows[i].steps[k].n, align_pages = rows[i].steps[k].align_pages;
            uint64_t want = rows[i].steps[k].want;
            const struct vmap_area *area;
            switch (rows[i].steps[k].kind) {
            case MAKE:
                made[made_nr] = vmap_alloc(&vmap, n, align_pages);
                area = &vmap.areas[made[made_nr++]];
                table_want(table, name, "page", area->page, want);
                table_want(table, name, "pages with guard", area->pages, n + 1);
                break;
            case FREE:
                table_want(table, name, "purge due", vmap_free(&vmap, made[n]), want);
                break;
            case PURGE:
                vmap_purge(&vmap, n);
                break;
            case GATE:
                table_want(table, name, "gate", vmap.areas[made[n]].reuse_gate, want);
                break;
            case LAZY:
                table_want(table, name, "lazy pages", vmap.lazy_pages, want);
                break;
            case NOTHING:
                break;
            }
        }
        arena_close(&arena);
    }
}

/* Each hart keeps two stacks, the last one in is the first one out. */
static void check_cache(struct table *table)
{
    struct arena arena;
    struct vmap vmap;
    const char *name = "the stack cache";
    open_vmap(&vmap, &arena);
    table->rows++;
    table_want(table, name, "empty", vmap_cached_stack(&vmap, 1), VMAP_NONE);
    table_want(table, name, "first", vmap_cache_stack(&vmap, 1, 10), true);
    table_want(table, name, "second", vmap_cache_stack(&vmap, 1, 11), true);
    table_want(table, name, "full", vmap_cache_stack(&vmap, 1, 12), false);
    table_want(table, name, "another hart's", vmap_cache_stack(&vmap, 2, 12), true);
    table_want(table, name, "before it", vmap_cached_stack(&vmap, 0), VMAP_NONE);
    table_want(table, name, "last in", vmap_cached_stack(&vmap, 1), 11);
    table_want(table, name, "then", vmap_cached_stack(&vmap, 1), 10);
    table_want(table, name, "empty again", vmap_cached_stack(&vmap, 1), VMAP_NONE);
    table_want(table, name, "the other's is still there", vmap_cached_stack(&vmap, 2), 12);
    arena_close(&arena);
}

/* Chance: areas in use or not yet purged never overlap, guard pages included; a reused one carries
 * the gate of a purge that came after its last free. */
static void check_chance(struct table *table)
{
    enum { LIVE = 2, LAZILY_FREED = 1 };
    struct arena arena;
    struct vmap vmap;
    uint8_t *owner = calloc(1 << 18, 1);
    uint32_t *freed_after = calloc(AREAS, sizeof *freed_after);
    uint32_t live[64], live_nr = 0, purges = 0;
    if (owner == NULL || freed_after == NULL)
        abort();
    open_vmap(&vmap, &arena);
    table->rows++;
    for (uint64_t step = 0; step < 12000; step++) {
        uint64_t draw = rng_draw(3, RNG_KIND, 0, step);
        if (live_nr < 64 && draw % 2 == 0 && vmap.areas_nr < AREAS - 1) {
            uint32_t pages = 1 + (uint32_t)(draw >> 8) % 5, area;
            uint32_t align_pages = pages == 4 ? 8 : 1;
            area = vmap_alloc(&vmap, pages, align_pages);
            const struct vmap_area *a = &vmap.areas[area];
            table_want(table, "chance", "aligned", a->page % align_pages, 0);
            table_want(table, "chance", "reused behind its purge",
                       a->reuse_gate >= freed_after[area], true);
            for (uint32_t page = 0; page < a->pages; page++) {
                table_want(table, "chance", "free", owner[a->page + page], 0);
                owner[a->page + page] = LIVE;
            }
            live[live_nr++] = area;
        } else if (live_nr > 0) {
            uint32_t at = (uint32_t)(draw >> 8) % live_nr, area = live[at];
            live[at] = live[--live_nr];
            freed_after[area] = purges + 1;
            for (uint32_t page = 0; page < vmap.areas[area].pages; page++)
                owner[vmap.areas[area].page + page] = LAZILY_FREED;
            if (!vmap_free(&vmap, area))
                continue;
            vmap_purge(&vmap, ++purges);
            for (uint32_t page = 0; page < 1 << 18; page++)
                owner[page] = owner[page] == LIVE ? LIVE : 0;
        }
    }
    table_want(table, "chance", "purges happened", purges > 10, true);
    free(owner);
    free(freed_after);
    arena_close(&arena);
}

int main(void)
{
    struct table table = {0};
    check_rows(&table);
    check_cache(&table);
    check_chance(&table);
    return table_end(&table);
}
