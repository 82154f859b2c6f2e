/* trap.h: walk failure to scause; entry, the policy's check, the save onto the stack, the C
 * handler, the return. */
#ifndef TRAP_H
#define TRAP_H

#include <stdint.h>

#include "world.h"

/* A page fault of this hart's own access, from S-mode. */
void trap_fault(struct world *world, struct hart *hart, uint32_t scause, uint64_t va);

/* A trap of the workload that every policy takes. Its handler is useful work; what is charged is
 * the policy's check, and a trap more where the check takes the access for one to be retried. */
void trap_of_work(struct world *world, struct hart *hart, uint64_t scause, uint64_t stval,
                  bool from_user);

/* One step of the trap's frame. */
void trap_step(struct world *world, struct hart *hart, struct frame *frame);

#endif
