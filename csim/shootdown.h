/* shootdown.h: fences on other harts: the call, the messages, their service, the wait.
 *
 * Three ways, a field of the machine unless the op says which:
 *   sbi    an ecall; M-mode IPIs that no S-mode mask delays, sent one after the other in windows of
 *          hart ids; a request above the range limit becomes a full fence; the firmware fences; the
 *          sender, waiting in M-mode, serves its own queue
 *   imsic  S-mode IPIs that wait until interrupts are on; the policy's `ipi` handler fences
 *   hw     a broadcast and a completion wait; nobody is interrupted
 * No way orders memory: the policy says its barrier.
 */
#ifndef SHOOTDOWN_H
#define SHOOTDOWN_H

#include <stdbool.h>
#include <stdint.h>

#include "world.h"

/* Opens a shootdown of the extent for this op: a frame on top of the hart's. */
void shootdown_begin(struct world *world, struct hart *hart, const struct csim_op *op, uint64_t va,
                     uint32_t pages, enum origin origin);

/* One step of the sender's frame. */
void shootdown_step(struct world *world, struct hart *hart, struct frame *frame);

/* Requests that can wait at one hart: each other one sends so many shootdowns at a time. */
uint32_t shootdown_inbox_room(const struct world *world);

/* An IPI has arrived at the hart's inbox. */
void shootdown_arrive(struct world *world, struct hart *hart, uint32_t slot, uint64_t at_cycles);

/* Takes the first request of the inbox if this hart can be interrupted now. */
bool shootdown_take(struct world *world, struct hart *hart);

/* One step of the target's frame. */
void shootdown_serve_step(struct world *world, struct hart *hart, struct frame *frame);

/* The target has finished with the sender's request. */
void shootdown_ack(struct world *world, struct hart *hart, struct frame *serve);

/* EVENT_ACK at the sender, EVENT_BROADCAST at a target. */
void shootdown_acked(struct world *world, uint32_t slot, uint64_t at_cycles);
void shootdown_broadcast(struct world *world, struct hart *hart, uint32_t slot,
                         uint64_t at_cycles);

/* True when an SBI request of so many pages is carried out as a full fence. */
bool shootdown_widens(const struct csim_machine *machine, uint32_t pages);

#endif
