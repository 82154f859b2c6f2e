/* hart.c: items in their order, accesses that may fault, and between the items the reference
 * stream.
 *
 * The stream is a sequence of page visits, each `visit_cycles` of useful work at one page: one
 * lookup, the rest of the visit hits by construction. Visit k of a hart goes to a page drawn from
 * (seed, hart, k) alone: kernel text, the linear map, the current stack, an area the hart has used,
 * or a user page, each footprint with a Zipf law. An item or an interrupt inside a visit ends it;
 * on resumption the page, a page of kernel text and the top of the stack are looked up again.
 *
 * The stream never asks for a page this hart has not translated before, except kernel text, linear
 * map and user pages, which are mapped before the run and never change. So it cannot fault, and a
 * hart may be advanced late: what it reads of the page tables is what it would have seen then.
 *
 * Speculative walks happen at drawn points of useful time and go to any page of the vmalloc area in
 * use, mapped or not, and a little past it. They fill caches, cost the hart nothing and read their
 * PTEs at one instant.
 */
#include "hart.h"

#include <assert.h>

#include "draw.h"
#include "fence.h"
#include "gate.h"
#include "handler.h"
#include "histogram.h"
#include "rng.h"
#include "rv.h"
#include "shootdown.h"
#include "trap.h"

enum item_phase { ITEM_ENTER, ITEM_BEGIN, ITEM_TOUCHES, ITEM_END };
enum access_phase { ACCESS_ASK, ACCESS_WALK, ACCESS_ANSWERED };
enum { AGAIN_PAGE = 1, AGAIN_TEXT = 2, AGAIN_STACK = 4, QUANTILES = 4096, KERNEL_PAGES_2M = 512 };

static void next_speculation(const struct world *world, struct hart *hart)
{
    const struct csim_workload *w = &world->params.workload;
    struct stream *stream = &hart->stream;
    if (w->speculative_walks_per_tcycle == 0 || world->area_pages == 0) {
        stream->speculate_at = UINT64_MAX;
        return;
    }
    uint64_t draw = rng_draw(w->seed, RNG_SPECULATION, hart->id, 2 * stream->speculation);
    stream->speculate_at += draw_interval(draw, w->speculative_walks_per_tcycle);
}

void hart_create(struct world *world, struct hart *hart, uint32_t id, struct arena *arena)
{
    uint32_t room = shootdown_inbox_room(world);
    hart->inbox = arena_take(arena, room, sizeof hart->inbox[0]);
    hart->inbox_extent = arena_take(arena, room, sizeof hart->inbox_extent[0]);
    hart->inbox_merged = arena_take(arena, room, sizeof hart->inbox_merged[0]);
    hart->merged_next = arena_take(arena, room, sizeof hart->merged_next[0]);
    hart->inbox_at_cycles = arena_take(arena, room, sizeof hart->inbox_at_cycles[0]);
    mmu_create(&hart->mmu, arena, &world->params.machine, world->pt.root_ppn, id,
               world->params.workload.seed, &hart->counters);
    hart->id = id;
    hart->asid = MM_OWN_ASID;
    hart->irqs_on = true;
    hart->stream.visit = UINT64_MAX;                /* the first one is number 0 */
    hart->stream.visit_key = rng_key(world->params.workload.seed, RNG_VISIT, id);
}

void hart_start(const struct world *world, struct hart *hart)
{
    hart->now_cycles = world->start_cycles;
    hart->mm = mm_on(&world->mms, hart->id);
    hart->stack = hart->home_stack;
    hart->stack_in_use = 1;
    next_speculation(world, hart);
}

/* ---- the reference stream -------------------------------------------------------------------- */

static uint64_t page_of(uint64_t base, const uint32_t *quantiles, uint64_t draw)
{
    return base + ((uint64_t)quantiles[draw % QUANTILES] << PAGE_SHIFT);
}

static uint64_t stack_page(const struct hart *hart, uint64_t draw)
{
    /* one hot page; the deeper ones of those in use in one visit of eight */
    uint32_t below = draw % 8 == 0 ? (uint32_t)((draw >> 3) % hart->stack_in_use) : 0;
    return hart->stack.va + ((uint64_t)(hart->stack.pages - 1 - below) << PAGE_SHIFT);
}

/* Two of the regions depend on what the hart has done; the others are a table and a base. */
static void choose_page(const struct world *world, struct hart *hart)
{
    const struct csim_workload *w = &world->params.workload;
    struct stream *stream = &hart->stream;
    uint64_t draw = rng_draw_keyed(stream->visit_key, stream->visit);
    uint32_t part = (uint32_t)rng_below(draw, 1000), low = (uint32_t)draw;
    uint32_t text_end = w->visit_text_permille, stack_end = text_end + w->visit_stack_permille;
    uint32_t module_end = stack_end + w->visit_module_permille;
    uint32_t linear_end = module_end + w->visit_linear_permille;
    if (part >= text_end && part < stack_end) {
        stream->user = false;
        stream->access = CSIM_STORE;
        stream->va = stack_page(hart, low);
        return;
    }
    if (part >= stack_end && part < module_end && hart->known_nr > 0) {
        const struct range *range = &hart->known[low % hart->known_nr];
        stream->user = false;
        stream->access = CSIM_LOAD;
        stream->va = range->va + ((uint64_t)((low >> 8) % range->pages) << PAGE_SHIFT);
        return;
    }
    bool text = part < text_end, linear = !text && part < linear_end;
    const uint32_t *quantiles = linear ? world->zipf_linear : world->zipf_user;
    uint64_t first = linear ? world->layout.linear_first : world->layout.user_first;
    quantiles = text ? world->zipf_text : quantiles;
    first = text ? world->layout.text_first : first;
    stream->user = !text && !linear;
    stream->access = text ? CSIM_FETCH : CSIM_LOAD;
    stream->va = page_of(first, quantiles, low);
}

static void begin_visit(const struct world *world, struct hart *hart)
{
    struct stream *stream = &hart->stream;
    stream->visit++;
    stream->left_cycles = world->params.workload.visit_cycles;
    stream->again |= AGAIN_PAGE;
    hart->counters.visits++;
    choose_page(world, hart);
}

static enum cause refill_cause(const struct mmu_answer *answer)
{
    if (!answer->refill)
        return CAUSE_BASE;
    switch (answer->refill_for) {
    case FENCE_FOR_MAP: return CAUSE_REFILL_MAP;
    case FENCE_FOR_LAZY: return CAUSE_REFILL_LAZY;
    case FENCE_FOR_USER: return CAUSE_REFILL_USER;
    case FENCE_FOR_PURGE:
    case FENCE_CAUSES: return CAUSE_REFILL_PURGE;
    }
    return CAUSE_REFILL_PURGE;
}

/* Asks for the next page that has to be looked up. */
static void ask(const struct world *world, struct hart *hart)
{
    struct stream *stream = &hart->stream;
    struct mmu_request request = {.asid = hart->asid};
    if ((stream->again & AGAIN_PAGE) != 0) {
        stream->again &= (uint8_t)~AGAIN_PAGE;
        request.va = stream->va;
        request.access = stream->access;
        request.user = stream->user;
    } else if ((stream->again & AGAIN_TEXT) != 0) {
        stream->again &= (uint8_t)~AGAIN_TEXT;
        request.va = world->layout.text_first;
        request.access = CSIM_FETCH;
    } else {
        stream->again &= (uint8_t)~AGAIN_STACK;
        request.va = stack_page(hart, 1);
        request.access = CSIM_STORE;
    }
    stream->spent_cycles = mmu_begin(&hart->mmu, &request);
    hart->now_cycles += stream->spent_cycles;
}

/* The lookup in flight is answered: somebody pays for the time it took. */
static void answered(struct hart *hart)
{
    uint64_t spent = hart->stream.spent_cycles;
    hart->stream.spent_cycles = 0;
    if (spent != 0) {
        hart->now_cycles -= spent;
        world_charge(hart, refill_cause(&hart->mmu.answer), spent);
    }
    hart->counters.ambient_faults += hart->mmu.answer.fail != WALK_NONE;
}

static void speculate(const struct world *world, struct hart *hart)
{
    const struct csim_workload *w = &world->params.workload;
    uint64_t number = 2 * hart->stream.speculation + 1;
    uint64_t draw = rng_draw(w->seed, RNG_SPECULATION, hart->id, number);
    uint64_t page = rng_below(draw, world->area_pages + w->speculative_span_pages);
    struct mmu_request request = {.va = world->layout.vmalloc_first + (page << PAGE_SHIFT),
                                  .asid = hart->asid,
                                  .access = CSIM_LOAD,
                                  .speculative = true};
    uint64_t cycles = mmu_begin(&hart->mmu, &request);
    bool walks = hart->mmu.walking;
    while (hart->mmu.walking)
        cycles += mmu_step(&hart->mmu, &world->pt, hart->now_cycles);
    if (walks)
        mmu_occupy_walker(&hart->mmu, hart->now_cycles, cycles);
    hart->stream.speculation++;
    next_speculation(world, hart);
}

static uint64_t item_at(const struct hart *hart)
{
    return hart->item < hart->items_nr ? hart->items[hart->item].at_cycles : UINT64_MAX;
}

static uint64_t budget_at(const struct hart *hart)
{
    uint64_t at = item_at(hart);
    return at < hart->budget_cycles ? at : hart->budget_cycles;
}

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* Useful work until the visit, the next item, the next speculation or `until` ends it. */
static void work(const struct world *world, struct hart *hart, uint64_t until_cycles)
{
    struct stream *stream = &hart->stream;
    uint64_t cycles = least(stream->left_cycles, until_cycles - hart->now_cycles);
    cycles = least(cycles, budget_at(hart) - hart->useful_cycles);
    if (stream->speculate_at >= hart->useful_cycles)
        cycles = least(cycles, stream->speculate_at - hart->useful_cycles);
    stream->left_cycles -= cycles;
    hart->useful_cycles += cycles;
    hart->now_cycles += cycles;
    hart->counters.useful_cycles += cycles;
    if (hart->useful_cycles == stream->speculate_at)
        speculate(world, hart);
}

void hart_catch_up(struct world *world, struct hart *hart, uint64_t until_cycles)
{
    struct stream *stream = &hart->stream;
    uint64_t budget = budget_at(hart);
    while (hart->now_cycles < until_cycles && hart->useful_cycles < budget) {
        if (hart->mmu.walking) {
            uint64_t cycles = mmu_step(&hart->mmu, &world->pt, hart->now_cycles);
            stream->spent_cycles += cycles;
            hart->now_cycles += cycles;
            if (!hart->mmu.walking)
                answered(hart);
        } else if (stream->left_cycles == 0) {
            begin_visit(world, hart);
        } else if (stream->again != 0) {
            ask(world, hart);
            if (!hart->mmu.walking)
                answered(hart);
        } else {
            work(world, hart, until_cycles);
        }
    }
}

void hart_interrupt_visit(struct hart *hart)
{
    struct stream *stream = &hart->stream;
    if (hart->mmu.walking)
        mmu_abort(&hart->mmu);
    hart->now_cycles -= stream->spent_cycles;
    world_charge(hart, CAUSE_BASE, stream->spent_cycles);
    stream->spent_cycles = 0;
    stream->again = AGAIN_PAGE | AGAIN_TEXT | AGAIN_STACK;
}

/* ---- areas this hart uses -------------------------------------------------------------------- */

static void learn(struct hart *hart, uint64_t va, uint32_t pages)
{
    if (hart->known_nr == KNOWN_MAX) {
        for (uint32_t i = 1; i < KNOWN_MAX; i++)
            hart->known[i - 1] = hart->known[i];
        hart->known_nr--;
    }
    hart->known[hart->known_nr++] = (struct range){va, pages, 0};
}

/* Pages of the current stack were used: the stream may go there too, once all above them were. */
static void deepen(struct hart *hart, uint64_t va, uint32_t pages)
{
    uint64_t page = (va - hart->stack.va) >> PAGE_SHIFT;         /* below the stack: very large */
    uint64_t first_in_use = hart->stack.pages - hart->stack_in_use;
    if (page < first_in_use && page + pages >= first_in_use)
        hart->stack_in_use = hart->stack.pages - (uint32_t)page;
}

static void forget(struct hart *hart, uint64_t va, uint32_t pages)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < hart->known_nr; i++) {
        const struct range *range = &hart->known[i];
        if (range->va < va || range->va >= va + ((uint64_t)pages << PAGE_SHIFT))
            hart->known[kept++] = *range;
    }
    hart->known_nr = kept;
    bool current = hart->stack.va >= va && hart->stack.va < va + ((uint64_t)pages << PAGE_SHIFT);
    if (current) {
        hart->stack = hart->home_stack;
        hart->stack_in_use = 1;
    }
    uint64_t page = hart->stream.va;
    if (page >= va && page < va + ((uint64_t)pages << PAGE_SHIFT)) {
        hart->stream.va = stack_page(hart, 1);      /* the rest of the visit */
        hart->stream.access = CSIM_STORE;
    }
}

/* ---- accesses that may fault
 * ------------------------------------------------------------------ */

static void count_fault(struct world *world, struct hart *hart, const struct frame *frame)
{
    const struct mmu_answer *answer = &hart->mmu.answer;
    if ((pagetable_leaf(&world->pt, frame->va).bits & RV_PTE_V) == 0)
        return;
    hart->counters.spurious_faults++;
    if (answer->negative)
        hart->counters.negative_faults++;
    else
        hart->counters.window_faults++;
}

/* Whether the frame that answered is the mapping's of today. A superpage's own frame number ends in
 * zeros where the page's index within it stands. */
static bool current_frame(const struct world *world, const struct hart *hart, uint64_t va)
{
    struct pte leaf = pagetable_leaf(&world->pt, va);
    uint64_t ppn = (leaf.bits & RV_PTE_PPN) >> RV_PTE_PPN_SHIFT;
    uint64_t index = (va >> PAGE_SHIFT) % KERNEL_PAGES_2M;
    uint64_t got = hart->mmu.answer.ppn;
    return (leaf.bits & RV_PTE_V) != 0 &&
           (got == ppn || (ppn % KERNEL_PAGES_2M == 0 && got == ppn + index));
}

static void access_done(struct world *world, struct hart *hart, struct frame *frame)
{
    if (!current_frame(world, hart, frame->va))
        world_verdict(world, hart, CSIM_STALE_USE, frame->va);
    uint64_t took = hart->now_cycles - frame->started_at_cycles;
    if (frame->index != 0)
        world->result->histogram[CSIM_HIST_FIRST_TOUCH][histogram_bucket(took)]++;
    world_pop(hart);
}

static void access_fault(struct world *world, struct hart *hart, struct frame *frame)
{
    count_fault(world, hart, frame);
    frame->phase = ACCESS_ASK;
    if (++frame->pages > world->params.livelock_retries) {
        world_verdict(world, hart, CSIM_LIVELOCK, frame->va);
        return;
    }
    uint32_t scause = walk_cause(hart->mmu.answer.fail, (enum csim_access)frame->access);
    trap_fault(world, hart, scause, frame->va);
}

/* Somebody pays for the lookup so far. */
static void settle(struct hart *hart, struct frame *frame, enum cause cause)
{
    hart->now_cycles -= frame->spent_cycles;
    world_charge(hart, cause, frame->spent_cycles);
    frame->spent_cycles = 0;
}

/* At the time of the last read, or of the hit. */
static void log_answer(const struct world *world, const struct hart *hart,
                       const struct frame *frame)
{
    const struct mmu_answer *answer = &hart->mmu.answer;
    world_log(world, hart, CSIM_LOG_ACCESS, frame->va, answer->ppn, (uint32_t)answer->fail);
}

static void access_step(struct world *world, struct hart *hart, struct frame *frame)
{
    struct mmu *mmu = &hart->mmu;
    uint64_t cycles = 0;
    if (frame->phase == ACCESS_WALK && !mmu->walking) {
        frame->phase = ACCESS_ASK;                  /* a fence discarded the walk */
        settle(hart, frame, CAUSE_BASE);
    }
    if (frame->phase == ACCESS_ASK) {
        struct mmu_request request = {.va = frame->va, .asid = hart->asid,
                                      .access = frame->access, .user = frame->user};
        cycles = mmu_begin(mmu, &request);
        frame->phase = ACCESS_WALK;
    } else {
        cycles = mmu_step(mmu, &world->pt, hart->now_cycles);
    }
    if (!mmu->walking)
        log_answer(world, hart, frame);
    hart->now_cycles += cycles;
    frame->spent_cycles += cycles;
    if (mmu->walking)
        return;
    bool failed = mmu->answer.fail != WALK_NONE;
    settle(hart, frame, failed ? CAUSE_LAZY_FAULT : refill_cause(&mmu->answer));
    if (failed)
        access_fault(world, hart, frame);
    else
        access_done(world, hart, frame);
}

/* ---- items
 * ------------------------------------------------------------------------------------ */

static void item_push(struct world *world, struct hart *hart, const struct csim_item *item,
                      enum csim_handler handler, enum origin origin)
{
    uint32_t depth = hart->depth;
    world_push_handler(world, hart, handler, item->va, item->pages, origin);
    if (hart->depth > depth)
        hart->frames[depth].huge = (item->flags & CSIM_ITEM_HUGE) != 0;
}

static void begin_switch(struct world *world, struct hart *hart, struct frame *frame,
                         const struct csim_item *item)
{
    frame->phase = ITEM_TOUCHES;
    if (item->va != 0 && (item->flags & CSIM_ITEM_FIRST) != 0)
        item_push(world, hart, item, CSIM_SWITCH_TASK, ORIGIN_TRAP);
}

static void begin_idle(struct hart *hart, struct frame *frame, const struct csim_item *item)
{
    frame->phase = ITEM_END;
    frame->started_at_cycles = hart->now_cycles + item->arg;
}

static void come_online(struct world *world, const struct csim_item *item)
{
    uint32_t id = (uint32_t)item->arg;
    world->online_nr += world->online[id] == 0;
    world->online[id] = 1;
}

/* The user side: user tables are made before the run, so what is left is the policy's part. */
static void begin_user(struct world *world, struct hart *hart, const struct csim_item *item)
{
    struct csim_counters *counters = &hart->counters;
    enum csim_handler handler = CSIM_UNMAP_USER;
    uint32_t pages = (uint32_t)item->arg;
    uint64_t va = world->layout.user_first;
    if (item->kind == CSIM_ITEM_USER_FAULT) {       /* fresh pages: nobody has been there */
        va += (uint64_t)world->params.workload.user_pages << PAGE_SHIFT;
        handler = CSIM_MAP_USER;
        counters->user_faults++;
        counters->user_fault_pages += pages;
        counters->traps_user++;
    } else if (item->kind == CSIM_ITEM_USER_PROTECT) {
        handler = CSIM_PROTECT_USER;
        counters->user_protects++;
    } else if (item->kind == CSIM_ITEM_USER_SPURIOUS) {
        handler = CSIM_USER_SPURIOUS;
        pages = 1;
        counters->user_spurious_faults++;
        counters->traps_user++;
    } else if (item->kind == CSIM_ITEM_SWITCH_MM) {
        uint64_t before = world->mms.rollovers;
        handler = CSIM_SWITCH_MM;
        hart->asid = (uint16_t)mm_switch(&world->mms, hart->id, pages, &hart->asid_rollover);
        hart->mm = mm_on(&world->mms, hart->id);
        counters->mm_switches++;
        counters->asid_rollovers += world->mms.rollovers - before;
        pages = 0;
    } else {
        counters->user_unmaps++;
    }
    bool another = item->kind == CSIM_ITEM_USER_PROTECT || item->kind == CSIM_ITEM_USER_UNMAP;
    if (another && item->pages != 0)
        hart->mm = mm_of_work(&world->mms, item->pages);
    world_push_handler(world, hart, handler, va, pages, ORIGIN_USER);
}

/* Text is patched through the fixmap (linux 6.12, arch/riscv/kernel/patch.c, __set_fixmap). Its
 * pages lie in the hole behind the linear map, where no reference of the stream goes. */
static void fence_fixmap(const struct world *world, struct hart *hart, uint32_t slots)
{
    struct fence_extent pages = {
        .va = world->layout.linear_end, .pages = slots, .threshold_pages = slots};
    world_charge(hart, CAUSE_PURGE, fence_execute(world, hart, pages, ORIGIN_PURGE));
}

static void begin_item(struct world *world, struct hart *hart, struct frame *frame,
                       const struct csim_item *item)
{
    frame->phase = ITEM_END;
    if ((item->flags & CSIM_ITEM_IRQS_OFF) != 0)
        hart->irqs_on = false;
    switch ((enum csim_item_kind)item->kind) {
    case CSIM_ITEM_MAP: item_push(world, hart, item, CSIM_MAP_KERNEL, ORIGIN_MAP); return;
    case CSIM_ITEM_UNMAP: item_push(world, hart, item, CSIM_UNMAP_KERNEL, ORIGIN_PURGE); return;
    case CSIM_ITEM_PURGE: item_push(world, hart, item, CSIM_PURGE_KERNEL, ORIGIN_PURGE); return;
    case CSIM_ITEM_FLUSH: item_push(world, hart, item, CSIM_FLUSH_KERNEL, ORIGIN_PURGE); return;
    case CSIM_ITEM_TOUCH: frame->phase = ITEM_TOUCHES; return;
    case CSIM_ITEM_SWITCH: begin_switch(world, hart, frame, item); return;
    case CSIM_ITEM_FORGET: forget(hart, item->va, item->pages); return;
    case CSIM_ITEM_TRAP:
        trap_of_work(world, hart, item->arg, item->va,
                     (item->flags & CSIM_ITEM_FROM_USER) != 0);
        return;
    case CSIM_ITEM_USER_FAULT:
    case CSIM_ITEM_USER_PROTECT:
    case CSIM_ITEM_USER_SPURIOUS:
    case CSIM_ITEM_USER_UNMAP:
    case CSIM_ITEM_SWITCH_MM: begin_user(world, hart, item); return;
    case CSIM_ITEM_IDLE: begin_idle(hart, frame, item); return;
    case CSIM_ITEM_ONLINE: come_online(world, item); return;
    case CSIM_ITEM_FIXMAP: fence_fixmap(world, hart, (uint32_t)item->arg); return;
    case CSIM_ITEM_FINISH:                          /* it became the budget */
    case CSIM_ITEM_KINDS: break;
    }
    assert(0);
}

/* Whether loads of the stream could meet an invalid entry that this access has not met: they have a
 * first level of their own. On a stack the stream only stores. */
static bool load_too(const struct csim_machine *machine, const struct csim_item *item,
                     enum csim_access access)
{
    bool apart = access == CSIM_FETCH || (access == CSIM_STORE && machine->l1_split_store);
    return apart && item->kind == CSIM_ITEM_TOUCH && (item->flags & CSIM_ITEM_STACK) == 0;
}

/* From here on the hart runs on another stack. */
static void take_stack(const struct world *world, struct hart *hart, const struct csim_item *item)
{
    bool home = item->va == 0;
    hart->stack = home ? hart->home_stack : (struct range){item->va, item->pages, 0};
    hart->stack_in_use = home ? 1 : (uint32_t)item->arg;
    world_log(world, hart, CSIM_LOG_STACK, hart->stack.va, hart->stack.pages, 0);
}

/* The pages of a TOUCH one by one; the top page of a stack switched to for the first time, once the
 * hart runs on it: a fault there finds no other. */
static void touch_next(struct world *world, struct hart *hart, struct frame *frame,
                       const struct csim_item *item)
{
    bool is_switch = item->kind == CSIM_ITEM_SWITCH;
    bool first = (item->flags & CSIM_ITEM_FIRST) != 0 && item->va != 0;
    uint32_t count = is_switch ? (first ? 1 : 0) : item->pages;
    if (is_switch && frame->index == 0)
        take_stack(world, hart, item);
    if (frame->index >= count) {
        frame->phase = ITEM_END;
        return;
    }
    enum csim_access access = CSIM_STORE;
    if ((item->flags & CSIM_ITEM_FETCH) != 0)
        access = CSIM_FETCH;
    else if ((item->flags & CSIM_ITEM_LOAD) != 0)
        access = CSIM_LOAD;
    uint32_t page = is_switch ? item->pages - 1 : frame->index;
    uint64_t va = item->va + ((uint64_t)page << PAGE_SHIFT);
    bool second = frame->slot != 0;
    bool another = !second && load_too(&world->params.machine, item, access);
    frame->slot = another;
    frame->index += !another;
    struct frame *touch = world_push_access(world, hart, va, second ? CSIM_LOAD : access);
    if (touch != 0)
        touch->index = !second;                     /* the first one's delay is recorded */
}

static void finish(struct world *world, struct hart *hart, const struct frame *frame,
                   const struct csim_item *item)
{
    struct csim_counters *counters = &hart->counters;
    uint64_t took = hart->now_cycles - frame->started_at_cycles;
    counters->items++;
    if (item->kind == CSIM_ITEM_MAP) {
        gate_publish(world, hart);
        counters->maps++;
        counters->map_pages += item->pages;
        world->result->histogram[CSIM_HIST_MAP][histogram_bucket(took)]++;
        return;
    }
    if (item->kind == CSIM_ITEM_TOUCH && (item->flags & CSIM_ITEM_STACK) == 0)
        learn(hart, item->va, item->pages);
    if (item->kind == CSIM_ITEM_TOUCH && (item->flags & CSIM_ITEM_STACK) != 0)
        deepen(hart, item->va, item->pages);
    counters->unmaps += item->kind == CSIM_ITEM_UNMAP;
    counters->purges += item->kind == CSIM_ITEM_PURGE;
    if (item->signal != 0)
        gate_signal(world, hart, item->signal);
}

static void enter_item(struct world *world, struct hart *hart, struct frame *frame,
                       const struct csim_item *item)
{
    if (item->wait != 0) {
        uint64_t passable = gate_passable_at(world, hart, item->wait);
        if (passable == 0) {
            gate_wait(world, hart, item->wait);
            return;
        }
        if (passable > hart->now_cycles) {
            world_wait(world, hart, passable);
            return;
        }
    }
    frame->phase = ITEM_BEGIN;
    frame->started_at_cycles = hart->now_cycles;
    hart->published = false;
    world_log(world, hart, CSIM_LOG_ITEM, item->va, item->kind, (uint32_t)hart->item);
}

static void item_step(struct world *world, struct hart *hart, struct frame *frame)
{
    const struct csim_item *item = &hart->items[hart->item];
    switch ((enum item_phase)frame->phase) {
    case ITEM_ENTER: enter_item(world, hart, frame, item); return;
    case ITEM_BEGIN: begin_item(world, hart, frame, item); return;
    case ITEM_TOUCHES: touch_next(world, hart, frame, item); return;
    case ITEM_END: break;
    }
    if (item->kind == CSIM_ITEM_IDLE && hart->now_cycles < frame->started_at_cycles) {
        world_wait(world, hart, frame->started_at_cycles);
        hart->asleep = true;
        return;
    }
    hart->asleep = false;
    hart->mm = mm_on(&world->mms, hart->id);
    finish(world, hart, frame, item);
    world_log(world, hart, CSIM_LOG_ITEM_END, item->va, item->kind, (uint32_t)hart->item);
    hart->item++;
    world_pop(hart);
}

/* ---- the hart
 * --------------------------------------------------------------------------------- */

uint64_t hart_next_cycles(const struct hart *hart)
{
    if (hart->depth > 0)
        return hart->now_cycles;
    uint64_t at = budget_at(hart);
    return hart->now_cycles + (at > hart->useful_cycles ? at - hart->useful_cycles : 0);
}

bool hart_item_due(const struct hart *hart)
{
    return hart->depth == 0 && item_at(hart) <= hart->useful_cycles;
}

void hart_wait(struct hart *hart, uint64_t at_cycles)
{
    if (at_cycles <= hart->now_cycles || hart->depth == 0)
        return;
    const struct frame *top = &hart->frames[hart->depth - 1];
    enum cause cause = CAUSE_HANDOFF;
    if (top->kind == FRAME_SHOOT)
        cause = world_cause(top->origin, CAUSE_INITIATOR);
    else if (hart->asleep)
        cause = CAUSE_IDLE;
    world_charge(hart, cause, at_cycles - hart->now_cycles);
}

void hart_step(struct world *world, struct hart *hart)
{
    if (hart->depth == 0)
        hart_interrupt_visit(hart);
    if (shootdown_take(world, hart))
        return;
    if (hart->depth == 0) {
        if (hart_item_due(hart))
            world_push(world, hart, FRAME_ITEM, ORIGIN_WORK);
        return;
    }
    struct frame *frame = &hart->frames[hart->depth - 1];
    switch ((enum frame_kind)frame->kind) {
    case FRAME_ITEM: item_step(world, hart, frame); return;
    case FRAME_HANDLER: handler_step(world, hart, frame); return;
    case FRAME_ACCESS: access_step(world, hart, frame); return;
    case FRAME_TRAP: trap_step(world, hart, frame); return;
    case FRAME_SHOOT: shootdown_step(world, hart, frame); return;
    case FRAME_SERVE: shootdown_serve_step(world, hart, frame); return;
    }
    assert(0);
}
