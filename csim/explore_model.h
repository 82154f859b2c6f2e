/* explore_model.h: a question to the explorer, checked and prepared. */
#ifndef EXPLORE_MODEL_H
#define EXPLORE_MODEL_H

#include "explore_state.h"

/* Checks everything that comes through the door; fills *error. */
enum csim_status explore_model_check(const struct csim_explore_question *q,
                                     const struct csim_program *program, const struct csim_op *ops,
                                     struct csim_error *error);

/* Of a question that was checked. */
void explore_model_make(struct explore_model *m, const struct csim_explore_question *q,
                        const struct csim_program *program, const struct csim_op *ops);

/* Whether eager steps keep the verdict; explore.c says why. */
bool explore_model_allows_eager(const struct explore_model *m);

#endif
