/* explore_model.c: what the explorer accepts, and what follows from a question before the search.
 *
 * The door trusts nobody: pysim has checked the same with file and line, here every index that the
 * explorer will use is checked again.
 */
#include "explore_model.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "explore_canon.h"

#define ATOM(name) (UINT64_C(1) << CSIM_ATOM_##name)

static const struct {
    const char *name, *text;
} properties[] = {
#define X(id, name, text) {name, text},
    CSIM_EXPLORE_PROPERTIES(X)
#undef X
}, phases[] = {
#define X(id, name, text) {name, text},
    CSIM_EXPLORE_PHASES(X)
#undef X
};

const char *csim_explore_property_name(uint32_t property)
{
    return property < CSIM_EXPLORE_PROPERTIES_NR ? properties[property].name : NULL;
}

const char *csim_explore_property_text(uint32_t property)
{
    return property < CSIM_EXPLORE_PROPERTIES_NR ? properties[property].text : NULL;
}

const char *csim_explore_phase_name(uint32_t phase)
{
    return phase < CSIM_EXPLORE_PHASES_NR ? phases[phase].name : NULL;
}

const char *csim_explore_phase_text(uint32_t phase)
{
    return phase < CSIM_EXPLORE_PHASES_NR ? phases[phase].text : NULL;
}

/* ---- checks ---------------------------------------------------------------------------------- */

static enum csim_status refuse(struct csim_error *error, const char *field, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    snprintf(error->field, sizeof error->field, "%s", field);
    vsnprintf(error->reason, sizeof error->reason, format, values);
    va_end(values);
    return CSIM_BAD_PARAM;
}

static enum csim_status check_ranges(const struct csim_explore_question *q,
                                     struct csim_error *error)
{
    const struct {
        const char *field;
        uint32_t value, least, most;
    } rows[] = {
        {"harts", q->harts, 1, EXPLORE_HARTS},
        {"pages", q->pages, 1, EXPLORE_PAGES},
        {"region", q->region, 0, CSIM_ATOM_REGION_PCI_IO - CSIM_ATOM_REGION_VMALLOC},
        {"order", q->order, 0, CSIM_EXPLORE_SC},
        {"invalid", q->invalid, 0, CSIM_EXPLORE_NEVER},
        {"tlb", q->tlb, 0, CSIM_EXPLORE_SINGLE},
        {"via", q->via, CSIM_VIA_SBI, CSIM_VIA_HW},
        {"retries", q->retries, 0, 200},
        {"nesting", q->nesting, 1, EXPLORE_NESTING_MAX},
        {"svvptc", q->svvptc, 0, 1},
        {"nonleaf", q->nonleaf, 0, 1},
        {"ipi_allocates", q->ipi_allocates, 0, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].value < rows[i].least || rows[i].value > rows[i].most)
            return refuse(error, rows[i].field, "%u is not within %u to %u", rows[i].value,
                          rows[i].least, rows[i].most);
    }
    if (q->chaos >= q->harts && q->chaos != UINT32_MAX)
        return refuse(error, "chaos", "no hart %u", q->chaos);
    if (q->svvptc_k > 14 && q->svvptc_k != UINT32_MAX)
        return refuse(error, "svvptc_k", "%u is more than 14", q->svvptc_k);
    if (q->below >> q->pages != 0)
        return refuse(error, "below", "a page outside 0 to %u", q->pages - 1);
    if (q->stack_pages > q->pages || q->stack_first > q->pages - q->stack_pages)
        return refuse(error, "stack", "a page outside 0 to %u", q->pages - 1);
    if (q->frame_pages > q->stack_pages || (q->stack_pages > 0 && q->frame_pages == 0))
        return refuse(error, "frame", "a trap frame lies on 1 page of the stack or more");
    bool fits = q->object <= q->pages && q->harts <= q->pages - q->object;
    if (q->object == UINT32_MAX ? q->ipi_allocates != 0 : !fits)
        return refuse(error, "object", "needs one page per hart");
    if (q->max_states == 0 || q->max_memory_bytes < 1 << 20 || q->max_memory_bytes >> 40 != 0)
        return refuse(error, "max_memory_bytes", "needs a state and 1 MiB to 1 TiB");
    return CSIM_OK;
}

static enum csim_status check_action(const struct csim_explore_question *q, uint32_t hart,
                                     uint32_t at, struct csim_error *error)
{
    const struct csim_explore_action *action = &q->actions[hart][at];
    char field[32];
    snprintf(field, sizeof field, "hart[%u].do[%u]", hart, at);
    if (action->kind >= CSIM_EXPLORE_ACTION_KINDS)
        return refuse(error, field, "unknown action");
    if (action->kind == CSIM_EXPLORE_AWAIT) {
        if (action->first >= q->harts || action->first == hart)
            return refuse(error, field, "no other hart %u", action->first);
    } else if (action->pages == 0 || action->pages > q->pages ||
               action->first > q->pages - action->pages) {
        return refuse(error, field, "a page outside 0 to %u", q->pages - 1);
    }
    if (action->frame == 0 || action->frame > 3)
        return refuse(error, field, "frame %u is not within 1 to 3", action->frame);
    if (action->count == 0 || action->count > 15)
        return refuse(error, field, "count %u is not within 1 to 15", action->count);
    bool stacks = action->kind == CSIM_EXPLORE_SWITCH || action->kind == CSIM_EXPLORE_LEAVE;
    if (stacks && q->stack_pages == 0)
        return refuse(error, field, "there is no stack to switch to or leave");
    bool in_user = at > 0 && q->actions[hart][at - 1].kind == CSIM_EXPLORE_USER;
    if (in_user != (action->kind == CSIM_EXPLORE_TRAP))
        return refuse(error, field, "`trap` follows `user`, and nothing else does");
    return CSIM_OK;
}

static enum csim_status check_op(const struct csim_explore_question *q, const struct csim_op *op,
                                 uint32_t at, struct csim_error *error)
{
    char field[32];
    snprintf(field, sizeof field, "ops[%u]", at);
    if (op->kind == CSIM_OP_FENCE_FREE)
        return refuse(error, field, "a free fence is on no machine: there is nothing to check");
    bool sends = op->kind == CSIM_OP_SHOOTDOWN || op->kind == CSIM_OP_DEFER;
    if (sends && op->b == CSIM_WHO_FIRST_N)
        return refuse(error, field, "fences go to named harts, not to the first n");
    bool objects = op->kind == CSIM_OP_TOUCH || op->kind == CSIM_OP_ALLOCATE;
    if (objects && q->object == UINT32_MAX)
        return refuse(error, field, "the policy uses an object; the scenario has none");
    return CSIM_OK;
}

/* Chaos marks, wipes, traps, fences and switches tasks; it does not map for others. */
static enum csim_status check_chaos(const struct csim_program *program, const struct csim_op *ops,
                                    struct csim_error *error)
{
    const uint32_t mapping[] = {CSIM_MAP_KERNEL, CSIM_UNMAP_KERNEL, CSIM_PURGE_KERNEL,
                                CSIM_FLUSH_KERNEL};
    for (size_t i = 0; i < sizeof mapping / sizeof mapping[0]; i++) {
        uint32_t at = program->handler_at[mapping[i]], end = at + program->handler_nr[mapping[i]];
        for (; at < end; at++) {
            if (ops[at].kind == CSIM_OP_CLEAR_MARK)
                return refuse(error, "chaos", "a mapping that clears marks is no business of one "
                              "hart: nothing can be said of any number of them");
        }
    }
    return CSIM_OK;
}

enum csim_status explore_model_check(const struct csim_explore_question *q,
                                     const struct csim_program *program, const struct csim_op *ops,
                                     struct csim_error *error)
{
    memset(error, 0, sizeof *error);
    enum csim_status status = csim_check_program(program, ops, error);
    if (status == CSIM_OK)
        status = check_ranges(q, error);
    for (uint32_t i = 0; status == CSIM_OK && i < program->ops_nr; i++)
        status = check_op(q, &ops[i], i, error);
    if (status == CSIM_OK && q->chaos != UINT32_MAX)
        status = check_chaos(program, ops, error);
    for (uint32_t h = 0; status == CSIM_OK && h < q->harts; h++) {
        if (q->cpus[h] >= 64)
            return refuse(error, "cpus", "%u is not below 64", q->cpus[h]);
        for (uint32_t g = 0; g < h; g++) {
            if (q->cpus[g] == q->cpus[h])
                return refuse(error, "cpus", "two harts are CPU %u", q->cpus[h]);
        }
        if (q->actions_nr[h] > CSIM_EXPLORE_ACTIONS_MAX)
            return refuse(error, "hart", "more than %d actions", CSIM_EXPLORE_ACTIONS_MAX);
        for (uint32_t i = 0; status == CSIM_OK && i < q->actions_nr[h]; i++)
            status = check_action(q, h, i, error);
    }
    return status;
}

/* ---- preparation ----------------------------------------------------------------------------- */

static bool has_action(const struct explore_model *m, enum csim_explore_action_kind kind)
{
    for (uint32_t h = 0; h < m->q.harts; h++) {
        for (uint32_t i = 0; i < m->q.actions_nr[h]; i++) {
            if (m->q.actions[h][i].kind == kind)
                return true;
        }
    }
    return false;
}

/* Whether a script or a trap of it can reach the handler. */
static bool runs(const struct explore_model *m, uint32_t handler)
{
    switch ((enum csim_handler)handler) {
    case CSIM_MAP_KERNEL:
        return has_action(m, CSIM_EXPLORE_MAP) || m->q.object != UINT32_MAX;
    case CSIM_UNMAP_KERNEL:
        return has_action(m, CSIM_EXPLORE_UNMAP);
    case CSIM_PURGE_KERNEL:
        return has_action(m, CSIM_EXPLORE_PURGE);
    case CSIM_FLUSH_KERNEL:
        return has_action(m, CSIM_EXPLORE_FLUSH);
    case CSIM_SWITCH_TASK:
        return has_action(m, CSIM_EXPLORE_SWITCH);
    case CSIM_EARLY_TRAP:
    case CSIM_KERNEL_FAULT:
    case CSIM_IPI:
        return true;
    case CSIM_MAP_USER:
    case CSIM_PROTECT_USER:
    case CSIM_UNMAP_USER:
    case CSIM_USER_SPURIOUS:
    case CSIM_SWITCH_MM:
    case CSIM_HANDLERS:
        break;
    }
    return false;
}

/* Whether a handler that runs has such an op. */
static bool has_op(const struct explore_model *m, enum csim_op_kind kind)
{
    for (uint32_t handler = 0; handler < CSIM_HANDLERS; handler++) {
        for (uint32_t i = 0; runs(m, handler) && i < m->program.handler_nr[handler]; i++) {
            if (m->ops[m->program.handler_at[handler] + i].kind == kind)
                return true;
        }
    }
    return false;
}

static bool find_plain_clears(struct explore_model *m)
{
    bool any = false;
    for (uint32_t handler = 0; handler < CSIM_HANDLERS; handler++) {
        if (!runs(m, handler))
            continue;
        uint32_t at = m->program.handler_at[handler], later = 0;
        for (uint32_t i = m->program.handler_nr[handler]; i-- > 0;) {
            const struct csim_op *op = &m->ops[at + i];
            if (op->kind == CSIM_OP_CLEAR_MARK && op->b == 0)
                later |= 1u << op->a;
            m->clears_later[at + i] = (uint8_t)later;
        }
        any |= later != 0;
    }
    return any;
}

static bool map_marks(const struct explore_model *m)
{
    uint32_t at = m->program.handler_at[CSIM_MAP_KERNEL];
    for (uint32_t i = 0; i < m->program.handler_nr[CSIM_MAP_KERNEL]; i++) {
        if (m->ops[at + i].kind == CSIM_OP_MARK)
            return true;
    }
    return false;
}

/* Marks that a clear may wipe for another hart: by a plain store, or because it means to. */
static uint32_t others_wipe(const struct explore_model *m)
{
    uint32_t wiped = 0;
    for (uint32_t i = 0; i < m->program.ops_nr; i++) {
        const struct csim_op *op = &m->ops[i];
        if (op->kind == CSIM_OP_CLEAR_MARK && (op->b == 0 || op->d != CSIM_WHO_OWN))
            wiped |= 1u << op->a;
    }
    return wiped;
}

/* Whether some condition tells loads, stores and fetches apart. */
static bool tells_faults(const struct explore_model *m)
{
    const uint64_t kinds =
        ATOM(PAGE_FAULT_LOAD) | ATOM(PAGE_FAULT_STORE) | ATOM(PAGE_FAULT_FETCH);
    uint64_t asked = 0;
    for (uint32_t i = 0; i < m->program.ops_nr; i++) {
        if (m->ops[i].kind == CSIM_OP_WHEN)
            asked |= m->ops[i].all_of | m->ops[i].none_of;
    }
    return (asked & kinds) != 0;
}

/* Whether a mark is set for some harts only. */
static bool marks_some(const struct explore_model *m)
{
    for (uint32_t i = 0; i < m->program.ops_nr; i++) {
        const struct csim_op *op = &m->ops[i];
        if (op->kind == CSIM_OP_MARK && op->b != CSIM_WHO_ALL && op->b != CSIM_WHO_ONLINE)
            return true;
    }
    return false;
}

void explore_model_make(struct explore_model *m, const struct csim_explore_question *q,
                        const struct csim_program *program, const struct csim_op *ops)
{
    memset(m, 0, sizeof *m);
    m->q = *q;
    m->program = *program;
    memcpy(m->ops, ops, program->ops_nr * sizeof *ops);
    m->below = q->below;
    m->all = (uint8_t)((1u << q->harts) - 1);
    for (uint32_t h = 0; h < q->harts; h++)
        m->low |= (uint8_t)((q->cpus[h] < 32) << h);
    m->atoms = ATOM(ASIDS) | ATOM(RUNNING) | (q->svvptc != 0 ? ATOM(SVVPTC) : 0) |
               (q->harts == 1 ? ATOM(ONE_HART) : 0) |
               (q->via == CSIM_VIA_SBI ? ATOM(SBI_FENCES) : 0);
    m->region_atom = ATOM(REGION_VMALLOC) << q->region;
    m->single = q->tlb == CSIM_EXPLORE_SINGLE;
    m->bounded = q->svvptc != 0 && q->svvptc_k != UINT32_MAX;
    m->shoots = has_op(m, CSIM_OP_SHOOTDOWN);
    m->wide_frames = find_plain_clears(m) || m->shoots;
    m->wide_harts = has_op(m, CSIM_OP_DEFER) || has_action(m, CSIM_EXPLORE_TRACE);
    m->tells_faults = tells_faults(m);
    m->ghosts = map_marks(m);
    m->wiped = others_wipe(m);
    m->names = m->wide_frames || marks_some(m);
    explore_canon_group(m, q->symmetry != 0 && q->chaos == UINT32_MAX);
}

bool explore_model_allows_eager(const struct explore_model *m)
{
    return !m->shoots && m->q.stack_pages == 0 && !m->single && !m->bounded &&
           m->q.chaos == UINT32_MAX && !has_action(m, CSIM_EXPLORE_INTERRUPT) &&
           !has_action(m, CSIM_EXPLORE_USER);
}
