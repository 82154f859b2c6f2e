/* event.c: a binary heap, sift up and sift down; see event.h for the order. */
#include "event.h"

#include <assert.h>

void event_create(struct event_queue *queue, struct arena *arena, uint32_t room)
{
    queue->heap = arena_take(arena, room, sizeof queue->heap[0]);
    queue->nr = 0;
    queue->room = room;
    queue->pushed = 0;
}

static bool earlier(const struct event *a, const struct event *b)
{
    if (a->at_cycles != b->at_cycles)
        return a->at_cycles < b->at_cycles;
    if (a->hart != b->hart)
        return a->hart < b->hart;
    return a->seq < b->seq;
}

void event_push(struct event_queue *queue, uint64_t at_cycles, uint32_t hart, uint16_t kind,
                uint64_t arg)
{
    assert(queue->nr < queue->room);
    struct event event = {.at_cycles = at_cycles, .seq = queue->pushed++, .hart = hart,
                          .kind = kind, .arg = arg};
    uint32_t at = queue->nr++;
    while (at > 0) {
        uint32_t parent = (at - 1) / 2;
        if (!earlier(&event, &queue->heap[parent]))
            break;
        queue->heap[at] = queue->heap[parent];
        at = parent;
    }
    queue->heap[at] = event;
}

bool event_pop(struct event_queue *queue, struct event *event)
{
    if (queue->nr == 0)
        return false;
    *event = queue->heap[0];
    struct event last = queue->heap[--queue->nr];
    uint32_t at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= queue->nr)
            break;
        if (child + 1 < queue->nr && earlier(&queue->heap[child + 1], &queue->heap[child]))
            child++;
        if (!earlier(&queue->heap[child], &last))
            break;
        queue->heap[at] = queue->heap[child];
        at = child;
    }
    if (queue->nr > 0)
        queue->heap[at] = last;
    return true;
}
