/* tables.h: the page tables a run starts with, and how many frames it may need in all. */
#ifndef TABLES_H
#define TABLES_H

#include <stdint.h>

#include "arena.h"
#include "workload.h"
#include "world.h"

/* Upper bound of table frames: fixed areas, the items' ranges, one nested arena a hart. */
uint32_t tables_frames_max(const struct csim_params *params, const struct csim_layout *layout,
                           const struct workload *workload, struct arena *scratch);

/* Maps kernel text, linear map, user pages and each hart's own stack, gives the root entries of
 * the items' areas their tables; all before the clock starts. */
void tables_fill(struct world *world, const struct workload *workload);

#endif
