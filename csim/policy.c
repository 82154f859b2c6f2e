/* policy.c: what an op list must satisfy before anybody runs it.
 *
 * The checks are structural: kinds and operands in range, branches forward and inside the handler,
 * one END per handler and nothing after it. Whether a policy is safe is the explorer's question,
 * what it costs the clock's; neither is asked here.
 */
#include "policy.h"

#include <stdio.h>
#include <string.h>

static const char *const op_names[] = {
#define X(id, name, text) name,
    CSIM_OPS(X)
#undef X
};

static const char *const op_texts[] = {
#define X(id, name, text) text,
    CSIM_OPS(X)
#undef X
};

static const char *const atom_names[] = {
#define X(id, name, text) name,
    CSIM_ATOMS(X)
#undef X
};

static const char *const atom_texts[] = {
#define X(id, name, text) text,
    CSIM_ATOMS(X)
#undef X
};

static const char *const handler_names[] = {
#define X(id, name, text) name,
    CSIM_HANDLERS_LIST(X)
#undef X
};

static const char *const handler_texts[] = {
#define X(id, name, text) text,
    CSIM_HANDLERS_LIST(X)
#undef X
};

const char *csim_op_name(uint32_t kind) { return kind < CSIM_OP_KINDS ? op_names[kind] : NULL; }
const char *csim_op_text(uint32_t kind) { return kind < CSIM_OP_KINDS ? op_texts[kind] : NULL; }

const char *csim_atom_name(uint32_t atom)
{
    return atom < CSIM_ATOM_COUNT ? atom_names[atom] : NULL;
}

const char *csim_atom_text(uint32_t atom)
{
    return atom < CSIM_ATOM_COUNT ? atom_texts[atom] : NULL;
}

const char *csim_handler_name(uint32_t handler)
{
    return handler < CSIM_HANDLERS ? handler_names[handler] : NULL;
}

const char *csim_handler_text(uint32_t handler)
{
    return handler < CSIM_HANDLERS ? handler_texts[handler] : NULL;
}

/* `op` < 0: the complaint is about the handler as a whole. */
static enum csim_status refuse(struct csim_error *error, uint32_t handler, int op,
                               const char *reason)
{
    if (op < 0)
        snprintf(error->field, sizeof error->field, "%s", handler_names[handler]);
    else
        snprintf(error->field, sizeof error->field, "%s[%d]", handler_names[handler], op);
    snprintf(error->reason, sizeof error->reason, "%s", reason);
    return CSIM_BAD_PARAM;
}

static const char *check_operands(const struct csim_program *program, const struct csim_op *op)
{
    switch ((enum csim_op_kind)op->kind) {
    case CSIM_OP_STORE_PTES:
    case CSIM_OP_TOUCH_STACK:
    case CSIM_OP_SYNC_ROOT:
        return op->a <= 1 ? NULL : "operand a is a flag";
    case CSIM_OP_STORE_BARRIER:
        return op->a <= CSIM_BARRIER_COMPLETE ? NULL : "unknown barrier";
    case CSIM_OP_MARK:
    case CSIM_OP_CLEAR_MARK:
        if (op->a >= program->marks_nr)
            return "no such mark";
        if (op->kind == CSIM_OP_CLEAR_MARK && op->c != 32 && op->c != 64)
            return "a clear is 32 or 64 bits wide";
        return (op->kind == CSIM_OP_MARK ? op->b : op->d) <= CSIM_WHO_RUNNING ? NULL
                                                                              : "unknown targets";
    case CSIM_OP_FENCE:
        if (op->c > 1)
            return "Svinval is 0 or 1";
        return op->a <= CSIM_EXTENT_RANGE ? NULL : "unknown extent";
    case CSIM_OP_SPEND:
        return op->c <= 1 ? NULL : "operand c is a flag";
    case CSIM_OP_DEFER:
        return op->a <= CSIM_EXTENT_RANGE ? NULL : "unknown extent";
    case CSIM_OP_SHOOTDOWN:
        if (op->a > CSIM_EXTENT_RANGE)
            return "unknown extent";
        if (op->b > CSIM_WHO_RUNNING)
            return "unknown targets";
        return op->c <= CSIM_VIA_HW ? NULL : "unknown way";
    case CSIM_OP_WHEN: {
        uint64_t known = (UINT64_C(1) << CSIM_ATOM_COUNT) - 1;
        uint64_t atoms = op->all_of | op->none_of;
        uint64_t marked = UINT64_C(1) << CSIM_ATOM_MARKED;
        uint64_t pages = UINT64_C(1) << CSIM_ATOM_PAGES_LE;
        if ((atoms & ~known) != 0)
            return "unknown atom";
        if ((atoms & marked) != 0 && (atoms & pages) != 0)
            return "one condition has two operands";
        return (atoms & marked) != 0 && op->n >= program->marks_nr ? "no such mark" : NULL;
    }
    case CSIM_OP_END:
    case CSIM_OP_SYNC_CONTEXT:
    case CSIM_OP_PUBLISH:
    case CSIM_OP_FENCE_FREE:
    case CSIM_OP_ACK:
    case CSIM_OP_FLUSH_DEFERRED:
    case CSIM_OP_JUMP:
    case CSIM_OP_TOUCH:
    case CSIM_OP_ALLOCATE:
    case CSIM_OP_RETRY:
    case CSIM_OP_FALL_THROUGH:
    case CSIM_OP_FAIL:
        return NULL;
    case CSIM_OP_KINDS:
        break;
    }
    return "unknown op";
}

static enum csim_status check_handler(const struct csim_program *program,
                                      const struct csim_op *ops, uint32_t handler,
                                      struct csim_error *error)
{
    uint32_t at = program->handler_at[handler];
    uint32_t nr = program->handler_nr[handler];
    if (nr == 0)
        return CSIM_OK;
    if (at > program->ops_nr || nr > program->ops_nr - at)
        return refuse(error, handler, -1, "the handler reaches past the ops given");
    for (uint32_t i = 0; i < nr; i++) {
        const struct csim_op *op = &ops[at + i];
        const char *wrong = check_operands(program, op);
        if (wrong != NULL)
            return refuse(error, handler, (int)i, wrong);
        bool branch = op->kind == CSIM_OP_WHEN || op->kind == CSIM_OP_JUMP;
        if (!branch && op->skip != 0)
            return refuse(error, handler, (int)i, "only when and jump skip");
        if (branch && i + 1 + op->skip > nr - 1)
            return refuse(error, handler, (int)i, "the branch leaves its handler");
        if ((op->kind == CSIM_OP_END) != (i + 1 == nr))
            return refuse(error, handler, (int)i, "a handler has one end, its last op");
    }
    return CSIM_OK;
}

enum csim_status csim_check_program(const struct csim_program *program, const struct csim_op *ops,
                                    struct csim_error *error)
{
    memset(error, 0, sizeof *error);
    if (program->ops_nr > CSIM_OPS_MAX || program->marks_nr > CSIM_MARKS_MAX) {
        snprintf(error->field, sizeof error->field, "ops");
        snprintf(error->reason, sizeof error->reason, "at most %d ops and %d marks",
                 CSIM_OPS_MAX, CSIM_MARKS_MAX);
        return CSIM_BAD_PARAM;
    }
    for (uint32_t handler = 0; handler < CSIM_HANDLERS; handler++) {
        enum csim_status status = check_handler(program, ops, handler, error);
        if (status != CSIM_OK)
            return status;
    }
    return CSIM_OK;
}

static const char *clock_refuses(const struct csim_op *op)
{
    if (op->kind == CSIM_OP_MARK && op->b != CSIM_WHO_ALL && op->b != CSIM_WHO_OWN &&
        op->b != CSIM_WHO_FIRST_N)
        return "the clock marks all harts, the first n or the own one; check takes the others";
    if (op->kind == CSIM_OP_CLEAR_MARK && op->d != CSIM_WHO_OWN)
        return "the clock clears the own bit of a mark; check takes the others";
    return NULL;
}

enum csim_status policy_check_clock(const struct csim_program *program, const struct csim_op *ops,
                                    struct csim_error *error)
{
    for (uint32_t handler = 0; handler < CSIM_HANDLERS; handler++)
        for (uint32_t i = 0; i < program->handler_nr[handler]; i++) {
            const char *wrong = clock_refuses(&ops[program->handler_at[handler] + i]);
            if (wrong != NULL)
                return refuse(error, handler, (int)i, wrong);
        }
    return CSIM_OK;
}
