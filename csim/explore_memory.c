/* explore_memory.c: store buffers, history sets, fences; docs/abstract-machine.md, section 2.
 *
 * The walker of a hart is its history: the set of leaf values it may still return. A value enters
 * when it becomes visible to the hart, a covering fence leaves only what is visible then. That is
 * the manual's own wording ("any translation valid at any time since the most recent SFENCE.VMA
 * that subsumes that address"), so no fill, hit or eviction has to be explored: they are all in the
 * set. With a single-entry TLB the same nibble holds the one cached value, and fills and evictions
 * are transitions.
 *
 * A PSO buffer keeps epochs: fence w,w begins a new one, and only stores of the oldest epoch drain.
 * Epochs are renumbered densely from 0, so that equal futures are equal states.
 */
#include "explore_memory.h"

#include <string.h>

static uint32_t leaf_of(const struct explore_state *s, uint32_t page)
{
    return s->leaf >> (2 * page) & 3;
}

static uint32_t mark_word(const struct explore_model *m, const struct explore_state *s,
                          uint32_t mark)
{
    uint32_t word = 0;
    for (uint32_t g = 0; g < m->q.harts; g++)
        word |= (uint32_t)(s->hart[g].marks >> mark & 1) << g;
    return word;
}

uint32_t explore_memory_value(const struct explore_model *m, const struct explore_state *s,
                              uint32_t h, uint32_t place)
{
    if (place < EXPLORE_AT_TABLE)
        return leaf_of(s, place);
    if (place == EXPLORE_AT_TABLE)
        return s->table;
    if (place < EXPLORE_AT_FLAG)
        return mark_word(m, s, place - EXPLORE_AT_MARK);
    if (place < EXPLORE_AT_DONE)
        return (uint32_t)(s->flags >> (4 * (place - EXPLORE_AT_FLAG)) & 15);
    return s->hart[h].done;
}

uint32_t explore_memory_visible(const struct explore_model *m, const struct explore_state *s,
                                uint32_t h, uint32_t place)
{
    uint32_t value = explore_memory_value(m, s, h, place);
    const struct explore_hart *hart = &s->hart[h];
    for (uint32_t i = 0; i < hart->stores_nr; i++) {
        if (hart->stores[i].place == place)
            value = (value & hart->stores[i].keep) | hart->stores[i].value;
    }
    return value;
}

/* ---- history --------------------------------------------------------------------------------- */

static void gain_leaf(const struct explore_model *m, struct explore_state *s, uint32_t h,
                      uint32_t page, uint32_t value)
{
    struct explore_hart *hart = &s->hart[h];
    if (!explore_state_is_below(m, page) || (hart->flags & EXPLORE_TABLE_VALID) != 0)
        hart->answers |= UINT64_C(1) << (4 * page + value);
}

static void gain(const struct explore_model *m, struct explore_state *s, uint32_t h, uint32_t place,
                 uint32_t value)
{
    if (m->single || place > EXPLORE_AT_TABLE)
        return;
    if (place < EXPLORE_AT_TABLE) {
        gain_leaf(m, s, h, place, value);
        return;
    }
    s->hart[h].flags |= (uint8_t)(EXPLORE_TABLE_INVALID << value);
    if (value == 0)
        return;
    for (uint32_t p = 0; p < m->q.pages; p++) {
        if (explore_state_is_below(m, p))
            gain_leaf(m, s, h, p, explore_memory_visible(m, s, h, EXPLORE_AT_LEAF + p));
    }
}

static void set_answers(struct explore_hart *hart, uint32_t page, uint64_t set)
{
    hart->answers = (hart->answers & ~(UINT64_C(15) << (4 * page))) | set << (4 * page);
}

static void fence_leaf(const struct explore_model *m, struct explore_state *s, uint32_t h,
                       uint32_t page)
{
    struct explore_hart *hart = &s->hart[h];
    uint64_t set = 0;
    bool reachable = !explore_state_is_below(m, page) || (hart->flags & EXPLORE_TABLE_VALID) != 0;
    if (!m->single && reachable)
        set = UINT64_C(1) << explore_memory_visible(m, s, h, EXPLORE_AT_LEAF + page);
    set_answers(hart, page, set);
}

void explore_memory_fence_all(const struct explore_model *m, struct explore_state *s, uint32_t h)
{
    struct explore_hart *hart = &s->hart[h];
    hart->flags &= (uint8_t) ~(EXPLORE_TABLE_INVALID | EXPLORE_TABLE_VALID);
    if (!m->single) {
        uint32_t table = explore_memory_visible(m, s, h, EXPLORE_AT_TABLE);
        hart->flags |= (uint8_t)(EXPLORE_TABLE_INVALID << table);
    }
    for (uint32_t p = 0; p < m->q.pages; p++)
        fence_leaf(m, s, h, p);
    for (uint32_t i = 0; i < hart->frames_nr; i++)
        hart->frames[i].flags &= (uint8_t)~EXPLORE_CLEARED;
    explore_memory_serialise(m, s, h);
}

void explore_memory_fence_page(const struct explore_model *m, struct explore_state *s, uint32_t h,
                               uint32_t page)
{
    fence_leaf(m, s, h, page);
    explore_memory_serialise(m, s, h);
}

static void forget_leaf(const struct explore_model *m, struct explore_state *s, uint32_t h,
                        uint32_t page, bool always)
{
    struct explore_hart *hart = &s->hart[h];
    uint64_t invalid = UINT64_C(1) << (4 * page);
    uint32_t stale = (uint32_t)(hart->stale >> (4 * page) & 15);
    bool valid = explore_memory_visible(m, s, h, EXPLORE_AT_LEAF + page) != 0;
    if (valid && (always || (m->bounded && stale >= m->q.svvptc_k)))
        hart->answers &= ~invalid;
    if (!valid || (hart->answers & invalid) == 0)
        hart->stale &= ~(UINT64_C(15) << (4 * page));
}

static void forget_table(const struct explore_model *m, struct explore_state *s, uint32_t h,
                         bool always)
{
    struct explore_hart *hart = &s->hart[h];
    uint32_t stale = (uint32_t)(hart->stale >> (4 * EXPLORE_PAGES) & 15);
    bool valid = explore_memory_visible(m, s, h, EXPLORE_AT_TABLE) != 0;
    if (valid && (always || (m->bounded && stale >= m->q.svvptc_k)))
        hart->flags &= (uint8_t)~EXPLORE_TABLE_INVALID;
    if (!valid || (hart->flags & EXPLORE_TABLE_INVALID) == 0)
        hart->stale &= ~(UINT64_C(15) << (4 * EXPLORE_PAGES));
}

static void forget(const struct explore_model *m, struct explore_state *s, uint32_t h, bool always)
{
    for (uint32_t p = 0; p < m->q.pages; p++)
        forget_leaf(m, s, h, p, always);
    forget_table(m, s, h, always);
}

void explore_memory_serialise(const struct explore_model *m, struct explore_state *s, uint32_t h)
{
    if (m->q.invalid == CSIM_EXPLORE_REORDER)
        forget(m, s, h, true);
    else if (m->q.nonleaf == 0)
        forget_table(m, s, h, true);
}

void explore_memory_forget(const struct explore_model *m, struct explore_state *s)
{
    bool always = m->q.invalid == CSIM_EXPLORE_NEVER;
    if (!always && !m->bounded)
        return;
    for (uint32_t h = 0; h < m->q.harts; h++)
        forget(m, s, h, always);
}

/* ---- stores ---------------------------------------------------------------------------------- */

static void commit(const struct explore_model *m, struct explore_state *s, uint32_t h,
                   struct explore_store store)
{
    uint32_t place = store.place, value = store.value;
    if (place < EXPLORE_AT_TABLE) {
        s->leaf = (s->leaf & ~(3u << (2 * place))) | value << (2 * place);
    } else if (place == EXPLORE_AT_TABLE) {
        s->table = (uint8_t)value;
    } else if (place < EXPLORE_AT_FLAG) {
        uint32_t mark = place - EXPLORE_AT_MARK;
        s->covered[mark] |= store.covers;
        for (uint32_t g = 0; g < m->q.harts; g++) {
            uint32_t bit = (s->hart[g].marks >> mark & store.keep >> g & 1) | (value >> g & 1);
            s->hart[g].marks = (uint8_t)((s->hart[g].marks & ~(1u << mark)) | bit << mark);
        }
    } else if (place < EXPLORE_AT_DONE) {
        uint32_t shift = 4 * (place - EXPLORE_AT_FLAG);
        s->flags = (s->flags & ~(UINT64_C(15) << shift)) | (uint64_t)value << shift;
    } else {
        s->hart[h].done = (uint8_t)value;
    }
    if (place <= EXPLORE_AT_TABLE) {
        for (uint32_t g = 0; g < m->q.harts; g++)
            gain(m, s, g, place, value);
    }
}

static void uncover(const struct explore_model *m, struct explore_state *s, uint32_t page)
{
    uint16_t others = (uint16_t)~(1u << page);
    for (uint32_t mark = 0; mark < CSIM_MARKS_MAX; mark++)
        s->covered[mark] &= others;
    for (uint32_t g = 0; g < m->q.harts; g++) {
        for (uint32_t i = 0; i < s->hart[g].stores_nr; i++)
            s->hart[g].stores[i].covers &= others;
    }
}

bool explore_memory_issue(const struct explore_model *m, struct explore_state *s, uint32_t h,
                          struct explore_store store)
{
    struct explore_hart *hart = &s->hart[h];
    if (store.place < EXPLORE_AT_TABLE && store.value == 0)
        uncover(m, s, store.place);
    if (!m->ghosts)
        store.covers = 0;
    if (m->q.order == CSIM_EXPLORE_SC) {
        commit(m, s, h, store);
        return true;
    }
    uint32_t nr = hart->stores_nr;
    if (nr == EXPLORE_STORES)
        return false;
    store.epoch = 0;
    if (nr > 0 && m->q.order == CSIM_EXPLORE_PSO)
        store.epoch =
            (uint8_t)(hart->stores[nr - 1].epoch + ((hart->flags & EXPLORE_BARRIER) != 0));
    hart->flags &= (uint8_t)~EXPLORE_BARRIER;
    hart->stores[nr] = store;
    hart->stores_nr = (uint8_t)(nr + 1);
    gain(m, s, h, store.place, store.value);
    return true;
}

void explore_memory_amo_clear(struct explore_state *s, const struct explore_model *m,
                              uint32_t mark, uint32_t bits)
{
    for (uint32_t g = 0; g < m->q.harts; g++)
        s->hart[g].marks &= (uint8_t) ~((bits >> g & 1) << mark);
}

void explore_memory_raise_barrier(const struct explore_model *m, struct explore_state *s,
                                  uint32_t h)
{
    if (m->q.order == CSIM_EXPLORE_PSO && s->hart[h].stores_nr > 0)
        s->hart[h].flags |= EXPLORE_BARRIER;
}

uint32_t explore_memory_drainable(const struct explore_model *m, const struct explore_hart *hart)
{
    if (hart->stores_nr == 0 || m->q.order != CSIM_EXPLORE_PSO)
        return hart->stores_nr != 0;
    uint32_t ready = 0, places = 0;
    for (uint32_t i = 0; i < hart->stores_nr && hart->stores[i].epoch == 0; i++) {
        uint32_t place = 1u << hart->stores[i].place;
        ready |= (uint32_t)((places & place) == 0) << i;
        places |= place;
    }
    return ready;
}

void explore_memory_drain(const struct explore_model *m, struct explore_state *s, uint32_t h,
                          uint32_t index)
{
    struct explore_hart *hart = &s->hart[h];
    struct explore_store store = hart->stores[index];
    uint32_t nr = --hart->stores_nr;
    memmove(&hart->stores[index], &hart->stores[index + 1], (nr - index) * sizeof store);
    if (nr == 0)
        hart->flags &= (uint8_t)~EXPLORE_BARRIER;
    /* only the oldest epoch drains: if its last store went, every epoch moves down */
    if (nr > 0 && hart->stores[0].epoch != 0) {
        for (uint32_t i = 0; i < nr; i++)
            hart->stores[i].epoch--;
    }
    commit(m, s, h, store);
}

/* ---- walks ----------------------------------------------------------------------------------- */

/* single: what an access finds above the leaf */
static uint32_t single_table(const struct explore_model *m, const struct explore_state *s,
                             uint32_t h)
{
    uint8_t flags = s->hart[h].flags;
    if ((flags & (EXPLORE_TABLE_INVALID | EXPLORE_TABLE_VALID)) == 0)
        return explore_memory_visible(m, s, h, EXPLORE_AT_TABLE);
    return (flags & EXPLORE_TABLE_VALID) != 0;
}

uint32_t explore_memory_answers(const struct explore_model *m, const struct explore_state *s,
                                uint32_t h, uint32_t page)
{
    const struct explore_hart *hart = &s->hart[h];
    uint32_t set = (uint32_t)(hart->answers >> (4 * page) & 15);
    bool below = explore_state_is_below(m, page);
    if (m->single) {
        if (below && single_table(m, s, h) == 0)
            return EXPLORE_INVALID_TABLE;
        return set != 0 ? set : 1u << explore_memory_visible(m, s, h, EXPLORE_AT_LEAF + page);
    }
    if (!below)
        return set;
    uint32_t table = (hart->flags & EXPLORE_TABLE_INVALID) != 0 ? EXPLORE_INVALID_TABLE : 0;
    return table | ((hart->flags & EXPLORE_TABLE_VALID) != 0 ? set : 0);
}

void explore_memory_count_stale(const struct explore_model *m, struct explore_state *s, uint32_t h,
                                uint32_t page, bool table)
{
    uint32_t place = table ? EXPLORE_AT_TABLE : EXPLORE_AT_LEAF + page;
    if (!m->bounded || explore_memory_visible(m, s, h, place) == 0)
        return;
    s->hart[h].stale += UINT64_C(1) << (4 * (table ? (uint32_t)EXPLORE_PAGES : page));
}

uint32_t explore_memory_fillable(const struct explore_model *m, const struct explore_state *s,
                                 uint32_t h)
{
    const struct explore_hart *hart = &s->hart[h];
    bool negative = m->q.invalid != CSIM_EXPLORE_NEVER;
    uint32_t found = 0;
    for (uint32_t p = 0; p < m->q.pages; p++) {
        if ((hart->answers >> (4 * p) & 15) != 0)
            continue;
        if (explore_state_is_below(m, p) && single_table(m, s, h) == 0)
            continue;
        if (negative || explore_memory_visible(m, s, h, EXPLORE_AT_LEAF + p) != 0)
            found |= 1u << p;
    }
    bool empty = (hart->flags & (EXPLORE_TABLE_INVALID | EXPLORE_TABLE_VALID)) == 0;
    if (m->below != 0 && empty &&
        (negative || explore_memory_visible(m, s, h, EXPLORE_AT_TABLE) != 0))
        found |= 1u << EXPLORE_PAGES;
    return found;
}

uint32_t explore_memory_evictable(const struct explore_model *m, const struct explore_state *s,
                                  uint32_t h)
{
    const struct explore_hart *hart = &s->hart[h];
    uint32_t found = 0;
    for (uint32_t p = 0; p < m->q.pages; p++)
        found |= (uint32_t)((hart->answers >> (4 * p) & 15) != 0) << p;
    if (m->below != 0 && (hart->flags & (EXPLORE_TABLE_INVALID | EXPLORE_TABLE_VALID)) != 0)
        found |= 1u << EXPLORE_PAGES;
    return found;
}

void explore_memory_fill(const struct explore_model *m, struct explore_state *s, uint32_t h,
                         uint32_t page)
{
    struct explore_hart *hart = &s->hart[h];
    if (page == EXPLORE_PAGES) {
        uint32_t table = explore_memory_visible(m, s, h, EXPLORE_AT_TABLE);
        hart->flags |= (uint8_t)(EXPLORE_TABLE_INVALID << table);
    } else {
        set_answers(hart, page,
                    UINT64_C(1) << explore_memory_visible(m, s, h, EXPLORE_AT_LEAF + page));
    }
}

void explore_memory_evict(struct explore_state *s, uint32_t h, uint32_t page)
{
    if (page == EXPLORE_PAGES)
        s->hart[h].flags &= (uint8_t) ~(EXPLORE_TABLE_INVALID | EXPLORE_TABLE_VALID);
    else
        set_answers(&s->hart[h], page, 0);
}

/* ---- the ghost ------------------------------------------------------------------------------- */

static bool fences_next(const struct explore_hart *hart)
{
    for (uint32_t i = 0; i < hart->frames_nr; i++) {
        if ((hart->frames[i].flags & EXPLORE_CLEARED) != 0)
            return true;
    }
    return false;
}

static bool mark_in_flight(const struct explore_model *m, const struct explore_state *s,
                           uint32_t mark)
{
    for (uint32_t h = 0; h < m->q.harts; h++) {
        for (uint32_t i = 0; i < s->hart[h].stores_nr; i++) {
            if (s->hart[h].stores[i].place == EXPLORE_AT_MARK + mark)
                return true;
        }
    }
    return false;
}

/* Whether a walk by h may find a page of a set invalid. */
static bool may_miss(const struct explore_model *m, const struct explore_state *s, uint32_t h,
                     uint32_t pages)
{
    for (uint32_t p = 0; pages >> p != 0; p++) {
        if ((pages >> p & 1) != 0 && (explore_memory_answers(m, s, h, p) &
                                      (EXPLORE_INVALID_LEAF | EXPLORE_INVALID_TABLE)) != 0)
            return true;
    }
    return false;
}

/* The invalid answer in the nibble of each page of a set. */
static uint64_t invalid_answers(uint32_t pages)
{
    uint64_t answers = 0;
    for (uint32_t p = 0; pages >> p != 0; p++)
        answers |= (uint64_t)(pages >> p & 1) << (4 * p);
    return answers;
}

bool explore_memory_breaks_s5(const struct explore_model *m, const struct explore_state *s)
{
    for (uint32_t mark = 0; mark < m->program.marks_nr; mark++) {
        if (s->covered[mark] == 0)
            continue;
        uint64_t invalid = invalid_answers(s->covered[mark]);
        for (uint32_t h = 0; h < m->q.harts; h++) {
            /* only the table and an entry not yet filled answer what is not in the nibbles */
            bool elsewhere = m->single || m->below != 0;
            if ((s->hart[h].marks >> mark & 1) == 0 &&
                ((s->hart[h].answers & invalid) != 0 || elsewhere) &&
                may_miss(m, s, h, s->covered[mark]) && !fences_next(&s->hart[h]) &&
                !mark_in_flight(m, s, mark))
                return true;
        }
    }
    return false;
}
