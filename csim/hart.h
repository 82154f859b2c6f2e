/* hart.h: one hart: its items, its accesses, its reference stream. Calls every file above it, for
 * itself alone. */
#ifndef HART_H
#define HART_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "world.h"

void hart_create(struct world *world, struct hart *hart, uint32_t id, struct arena *arena);

/* At the start of the clock, once tables, items and the home stack are there. */
void hart_start(const struct world *world, struct hart *hart);

/* Brings the reference stream up to `until_cycles`, or to the next item. Only while no frame is
 * open. What it does concerns nobody else, so a hart may lag behind and catch up later. */
void hart_catch_up(struct world *world, struct hart *hart, uint64_t until_cycles);

/* A lower bound of when this hart next does something that concerns others. */
uint64_t hart_next_cycles(const struct hart *hart);

/* True when the next item is due now, or the budget is spent. */
bool hart_item_due(const struct hart *hart);

/* One step: takes an interrupt, or steps the top frame, or opens the item that is due. Sets
 * hart->blocked when it must wait for others. */
void hart_step(struct world *world, struct hart *hart);

/* Something else runs on this hart now: the lookup in flight is lost, and when the stream goes on
 * its pages are looked up again. Only while no frame is open. */
void hart_interrupt_visit(struct hart *hart);

/* Time passes for a hart that waits: until `at_cycles`, charged to what it waits for. */
void hart_wait(struct hart *hart, uint64_t at_cycles);

#endif
