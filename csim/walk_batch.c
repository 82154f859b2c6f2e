/* walk_batch.c: many walks alone, each over its own few words of memory, in one call.
 *
 * The door for golden vectors: what crosses it is judged elsewhere (an emulator, an oracle), so a
 * case carries everything the walk depends on and a result everything that can be compared, the
 * list of PTE reads included. No TLB, no page-walk cache, no time: the memory never changes.
 *
 * Whether the final address is memory is judged here, after the translation; it gives the access
 * fault of the page itself. Without translation (bare, or M-mode) the address is the virtual one.
 */
#include <assert.h>

#include "csim.h"
#include "pagetable.h"
#include "pte.h"
#include "rv.h"
#include "walk.h"

_Static_assert(sizeof((struct csim_walk_result *)0)->reads / sizeof(uint64_t) == RV_LEVELS_MAX,
               "one read a level");

static void judge_access(const struct csim_walk_case *given, struct csim_walk_result *result)
{
    bool memory = result->pa >= given->ram_first && result->pa < given->ram_end;
    enum walk_fail fail = memory ? WALK_NONE : WALK_ACCESS;
    result->access_cause = (uint8_t)walk_cause(fail, (enum csim_access)given->access);
}

static void walk_case(const struct csim_walk_case *given, const struct pagetable *pt,
                      struct csim_walk_result *result)
{
    struct walk_context context = {
        .levels = given->levels,
        .root_ppn = given->satp_ppn,
        .privilege = given->privilege,
        .sum = given->sum != 0,
        .mxr = given->mxr != 0,
        .svadu = given->svadu != 0,
        .svnapot = given->svnapot != 0,
        .svpbmt = given->svpbmt != 0,
    };
    enum csim_access access = (enum csim_access)given->access;
    struct walk walk;
    walk_context_derive(&context);
    walk_begin(&walk, &context, given->va, access);
    while (!walk.done) {                            /* at most one step a level */
        walk_step(&walk, &context, pt, 0, 0);
        result->reads[result->reads_nr++] = walk.pte_pa;
    }
    result->reason = walk.fail;
    result->level = (uint8_t)walk.level;
    result->cause = (uint8_t)walk_cause(walk.fail, access);
    result->access_cause = result->cause;
    if (walk.fail != WALK_NONE)
        return;
    result->pa = pte_pa(walk.pte, result->level, given->va);
    result->size_bytes = pte_size_bytes(walk.pte, result->level);
    result->pbmt = (uint8_t)pte_pbmt(walk.pte);
    result->global = pte_is_global(walk.pte);
    result->updated = walk.update;
    if (walk.update) {
        result->after_pa = walk.pte_pa;
        result->after_value = walk_updated_pte(&context, walk.pte, access).bits;
    }
    judge_access(given, result);
}

void csim_walk_batch(const struct csim_walk_case *cases, uint64_t cases_nr,
                     const struct csim_word *words, struct csim_walk_result *results)
{
    for (uint64_t i = 0; i < cases_nr; i++) {
        const struct csim_walk_case *given = &cases[i];
        struct pagetable pt;
        assert(given->access <= CSIM_FETCH);
        results[i] = (struct csim_walk_result){0};
        if (given->levels == 0 || given->privilege == CSIM_MACHINE) {
            results[i].bare = 1;
            results[i].pa = given->va;
            judge_access(given, &results[i]);
            continue;
        }
        pagetable_of_words(&pt, words + given->words_at, given->words_nr, given->ram_first,
                           given->ram_end);
        walk_case(given, &pt, &results[i]);
    }
}
