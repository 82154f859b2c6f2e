/* explore.c: every interleaving of a small machine, breadth first.
 *
 * The search is level-synchronous: all states n steps from the start are expanded before any of
 * those n + 1 steps away, so the first violation found is a shortest one. States are numbered in
 * the order they were reached, which depends on nothing but the question, so the answer does not
 * either: not on the seed of the fingerprints, not on where memory lies.
 *
 * Two reductions keep the verdict and can be switched off. Symmetry (explore_canon.c) keeps lengths
 * too. Eager steps do not: a step that only its own hart can notice is taken at once and alone,
 * because every behaviour that postpones it is a behaviour of the state where it was taken early.
 * They are off where that is not so: with shootdowns (issuing a store and taking an IPI do not
 * commute: the IPI's fence forwards the pending store), with stacks and user mode, with a bound on
 * staleness, with a single-entry TLB. A refutation found with eager steps or by fingerprints alone
 * is searched again, exactly and without them, before it is reported.
 *
 * Under symmetry the harts along a path of records are not the harts of the question: the names are
 * carried along when the counterexample is rebuilt.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "explore_canon.h"
#include "explore_describe.h"
#include "explore_memory.h"
#include "explore_model.h"
#include "explore_step.h"
#include "explore_table.h"

enum { PATH_MAX = 4096, STOP_EVERY_STATES = 4096 };

struct csim_explore {
    struct arena arena;
    void *memory;
    uint64_t memory_bytes;
    struct explore_model model;
    struct explore_table table;
    struct explore_state state;      /* being expanded; a transition is taken in it, then undone */
    uint64_t record[EXPLORE_RECORD_WORDS_MAX]; /* its record */
    struct explore_piece pieces[EXPLORE_HARTS]; /* where its harts lie in it */
    uint32_t changed;                /* harts that a transition changed and nobody put back */
    uint16_t path[PATH_MAX];    /* the counterexample, in the harts of the question */
    uint32_t path_nr;
    uint32_t property;
};

/* The first violation of a level, as where it happened. */
struct found {
    uint32_t property;          /* enum csim_explore_property */
    uint32_t number;            /* state */
    uint16_t label;             /* the step out of it; not for DL */
};

struct search {
    struct csim_explore *explore;
    struct csim_explore_result *result;
    struct found found;
    uint32_t number;            /* of the state being expanded */
    bool stuck;                 /* it has no transition */
};

/* ---- one state ------------------------------------------------------------------------------- */

/* Makes a record's state the one to expand. */
static void load(struct csim_explore *ex, const uint64_t *record)
{
    memcpy(ex->record, record, (record[0] >> 56) * sizeof *record);
    explore_canon_unpack(&ex->model, ex->record, &ex->state, ex->pieces);
    ex->changed = 0;
}

/* Undoes the transition taken last. */
static void put_back(struct csim_explore *ex)
{
    if (ex->changed != 0)
        explore_canon_restore(&ex->model, ex->record, ex->pieces, ex->changed, &ex->state);
    ex->changed = 0;
}

/* Of ex->state, that many steps from the start. */
static void note_s5(struct search *search, uint32_t length)
{
    struct csim_explore *ex = search->explore;
    if (search->result->s5_length == UINT32_MAX && ex->model.ghosts &&
        explore_memory_breaks_s5(&ex->model, &ex->state))
        search->result->s5_length = length;
}

static void note_violation(struct search *search, uint32_t property, uint16_t label)
{
    struct found *found = &search->found;
    if (found->property == CSIM_EXPLORE_NONE || property < found->property)
        *found = (struct found){property, search->number, label};
}

static uint32_t property_of(enum explore_outcome outcome)
{
    return CSIM_EXPLORE_S1 + (uint32_t)outcome - EXPLORE_S1;
}

static bool fits(struct search *search, bool stored)
{
    const struct csim_explore *ex = search->explore;
    bool states = ex->table.states >= ex->model.q.max_states;
    if (!stored)
        search->result->limit = states ? CSIM_EXPLORE_STATES : CSIM_EXPLORE_MEMORY;
    return stored;
}

/* Offers ex->state, which differs from a record with these pieces, if there is one, in the harts
 * ex->changed; false: it is full. */
static bool offer(struct search *search, const struct explore_piece *pieces, uint32_t parent,
                  uint16_t label)
{
    struct csim_explore *ex = search->explore;
    uint8_t order[EXPLORE_HARTS];
    uint64_t *record = explore_table_room(&ex->table);
    uint32_t length =
        explore_canon_pack(&ex->model, &ex->state, pieces, ex->changed, record, order);
    return fits(search, explore_table_offer(&ex->table, length, parent, label));
}

/* Takes one transition out of ex->state; false: a limit was reached. */
static bool follow(struct search *search, uint16_t label)
{
    struct csim_explore *ex = search->explore;
    put_back(ex);
    ex->changed = explore_step_reach(&ex->model, &ex->state, label);
    uint32_t kind = explore_label_kind(label);
    search->stuck &= kind == CSIM_EXPLORE_FILL || kind == CSIM_EXPLORE_EVICT;
    search->result->transitions++;
    enum explore_outcome outcome = explore_step_take(&ex->model, &ex->state, label);
    if (kind == CSIM_EXPLORE_DRAIN)
        ex->changed = explore_canon_touched(&ex->model, &ex->state, ex->pieces, ex->changed,
                                            explore_label_hart(label));
    bool more = true;
    if (outcome == EXPLORE_FINE) {
        more = offer(search, ex->pieces, search->number, label);
    } else if (outcome == EXPLORE_NO_ROOM) {
        search->result->limit = CSIM_EXPLORE_STORES;
        more = false;
    } else {
        note_violation(search, property_of(outcome), label);
    }
    return more;
}

/* Expands ex->state; false: a limit was reached. */
static bool expand(struct search *search)
{
    struct csim_explore *ex = search->explore;
    const struct explore_model *m = &ex->model;
    uint16_t labels[EXPLORE_LABELS_MAX];
    struct explore_rest rests[EXPLORE_HARTS];
    for (uint32_t h = 0; h < m->q.harts; h++) {
        explore_control_rest(m, &ex->state, h, &rests[h]);
        if (m->eager && explore_step_eager(m, &ex->state, h, &rests[h]))
            return follow(search, explore_label_make(h, CSIM_EXPLORE_STEP, 0));
    }
    search->stuck = true;
    for (uint32_t h = 0; h < m->q.harts; h++) {
        put_back(ex);
        uint32_t nr = explore_step_labels(m, &ex->state, h, &rests[h], labels);
        for (uint32_t i = 0; i < nr; i++) {
            if (!follow(search, labels[i]))
                return false;
        }
    }
    put_back(ex);
    if (search->stuck && m->q.chaos == UINT32_MAX && !explore_step_finished(m, &ex->state))
        note_violation(search, CSIM_EXPLORE_DL, 0);
    return true;
}

/* ---- the counterexample ---------------------------------------------------------------------- */

static uint16_t renamed(uint16_t label, const uint8_t names[EXPLORE_HARTS])
{
    uint32_t kind = explore_label_kind(label), arg = explore_label_arg(label);
    if (kind == CSIM_EXPLORE_TAKE || kind == CSIM_EXPLORE_FIRMWARE)
        arg = names[arg & 15] | (arg & 0xf0);
    return explore_label_make(names[explore_label_hart(label)], kind, arg);
}

/* Rebuilds the path to `found` in the harts of the question. False: it is too long to keep. */
static bool rebuild(struct csim_explore *ex, const struct found *found)
{
    const struct explore_model *m = &ex->model;
    uint32_t nr = found->property != CSIM_EXPLORE_DL;
    for (uint32_t n = found->number; ex->table.parents[n] != EXPLORE_NO_STATE;
         n = ex->table.parents[n])
        nr++;
    if (nr > PATH_MAX)
        return false;
    uint32_t at = nr;
    if (found->property != CSIM_EXPLORE_DL)
        ex->path[--at] = found->label;
    for (uint32_t n = found->number; ex->table.parents[n] != EXPLORE_NO_STATE;
         n = ex->table.parents[n])
        ex->path[--at] = ex->table.labels[n];
    assert(at == 0);
    uint8_t names[EXPLORE_HARTS], order[EXPLORE_HARTS], next[EXPLORE_HARTS];
    explore_step_start(m, &ex->state);
    explore_canon_pack(m, &ex->state, NULL, m->all, ex->record, names);
    for (uint32_t i = 0; i < nr; i++) {
        explore_canon_unpack(m, ex->record, &ex->state, ex->pieces);
        uint16_t label = ex->path[i];
        ex->path[i] = renamed(label, names);
        if (explore_step_take(m, &ex->state, label) != EXPLORE_FINE)
            break;
        explore_canon_pack(m, &ex->state, NULL, m->all, ex->record, order);
        for (uint32_t h = 0; h < m->q.harts; h++)
            next[h] = names[order[h]];
        memcpy(names, next, m->q.harts);
    }
    ex->path_nr = nr;
    return true;
}

uint32_t csim_explore_trace(struct csim_explore *explore, struct csim_explore_step *steps,
                            uint32_t room)
{
    const struct explore_model *m = &explore->model;
    explore_step_start(m, &explore->state);
    for (uint32_t i = 0; i < explore->path_nr && i < room; i++) {
        explore_describe(m, &explore->state, explore->path[i], &steps[i]);
        enum explore_outcome outcome = explore_step_take(m, &explore->state, explore->path[i]);
        steps[i].property = CSIM_EXPLORE_NONE;
        if (outcome != EXPLORE_FINE)
            steps[i].property = (uint8_t)property_of(outcome);
        else if (i + 1 == explore->path_nr)
            steps[i].property = CSIM_EXPLORE_DL;
    }
    for (uint32_t h = 0; h < m->q.harts && explore->path_nr + h < room; h++)
        explore_describe(m, &explore->state, explore_label_make(h, CSIM_EXPLORE_STEP, 0),
                         &steps[explore->path_nr + h]);
    return explore->path_nr;
}

/* ---- for those who drive the machine themselves ---------------------------------------------- */

/* The transitions of a hart, wherever it rests; `labels` has EXPLORE_LABELS_MAX. */
static uint32_t labels_of(struct csim_explore *ex, uint32_t h, uint16_t *labels)
{
    struct explore_rest rest;
    if (h >= ex->model.q.harts)
        return 0;
    explore_control_rest(&ex->model, &ex->state, h, &rest);
    return explore_step_labels(&ex->model, &ex->state, h, &rest, labels);
}

uint32_t csim_explore_follow(struct csim_explore *explore, const struct csim_explore_move *moves,
                             uint32_t moves_nr, struct csim_explore_move *next, uint32_t room)
{
    const struct explore_model *m = &explore->model;
    uint16_t labels[EXPLORE_LABELS_MAX];
    explore_step_start(m, &explore->state);
    for (uint32_t i = 0; i < moves_nr; i++) {
        uint16_t label = explore_label_make(moves[i].hart, moves[i].kind, moves[i].arg);
        uint32_t nr = labels_of(explore, moves[i].hart, labels);
        bool possible = false;
        for (uint32_t j = 0; j < nr; j++)
            possible |= labels[j] == label;
        if (!possible || explore_step_take(m, &explore->state, label) != EXPLORE_FINE)
            return UINT32_MAX;
    }
    uint32_t found = 0;
    for (uint32_t h = 0; h < m->q.harts; h++) {
        uint32_t nr = labels_of(explore, h, labels);
        for (uint32_t i = 0; i < nr; i++, found++) {
            if (found >= room)
                continue;
            struct explore_state after;
            explore_canon_copy(m, &after, &explore->state);
            enum explore_outcome outcome = explore_step_take(m, &after, labels[i]);
            bool fine = outcome == EXPLORE_FINE || outcome == EXPLORE_NO_ROOM;
            next[found].hart = (uint8_t)h;
            next[found].kind = (uint8_t)explore_label_kind(labels[i]);
            next[found].arg = (uint8_t)explore_label_arg(labels[i]);
            next[found].property = fine ? CSIM_EXPLORE_NONE : (uint8_t)property_of(outcome);
        }
    }
    return found;
}

/* ---- the search ------------------------------------------------------------------------------ */

/* S5 in the states that a refuted search reached last and did not expand. */
static void note_s5_beyond(struct search *search)
{
    struct csim_explore *ex = search->explore;
    explore_table_flush(&ex->table);
    for (const uint64_t *record; (record = explore_table_take(&ex->table)) != NULL;) {
        load(ex, record);
        note_s5(search, search->result->depth + 1);
    }
}

static void conclude(struct search *search)
{
    struct csim_explore_result *result = search->result;
    struct csim_explore *ex = search->explore;
    if (search->found.property != CSIM_EXPLORE_NONE) {
        note_s5_beyond(search);
        result->verdict = CSIM_EXPLORE_REFUTED;
        result->limit = CSIM_EXPLORE_NO_LIMIT;
        result->property = search->found.property;
        result->length = result->depth + (search->found.property != CSIM_EXPLORE_DL);
        if (!rebuild(ex, &search->found)) {
            result->verdict = CSIM_EXPLORE_UNKNOWN;
            result->limit = CSIM_EXPLORE_MEMORY;
        }
    } else if (result->limit != CSIM_EXPLORE_NO_LIMIT) {
        result->verdict = CSIM_EXPLORE_UNKNOWN;
    }
    result->states = ex->table.states;
}

/* Expands every state offered so far: one level. False: the search is over. */
static bool expand_level(struct search *search, const volatile int *stop)
{
    struct csim_explore *ex = search->explore;
    uint32_t end = ex->table.states;
    bool any = search->number < end;
    for (; search->number < end; search->number++) {
        if (stop != NULL && search->number % STOP_EVERY_STATES == 0 && *stop != 0) {
            search->result->limit = CSIM_EXPLORE_INTERRUPTED;
            return false;
        }
        load(ex, explore_table_take(&ex->table));
        note_s5(search, search->result->depth);
        if (!expand(search))
            return false;
    }
    return any && search->found.property == CSIM_EXPLORE_NONE;
}

static void run(struct csim_explore *ex, bool exact, bool eager, const volatile int *stop,
                struct csim_explore_result *result)
{
    struct explore_model *m = &ex->model;
    struct search search = {.explore = ex, .result = result};
    memset(result, 0, sizeof *result);
    result->s5_length = UINT32_MAX;
    result->symmetric = m->members_nr;
    result->eager = eager;
    m->eager = eager;
    explore_table_open(&ex->table, ex->memory, ex->memory_bytes, m->q.max_states, m->q.hash_seed,
                       exact);
    explore_step_start(m, &ex->state);
    ex->changed = m->all;
    bool more = offer(&search, NULL, EXPLORE_NO_STATE, 0);
    while (more) {
        more = fits(&search, explore_table_flush(&ex->table)) && expand_level(&search, stop);
        if (more)
            result->depth++;
    }
    conclude(&search);
}

void csim_explore_run(struct csim_explore *explore, const volatile int *stop,
                      struct csim_explore_result *result)
{
    bool exact = explore->model.q.exact != 0;
    bool eager = explore->model.q.eager != 0 && explore_model_allows_eager(&explore->model);
    explore->path_nr = 0;
    run(explore, exact, eager, stop, result);
    if (result->verdict != CSIM_EXPLORE_REFUTED || (exact && !eager))
        return;
    struct csim_explore_result again;
    uint32_t path_nr = explore->path_nr;
    uint16_t path[PATH_MAX];
    memcpy(path, explore->path, path_nr * sizeof path[0]);
    run(explore, true, false, stop, &again);
    if (again.verdict == CSIM_EXPLORE_REFUTED) {
        *result = again;
        return;
    }
    memcpy(explore->path, path, path_nr * sizeof path[0]);
    explore->path_nr = path_nr;
    result->limit = again.limit;
}

/* ---- create, destroy ------------------------------------------------------------------------- */

static enum csim_status lay_out(struct arena *arena, uint64_t bytes, struct csim_explore **out)
{
    struct csim_explore *ex = arena_take(arena, 1, sizeof *ex);
    void *memory = arena_take(arena, bytes, 1);
    if (ex != NULL) {
        ex->memory = memory;
        ex->memory_bytes = bytes;
        *out = ex;
    }
    return CSIM_OK;
}

enum csim_status csim_explore_create(const struct csim_explore_question *question,
                                     const struct csim_program *program, const struct csim_op *ops,
                                     struct csim_explore **out, struct csim_error *error)
{
    *out = NULL;
    enum csim_status status = explore_model_check(question, program, ops, error);
    if (status != CSIM_OK)
        return status;
    struct arena arena = {0};
    lay_out(&arena, question->max_memory_bytes, out);
    struct arena block;
    if (!arena_open(&block, arena.used_bytes)) {
        snprintf(error->field, sizeof error->field, "max_memory_bytes");
        snprintf(error->reason, sizeof error->reason, "there is not so much memory");
        return CSIM_NO_MEMORY;
    }
    lay_out(&block, question->max_memory_bytes, out);
    (*out)->arena = block;
    explore_model_make(&(*out)->model, question, program, ops);
    return CSIM_OK;
}

void csim_explore_destroy(struct csim_explore *explore)
{
    if (explore == NULL)
        return;
    struct arena arena = explore->arena;
    arena_close(&arena);
}
