/* explore_control.h: where a hart stands, and how it moves on; docs/abstract-machine.md, 3 and 4.
 *
 * Everything here is a hart's own control: invisible moves, frames, conditions. What its steps do
 * to memory is explore_step.c's. */
#ifndef EXPLORE_CONTROL_H
#define EXPLORE_CONTROL_H

#include "explore_state.h"

/* What a hart rests at. */
struct explore_rest {
    uint8_t phase;          /* enum csim_explore_phase */
    bool access;            /* the step is an access through the walker: */
    bool window;            /* a fault there is fatal */
    bool store;
    uint8_t page;
    uint8_t expected;       /* frame */
};

/* Runs all invisible moves of a hart, until it rests at a step. */
void explore_control_settle(const struct explore_model *m, struct explore_state *s, uint32_t h);

void explore_control_rest(const struct explore_model *m, const struct explore_state *s, uint32_t h,
                          struct explore_rest *rest);

/* The op a frame stands at. */
static inline const struct csim_op *explore_control_op(const struct explore_model *m,
                                                       const struct explore_frame *f)
{
    return &m->ops[f->at];
}

/* Past the op, or the action; no invisible moves yet. */
static inline void explore_control_next_op(struct explore_frame *f)
{
    f->at++;
    f->sub = 0;
}
void explore_control_next_action(const struct explore_model *m, struct explore_state *s,
                                 uint32_t h);

/* The access at which the hart rests has succeeded, or the step of its phase is done. */
void explore_control_completed(const struct explore_model *m, struct explore_state *s, uint32_t h);

/* Trap and nested-map frames on a hart. */
uint32_t explore_control_nested(const struct explore_hart *hart);
/* Push a frame; there must be room. `extent` is coded as in struct explore_frame. */
void explore_control_push_trap(const struct explore_model *m, struct explore_hart *hart,
                               enum explore_frame_kind kind, bool user, uint32_t extent);
void explore_control_push_switch(const struct explore_model *m, struct explore_hart *hart);
void explore_control_push_nested(const struct explore_model *m, struct explore_state *s,
                                 uint32_t h);
void explore_control_pop(const struct explore_model *m, struct explore_state *s, uint32_t h);

bool explore_control_interrupts_on(const struct explore_model *m, const struct explore_state *s,
                                   uint32_t h);

/* The action a hart stands at; NULL when its script is over. */
static inline const struct csim_explore_action *
explore_control_action(const struct explore_model *m, const struct explore_state *s, uint32_t h)
{
    return s->hart[h].at < m->q.actions_nr[h] ? &m->q.actions[h][s->hart[h].at] : 0;
}

/* Steps of a shootdown, held in `sub`: the send, this hart's own half, the wait. */
enum { EXPLORE_SEND = 0, EXPLORE_OWN_HALF = 1, EXPLORE_WAIT = 255 };

/* Harts that a shootdown's or a deferral's `who` names; h itself where the word includes it. */
uint32_t explore_control_targets(const struct explore_model *m, uint32_t who, uint32_t h);
/* The dynamic atoms of a WHEN, in bits of the whole condition. */
uint64_t explore_control_dynamic(const struct csim_op *op);
/* What `via` of an op means here: an enum csim_via, not MACHINE. */
uint32_t explore_control_via(const struct explore_model *m, const struct csim_op *op);

#endif
