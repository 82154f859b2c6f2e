/* A bit per hart: who sees a mark from when, what a clear removes, which lines move. Rows are
 * scripts; a bit that is early or late by one cycle is wrong. */
#include <stdlib.h>
#include <string.h>

#include "mark.h"
#include "rng.h"
#include "table.h"

enum { DELAY = 47, STEPS = 8, WORDS_MAX = 4, HARTS = 200 };

static void open_mark(struct mark *mark, struct arena *arena, uint32_t words, uint32_t delay_cycles)
{
    *arena = (struct arena){0};
    *mark = (struct mark){0};
    mark_create(mark, arena, words, HARTS, delay_cycles);                /* only measures */
    if (!arena_open(arena, arena->used_bytes))
        abort();
    mark_create(mark, arena, words, HARTS, delay_cycles);
    mark->stored_back = true;
}

enum kind { NOTHING, ALL, FIRST_40, OWN, IS, CLEAR, CLEAR_32, PLAIN };

struct step {
    enum kind kind;
    uint32_t hart;
    uint64_t at_cycles;
    uint64_t want;              /* IS: the bit */
};

static uint64_t take(struct mark *mark, const struct step *step, uint32_t *transfers)
{
    struct mark_cost cost = {0};
    bool bit = false;
    switch (step->kind) {
    case ALL:
        cost = mark_store(mark, step->hart, UINT32_MAX, false, step->at_cycles);
        break;
    case FIRST_40:
        cost = mark_store(mark, step->hart, 40, false, step->at_cycles);
        break;
    case OWN:
        cost = mark_store(mark, step->hart, UINT32_MAX, true, step->at_cycles);
        break;
    case IS:
        bit = mark_test(mark, step->hart, step->at_cycles, &cost);
        break;
    case CLEAR:
        cost = mark_clear(mark, step->hart, true, 64, step->at_cycles);
        break;
    case CLEAR_32:
        cost = mark_clear(mark, step->hart, true, 32, step->at_cycles);
        break;
    case PLAIN:
        cost = mark_clear(mark, step->hart, false, 64, step->at_cycles);
        break;
    case NOTHING:
        break;
    }
    *transfers = cost.transfers;
    return bit;
}

/* ---- bits ---- */

static const struct {
    const char *name;
    struct step steps[STEPS];
} bits[] = {
    {"nobody has marked", {{IS, 0, 100, 0}}},
    {"the own mark, at once", {{IS, 0, 99, 0}, {ALL, 0, 100, 0}, {IS, 0, 100, 1}}},
    {"another's, from the delay on", {{ALL, 0, 100, 0}, {IS, 1, 146, 0}, {IS, 1, 147, 1}}},
    {"it stays", {{ALL, 0, 100, 0}, {IS, 1, 147, 1}, {IS, 1, 100000, 1}}},
    {"of two marks the first decides", {{ALL, 0, 100, 0}, {ALL, 2, 120, 0}, {IS, 1, 147, 1}}},
    {"a clear removes it", {{ALL, 0, 100, 0}, {CLEAR, 1, 150, 0}, {IS, 1, 151, 0}}},
    {"the cycle it is seen, too", {{ALL, 0, 100, 0}, {CLEAR, 1, 147, 0}, {IS, 1, 147, 0},
                                   {IS, 1, 148, 0}, {IS, 1, 1000, 0}}},
    {"one cycle before, it does not", {{ALL, 0, 100, 0}, {CLEAR, 1, 146, 0}, {IS, 1, 146, 0},
                                       {IS, 1, 147, 1}}},
    {"it never removes a later one", {{ALL, 0, 100, 0}, {CLEAR, 1, 200, 0}, {ALL, 0, 201, 0},
                                      {IS, 1, 247, 0}, {IS, 1, 248, 1}}},
    {"nor one on its way", {{ALL, 0, 100, 0}, {ALL, 0, 160, 0}, {CLEAR, 1, 200, 0},
                            {IS, 1, 206, 0}, {IS, 1, 207, 1}}},
    {"an own mark before it, in its cycle", {{ALL, 0, 100, 0}, {CLEAR, 0, 100, 0},
                                             {IS, 0, 100, 0}, {IS, 0, 101, 0}}},
    {"an own mark after it, in its cycle", {{CLEAR, 0, 100, 0}, {ALL, 0, 100, 0},
                                            {IS, 0, 100, 1}}},
    {"before and after it, in its cycle", {{ALL, 0, 100, 0}, {CLEAR, 0, 100, 0},
                                           {ALL, 0, 100, 0}, {IS, 0, 100, 1}}},
    {"only the own bit is cleared", {{ALL, 0, 100, 0}, {CLEAR, 1, 200, 0}, {IS, 2, 201, 1},
                                     {IS, 0, 201, 1}}},
    {"for its own hart alone", {{OWN, 3, 100, 0}, {IS, 3, 100, 1}, {IS, 4, 500, 0}}},
    {"the first 40: the last of them", {{FIRST_40, 0, 100, 0}, {IS, 39, 147, 1}}},
    {"the first 40: one past them", {{FIRST_40, 0, 100, 0}, {IS, 40, 500, 0}}},
    {"every word is stored", {{ALL, 0, 100, 0}, {IS, 64, 147, 1}, {IS, 199, 147, 1}}},
    {"amoxor.w reaches hart 31", {{ALL, 99, 100, 0}, {CLEAR_32, 31, 200, 0}, {IS, 31, 201, 0}}},
    {"amoxor.w does not reach hart 32", {{ALL, 99, 100, 0}, {CLEAR_32, 32, 200, 0},
                                         {IS, 32, 201, 1}}},
    {"nor hart 63", {{ALL, 99, 100, 0}, {CLEAR_32, 63, 200, 0}, {IS, 63, 201, 1}}},
    {"it does reach hart 64, in the next word", {{ALL, 99, 100, 0}, {CLEAR_32, 64, 200, 0},
                                                 {IS, 64, 201, 0}}},
    {"a plain clear wipes a bit set since the test",
     {{IS, 0, 100, 0}, {ALL, 9, 110, 0}, {PLAIN, 0, 200, 0}, {IS, 1, 246, 1}, {IS, 1, 247, 0}}},
    {"and brings back one cleared since",
     {{ALL, 9, 10, 0}, {IS, 0, 100, 1}, {CLEAR, 1, 110, 0}, {PLAIN, 0, 120, 0}, {IS, 1, 166, 0},
      {IS, 1, 167, 1}}},
    {"an atomic one does not",
     {{IS, 0, 100, 0}, {ALL, 9, 110, 0}, {CLEAR, 0, 200, 0}, {IS, 1, 200, 1}}},
    {"a plain clear stores back what it read set",
     {{ALL, 9, 10, 0}, {IS, 0, 100, 1}, {PLAIN, 0, 110, 0}, {IS, 1, 111, 1}, {IS, 0, 111, 0}}},
    {"a plain clear and a bit still on its way",
     {{IS, 0, 100, 0}, {ALL, 9, 110, 0}, {PLAIN, 0, 156, 0}, {IS, 1, 156, 0}, {IS, 1, 157, 1},
      {IS, 1, 203, 0}}},
    {"a plain clear leaves the next word alone",
     {{IS, 0, 100, 0}, {ALL, 9, 110, 0}, {PLAIN, 0, 200, 0}, {IS, 64, 200, 1}}},
    {"a plain clear twice: the second test counts",
     {{IS, 0, 100, 0}, {ALL, 9, 110, 0}, {IS, 0, 190, 1}, {PLAIN, 0, 200, 0}, {IS, 1, 201, 1}}},
};

static void check_bits(struct table *table)
{
    for (size_t i = 0; i < ROWS(bits); i++) {
        struct arena arena;
        struct mark mark;
        open_mark(&mark, &arena, WORDS_MAX, DELAY);
        table->rows++;
        for (size_t n = 0; n < STEPS && bits[i].steps[n].kind != NOTHING; n++) {
            const struct step *step = &bits[i].steps[n];
            uint32_t transfers;
            uint64_t got = take(&mark, step, &transfers);
            if (step->kind == IS)
                table_want(table, bits[i].name, "the bit", got, step->want);
        }
        arena_close(&arena);
    }
}

/* ---- lines: 8 words, 512 harts each ---- */

static const struct {
    const char *name;
    uint32_t words;
    struct step steps[STEPS];       /* want: transfers of each */
} lines[] = {
    {"the first store finds nobody", 1, {{ALL, 0, 1, 0}}},
    {"again, alone", 1, {{ALL, 0, 1, 0}, {ALL, 0, 2, 0}, {CLEAR, 0, 3, 0}}},
    {"another's store", 1, {{ALL, 0, 1, 0}, {ALL, 1, 2, 1}, {ALL, 0, 3, 1}}},
    {"a load before any store", 1, {{IS, 0, 1, 0}}},
    {"a load after another's store, and again", 1, {{ALL, 0, 1, 0}, {IS, 1, 2, 1}, {IS, 1, 3, 0}}},
    {"the own load", 1, {{ALL, 0, 1, 0}, {IS, 0, 2, 0}}},
    {"a store to a line that was shared", 1, {{ALL, 0, 1, 0}, {IS, 1, 2, 1}, {ALL, 0, 3, 1},
                                              {ALL, 0, 4, 0}}},
    {"a clear takes the line, the next load brings it back", 1,
     {{ALL, 0, 1, 0}, {CLEAR, 1, 2, 1}, {IS, 0, 3, 1}, {IS, 1, 4, 0}}},
    {"8 words are one line", 8, {{ALL, 0, 1, 0}, {ALL, 1, 2, 1}}},
    {"9 words are two", 9, {{ALL, 0, 1, 0}, {ALL, 1, 2, 2}}},
    {"65 words are nine", 65, {{ALL, 0, 1, 0}, {ALL, 1, 2, 9}}},
    {"a clear moves its own line only", 65, {{ALL, 0, 1, 0}, {CLEAR, 1, 2, 1}, {ALL, 0, 3, 1}}},
};

static void check_lines(struct table *table)
{
    for (size_t i = 0; i < ROWS(lines); i++) {
        struct arena arena;
        struct mark mark;
        open_mark(&mark, &arena, lines[i].words, DELAY);
        table->rows++;
        for (size_t n = 0; n < STEPS && lines[i].steps[n].kind != NOTHING; n++) {
            uint32_t transfers;
            (void)take(&mark, &lines[i].steps[n], &transfers);
            table_want(table, lines[i].name, "transfers", transfers, lines[i].steps[n].want);
        }
        arena_close(&arena);
    }
}

/* ---- chance against memory, replayed from its start ---- */

enum { MARKS = 3000, PEOPLE = 70 };

/* A store to the mark, or an atomic clear; `word` is what a plain clear stored back. */
struct event {
    uint64_t at_cycles;
    uint32_t hart, first_n, width;
    bool own, amo;
    bool word[PEOPLE];
};

struct history {
    struct event events[MARKS];
    uint32_t nr;
    uint64_t stored_at_cycles[PEOPLE];
    bool read[PEOPLE][PEOPLE];
};

/* What an event makes of a bit. */
static bool applied(const struct event *e, uint32_t hart, bool bit)
{
    uint32_t first = e->hart / 64 * 64;
    if (e->amo)
        return bit && !(e->hart == hart && hart % 64 < e->width);
    if (e->width != 0)
        return hart >= first && hart < first + e->width ? e->word[hart] : bit;
    return bit || (e->own ? e->hart == hart : hart < e->first_n);
}

/* Atomic clears reach memory at once, stores after the delay, each kind in the order of time; a
 * reader's own stores are in front of that. */
static bool naive_bit(const struct history *h, uint32_t hart, uint32_t reader, uint64_t at_cycles,
                      uint32_t delay_cycles)
{
    uint32_t store = 0, amo = 0;
    bool bit = false;
    for (;;) {
        while (store < h->nr && h->events[store].amo)
            store++;
        while (amo < h->nr && !h->events[amo].amo)
            amo++;
        uint64_t drains = store < h->nr ? h->events[store].at_cycles + delay_cycles : UINT64_MAX;
        uint64_t clears = amo < h->nr ? h->events[amo].at_cycles : UINT64_MAX;
        uint64_t first = drains <= clears ? drains : clears;
        if (first > at_cycles)
            break;
        bit = applied(&h->events[drains <= clears ? store++ : amo++], hart, bit);
    }
    for (; store < h->nr; store++)
        if (!h->events[store].amo && h->events[store].hart == reader)
            bit = applied(&h->events[store], hart, bit);
    return bit;
}

static void note(struct history *h, struct event event)
{
    if (!event.amo)
        h->stored_at_cycles[event.hart] = event.at_cycles;
    h->events[h->nr++] = event;
}

static void chance_clear(struct mark *mark, struct history *h, struct event event,
                         uint64_t *at_cycles)
{
    uint64_t drained = h->stored_at_cycles[event.hart] + mark->visible_after_cycles;
    if (event.amo && *at_cycles < drained)
        *at_cycles = drained;           /* as the caller must */
    event.at_cycles = *at_cycles;
    memcpy(event.word, h->read[event.hart], sizeof event.word);
    event.word[event.hart] = false;
    (void)mark_clear(mark, event.hart, event.amo, event.width, *at_cycles);
    note(h, event);
}

static void one_chance(struct mark *mark, struct history *h, uint64_t draw, uint64_t *at_cycles,
                       struct table *table)
{
    struct event event = {
        .hart = (uint32_t)(draw >> 8) % PEOPLE,
        .first_n = draw >> 40 & 1 ? UINT32_MAX : (uint32_t)(draw >> 20) % PEOPLE,
        .own = (draw >> 41 & 3) == 0,
    };
    struct mark_cost cost;
    switch (draw % 8) {
    case 0: case 1: case 2: case 3: case 4:
        event.at_cycles = *at_cycles;
        (void)mark_store(mark, event.hart, event.first_n, event.own, *at_cycles);
        note(h, event);
        return;
    case 5:
        event.amo = (draw >> 43 & 1) != 0;
        event.width = draw >> 44 & 1 ? 64 : 32;
        chance_clear(mark, h, event, at_cycles);
        return;
    default:
        for (uint32_t i = 0; i < PEOPLE; i++)
            h->read[event.hart][i] =
                naive_bit(h, i, event.hart, *at_cycles, mark->visible_after_cycles);
        table_want(table, "chance", "a bit", mark_test(mark, event.hart, *at_cycles, &cost),
                   h->read[event.hart][event.hart]);
    }
}

/* gap_cycles: of two steps, on average half of it. */
static void check_chance(struct table *table, uint32_t delay_cycles, uint64_t gap_cycles)
{
    struct arena arena;
    struct mark mark;
    struct history *history = calloc(1, sizeof *history);
    uint64_t at_cycles = 1;
    if (history == NULL)
        abort();
    open_mark(&mark, &arena, WORDS_MAX, delay_cycles);
    table->rows++;
    for (uint64_t step = 0; step < MARKS; step++) {
        uint64_t draw = rng_draw(delay_cycles + gap_cycles, RNG_KIND, 0, step);
        at_cycles += rng_mix(draw) % gap_cycles;
        one_chance(&mark, history, draw, &at_cycles, table);
    }
    free(history);
    arena_close(&arena);
}

int main(void)
{
    struct table table = {0};
    check_bits(&table);
    check_lines(&table);
    check_chance(&table, 100, 40);
    check_chance(&table, 100, 2);       /* many marks at once are on their way */
    check_chance(&table, 1000, 8);
    check_chance(&table, 0, 3);
    return table_end(&table);
}
