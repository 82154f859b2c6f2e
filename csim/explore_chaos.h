/* explore_chaos.h: whatever any number of other harts, pages and mappers could do to one hart. */
#ifndef EXPLORE_CHAOS_H
#define EXPLORE_CHAOS_H

#include "explore_state.h"

enum { EXPLORE_CHAOS_MOVES_MAX = CSIM_MARKS_MAX + 6 };

/* Its transitions now, as labels; returns how many. */
uint32_t explore_chaos_labels(const struct explore_model *m, const struct explore_state *s,
                              uint32_t h, uint16_t labels[EXPLORE_CHAOS_MOVES_MAX]);

void explore_chaos_take(const struct explore_model *m, struct explore_state *s, uint32_t h,
                        uint32_t move);

#endif
