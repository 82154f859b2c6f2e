/* explore_chaos.c: any number of harts; docs/abstract-machine.md, section 8.
 *
 * One hart and one page stay exact. The rest of the system reaches them only through this hart's
 * bit of a mark, through traps and task switches it takes for other reasons, and through fences it
 * is asked for; each may happen at any moment, so what is verified holds whatever the rest is. What
 * is refuted may need something that no rest would do, and is confirmed by a bounded scenario or
 * not at all.
 */
#include "explore_chaos.h"

#include "explore_control.h"
#include "explore_label.h"
#include "explore_memory.h"

/* Numbers of the moves: MARK + m, WIPE + m, ... */
enum {
    MARK = 0, WIPE = 8, FAULT = 16, INTERRUPT = 17, FENCE = 18, SWITCH = 19, FAULT_STORE = 20,
    FAULT_FETCH = 21
};

/* A fault on a page nobody maps: from the script or a call, or from the C half of the one trap. */
static bool may_fault(const struct explore_model *m, const struct explore_state *s, uint32_t h)
{
    const struct explore_hart *hart = &s->hart[h];
    const struct explore_frame *f = explore_state_top_of(hart);
    const struct csim_explore_action *action = explore_control_action(m, s, h);
    if (action != NULL && action->kind == CSIM_EXPLORE_USER && hart->sub != 0)
        return false;
    uint32_t nested = explore_control_nested(hart);
    if (nested == 0)
        return true;
    return nested == 1 && f->kind != EXPLORE_CALL && f->kind != EXPLORE_NESTED &&
           f->phase == CSIM_EXPLORE_AT_OPS && explore_control_op(m, f)->kind != CSIM_OP_RETRY;
}

uint32_t explore_chaos_labels(const struct explore_model *m, const struct explore_state *s,
                              uint32_t h, uint16_t labels[EXPLORE_CHAOS_MOVES_MAX])
{
    uint32_t nr = 0;
    bool on = explore_control_interrupts_on(m, s, h);
    for (uint32_t mark = 0; mark < m->program.marks_nr; mark++) {
        bool is_set = s->hart[h].marks >> mark & 1;
        if (!is_set)
            labels[nr++] = explore_label_make(h, CSIM_EXPLORE_CHAOS, MARK + mark);
        if (is_set && (m->wiped >> mark & 1) != 0)
            labels[nr++] = explore_label_make(h, CSIM_EXPLORE_CHAOS, WIPE + mark);
    }
    if (may_fault(m, s, h)) {
        labels[nr++] = explore_label_make(h, CSIM_EXPLORE_CHAOS, FAULT);
        for (uint32_t kind = FAULT_STORE; m->tells_faults && kind <= FAULT_FETCH; kind++)
            labels[nr++] = explore_label_make(h, CSIM_EXPLORE_CHAOS, kind);
    }
    if (on)
        labels[nr++] = explore_label_make(h, CSIM_EXPLORE_CHAOS, INTERRUPT);
    if (on || m->q.via != CSIM_VIA_IMSIC)
        labels[nr++] = explore_label_make(h, CSIM_EXPLORE_CHAOS, FENCE);
    if (on && m->program.handler_nr[CSIM_SWITCH_TASK] != 0)
        labels[nr++] = explore_label_make(h, CSIM_EXPLORE_CHAOS, SWITCH);
    return nr;
}

static void trap(const struct explore_model *m, struct explore_state *s, uint32_t h,
                 enum explore_frame_kind kind, uint32_t extent, uint32_t flags)
{
    struct explore_hart *hart = &s->hart[h];
    bool user = kind != EXPLORE_FAULT && (hart->flags & EXPLORE_USER) != 0;
    explore_control_push_trap(m, hart, kind, user, extent);
    explore_state_top(hart)->flags |= (uint8_t)flags;
    explore_memory_serialise(m, s, h);
}

void explore_chaos_take(const struct explore_model *m, struct explore_state *s, uint32_t h,
                        uint32_t move)
{
    uint32_t elsewhere = (m->q.pages - 1) | 1u << 4;
    if (move == FAULT)
        trap(m, s, h, EXPLORE_FAULT, elsewhere, EXPLORE_ELSEWHERE);
    else if (move == FAULT_STORE)
        trap(m, s, h, EXPLORE_FAULT, elsewhere, EXPLORE_ELSEWHERE | EXPLORE_BY_STORE);
    else if (move == FAULT_FETCH)
        trap(m, s, h, EXPLORE_FAULT, elsewhere, EXPLORE_ELSEWHERE | EXPLORE_BY_FETCH);
    else if (move == INTERRUPT)
        trap(m, s, h, EXPLORE_INTERRUPTED, 0, 0);
    else if (move == FENCE && m->q.via == CSIM_VIA_IMSIC)
        trap(m, s, h, EXPLORE_IPI, EXPLORE_EVERYTHING << 4, EXPLORE_ACKED);
    else if (move == SWITCH)
        explore_control_push_switch(m, &s->hart[h]);
    else if (move == FENCE)
        explore_memory_fence_all(m, s, h);
    else if (move >= WIPE)
        s->hart[h].marks &= (uint8_t) ~(1u << (move - WIPE));
    else
        s->hart[h].marks |= (uint8_t)(1u << (move - MARK));
}
