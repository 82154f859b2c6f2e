/* event.c: a binary heap, sift up and sift down; see event.h for the order. Steps know their
 * place, so a hart that is woken early or late moves its one event instead of leaving stale ones
 * behind. */
#include "event.h"

#include <assert.h>

void event_create(struct event_queue *queue, struct arena *arena, uint32_t harts, uint32_t others)
{
    queue->room = harts + others;
    queue->heap = arena_take(arena, queue->room, sizeof queue->heap[0]);
    queue->place = arena_take(arena, harts, sizeof queue->place[0]);
    queue->nr = 0;
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

static void put(struct event_queue *queue, uint32_t at, const struct event *event)
{
    queue->heap[at] = *event;
    if (event->kind == EVENT_STEP)
        queue->place[event->hart] = at + 1;
}

/* Finds the place of `event` from `at` towards the root; returns it. */
static uint32_t up(struct event_queue *queue, uint32_t at, const struct event *event)
{
    while (at > 0) {
        uint32_t parent = (at - 1) / 2;
        if (!earlier(event, &queue->heap[parent]))
            break;
        put(queue, at, &queue->heap[parent]);
        at = parent;
    }
    return at;
}

/* The same towards the leaves. */
static uint32_t down(struct event_queue *queue, uint32_t at, const struct event *event)
{
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= queue->nr)
            break;
        if (child + 1 < queue->nr && earlier(&queue->heap[child + 1], &queue->heap[child]))
            child++;
        if (!earlier(&queue->heap[child], event))
            break;
        put(queue, at, &queue->heap[child]);
        at = child;
    }
    return at;
}

static void insert(struct event_queue *queue, uint64_t at_cycles, uint32_t hart, uint32_t kind,
                   uint64_t arg)
{
    assert(queue->nr < queue->room);
    struct event event = {.at_cycles = at_cycles, .seq = queue->pushed++, .hart = hart,
                          .kind = kind, .arg = arg};
    uint32_t at = up(queue, queue->nr++, &event);
    put(queue, at, &event);
}

void event_push(struct event_queue *queue, uint64_t at_cycles, uint32_t hart, uint32_t kind,
                uint64_t arg)
{
    assert(kind != EVENT_STEP);
    insert(queue, at_cycles, hart, kind, arg);
}

void event_schedule(struct event_queue *queue, uint32_t hart, uint64_t at_cycles)
{
    uint32_t place = queue->place[hart];
    if (place == 0) {
        insert(queue, at_cycles, hart, EVENT_STEP, 0);
        return;
    }
    struct event event = queue->heap[place - 1];
    event.at_cycles = at_cycles;
    event.seq = queue->pushed++;
    uint32_t at = up(queue, place - 1, &event);
    at = down(queue, at, &event);
    put(queue, at, &event);
}

bool event_pop(struct event_queue *queue, struct event *event)
{
    if (queue->nr == 0)
        return false;
    *event = queue->heap[0];
    if (event->kind == EVENT_STEP)
        queue->place[event->hart] = 0;
    struct event last = queue->heap[--queue->nr];
    if (queue->nr > 0) {
        uint32_t at = down(queue, 0, &last);
        put(queue, at, &last);
    }
    return true;
}
