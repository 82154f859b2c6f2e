/* walk.c: "Virtual Address Translation Process", riscv-isa-manual 1d472b8,
 * src/priv/supervisor.adoc. Comments with a number are its steps.
 *
 * The process is cut at its memory reads: walk_begin() is step 1, one walk_step() is steps 2 to 4,
 * and, on a leaf, 5 to 9; step 10 is pte_pa(). Between two steps the caller lets time pass.
 *
 * What a leaf must look like for a given access depends on privilege, SUM, MXR and Svade only, so
 * it is computed once per context as a mask and the bits wanted under it; the reason of a refusal
 * is looked for after the comparison failed. MXR needs no test of its own: it drops the test of R,
 * as a leaf always has R or X.
 *
 * Reserved bits are step 3 whatever the manual's chapter: N and PBMT without their extension or in
 * a reserved encoding, 60:59 without Svrsw60t59b, 58:54, and D, A, U, N, PBMT in a pointer. They
 * come before step 4, so a pointer with one of them at level 0 is WALK_RESERVED_BITS, not
 * WALK_NO_LEAF.
 *
 * walk_cause() is here and not with the traps because the code belongs to the process's own
 * sentences ("raise a page-fault exception corresponding to the original access type"); delegation
 * and entry are trap.c's.
 *
 * Left out: step 7 (shadow stacks), PMP, PMAs beyond "there is memory", the G-stage, and the PMAs
 * of the page itself: whether the final address is memory is the business of who accesses it.
 */
#include "walk.h"

#include <assert.h>
#include <stddef.h>

static const char *const fail_names[] = {
#define X(id, text) text,
    WALK_FAILS(X)
#undef X
};

const char *csim_walk_fail_name(uint32_t reason)
{
    return reason < WALK_FAIL_KINDS ? fail_names[reason] : NULL;
}

/* 8: what pte.r, pte.w, pte.x must say. */
static uint64_t wanted_rwx(enum csim_access access, bool mxr)
{
    switch (access) {
    case CSIM_LOAD:
        return mxr ? 0 : RV_PTE_R;
    case CSIM_STORE:
        return RV_PTE_W;
    case CSIM_FETCH:
        return RV_PTE_X;
    }
    return 0;
}

static struct walk_rule rule_for(const struct walk_context *context, enum csim_access access)
{
    uint64_t rwx = wanted_rwx(access, context->mxr);
    uint64_t ad = access == CSIM_STORE ? RV_PTE_A | RV_PTE_D : RV_PTE_A;
    struct walk_rule rule = {.mask = rwx, .want = rwx, .ad = ad};
    if (context->privilege == CSIM_USER) {                                         /* 6 */
        rule.mask |= RV_PTE_U;
        rule.want |= RV_PTE_U;
    } else if (access == CSIM_FETCH || !context->sum) {
        rule.mask |= RV_PTE_U;
    }
    if (!context->svadu) {                                                         /* 9, Svade */
        rule.mask |= ad;
        rule.want |= ad;
    }
    return rule;
}

void walk_context_derive(struct walk_context *context)
{
    assert(context->privilege == CSIM_USER || context->privilege == CSIM_SUPERVISOR);
    assert(context->levels >= RV_LEVELS_MIN && context->levels <= RV_LEVELS_MAX);
    context->leaf_reserved = RV_PTE_RESERVED_58_54 | RV_PTE_RSW60T59B;
    if (!context->svnapot)
        context->leaf_reserved |= RV_PTE_N;
    if (!context->svpbmt)
        context->leaf_reserved |= RV_PTE_PBMT;
    context->rule[CSIM_LOAD] = rule_for(context, CSIM_LOAD);
    context->rule[CSIM_STORE] = rule_for(context, CSIM_STORE);
    context->rule[CSIM_FETCH] = rule_for(context, CSIM_FETCH);
    context->derived = true;
}

static void stop(struct walk *walk, enum walk_fail fail)
{
    walk->done = true;
    walk->fail = fail;
}

void walk_begin(struct walk *walk, const struct walk_context *context, uint64_t va,
                enum csim_access access)
{
    assert(context->derived);
    *walk = (struct walk){
        .va = va,
        .table_ppn = context->root_ppn,                                            /* 1 */
        .level = (int8_t)(context->levels - 1),
        .access = (uint8_t)access,
    };
    if (!rv_is_canonical(va, context->levels))
        stop(walk, WALK_NON_CANONICAL);
}

/* 3: V, the reserved (R, W), reserved bits and encodings. */
static enum walk_fail check_valid(const struct walk_context *context, struct pte pte,
                                  uint32_t level)
{
    if (!pte_is_valid(pte))
        return WALK_INVALID;
    if ((pte.bits & (RV_PTE_R | RV_PTE_W)) == RV_PTE_W)
        return WALK_RESERVED_RW;
    if (!pte_is_leaf(pte))
        return (pte.bits & PTE_POINTER_RESERVED) != 0 ? WALK_RESERVED_BITS : WALK_NONE;
    if ((pte.bits & context->leaf_reserved) != 0)
        return WALK_RESERVED_BITS;
    if ((pte.bits & (RV_PTE_N | RV_PTE_PBMT)) != 0 && pte_has_reserved_encoding(pte, level))
        return WALK_RESERVED_BITS;
    return WALK_NONE;
}

enum walk_fail walk_check_leaf(const struct walk_context *context, struct pte pte,
                               enum csim_access access)
{
    const struct walk_rule *rule = &context->rule[access];
    uint64_t wrong = (pte.bits ^ rule->want) & rule->mask;
    if (wrong == 0)
        return WALK_NONE;
    return (wrong & ~rule->ad) != 0 ? WALK_DENIED : WALK_NEEDS_AD;                 /* 6, 8; 9 */
}

bool walk_needs_update(const struct walk_context *context, struct pte pte,
                       enum csim_access access)
{
    return context->svadu && (~pte.bits & context->rule[access].ad) != 0;
}

struct pte walk_updated_pte(const struct walk_context *context, struct pte pte,
                            enum csim_access access)
{
    return (struct pte){pte.bits | context->rule[access].ad};
}

void walk_step(struct walk *walk, const struct walk_context *context, const struct pagetable *pt,
               uint32_t hart, uint64_t at_cycles)
{
    assert(!walk->done);
    uint32_t level = (uint32_t)walk->level;
    enum csim_access access = (enum csim_access)walk->access;
    walk->pte_pa = (walk->table_ppn << RV_PAGE_SHIFT)
                   + (rv_vpn_index(walk->va, level) << RV_PTE_SHIFT);
    if (!pagetable_read(pt, walk->pte_pa, hart, at_cycles, &walk->pte)) {          /* 2 */
        stop(walk, WALK_ACCESS);
        return;
    }
    struct pte pte = walk->pte;
    enum walk_fail fail = check_valid(context, pte, level);
    if (fail != WALK_NONE) {                                                       /* 3 */
        stop(walk, fail);
    } else if (!pte_is_leaf(pte)) {                                                /* 4 */
        if (level == 0) {
            stop(walk, WALK_NO_LEAF);
            return;
        }
        walk->level = (int8_t)(level - 1);
        walk->table_ppn = pte_ppn(pte);
    } else if (pte_is_misaligned(pte, level)) {                                    /* 5 */
        stop(walk, WALK_MISALIGNED);
    } else {
        stop(walk, walk_check_leaf(context, pte, access));                         /* 6, 8, 9 */
        walk->update = walk->fail == WALK_NONE && walk_needs_update(context, pte, access);
    }
}

void walk_update(struct walk *walk, const struct walk_context *context, struct pagetable *pt,
                 uint32_t hart, uint64_t at_cycles)
{
    assert(walk->done && walk->update);
    walk->update = false;
    if (pagetable_newest(pt, walk->pte_pa).bits != walk->pte.bits) {       /* 9: to step 2 */
        walk->done = false;
        return;
    }
    walk->pte = walk_updated_pte(context, walk->pte, (enum csim_access)walk->access);
    pagetable_store(pt, walk->pte_pa, walk->pte, hart, at_cycles);
}

uint32_t walk_cause(enum walk_fail fail, enum csim_access access)
{
    static const uint32_t page[] = {
        [CSIM_LOAD] = RV_CAUSE_LOAD_PAGE,
        [CSIM_STORE] = RV_CAUSE_STORE_PAGE,
        [CSIM_FETCH] = RV_CAUSE_FETCH_PAGE,
    };
    static const uint32_t outside[] = {
        [CSIM_LOAD] = RV_CAUSE_LOAD_ACCESS,
        [CSIM_STORE] = RV_CAUSE_STORE_ACCESS,
        [CSIM_FETCH] = RV_CAUSE_FETCH_ACCESS,
    };
    if (fail == WALK_NONE)
        return 0;
    return fail == WALK_ACCESS ? outside[access] : page[access];
}
