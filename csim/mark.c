/* mark.c: who has set which bit by when, and whose cache the line is in.
 *
 * Lines follow a three-state protocol as far as it costs: a store wants the line alone (a transfer
 * unless the hart already holds it alone), a load wants a current copy (a transfer when somebody
 * stored since). The transfer itself is a machine parameter.
 *
 * Only marks younger than the visibility delay can be invisible to somebody, so a log of the last
 * ones is enough: a bit is what the youngest visible store to it and the hart's last atomic clear
 * make it. A plain clear is a store as well: of the word that the hart's last test read, its own
 * bit left out, so it wipes what was set in between and brings back what was cleared. An entry
 * that leaves the log is folded into each hart's `aged` time. Where so many stores are on their way
 * at once that one leaves before it is visible to all, a still older one that is visible may be
 * missed for as long.
 */
#include "mark.h"

#include <assert.h>

enum { WORD_BITS = 64 };

void mark_create(struct mark *mark, struct arena *arena, uint32_t words, uint32_t harts,
                 uint32_t visible_after_cycles)
{
    uint32_t used = (harts + WORD_BITS - 1) / WORD_BITS;
    uint32_t all = words > used ? words : used;
    mark->words = words;
    mark->harts = harts;
    mark->logged = 0;
    mark->lines_nr = (all + MARK_LINE_WORDS - 1) / MARK_LINE_WORDS;
    mark->aged_at_cycles = arena_take(arena, harts, sizeof(uint64_t));
    mark->cleared_at_cycles = arena_take(arena, harts, sizeof(uint64_t));
    mark->cleared_logged = arena_take(arena, harts, sizeof(uint64_t));
    mark->read_words = arena_take(arena, harts, sizeof mark->read_words[0]);
    mark->lines = arena_take(arena, mark->lines_nr, sizeof mark->lines[0]);
    mark->seen = arena_take(arena, (size_t)harts * mark->lines_nr, sizeof(uint64_t));
    mark->visible_after_cycles = visible_after_cycles;
}

static bool covers(const struct mark_entry *entry, uint32_t hart)
{
    if (entry->width != 0)
        return hart >= entry->first_n && hart - entry->first_n < entry->width;
    return entry->own ? entry->hart == hart : hart < entry->first_n;
}

/* What an entry that covers the hart makes of its bit. */
static bool sets(const struct mark_entry *entry, uint32_t hart)
{
    return entry->width == 0 || (entry->word >> (hart - entry->first_n) & 1) != 0;
}

static uint32_t own_line(uint32_t hart) { return hart / WORD_BITS / MARK_LINE_WORDS; }

static uint32_t store_line(struct mark *mark, uint32_t hart, uint32_t line)
{
    struct mark_line *l = &mark->lines[line];
    uint64_t *seen = &mark->seen[(size_t)hart * mark->lines_nr + line];
    bool alone = l->version != 0 && l->owner == hart && !l->shared;
    l->owner = hart;
    l->shared = false;
    l->version++;
    *seen = l->version;
    return alone || l->version == 1 ? 0 : 1;
}

static uint32_t load_line(struct mark *mark, uint32_t hart, uint32_t line)
{
    struct mark_line *l = &mark->lines[line];
    uint64_t *seen = &mark->seen[(size_t)hart * mark->lines_nr + line];
    if (*seen == l->version)
        return 0;
    *seen = l->version;
    l->shared = true;
    return 1;
}

static uint64_t visible_at(const struct mark *mark, const struct mark_entry *entry, uint32_t hart)
{
    return entry->at_cycles + (entry->hart == hart ? 0 : mark->visible_after_cycles);
}

/* Whether the hart's last clear has left this entry. */
static bool survives(const struct mark *mark, uint64_t number, uint32_t hart)
{
    const struct mark_entry *entry = &mark->log[number % MARK_LOG];
    return number >= mark->cleared_logged[hart] ||
           visible_at(mark, entry, hart) > mark->cleared_at_cycles[hart];
}

/* The entry of that number is about to be overwritten. */
static void age(struct mark *mark, uint64_t number)
{
    const struct mark_entry *entry = &mark->log[number % MARK_LOG];
    for (uint32_t hart = 0; hart < mark->harts; hart++)
        if (covers(entry, hart) && survives(mark, number, hart))
            mark->aged_at_cycles[hart] = sets(entry, hart) ? visible_at(mark, entry, hart) : 0;
}

static void clear(struct mark *mark, uint32_t hart, uint64_t at_cycles)
{
    mark->cleared_at_cycles[hart] = at_cycles;
    mark->cleared_logged[hart] = mark->logged;
    if (mark->aged_at_cycles[hart] <= at_cycles)
        mark->aged_at_cycles[hart] = 0;
}

static void log_store(struct mark *mark, struct mark_entry entry)
{
    if (mark->logged >= MARK_LOG)
        age(mark, mark->logged - MARK_LOG);
    mark->log[mark->logged % MARK_LOG] = entry;
    mark->logged++;
}

struct mark_cost mark_store(struct mark *mark, uint32_t hart, uint32_t first_n, bool own,
                            uint64_t at_cycles)
{
    log_store(mark, (struct mark_entry){.at_cycles = at_cycles, .hart = hart, .first_n = first_n,
                                        .own = own});
    struct mark_cost cost = {0};
    if (own) {
        cost.transfers = store_line(mark, hart, own_line(hart));
        return cost;
    }
    uint32_t lines = (mark->words + MARK_LINE_WORDS - 1) / MARK_LINE_WORDS;
    for (uint32_t line = 0; line < lines; line++)
        cost.transfers += store_line(mark, hart, line);
    return cost;
}

/* The bit of `hart` as a reader sees it. */
static bool bit_at(const struct mark *mark, uint32_t hart, uint32_t reader, uint64_t at_cycles)
{
    uint64_t kept = mark->logged < MARK_LOG ? mark->logged : MARK_LOG;
    for (uint64_t back = 1; back <= kept; back++) {
        uint64_t number = mark->logged - back;
        const struct mark_entry *entry = &mark->log[number % MARK_LOG];
        bool alive = survives(mark, number, hart);
        if (covers(entry, hart) && alive && visible_at(mark, entry, reader) <= at_cycles)
            return sets(entry, hart);
        if (!alive && entry->at_cycles + mark->visible_after_cycles <=
                          mark->cleared_at_cycles[hart])
            return false;                           /* so is every older one */
    }
    uint64_t aged = mark->aged_at_cycles[hart];
    return aged != 0 && aged <= at_cycles;
}

/* The bits of the word that `hart` is in, as it sees them. */
static uint64_t word_at(const struct mark *mark, uint32_t hart, uint64_t at_cycles)
{
    uint32_t first = hart / WORD_BITS * WORD_BITS;
    uint64_t word = 0;
    for (uint32_t i = 0; i < WORD_BITS && first + i < mark->harts; i++)
        word |= (uint64_t)bit_at(mark, first + i, hart, at_cycles) << i;
    return word;
}

bool mark_test(struct mark *mark, uint32_t hart, uint64_t at_cycles, struct mark_cost *cost)
{
    cost->transfers = load_line(mark, hart, own_line(hart));
    if (!mark->stored_back)
        return bit_at(mark, hart, hart, at_cycles);
    mark->read_words[hart] = word_at(mark, hart, at_cycles);
    return (mark->read_words[hart] >> hart % WORD_BITS & 1) != 0;
}

struct mark_cost mark_clear(struct mark *mark, uint32_t hart, bool amo, uint32_t width,
                            uint64_t at_cycles)
{
    struct mark_cost cost = {store_line(mark, hart, own_line(hart))};
    uint64_t own = UINT64_C(1) << hart % WORD_BITS;
    if (amo) {
        if (hart % WORD_BITS < width)
            clear(mark, hart, at_cycles);
        return cost;
    }
    log_store(mark, (struct mark_entry){.at_cycles = at_cycles, .hart = hart,
                                        .first_n = hart / WORD_BITS * WORD_BITS, .width = width,
                                        .word = mark->read_words[hart] & ~own});
    return cost;
}
