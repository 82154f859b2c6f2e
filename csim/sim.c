/* sim.c: owns time and memory, decides nothing else.
 *
 * The loop takes the earliest event and lets its hart go on until it would overtake the next one. A
 * hart between two items is only brought forward when its next item may be due, or when somebody
 * sends it an interrupt: the reference stream in between concerns nobody else (hart.c). Everything
 * that does concern others happens in the order (at_cycles, hart, seq).
 *
 * Memory is two blocks: the work, whose size follows from the params and the items given, and the
 * machine, whose page tables are sized once the work is known. Each is measured by running its
 * creation over an arena that only adds up.
 */
#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "draw.h"
#include "hart.h"
#include "params.h"
#include "policy.h"
#include "rng.h"
#include "shootdown.h"
#include "tables.h"
#include "workload.h"
#include "world.h"

enum { QUANTILES = 4096, STOP_EVERY = 1024, RING_MIN = 8192 };

struct csim {
    struct arena work_arena, arena;   /* this struct lies in the first */
    struct workload workload;
    struct world world;
    struct trace trace;
    struct csim_result result;
};

/* ---- creation
 * --------------------------------------------------------------------------------- */

struct inputs {
    const struct csim_params *params;
    const struct csim_program *program;
    const struct csim_op *ops;
    const struct csim_item *items;
    uint64_t items_nr;
    const uint32_t *gates;
    uint32_t gates_nr;
};

/* In flight at once: each shootdown's messages under way and one acknowledgement a hart. */
static uint32_t events_max(const struct csim_params *params)
{
    const struct csim_machine *m = &params->machine;
    uint64_t sbi = m->sbi_deliver_cycles / (m->sbi_send_cycles + UINT64_C(1)) + 3;
    uint64_t imsic = m->imsic_deliver_cycles / (m->imsic_send_cycles + UINT64_C(1)) + 3;
    uint64_t flying = sbi > imsic ? sbi : imsic;
    if (flying > params->harts || m->via == CSIM_VIA_HW)
        flying = params->harts;
    return (uint32_t)(params->harts * (SHOOTS_MAX * (flying + 1) + 4));
}

static uint32_t pages_max(const struct workload *workload)
{
    uint32_t most = NESTED_PAGES;
    for (uint64_t i = 0; i < workload->items_nr; i++) {
        const struct csim_item *item = &workload->items[i];
        bool stores = item->kind == CSIM_ITEM_MAP || item->kind == CSIM_ITEM_UNMAP;
        if (stores && item->pages > most)
            most = item->pages;
    }
    return most;
}

static const uint32_t *zipf(struct arena *arena, uint32_t pages, uint32_t zipf_permille)
{
    uint32_t *quantiles = arena_take(arena, QUANTILES, sizeof quantiles[0]);
    if (quantiles != 0)
        draw_zipf_quantiles(quantiles, QUANTILES, pages, zipf_permille);
    return quantiles;
}

static void create_marks(struct world *world, struct arena *arena)
{
    const struct csim_machine *m = &world->params.machine;
    for (uint32_t i = 0; i < world->program.marks_nr; i++)
        mark_create(&world->marks[i], arena, world->program.mark_words[i], world->harts_nr,
                    m->store_drain_cycles + m->coherence_cycles);
    for (uint32_t i = 0; world->ops != 0 && i < world->program.ops_nr; i++)
        if (world->ops[i].kind == CSIM_OP_CLEAR_MARK && world->ops[i].b == 0)
            world->marks[world->ops[i].a].stored_back = true;
}

/* Address spaces that the work names; they are numbered from 1. */
static uint32_t mms_max(const struct workload *workload)
{
    uint32_t most = 0;
    for (uint64_t i = 0; i < workload->items_nr; i++) {
        const struct csim_item *item = &workload->items[i];
        if (item->kind == CSIM_ITEM_SWITCH_MM && item->arg > most)
            most = (uint32_t)item->arg;
        bool user = item->kind == CSIM_ITEM_USER_PROTECT || item->kind == CSIM_ITEM_USER_UNMAP;
        if (user && item->pages > most)
            most = item->pages;
    }
    return most;
}

static void create_world(struct world *world, struct arena *arena, const struct inputs *in,
                         const struct workload *workload, uint32_t frames_nr)
{
    const struct csim_machine *m = &in->params->machine;
    const struct csim_workload *w = &in->params->workload;
    uint32_t ring = 4 * pages_max(workload) + RING_MIN +
                    in->params->harts * (m->store_drain_cycles + m->coherence_cycles);
    world->params = *in->params;
    world->program = *in->program;
    world->harts_nr = in->params->harts;
    csim_layout(m->levels, &world->layout);
    struct csim_op *ops = arena_take(arena, in->program->ops_nr, sizeof ops[0]);
    if (ops != 0 && in->program->ops_nr > 0)
        memcpy(ops, in->ops, in->program->ops_nr * sizeof ops[0]);
    world->ops = ops;
    event_create(&world->events, arena, world->harts_nr, events_max(in->params));
    pagetable_create(&world->pt, arena, m->levels, frames_nr, ring, m);
    create_marks(world, arena);
    world->gates_nr = workload->gates_nr;
    world->gates = arena_take(arena, workload->gates_nr, sizeof world->gates[0]);
    world->shoots = arena_take(arena, (size_t)world->harts_nr * SHOOTS_MAX,
                               sizeof world->shoots[0]);
    mm_create(&world->mms, arena, world->harts_nr, mms_max(workload), m->asid_bits,
              in->params->nr_cpus);
    world->shoot_masks = arena_take(arena, (size_t)world->harts_nr * SHOOTS_MAX * world->mms.words,
                                    sizeof world->shoot_masks[0]);
    world->online = arena_take(arena, world->harts_nr, 1);
    world->zipf_text = zipf(arena, w->text_pages, w->zipf_permille);
    world->zipf_linear = zipf(arena, w->linear_pages, w->zipf_permille);
    world->zipf_user = zipf(arena, w->user_pages, w->zipf_permille);
    world->area_pages = workload->area_pages;
    struct hart *harts = arena_take(arena, world->harts_nr, sizeof harts[0]);
    world->harts = harts;
    struct hart measured = {0};
    for (uint32_t id = 0; id < world->harts_nr; id++)
        hart_create(world, harts != 0 ? &harts[id] : &measured, id, arena);
}

/* A hart with an ONLINE item is in no mask before it; all others are from the start. */
static void bring_online(struct world *world, const struct workload *workload)
{
    memset(world->online, 1, world->harts_nr);
    world->online_nr = world->harts_nr;
    for (uint64_t i = 0; i < workload->items_nr; i++) {
        const struct csim_item *item = &workload->items[i];
        if (item->kind != CSIM_ITEM_ONLINE || world->online[item->arg] == 0)
            continue;
        world->online[item->arg] = 0;
        world->online_nr--;
    }
}

static void start(struct csim *sim)
{
    struct world *world = &sim->world;
    const struct csim_machine *m = &world->params.machine;
    world->result = &sim->result;
    world->trace = &sim->trace;
    world->pt.trace = &sim->trace;
    world->next_ppn = UINT64_C(1) << 30;
    world->start_cycles = (uint64_t)m->store_drain_cycles + m->coherence_cycles + 1;
    for (uint32_t gate = 0; gate < world->gates_nr; gate++)
        world->gates[gate].need = sim->workload.gates[gate];
    tables_fill(world, &sim->workload);
    world->stores_at_sync = world->pt.stores;
    mm_start(&world->mms);
    bring_online(world, &sim->workload);
    for (uint32_t id = 0; id < world->harts_nr; id++) {
        struct hart *hart = &world->harts[id];
        hart->budget_cycles = sim->workload.budget_cycles[id];
        hart->items = sim->workload.items + sim->workload.first[id];
        hart->items_nr = sim->workload.first[id + 1] - sim->workload.first[id];
        hart_start(world, hart);
        world_schedule(world, hart, hart_next_cycles(hart));
    }
}

/* Given items are checked in a block of their own, which goes back at once. */
static enum csim_status check_items(const struct inputs *in, struct csim_error *error)
{
    size_t words = 2 * (size_t)in->gates_nr + in->params->harts;
    struct arena arena = {0};
    (void)arena_take(&arena, words, sizeof(uint64_t));
    if (!arena_open(&arena, arena.used_bytes))
        return CSIM_NO_MEMORY;
    uint64_t *scratch = arena_take(&arena, words, sizeof scratch[0]);
    enum csim_status status = params_check_items(in->params, in->items, in->items_nr, in->gates,
                                                 in->gates_nr, scratch, error);
    arena_close(&arena);
    return status;
}

/* The first block: the handle and the work. */
static struct csim *take_work(struct arena *arena, const struct inputs *in)
{
    struct csim *sim = arena_take(arena, 1, sizeof *sim);
    struct csim_layout layout;
    struct workload measured = {0};
    csim_layout(in->params->machine.levels, &layout);
    workload_create(sim != 0 ? &sim->workload : &measured, arena, in->params, &layout, in->items,
                    in->items_nr, in->gates, in->gates_nr);
    return sim;
}

static enum csim_status create_work(struct csim **out, const struct inputs *in,
                                    struct csim_error *error)
{
    enum csim_status status = check_items(in, error);
    if (status != CSIM_OK)
        return status;
    struct arena arena = {0};
    (void)take_work(&arena, in);
    if (!arena_open(&arena, arena.used_bytes))
        return CSIM_NO_MEMORY;
    *out = take_work(&arena, in);
    (*out)->work_arena = arena;
    return CSIM_OK;
}

static enum csim_status count_frames(const struct inputs *in, const struct workload *workload,
                                     uint32_t *frames_nr)
{
    struct csim_layout layout;
    struct arena scratch = {0};
    csim_layout(in->params->machine.levels, &layout);
    (void)tables_frames_max(in->params, &layout, workload, &scratch);
    if (!arena_open(&scratch, scratch.used_bytes))
        return CSIM_NO_MEMORY;
    *frames_nr = tables_frames_max(in->params, &layout, workload, &scratch);
    arena_close(&scratch);
    return CSIM_OK;
}

static enum csim_status create_machine(struct csim *sim, const struct inputs *in,
                                       struct csim_error *error)
{
    uint32_t frames_nr = 0;
    if (sim->workload.drawn_pages > tables_area_pages_max()) {
        snprintf(error->field, sizeof error->field, "workload.maps_per_tcycle");
        snprintf(error->reason, sizeof error->reason, "more than 32 GiB mapped or not yet purged");
        return CSIM_BAD_PARAM;
    }
    enum csim_status status = count_frames(in, &sim->workload, &frames_nr);
    if (status != CSIM_OK)
        return status;
    struct world measured = {0};
    struct arena arena = {0};
    create_world(&measured, &arena, in, &sim->workload, frames_nr);
    if (!arena_open(&arena, arena.used_bytes))
        return CSIM_NO_MEMORY;
    create_world(&sim->world, &arena, in, &sim->workload, frames_nr);
    sim->arena = arena;
    start(sim);
    return CSIM_OK;
}

enum csim_status csim_create(const struct csim_params *params, const struct csim_program *program,
                             const struct csim_op *ops, const struct csim_item *items,
                             uint64_t items_nr, const uint32_t *gates, uint32_t gates_nr,
                             struct csim **out, struct csim_error *error)
{
    struct inputs in = {params, program, ops, items, items_nr, gates, gates_nr};
    *out = 0;
    enum csim_status status = params_check(params, error);
    if (status == CSIM_OK)
        status = csim_check_program(program, ops, error);
    if (status == CSIM_OK)
        status = policy_check_clock(program, ops, error);
    if (status == CSIM_OK)
        status = create_work(out, &in, error);
    if (status == CSIM_OK)
        status = create_machine(*out, &in, error);
    if (status != CSIM_OK && *out != 0) {
        csim_destroy(*out);
        *out = 0;
    }
    return status;
}

void csim_destroy(struct csim *sim)
{
    if (sim == 0)
        return;
    arena_close(&sim->arena);
    struct arena last = sim->work_arena;      /* the handle itself lies in it */
    arena_close(&last);
}

uint64_t csim_items(const struct csim *sim, struct csim_item *out, uint64_t room)
{
    uint64_t nr = sim->workload.items_nr;
    for (uint64_t i = 0; i < nr && i < room; i++)
        out[i] = sim->workload.items[i];
    return nr;
}

void csim_log(struct csim *sim, struct csim_log_entry *entries, uint64_t room)
{
    sim->trace = (struct trace){.entries = entries, .room = room};
}

void csim_log_last(struct csim *sim, struct csim_log_entry *entries, uint64_t room)
{
    sim->trace = (struct trace){.entries = room > 0 ? entries : 0, .room = room, .last = true};
}

/* The log counts from the start of the run, as verdicts do. */
static void rebase_log(struct csim *sim)
{
    struct trace *trace = &sim->trace;
    uint64_t kept = trace->logged < trace->room ? trace->logged : trace->room;
    for (uint64_t i = 0; trace->entries != 0 && i < kept; i++)
        trace->entries[i].at_cycles -= sim->world.start_cycles;
}

uint64_t csim_logged(const struct csim *sim) { return sim->trace.logged; }

/* ---- the loop
 * --------------------------------------------------------------------------------- */

/* True when an event of the queue comes before this hart's present. */
static bool must_yield(const struct world *world, const struct hart *hart)
{
    const struct event *first = event_first(&world->events);
    if (first == 0 || first->at_cycles > hart->now_cycles)
        return false;
    return first->at_cycles < hart->now_cycles || first->hart <= hart->id;
}

static bool finished(const struct hart *hart)
{
    return hart->depth == 0 && hart->inbox_nr == 0 && !hart_item_due(hart) &&
           hart->useful_cycles >= hart->budget_cycles;
}

static void finish(struct hart *hart)
{
    if (hart->done)
        return;
    hart->done = true;
    hart->finished_at_cycles = hart->now_cycles;
}

/* The hart goes on until it waits, has finished, or would overtake another's event. */
static void go_on(struct world *world, struct hart *hart)
{
    hart->blocked = false;
    while (!world->over) {
        bool between = hart->depth == 0 && hart->inbox_nr == 0;
        if (between && !hart_item_due(hart)) {
            const struct event *first = event_first(&world->events);
            hart_catch_up(world, hart, first != 0 ? first->at_cycles : UINT64_MAX);
        }
        if (finished(hart)) {
            finish(hart);
            return;
        }
        if (must_yield(world, hart) || (between && !hart_item_due(hart))) {
            world_schedule(world, hart, hart->inbox_nr > 0 ? hart->now_cycles
                                                           : hart_next_cycles(hart));
            return;
        }
        hart_step(world, hart);
        if (hart->blocked)
            return;
    }
}

/* Another hart's doing reaches this one at `at_cycles`: it is brought there first. */
static void bring(struct world *world, struct hart *hart, uint64_t at_cycles)
{
    if (hart->depth == 0 && !hart->done)
        hart_catch_up(world, hart, at_cycles);
    else if (hart->blocked)
        hart_wait(hart, at_cycles);
    if (hart->done && hart->now_cycles < at_cycles)
        hart->now_cycles = at_cycles;
}

static void wake(struct world *world, struct hart *hart, uint64_t at_cycles)
{
    bool free_to_act = hart->depth == 0 || hart->blocked;
    if (!free_to_act)
        return;                               /* it finds the request at its next step */
    world_schedule(world, hart, at_cycles > hart->now_cycles ? at_cycles : hart->now_cycles);
}

static void serve_event(struct world *world, const struct event *event)
{
    struct hart *hart = &world->harts[event->hart];
    if (event->kind == EVENT_STEP) {
        if (hart->depth > 0)
            hart_wait(hart, event->at_cycles);
        go_on(world, hart);
        return;
    }
    uint32_t slot = (uint32_t)event->arg;
    switch ((enum event_kind)event->kind) {
    case EVENT_IPI:
        bring(world, hart, event->at_cycles);
        shootdown_arrive(world, hart, slot, event->at_cycles);
        wake(world, hart, event->at_cycles);
        return;
    case EVENT_ACK:
        shootdown_acked(world, slot, event->at_cycles);
        return;
    case EVENT_BROADCAST:
        bring(world, hart, event->at_cycles);
        if (hart->depth == 0 && !hart->done)
            hart_interrupt_visit(hart);
        shootdown_broadcast(world, hart, slot, event->at_cycles);
        return;
    }
}

/* Old versions of PTEs are kept for harts that lag behind; before the log forgets one, all catch up
 * to the present of the queue. */
static void synchronise(struct world *world, uint64_t at_cycles)
{
    if (world->pt.stores - world->stores_at_sync <= world->pt.ring_nr / 2)
        return;
    for (uint32_t id = 0; id < world->harts_nr; id++) {
        struct hart *hart = &world->harts[id];
        if (hart->depth == 0 && !hart->done)
            hart_catch_up(world, hart, at_cycles);
    }
    world->stores_at_sync = world->pt.stores;
}

static const struct hart *first_waiting(const struct world *world)
{
    for (uint32_t id = 0; id < world->harts_nr; id++)
        if (!world->harts[id].done)
            return &world->harts[id];
    return 0;
}

/* ---- counting
 * --------------------------------------------------------------------------------- */

/* wall = useful + idle + base translation + causes, per hart, to the cycle. */
static void check_account(const struct world *world, const struct hart *hart)
{
    const struct csim_counters *c = &hart->counters;
    uint64_t sum = c->useful_cycles + c->idle_cycles + c->base_translation_cycles +
                   c->map_store_cycles + c->mark_cycles + c->early_check_cycles +
                   c->lazy_fault_cycles + c->local_fence_cycles + c->initiator_wait_cycles +
                   c->victim_handler_cycles + c->refill_map_cycles + c->refill_lazy_cycles +
                   c->refill_user_cycles + c->refill_purge_cycles + c->user_fence_cycles +
                   c->purge_cycles + c->handoff_wait_cycles;
    assert(!hart->done || sum == hart->finished_at_cycles - world->start_cycles);
    (void)sum;
    (void)world;
}

static void add(struct csim_counters *sum, const struct csim_counters *counters)
{
#define X(name, unit, meaning) sum->name += counters->name;
    CSIM_COUNTERS(X)
#undef X
}

static uint64_t wall_of(const struct world *world, const struct hart *hart)
{
    return (hart->done ? hart->finished_at_cycles : hart->now_cycles) - world->start_cycles;
}

void csim_hart_counters(const struct csim *sim, uint32_t hart, struct csim_counters *counters)
{
    *counters = sim->world.harts[hart].counters;
    counters->wall_cycles = wall_of(&sim->world, &sim->world.harts[hart]);
}

static void count(struct csim *sim)
{
    struct world *world = &sim->world;
    struct csim_counters *sum = &sim->result.counters;
    memset(sum, 0, sizeof *sum);
    for (uint32_t id = 0; id < world->harts_nr; id++) {
        struct hart *hart = &world->harts[id];
        check_account(world, hart);
        add(sum, &hart->counters);
        sum->wall_cycles += wall_of(world, hart);
    }
    sum->stack_cache_hits = sim->workload.stack_cache_hits;
    sum->work_digest = sim->workload.digest;
    sum->events = world->events.pushed;
}

enum csim_status csim_run(struct csim *sim, const volatile int *stop, struct csim_result *result)
{
    struct world *world = &sim->world;
    enum csim_status status = CSIM_OK;
    struct event event;
    for (uint64_t taken = 0; !world->over; taken++) {
        if (stop != 0 && taken % STOP_EVERY == 0 && *stop != 0) {
            status = CSIM_STOPPED;
            break;
        }
        if (!event_pop(&world->events, &event))
            break;
        synchronise(world, event.at_cycles);
        serve_event(world, &event);
    }
    const struct hart *waiting = status == CSIM_OK ? first_waiting(world) : 0;
    if (waiting != 0)
        world_verdict(world, waiting, CSIM_DEADLOCK, 0);
    count(sim);
    rebase_log(sim);
    *result = sim->result;
    return status;
}
