/* params.h: the door checks what comes in and trusts nobody. */
#ifndef PARAMS_H
#define PARAMS_H

#include <stdint.h>

#include "csim.h"

/* Names the first field that is wrong, and why. */
enum csim_status params_check(const struct csim_params *params, struct csim_error *error);

/* Items on harts that exist, in their order and each hart's own, over aligned ranges, behind
 * gates that open: signalled as often as they need, only by items of an earlier order. `scratch`
 * has 2 * gates_nr words. */
enum csim_status params_check_items(const struct csim_params *params,
                                    const struct csim_item *items, uint64_t items_nr,
                                    const uint32_t *gates, uint32_t gates_nr, uint64_t *scratch,
                                    struct csim_error *error);

#endif
