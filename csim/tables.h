/* tables.h: the page tables a run starts with, and how many frames it may need in all. */
#ifndef TABLES_H
#define TABLES_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "workload.h"
#include "world.h"

/* Upper bound of table frames: fixed areas, the items' ranges, one nested arena a hart. */
uint32_t tables_frames_max(const struct csim_params *params, const struct csim_layout *layout,
                           const struct workload *workload, struct arena *scratch);

/* Whether the range meets the harts' own stacks or their arenas of nested mappings. */
bool tables_has_own(const struct csim_params *params, uint64_t va, uint32_t pages);

/* Pages from the start of the vmalloc area that are left for mappings of the work. */
uint64_t tables_area_pages_max(void);

/* Maps kernel text, linear map, user pages and each hart's own stack, gives the root entries of
 * the items' areas their tables; all before the clock starts. */
void tables_fill(struct world *world, const struct workload *workload);

#endif
