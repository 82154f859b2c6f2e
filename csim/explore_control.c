/* explore_control.c: the control of one hart: its script, its frames, the ops nobody else can see.
 *
 * A state never rests on an invisible move: spend, jumps, conditions over static atoms, the entry
 * and the end of handlers. They run here, at once, after the step before them. They depend on
 * nothing but the hart's own control and only go forward, so they always end, and the same way.
 *
 * A frame's `phase` says which part of its life it is in; `at` is the op inside a handler, `sub`
 * the position inside an op or phase of several steps. What a phase does not use is zero, so that
 * equal futures are equal states.
 */
#include "explore_control.h"

#include <assert.h>
#include <string.h>

#include "explore_memory.h"

#define ATOM(name) (UINT64_C(1) << CSIM_ATOM_##name)

uint64_t explore_control_dynamic(const struct csim_op *op)
{
    return (op->all_of | op->none_of) & (ATOM(MARKED) | ATOM(PTE_VALID_NOW) | ATOM(TRANSLATES_NOW));
}

void explore_control_next_action(const struct explore_model *m, struct explore_state *s, uint32_t h)
{
    struct explore_hart *hart = &s->hart[h];
    hart->at++;
    if (m->q.chaos != UINT32_MAX && hart->at == m->q.actions_nr[h])
        hart->at = 0; /* scripts run for ever */
    hart->sub = 0;
    hart->faults = 0;
}

/* ---- frames ---------------------------------------------------------------------------------- */

static bool is_trap(const struct explore_frame *f)
{
    return f->kind != EXPLORE_CALL && f->kind != EXPLORE_NESTED;
}

uint32_t explore_control_nested(const struct explore_hart *hart)
{
    uint32_t nested = 0;
    for (uint32_t i = 0; i < hart->frames_nr; i++)
        nested += hart->frames[i].kind != EXPLORE_CALL;
    return nested;
}

static struct explore_frame *push(struct explore_hart *hart, enum explore_frame_kind kind,
                                  uint32_t at, uint32_t extent)
{
    assert(hart->frames_nr < EXPLORE_FRAMES);
    struct explore_frame *f = &hart->frames[hart->frames_nr++];
    *f = (struct explore_frame){0};
    f->kind = (uint8_t)kind;
    f->phase = CSIM_EXPLORE_AT_OPS;
    f->at = (uint16_t)at;
    f->extent = (uint8_t)extent;
    return f;
}

void explore_control_push_trap(const struct explore_model *m, struct explore_hart *hart,
                               enum explore_frame_kind kind, bool user, uint32_t extent)
{
    bool handled = m->program.handler_nr[CSIM_EARLY_TRAP] != 0;
    uint32_t at = handled ? m->program.handler_at[CSIM_EARLY_TRAP] : 0;
    struct explore_frame *f = push(hart, kind, at, extent);
    f->phase = handled ? CSIM_EXPLORE_AT_EARLY : CSIM_EXPLORE_AT_SAVE;
    f->flags = user ? EXPLORE_USER_MODE : 0;
}

void explore_control_push_nested(const struct explore_model *m, struct explore_state *s, uint32_t h)
{
    if (m->program.handler_nr[CSIM_MAP_KERNEL] != 0)
        push(&s->hart[h], EXPLORE_NESTED, m->program.handler_at[CSIM_MAP_KERNEL],
             (m->q.object + h) | 1u << 4);
}

/* A switch between tasks that are nobody's here: the stack is not one of the scenario's. */
void explore_control_push_switch(const struct explore_model *m, struct explore_hart *hart)
{
    struct explore_frame *f = push(hart, EXPLORE_CALL, m->program.handler_at[CSIM_SWITCH_TASK],
                                   (m->q.pages - 1) | 1u << 4);
    f->flags = EXPLORE_MASKED | EXPLORE_ELSEWHERE;
}

void explore_control_pop(const struct explore_model *m, struct explore_state *s, uint32_t h)
{
    struct explore_hart *hart = &s->hart[h];
    struct explore_frame *f = explore_state_top(hart);
    hart->frames_nr--;
    if (f->kind != EXPLORE_CALL || (f->flags & EXPLORE_ELSEWHERE) != 0)
        return;
    if (explore_control_action(m, s, h)->kind == CSIM_EXPLORE_SWITCH)
        hart->sub = 1;
    else
        explore_control_next_action(m, s, h);
}

bool explore_control_interrupts_on(const struct explore_model *m, const struct explore_state *s,
                                   uint32_t h)
{
    const struct explore_hart *hart = &s->hart[h];
    for (uint32_t i = 0; i < hart->frames_nr; i++) {
        const struct explore_frame *f = &hart->frames[i];
        if (f->kind != EXPLORE_CALL || (f->flags & EXPLORE_MASKED) != 0)
            return false;
    }
    const struct csim_explore_action *action = explore_control_action(m, s, h);
    return action == NULL || action->kind != CSIM_EXPLORE_USER || hart->sub == 0;
}

/* A phase without ops begins. */
static void enter(struct explore_frame *f, enum csim_explore_phase phase)
{
    f->phase = (uint8_t)phase;
    f->at = 0;
    f->sub = 0;
    f->faults = 0;
    f->flags &= (uint8_t) ~(EXPLORE_CLEARED | EXPLORE_KNOWS_WORD);
    memset(f->regs, 0, sizeof f->regs);
}

static void begin_return(struct explore_frame *f)
{
    bool user = (f->flags & EXPLORE_USER_MODE) != 0;
    enter(f, user ? CSIM_EXPLORE_AT_USER_CSRW : CSIM_EXPLORE_AT_RETURN);
}

/* The C half of a trap is over. */
static void end_c(struct explore_frame *f)
{
    if (f->kind == EXPLORE_FAULT)
        enter(f, CSIM_EXPLORE_AT_FAIL);
    else if ((f->flags & EXPLORE_ACKED) == 0)
        enter(f, CSIM_EXPLORE_AT_ACK);
    else
        begin_return(f);
}

static void begin_c(const struct explore_model *m, struct explore_frame *f)
{
    uint32_t handler = f->kind == EXPLORE_FAULT ? CSIM_KERNEL_FAULT : CSIM_IPI;
    if (m->program.handler_nr[handler] == 0) {
        end_c(f);
        return;
    }
    enter(f, CSIM_EXPLORE_AT_OPS);
    f->at = (uint16_t)m->program.handler_at[handler];
}

/* The frame is stored: sscratch becomes 0. */
static void saved(const struct explore_model *m, struct explore_state *s, uint32_t h)
{
    struct explore_frame *f = explore_state_top(&s->hart[h]);
    explore_memory_serialise(m, s, h);
    switch ((enum explore_frame_kind)f->kind) {
    case EXPLORE_FAULT:
        if (s->hart[h].trace != 0)
            enter(f, CSIM_EXPLORE_AT_TRACE);
        else
            begin_c(m, f);
        break;
    case EXPLORE_IPI:
        if (m->q.ipi_allocates != 0)
            enter(f, CSIM_EXPLORE_AT_ALLOCATE);
        else
            begin_c(m, f);
        break;
    case EXPLORE_INTERRUPTED:
        begin_return(f);
        break;
    case EXPLORE_FROM_USER:
        explore_control_pop(m, s, h);
        break;
    case EXPLORE_CALL:
    case EXPLORE_NESTED:
        assert(0 && "only traps save a frame");
    }
}

static uint32_t saved_pages(const struct explore_model *m, const struct explore_hart *hart)
{
    return (hart->flags & EXPLORE_NEW_STACK) != 0 ? m->q.frame_pages : 0;
}

static void completed_in_script(const struct explore_model *m, struct explore_state *s, uint32_t h)
{
    struct explore_hart *hart = &s->hart[h];
    uint32_t kind = explore_control_action(m, s, h)->kind;
    hart->faults = 0;
    if (kind == CSIM_EXPLORE_USER && hart->sub <= saved_pages(m, hart))
        hart->sub++;
    else if (kind != CSIM_EXPLORE_USES)
        explore_control_next_action(m, s, h);
}

void explore_control_completed(const struct explore_model *m, struct explore_state *s, uint32_t h)
{
    struct explore_hart *hart = &s->hart[h];
    struct explore_frame *f = explore_state_top(hart);
    if (f == NULL) {
        completed_in_script(m, s, h);
        return;
    }
    f->faults = 0;
    f->sub++;
    switch ((enum csim_explore_phase)f->phase) {
    case CSIM_EXPLORE_AT_OPS:
    case CSIM_EXPLORE_AT_EARLY:
        explore_control_next_op(f);
        break;
    case CSIM_EXPLORE_AT_SAVE:
        if (f->sub >= saved_pages(m, hart))
            saved(m, s, h);
        break;
    case CSIM_EXPLORE_AT_TRACE:
    case CSIM_EXPLORE_AT_TOUCH:
        begin_c(m, f);
        break;
    case CSIM_EXPLORE_AT_ALLOCATE:
        enter(f, CSIM_EXPLORE_AT_TOUCH);
        break;
    case CSIM_EXPLORE_AT_ACK:
        f->flags |= EXPLORE_ACKED;
        begin_return(f);
        break;
    case CSIM_EXPLORE_AT_USER_CSRW:
        enter(f, saved_pages(m, hart) > 0 ? CSIM_EXPLORE_AT_USER_LOAD : CSIM_EXPLORE_AT_USER_SRET);
        break;
    case CSIM_EXPLORE_AT_USER_LOAD:
        if (f->sub >= saved_pages(m, hart))
            enter(f, CSIM_EXPLORE_AT_USER_SRET);
        break;
    case CSIM_EXPLORE_AT_PUBLISH:
    case CSIM_EXPLORE_AT_RETURN:
    case CSIM_EXPLORE_AT_USER_SRET:
        explore_control_pop(m, s, h);
        break;
    case CSIM_EXPLORE_AT_DONE:
    case CSIM_EXPLORE_AT_SCRIPT:
    case CSIM_EXPLORE_AT_FAIL:
    case CSIM_EXPLORE_PHASES_NR:
        assert(0 && "nothing completes there");
    }
}

/* ---- conditions ------------------------------------------------------------------------------ */

static uint64_t true_atoms(const struct explore_model *m, const struct explore_state *s, uint32_t h,
                           const struct explore_frame *f)
{
    uint64_t atoms = m->atoms;
    bool user = (f->flags & EXPLORE_USER_MODE) != 0;
    atoms |= user ? ATOM(USER_MODE) : ATOM(SSCRATCH_ZERO);
    if (f->kind == EXPLORE_IPI || f->kind == EXPLORE_INTERRUPTED)
        atoms |= ATOM(INTERRUPT);
    if (f->kind == EXPLORE_FAULT) {
        bool store = (f->flags & EXPLORE_BY_STORE) != 0, fetch = (f->flags & EXPLORE_BY_FETCH) != 0;
        atoms |= ATOM(PAGE_FAULT) | (store   ? ATOM(PAGE_FAULT_STORE)
                                     : fetch ? ATOM(PAGE_FAULT_FETCH)
                                             : ATOM(PAGE_FAULT_LOAD));
    }
    if (f->kind == EXPLORE_FAULT || !is_trap(f))
        atoms |= ATOM(KERNEL_ADDRESS);
    if (explore_state_pages(f) != 0)
        atoms |= m->region_atom;
    if (explore_control_interrupts_on(m, s, h))
        atoms |= ATOM(IRQS_ON);
    return atoms;
}

static bool static_part_holds(const struct explore_model *m, const struct explore_state *s,
                              uint32_t h, const struct explore_frame *f, const struct csim_op *op)
{
    uint64_t atoms = true_atoms(m, s, h, f);
    if (((op->all_of | op->none_of) & ATOM(PAGES_LE)) != 0 && explore_state_has_pages(f) &&
        explore_state_pages(f) <= op->n)
        atoms |= ATOM(PAGES_LE);
    uint64_t dynamic = explore_control_dynamic(op);
    return (op->all_of & ~dynamic & ~atoms) == 0 && (op->none_of & ~dynamic & atoms) == 0;
}

/* ---- ops ------------------------------------------------------------------------------------- */

uint32_t explore_control_targets(const struct explore_model *m, uint32_t who, uint32_t h)
{
    if (who == CSIM_WHO_OWN || who == CSIM_WHO_MM_MASK || who == CSIM_WHO_RUNNING)
        return 1u << h;     /* nobody promises that another hart has run this address space */
    return who == CSIM_WHO_OTHERS ? m->all & ~(1u << h) : m->all;
}

uint32_t explore_control_via(const struct explore_model *m, const struct csim_op *op)
{
    return op->c == CSIM_VIA_MACHINE ? m->q.via : op->c;
}

/* The page that touch_stack stores to; false: it does not. */
static bool stack_page(const struct explore_model *m, const struct explore_hart *hart,
                       const struct csim_op *op, uint32_t *page)
{
    bool there = op->a == 1 || (hart->flags & EXPLORE_NEW_STACK) != 0;
    *page = m->q.stack_first + op->n;
    return there && op->n < m->q.stack_pages;
}

static bool publishes(const struct explore_model *m, const struct explore_state *s, uint32_t h,
                      const struct explore_frame *f)
{
    return f->kind == EXPLORE_CALL && (f->flags & (EXPLORE_PUBLISHED | EXPLORE_ELSEWHERE)) == 0 &&
           explore_control_action(m, s, h)->kind == CSIM_EXPLORE_MAP;
}

/* The end of the ops of a handler. */
static void leave(const struct explore_model *m, struct explore_state *s, uint32_t h,
                  struct explore_frame *f)
{
    if (f->phase == CSIM_EXPLORE_AT_EARLY)
        enter(f, CSIM_EXPLORE_AT_SAVE);
    else if (is_trap(f))
        end_c(f);
    else if (publishes(m, s, h, f))
        enter(f, CSIM_EXPLORE_AT_PUBLISH);
    else
        explore_control_pop(m, s, h);
}

/* Whether the hart rests at a shootdown; else it is moved on inside the op. */
static bool rests_at_shootdown(const struct explore_model *m, uint32_t h, struct explore_frame *f,
                               const struct csim_op *op)
{
    uint32_t targets = explore_control_targets(m, op->b, h);
    bool sends = (targets & ~(1u << h)) != 0;
    if (f->sub == EXPLORE_SEND && !sends)
        f->sub = EXPLORE_OWN_HALF;
    if (f->sub == EXPLORE_OWN_HALF && (targets >> h & 1) == 0)
        f->sub = EXPLORE_WAIT;
    return f->sub != EXPLORE_WAIT || sends;
}

/* Whether the hart rests at the op of its top frame: it is a step. */
static bool rests_at(const struct explore_model *m, const struct explore_state *s, uint32_t h,
                     struct explore_frame *f, const struct csim_op *op)
{
    uint32_t page;
    switch ((enum csim_op_kind)op->kind) {
    case CSIM_OP_STORE_PTES:
        return explore_state_has_pages(f) && f->sub < explore_state_pages(f);
    case CSIM_OP_PUBLISH:
        return publishes(m, s, h, f);
    case CSIM_OP_SHOOTDOWN:
        return rests_at_shootdown(m, h, f, op);
    case CSIM_OP_ACK:
        return f->kind == EXPLORE_IPI && (f->flags & EXPLORE_ACKED) == 0;
    case CSIM_OP_TOUCH_STACK:
        if (op->a == 1 && (f->flags & EXPLORE_ELSEWHERE) != 0)
            return false;
        return stack_page(m, &s->hart[h], op, &page);
    case CSIM_OP_STORE_BARRIER:
    case CSIM_OP_SYNC_CONTEXT:
    case CSIM_OP_MARK:
    case CSIM_OP_CLEAR_MARK:
    case CSIM_OP_FENCE:
    case CSIM_OP_FENCE_FREE:
    case CSIM_OP_DEFER:
    case CSIM_OP_FLUSH_DEFERRED:
    case CSIM_OP_TOUCH:
    case CSIM_OP_ALLOCATE:
        return true;
    case CSIM_OP_RETRY:
        return f->phase == CSIM_EXPLORE_AT_EARLY || f->kind == EXPLORE_FAULT;
    case CSIM_OP_WHEN:
        return explore_control_dynamic(op) != 0 && static_part_holds(m, s, h, f, op);
    case CSIM_OP_END:
    case CSIM_OP_JUMP:
    case CSIM_OP_SYNC_ROOT:
    case CSIM_OP_SPEND:
    case CSIM_OP_FALL_THROUGH:
    case CSIM_OP_FAIL:
        return false;
    case CSIM_OP_KINDS:
        break;
    }
    assert(0 && "csim_check_program let an unknown op pass");
    return false;
}

/* One invisible move of the top frame; false: it rests. */
static bool move_op(const struct explore_model *m, struct explore_state *s, uint32_t h,
                    struct explore_frame *f)
{
    const struct csim_op *op = explore_control_op(m, f);
    if (rests_at(m, s, h, f, op))
        return false;
    if (op->kind == CSIM_OP_END || op->kind == CSIM_OP_FALL_THROUGH || op->kind == CSIM_OP_RETRY) {
        leave(m, s, h, f);
    } else if (op->kind == CSIM_OP_FAIL) {
        enter(f, CSIM_EXPLORE_AT_FAIL);
    } else {
        bool skips = op->kind == CSIM_OP_JUMP ||
                     (op->kind == CSIM_OP_WHEN && !static_part_holds(m, s, h, f, op));
        f->at = (uint16_t)(f->at + (skips ? op->skip : 0));
        explore_control_next_op(f);
    }
    return true;
}

/* ---- the script ------------------------------------------------------------------------------ */

static uint32_t handler_of(const struct csim_explore_action *action)
{
    switch ((enum csim_explore_action_kind)action->kind) {
    case CSIM_EXPLORE_MAP:
        return CSIM_MAP_KERNEL;
    case CSIM_EXPLORE_UNMAP:
        return CSIM_UNMAP_KERNEL;
    case CSIM_EXPLORE_PURGE:
        return CSIM_PURGE_KERNEL;
    case CSIM_EXPLORE_FLUSH:
        return CSIM_FLUSH_KERNEL;
    case CSIM_EXPLORE_SWITCH:
        return CSIM_SWITCH_TASK;
    case CSIM_EXPLORE_WAIT:
    case CSIM_EXPLORE_ACCESS:
    case CSIM_EXPLORE_PROBE:
    case CSIM_EXPLORE_INTERRUPT:
    case CSIM_EXPLORE_USER:
    case CSIM_EXPLORE_TRAP:
    case CSIM_EXPLORE_SIGNAL:
    case CSIM_EXPLORE_AWAIT:
    case CSIM_EXPLORE_TRACE:
    case CSIM_EXPLORE_USES:
    case CSIM_EXPLORE_LEAVE:
    case CSIM_EXPLORE_ACTION_KINDS:
        break;
    }
    return CSIM_HANDLERS;
}

static void call(const struct explore_model *m, struct explore_state *s, uint32_t h,
                 const struct csim_explore_action *action, uint32_t handler)
{
    bool switches = handler == CSIM_SWITCH_TASK;
    uint32_t first = switches ? m->q.stack_first : action->first;
    uint32_t pages = switches ? m->q.stack_pages : action->pages;
    struct explore_frame *f =
        push(&s->hart[h], EXPLORE_CALL, m->program.handler_at[handler], first | pages << 4);
    f->flags = switches || action->masked != 0 ? EXPLORE_MASKED : 0;
}

/* One invisible move of the script; false: it rests. */
static bool move_script(const struct explore_model *m, struct explore_state *s, uint32_t h)
{
    const struct csim_explore_action *action = explore_control_action(m, s, h);
    struct explore_hart *hart = &s->hart[h];
    if (action == NULL)
        return false;
    if (action->kind == CSIM_EXPLORE_TRACE) {
        hart->trace = action->first + 1u;
        explore_control_next_action(m, s, h);
        return true;
    }
    uint32_t handler = handler_of(action);
    if (handler == CSIM_HANDLERS || (handler == CSIM_SWITCH_TASK && hart->sub != 0))
        return false;
    if (m->program.handler_nr[handler] != 0) {
        call(m, s, h, action, handler);
        return true;
    }
    if (handler == CSIM_MAP_KERNEL)
        return false;
    if (handler == CSIM_SWITCH_TASK)
        hart->sub = 1;
    else
        explore_control_next_action(m, s, h);
    return true;
}

/* Words that no plain clear will store back are forgotten. */
static void drop_dead_words(const struct explore_model *m, struct explore_frame *f)
{
    uint32_t live = 0;
    for (uint32_t mark = 0; mark < CSIM_MARKS_MAX; mark++) {
        if ((m->clears_later[f->at] >> mark & 1) == 0)
            f->regs[mark] = 0;
        live |= f->regs[mark];
    }
    if (live == 0)
        f->flags &= (uint8_t)~EXPLORE_KNOWS_WORD;
}

void explore_control_settle(const struct explore_model *m, struct explore_state *s, uint32_t h)
{
    for (;;) {
        struct explore_frame *f = explore_state_top(&s->hart[h]);
        if (f == NULL) {
            if (!move_script(m, s, h))
                return;
            continue;
        }
        bool runs_ops = f->phase == CSIM_EXPLORE_AT_OPS || f->phase == CSIM_EXPLORE_AT_EARLY;
        if (runs_ops && move_op(m, s, h, f))
            continue;
        if ((f->flags & EXPLORE_KNOWS_WORD) != 0)
            drop_dead_words(m, f);
        if (runs_ops && explore_control_op(m, f)->kind == CSIM_OP_RETRY)
            f->flags &= (uint8_t)~EXPLORE_CLEARED;
        return;
    }
}

/* ---- where it rests -------------------------------------------------------------------------- */

static void rest_in_script(const struct explore_model *m, const struct explore_state *s, uint32_t h,
                           struct explore_rest *rest)
{
    const struct csim_explore_action *action = explore_control_action(m, s, h);
    const struct explore_hart *hart = &s->hart[h];
    rest->phase = action == NULL ? CSIM_EXPLORE_AT_DONE : CSIM_EXPLORE_AT_SCRIPT;
    if (action == NULL)
        return;
    if (action->kind == CSIM_EXPLORE_ACCESS || action->kind == CSIM_EXPLORE_PROBE ||
        action->kind == CSIM_EXPLORE_USES) {
        rest->access = true;
        rest->page = action->first;
        rest->expected = action->frame;
    } else if (action->kind == CSIM_EXPLORE_USER && hart->sub > 0 &&
               hart->sub <= saved_pages(m, hart)) {
        rest->access = rest->window = true;
        rest->page = (uint8_t)(m->q.stack_first + hart->sub - 1);
        rest->expected = (uint8_t)explore_state_stack_frame(hart);
    }
}

/* The frame that a touched stack page is expected in: the next stack's is what the switch says. */
static uint32_t stack_frame(const struct explore_model *m, const struct explore_state *s,
                            uint32_t h, const struct csim_op *op)
{
    const struct csim_explore_action *action = explore_control_action(m, s, h);
    if (op->a == 0)
        return explore_state_stack_frame(&s->hart[h]);
    return action != NULL && action->kind == CSIM_EXPLORE_SWITCH ? action->frame : 1;
}

static void rest_in_frame(const struct explore_model *m, const struct explore_state *s, uint32_t h,
                          const struct explore_frame *f, struct explore_rest *rest)
{
    const struct explore_hart *hart = &s->hart[h];
    uint32_t page = 0;
    rest->phase = f->phase;
    if (f->phase == CSIM_EXPLORE_AT_SAVE || f->phase == CSIM_EXPLORE_AT_USER_LOAD) {
        rest->access = saved_pages(m, hart) > 0;
        rest->store = f->phase == CSIM_EXPLORE_AT_SAVE;
        rest->window = true;
        rest->expected = (uint8_t)explore_state_stack_frame(hart);
        page = m->q.stack_first + f->sub;
    } else if (f->phase == CSIM_EXPLORE_AT_TRACE) {
        rest->access = rest->store = true;
        page = hart->trace - 1;
    } else if (f->phase == CSIM_EXPLORE_AT_TOUCH) {
        rest->access = rest->store = true;
        page = m->q.object + h;
    } else if (f->phase == CSIM_EXPLORE_AT_OPS || f->phase == CSIM_EXPLORE_AT_EARLY) {
        const struct csim_op *op = explore_control_op(m, f);
        rest->window = f->phase == CSIM_EXPLORE_AT_EARLY;
        rest->store = rest->access = op->kind == CSIM_OP_TOUCH || op->kind == CSIM_OP_TOUCH_STACK;
        if (op->kind == CSIM_OP_TOUCH)
            page = m->q.object + h;
        if (op->kind == CSIM_OP_TOUCH_STACK && stack_page(m, hart, op, &page))
            rest->expected = (uint8_t)stack_frame(m, s, h, op);
    }
    rest->page = (uint8_t)page;
}

void explore_control_rest(const struct explore_model *m, const struct explore_state *s, uint32_t h,
                          struct explore_rest *rest)
{
    const struct explore_frame *f = explore_state_top_of(&s->hart[h]);
    *rest = (struct explore_rest){.expected = 1};
    if (f == NULL)
        rest_in_script(m, s, h, rest);
    else
        rest_in_frame(m, s, h, f, rest);
}
