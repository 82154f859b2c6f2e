/* The work of a run: in order, behind gates that open, with every use before the end of what it
 * uses. Drawn over several shapes; each property is looked for item by item. */
#include "workload.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "table.h"

#define BUDGET UINT64_C(2000000)

struct shape {
    const char *name;
    uint32_t harts;
    uint64_t seed, maps_per_tcycle;
    uint32_t stack_permille, remote_permille, lifetime_cycles, touch_delay_cycles;
    uint32_t stack_cache_slots, lazy_pages_per_log2, traps;
};

static const struct shape shapes[] = {
    {"areas, one hart", 1, 1, 500000000, 0, 0, 20000, 100, 2, 64, 0},
    {"areas, four harts", 4, 2, 500000000, 0, 500, 20000, 100, 2, 64, 1},
    {"stacks, two harts", 2, 3, 500000000, 1000, 1000, 5000, 300, 2, 64, 0},
    {"stacks, no cache", 3, 4, 500000000, 1000, 500, 5000, 300, 0, 64, 0},
    {"both, eight harts", 8, 5, 800000000, 300, 500, 50000, 1, 2, 32, 1},
    {"lives longer than the run", 2, 6, 300000000, 500, 500, 2000000000, 100, 2, 64, 0},
    {"lives of no length", 2, 7, 300000000, 500, 500, 1, 0, 2, 8, 1},
    {"nothing", 3, 8, 0, 0, 0, 1, 0, 2, 64, 0},
    {"traps alone", 3, 9, 0, 0, 0, 1, 0, 2, 64, 1},
};

struct scene { struct csim_params params; struct workload work; struct arena arena; };

static void make(struct scene *scene)
{
    struct csim_layout layout;
    csim_layout(3, &layout);
    memset(&scene->work, 0, sizeof scene->work);
    workload_create(&scene->work, &scene->arena, &scene->params, &layout, 0, 0, 0, 0);
}

static struct scene *open_scene(const struct shape *shape, uint64_t seed)
{
    struct scene *scene = calloc(1, sizeof *scene);
    if (scene == NULL)
        abort();
    scene->params.harts = shape->harts;
    scene->params.machine.levels = 3;
    scene->params.workload = (struct csim_workload){
        .seed = seed, .useful_cycles = BUDGET, .visit_cycles = 100, .synthetic = 1,
        .maps_per_tcycle = shape->maps_per_tcycle, .stack_permille = shape->stack_permille,
        .pages_1_permille = 500, .pages_4_permille = 250, .pages_16_permille = 200,
        .remote_permille = shape->remote_permille, .lifetime_cycles = shape->lifetime_cycles,
        .touch_delay_cycles = shape->touch_delay_cycles,
        .stack_cache_slots = shape->stack_cache_slots,
        .lazy_pages_per_log2 = shape->lazy_pages_per_log2, .irqs_off_permille = 100,
        .ticks_per_tcycle = shape->traps * UINT64_C(20000000),
        .interrupts_per_tcycle = shape->traps * UINT64_C(30000000),
        .user_faults_per_tcycle = shape->traps * UINT64_C(10000000), .kernel_trap_permille = 500,
    };
    make(scene);                                            /* only measures */
    size_t bytes = scene->arena.used_bytes;
    if (!arena_open(&scene->arena, bytes))
        abort();
    make(scene);
    return scene;
}

static void close_scene(struct scene *scene)
{
    arena_close(&scene->arena);
    free(scene);
}

static bool uses(const struct csim_item *item, const struct csim_item *map)
{
    uint64_t end = map->va + ((uint64_t)map->pages << 12);
    bool kind = item->kind == CSIM_ITEM_TOUCH || item->kind == CSIM_ITEM_SWITCH;
    return kind && item->va >= map->va && item->va < end;
}

static void check_order(struct table *table, const char *name, const struct workload *work,
                        uint32_t harts)
{
    uint64_t at = 0;
    for (uint32_t hart = 0; hart < harts; hart++) {
        table_want(table, name, "first of a hart", work->first[hart], at);
        for (uint64_t last_at = 0; at < work->first[hart + 1]; at++) {
            const struct csim_item *item = &work->items[at];
            table_want(table, name, "hart", item->hart, hart);
            table_want(table, name, "not before the one before", item->at_cycles >= last_at, true);
            table_want(table, name, "before the budget's end", item->at_cycles < BUDGET, true);
            last_at = item->at_cycles;
        }
    }
    table_want(table, name, "all items", at, work->items_nr);
}

static void check_gates(struct table *table, const char *name, const struct workload *work)
{
    uint32_t *signals = calloc(work->gates_nr, sizeof *signals);
    if (signals == NULL)
        abort();
    for (uint64_t i = 0; i < work->items_nr; i++)
        signals[work->items[i].signal]++;
    for (uint32_t gate = 1; gate < work->gates_nr; gate++)
        table_want(table, name, "signals a gate needs", work->gates[gate], signals[gate]);
    for (uint64_t i = 0; i < work->items_nr; i++)
        if (work->items[i].wait != 0)
            table_want(table, name, "a gate waited for is signalled",
                       signals[work->items[i].wait] > 0, true);
    free(signals);
}

/* Every use of a mapping waits for its MAP, and its UNMAP for a later FORGET of every hart that
 * used it. Addresses come again after a purge: the life of one MAP ends at the next of its
 * range. */
static void check_life(struct table *table, const char *name, const struct workload *work,
                       const struct csim_item *map)
{
    const struct csim_item *items = work->items, *unmap = NULL;
    for (uint64_t i = 0; i < work->items_nr; i++)
        if (items[i].kind == CSIM_ITEM_UNMAP && items[i].va == map->va &&
            items[i].at_cycles >= map->at_cycles &&
            (unmap == NULL || items[i].at_cycles < unmap->at_cycles))
            unmap = &items[i];
    for (uint64_t i = 0; i < work->items_nr; i++) {
        const struct csim_item *use = &items[i];
        if (!uses(use, map) || use->at_cycles < map->at_cycles ||
            (unmap != NULL && use->at_cycles > unmap->at_cycles))
            continue;
        table_want(table, name, "a use waits for its map", use->wait, map->signal);
        bool forgotten = false;
        for (uint64_t k = 0; unmap != NULL && k < work->items_nr; k++)
            forgotten |= items[k].kind == CSIM_ITEM_FORGET && items[k].hart == use->hart &&
                         items[k].va == map->va && items[k].signal == unmap->wait && k > i;
        table_want(table, name, "a user forgets before the unmap", forgotten || unmap == NULL,
                   true);
    }
    if (unmap != NULL)
        table_want(table, name, "unmapped whole", unmap->pages, map->pages);
}

static const struct csim_item *signals_of(const struct workload *work, uint32_t gate)
{
    for (uint64_t i = 0; i < work->items_nr; i++)
        if (work->items[i].signal == gate)
            return &work->items[i];
    return NULL;
}

/* A MAP over addresses used before waits for a purge, which waits for their UNMAP. */
static void check_reuse(struct table *table, const char *name, const struct workload *work,
                        const struct csim_item *map)
{
    for (uint64_t i = 0; i < work->items_nr; i++) {
        const struct csim_item *unmap = &work->items[i];
        if (unmap->kind != CSIM_ITEM_UNMAP || unmap->at_cycles > map->at_cycles ||
            unmap->va != map->va)
            continue;
        const struct csim_item *purge = map->wait == 0 ? NULL : signals_of(work, map->wait);
        table_want(table, name, "reuse waits for a purge",
                   purge != NULL && purge->kind == CSIM_ITEM_PURGE, true);
        if (purge != NULL && purge->wait != unmap->signal)
            table_want(table, name, "or for a later one", purge->at_cycles > unmap->at_cycles,
                       true);
    }
}

static uint32_t fls(uint32_t n)
{
    uint32_t bits = 0;
    for (; n != 0; n >>= 1)
        bits++;
    return bits;
}

/* The pages of the UNMAPs that signal a purge's gate, guards included: past the limit with the
 * last of them, not before. */
static uint64_t check_purges(struct table *table, const char *name, const struct scene *scene)
{
    const struct workload *work = &scene->work;
    uint64_t most = fls(scene->params.harts) * scene->params.workload.lazy_pages_per_log2;
    uint64_t purges = 0;
    for (uint64_t i = 0; i < work->items_nr; i++) {
        const struct csim_item *purge = &work->items[i];
        uint64_t pages = 0, last_at = 0, last_pages = 0;
        if (purge->kind != CSIM_ITEM_PURGE)
            continue;
        for (uint64_t k = 0; k < work->items_nr; k++) {
            const struct csim_item *unmap = &work->items[k];
            if (unmap->signal != purge->wait)
                continue;
            table_want(table, name, "a purge waits for unmaps", unmap->kind, CSIM_ITEM_UNMAP);
            pages += unmap->pages + 1;
            if (unmap->at_cycles > last_at) {
                last_at = unmap->at_cycles;
                last_pages = unmap->pages + 1;
            }
        }
        purges++;
        table_want(table, name, "past the limit", pages > most, true);
        table_want(table, name, "only with the last", pages - last_pages <= most, true);
        table_want(table, name, "at its time", purge->at_cycles, last_at);
    }
    return purges;
}

/* Harts that go on whenever their next gate is open get to their ends: nobody waits in a circle. */
static void check_progress(struct table *table, const char *name, const struct workload *work,
                           uint32_t harts)
{
    uint64_t *next = calloc(harts, sizeof *next), done = 0, before;
    uint32_t *got = calloc(work->gates_nr, sizeof *got);
    if (next == NULL || got == NULL)
        abort();
    memcpy(next, work->first, harts * sizeof *next);
    do {
        before = done;
        for (uint32_t hart = 0; hart < harts; hart++) {
            for (; next[hart] < work->first[hart + 1]; next[hart]++, done++) {
                const struct csim_item *item = &work->items[next[hart]];
                if (item->wait != 0 && got[item->wait] < work->gates[item->wait])
                    break;
                got[item->signal]++;
            }
        }
    } while (done != before);
    table_want(table, name, "items done", done, work->items_nr);
    free(next);
    free(got);
}

static void check_shape(struct table *table, const struct shape *shape)
{
    struct scene *scene = open_scene(shape, shape->seed);
    struct scene *again = open_scene(shape, shape->seed);
    struct scene *other = open_scene(shape, shape->seed + 1000);
    const struct workload *work = &scene->work;
    uint64_t maps = 0;
    table->rows++;
    check_order(table, shape->name, work, shape->harts);
    check_gates(table, shape->name, work);
    check_progress(table, shape->name, work, shape->harts);
    for (uint64_t i = 0; i < work->items_nr; i++) {
        if (work->items[i].kind != CSIM_ITEM_MAP)
            continue;
        maps++;
        check_life(table, shape->name, work, &work->items[i]);
        check_reuse(table, shape->name, work, &work->items[i]);
    }
    uint64_t purges = check_purges(table, shape->name, scene);
    bool busy = shape->maps_per_tcycle != 0;
    bool freed = busy && shape->lifetime_cycles < BUDGET;
    table_want(table, shape->name, "maps", maps > 100, busy);
    table_want(table, shape->name, "purges", purges > 0, freed);
    table_want(table, shape->name, "stacks from the cache", work->stack_cache_hits > 0,
               freed && shape->stack_permille > 0 && shape->stack_cache_slots > 0);
    table_want(table, shape->name, "the same again", work->digest, again->work.digest);
    table_want(table, shape->name, "another seed, other work",
               work->digest != other->work.digest, work->items_nr > 0);
    close_scene(scene);
    close_scene(again);
    close_scene(other);
}

int main(void)
{
    struct table table = {0};
    for (size_t i = 0; i < ROWS(shapes); i++)
        check_shape(&table, &shapes[i]);
    return table_end(&table);
}
