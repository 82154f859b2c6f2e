/* fence.c: a range is its list of pages, one sfence.vma each, up to a threshold; above it, or with
 * no range at all, one full fence. That is what Linux does on a hart (arch/riscv/mm/tlbflush.c,
 * local_flush_tlb_range_threshold_asid, linux 6.12) and what OpenSBI does in its handler
 * (lib/sbi/sbi_tlb.c, 4e79fd7de), where the request has been widened before.
 *
 * The walker's reads after a fence see what the hart itself stored before it (riscv-isa-manual,
 * SFENCE.VMA orders stores that are visible to this hart, and its own are): the fence lasts until
 * its PTE stores have left for the walker. A fence that hardware broadcasts to the hart is none of
 * its instructions and waits for nothing.
 *
 * Svinval: sfence.w.inval, a sinval.vma for each page, sfence.inval.ir, where the kernel uses it
 * and the machine has it. "The triple equals sfence.vma" (svinval.adoc): the first one waits for
 * the hart's stores as every fence does, and the pipeline is refilled after the last one only.
 * Each sinval.vma counts as a fence by address.
 */
#include "fence.h"

static enum fence_cause cause_of(enum origin origin)
{
    switch (origin) {
    case ORIGIN_MAP: return FENCE_FOR_MAP;
    case ORIGIN_TRAP:
    case ORIGIN_FAULT: return FENCE_FOR_LAZY;
    case ORIGIN_USER: return FENCE_FOR_USER;
    case ORIGIN_PURGE:
    case ORIGIN_WORK: return FENCE_FOR_PURGE;
    }
    return FENCE_FOR_PURGE;
}

static void log_fence(const struct world *world, const struct hart *hart,
                      struct fence_extent extent, uint64_t va, uint64_t pages)
{
    uint32_t flags = (extent.by_asid ? CSIM_LOG_BY_ASID : 0) |
                     (extent.firmware ? CSIM_LOG_BY_FIRMWARE : 0) |
                     (extent.for_another ? CSIM_LOG_FOR_ANOTHER : 0);
    world_log(world, hart, CSIM_LOG_FENCE, va, pages, flags);
}

static void count(struct csim_counters *counters, struct fence_extent extent, bool full,
                  uint64_t fences)
{
    if (extent.firmware) {
        counters->fences_firmware += fences;
        counters->fences_firmware_full += full ? fences : 0;
        return;
    }
    counters->fence_requests += fences;
    if (full)
        *(extent.by_asid ? &counters->fences_asid : &counters->fences_full) += fences;
    else
        *(extent.by_asid ? &counters->fences_addr_asid : &counters->fences_addr) += fences;
}

/* How long this hart's walker does not see its last PTE store yet. */
static uint64_t undrained_cycles(const struct world *world, const struct hart *hart)
{
    if (hart->ptes_stored_at_cycles == 0)
        return 0;
    uint64_t seen = hart->ptes_stored_at_cycles + world->params.machine.store_drain_cycles;
    return seen > hart->now_cycles ? seen - hart->now_cycles : 0;
}

/* The pages of a triple refill the pipeline once, at its end; its two other instructions count. */
static uint64_t triple_cycles(const struct csim_machine *machine, uint64_t cycles, uint32_t pages)
{
    return cycles - (uint64_t)(pages - 1) * machine->fence_pipe_cycles
           + 2 * (uint64_t)machine->instruction_millicycles / 1000;
}

uint64_t fence_execute(const struct world *world, struct hart *hart, struct fence_extent extent,
                       enum origin origin)
{
    enum fence_cause cause = cause_of(origin);
    bool full = extent.pages == 0 || extent.pages > extent.threshold_pages;
    uint64_t cycles = 0;
    uint64_t undrained = undrained_cycles(world, hart);
    if (full) {
        enum fence_form form = extent.by_asid ? FENCE_ASID : FENCE_ALL;
        log_fence(world, hart, extent, 0, 0);
        cycles = mmu_fence(&hart->mmu, form, 0, extent.asid, cause);
    } else {
        enum fence_form form = extent.by_asid ? FENCE_VA_ASID : FENCE_VA;
        for (uint32_t page = 0; page < extent.pages; page++) {
            uint64_t va = extent.va + ((uint64_t)page << PAGE_SHIFT);
            log_fence(world, hart, extent, va, 1);
            cycles += mmu_fence(&hart->mmu, form, va, extent.asid, cause);
        }
        if (extent.svinval)
            cycles = triple_cycles(hart->mmu.machine, cycles, extent.pages);
    }
    count(&hart->counters, extent, full, full ? 1 : extent.pages);
    return cycles > undrained ? cycles : undrained;
}
