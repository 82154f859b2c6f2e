/* explore_canon.c: states as records, and symmetry.
 *
 * Harts that run the same script and that nobody calls by name can change places: the whole
 * behaviour is the same with their names exchanged. Of all such states one is kept, the one whose
 * harts' records are in ascending order; up to n! states become one. What names other harts (bits
 * of marks in buffers, requests and who sent them) is renamed with them. Where two harts' records
 * are equal up to such names the order is not unique and a few states are kept twice: that costs
 * time, never an answer.
 *
 * A record holds what a state uses: the words of a hart that the question cannot reach (K without a
 * bound, frames it has not pushed) are not in it.
 */
#include "explore_canon.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

/* ---- groups ---------------------------------------------------------------------------------- */

static bool is_named(const struct explore_model *m, uint32_t hart)
{
    for (uint32_t h = 0; h < m->q.harts; h++) {
        for (uint32_t i = 0; i < m->q.actions_nr[h]; i++) {
            const struct csim_explore_action *action = &m->q.actions[h][i];
            if (action->kind == CSIM_EXPLORE_AWAIT && action->first == hart)
                return true;
        }
    }
    return false;
}

/* Whether a mark for the first n harts tells them apart. */
static bool same_bits(const struct explore_model *m, uint32_t a, uint32_t b)
{
    if ((m->low >> a & 1) != (m->low >> b & 1))
        return false;
    for (uint32_t i = 0; i < m->program.ops_nr; i++) {
        const struct csim_op *op = &m->ops[i];
        bool first_n = (op->kind == CSIM_OP_MARK && op->b == CSIM_WHO_FIRST_N) ||
                       (op->kind == CSIM_OP_CLEAR_MARK && op->d == CSIM_WHO_FIRST_N);
        if (first_n && (m->q.cpus[a] < op->n) != (m->q.cpus[b] < op->n))
            return false;
    }
    return true;
}

static bool same_script(const struct explore_model *m, uint32_t a, uint32_t b)
{
    uint32_t nr = m->q.actions_nr[a];
    return nr == m->q.actions_nr[b] &&
           memcmp(m->q.actions[a], m->q.actions[b], nr * sizeof m->q.actions[a][0]) == 0;
}

void explore_canon_group(struct explore_model *m, bool wanted)
{
    memset(m->group, 255, sizeof m->group);
    memset(m->under, 255, sizeof m->under);
    memset(m->above, 255, sizeof m->above);
    m->members_nr = 0;
    m->grouped = 0;
    if (!wanted || m->q.object != UINT32_MAX)
        return;
    for (uint32_t a = 0; a < m->q.harts; a++) {
        if (is_named(m, a) || m->group[a] != 255)
            continue;
        for (uint32_t b = a + 1; b < m->q.harts; b++) {
            if (is_named(m, b) || !same_script(m, a, b) || !same_bits(m, a, b))
                continue;
            if (m->group[a] == 255)
                m->members[m->members_nr++] = (uint8_t)a;
            m->members[m->members_nr++] = (uint8_t)b;
            m->group[a] = m->group[b] = (uint8_t)a;
            m->grouped |= (uint8_t)(1u << a | 1u << b);
        }
    }
    for (uint32_t i = 1; i < m->members_nr; i++) {
        uint8_t low = m->members[i - 1], high = m->members[i];
        if (m->group[low] == m->group[high]) {
            m->above[low] = high;
            m->under[high] = low;
        }
    }
}

/* ---- packing --------------------------------------------------------------------------------- */

static uint64_t control_bits(const struct explore_hart *hart)
{
    uint64_t word;
    memcpy(&word, hart, sizeof word);
    return word;
}

static uint32_t pack_hart(const struct explore_model *m, const struct explore_hart *hart,
                          uint64_t *out)
{
    uint32_t nr = 0;
    out[nr++] = control_bits(hart);
    out[nr++] = hart->answers;
    if (m->bounded)
        out[nr++] = hart->stale;
    if (m->wide_harts)
        out[nr++] = hart->trace | (uint64_t)hart->deferred << 32;
    for (uint32_t i = 0; i < hart->frames_nr; i++) {
        uint64_t words[2];
        memcpy(words, &hart->frames[i], sizeof words);
        out[nr++] = words[0];
        if (m->wide_frames)
            out[nr++] = words[1];
    }
    for (uint32_t i = 0; i < hart->stores_nr; i++)
        memcpy(&out[nr++], &hart->stores[i], sizeof hart->stores[0]);
    return nr;
}

static uint32_t unpack_hart(const struct explore_model *m, const uint64_t *in,
                            struct explore_hart *hart)
{
    uint32_t nr = 0;
    memcpy(hart, &in[nr++], sizeof in[0]);
    hart->answers = in[nr++];
    if (m->bounded)
        hart->stale = in[nr++];
    if (m->wide_harts) {
        hart->trace = (uint32_t)in[nr];
        hart->deferred = (uint32_t)(in[nr++] >> 32);
    }
    uint32_t frame_words = m->wide_frames ? 2 : 1;
    for (uint32_t i = 0; i < hart->frames_nr; i++, nr += frame_words)
        memcpy(&hart->frames[i], &in[nr], frame_words * sizeof in[0]);
    for (uint32_t i = 0; i < hart->stores_nr; i++)
        memcpy(&hart->stores[i], &in[nr++], sizeof hart->stores[0]);
    return nr;
}

/* ---- renaming -------------------------------------------------------------------------------- */

static uint8_t renamed_bits(uint32_t bits, const uint8_t rank[EXPLORE_HARTS])
{
    uint32_t result = bits & 0xc0; /* bit 7 of a remembered word says that it is there */
    for (uint32_t h = 0; h < EXPLORE_HARTS; h++)
        result |= (bits >> h & 1) << rank[h];
    return (uint8_t)result;
}

static void rename_hart(struct explore_hart *hart, const uint8_t rank[EXPLORE_HARTS])
{
    for (uint32_t i = 0; i < hart->stores_nr; i++) {
        struct explore_store *store = &hart->stores[i];
        if (store->place < EXPLORE_AT_MARK || store->place >= EXPLORE_AT_FLAG)
            continue;
        store->value = renamed_bits(store->value, rank);
        store->keep = renamed_bits(store->keep, rank);
    }
    for (uint32_t i = 0; i < hart->frames_nr; i++) {
        struct explore_frame *f = &hart->frames[i];
        for (uint32_t mark = 0; mark < CSIM_MARKS_MAX; mark++)
            f->regs[mark] = renamed_bits(f->regs[mark], rank);
        f->untaken = renamed_bits(f->untaken, rank);
        f->taken = renamed_bits(f->taken, rank);
        if (f->from != 0)
            f->from = (uint8_t)(rank[f->from & 15] | (f->from & 0xf0));
    }
}

static int compare(const struct explore_piece *a, const struct explore_piece *b)
{
    if (a->words[0] != b->words[0]) /* it nearly always does */
        return a->words[0] < b->words[0] ? -1 : 1;
    uint32_t shorter = a->length < b->length ? a->length : b->length;
    for (uint32_t i = 1; i < shorter; i++) {
        if (a->words[i] != b->words[i])
            return a->words[i] < b->words[i] ? -1 : 1;
    }
    return a->length < b->length ? -1 : a->length > b->length;
}

/* Sorts the places of each group by record; true if anybody moved. */
static bool sort_harts(const struct explore_model *m, const struct explore_piece *pieces,
                       uint8_t order[EXPLORE_HARTS])
{
    bool moved = false;
    for (uint32_t i = 1; i < m->members_nr; i++) {
        /* members of one group follow each other; those before i are sorted */
        for (uint32_t j = i; j > 0; j--) {
            uint32_t low = m->members[j - 1], high = m->members[j];
            uint8_t a = order[low], b = order[high];
            if (m->group[low] != m->group[high] || compare(&pieces[a], &pieces[b]) <= 0)
                break;
            order[low] = b;
            order[high] = a;
            moved = true;
        }
    }
    return moved;
}

/* Packs every hart under the names of its new place. */
static void pack_renamed(const struct explore_model *m, const struct explore_state *s,
                         const uint8_t order[EXPLORE_HARTS],
                         uint64_t words[EXPLORE_HARTS][EXPLORE_HART_WORDS],
                         struct explore_piece *pieces)
{
    uint8_t rank[EXPLORE_HARTS] = {0, 1, 2, 3, 4, 5};
    for (uint32_t i = 0; i < m->q.harts; i++)
        rank[order[i]] = (uint8_t)i;
    for (uint32_t h = 0; h < m->q.harts; h++) {
        struct explore_hart hart = s->hart[h];
        rename_hart(&hart, rank);
        pieces[h] = (struct explore_piece){words[h], pack_hart(m, &hart, words[h])};
    }
}

static uint32_t pack_shared(const struct explore_model *m, const struct explore_state *s,
                            uint64_t *record)
{
    record[0] = (uint64_t)s->table << 32 | s->leaf;
    record[1] = s->flags;
    if (!m->ghosts)
        return 2;
    memcpy(&record[2], s->covered, sizeof record[2]);
    return 3;
}

static uint32_t unpack_shared(const struct explore_model *m, const uint64_t *record,
                              struct explore_state *s)
{
    s->leaf = (uint32_t)record[0];
    s->table = (uint8_t)(record[0] >> 32 & 1);
    s->flags = record[1];
    if (!m->ghosts)
        return 2;
    memcpy(s->covered, &record[2], sizeof record[2]);
    return 3;
}

/* Whether the record of a member of a group is not in ascending order with its neighbours'. */
static bool is_out_of_place(const struct explore_model *m, const struct explore_piece *pieces,
                            uint32_t h, const struct explore_piece *now)
{
    return (m->under[h] != 255 && compare(&pieces[m->under[h]], now) > 0) ||
           (m->above[h] != 255 && compare(now, &pieces[m->above[h]]) > 0);
}

/* Writes what nearly every transition leaves: one hart changed, and it keeps its place. All others
 * are where they were in the record before, and copied in two pieces. Returns 0 if it moves. */
static uint32_t pack_one(const struct explore_model *m, const struct explore_state *s,
                         const struct explore_piece *pieces, uint32_t h, uint64_t *record)
{
    uint64_t words[EXPLORE_HART_WORDS];
    struct explore_piece now = {words, pack_hart(m, &s->hart[h], words)};
    if (is_out_of_place(m, pieces, h, &now))
        return 0;
    const struct explore_piece *first = &pieces[0], *last = &pieces[m->q.harts - 1];
    const uint64_t *after = pieces[h].words + pieces[h].length;
    uint32_t before_nr = (uint32_t)(pieces[h].words - first->words);
    uint32_t after_nr = (uint32_t)(last->words + last->length - after);
    uint32_t nr = pack_shared(m, s, record);
    memcpy(record + nr, first->words, before_nr * sizeof *record);
    memcpy(record + nr + before_nr, words, now.length * sizeof *record);
    memcpy(record + nr + before_nr + now.length, after, after_nr * sizeof *record);
    return nr + before_nr + now.length + after_nr;
}

/* Writes any state. */
static uint32_t pack_all(const struct explore_model *m, const struct explore_state *s,
                         const struct explore_piece *pieces, uint32_t changed, uint64_t *record,
                         uint8_t order[EXPLORE_HARTS])
{
    uint64_t words[EXPLORE_HARTS][EXPLORE_HART_WORDS];
    struct explore_piece now[EXPLORE_HARTS];
    for (uint32_t h = 0; h < m->q.harts; h++) {
        if ((changed >> h & 1) != 0)
            now[h] = (struct explore_piece){words[h], pack_hart(m, &s->hart[h], words[h])};
        else
            now[h] = pieces[h];
    }
    if ((changed & m->grouped) != 0 && sort_harts(m, now, order) && m->names)
        pack_renamed(m, s, order, words, now);
    uint32_t nr = pack_shared(m, s, record);
    for (uint32_t i = 0; i < m->q.harts; i++) {
        const struct explore_piece *piece = &now[order[i]];
        memcpy(record + nr, piece->words, piece->length * sizeof *record);
        nr += piece->length;
    }
    return nr;
}

uint32_t explore_canon_pack(const struct explore_model *m, const struct explore_state *s,
                            const struct explore_piece *pieces, uint32_t changed, uint64_t *record,
                            uint8_t order[EXPLORE_HARTS])
{
    static const uint8_t as_it_is[EXPLORE_HARTS] = {0, 1, 2, 3, 4, 5};
    memcpy(order, as_it_is, sizeof as_it_is);
    bool one = pieces != NULL && changed != 0 && (changed & (changed - 1)) == 0;
    /* where names were changed after sorting, records need not be in ascending order */
    uint32_t nr = one && !m->names
                      ? pack_one(m, s, pieces, (uint32_t)__builtin_ctz(changed), record)
                      : 0;
    if (nr == 0)
        nr = pack_all(m, s, pieces, changed, record, order);
    assert(nr < 256);
    record[0] |= (uint64_t)nr << 56;
    return nr;
}

uint32_t explore_canon_touched(const struct explore_model *m, const struct explore_state *s,
                               const struct explore_piece pieces[EXPLORE_HARTS], uint32_t reached,
                               uint32_t own)
{
    if (m->bounded)
        return reached;
    for (uint32_t h = 0; h < m->q.harts; h++) {
        bool same = control_bits(&s->hart[h]) == pieces[h].words[0] &&
                    s->hart[h].answers == pieces[h].words[1];
        if (same && h != own)
            reached &= ~(1u << h);
    }
    return reached;
}

void explore_canon_unpack(const struct explore_model *m, const uint64_t *record,
                          struct explore_state *s, struct explore_piece pieces[EXPLORE_HARTS])
{
    memset(s, 0, offsetof(struct explore_state, hart));
    uint32_t nr = unpack_shared(m, record, s);
    for (uint32_t h = 0; h < m->q.harts; h++) {
        uint32_t length = unpack_hart(m, record + nr, &s->hart[h]);
        pieces[h] = (struct explore_piece){record + nr, length};
        nr += length;
    }
}

void explore_canon_restore(const struct explore_model *m, const uint64_t *record,
                           const struct explore_piece pieces[EXPLORE_HARTS], uint32_t changed,
                           struct explore_state *s)
{
    unpack_shared(m, record, s);
    for (; changed != 0; changed &= changed - 1) {
        uint32_t h = (uint32_t)__builtin_ctz(changed);
        unpack_hart(m, pieces[h].words, &s->hart[h]);
    }
}

void explore_canon_copy(const struct explore_model *m, struct explore_state *to,
                        const struct explore_state *from)
{
    memcpy(to, from, sizeof *from - (EXPLORE_HARTS - m->q.harts) * sizeof from->hart[0]);
}
