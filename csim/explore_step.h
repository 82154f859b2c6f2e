/* explore_step.h: the transitions; docs/abstract-machine.md, sections 3, 4 and 7. */
#ifndef EXPLORE_STEP_H
#define EXPLORE_STEP_H

#include "explore_control.h"
#include "explore_label.h"
#include "explore_state.h"

enum { EXPLORE_LABELS_MAX = 96 };

/* Makes the first state. */
void explore_step_start(const struct explore_model *m, struct explore_state *s);

/* The transitions of one hart, which rests there, in a fixed order; returns how many. */
uint32_t explore_step_labels(const struct explore_model *m, const struct explore_state *s,
                             uint32_t h, const struct explore_rest *rest,
                             uint16_t labels[EXPLORE_LABELS_MAX]);

/* Whether the hart rests at a step that can be taken at once and alone: it is enabled, stays so,
 * and what the others do before it they can do after it. Only where eager steps are allowed. */
bool explore_step_eager(const struct explore_model *m, const struct explore_state *s, uint32_t h,
                        const struct explore_rest *rest);

/* Harts (bits) whose part of the state the transition may change; what is shared always may. */
uint32_t explore_step_reach(const struct explore_model *m, const struct explore_state *s,
                            uint16_t label);

enum explore_outcome explore_step_take(const struct explore_model *m, struct explore_state *s,
                                       uint16_t label);

/* Whether the dynamic part of the condition at which a frame rests holds now: read at once. */
bool explore_step_holds(const struct explore_model *m, const struct explore_state *s, uint32_t h,
                        const struct explore_frame *f);

/* Every script is over and no frame is left. */
bool explore_step_finished(const struct explore_model *m, const struct explore_state *s);

#endif
