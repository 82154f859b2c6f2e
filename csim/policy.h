/* policy.h: the ops of a mapping policy: names and the checks that clock and explorer both require.
 * Knows no clock. The list itself is CSIM_OPS in csim.h. */
#ifndef POLICY_H
#define POLICY_H

#include <stdbool.h>

#include "csim.h"

/* The ops of one handler; NULL when the policy has none. */
static inline const struct csim_op *policy_handler(const struct csim_program *program,
                                                   const struct csim_op *ops, uint32_t handler)
{
    return program->handler_nr[handler] == 0 ? 0 : ops + program->handler_at[handler];
}

/* Whether the clock can run ops that csim_check_program has passed: it stores marks in whole words,
 * for all harts, the first n or the own one, and clears the own bit. The explorer does all. */
enum csim_status policy_check_clock(const struct csim_program *program, const struct csim_op *ops,
                                    struct csim_error *error);

#endif
