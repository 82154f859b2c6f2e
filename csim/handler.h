/* handler.h: a policy's ops on the clock, one op per step. The explorer reads the same ops. */
#ifndef HANDLER_H
#define HANDLER_H

#include <stdbool.h>
#include <stdint.h>

#include "world.h"

/* Executes the op the frame is at. */
void handler_step(struct world *world, struct hart *hart, struct frame *frame);

#endif
