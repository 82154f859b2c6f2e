/* explore_step.c: one transition of the abstract machine; docs/abstract-machine.md.
 *
 * A hart moves in one of these ways: it takes the step it rests at; it takes one of the answers its
 * walker may give to the access it rests at; one of its buffered stores reaches memory; it takes an
 * IPI; firmware or hardware fences it; an entry of its single-entry TLB is filled or evicted. Each
 * is atomic, and the invisible moves that follow belong to it.
 *
 * Left out: everything docs/abstract-machine.md leaves out (its section 8).
 */
#include "explore_step.h"

#include <assert.h>
#include <string.h>

#include "explore_chaos.h"
#include "explore_memory.h"

void explore_step_start(const struct explore_model *m, struct explore_state *s)
{
    memset(s, 0, sizeof *s);
    for (uint32_t h = 0; h < m->q.harts; h++) {
        struct explore_hart *hart = &s->hart[h];
        hart->flags = m->single ? 0 : EXPLORE_TABLE_INVALID;
        for (uint32_t p = 0; p < m->q.pages && !m->single; p++) {
            if (!explore_state_is_below(m, p))
                hart->answers |= UINT64_C(1) << (4 * p);
        }
    }
    for (uint32_t h = 0; h < m->q.harts; h++)
        explore_control_settle(m, s, h);
}

bool explore_step_finished(const struct explore_model *m, const struct explore_state *s)
{
    for (uint32_t h = 0; h < m->q.harts; h++) {
        if (s->hart[h].frames_nr != 0 || s->hart[h].at < m->q.actions_nr[h])
            return false;
    }
    return true;
}

/* ---- requests: kept in the frame that sent them ---------------------------------------------- */

/* What a request covers, coded as an extent: EXPLORE_EVERYTHING pages, or a first page and more. */
static uint32_t requested(const struct explore_frame *f, const struct csim_op *op)
{
    if (op->a == CSIM_EXTENT_ALL || !explore_state_has_pages(f))
        return EXPLORE_EVERYTHING << 4;
    return op->a == CSIM_EXTENT_PAGE ? explore_state_first(f) | 1u << 4 : f->extent;
}

/* Fences an extent of h at once: a limit of pages above which everything goes. */
static void fence_extent(const struct explore_model *m, struct explore_state *s, uint32_t h,
                         uint32_t extent, uint32_t limit)
{
    uint32_t first = extent & 15, pages = extent >> 4;
    if (pages == EXPLORE_EVERYTHING || pages > limit) {
        explore_memory_fence_all(m, s, h);
        return;
    }
    for (uint32_t p = first; p < first + pages; p++)
        explore_memory_fence_page(m, s, h, p);
}

static void firmware(const struct explore_model *m, struct explore_state *s, uint32_t h,
                     struct explore_frame *f)
{
    const struct csim_op *op = explore_control_op(m, f);
    bool sbi = explore_control_via(m, op) == CSIM_VIA_SBI;
    f->untaken &= (uint8_t) ~(1u << h);
    if (op->d == 0)
        fence_extent(m, s, h, requested(f, op), sbi ? m->q.sbi_limit_pages : EXPLORE_PAGES);
    explore_memory_serialise(m, s, h);
}

static void take(const struct explore_model *m, struct explore_state *s, uint32_t h,
                 uint32_t sender, uint32_t level)
{
    struct explore_frame *f = &s->hart[sender].frames[level - 1];
    struct explore_hart *hart = &s->hart[h];
    uint32_t extent = requested(f, explore_control_op(m, f));
    f->untaken &= (uint8_t) ~(1u << h);
    f->taken |= (uint8_t)(1u << h);
    explore_control_push_trap(m, hart, EXPLORE_IPI, (hart->flags & EXPLORE_USER) != 0, extent);
    explore_state_top(hart)->from = (uint8_t)(sender | level << 4);
    explore_memory_serialise(m, s, h);
}

static void acknowledge(struct explore_state *s, uint32_t h, struct explore_frame *f)
{
    uint32_t sender = f->from & 15, level = f->from >> 4;
    s->hart[sender].frames[level - 1].taken &= (uint8_t) ~(1u << h);
    f->flags |= EXPLORE_ACKED;
    f->from = 0;
}

static uint32_t request_labels(const struct explore_model *m, const struct explore_state *s,
                               uint32_t h, uint16_t *labels)
{
    uint32_t nr = 0;
    bool on = explore_control_interrupts_on(m, s, h);
    for (uint32_t g = 0; g < m->q.harts; g++) {
        for (uint32_t level = 1; level <= s->hart[g].frames_nr; level++) {
            const struct explore_frame *f = &s->hart[g].frames[level - 1];
            if ((f->untaken >> h & 1) == 0)
                continue;
            bool imsic = explore_control_via(m, explore_control_op(m, f)) == CSIM_VIA_IMSIC;
            if (imsic && !on)
                continue;
            uint32_t kind = imsic ? CSIM_EXPLORE_TAKE : CSIM_EXPLORE_FIRMWARE;
            labels[nr++] = explore_label_make(h, kind, g | level << 4);
        }
    }
    return nr;
}

/* ---- which transitions there are ------------------------------------------------------------- */

static bool op_enabled(const struct explore_model *m, const struct explore_state *s, uint32_t h,
                       const struct explore_frame *f)
{
    const struct csim_op *op = explore_control_op(m, f);
    const struct explore_hart *hart = &s->hart[h];
    if (op->kind == CSIM_OP_STORE_BARRIER && op->a == CSIM_BARRIER_W_W)
        return true;
    if (op->kind == CSIM_OP_STORE_BARRIER || op->kind == CSIM_OP_SYNC_CONTEXT)
        return hart->stores_nr == 0;
    if (op->kind == CSIM_OP_SHOOTDOWN && f->sub == EXPLORE_WAIT)
        return (f->untaken | f->taken) == 0;
    if (op->kind != CSIM_OP_CLEAR_MARK || op->b == 0)
        return true;
    for (uint32_t i = 0; i < hart->stores_nr; i++) {
        if (m->q.order != CSIM_EXPLORE_PSO || hart->stores[i].place == EXPLORE_AT_MARK + op->a)
            return false;
    }
    return true;
}

static bool step_enabled(const struct explore_model *m, const struct explore_state *s, uint32_t h,
                         const struct explore_rest *rest)
{
    if (rest->phase == CSIM_EXPLORE_AT_DONE)
        return false;
    if (rest->phase == CSIM_EXPLORE_AT_OPS || rest->phase == CSIM_EXPLORE_AT_EARLY)
        return op_enabled(m, s, h, explore_state_top_of(&s->hart[h]));
    if (rest->phase != CSIM_EXPLORE_AT_SCRIPT)
        return true;
    const struct csim_explore_action *action = explore_control_action(m, s, h);
    uint32_t value = UINT32_MAX;
    if (action->kind == CSIM_EXPLORE_WAIT)
        value = explore_memory_value(m, s, h, EXPLORE_AT_FLAG + action->first);
    else if (action->kind == CSIM_EXPLORE_AWAIT)
        value = s->hart[action->first].done;
    else
        return action->kind != CSIM_EXPLORE_USES || s->hart[h].faults == 0;
    return m->q.chaos == UINT32_MAX ? value >= action->count : value == action->count;
}

uint32_t explore_step_labels(const struct explore_model *m, const struct explore_state *s,
                             uint32_t h, const struct explore_rest *rest,
                             uint16_t labels[EXPLORE_LABELS_MAX])
{
    uint32_t nr = 0;
    bool uses = rest->access && rest->phase == CSIM_EXPLORE_AT_SCRIPT &&
                explore_control_action(m, s, h)->kind == CSIM_EXPLORE_USES;
    if ((!rest->access || uses) && step_enabled(m, s, h, rest))
        labels[nr++] = explore_label_make(h, CSIM_EXPLORE_STEP, 0);
    if (rest->access) {
        uint32_t answers = explore_memory_answers(m, s, h, rest->page);
        for (uint32_t v = 0; v < 4; v++) {
            if ((answers >> v & 1) != 0)
                labels[nr++] = explore_label_make(h, CSIM_EXPLORE_ANSWER, v);
        }
        if ((answers & EXPLORE_INVALID_TABLE) != 0)
            labels[nr++] = explore_label_make(h, CSIM_EXPLORE_ANSWER, 255);
    }
    uint32_t drains = explore_memory_drainable(m, &s->hart[h]);
    for (uint32_t i = 0; drains != 0; i++, drains >>= 1) {
        if ((drains & 1) != 0)
            labels[nr++] = explore_label_make(h, CSIM_EXPLORE_DRAIN, i);
    }
    if (m->shoots)
        nr += request_labels(m, s, h, labels + nr);
    if (h == m->q.chaos)
        nr += explore_chaos_labels(m, s, h, labels + nr);
    if (!m->single)
        return nr;
    uint32_t fills = explore_memory_fillable(m, s, h);
    uint32_t evicts = explore_memory_evictable(m, s, h);
    for (uint32_t p = 0; p <= EXPLORE_PAGES; p++) {
        uint32_t arg = p == EXPLORE_PAGES ? 255 : p;
        if ((fills >> p & 1) != 0)
            labels[nr++] = explore_label_make(h, CSIM_EXPLORE_FILL, arg);
        if ((evicts >> p & 1) != 0)
            labels[nr++] = explore_label_make(h, CSIM_EXPLORE_EVICT, arg);
    }
    assert(nr <= EXPLORE_LABELS_MAX);
    return nr;
}

static bool op_is_local(const struct explore_model *m, const struct csim_op *op)
{
    bool buffered = m->q.order != CSIM_EXPLORE_SC;
    switch ((enum csim_op_kind)op->kind) {
    case CSIM_OP_STORE_PTES:
    case CSIM_OP_PUBLISH:
    case CSIM_OP_MARK:
        return buffered;
    case CSIM_OP_STORE_BARRIER:
    case CSIM_OP_SYNC_CONTEXT:
    case CSIM_OP_FENCE:
    case CSIM_OP_FLUSH_DEFERRED:
    case CSIM_OP_RETRY:
        return true;
    case CSIM_OP_CLEAR_MARK:
        return op->b == 0 && buffered;
    case CSIM_OP_END:
    case CSIM_OP_FENCE_FREE:
    case CSIM_OP_SHOOTDOWN:
    case CSIM_OP_ACK:
    case CSIM_OP_DEFER:
    case CSIM_OP_WHEN:
    case CSIM_OP_JUMP:
    case CSIM_OP_TOUCH_STACK:
    case CSIM_OP_TOUCH:
    case CSIM_OP_ALLOCATE:
    case CSIM_OP_SYNC_ROOT:
    case CSIM_OP_SPEND:
    case CSIM_OP_FALL_THROUGH:
    case CSIM_OP_FAIL:
    case CSIM_OP_KINDS:
        break;
    }
    return false;
}

bool explore_step_eager(const struct explore_model *m, const struct explore_state *s, uint32_t h,
                        const struct explore_rest *rest)
{
    if (rest->access || !step_enabled(m, s, h, rest))
        return false;
    bool buffered = m->q.order != CSIM_EXPLORE_SC;
    if (rest->phase == CSIM_EXPLORE_AT_OPS || rest->phase == CSIM_EXPLORE_AT_EARLY)
        return op_is_local(m, explore_control_op(m, explore_state_top_of(&s->hart[h])));
    if (rest->phase == CSIM_EXPLORE_AT_PUBLISH)
        return buffered;
    if (rest->phase != CSIM_EXPLORE_AT_SCRIPT)
        return rest->phase == CSIM_EXPLORE_AT_SAVE || rest->phase == CSIM_EXPLORE_AT_RETURN;
    uint32_t kind = explore_control_action(m, s, h)->kind;
    return kind == CSIM_EXPLORE_WAIT || kind == CSIM_EXPLORE_AWAIT ||
           (buffered && (kind == CSIM_EXPLORE_MAP || kind == CSIM_EXPLORE_SIGNAL));
}

/* ---- accesses -------------------------------------------------------------------------------- */

static enum explore_outcome faulted(const struct explore_model *m, struct explore_state *s,
                                    uint32_t h, const struct explore_rest *rest, bool table)
{
    struct explore_hart *hart = &s->hart[h];
    struct explore_frame *f = explore_state_top(hart);
    explore_memory_count_stale(m, s, h, rest->page, table);
    if (rest->window)
        return EXPLORE_S4;
    uint32_t faults = f == NULL ? ++hart->faults : ++f->faults;
    if (faults > m->q.retries)
        return EXPLORE_S3;
    if (explore_control_nested(hart) >= m->q.nesting)
        return EXPLORE_S4;
    explore_control_push_trap(m, hart, EXPLORE_FAULT, false, rest->page | 1u << 4);
    explore_state_top(hart)->flags |= rest->store ? EXPLORE_BY_STORE : 0;
    explore_memory_serialise(m, s, h);
    return EXPLORE_FINE;
}

static enum explore_outcome answered(const struct explore_model *m, struct explore_state *s,
                                     uint32_t h, uint32_t value)
{
    struct explore_rest rest;
    explore_control_rest(m, s, h, &rest);
    if (value == 0 || value == 255)
        return faulted(m, s, h, &rest, value == 255);
    if (value != rest.expected)
        return EXPLORE_S1;
    explore_control_completed(m, s, h);
    return EXPLORE_FINE;
}

/* ---- ops ------------------------------------------------------------------------------------- */

static enum explore_outcome issued(bool fits) { return fits ? EXPLORE_FINE : EXPLORE_NO_ROOM; }

static enum explore_outcome store_pte(const struct explore_model *m, struct explore_state *s,
                                      uint32_t h, struct explore_frame *f, const struct csim_op *op)
{
    uint32_t page = explore_state_first(f) + f->sub;
    bool below = explore_state_is_below(m, explore_state_first(f));
    if (f->sub == 0 && below && op->a != 0 &&
        explore_memory_visible(m, s, h, EXPLORE_AT_TABLE) == 0)
        return issued(explore_memory_issue(
            m, s, h, (struct explore_store){.place = EXPLORE_AT_TABLE, .value = 1}));
    const struct csim_explore_action *action = explore_control_action(m, s, h);
    bool own_frame = f->kind == EXPLORE_CALL && action->kind != CSIM_EXPLORE_SWITCH &&
                     (f->flags & EXPLORE_ELSEWHERE) == 0;
    uint32_t value = op->a == 0 ? 0 : own_frame ? action->frame : 1;
    f->sub++;
    struct explore_store store = {.place = (uint8_t)(EXPLORE_AT_LEAF + page),
                                  .value = (uint8_t)value};
    return issued(explore_memory_issue(m, s, h, store));
}

static enum explore_outcome publish(const struct explore_model *m, struct explore_state *s,
                                    uint32_t h)
{
    const struct csim_explore_action *action = explore_control_action(m, s, h);
    struct explore_store store = {.place = (uint8_t)(EXPLORE_AT_FLAG + action->first),
                                  .value = action->count};
    explore_memory_raise_barrier(m, s, h);
    return issued(explore_memory_issue(m, s, h, store));
}

static uint32_t bits_of(const struct explore_model *m, const struct csim_op *op, uint32_t who,
                        uint32_t h)
{
    if (who != CSIM_WHO_FIRST_N)
        return explore_control_targets(m, who, h);
    uint32_t bits = 0;
    for (uint32_t g = 0; g < m->q.harts; g++)
        bits |= (uint32_t)(m->q.cpus[g] < op->n) << g;
    return bits;
}

static enum explore_outcome store_mark(const struct explore_model *m, struct explore_state *s,
                                       uint32_t h, const struct explore_frame *f,
                                       const struct csim_op *op)
{
    struct explore_store store = {.place = (uint8_t)(EXPLORE_AT_MARK + op->a),
                                  .value = (uint8_t)bits_of(m, op, op->b, h),
                                  .keep = m->all};
    bool maps = f->kind == EXPLORE_NESTED ||
                (f->kind == EXPLORE_CALL && (f->flags & EXPLORE_ELSEWHERE) == 0 &&
                 explore_control_action(m, s, h)->kind == CSIM_EXPLORE_MAP);
    if (maps && explore_state_has_pages(f))
        store.covers = (uint16_t)(((1u << explore_state_pages(f)) - 1) << explore_state_first(f));
    return issued(explore_memory_issue(m, s, h, store));
}

static enum explore_outcome clear_mark(const struct explore_model *m, struct explore_state *s,
                                       uint32_t h, struct explore_frame *f,
                                       const struct csim_op *op)
{
    uint32_t width = op->c == 32 ? m->low : m->all;
    uint32_t bits = bits_of(m, op, op->d, h) & width;
    f->flags |= m->ghosts ? EXPLORE_CLEARED : 0;
    if (op->b != 0) {
        explore_memory_amo_clear(s, m, op->a, bits);
        return EXPLORE_FINE;
    }
    uint32_t known = f->regs[op->a];
    uint32_t word = known != 0 ? known : explore_memory_visible(m, s, h, EXPLORE_AT_MARK + op->a);
    f->regs[op->a] = 0;
    struct explore_store store = {.place = (uint8_t)(EXPLORE_AT_MARK + op->a),
                                  .value = (uint8_t)(word & width & ~bits),
                                  .keep = (uint8_t)(m->all & ~width)};
    return issued(explore_memory_issue(m, s, h, store));
}

/* One sfence.vma of a fence op, or of the own half of a shootdown; true: it was the last. `done`
 * counts those before it. */
static bool fence_once(const struct explore_model *m, struct explore_state *s, uint32_t h,
                       uint32_t extent, uint32_t threshold, bool by_asid, uint32_t done)
{
    uint32_t first = extent & 15, pages = extent >> 4;
    bool full = pages == EXPLORE_EVERYTHING || pages > threshold;
    if (by_asid)
        explore_memory_serialise(m, s, h);
    else if (full)
        explore_memory_fence_all(m, s, h);
    else
        explore_memory_fence_page(m, s, h, first + done);
    return full || done + 1 == pages;
}

static enum explore_outcome fence_op(const struct explore_model *m, struct explore_state *s,
                                     uint32_t h, struct explore_frame *f,
                                     const struct csim_op *op)
{
    uint32_t extent = requested(f, op);
    uint32_t threshold = op->a == CSIM_EXTENT_PAGE ? EXPLORE_PAGES : op->n;
    if (fence_once(m, s, h, extent, threshold, op->b != 0, f->sub))
        explore_control_next_op(f);
    else
        f->sub++;
    return EXPLORE_FINE;
}

static enum explore_outcome shootdown(const struct explore_model *m, struct explore_state *s,
                                      uint32_t h, struct explore_frame *f,
                                      const struct csim_op *op)
{
    uint32_t targets = explore_control_targets(m, op->b, h);
    if (f->sub == EXPLORE_SEND) {
        f->untaken = (uint8_t)(targets & ~(1u << h));
        f->sub = EXPLORE_OWN_HALF;
        return EXPLORE_FINE;
    }
    if (f->sub == EXPLORE_WAIT) {
        explore_control_next_op(f);
        return EXPLORE_FINE;
    }
    uint32_t extent = requested(f, op);
    bool last = true;
    if (explore_control_via(m, op) == CSIM_VIA_SBI && op->d == 0)
        fence_extent(m, s, h, extent, m->q.sbi_limit_pages);
    else if (explore_control_via(m, op) == CSIM_VIA_SBI)
        explore_memory_serialise(m, s, h);
    else
        last = fence_once(m, s, h, extent, op->a == CSIM_EXTENT_PAGE ? EXPLORE_PAGES : op->n,
                          op->d != 0, f->sub - EXPLORE_OWN_HALF);
    f->sub = last ? EXPLORE_WAIT : (uint8_t)(f->sub + 1);
    return EXPLORE_FINE;
}

static void defer(const struct explore_model *m, struct explore_state *s, uint32_t h,
                  const struct explore_frame *f, const struct csim_op *op)
{
    uint32_t targets = explore_control_targets(m, op->b, h);
    uint32_t extent = requested(f, op);
    for (uint32_t g = 0; g < m->q.harts; g++) {
        if ((targets >> g & 1) == 0)
            continue;
        if (extent >> 4 == EXPLORE_EVERYTHING)
            s->hart[g].flags |= EXPLORE_DEFERRED_ALL;
        else
            s->hart[g].deferred |= ((1u << (extent >> 4)) - 1) << (extent & 15);
    }
}

static void flush_deferred(const struct explore_model *m, struct explore_state *s, uint32_t h)
{
    struct explore_hart *hart = &s->hart[h];
    if ((hart->flags & EXPLORE_DEFERRED_ALL) != 0)
        explore_memory_fence_all(m, s, h);
    for (uint32_t p = 0; p < m->q.pages; p++) {
        if ((hart->deferred >> p & 1) != 0)
            explore_memory_fence_page(m, s, h, p);
    }
    hart->flags &= (uint8_t)~EXPLORE_DEFERRED_ALL;
    hart->deferred = 0;
    explore_memory_serialise(m, s, h);
}

bool explore_step_holds(const struct explore_model *m, const struct explore_state *s, uint32_t h,
                        const struct explore_frame *f)
{
    const struct csim_op *op = explore_control_op(m, f);
    uint64_t dynamic = explore_control_dynamic(op), atoms = 0;
    if ((dynamic >> CSIM_ATOM_MARKED & 1) != 0) {
        uint32_t word = explore_memory_visible(m, s, h, EXPLORE_AT_MARK + op->n);
        atoms |= (uint64_t)(word >> h & 1) << CSIM_ATOM_MARKED;
    }
    uint32_t page = explore_state_first(f);
    bool present = explore_state_has_pages(f) &&
                   explore_memory_visible(m, s, h, EXPLORE_AT_LEAF + page) != 0 &&
                   (!explore_state_is_below(m, page) ||
                    explore_memory_visible(m, s, h, EXPLORE_AT_TABLE) != 0);
    if (present)
        atoms |= UINT64_C(1) << CSIM_ATOM_PTE_VALID_NOW | UINT64_C(1) << CSIM_ATOM_TRANSLATES_NOW;
    return (op->all_of & dynamic & ~atoms) == 0 && (op->none_of & dynamic & atoms) == 0;
}

static void read_condition(const struct explore_model *m, struct explore_state *s, uint32_t h,
                           struct explore_frame *f, const struct csim_op *op)
{
    bool holds = explore_step_holds(m, s, h, f);
    bool reads = (explore_control_dynamic(op) >> CSIM_ATOM_MARKED & 1) != 0;
    if (reads && (m->clears_later[f->at] >> op->n & 1) != 0) {
        uint32_t word = explore_memory_visible(m, s, h, EXPLORE_AT_MARK + op->n);
        f->regs[op->n] = (uint8_t)(word | 0x80);
        f->flags |= EXPLORE_KNOWS_WORD;
    }
    f->at = (uint16_t)(f->at + (holds ? 0 : op->skip));
}

static enum explore_outcome retry(const struct explore_model *m, struct explore_state *s,
                                  uint32_t h, const struct explore_frame *f)
{
    if (f->kind != EXPLORE_FAULT)
        return EXPLORE_S3;
    explore_memory_serialise(m, s, h);
    explore_control_pop(m, s, h);
    return EXPLORE_FINE;
}

static enum explore_outcome allocate(const struct explore_model *m, struct explore_state *s,
                                     uint32_t h)
{
    if (explore_control_nested(&s->hart[h]) >= m->q.nesting)
        return EXPLORE_S4;
    explore_control_completed(m, s, h);
    explore_control_push_nested(m, s, h);
    return EXPLORE_FINE;
}

static enum explore_outcome take_op(const struct explore_model *m, struct explore_state *s,
                                    uint32_t h, struct explore_frame *f)
{
    const struct csim_op *op = explore_control_op(m, f);
    enum explore_outcome outcome = EXPLORE_FINE;
    switch ((enum csim_op_kind)op->kind) {
    case CSIM_OP_STORE_PTES:
        return store_pte(m, s, h, f, op);
    case CSIM_OP_FENCE:
        return fence_op(m, s, h, f, op);
    case CSIM_OP_SHOOTDOWN:
        return shootdown(m, s, h, f, op);
    case CSIM_OP_RETRY:
        return retry(m, s, h, f);
    case CSIM_OP_ALLOCATE:
        return allocate(m, s, h);
    case CSIM_OP_STORE_BARRIER:
        if (op->a == CSIM_BARRIER_W_W)
            explore_memory_raise_barrier(m, s, h);
        break;
    case CSIM_OP_SYNC_CONTEXT:
        explore_memory_serialise(m, s, h);
        break;
    case CSIM_OP_PUBLISH:
        f->flags |= EXPLORE_PUBLISHED;
        outcome = publish(m, s, h);
        break;
    case CSIM_OP_MARK:
        outcome = store_mark(m, s, h, f, op);
        break;
    case CSIM_OP_CLEAR_MARK:
        outcome = clear_mark(m, s, h, f, op);
        break;
    case CSIM_OP_ACK:
        acknowledge(s, h, f);
        break;
    case CSIM_OP_DEFER:
        defer(m, s, h, f, op);
        break;
    case CSIM_OP_FLUSH_DEFERRED:
        flush_deferred(m, s, h);
        break;
    case CSIM_OP_WHEN:
        read_condition(m, s, h, f, op);
        break;
    case CSIM_OP_END:
    case CSIM_OP_FENCE_FREE:
    case CSIM_OP_JUMP:
    case CSIM_OP_TOUCH_STACK:
    case CSIM_OP_TOUCH:
    case CSIM_OP_SYNC_ROOT:
    case CSIM_OP_SPEND:
    case CSIM_OP_FALL_THROUGH:
    case CSIM_OP_FAIL:
    case CSIM_OP_KINDS:
        assert(0 && "not a step");
    }
    explore_control_next_op(f);
    return outcome;
}

/* ---- steps outside handlers ------------------------------------------------------------------ */

static enum explore_outcome take_action(const struct explore_model *m, struct explore_state *s,
                                        uint32_t h)
{
    const struct csim_explore_action *action = explore_control_action(m, s, h);
    struct explore_hart *hart = &s->hart[h];
    enum explore_outcome outcome = EXPLORE_FINE;
    if (action->kind == CSIM_EXPLORE_MAP) {
        outcome = publish(m, s, h);
    } else if (action->kind == CSIM_EXPLORE_SIGNAL) {
        struct explore_store store = {.place = EXPLORE_AT_DONE, .value = action->count};
        explore_memory_raise_barrier(m, s, h);
        outcome = issued(explore_memory_issue(m, s, h, store));
    } else if (action->kind == CSIM_EXPLORE_SWITCH) {
        hart->flags &= (uint8_t) ~(3u << EXPLORE_STACK_SHIFT);
        hart->flags |= (uint8_t)(EXPLORE_NEW_STACK | (action->frame - 1u) << EXPLORE_STACK_SHIFT);
    } else if (action->kind == CSIM_EXPLORE_LEAVE) {
        hart->flags &= (uint8_t) ~(EXPLORE_NEW_STACK | 3u << EXPLORE_STACK_SHIFT);
    } else if (action->kind == CSIM_EXPLORE_USER) {
        explore_memory_serialise(m, s, h);
        explore_control_completed(m, s, h);
        if (hart->sub == 0)
            hart->flags |= EXPLORE_USER;
        return outcome;
    }
    explore_control_next_action(m, s, h);
    if (action->kind == CSIM_EXPLORE_INTERRUPT) {
        explore_control_push_trap(m, hart, EXPLORE_INTERRUPTED, false, 0);
        explore_memory_serialise(m, s, h);
    } else if (action->kind == CSIM_EXPLORE_TRAP) {
        hart->flags &= (uint8_t)~EXPLORE_USER;
        explore_control_push_trap(m, hart, EXPLORE_FROM_USER, true, 0);
        explore_memory_serialise(m, s, h);
    }
    return outcome;
}

static enum explore_outcome failed(const struct explore_model *m, struct explore_state *s,
                                   uint32_t h, const struct explore_frame *f)
{
    const struct csim_explore_action *action = explore_control_action(m, s, h);
    bool elsewhere = (f->flags & EXPLORE_ELSEWHERE) != 0;
    bool probe = s->hart[h].frames_nr == 1 && action != NULL &&
                 action->kind == CSIM_EXPLORE_PROBE;
    if (f->kind != EXPLORE_FAULT || !(probe || elsewhere))
        return EXPLORE_S2;
    explore_control_pop(m, s, h);
    if (!elsewhere)
        explore_control_next_action(m, s, h);
    explore_memory_serialise(m, s, h);
    return EXPLORE_FINE;
}

static enum explore_outcome take_step(const struct explore_model *m, struct explore_state *s,
                                      uint32_t h)
{
    struct explore_frame *f = explore_state_top(&s->hart[h]);
    if (f == NULL)
        return take_action(m, s, h);
    switch ((enum csim_explore_phase)f->phase) {
    case CSIM_EXPLORE_AT_OPS:
    case CSIM_EXPLORE_AT_EARLY:
        return take_op(m, s, h, f);
    case CSIM_EXPLORE_AT_FAIL:
        return failed(m, s, h, f);
    case CSIM_EXPLORE_AT_ALLOCATE:
        return allocate(m, s, h);
    case CSIM_EXPLORE_AT_PUBLISH: {
        enum explore_outcome outcome = publish(m, s, h);
        explore_control_completed(m, s, h);
        return outcome;
    }
    case CSIM_EXPLORE_AT_ACK:
        acknowledge(s, h, f);
        break;
    case CSIM_EXPLORE_AT_RETURN:
    case CSIM_EXPLORE_AT_USER_CSRW:
    case CSIM_EXPLORE_AT_USER_SRET:
        explore_memory_serialise(m, s, h);
        break;
    case CSIM_EXPLORE_AT_SAVE: /* on the old stack; `completed` ends it */
        break;
    case CSIM_EXPLORE_AT_DONE:
    case CSIM_EXPLORE_AT_SCRIPT:
    case CSIM_EXPLORE_AT_TRACE:
    case CSIM_EXPLORE_AT_TOUCH:
    case CSIM_EXPLORE_AT_USER_LOAD:
    case CSIM_EXPLORE_PHASES_NR:
        assert(0 && "not a step");
    }
    explore_control_completed(m, s, h);
    return EXPLORE_FINE;
}

/* Harts that an op changes, its own included. */
static uint32_t op_reach(const struct explore_model *m, const struct csim_op *op, uint32_t own)
{
    bool everybody = op->kind == CSIM_OP_DEFER || op->kind == CSIM_OP_ACK ||
                     (op->kind == CSIM_OP_CLEAR_MARK && op->d != CSIM_WHO_OWN) ||
                     (op->kind == CSIM_OP_STORE_PTES && op->a == 0); /* the ghost in buffers */
    return everybody ? m->all : own;
}

uint32_t explore_step_reach(const struct explore_model *m, const struct explore_state *s,
                            uint16_t label)
{
    uint32_t h = explore_label_hart(label), arg = explore_label_arg(label);
    uint32_t own = 1u << h;
    const struct explore_frame *f = explore_state_top_of(&s->hart[h]);
    switch ((enum csim_explore_kind)explore_label_kind(label)) {
    case CSIM_EXPLORE_STEP:
        if (m->q.order == CSIM_EXPLORE_SC)
            return m->all; /* a store reaches everybody at once */
        if (f == NULL)
            return own;
        if (f->phase == CSIM_EXPLORE_AT_OPS || f->phase == CSIM_EXPLORE_AT_EARLY)
            return op_reach(m, explore_control_op(m, f), own);
        return f->phase == CSIM_EXPLORE_AT_ACK ? m->all : own;
    case CSIM_EXPLORE_DRAIN:
        return s->hart[h].stores[arg].place < EXPLORE_AT_FLAG ? m->all : own;
    case CSIM_EXPLORE_TAKE:
    case CSIM_EXPLORE_FIRMWARE:
        return own | 1u << (arg & 15);
    case CSIM_EXPLORE_ANSWER:
    case CSIM_EXPLORE_FILL:
    case CSIM_EXPLORE_EVICT:
    case CSIM_EXPLORE_CHAOS:
        break;
    }
    return own;
}

enum explore_outcome explore_step_take(const struct explore_model *m, struct explore_state *s,
                                       uint16_t label)
{
    uint32_t h = explore_label_hart(label), arg = explore_label_arg(label);
    uint32_t page = arg == 255 ? (uint32_t)EXPLORE_PAGES : arg;
    enum explore_outcome outcome = EXPLORE_FINE;
    switch ((enum csim_explore_kind)explore_label_kind(label)) {
    case CSIM_EXPLORE_STEP:
        outcome = take_step(m, s, h);
        break;
    case CSIM_EXPLORE_ANSWER:
        outcome = answered(m, s, h, arg);
        break;
    case CSIM_EXPLORE_DRAIN:
        explore_memory_drain(m, s, h, arg);
        break;
    case CSIM_EXPLORE_TAKE:
        take(m, s, h, arg & 15, arg >> 4);
        break;
    case CSIM_EXPLORE_FIRMWARE:
        firmware(m, s, h, &s->hart[arg & 15].frames[(arg >> 4) - 1]);
        break;
    case CSIM_EXPLORE_FILL:
        explore_memory_fill(m, s, h, page);
        break;
    case CSIM_EXPLORE_EVICT:
        explore_memory_evict(s, h, page);
        break;
    case CSIM_EXPLORE_CHAOS:
        explore_chaos_take(m, s, h, arg);
        break;
    }
    if (outcome != EXPLORE_FINE)
        return outcome;
    explore_control_settle(m, s, h);
    explore_memory_forget(m, s);
    return EXPLORE_FINE;
}
