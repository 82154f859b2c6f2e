/* explore_describe.c: a transition as data for people: where the hart rests, which op, which page.
 *
 * Only counterexamples come through here. */
#include "explore_describe.h"

#include <string.h>

#include "explore_control.h"
#include "explore_memory.h"
#include "explore_step.h"

static void describe_store(const struct explore_store *store, struct csim_explore_step *step)
{
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

/* What a step stores or decides is what is different after it. */
static void describe_step(const struct explore_model *m, const struct explore_state *s, uint32_t h,
                          struct csim_explore_step *step)
{
    struct explore_model buffered = *m;
    struct explore_state after = *s;
    /* with ordered stores the buffer is passed by: look at a machine that has one */
    buffered.q.order = CSIM_EXPLORE_PSO;
    uint32_t nr = s->hart[h].stores_nr;
    explore_step_take(&buffered, &after, explore_label_make(h, CSIM_EXPLORE_STEP, 0));
    if (after.hart[h].stores_nr > nr)
        describe_store(&after.hart[h].stores[nr], step);
    if (step->op != UINT32_MAX && m->ops[step->op].kind == CSIM_OP_WHEN)
        step->value = explore_step_holds(m, s, h, explore_state_top_of(&s->hart[h]));
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
        describe_store(&hart->stores[step->arg], step);
    else if (step->kind == CSIM_EXPLORE_ANSWER)
        step->value = (uint8_t)explore_memory_visible(
            m, s, h, step->arg == 255 ? EXPLORE_AT_TABLE : (uint32_t)rest.page);
    else if (step->kind == CSIM_EXPLORE_STEP && rest.phase != CSIM_EXPLORE_AT_DONE && !rest.access)
        describe_step(m, s, h, step);
}
