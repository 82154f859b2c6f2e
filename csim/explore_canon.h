/* explore_canon.h: a state as a short record, the same for states that differ only in the names of
 * interchangeable harts. */
#ifndef EXPLORE_CANON_H
#define EXPLORE_CANON_H

#include "explore_state.h"

/* Groups the harts that may be exchanged: same script, same place in every mark's word, and nobody
 * names them. Fills model->group and model->symmetric; without `wanted` nobody is in a group. */
void explore_canon_group(struct explore_model *m, bool wanted);

/* Writes the record of the canonical form; returns its length in words. order[i] is the hart of
 * `s` that stands at place i of the record. */
uint32_t explore_canon_pack(const struct explore_model *m, const struct explore_state *s,
                            uint64_t *record, uint8_t order[EXPLORE_HARTS]);

/* What of a state is in use; the rest of `to` is left as it was. */
void explore_canon_copy(const struct explore_model *m, struct explore_state *to,
                        const struct explore_state *from);
void explore_canon_unpack(const struct explore_model *m, const uint64_t *record,
                          struct explore_state *s);

#endif
