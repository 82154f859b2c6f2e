/* explore_describe.h: transitions for readers. */
#ifndef EXPLORE_DESCRIBE_H
#define EXPLORE_DESCRIBE_H

#include "explore_state.h"

/* What the transition `label` out of `s` is about; fills all of *step but `property`. */
void explore_describe(const struct explore_model *m, const struct explore_state *s, uint16_t label,
                      struct csim_explore_step *step);

#endif
