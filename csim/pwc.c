/* pwc.c: caches of non-leaf PTEs.
 *
 * An entry is found by virtual address: the PTE of level i that va uses is named by the VPN above
 * level i. Rocket tags with the PTE's physical address instead (rocket-chip c1dda5827,
 * PTW.scala:348-386); under one root table both name the same PTE.
 *
 * Rocket's array is unified and small, and walked through level by level: each hit costs a cycle
 * and leads to the next lookup (its s_req loop), also after a read from memory when an upper
 * pointer was evicted before a lower one. Cores with an array per level (XiangShan) ask all at
 * once and use the deepest pointer. XiangShan keeps whole 64-byte lines of pointers: sectors.
 *
 * Fences: sfence.vma with an address concerns leaf PTEs only ("Supervisor Memory-Management Fence
 * Instruction", riscv-isa-manual 1d472b8), so nothing here moves, invalid pointers included;
 * Rocket keeps its PTE cache on rs1 != x0 (PTW.scala:378). With rs1 = x0 and an ASID, a cache
 * without ASIDs drops all, as Rocket does; one with ASIDs drops that ASID's and keeps what is
 * global (XiangShan, PageTableCache.scala).
 */
#include "pwc.h"

#include "rv.h"

void pwc_create(struct pwc *pwc, struct arena *arena, const struct csim_machine *machine,
                uint64_t seed, uint32_t hart, uint32_t stream)
{
    *pwc = (struct pwc){
        .levels = machine->levels,
        .unified = machine->pwc_unified != 0,
        .asids = machine->asid_bits != 0,
    };
    for (uint32_t i = 0; i < CSIM_SIZES; i++) {
        struct csim_array shape = machine->pwc[i];
        if (pwc->unified ? i > 0 : i == 0 || i >= machine->levels)
            shape.ways = 0;
        tlb_array_create(&pwc->array[i], arena, &shape, i, seed, hart, stream + i);
    }
}

struct tlb_array *pwc_array(struct pwc *pwc, uint32_t level)
{
    struct tlb_array *array = &pwc->array[pwc->unified ? 0 : level];
    if (level == 0 || array->ways == 0 || (pwc->unified && !(array->levels >> level & 1)))
        return 0;
    return array;
}

/* True when the cache knew the PTE that the walk wants next at `level`. */
static bool follow_level(struct pwc *pwc, struct walk *walk, uint32_t level, uint16_t asid,
                         bool *global)
{
    struct tlb_array *array = pwc_array(pwc, level);
    struct tlb_place place;
    if (array == 0 || !tlb_array_find(array, walk->va >> RV_PAGE_SHIFT, level, asid, &place))
        return false;
    tlb_use(&place);
    struct pte pte = tlb_pte(&place);
    *global |= tlb_is_global(&place);
    walk->pte = pte;
    if (pte_is_valid(pte)) {
        walk->level = (int8_t)(level - 1);
        walk->table_ppn = pte_ppn(pte);
    } else {
        walk->level = (int8_t)level;
        walk->done = true;
        walk->fail = WALK_INVALID;
    }
    return true;
}

uint32_t pwc_follow(struct pwc *pwc, struct walk *walk, uint16_t asid, bool *global)
{
    uint32_t hits = 0;
    if (pwc->unified) {
        while (!walk->done && walk->level > 0
               && follow_level(pwc, walk, (uint32_t)walk->level, asid, global))
            hits++;
        return hits;
    }
    for (uint32_t level = 1; level < pwc->levels && (int)level <= walk->level; level++)
        if (follow_level(pwc, walk, level, asid, global))
            return 1;
    return 0;
}

void pwc_fence(struct pwc *pwc, uint8_t cause)
{
    for (uint32_t i = 0; i < CSIM_SIZES; i++)
        tlb_array_drop_all(&pwc->array[i], cause);
}

void pwc_fence_asid(struct pwc *pwc, uint16_t asid, uint8_t cause)
{
    if (!pwc->asids) {
        pwc_fence(pwc, cause);
        return;
    }
    for (uint32_t i = 0; i < CSIM_SIZES; i++)
        tlb_array_drop_asid(&pwc->array[i], asid, cause);
}

void pwc_forget(struct pwc *pwc, uint64_t vpn, uint64_t pages)
{
    for (uint32_t i = 0; i < CSIM_SIZES; i++)
        tlb_array_forget(&pwc->array[i], vpn, pages);
}
