/* explore_canon.h: a state as a short record, the same for states that differ only in the names of
 * interchangeable harts. */
#ifndef EXPLORE_CANON_H
#define EXPLORE_CANON_H

#include "explore_state.h"

enum {
    EXPLORE_HART_WORDS = 4 + 2 * EXPLORE_FRAMES + EXPLORE_STORES,
    EXPLORE_CANON_WORDS = 3 + EXPLORE_HARTS * EXPLORE_HART_WORDS + EXPLORE_HART_WORDS
};

/* Groups the harts that may be exchanged: same script, same place in every mark's word, and nobody
 * names them. Fills what the model says of groups; without `wanted` nobody is in one. */
void explore_canon_group(struct explore_model *m, bool wanted);

/* The words of one hart inside a record. */
struct explore_piece {
    const uint64_t *words;
    uint32_t length;
};

/* Makes the state of a record. pieces[h] gets where hart h lies in it; both stay valid as long as
 * the record does. */
void explore_canon_unpack(const struct explore_model *m, const uint64_t *record,
                          struct explore_state *s, struct explore_piece pieces[EXPLORE_HARTS]);

/* Writes the record of the canonical form of a state that a transition left: harts in `changed`
 * (bits) are packed anew, the others are still as in `pieces`, which may be NULL when all changed.
 * Returns the record's length in words. order[i] is the hart of `s` at place i of the record;
 * `record` has room for EXPLORE_CANON_WORDS. */
uint32_t explore_canon_pack(const struct explore_model *m, const struct explore_state *s,
                            const struct explore_piece *pieces, uint32_t changed, uint64_t *record,
                            uint8_t order[EXPLORE_HARTS]);

/* Of the harts that a drained store of hart `own` reached, those it changed: what others gain from
 * one is in their first two words, unless staleness is counted. */
uint32_t explore_canon_touched(const struct explore_model *m, const struct explore_state *s,
                               const struct explore_piece pieces[EXPLORE_HARTS], uint32_t reached,
                               uint32_t own);

/* Puts back what a transition changed: what is shared, and the harts in `changed`. */
void explore_canon_restore(const struct explore_model *m, const uint64_t *record,
                           const struct explore_piece pieces[EXPLORE_HARTS], uint32_t changed,
                           struct explore_state *s);

/* Copies a whole state. */
void explore_canon_copy(const struct explore_model *m, struct explore_state *to,
                        const struct explore_state *from);

#endif
