/* footprint.c: uniform random reads over a buffer, one after the other, as a memory benchmark does
 * them: each address depends on the value read before, so translation and data latency add up.
 *
 * The same reads once over 4 KiB pages and once over 2 MiB pages; the difference per read is what
 * boards are measured by (tinymembench with MADV_NOHUGEPAGE and MADV_HUGEPAGE). It holds more than
 * TLB misses: PTE lines take room in the data caches, the page table grows out of them, and where
 * frames are scattered, 4 KiB pages collide in physically indexed caches and 2 MiB pages do not.
 * Reads go to the same places of the buffer in both runs, so the difference has little noise.
 *
 * First the buffer is filled from its beginning to its end, as the benchmark does, which leaves
 * TLBs and caches full of the buffer's last lines; every line is as likely to be asked for as every
 * other, so the hit rates are right from the start. What is still young is the order of PTE lines
 * among data lines; `warm_up` reads settle it, and are not counted.
 *
 * Frames: contiguous, as a kernel that has just booted gives them, or scattered over a pool of
 * 2^22 frames by a bijection of the page's number and the seed.
 *
 * Left out: stores, the benchmark's own code and stack, interrupts, overlap of several reads.
 */
#include <stdio.h>

#include "cache.h"
#include "mmu.h"
#include "rng.h"
#include "rv.h"

enum { POOL_BITS = 22, LEVELS_OF_LEAVES = 2, TABLES_SPARE = 16 };

#define FOOTPRINT_BYTES_MAX (UINT64_C(1) << 32)
#define READS_MAX (UINT64_C(1) << 32)
#define FIRST_PPN (UINT64_C(1) << 24)       /* frames of the buffer; the tables lie below */
#define LINE_BYTES (UINT64_C(1) << CACHE_LINE_SHIFT)

struct run {
    struct mmu mmu;
    struct caches caches;
    struct pagetable pt;
    uint64_t first_va, now_cycles, translation_cycles;
};

static enum csim_status refuse(struct csim_error *error, const char *field, const char *reason)
{
    snprintf(error->field, sizeof error->field, "footprint.%s", field);
    snprintf(error->reason, sizeof error->reason, "%s", reason);
    return CSIM_BAD_PARAM;
}

static enum csim_status check(const struct csim_footprint *question, struct csim_error *error)
{
    if (question->bytes == 0 || question->bytes > FOOTPRINT_BYTES_MAX
        || question->bytes % (UINT64_C(1) << RV_PAGE_SHIFT) != 0)
        return refuse(error, "bytes", "whole 4 KiB pages, up to 4 GiB");
    if (question->level >= LEVELS_OF_LEAVES)
        return refuse(error, "level", "0 (4 KiB pages) or 1 (2 MiB pages)");
    if (question->reads == 0 || question->reads > READS_MAX || question->warm_up > READS_MAX)
        return refuse(error, "reads", "from 1 to 2^32");
    if (question->scattered > 1)
        return refuse(error, "scattered", "0 or 1");
    return CSIM_OK;
}

/* A permutation of the pool: each step can be undone. */
static uint64_t scatter(uint64_t page, uint64_t seed)
{
    const uint64_t mask = (UINT64_C(1) << POOL_BITS) - 1;
    uint64_t at = (page + seed) & mask;
    at = (at ^ at >> 11) * UINT64_C(0x2c1b3c6d) & mask;
    at = (at ^ at >> 12) * UINT64_C(0x297a2d39) & mask;
    return at ^ at >> 11;
}

static void create(struct run *run, struct arena *arena, const struct csim_machine *machine,
                   const struct csim_footprint *question, struct csim_counters *counters)
{
    uint64_t table_bytes = UINT64_C(1) << rv_span_shift(1);
    uint32_t tables = (uint32_t)(question->bytes / table_bytes) + TABLES_SPARE;
    uint64_t leaves = question->bytes >> rv_span_shift(question->level);
    pagetable_create(&run->pt, arena, machine->levels, tables,
                     (uint32_t)leaves + tables, machine);
    cache_create(&run->caches, arena, machine);
    mmu_create(&run->mmu, arena, machine, run->pt.root_ppn, 0, question->seed, counters);
}

static void map(struct run *run, const struct csim_footprint *question)
{
    const uint64_t flags = RV_PTE_V | RV_PTE_R | RV_PTE_W | RV_PTE_G | RV_PTE_A | RV_PTE_D;
    uint64_t pages = question->bytes >> RV_PAGE_SHIFT, leaf = UINT64_C(1) << RV_VPN_BITS;
    if (question->level == 1) {
        pages = (pages + leaf - 1) / leaf * leaf;
        pagetable_map(&run->pt, run->first_va, (uint32_t)pages, 1, FIRST_PPN, flags, 0, 0, 0);
    } else if (question->scattered) {
        for (uint64_t page = 0; page < pages; page++)
            pagetable_map(&run->pt, run->first_va + (page << RV_PAGE_SHIFT), 1, 0,
                          FIRST_PPN + scatter(page, question->seed), flags, 0, 0, 0);
    } else {
        pagetable_map(&run->pt, run->first_va, (uint32_t)pages, 0, FIRST_PPN, flags, 0, 0, 0);
    }
    pagetable_settle(&run->pt);
}

/* One read of a line of the buffer; false: it faulted, and should not have. */
static bool read_line(struct run *run, uint64_t line)
{
    uint64_t va = run->first_va + line * LINE_BYTES;
    struct mmu_request request = {.va = va, .access = CSIM_LOAD};
    uint64_t cycles = mmu_begin(&run->mmu, &request);
    while (run->mmu.walking)                                      /* at most one step a level */
        cycles += mmu_step(&run->mmu, &run->pt, run->now_cycles + cycles);
    if (run->mmu.answer.fail != WALK_NONE)
        return false;
    run->translation_cycles += cycles;
    uint64_t offset = va & ((UINT64_C(1) << RV_PAGE_SHIFT) - 1);
    run->now_cycles += cycles;
    run->now_cycles += cache_read_data(&run->caches,
                                       (run->mmu.answer.ppn << RV_PAGE_SHIFT) + offset);
    return true;
}

static bool read_all(struct run *run, const struct csim_footprint *question,
                     struct csim_counters *counters, struct csim_footprint_cost *cost)
{
    uint64_t lines = question->bytes / LINE_BYTES, started_at = 0;
    bool ok = true;
    for (uint64_t line = 0; ok && line < lines; line++)
        ok = read_line(run, line);
    for (uint64_t i = 0; ok && i < question->warm_up + question->reads; i++) {
        if (i == question->warm_up) {
            *counters = (struct csim_counters){.wall_cycles = 0};
            run->translation_cycles = 0;
            started_at = run->now_cycles;
            for (uint32_t place = 0; place < CSIM_PLACES; place++)
                run->caches.pte_reads[place] = run->caches.data_reads[place] = 0;
        }
        ok = read_line(run, rng_below(rng_draw(question->seed, RNG_FOOTPRINT, 0, i), lines));
    }
    *cost = (struct csim_footprint_cost){
        .cycles = run->now_cycles - started_at,
        .translation_cycles = run->translation_cycles,
        .l1_misses = counters->lookups - counters->l1_hits,
        .l2_misses = counters->misses,
    };
    for (uint32_t place = 0; place < CSIM_PLACES; place++) {
        cost->pte_reads[place] = run->caches.pte_reads[place];
        cost->data_reads[place] = run->caches.data_reads[place];
    }
    return ok;
}

enum csim_status csim_footprint_run(const struct csim_machine *machine,
                                    const struct csim_footprint *question,
                                    struct csim_footprint_cost *cost, struct csim_error *error)
{
    struct run run = {.now_cycles = 0};
    struct arena arena = {.block = 0};
    struct csim_counters counters = {.wall_cycles = 0};
    struct csim_layout layout;
    enum csim_status status = mmu_check_machine(machine, error);
    if (status == CSIM_OK)
        status = check(question, error);
    if (status != CSIM_OK)
        return status;
    create(&run, &arena, machine, question, &counters);
    if (!arena_open(&arena, arena.used_bytes))
        return CSIM_NO_MEMORY;
    create(&run, &arena, machine, question, &counters);
    run.mmu.caches = &run.caches;
    csim_layout(machine->levels, &layout);
    run.first_va = layout.linear_first;
    map(&run, question);
    if (!read_all(&run, question, &counters, cost))
        status = refuse(error, "bytes", "a read of the buffer faulted: our mistake");
    arena_close(&arena);
    return status;
}
