/* workload.c: what the harts do, made on one nominal axis of useful cycles that all harts share.
 *
 * Maps arrive for the whole system as a Poisson process; each is a fork's stack or a plain area, is
 * used by the mapper, perhaps by another hart, and freed after an exponential lifetime. Addresses,
 * stack-cache hits and purges follow from the order on the nominal axis alone (vmap.c), so they are
 * the same for every policy and machine. Ticks are periodic with a drawn phase; device interrupts
 * and user faults are Poisson processes per hart.
 *
 * A fork: the parent writes to both ends of the child's stack (copy_thread's registers on top,
 * the magic word at its end), the child is switched to on its hart, then uses a second page.
 * Source: linux 6.12, kernel/fork.c (dup_task_struct, set_task_stack_end_magic),
 * arch/riscv/kernel/process.c (copy_thread).
 */
#include "workload.h"

#include <assert.h>

#include "draw.h"
#include "event.h"
#include "rng.h"
#include "rv.h"

enum {
    STACK_PAGES = 4,            /* THREAD_SIZE 16 KiB; linux 6.12, THREAD_SIZE_ORDER 2 */
    STACK_ALIGN_PAGES = 8,      /* THREAD_ALIGN: twice its size, for the overflow test */
    ITEMS_PER_MAP = 10,
    TIMER_INTERRUPT = 5,        /* scause codes of the privileged manual */
    EXTERNAL_INTERRUPT = 9
};

enum { LIFE_ENDS = 1 };             /* the one kind of nominal event */

/* One drawn map, from its arrival to its end. */
struct life {
    uint32_t area;
    uint32_t mapper, user;      /* harts; the same when nobody else uses it */
    bool stack;
};

struct maker {
    struct workload *workload;
    const struct csim_params *params;
    const struct csim_layout *layout;
    struct vmap vmap;
    struct event_queue ends;    /* of lives */
    struct life *lives;
    uint32_t *published;        /* [area]: gate of its MAP */
    uint32_t *unused;           /* [area]: gate that its UNMAP waits for */
    uint32_t purge_gate;        /* that the next purge waits for */
};

/* ---- counting
 * --------------------------------------------------------------------------------- */

static uint64_t arrival_gap(const struct csim_params *params, uint64_t number)
{
    const struct csim_workload *w = &params->workload;
    return draw_interval(rng_draw(w->seed, RNG_ARRIVAL, 0, number), w->maps_per_tcycle);
}

static uint64_t arrivals(const struct csim_params *params)
{
    const struct csim_workload *w = &params->workload;
    uint64_t number = 0;
    if (w->synthetic == 0 || w->maps_per_tcycle == 0)
        return 0;
    for (uint64_t at = arrival_gap(params, 0); at < w->useful_cycles;
         at += arrival_gap(params, number))
        number++;
    return number;
}

static uint64_t poisson_nr(const struct csim_params *params, enum rng_purpose purpose,
                           uint32_t hart, uint64_t per_tcycle)
{
    const struct csim_workload *w = &params->workload;
    uint64_t number = 0;
    if (per_tcycle == 0)
        return 0;
    uint64_t at = draw_interval(rng_draw(w->seed, purpose, hart, 0), per_tcycle);
    while (at < w->useful_cycles) {
        number++;
        at += draw_interval(rng_draw(w->seed, purpose, hart, 2 * number), per_tcycle);
    }
    return number;
}

static uint64_t tick_period(const struct csim_workload *w)
{
    return w->ticks_per_tcycle == 0 ? 0 : UINT64_C(1000000000000) / w->ticks_per_tcycle;
}

uint64_t workload_items_max(const struct csim_params *params, uint64_t items_nr)
{
    const struct csim_workload *w = &params->workload;
    uint64_t period = tick_period(w);
    uint64_t number = items_nr + arrivals(params) * ITEMS_PER_MAP;
    for (uint32_t hart = 0; hart < params->harts; hart++) {
        number += poisson_nr(params, RNG_TRAP, hart, w->interrupts_per_tcycle);
        number += poisson_nr(params, RNG_USER_FAULT, hart, w->user_faults_per_tcycle);
        number += period == 0 ? 0 : w->useful_cycles / period + 1;
    }
    return number;
}

uint32_t workload_gates_max(const struct csim_params *params, uint32_t gates_nr)
{
    return gates_nr + (uint32_t)arrivals(params) * 4 + 2;
}

/* ---- emitting
 * --------------------------------------------------------------------------------- */

static struct csim_item *emit(struct maker *maker, enum csim_item_kind kind, uint32_t hart,
                              uint64_t at_cycles)
{
    struct workload *workload = maker->workload;
    assert(workload->items_nr < workload->room);
    struct csim_item *item = &workload->items[workload->items_nr++];
    *item = (struct csim_item){.at_cycles = at_cycles, .order = at_cycles,
                               .hart = (uint16_t)hart, .kind = (uint8_t)kind};
    return item;
}

static uint32_t new_gate(struct maker *maker)
{
    struct workload *workload = maker->workload;
    assert(workload->gates_nr < workload->gates_room);
    workload->gates[workload->gates_nr] = 0;
    return workload->gates_nr++;
}

static void over(struct maker *maker, struct csim_item *item, uint32_t area)
{
    const struct vmap_area *a = &maker->vmap.areas[area];
    item->va = maker->layout->vmalloc_first + (a->page << 12);
    item->pages = a->pages - 1;
}

static void emit_map(struct maker *maker, const struct life *life, uint64_t at, uint64_t draw)
{
    struct csim_item *item = emit(maker, CSIM_ITEM_MAP, life->mapper, at);
    over(maker, item, life->area);
    item->wait = maker->vmap.areas[life->area].reuse_gate;
    item->signal = new_gate(maker);
    maker->workload->gates[item->signal] = 1;
    maker->published[life->area] = item->signal;
    maker->unused[life->area] = new_gate(maker);
    if (life->stack)
        item->flags |= CSIM_ITEM_STACK;
    if (rng_below(draw << 20, 1000) < maker->params->workload.irqs_off_permille)
        item->flags |= CSIM_ITEM_IRQS_OFF;
}

static struct csim_item *emit_use(struct maker *maker, const struct life *life,
                                  enum csim_item_kind kind, uint32_t hart, uint64_t at)
{
    struct csim_item *item = emit(maker, kind, hart, at);
    over(maker, item, life->area);
    item->wait = maker->published[life->area];
    return item;
}

/* The hart's last use of the area: the UNMAP will wait for it. */
static void emit_forget(struct maker *maker, const struct life *life, uint32_t hart, uint64_t at)
{
    struct csim_item *item = emit(maker, CSIM_ITEM_FORGET, hart, at);
    over(maker, item, life->area);
    item->signal = maker->unused[life->area];
    maker->workload->gates[item->signal]++;
}

static void emit_page(struct maker *maker, const struct life *life, uint32_t hart, uint64_t at,
                      uint32_t page, uint8_t flags)
{
    struct csim_item *item = emit_use(maker, life, CSIM_ITEM_TOUCH, hart, at);
    item->va += (uint64_t)page << 12;
    item->pages = 1;
    item->flags = flags;
}

/* ---- lives
 * ------------------------------------------------------------------------------------ */

static uint32_t partner(const struct maker *maker, uint32_t hart, uint64_t number)
{
    const struct csim_workload *w = &maker->params->workload;
    uint64_t draw = rng_draw(w->seed, RNG_PARTNER, 0, number);
    uint32_t harts = maker->params->harts;
    if (harts == 1 || draw % 1000 >= w->remote_permille)
        return hart;
    return (hart + 1 + (uint32_t)rng_below(draw, harts - 1)) % harts;
}

/* The child's stack: both ends written by the parent, then run on by the child. */
static uint64_t live_as_stack(struct maker *maker, struct life *life, uint64_t at)
{
    uint64_t delay = maker->params->workload.touch_delay_cycles;
    emit_page(maker, life, life->mapper, at + delay, STACK_PAGES - 1, 0);
    emit_page(maker, life, life->mapper, at + delay, 0, 0);
    if (life->mapper != life->user)
        emit_forget(maker, life, life->mapper, at + delay);
    struct csim_item *item = emit_use(maker, life, CSIM_ITEM_SWITCH, life->user, at + 2 * delay);
    item->flags = CSIM_ITEM_FIRST;
    item->arg = 1;
    emit_page(maker, life, life->user, at + 3 * delay, STACK_PAGES - 2, CSIM_ITEM_STACK);
    return at + 3 * delay;
}

static uint64_t live_as_area(struct maker *maker, struct life *life, uint64_t at)
{
    uint64_t delay = maker->params->workload.touch_delay_cycles;
    emit_use(maker, life, CSIM_ITEM_TOUCH, life->mapper, at + delay);
    if (life->mapper != life->user)
        emit_use(maker, life, CSIM_ITEM_TOUCH, life->user, at + 2 * delay)->flags =
            CSIM_ITEM_LOAD;
    return at + 2 * delay;
}

static uint32_t pages_of(const struct csim_workload *w, uint64_t draw)
{
    uint64_t part = rng_below(draw << 10, 1000);
    if (part < w->pages_1_permille)
        return 1;
    part -= w->pages_1_permille;
    if (part < w->pages_4_permille)
        return 4;
    return part - w->pages_4_permille < w->pages_16_permille ? 16 : 64;
}

static void arrive(struct maker *maker, uint64_t number, uint64_t at)
{
    const struct csim_workload *w = &maker->params->workload;
    uint64_t draw = rng_draw(w->seed, RNG_KIND, 0, number);
    struct life *life = &maker->lives[number];
    life->mapper = (uint32_t)(rng_draw(w->seed, RNG_KIND, 1, number) % maker->params->harts);
    life->user = partner(maker, life->mapper, number);
    life->stack = rng_below(draw, 1000) < w->stack_permille;
    life->area = life->stack ? vmap_cached_stack(&maker->vmap, life->mapper) : VMAP_NONE;
    if (life->area != VMAP_NONE) {
        maker->workload->stack_cache_hits++;
    } else {
        uint32_t pages = life->stack ? (uint32_t)STACK_PAGES : pages_of(w, draw);
        life->area = vmap_alloc(&maker->vmap, pages, life->stack ? STACK_ALIGN_PAGES : 1);
        emit_map(maker, life, at, draw);
    }
    uint64_t used = life->stack ? live_as_stack(maker, life, at) : live_as_area(maker, life, at);
    uint64_t ends = used + draw_exponential(rng_draw(w->seed, RNG_LIFETIME, 0, number),
                                            w->lifetime_cycles);
    event_push(&maker->ends, ends, life->user, LIFE_ENDS, number);
}

static void purge(struct maker *maker, uint64_t at, uint64_t number)
{
    const struct csim_workload *w = &maker->params->workload;
    uint64_t draw = rng_draw(w->seed, RNG_PARTNER, 1, number);
    uint32_t worker = (uint32_t)rng_below(draw, maker->params->harts);
    struct csim_item *item = emit(maker, CSIM_ITEM_PURGE, worker, at);
    item->va = maker->layout->vmalloc_first;
    item->pages = (uint32_t)maker->vmap.end_page;
    item->wait = maker->purge_gate;
    item->signal = new_gate(maker);
    maker->workload->gates[item->signal] = 1;
    vmap_purge(&maker->vmap, item->signal);
    maker->purge_gate = new_gate(maker);
}

static void end(struct maker *maker, uint64_t number, uint64_t at)
{
    struct life *life = &maker->lives[number];
    uint32_t on = life->stack ? life->user : life->mapper;
    if (life->stack)
        emit(maker, CSIM_ITEM_SWITCH, life->user, at);
    emit_forget(maker, life, life->user, at);
    if (!life->stack && life->mapper != life->user)
        emit_forget(maker, life, life->mapper, at);
    if (life->stack && vmap_cache_stack(&maker->vmap, life->user, life->area))
        return;
    struct csim_item *item = emit(maker, CSIM_ITEM_UNMAP, on, at);
    over(maker, item, life->area);
    item->wait = maker->unused[life->area];
    item->signal = maker->purge_gate;
    maker->workload->gates[maker->purge_gate]++;
    if (vmap_free(&maker->vmap, life->area))
        purge(maker, at, number);
}

static void live(struct maker *maker, uint64_t lives)
{
    uint64_t budget = maker->params->workload.useful_cycles;
    uint64_t number = 0;
    uint64_t at = lives == 0 ? UINT64_MAX : arrival_gap(maker->params, 0);
    for (;;) {
        const struct event *first = event_first(&maker->ends);
        uint64_t ends = first != 0 ? first->at_cycles : UINT64_MAX;
        if (at >= budget && ends >= budget)
            return;
        if (ends <= at) {
            struct event event;
            event_pop(&maker->ends, &event);
            end(maker, event.arg, event.at_cycles);
            continue;
        }
        arrive(maker, number, at);
        number++;
        at = number < lives ? at + arrival_gap(maker->params, number) : UINT64_MAX;
    }
}

/* ---- what every workload has
 * ------------------------------------------------------------------ */

static void trap(struct maker *maker, uint32_t hart, uint64_t at, uint32_t code, uint64_t draw)
{
    struct csim_item *item = emit(maker, CSIM_ITEM_TRAP, hart, at);
    item->arg = RV_SCAUSE_INTERRUPT | code;
    item->order = UINT64_MAX;
    if (rng_below(draw, 1000) >= maker->params->workload.kernel_trap_permille)
        item->flags = CSIM_ITEM_FROM_USER;
}

static void ticks(struct maker *maker, uint32_t hart)
{
    const struct csim_workload *w = &maker->params->workload;
    uint64_t period = tick_period(w);
    if (period == 0)
        return;
    uint64_t at = rng_draw(w->seed, RNG_TOUCH, hart, 0) % period;
    for (uint64_t number = 1; at < w->useful_cycles; number++, at += period)
        trap(maker, hart, at, TIMER_INTERRUPT, rng_draw(w->seed, RNG_TOUCH, hart, number));
}

static void interrupts(struct maker *maker, uint32_t hart)
{
    const struct csim_workload *w = &maker->params->workload;
    uint64_t rate = w->interrupts_per_tcycle;
    if (rate == 0)
        return;
    uint64_t at = draw_interval(rng_draw(w->seed, RNG_TRAP, hart, 0), rate);
    for (uint64_t number = 1; at < w->useful_cycles; number++) {
        uint64_t kind = rng_draw(w->seed, RNG_TRAP, hart, 2 * number + 1);
        trap(maker, hart, at, EXTERNAL_INTERRUPT, kind);
        at += draw_interval(rng_draw(w->seed, RNG_TRAP, hart, 2 * number), rate);
    }
}

static void user_faults(struct maker *maker, uint32_t hart)
{
    const struct csim_workload *w = &maker->params->workload;
    uint64_t rate = w->user_faults_per_tcycle;
    if (rate == 0)
        return;
    uint64_t at = draw_interval(rng_draw(w->seed, RNG_USER_FAULT, hart, 0), rate);
    for (uint64_t number = 1; at < w->useful_cycles; number++) {
        struct csim_item *item = emit(maker, CSIM_ITEM_USER_FAULT, hart, at);
        item->arg = 1;
        item->order = UINT64_MAX;
        at += draw_interval(rng_draw(w->seed, RNG_USER_FAULT, hart, 2 * number), rate);
    }
}

/* ---- order
 * ------------------------------------------------------------------------------------ */

/* `a` comes before `b`: by hart, place on its axis, nominal order; equal keys keep their order. */
static bool before(const struct csim_item *a, const struct csim_item *b)
{
    if (a->hart != b->hart)
        return a->hart < b->hart;
    if (a->at_cycles != b->at_cycles)
        return a->at_cycles < b->at_cycles;
    return a->order < b->order;
}

/* Merge sort, bottom up: stable, so items emitted first come first among equals. */
static void sort(struct csim_item *items, struct csim_item *spare, uint64_t nr)
{
    struct csim_item *from = items, *to = spare;
    for (uint64_t width = 1; width < nr; width *= 2) {
        for (uint64_t low = 0; low < nr; low += 2 * width) {
            uint64_t middle = low + width < nr ? low + width : nr;
            uint64_t high = low + 2 * width < nr ? low + 2 * width : nr;
            uint64_t a = low, b = middle;
            for (uint64_t k = low; k < high; k++) {
                bool take_b = a == middle || (b < high && before(&from[b], &from[a]));
                to[k] = take_b ? from[b++] : from[a++];
            }
        }
        struct csim_item *swap = from;
        from = to;
        to = swap;
    }
    for (uint64_t i = 0; from != items && i < nr; i++)
        items[i] = from[i];
}

/* A hart's budget is the run's, or ends at its FINISH. */
static void set_budgets(struct workload *workload, const struct csim_params *params)
{
    for (uint32_t hart = 0; hart < params->harts; hart++)
        workload->budget_cycles[hart] = params->workload.useful_cycles;
    for (uint64_t i = 0; i < workload->items_nr; i++) {
        const struct csim_item *item = &workload->items[i];
        if (item->kind == CSIM_ITEM_FINISH && item->at_cycles < workload->budget_cycles[item->hart])
            workload->budget_cycles[item->hart] = item->at_cycles;
    }
}

/* What lies past a hart's budget is not done; a FINISH has done its part. */
static void drop_after_budget(struct workload *workload)
{
    uint64_t kept = 0;
    for (uint64_t i = 0; i < workload->items_nr; i++) {
        const struct csim_item *item = &workload->items[i];
        if (item->at_cycles < workload->budget_cycles[item->hart])
            workload->items[kept++] = *item;
        else if (item->signal != 0)
            workload->gates[item->signal]--;
    }
    workload->items_nr = kept;
}

static void index_harts(struct workload *workload, uint32_t harts)
{
    uint64_t at = 0;
    uint64_t digest = 0;
    for (uint32_t hart = 0; hart <= harts; hart++) {
        while (at < workload->items_nr && workload->items[at].hart < hart)
            at++;
        workload->first[hart] = at;
        if (hart < harts)
            digest = rng_mix(digest ^ workload->budget_cycles[hart]);
    }
    for (uint64_t i = 0; i < workload->items_nr; i++) {
        const struct csim_item *item = &workload->items[i];
        digest = rng_mix(digest ^ item->at_cycles);
        digest = rng_mix(digest ^ item->va);
        digest = rng_mix(digest ^ item->arg ^ (uint64_t)item->pages << 32);
        digest = rng_mix(digest ^ ((uint64_t)item->hart << 32 | (uint64_t)item->kind << 8 |
                                   item->flags));
    }
    workload->digest = digest;
}

/* Pages of the vmalloc area up to the last one that an item maps in its first 32 GiB: kernel
 * objects of a workload lie far behind, and nobody runs into them from here. */
static uint64_t pages_in_use(const struct workload *workload, const struct csim_layout *layout)
{
    uint64_t most = 0;
    for (uint64_t i = 0; i < workload->items_nr; i++) {
        const struct csim_item *item = &workload->items[i];
        bool inside = item->va >= layout->vmalloc_first && item->va < layout->vmalloc_end;
        if (item->kind != CSIM_ITEM_MAP || !inside)
            continue;
        uint64_t end_page = ((item->va - layout->vmalloc_first) >> 12) + item->pages;
        if (end_page > most && end_page < UINT64_C(1) << 23)
            most = end_page;
    }
    return most;
}

static uint64_t lazy_pages_max(const struct csim_params *params)
{
    uint32_t fls = 32u - (uint32_t)__builtin_clz(params->harts);
    return (uint64_t)fls * params->workload.lazy_pages_per_log2;
}

void workload_create(struct workload *workload, struct arena *arena,
                     const struct csim_params *params, const struct csim_layout *layout,
                     const struct csim_item *items, uint64_t items_nr, const uint32_t *gates,
                     uint32_t gates_nr)
{
    struct maker maker = {.workload = workload, .params = params, .layout = layout};
    uint32_t lives = (uint32_t)arrivals(params);
    workload->room = workload_items_max(params, items_nr);
    workload->gates_room = workload_gates_max(params, gates_nr);
    workload->items = arena_take(arena, workload->room, sizeof workload->items[0]);
    struct csim_item *spare = arena_take(arena, workload->room, sizeof spare[0]);
    workload->first = arena_take(arena, (size_t)params->harts + 1, sizeof workload->first[0]);
    workload->budget_cycles = arena_take(arena, params->harts, sizeof workload->budget_cycles[0]);
    workload->gates = arena_take(arena, workload->gates_room, sizeof workload->gates[0]);
    maker.lives = arena_take(arena, lives, sizeof maker.lives[0]);
    maker.published = arena_take(arena, lives, sizeof maker.published[0]);
    maker.unused = arena_take(arena, lives, sizeof maker.unused[0]);
    event_create(&maker.ends, arena, 0, lives);
    vmap_create(&maker.vmap, arena, lives, params->harts, params->workload.stack_cache_slots,
                lazy_pages_max(params));
    if (arena->block == 0)
        return;
    for (uint64_t i = 0; i < items_nr; i++)
        workload->items[workload->items_nr++] = items[i];
    workload->gates_nr = gates_nr == 0 ? 1 : gates_nr;
    for (uint32_t gate = 0; gate < gates_nr; gate++)
        workload->gates[gate] = gates[gate];
    maker.purge_gate = new_gate(&maker);
    live(&maker, lives);
    workload->drawn_pages = maker.vmap.end_page;
    for (uint32_t hart = 0; hart < params->harts; hart++) {
        ticks(&maker, hart);
        interrupts(&maker, hart);
        user_faults(&maker, hart);
    }
    set_budgets(workload, params);
    drop_after_budget(workload);
    sort(workload->items, spare, workload->items_nr);
    index_harts(workload, params->harts);
    workload->area_pages = pages_in_use(workload, layout);
}
