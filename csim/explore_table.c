/* explore_table.c: the visited set.
 *
 * Slots hold 64-bit fingerprints (exact: half of one, and where the record is) in open addressing
 * with linear probing from a place given by the upper half. The slots in use are a
 * power of two that doubles when they are seven tenths full, so that a small question touches
 * little memory; they lie in a region reserved for the largest size, and doubling happens in place:
 * the region above the slots in use is empty, each fingerprint either stays or moves up by the old
 * size, and slots visited in ascending order never jump over one that is still to move. For that a
 * probe must not wrap around: the slots end in a tail of TAIL that catches the last clusters.
 *
 * Fingerprints are NH (Black and others, UMAC, CRYPTO 1999): sums of products of 64 x 64 -> 128
 * bits whose multiplications overlap, folded to 64 bits by one more. With N states the chance that
 * any two share one is about N^2 / 2^65. Exact mode compares the records too and has no such
 * chance; its price is the records, kept for ever.
 *
 * The ring of records that wait for expansion starts small and doubles when it is full, so that a
 * small frontier is written over the same lines again and again instead of over fresh memory.
 *
 * A lookup is a cache miss, exact mode's comparison another. Offers therefore wait until there are
 * EXPLORE_BATCH of them: their slots are prefetched when they are offered, the records they may be
 * equal to before the first of them is compared. They are looked up in the order offered.
 *
 * Left out: more than one thread. Level-synchronous insertion in one order is what makes the
 * answer the same everywhere; many questions at once are what several cores are for.
 */
#include "explore_table.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "rng.h"

enum { LOG2_MIN = 10, TAIL = 1024, RING_WORDS_MIN = 1 << 14 };

__extension__ typedef unsigned __int128 wide;

static uint64_t fold(uint64_t a, uint64_t b)
{
    wide product = (wide)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static void make_keys(struct explore_table *table, uint64_t seed)
{
    for (uint32_t i = 0; i < EXPLORE_KEYS; i++)
        table->keys[i] = rng_mix(seed + i * UINT64_C(0x9e3779b97f4a7c15));
}

/* Its upper half is never 0: that is an empty slot. A record begins with its length, so an odd last
 * word may as well be followed by a zero. */
static uint64_t fingerprint(const struct explore_table *table, const uint64_t *record,
                            uint32_t length)
{
    const uint64_t *keys = table->keys;
    wide sum = 0;
    uint32_t i = 0;
    for (; i + 2 <= length; i += 2)
        sum += (wide)(record[i] + keys[i]) * (record[i + 1] + keys[i + 1]);
    if (i < length)
        sum += (wide)(record[i] + keys[i]) * keys[i + 1];
    uint64_t h = fold((uint64_t)sum ^ keys[EXPLORE_KEYS - 2],
                      (uint64_t)(sum >> 64) ^ keys[EXPLORE_KEYS - 1]);
    return h >> 32 != 0 ? h : h | UINT64_C(1) << 32;
}

static uint32_t log2_floor(uint64_t n)
{
    uint32_t log2 = 0;
    while (n >> (log2 + 1) != 0)
        log2++;
    return log2;
}

/* Slots for `states` states at seven tenths, within `room` bytes for slots and states. */
static uint32_t log2_wanted(uint64_t room, uint64_t slot_bytes, uint64_t states)
{
    /* three parts in eight for slots, the rest for the states they name */
    uint64_t slots_max = room / 8 * 3 / slot_bytes;
    if (slots_max >> LOG2_MIN == 0)
        return 0;
    uint32_t log2 = log2_floor(slots_max);
    if (log2 > 31)
        log2 = 31; /* half a fingerprint says where a probe begins */
    while (log2 > LOG2_MIN && (UINT64_C(1) << (log2 - 1)) / 10 * 7 >= states)
        log2--;
    return log2;
}

static void *cut(unsigned char **from, uint64_t count, uint64_t size_bytes)
{
    void *piece = *from;
    *from += (count * size_bytes + 7) / 8 * 8;
    return piece;
}

static uint64_t slots_in_use(const struct explore_table *table)
{
    return UINT64_C(1) << table->log2;
}

/* Seven tenths of the slots in use: then they double. */
static uint32_t full_at(const struct explore_table *table)
{
    return (uint32_t)(slots_in_use(table) / 10 * 7);
}

static void empty(struct explore_table *table, uint64_t first, uint64_t count)
{
    memset(table->slots + first, 0, count * sizeof *table->slots);
}

bool explore_table_open(struct explore_table *table, void *memory, uint64_t bytes,
                        uint64_t states_max, uint64_t seed, bool exact)
{
    memset(table, 0, offsetof(struct explore_table, offers));
    table->exact = exact;
    make_keys(table, seed);
    uint64_t slot_bytes = sizeof *table->slots;
    uint64_t state_bytes = sizeof *table->parents + sizeof *table->labels;
    uint64_t fixed = TAIL * slot_bytes + 64;
    uint64_t room = bytes > fixed ? bytes - fixed : 0;
    table->log2_max = log2_wanted(room, slot_bytes, states_max);
    if (table->log2_max == 0)
        return false;
    uint64_t slots = UINT64_C(1) << table->log2_max;
    uint64_t most = slots / 10 * 7;
    most = most < states_max ? most : states_max;
    most = most < EXPLORE_NO_STATE ? most : EXPLORE_NO_STATE - 1;
    table->states_max = (uint32_t)most;
    table->heap_words = (room - slots * slot_bytes - most * state_bytes) / sizeof(uint64_t);
    if (exact && table->heap_words > UINT32_MAX)
        table->heap_words = UINT32_MAX; /* a slot names a place with 32 bits */
    unsigned char *from = memory;
    table->slots = cut(&from, slots + TAIL, slot_bytes);
    table->heap = cut(&from, table->heap_words, sizeof *table->heap);
    table->parents = cut(&from, most, sizeof *table->parents);
    table->labels = cut(&from, most, sizeof *table->labels);
    assert((uint64_t)(from - (unsigned char *)memory) <= bytes);
    table->log2 = LOG2_MIN;
    table->full_at = full_at(table);
    table->ring_words = exact ? table->heap_words : RING_WORDS_MIN;
    if (table->ring_words > table->heap_words)
        table->ring_words = table->heap_words;
    empty(table, 0, slots_in_use(table) + TAIL);
    return table->heap_words > EXPLORE_RECORD_WORDS_MAX;
}

/* ---- slots ----------------------------------------------------------------------------------- */

/* What a slot holds: the fingerprint; exact: its upper half, and where the record is. */
static uint64_t slot_of(const struct explore_table *table, uint64_t print, uint64_t place)
{
    return table->exact ? (print >> 32 << 32) | place : print;
}

/* Whether a slot may be that of the fingerprint. */
static bool matches(const struct explore_table *table, uint64_t slot, uint64_t print)
{
    return table->exact ? (slot ^ print) >> 32 == 0 : slot == print;
}

/* Where the probe of a slot, or of a fingerprint, begins: both have the upper half. */
static uint64_t home(const struct explore_table *table, uint64_t print)
{
    return print >> 32 & (slots_in_use(table) - 1);
}

/* The slot of the fingerprint at or after `from`, else the first empty one, or past the tail. */
static uint64_t probe(const struct explore_table *table, uint64_t print, uint64_t from)
{
    uint64_t end = slots_in_use(table) + TAIL, i = from;
    while (i < end && table->slots[i] != 0 && !matches(table, table->slots[i], print))
        i++;
    return i;
}

/* Puts a slot that is not there into the first empty place. False: the tail overflowed. */
static bool put(struct explore_table *table, uint64_t slot)
{
    uint64_t end = slots_in_use(table) + TAIL, i = home(table, slot);
    while (i < end && table->slots[i] != 0)
        i++;
    if (i == end)
        return false;
    table->slots[i] = slot;
    return true;
}

/* Doubles the slots in use, in place. False: the tail overflowed, the table is lost. */
static bool grow(struct explore_table *table)
{
    uint64_t old = slots_in_use(table), tail[TAIL];
    uint32_t tail_nr = 0;
    for (uint64_t i = old; i < old + TAIL; i++) {
        if (table->slots[i] != 0)
            tail[tail_nr++] = table->slots[i];
    }
    empty(table, old, old + TAIL);
    table->log2++;
    bool fits = true;
    for (uint64_t i = 0; i < old; i++) {
        uint64_t slot = table->slots[i];
        if (slot == 0)
            continue;
        table->slots[i] = 0;
        fits &= put(table, slot);
    }
    for (uint32_t i = 0; i < tail_nr; i++)
        fits &= put(table, tail[i]);
    return fits;
}

/* ---- records --------------------------------------------------------------------------------- */

static void write_record(struct explore_table *table, const uint64_t *record, uint32_t length)
{
    /* a record lies in one piece: what is left at the end of the ring is skipped */
    memcpy(table->heap + table->head, record, length * sizeof *record);
    table->head += length;
    table->used_words += length;
}

/* Whether a record fits; the head goes to the start of the ring when it does not before the end. */
static bool has_room(struct explore_table *table, uint32_t length)
{
    if (table->head + length > table->ring_words) {
        if (table->exact || table->tail > table->head)
            return false;
        uint64_t rest = table->ring_words - table->head;
        if (rest > 0)
            table->heap[table->head] = 0; /* no record has no words: go to the start */
        table->used_words += rest;
        table->head = 0;
    }
    return table->used_words + length <= table->ring_words;
}

/* Doubles the ring. What waits between its tail and its end moves up with the end. */
static bool widen(struct explore_table *table)
{
    uint64_t old = table->ring_words, now = 2 * old;
    if (old == table->heap_words)
        return false;
    if (now > table->heap_words)
        now = table->heap_words;
    if (table->used_words > 0 && table->tail >= table->head) {
        uint64_t last = old - table->tail;
        memmove(table->heap + now - last, table->heap + table->tail, last * sizeof *table->heap);
        table->tail = now - last;
    }
    table->ring_words = now;
    return true;
}

const uint64_t *explore_table_take(struct explore_table *table)
{
    if (table->taken == table->states)
        return NULL;
    if (table->tail == table->ring_words || table->heap[table->tail] == 0) {
        table->used_words -= table->ring_words - table->tail;
        table->tail = 0;
    }
    const uint64_t *record = table->heap + table->tail;
    uint32_t length = (uint32_t)(record[0] >> 56);
    table->tail += length;
    if (!table->exact)
        table->used_words -= length;
    table->taken++;
    return record;
}

/* ---- offers ---------------------------------------------------------------------------------- */

static bool is_same(const struct explore_table *table, uint64_t i, const uint64_t *record,
                    uint32_t length)
{
    if (!table->exact)
        return true;
    const uint64_t *kept = table->heap + (table->slots[i] & UINT32_MAX);
    return kept[0] == record[0] && memcmp(kept, record, length * sizeof *record) == 0;
}

/* Makes room for one more state. */
static bool has_number(struct explore_table *table)
{
    if (table->states >= table->states_max)
        return false;
    while (table->states >= table->full_at) {
        if (table->log2 >= table->log2_max || !grow(table))
            return false;
        table->full_at = full_at(table);
    }
    return true;
}

static bool look_up(struct explore_table *table, const struct explore_offer *offer)
{
    const uint64_t *record = table->waiting + offer->at;
    uint64_t end = slots_in_use(table) + TAIL;
    uint64_t i = probe(table, offer->print, home(table, offer->print));
    while (i < end && table->slots[i] != 0) {
        if (is_same(table, i, record, offer->length))
            return true;
        i = probe(table, offer->print, i + 1);
    }
    uint32_t log2 = table->log2;
    if (!has_number(table))
        return false;
    while (!has_room(table, offer->length)) {
        if (!widen(table))
            return false;
    }
    uint64_t slot = slot_of(table, offer->print, table->head);
    if (i < end && log2 == table->log2)
        table->slots[i] = slot; /* where the probe ended */
    else if (!put(table, slot))
        return false;
    table->parents[table->states] = offer->parent;
    table->labels[table->states] = offer->label;
    table->states++;
    write_record(table, record, offer->length);
    return true;
}

bool explore_table_flush(struct explore_table *table)
{
    for (uint32_t n = 0; table->exact && n < table->offers_nr; n++) {
        uint64_t print = table->offers[n].print;
        uint64_t i = probe(table, print, home(table, print));
        if (i == slots_in_use(table) + TAIL || table->slots[i] == 0)
            continue;
        const uint64_t *kept = table->heap + (table->slots[i] & UINT32_MAX);
        __builtin_prefetch(kept);
        __builtin_prefetch(kept + 8); /* most records lie in two lines */
    }
    bool fits = true;
    for (uint32_t n = 0; fits && n < table->offers_nr; n++)
        fits = look_up(table, &table->offers[n]);
    table->offers_nr = 0;
    table->waiting_words = 0;
    return fits;
}

uint64_t *explore_table_room(struct explore_table *table)
{
    return table->waiting + table->waiting_words;
}

bool explore_table_offer(struct explore_table *table, uint32_t length, uint32_t parent,
                         uint16_t label)
{
    uint64_t print = fingerprint(table, table->waiting + table->waiting_words, length);
    table->offers[table->offers_nr++] = (struct explore_offer){
        .print = print,
        .at = table->waiting_words,
        .parent = parent,
        .length = (uint16_t)length,
        .label = label,
    };
    table->waiting_words += length;
    __builtin_prefetch(table->slots + home(table, print));
    return table->offers_nr < EXPLORE_BATCH || explore_table_flush(table);
}
