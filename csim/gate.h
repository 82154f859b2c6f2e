/* gate.h: order between items of different harts: opened by so many signals, waited for by
 * harts. */
#ifndef GATE_H
#define GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "world.h"

/* One signal; the last one opens the gate and wakes whoever waits. */
void gate_signal(struct world *world, struct hart *hart, uint32_t gate);

/* When the hart can pass: 0 while the gate is shut. Another hart's signal is a store, seen as late
 * as any other store. */
uint64_t gate_passable_at(const struct world *world, const struct hart *hart, uint32_t gate);

/* Enlists the hart to be woken. */
void gate_wait(struct world *world, struct hart *hart, uint32_t gate);

/* The MAP item under way on this hart may be used by others from now on; once. */
void gate_publish(struct world *world, struct hart *hart);

#endif
