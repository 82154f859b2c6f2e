/* event.h: a binary heap over a total order (at_cycles, hart, seq). Two events never compare equal,
 * so what happens next never depends on how the heap was filled. Each hart has at most one event of
 * its own, its next step, which can be moved. */
#ifndef EVENT_H
#define EVENT_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"

/* Kind 0 is a hart's own step; the other kinds are the owner's. */
enum { EVENT_STEP = 0 };

struct event {
    uint64_t at_cycles;
    uint64_t seq;          /* order of the pushes: breaks the last tie */
    uint32_t hart;         /* whom it concerns */
    uint32_t kind;
    uint64_t arg;
};

struct event_queue {
    struct event *heap;
    uint32_t *place;       /* [hart]: where its step is in the heap, + 1; 0 = nowhere */
    uint32_t nr, room;
    uint64_t pushed;
};

/* Room for `others` events beside one step a hart; harts may be 0. */
void event_create(struct event_queue *queue, struct arena *arena, uint32_t harts, uint32_t others);

/* The room was sized from the params: a push cannot fail. Kind is not EVENT_STEP. */
void event_push(struct event_queue *queue, uint64_t at_cycles, uint32_t hart, uint32_t kind,
                uint64_t arg);

/* The hart's next step is at `at_cycles`, whenever it was before. */
void event_schedule(struct event_queue *queue, uint32_t hart, uint64_t at_cycles);

/* Takes the earliest; false when there is none. */
bool event_pop(struct event_queue *queue, struct event *event);

/* The earliest, or NULL. */
static inline const struct event *event_first(const struct event_queue *queue)
{
    return queue->nr == 0 ? 0 : &queue->heap[0];
}

#endif
