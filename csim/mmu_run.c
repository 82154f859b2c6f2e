/* mmu_run.c: one hart's mmu over a program of steps: accesses, fences, stores to its page table by
 * itself or by another hart, and time; and over streams of accesses (mmu_batch.c). The door for
 * tests and for questions about translation alone; the simulator's run loop does not pass here.
 *
 * Time starts at 0 and is the hart's own: an access takes what the mmu says, its own PTE stores
 * store_cycles each, a fence its cycles, another hart's stores nothing. An access may be left in
 * flight after some PTE reads, so that stores and fences fall into the middle of a walk.
 *
 * Every step is checked before the first is run, but for what depends on the table: a map over
 * something that is mapped in another size, an unmap of part of a superpage.
 */
#include <assert.h>
#include <stdio.h>

#include "mmu.h"
#include "mmu_batch.h"
#include "rv.h"
#include "simd.h"

enum { STEP_PAGES_MAX = 1 << 18, STORES_MAX = 1 << 22, TABLES_MAX = 1 << 16, LEAF_LEVELS = 3 };

/* What steps store, at most. */
struct demand {
    uint64_t leaves, tables;
};

struct csim_mmu {
    struct arena arena;          /* this struct lies in it */
    struct csim_machine machine;
    struct csim_counters counters;
    struct mmu mmu;
    struct pagetable pt;
    struct mmu_batch batch;
    struct demand room, used;
    uint64_t now_cycles;
};

static enum csim_status refuse(struct csim_error *error, uint64_t step, const char *field,
                               const char *reason)
{
    snprintf(error->field, sizeof error->field, "steps[%llu].%s", (unsigned long long)step, field);
    snprintf(error->reason, sizeof error->reason, "%s", reason);
    return CSIM_BAD_PARAM;
}

static bool is_range_canonical(const struct csim_mmu_step *step, uint32_t levels)
{
    uint64_t last = step->va + (((uint64_t)step->pages << RV_PAGE_SHIFT) - 1);
    return rv_is_canonical(step->va, levels) && rv_is_canonical(last, levels)
           && last >> 63 == step->va >> 63;
}

static enum csim_status check_stores(const struct csim_mmu_step *step, uint64_t at,
                                     const struct csim_machine *machine, struct csim_error *error)
{
    uint64_t leaf_pages = UINT64_C(1) << (RV_VPN_BITS * step->level);
    uint64_t rw = step->flags & (RV_PTE_R | RV_PTE_W);
    if (step->level >= LEAF_LEVELS)
        return refuse(error, at, "level", "0, 1 or 2");
    if (step->pages == 0 || step->pages > STEP_PAGES_MAX || step->pages % leaf_pages != 0)
        return refuse(error, at, "pages", "whole leaves, 1 to 2^18 pages");
    if ((step->va >> RV_PAGE_SHIFT) % leaf_pages != 0 || !is_range_canonical(step, machine->levels))
        return refuse(error, at, "va", "aligned to the leaf, the range canonical");
    if (step->kind == CSIM_MMU_UNMAP)
        return CSIM_OK;
    if (step->kind == CSIM_MMU_STORE_INVALID)
        return step->flags & RV_PTE_V ? refuse(error, at, "flags", "V is clear") : CSIM_OK;
    if ((step->flags & RV_PTE_V) == 0 || (step->flags & RV_PTE_PPN) != 0 || rw == RV_PTE_W
        || (step->flags & (RV_PTE_R | RV_PTE_X)) == 0)
        return refuse(error, at, "flags", "those of a valid leaf, no PPN");
    if (step->ppn % leaf_pages != 0 || step->ppn >> 43 != 0)
        return refuse(error, at, "ppn", "aligned to the leaf, below 2^43");
    return CSIM_OK;
}

static enum csim_status check_step(const struct csim_mmu_step *step, uint64_t at,
                                   const struct csim_machine *machine, struct csim_error *error)
{
    switch (step->kind) {
    case CSIM_MMU_ACCESS:
        return step->access > CSIM_FETCH ? refuse(error, at, "access", "enum csim_access")
                                         : CSIM_OK;
    case CSIM_MMU_FENCE:
        if (step->form > FENCE_VA_ASID)
            return refuse(error, at, "form", "0 all, 1 asid, 2 va, 3 va and asid");
        return step->cause >= FENCE_CAUSES ? refuse(error, at, "cause", "0 to 3") : CSIM_OK;
    case CSIM_MMU_MAP:
    case CSIM_MMU_UNMAP:
    case CSIM_MMU_STORE_INVALID:
        return check_stores(step, at, machine, error);
    case CSIM_MMU_FORGET:
        return step->pages == 0 || !is_range_canonical(step, machine->levels)
                   ? refuse(error, at, "pages", "a canonical range")
                   : CSIM_OK;
    case CSIM_MMU_GLOBAL_POINTER:
        return step->level == 0 || step->level >= machine->levels
                   ? refuse(error, at, "level", "of a pointer: 1 up to the root's")
                   : CSIM_OK;
    case CSIM_MMU_RESUME:
    case CSIM_MMU_ADVANCE:
        return CSIM_OK;
    default:
        return refuse(error, at, "kind", "enum csim_mmu_step_kind");
    }
}

/* The newest PTE of va at `level`, or the higher one that ends the way there. */
static struct pte newest_at(const struct pagetable *pt, uint64_t va, uint32_t level,
                            uint32_t *found_level, uint64_t *pa)
{
    uint64_t table_ppn = pt->root_ppn;
    for (uint32_t at = pt->levels - 1;; at--) {
        *pa = (table_ppn << RV_PAGE_SHIFT) + (rv_vpn_index(va, at) << RV_PTE_SHIFT);
        *found_level = at;
        struct pte pte = pagetable_newest(pt, *pa);
        if (at == level || !pte_is_valid(pte) || pte_is_leaf(pte))
            return pte;
        table_ppn = pte_ppn(pte);
    }
}

static bool is_pointer(struct pte pte) { return pte_is_valid(pte) && !pte_is_leaf(pte); }

/* Whether the table has room for this step as it is now. */
static bool step_fits(const struct csim_mmu *handle, const struct csim_mmu_step *step)
{
    uint64_t va = step->va, end = va + ((uint64_t)step->pages << RV_PAGE_SHIFT), pa;
    uint32_t at;
    if (step->kind == CSIM_MMU_GLOBAL_POINTER)
        return is_pointer(newest_at(&handle->pt, va, step->level, &at, &pa)) && at == step->level;
    while (va != end) {
        uint32_t wanted = step->kind == CSIM_MMU_UNMAP ? 0 : step->level, found;
        struct pte pte = newest_at(&handle->pt, va, wanted, &found, &pa);
        uint64_t span = UINT64_C(1) << rv_span_shift(found);
        bool pointer = is_pointer(pte);
        bool inside = (va & (span - 1)) == 0 && end - va >= span;
        if (step->kind == CSIM_MMU_UNMAP && pte_is_valid(pte) && !inside)
            return false;
        if (step->kind == CSIM_MMU_STORE_INVALID && (found != step->level || pointer))
            return false;
        if (step->kind == CSIM_MMU_MAP
            && (found == step->level ? pointer : pte_is_valid(pte)))
            return false;
        if (step->kind == CSIM_MMU_MAP)
            span = UINT64_C(1) << rv_span_shift(step->level);
        uint64_t next = (va & ~(span - 1)) + span;
        va = next - va > end - va ? end : next;
    }
    return true;
}

static void run_stores(struct csim_mmu *handle, const struct csim_mmu_step *step)
{
    uint32_t hart = handle->mmu.hart + (step->other_hart ? 1 : 0), stores = 0, level;
    uint64_t leaf_bytes = UINT64_C(1) << rv_span_shift(step->level), pa;
    uint64_t bytes = (uint64_t)step->pages << RV_PAGE_SHIFT;
    if (step->kind == CSIM_MMU_MAP) {
        stores = pagetable_map(&handle->pt, step->va, step->pages, step->level, step->ppn,
                               step->flags, hart, handle->now_cycles, handle->machine.store_cycles);
    } else if (step->kind == CSIM_MMU_UNMAP) {
        stores = pagetable_unmap(&handle->pt, step->va, step->pages, hart, handle->now_cycles,
                                 handle->machine.store_cycles);
    } else if (step->kind == CSIM_MMU_GLOBAL_POINTER) {
        struct pte pte = newest_at(&handle->pt, step->va, step->level, &level, &pa);
        pagetable_store(&handle->pt, pa, (struct pte){pte.bits | RV_PTE_G}, hart,
                        handle->now_cycles);
        stores = 1;
    } else {
        for (uint64_t at = 0; at < bytes; at += leaf_bytes, stores++) {
            newest_at(&handle->pt, step->va + at, step->level, &level, &pa);
            pagetable_store(&handle->pt, pa, (struct pte){step->flags}, hart,
                            handle->now_cycles + (uint64_t)stores * handle->machine.store_cycles);
        }
    }
    if (!step->other_hart)
        handle->now_cycles += (uint64_t)stores * handle->machine.store_cycles;
}

static void run_access(struct csim_mmu *handle, const struct csim_mmu_step *step,
                       struct csim_mmu_answer *answer)
{
    struct mmu *mmu = &handle->mmu;
    if (step->kind == CSIM_MMU_ACCESS) {
        struct mmu_request request = {
            .va = step->va, .asid = step->asid, .access = step->access,
            .user = step->user != 0, .speculative = step->speculative != 0,
        };
        mmu_abort(mmu);
        handle->now_cycles += mmu_begin(mmu, &request);
    } else if (!mmu->walking) {
        answer->aborted = mmu->aborted;
        return;
    }
    for (uint32_t reads = 0; mmu->walking; reads++) {   /* at most one a level */
        if (step->reads_max != 0 && reads == step->reads_max)
            break;
        handle->now_cycles += mmu_step(mmu, &handle->pt, handle->now_cycles);
    }
    answer->walking = mmu->walking;
    if (mmu->walking)
        return;
    answer->negative = mmu->answer.negative;
    if (step->lazy && answer->negative) {
        handle->now_cycles += mmu_fence(mmu, FENCE_ALL, 0, 0, FENCE_FOR_LAZY);
        handle->now_cycles += mmu_begin(mmu, &mmu->request);
        while (mmu->walking)
            handle->now_cycles += mmu_step(mmu, &handle->pt, handle->now_cycles);
    }
    answer->fail = mmu->answer.fail;
    answer->refill = mmu->answer.refill;
    answer->refill_for = mmu->answer.refill ? (uint8_t)mmu->answer.refill_for : 0;
    answer->ppn = mmu->answer.ppn;
}

static void run_step(struct csim_mmu *handle, const struct csim_mmu_step *step,
                     struct csim_mmu_answer *answer)
{
    uint64_t before_cycles = handle->now_cycles;
    switch ((enum csim_mmu_step_kind)step->kind) {
    case CSIM_MMU_ACCESS:
    case CSIM_MMU_RESUME:
        run_access(handle, step, answer);
        break;
    case CSIM_MMU_FENCE:
        handle->now_cycles += mmu_fence(&handle->mmu, (enum fence_form)step->form, step->va,
                                        step->asid, (enum fence_cause)step->cause);
        break;
    case CSIM_MMU_FORGET:
        mmu_forget_range(&handle->mmu, step->va, step->pages);
        break;
    case CSIM_MMU_MAP:
    case CSIM_MMU_UNMAP:
    case CSIM_MMU_STORE_INVALID:
    case CSIM_MMU_GLOBAL_POINTER:
        run_stores(handle, step);
        break;
    case CSIM_MMU_ADVANCE:
        handle->now_cycles += step->cycles;
        break;
    case CSIM_MMU_STEP_KINDS:
        break;
    }
    answer->cycles = handle->now_cycles - before_cycles;
}

static bool is_store(const struct csim_mmu_step *step)
{
    return step->kind == CSIM_MMU_MAP || step->kind == CSIM_MMU_UNMAP
           || step->kind == CSIM_MMU_STORE_INVALID || step->kind == CSIM_MMU_GLOBAL_POINTER;
}

static void add_demand(struct demand *demand, const struct csim_mmu_step *step, uint32_t levels)
{
    uint64_t leaves = step->pages >> (RV_VPN_BITS * step->level);
    if (step->kind == CSIM_MMU_GLOBAL_POINTER)
        leaves = 1;
    if (is_store(step))
        demand->leaves += leaves;
    uint64_t last_va = step->va + (((uint64_t)step->pages << RV_PAGE_SHIFT) - 1);
    for (uint32_t level = step->level + 1; step->kind == CSIM_MMU_MAP && level < levels; level++)
        demand->tables +=
            (last_va >> rv_span_shift(level)) - (step->va >> rv_span_shift(level)) + 1;
}

/* What the checks let pass, added up over the life of the mmu. */
static enum csim_status check_steps(const struct csim_mmu *handle,
                                    const struct csim_mmu_step *steps, uint64_t steps_nr,
                                    struct demand *demand, struct csim_error *error)
{
    const struct csim_machine *machine = &handle->machine;
    enum csim_status status = CSIM_OK;
    for (uint64_t i = 0; status == CSIM_OK && i < steps_nr; i++) {
        status = check_step(&steps[i], i, machine, error);
        if (status == CSIM_OK)
            add_demand(demand, &steps[i], machine->levels);
        if (demand->leaves > handle->room.leaves || demand->tables > handle->room.tables)
            status = refuse(error, i, "pages", "more PTEs up to here than fit");
    }
    return status;
}

static struct csim_mmu *build(struct arena *arena, const struct csim_machine *machine,
                              uint32_t hart, uint64_t seed, const struct demand *room)
{
    struct csim_mmu measured, *handle = arena_take(arena, 1, sizeof *handle);
    struct csim_mmu *made = handle != 0 ? handle : &measured;
    *made = (struct csim_mmu){.machine = *machine, .room = *room};
    pagetable_create(&made->pt, arena, machine->levels, (uint32_t)room->tables + 1,
                     (uint32_t)(room->leaves + room->tables) + 1, machine);
    mmu_create(&made->mmu, arena, &made->machine, made->pt.root_ppn, hart, seed,
               &made->counters);
    mmu_batch_create(&made->batch, arena, &made->mmu, &made->pt);
    return handle;
}

enum csim_status csim_mmu_create(const struct csim_machine *machine, uint32_t hart, uint64_t seed,
                                 uint64_t stores, uint64_t tables, struct csim_mmu **out,
                                 struct csim_error *error)
{
    struct arena arena = {.block = 0};
    struct demand room = {stores, tables};
    enum csim_status status = mmu_check_machine(machine, error);
    *out = 0;
    if (status == CSIM_OK && (stores > STORES_MAX || tables > TABLES_MAX))
        status = refuse(error, 0, "pages", "more PTEs than fit");
    if (status != CSIM_OK)
        return status;
    (void)build(&arena, machine, hart, seed, &room);
    if (!arena_open(&arena, arena.used_bytes))
        return CSIM_NO_MEMORY;
    *out = build(&arena, machine, hart, seed, &room);
    (*out)->arena = arena;
    return CSIM_OK;
}

enum csim_status csim_mmu_steps(struct csim_mmu *mmu, const struct csim_mmu_step *steps,
                                uint64_t steps_nr, struct csim_mmu_answer *answers,
                                struct csim_error *error)
{
    struct demand demand = mmu->used;
    enum csim_status status = check_steps(mmu, steps, steps_nr, &demand, error);
    if (status != CSIM_OK)
        return status;
    mmu->used = demand;
    for (uint64_t i = 0; status == CSIM_OK && i < steps_nr; i++) {
        answers[i] = (struct csim_mmu_answer){.cycles = 0};
        if (is_store(&steps[i]) && !step_fits(mmu, &steps[i]))
            status = refuse(error, i, "va", "does not fit what is mapped there");
        else
            run_step(mmu, &steps[i], &answers[i]);
    }
    return status;
}

enum csim_status csim_mmu_stream(struct csim_mmu *mmu, const struct csim_mmu_stream *how,
                                 const uint64_t *vas, uint64_t vas_nr,
                                 struct csim_mmu_streamed *out, struct csim_error *error)
{
    struct mmu_request request = {.asid = how->asid, .access = how->access,
                                  .user = how->user != 0};
    struct mmu_batch_sum sum;
    enum csim_simd simd;
    if (how->access > CSIM_FETCH) {
        snprintf(error->field, sizeof error->field, "access");
        snprintf(error->reason, sizeof error->reason, "enum csim_access");
        return CSIM_BAD_PARAM;
    }
    if (!simd_choose(how->simd, &simd)) {
        snprintf(error->field, sizeof error->field, "simd");
        snprintf(error->reason, sizeof error->reason, "none that this processor has");
        return CSIM_BAD_PARAM;
    }
    mmu_batch_run(&mmu->batch, &request, vas, vas_nr, simd, mmu->now_cycles, &sum);
    mmu->now_cycles += sum.cycles;
    *out = (struct csim_mmu_streamed){sum.cycles, sum.faults, sum.batched};
    return CSIM_OK;
}

void csim_mmu_counters(const struct csim_mmu *mmu, struct csim_counters *counters)
{
    *counters = mmu->counters;
}

void csim_mmu_destroy(struct csim_mmu *mmu)
{
    if (mmu == 0)
        return;
    struct arena arena = mmu->arena;           /* the handle itself lies in it */
    arena_close(&arena);
}

enum csim_status csim_mmu_run(const struct csim_machine *machine, uint32_t hart, uint64_t seed,
                              const struct csim_mmu_step *steps, uint64_t steps_nr,
                              struct csim_mmu_answer *answers, struct csim_counters *counters,
                              struct csim_error *error)
{
    struct csim_mmu limits, *mmu;
    struct demand demand = {0, 0};
    enum csim_status status = mmu_check_machine(machine, error);
    limits.machine = *machine;
    limits.room = (struct demand){STORES_MAX, TABLES_MAX};
    if (status == CSIM_OK)
        status = check_steps(&limits, steps, steps_nr, &demand, error);
    if (status == CSIM_OK)
        status = csim_mmu_create(machine, hart, seed, demand.leaves, demand.tables, &mmu, error);
    if (status != CSIM_OK)
        return status;
    status = csim_mmu_steps(mmu, steps, steps_nr, answers, error);
    *counters = mmu->counters;
    csim_mmu_destroy(mmu);
    return status;
}
