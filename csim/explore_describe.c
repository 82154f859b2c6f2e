/* explore_describe.c: a transition as data for people: where the hart rests, which op, which page.
 *
 * Only counterexamples come through here. */
#include "explore_describe.h"

#include <string.h>

#include "explore_control.h"
#include "explore_memory.h"
#include "explore_step.h"

static void describe_drain(const struct explore_hart *hart, uint32_t index,
                           struct csim_explore_step *step)
{
    const struct explore_store *store = &hart->stores[index];
    step->value = store->value;
    if (store->place < EXPLORE_AT_TABLE) {
        step->place = CSIM_EXPLORE_LEAF;
        step->page = store->place;
    } else if (store->place == EXPLORE_AT_TABLE) {
        step->place = CSIM_EXPLORE_TABLE;
    } else if (store->place < EXPLORE_AT_FLAG) {
        step->place = CSIM_EXPLORE_MARK_WORD;
        step->page = (uint8_t)(store->place - EXPLORE_AT_MARK);
    } else if (store->place < EXPLORE_AT_DONE) {
        step->place = CSIM_EXPLORE_FLAG;
        step->page = (uint8_t)(store->place - EXPLORE_AT_FLAG);
    } else {
        step->place = CSIM_EXPLORE_DONE;
    }
}

void explore_describe(const struct explore_model *m, const struct explore_state *s, uint16_t label,
                      struct csim_explore_step *step)
{
    uint32_t h = explore_label_hart(label);
    const struct explore_hart *hart = &s->hart[h];
    const struct explore_frame *f = explore_state_top_of(hart);
    struct explore_rest rest;
    explore_control_rest(m, s, h, &rest);
    memset(step, 0, sizeof *step);
    step->hart = (uint8_t)h;
    step->kind = (uint8_t)explore_label_kind(label);
    step->arg = (uint8_t)explore_label_arg(label);
    step->phase = rest.phase;
    step->action = hart->at;
    step->frames = hart->frames_nr;
    step->page = 255;
    step->place = CSIM_EXPLORE_NOWHERE;
    step->op = UINT32_MAX;
    if (f != NULL) {
        bool runs_ops = f->phase == CSIM_EXPLORE_AT_OPS || f->phase == CSIM_EXPLORE_AT_EARLY;
        step->op = runs_ops ? f->at : UINT32_MAX;
        step->sub = f->sub;
        step->user = (f->flags & EXPLORE_USER_MODE) != 0;
        if (explore_state_has_pages(f))
            step->page = (uint8_t)explore_state_first(f);
    } else {
        step->sub = hart->sub;
    }
    if (rest.access)
        step->page = rest.page;
    if (step->kind == CSIM_EXPLORE_DRAIN)
        describe_drain(hart, step->arg, step);
}
