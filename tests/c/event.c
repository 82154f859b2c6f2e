/* A queue over (at_cycles, hart, seq): what comes out when, whatever went in before. */
#include <stdlib.h>

#include "event.h"
#include "rng.h"
#include "table.h"

enum { HARTS = 6, OTHERS = 40, STEPS = 10 };

static void open_queue(struct event_queue *queue, struct arena *arena)
{
    *arena = (struct arena){0};
    event_create(queue, arena, HARTS, OTHERS);                           /* only measures */
    if (!arena_open(arena, arena->used_bytes))
        abort();
    event_create(queue, arena, HARTS, OTHERS);
}

/* PUSH: an event of kind 1, told apart by its arg. STEP: the hart's own. */
enum kind { NOTHING, PUSH, STEP, POP, EMPTY };

static const struct {
    const char *name;
    struct { enum kind kind; uint64_t at_cycles; uint32_t hart; uint64_t arg; } steps[STEPS];
} rows[] = {
    {"nothing", {{EMPTY, 0, 0, 0}}},
    {"by time", {{PUSH, 9, 0, 1}, {PUSH, 7, 0, 2}, {PUSH, 8, 0, 3},
                 {POP, 7, 0, 2}, {POP, 8, 0, 3}, {POP, 9, 0, 1}, {EMPTY, 0, 0, 0}}},
    {"of one time by hart", {{PUSH, 5, 3, 1}, {PUSH, 5, 1, 2}, {PUSH, 5, 2, 3},
                             {POP, 5, 1, 2}, {POP, 5, 2, 3}, {POP, 5, 3, 1}}},
    {"of one time and hart by push", {{PUSH, 5, 1, 1}, {PUSH, 5, 1, 2}, {PUSH, 5, 1, 3},
                                      {POP, 5, 1, 1}, {POP, 5, 1, 2}, {POP, 5, 1, 3}}},
    {"a step and others of its time and hart", {{PUSH, 5, 1, 1}, {STEP, 5, 1, 0}, {PUSH, 5, 1, 2},
                                                {POP, 5, 1, 1}, {POP, 5, 1, 0}, {POP, 5, 1, 2}}},
    {"one step a hart: the last word counts", {{STEP, 5, 1, 0}, {STEP, 9, 1, 0}, {POP, 9, 1, 0},
                                               {EMPTY, 0, 0, 0}}},
    {"a step moves to the front", {{STEP, 50, 2, 0}, {PUSH, 10, 0, 1}, {PUSH, 20, 0, 2},
                                   {STEP, 5, 2, 0}, {POP, 5, 2, 0}, {POP, 10, 0, 1},
                                   {POP, 20, 0, 2}, {EMPTY, 0, 0, 0}}},
    {"a step moves to the back", {{STEP, 5, 2, 0}, {PUSH, 10, 0, 1}, {PUSH, 20, 0, 2},
                                  {STEP, 50, 2, 0}, {POP, 10, 0, 1}, {POP, 20, 0, 2},
                                  {POP, 50, 2, 0}}},
    {"a moved step is the youngest of its time", {{STEP, 5, 1, 0}, {PUSH, 5, 1, 1},
                                                  {STEP, 5, 1, 0}, {POP, 5, 1, 1},
                                                  {POP, 5, 1, 0}}},
    {"a popped step can come again", {{STEP, 5, 1, 0}, {POP, 5, 1, 0}, {STEP, 3, 1, 0},
                                      {POP, 3, 1, 0}, {EMPTY, 0, 0, 0}}},
    {"steps of all harts", {{STEP, 4, 3, 0}, {STEP, 4, 1, 0}, {STEP, 4, 2, 0}, {STEP, 1, 2, 0},
                            {POP, 1, 2, 0}, {POP, 4, 1, 0}, {POP, 4, 3, 0}, {EMPTY, 0, 0, 0}}},
    {"the end of time", {{PUSH, UINT64_MAX, 0, 1}, {PUSH, 0, 5, 2}, {POP, 0, 5, 2},
                         {POP, UINT64_MAX, 0, 1}}},
};

static void check_rows(struct table *table)
{
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct arena arena;
        struct event_queue queue;
        struct event event;
        open_queue(&queue, &arena);
        table->rows++;
        for (size_t n = 0; n < STEPS && rows[i].steps[n].kind != NOTHING; n++) {
            uint64_t at_cycles = rows[i].steps[n].at_cycles, arg = rows[i].steps[n].arg;
            uint32_t hart = rows[i].steps[n].hart;
            const struct event *first = event_first(&queue);
            switch (rows[i].steps[n].kind) {
            case PUSH:
                event_push(&queue, at_cycles, hart, 1, arg);
                break;
            case STEP:
                event_schedule(&queue, hart, at_cycles);
                break;
            case POP:
                table_want(table, rows[i].name, "first", first->at_cycles, at_cycles);
                table_want(table, rows[i].name, "popped", event_pop(&queue, &event), true);
                table_want(table, rows[i].name, "at", event.at_cycles, at_cycles);
                table_want(table, rows[i].name, "hart", event.hart, hart);
                table_want(table, rows[i].name, "arg", event.arg, arg);
                table_want(table, rows[i].name, "kind", event.kind, arg == 0 ? EVENT_STEP : 1);
                break;
            case EMPTY:
                table_want(table, rows[i].name, "none", first == NULL, true);
                table_want(table, rows[i].name, "popped", event_pop(&queue, &event), false);
                break;
            case NOTHING:
                break;
            }
        }
        arena_close(&arena);
    }
}

/* ---- chance against a list that is searched ---- */

struct list { struct event events[HARTS + OTHERS]; uint32_t nr; uint64_t pushed; };

static bool is_before(const struct event *a, const struct event *b)
{
    if (a->at_cycles != b->at_cycles)
        return a->at_cycles < b->at_cycles;
    return a->hart != b->hart ? a->hart < b->hart : a->seq < b->seq;
}

static struct event list_pop(struct list *list)
{
    uint32_t first = 0;
    for (uint32_t i = 1; i < list->nr; i++)
        if (is_before(&list->events[i], &list->events[first]))
            first = i;
    struct event event = list->events[first];
    list->events[first] = list->events[--list->nr];
    return event;
}

static void list_put(struct list *list, uint64_t at_cycles, uint32_t hart, uint32_t kind,
                     uint64_t arg)
{
    for (uint32_t i = 0; kind == EVENT_STEP && i < list->nr; i++)
        if (list->events[i].kind == EVENT_STEP && list->events[i].hart == hart)
            list->events[i--] = list->events[--list->nr];
    list->events[list->nr++] = (struct event){.at_cycles = at_cycles, .seq = list->pushed++,
                                              .hart = hart, .kind = kind, .arg = arg};
}

static uint32_t others_in(const struct list *list)
{
    uint32_t number = 0;
    for (uint32_t i = 0; i < list->nr; i++)
        number += list->events[i].kind != EVENT_STEP;
    return number;
}

static void check_chance(struct table *table, uint64_t times)
{
    struct arena arena;
    struct event_queue queue;
    struct list list = {.nr = 0};
    open_queue(&queue, &arena);
    table->rows++;
    for (uint64_t step = 0; step < 20000; step++) {
        uint64_t draw = rng_draw(times, RNG_KIND, 0, step), at_cycles = (draw >> 20) % times;
        uint32_t hart = (uint32_t)(draw >> 8) % HARTS;
        struct event got = {0};
        if (draw % 8 < 3 && others_in(&list) < OTHERS) {
            event_push(&queue, at_cycles, hart, 1 + draw % 2, step);
            list_put(&list, at_cycles, hart, 1 + draw % 2, step);
        } else if (draw % 8 < 5) {
            event_schedule(&queue, hart, at_cycles);
            list_put(&list, at_cycles, hart, EVENT_STEP, 0);
        } else if (list.nr > 0) {
            struct event want = list_pop(&list);
            table_want(table, "chance", "popped", event_pop(&queue, &got), true);
            table_want(table, "chance", "at", got.at_cycles, want.at_cycles);
            table_want(table, "chance", "hart", got.hart, want.hart);
            table_want(table, "chance", "seq", got.seq, want.seq);
            table_want(table, "chance", "kind", got.kind, want.kind);
            table_want(table, "chance", "arg", got.arg, want.arg);
        } else {
            table_want(table, "chance", "empty", event_pop(&queue, &got), false);
        }
    }
    arena_close(&arena);
}

int main(void)
{
    struct table table = {0};
    check_rows(&table);
    check_chance(&table, 5);
    check_chance(&table, 1000);
    return table_end(&table);
}
