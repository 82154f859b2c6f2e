/* pwc.h: the page-walk cache: pointers only, so a walk can begin below the root.
 *
 * Either one array per level, all asked at once (the deepest hit wins), or one unified array that
 * is asked for one level after the other, from where the walk stands.
 */
#ifndef PWC_H
#define PWC_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "csim.h"
#include "tlb.h"
#include "walk.h"

struct pwc {
    struct tlb_array array[CSIM_SIZES];   /* [i]: level-i pointers; unified: [0] holds all */
    uint32_t levels;             /* of the machine */
    bool unified;
    bool asids;                  /* tags have ASIDs: a fence by ASID need not drop everything */
};

void pwc_create(struct pwc *pwc, struct arena *arena, const struct csim_machine *machine,
                uint64_t seed, uint32_t hart, uint32_t stream);

/* The array that holds level-i pointers; NULL when none does. */
struct tlb_array *pwc_array(struct pwc *pwc, uint32_t level);

/* Takes `walk` down as far as cached pointers lead, or to its end when a cached invalid PTE says
 * so; *global: a pointer on the way was global. Returns the accesses to the cache that hit, one
 * after the other. */
uint32_t pwc_follow(struct pwc *pwc, struct walk *walk, uint16_t asid, bool *global);

/* sfence.vma with rs1 = x0: all, or what is not global of one ASID. */
void pwc_fence(struct pwc *pwc, uint8_t cause);
void pwc_fence_asid(struct pwc *pwc, uint16_t asid, uint8_t cause);

/* Cached invalid PTEs that concern [vpn, vpn + pages) vanish. */
void pwc_forget(struct pwc *pwc, uint64_t vpn, uint64_t pages);

#endif
