/* handler.c: what each op does to time and to the machine. What it means is in csim.h; what it
 * costs is a field of the machine, or comes out of the structures it touches.
 *
 * An op happens whole at the hart's present and then costs; the next op of any hart comes after it
 * in the total order. What waits for the hart's own stores ends no sooner than they are seen: a
 * barrier that orders them before later loads or interrupts until all harts see all of them, an AMO
 * until its word has left the buffer, a fence until the own walker sees the PTEs. Conditions are
 * free except where they load: their instructions are the policy's `spend`. A word of a mark is an
 * instruction of its own (hardware.md row 31 counts them). Left out: root tables
 * of their own per mm (sync_root costs its store and changes nothing, as with preallocated roots),
 * and extents in the deferred queue (its flush is full).
 */
#include "handler.h"

#include <assert.h>

#include "fence.h"
#include "gate.h"
#include "rv.h"
#include "shootdown.h"

/* V R W X G A D: a kernel leaf that never needs an A/D update. */
#define KERNEL_LEAF                                                                                \
    (RV_PTE_V | RV_PTE_R | RV_PTE_W | RV_PTE_X | RV_PTE_G | RV_PTE_A | RV_PTE_D)

/* One op kind; the table of them ends this file. */
typedef void op_function(struct world *world, struct hart *hart, struct frame *frame,
                         const struct csim_op *op);

/* The trap or IPI that this handler runs for. */
static const struct frame *trap_of(const struct hart *hart)
{
    for (uint32_t i = hart->depth; i-- > 0;)
        if (hart->frames[i].kind == FRAME_TRAP || hart->frames[i].kind == FRAME_SERVE)
            return &hart->frames[i];
    return 0;
}

static bool within(uint64_t va, uint64_t first, uint64_t end) { return va >= first && va < end; }

static bool is_fault(const struct frame *trap, uint32_t scause)
{
    return trap != 0 && !trap->interrupt && trap->scause == scause;
}

static bool page_fault(const struct frame *trap)
{
    return trap != 0 && !trap->interrupt && rv_is_page_fault(trap->scause);
}

/* Kernel mappings concern all that are online, an address space the harts it ran on. */
static bool one_hart(const struct world *world, const struct hart *hart,
                     const struct frame *frame)
{
    if (frame->origin == ORIGIN_USER)
        return mm_alone(&world->mms, hart->mm, hart->id);
    return world->online_nr == 1;
}

static bool region(const struct world *world, enum csim_atom atom, uint64_t va)
{
    const struct csim_layout *l = &world->layout;
    if (atom == CSIM_ATOM_REGION_VMALLOC)
        return within(va, l->vmalloc_first, l->vmalloc_end);
    if (atom == CSIM_ATOM_REGION_MODULE)
        return within(va, l->module_first, l->module_end);
    if (atom == CSIM_ATOM_REGION_VMEMMAP)
        return within(va, l->vmemmap_first, l->vmemmap_end);
    if (atom == CSIM_ATOM_REGION_LINEAR)
        return within(va, l->linear_first, l->linear_end);
    return within(va, l->pci_io_first, l->pci_io_end);
}

static bool marked(struct world *world, struct hart *hart, const struct frame *frame,
                   const struct csim_op *op)
{
    struct mark_cost cost = {0};
    bool set = mark_test(&world->marks[op->n], hart->id, hart->now_cycles, &cost);
    hart->counters.line_transfers += cost.transfers;
    world_charge(hart, world_cause(frame->origin, CAUSE_MARK),
                 (uint64_t)cost.transfers * world->params.machine.line_transfer_cycles);
    return set;
}

/* An explicit load of the leaf: what this hart's loads find now. */
static bool pte_valid_now(struct world *world, struct hart *hart, const struct frame *frame)
{
    const struct frame *trap = trap_of(hart);
    uint64_t va = trap != 0 ? trap->va : frame->va;
    world_charge(hart, world_cause(frame->origin, CAUSE_MAP_STORE),
                 (uint64_t)world->params.machine.load_cycles * world->params.machine.levels);
    return (pagetable_load(&world->pt, va, hart->id, hart->now_cycles).bits & RV_PTE_V) != 0;
}

static bool atom_holds(struct world *world, struct hart *hart, const struct frame *frame,
                       const struct csim_op *op, enum csim_atom atom)
{
    const struct csim_machine *m = &world->params.machine;
    const struct frame *trap = trap_of(hart);
    switch (atom) {
    case CSIM_ATOM_SSCRATCH_ZERO: return trap != 0 && trap->sscratch_zero;
    case CSIM_ATOM_INTERRUPT: return trap != 0 && trap->interrupt;
    case CSIM_ATOM_PAGE_FAULT: return page_fault(trap);
    case CSIM_ATOM_PAGE_FAULT_FETCH: return is_fault(trap, RV_CAUSE_FETCH_PAGE);
    case CSIM_ATOM_PAGE_FAULT_LOAD: return is_fault(trap, RV_CAUSE_LOAD_PAGE);
    case CSIM_ATOM_PAGE_FAULT_STORE: return is_fault(trap, RV_CAUSE_STORE_PAGE);
    case CSIM_ATOM_USER_MODE: return trap != 0 && trap->from_user;
    case CSIM_ATOM_KERNEL_ADDRESS: return trap != 0 && (int64_t)trap->va < 0;
    case CSIM_ATOM_REGION_VMALLOC:
    case CSIM_ATOM_REGION_MODULE:
    case CSIM_ATOM_REGION_VMEMMAP:
    case CSIM_ATOM_REGION_LINEAR:
    case CSIM_ATOM_REGION_PCI_IO:
        return region(world, atom, frame->handler == CSIM_EARLY_TRAP && trap ? trap->va
                                                                              : frame->va);
    case CSIM_ATOM_MARKED: return marked(world, hart, frame, op);
    case CSIM_ATOM_SVVPTC: return m->svvptc != 0;
    case CSIM_ATOM_SVINVAL: return m->svinval != 0;
    case CSIM_ATOM_ONE_HART: return one_hart(world, hart, frame);
    case CSIM_ATOM_SBI_FENCES: return m->via == CSIM_VIA_SBI;
    case CSIM_ATOM_IRQS_ON: return hart->irqs_on;
    case CSIM_ATOM_ASIDS: return world->mms.asids != 0;
    case CSIM_ATOM_ASID_ROLLOVER: return hart->asid_rollover;
    case CSIM_ATOM_RUNNING: return true;
    case CSIM_ATOM_PAGES_LE: return frame->pages != 0 && frame->pages <= op->n;
    case CSIM_ATOM_PTE_VALID_NOW:
    case CSIM_ATOM_TRANSLATES_NOW: return pte_valid_now(world, hart, frame);
    case CSIM_ATOM_COUNT: break;
    }
    assert(0);
    return false;
}

static bool condition(struct world *world, struct hart *hart, const struct frame *frame,
                      const struct csim_op *op)
{
    for (uint32_t atom = 0; atom < CSIM_ATOM_COUNT; atom++) {
        uint64_t bit = UINT64_C(1) << atom;
        if ((op->all_of & bit) != 0 && !atom_holds(world, hart, frame, op, (enum csim_atom)atom))
            return false;
        if ((op->none_of & bit) != 0 && atom_holds(world, hart, frame, op, (enum csim_atom)atom))
            return false;
    }
    return true;
}

/* In a shootdown's own handler everything is the victim's. */
static enum cause pays(const struct frame *frame, enum cause own)
{
    return world_cause(frame->origin, frame->handler == CSIM_IPI ? CAUSE_VICTIM : own);
}

/* Time passes until then, if it has not: somebody pays for it. */
static void wait_until(struct hart *hart, enum cause cause, uint64_t at_cycles)
{
    if (at_cycles > hart->now_cycles)
        world_charge(hart, cause, at_cycles - hart->now_cycles);
}

static void log_op(const struct world *world, const struct hart *hart, const struct csim_op *op)
{
    world_log(world, hart, CSIM_LOG_OP, 0, 0, (uint32_t)(op - world->ops));
}

static void stored_mark(struct hart *hart)
{
    hart->marked_at_cycles = hart->now_cycles;
    hart->stored_at_cycles = hart->now_cycles;
}

static void op_store_ptes(struct world *world, struct hart *hart, struct frame *frame,
                          const struct csim_op *op)
{
    uint32_t cycles = world->params.machine.store_cycles;
    uint32_t stores = frame->pages;
    uint64_t at = hart->now_cycles;
    if (frame->origin == ORIGIN_USER || frame->pages == 0) {
        /* user tables are made before the run; only the stores are charged */
    } else if (op->a != 0) {
        stores = pagetable_map(&world->pt, frame->va, frame->pages, frame->huge ? 1 : 0,
                               world->next_ppn, KERNEL_LEAF, hart->id, at, cycles);
        world->next_ppn += ((uint64_t)frame->pages + 511) / 512 * 512;
    } else {
        stores = pagetable_unmap(&world->pt, frame->va, frame->pages, hart->id, at, cycles);
    }
    hart->counters.pte_stores += stores;
    if (stores > 0) {
        hart->ptes_stored_at_cycles = at + (uint64_t)(stores - 1) * cycles;
        hart->stored_at_cycles = hart->ptes_stored_at_cycles;
    }
    world_charge(hart, pays(frame, CAUSE_MAP_STORE), (uint64_t)stores * cycles);
}

static void op_mark(struct world *world, struct hart *hart, struct frame *frame,
                    const struct csim_op *op)
{
    const struct csim_machine *m = &world->params.machine;
    struct mark *mark = &world->marks[op->a];
    bool own = op->b == CSIM_WHO_OWN;
    uint32_t first_n = op->b == CSIM_WHO_FIRST_N ? op->n : UINT32_MAX;
    struct mark_cost cost = mark_store(mark, hart->id, first_n, own, hart->now_cycles);
    uint64_t words = own ? 1 : mark->words;
    stored_mark(hart);
    hart->counters.marks++;
    hart->counters.mark_words += words;
    hart->counters.line_transfers += cost.transfers;
    world_charge(hart, pays(frame, CAUSE_MARK),
                 world_instructions(world, words) + words * m->store_cycles +
                     (uint64_t)cost.transfers * m->line_transfer_cycles);
}

static void op_clear_mark(struct world *world, struct hart *hart, struct frame *frame,
                          const struct csim_op *op)
{
    const struct csim_machine *m = &world->params.machine;
    enum cause pay = pays(frame, CAUSE_MARK);
    if (op->b != 0 && hart->marked_at_cycles != 0)
        wait_until(hart, pay, world_visible(world, hart->marked_at_cycles));
    else if (op->b == 0)
        stored_mark(hart);
    if (op->b != 0)
        log_op(world, hart, op);
    struct mark_cost cost = mark_clear(&world->marks[op->a], hart->id, op->b != 0, op->c,
                                       hart->now_cycles);
    hart->counters.mark_clears++;
    hart->counters.line_transfers += cost.transfers;
    uint64_t cycles = op->b != 0 ? m->amo_cycles : (uint64_t)m->load_cycles + m->store_cycles;
    world_charge(hart, pay, cycles + (uint64_t)cost.transfers * m->line_transfer_cycles);
}

/* Extent of a fence or shootdown: the op's, over the handler's. */
static uint64_t extent(const struct hart *hart, const struct frame *frame, uint8_t kind,
                       uint32_t *pages)
{
    const struct frame *trap = trap_of(hart);
    switch ((enum csim_extent)kind) {
    case CSIM_EXTENT_ALL:
        *pages = 0;
        return 0;
    case CSIM_EXTENT_PAGE:
        *pages = 1;
        if (frame->handler == CSIM_EARLY_TRAP || frame->handler == CSIM_KERNEL_FAULT)
            return trap != 0 ? trap->va : frame->va;
        return frame->va;
    case CSIM_EXTENT_RANGE:
        break;
    }
    *pages = frame->pages;
    return frame->va;
}

/* In the remote half of a shootdown the ASID is the sender's, if it named one. */
static void as_asked(const struct world *world, const struct hart *hart, struct fence_extent *e)
{
    for (uint32_t i = hart->depth; i-- > 0;) {
        if (hart->frames[i].kind != FRAME_SERVE)
            continue;
        const struct shoot *shoot = &world->shoots[hart->frames[i].index];
        e->by_asid = e->by_asid || shoot->by_asid;
        e->asid = shoot->asid;
        return;
    }
}

static void op_fence(struct world *world, struct hart *hart, struct frame *frame,
                     const struct csim_op *op)
{
    struct fence_extent e = {.threshold_pages = op->n, .by_asid = op->b != 0};
    e.asid = world_asid(world, hart);
    e.svinval = op->c != 0 && world->params.machine.svinval != 0;
    e.va = extent(hart, frame, op->a, &e.pages);
    if (frame->handler == CSIM_IPI)
        as_asked(world, hart, &e);
    uint64_t cycles = fence_execute(world, hart, e, (enum origin)frame->origin);
    world_charge(hart, pays(frame, CAUSE_LOCAL_FENCE), cycles);
}

static void op_fence_free(struct world *world, struct hart *hart, struct frame *frame,
                          const struct csim_op *op)
{
    (void)hart;
    (void)op;
    pagetable_settle(&world->pt);
    for (uint32_t id = 0; id < world->harts_nr; id++)
        mmu_forget_range(&world->harts[id].mmu, frame->va, frame->pages);
}

static void op_shootdown(struct world *world, struct hart *hart, struct frame *frame,
                         const struct csim_op *op)
{
    uint32_t pages = 0;
    uint64_t va = extent(hart, frame, op->a, &pages);
    shootdown_begin(world, hart, op, va, pages, (enum origin)frame->origin);
}

static void op_touch_stack(struct world *world, struct hart *hart, struct frame *frame,
                           const struct csim_op *op)
{
    /* switch_task runs over the next stack; any other handler over the current one */
    if (op->a == 0 || frame->pages == 0) {
        world_push_stack_store(world, hart, op->n);
        return;
    }
    uint32_t page = op->n < frame->pages ? frame->pages - 1 - op->n : 0;
    (void)world_push_access(world, hart, frame->va + ((uint64_t)page << PAGE_SHIFT), CSIM_STORE);
}

static void op_touch(struct world *world, struct hart *hart, struct frame *frame,
                     const struct csim_op *op)
{
    (void)frame;
    (void)op;
    (void)world_push_access(world, hart, hart->nested_va, CSIM_STORE);
}

/* A vmalloc inside a handler: the policy's own map_kernel over the hart's nested arena. */
static void op_allocate(struct world *world, struct hart *hart, struct frame *frame,
                        const struct csim_op *op)
{
    (void)frame;
    uint64_t va = hart->nested_va + (hart->nested_used_pages << PAGE_SHIFT);
    hart->nested_used_pages += (uint64_t)op->n + 1;
    if (hart->nested_used_pages > NESTED_PAGES) {
        world_verdict(world, hart, CSIM_STACK_OVERFLOW, va);
        return;
    }
    world_push_handler(world, hart, CSIM_MAP_KERNEL, va, op->n, ORIGIN_MAP);
    hart->irqs_on = false;
}

static bool names(const struct world *world, const struct hart *hart, uint8_t who, uint32_t id)
{
    if (who == CSIM_WHO_OTHERS)
        return id != hart->id && world->online[id] != 0;
    if (who == CSIM_WHO_ALL || who == CSIM_WHO_ONLINE)
        return world->online[id] != 0;
    if (who == CSIM_WHO_MM_MASK)
        return mm_ran_on(&world->mms, hart->mm, id);
    return id == hart->id;
}

static void op_defer(struct world *world, struct hart *hart, struct frame *frame,
                     const struct csim_op *op)
{
    uint64_t stores = 0;
    for (uint32_t id = 0; id < world->harts_nr; id++) {
        if (!names(world, hart, op->b, id))
            continue;
        world->harts[id].deferred = true;
        stores++;
    }
    world_charge(hart, pays(frame, CAUSE_MARK), stores * world->params.machine.store_cycles);
}

static void op_flush_deferred(struct world *world, struct hart *hart, struct frame *frame,
                              const struct csim_op *op)
{
    (void)world;
    (void)op;
    if (!hart->deferred)
        return;
    hart->deferred = false;
    struct fence_extent everything = {0};
    world_charge(hart, pays(frame, CAUSE_LOCAL_FENCE),
                 fence_execute(world, hart, everything, (enum origin)frame->origin));
}

static void op_store_barrier(struct world *world, struct hart *hart, struct frame *frame,
                             const struct csim_op *op)
{
    const struct csim_machine *m = &world->params.machine;
    enum cause cause = pays(frame, CAUSE_MAP_STORE);
    world_charge(hart, cause, m->barrier_cycles);
    if (op->a == CSIM_BARRIER_W_W)                  /* stores drain in order anyway */
        return;
    wait_until(hart, cause, world_drained(world, hart));
    log_op(world, hart, op);
}

static void op_sync_context(struct world *world, struct hart *hart, struct frame *frame,
                            const struct csim_op *op)
{
    const struct csim_machine *m = &world->params.machine;
    enum cause cause = pays(frame, CAUSE_MAP_STORE);
    wait_until(hart, cause, world_drained(world, hart));
    log_op(world, hart, op);
    world_charge(hart, cause, (uint64_t)m->barrier_cycles + m->fence_pipe_cycles);
}

static void op_publish(struct world *world, struct hart *hart, struct frame *frame,
                       const struct csim_op *op)
{
    (void)frame;
    (void)op;
    gate_publish(world, hart);
}

static void op_ack(struct world *world, struct hart *hart, struct frame *frame,
                   const struct csim_op *op)
{
    (void)frame;
    (void)op;
    for (uint32_t i = hart->depth; i-- > 0;) {
        if (hart->frames[i].kind != FRAME_SERVE)
            continue;
        shootdown_ack(world, hart, &hart->frames[i]);
        return;
    }
}

static void op_when(struct world *world, struct hart *hart, struct frame *frame,
                    const struct csim_op *op)
{
    if (!condition(world, hart, frame, op))
        frame->pc += op->skip;
}

static void op_jump(struct world *world, struct hart *hart, struct frame *frame,
                    const struct csim_op *op)
{
    (void)world;
    (void)hart;
    frame->pc += op->skip;
}

static void op_sync_root(struct world *world, struct hart *hart, struct frame *frame,
                         const struct csim_op *op)
{
    (void)op;
    world_charge(hart, pays(frame, CAUSE_MAP_STORE), world->params.machine.store_cycles);
}

static void op_spend(struct world *world, struct hart *hart, struct frame *frame,
                     const struct csim_op *op)
{
    const struct csim_machine *m = &world->params.machine;
    uint64_t times = op->c != 0 ? frame->pages : 1;
    uint64_t cycles = world_instructions(world, times * op->n);
    cycles += times * ((uint64_t)op->a * m->load_cycles + (uint64_t)op->b * m->store_cycles);
    world_charge(hart, pays(frame, CAUSE_MAP_STORE), cycles);
}

/* END, RETRY, FALL_THROUGH, FAIL: the handler is over, the trap learns how. One that just ends has
 * decided nothing, whatever a trap inside it has. */
static void op_leave(struct world *world, struct hart *hart, struct frame *frame,
                     const struct csim_op *op)
{
    (void)world;
    if (op->kind == CSIM_OP_RETRY)
        hart->trap_result = TRAP_RETRY;
    else if (op->kind == CSIM_OP_FALL_THROUGH || frame->handler == CSIM_EARLY_TRAP)
        hart->trap_result = TRAP_FALL_THROUGH;
    else if (op->kind == CSIM_OP_FAIL || frame->handler == CSIM_KERNEL_FAULT)
        hart->trap_result = TRAP_FAIL;
    world_pop(hart);
}

static op_function *const functions[CSIM_OP_KINDS] = {
    [CSIM_OP_END] = op_leave,
    [CSIM_OP_STORE_PTES] = op_store_ptes,
    [CSIM_OP_STORE_BARRIER] = op_store_barrier,
    [CSIM_OP_SYNC_CONTEXT] = op_sync_context,
    [CSIM_OP_PUBLISH] = op_publish,
    [CSIM_OP_MARK] = op_mark,
    [CSIM_OP_CLEAR_MARK] = op_clear_mark,
    [CSIM_OP_FENCE] = op_fence,
    [CSIM_OP_FENCE_FREE] = op_fence_free,
    [CSIM_OP_SHOOTDOWN] = op_shootdown,
    [CSIM_OP_ACK] = op_ack,
    [CSIM_OP_DEFER] = op_defer,
    [CSIM_OP_FLUSH_DEFERRED] = op_flush_deferred,
    [CSIM_OP_WHEN] = op_when,
    [CSIM_OP_JUMP] = op_jump,
    [CSIM_OP_TOUCH_STACK] = op_touch_stack,
    [CSIM_OP_TOUCH] = op_touch,
    [CSIM_OP_ALLOCATE] = op_allocate,
    [CSIM_OP_SYNC_ROOT] = op_sync_root,
    [CSIM_OP_SPEND] = op_spend,
    [CSIM_OP_RETRY] = op_leave,
    [CSIM_OP_FALL_THROUGH] = op_leave,
    [CSIM_OP_FAIL] = op_leave,
};

/* These are logged when they have waited. */
static bool waits_for_stores(const struct csim_op *op)
{
    return op->kind == CSIM_OP_SYNC_CONTEXT ||
           (op->kind == CSIM_OP_STORE_BARRIER && op->a != CSIM_BARRIER_W_W) ||
           (op->kind == CSIM_OP_CLEAR_MARK && op->b != 0);
}

void handler_step(struct world *world, struct hart *hart, struct frame *frame)
{
    const struct csim_op *op = &world->ops[frame->pc++];
    if (!waits_for_stores(op))
        log_op(world, hart, op);
    assert(op->kind < CSIM_OP_KINDS && functions[op->kind] != 0);
    functions[op->kind](world, hart, frame, op);
}
