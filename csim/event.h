/* event.h: a binary heap over a total order (at_cycles, hart, seq). Two events never compare equal,
 * so what happens next never depends on how the heap was filled. */
#ifndef EVENT_H
#define EVENT_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"

struct event {
    uint64_t at_cycles;
    uint64_t seq;          /* order of the pushes: breaks the last tie */
    uint32_t hart;         /* whom it concerns */
    uint16_t kind;         /* the owner's enum */
    uint16_t zero;
    uint64_t arg;
};

struct event_queue {
    struct event *heap;
    uint32_t nr, room;
    uint64_t pushed;
};

void event_create(struct event_queue *queue, struct arena *arena, uint32_t room);

/* The room was sized from the params: a push cannot fail. */
void event_push(struct event_queue *queue, uint64_t at_cycles, uint32_t hart, uint16_t kind,
                uint64_t arg);

/* Takes the earliest; false when there is none. */
bool event_pop(struct event_queue *queue, struct event *event);

/* The earliest, or NULL. */
static inline const struct event *event_first(const struct event_queue *queue)
{
    return queue->nr == 0 ? 0 : &queue->heap[0];
}

#endif
