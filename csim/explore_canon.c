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
    m->symmetric = 0;
    if (!wanted || m->q.object != UINT32_MAX)
        return;
    for (uint32_t a = 0; a < m->q.harts; a++) {
        if (is_named(m, a) || m->group[a] != 255)
            continue;
        for (uint32_t b = a + 1; b < m->q.harts; b++) {
            if (is_named(m, b) || !same_script(m, a, b) || !same_bits(m, a, b))
                continue;
            m->symmetric += m->group[a] == 255 ? 2 : 1;
            m->group[a] = m->group[b] = (uint8_t)a;
        }
    }
}

/* ---- packing --------------------------------------------------------------------------------- */

/* epoch 4 bits, place 5, value 6, keep 6, covers 10 */
static uint64_t store_bits(const struct explore_store *store)
{
    return (uint64_t)(store->epoch | (uint32_t)store->place << 4 | (uint32_t)store->value << 9 |
                      (uint32_t)store->keep << 15 | (uint32_t)store->covers << 21);
}

static struct explore_store bits_store(uint64_t bits)
{
    return (struct explore_store){.epoch = (uint8_t)(bits & 15),
                                  .place = (uint8_t)(bits >> 4 & 31),
                                  .value = (uint8_t)(bits >> 9 & 63),
                                  .keep = (uint8_t)(bits >> 15 & 63),
                                  .covers = (uint16_t)(bits >> 21 & 1023)};
}

static uint64_t control_bits(const struct explore_hart *hart)
{
    uint64_t word;
    memcpy(&word, hart, sizeof word);
    return word;
}

enum { HART_WORDS_MAX = 4 + 2 * EXPLORE_FRAMES + EXPLORE_STORES / 2 };

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
    for (uint32_t i = 0; i < hart->stores_nr; i += 2) {
        uint64_t second = i + 1 < hart->stores_nr ? store_bits(&hart->stores[i + 1]) : 0;
        out[nr++] = store_bits(&hart->stores[i]) | second << 32;
    }
    return nr;
}

static uint32_t unpack_hart(const struct explore_model *m, const uint64_t *in,
                            struct explore_hart *hart)
{
    uint32_t nr = 0;
    memcpy(hart, &in[nr++], sizeof in[0]);
    hart->answers = in[nr++];
    hart->stale = m->bounded ? in[nr++] : 0;
    uint64_t wide = m->wide_harts ? in[nr++] : 0;
    hart->trace = (uint32_t)wide;
    hart->deferred = (uint32_t)(wide >> 32);
    for (uint32_t i = 0; i < hart->frames_nr; i++) {
        uint64_t words[2] = {in[nr++], 0};
        if (m->wide_frames)
            words[1] = in[nr++];
        memcpy(&hart->frames[i], words, sizeof words);
    }
    for (uint32_t i = 0; i < hart->stores_nr; i += 2) {
        uint64_t bits = in[nr++];
        hart->stores[i] = bits_store(bits & UINT32_MAX);
        if (i + 1 < hart->stores_nr)
            hart->stores[i + 1] = bits_store(bits >> 32);
    }
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

/* Sorts the places of each group by record; true if anybody moved. */
static bool sort_harts(const struct explore_model *m, uint64_t words[][HART_WORDS_MAX],
                       const uint32_t *lengths, uint8_t order[EXPLORE_HARTS])
{
    bool moved = false;
    for (uint32_t i = 1; i < m->q.harts; i++) {
        if (m->group[i] == 255)
            continue;
        /* places of the same group below i are sorted already */
        uint32_t place = i;
        for (uint32_t j = i; j-- > m->group[i];) {
            if (m->group[j] != m->group[i])
                continue;
            uint32_t a = order[j], b = order[place];
            uint32_t shorter = lengths[a] < lengths[b] ? lengths[a] : lengths[b];
            int difference = memcmp(words[a], words[b], shorter * sizeof words[a][0]);
            if (difference < 0 || (difference == 0 && lengths[a] <= lengths[b]))
                break;
            order[j] = (uint8_t)b;
            order[place] = (uint8_t)a;
            place = j;
            moved = true;
        }
    }
    return moved;
}

static bool has_names(const struct explore_model *m, const struct explore_state *s)
{
    if (m->wide_frames)
        return true;
    for (uint32_t h = 0; h < m->q.harts; h++) {
        for (uint32_t i = 0; i < s->hart[h].stores_nr; i++) {
            const struct explore_store *store = &s->hart[h].stores[i];
            if (store->place >= EXPLORE_AT_MARK && store->place < EXPLORE_AT_FLAG &&
                store->value != m->all)
                return true;
        }
    }
    return false;
}

/* The words of renamed harts, in place of those packed under their old names. */
static void repack_renamed(const struct explore_model *m, const struct explore_state *s,
                           const uint8_t order[EXPLORE_HARTS], uint64_t words[][HART_WORDS_MAX],
                           uint32_t *lengths)
{
    uint8_t rank[EXPLORE_HARTS] = {0, 1, 2, 3, 4, 5};
    for (uint32_t i = 0; i < m->q.harts; i++)
        rank[order[i]] = (uint8_t)i;
    for (uint32_t h = 0; h < m->q.harts; h++) {
        struct explore_hart hart = s->hart[h];
        rename_hart(&hart, rank);
        lengths[h] = pack_hart(m, &hart, words[h]);
    }
}

uint32_t explore_canon_pack(const struct explore_model *m, const struct explore_state *s,
                            uint64_t *record, uint8_t order[EXPLORE_HARTS])
{
    uint64_t words[EXPLORE_HARTS][HART_WORDS_MAX];
    uint32_t lengths[EXPLORE_HARTS];
    for (uint32_t h = 0; h < m->q.harts; h++) {
        order[h] = (uint8_t)h;
        lengths[h] = pack_hart(m, &s->hart[h], words[h]);
    }
    if (m->symmetric != 0 && sort_harts(m, words, lengths, order) && has_names(m, s))
        repack_renamed(m, s, order, words, lengths);
    uint32_t nr = 1;
    record[nr++] = s->flags;
    if (m->ghosts) {
        record[nr] = 0;
        for (uint32_t mark = 0; mark < CSIM_MARKS_MAX; mark++)
            record[nr] |= (uint64_t)s->covered[mark] << (16 * mark);
        nr++;
    }
    for (uint32_t i = 0; i < m->q.harts; i++) {
        uint32_t h = order[i];
        memcpy(record + nr, words[h], lengths[h] * sizeof words[h][0]);
        nr += lengths[h];
    }
    assert(nr < 256);
    record[0] = (uint64_t)nr << 56 | (uint64_t)s->table << 32 | s->leaf;
    return nr;
}

void explore_canon_copy(const struct explore_model *m, struct explore_state *to,
                        const struct explore_state *from)
{
    memcpy(to, from, offsetof(struct explore_state, hart));
    for (uint32_t h = 0; h < m->q.harts; h++) {
        const struct explore_hart *a = &from->hart[h];
        struct explore_hart *b = &to->hart[h];
        memcpy(b, a, offsetof(struct explore_hart, frames));
        for (uint32_t i = 0; i < a->frames_nr; i++)
            b->frames[i] = a->frames[i];
        for (uint32_t i = 0; i < a->stores_nr; i++)
            b->stores[i] = a->stores[i];
    }
}

void explore_canon_unpack(const struct explore_model *m, const uint64_t *record,
                          struct explore_state *s)
{
    uint32_t nr = 1;
    s->leaf = (uint32_t)record[0];
    s->table = (uint8_t)(record[0] >> 32 & 1);
    memset(s->zero, 0, sizeof s->zero);
    s->flags = record[nr++];
    uint64_t covered = m->ghosts ? record[nr++] : 0;
    for (uint32_t mark = 0; mark < CSIM_MARKS_MAX; mark++)
        s->covered[mark] = (uint16_t)(covered >> (16 * mark));
    for (uint32_t h = 0; h < m->q.harts; h++)
        nr += unpack_hart(m, record + nr, &s->hart[h]);
}
