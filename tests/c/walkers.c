/* One hart's walkers: when a walk that the hart waits for may begin. */
#include <string.h>

#include "arena.h"
#include "mmu.h"
#include "table.h"

enum { SPECULATIVE_CYCLES = 30, WALK_CYCLES = 3 * (4 + 10) };

static const struct row {
    const char *name;
    uint32_t walkers, speculative;   /* so many walks nobody waits for, all begun at 100 */
    uint64_t at_cycles;              /* of the first PTE read */
    uint32_t waits_cycles;
} rows[] = {
    {"nothing in flight", 1, 0, 100, 0},
    {"one walker, at once", 1, 1, 100, 30},
    {"one walker, a cycle before it is free", 1, 1, 129, 1},
    {"one walker, free in this cycle", 1, 1, 130, 0},
    {"one walker, two walks queue on it", 1, 2, 100, 60},
    {"two walkers, one walk", 2, 1, 100, 0},
    {"two walkers, two walks", 2, 2, 100, 30},
    {"two walkers, three walks: the one with one is free first", 2, 3, 100, 30},
    {"seven walkers, six walks", 7, 6, 100, 0},
    {"seven walkers, seven walks", 7, 7, 115, 15},
};

static struct csim_machine machine_of(uint32_t walkers)
{
    struct csim_machine machine;
    memset(&machine, 0, sizeof machine);
    machine.mhz = 1000;
    machine.levels = 3;
    machine.svade = 1;
    machine.walkers = walkers;
    machine.l1i[0] = machine.l1d[0] = (struct csim_array){1, 4, 1, 7, 0};
    machine.walk_overhead_per_level_cycles = 4;
    machine.read_l1d_cycles = 10;
    machine.read_l1d_permille = 1000;
    return machine;
}

static uint64_t walk_cycles(const struct row *row)
{
    struct csim_machine machine = machine_of(row->walkers);
    struct csim_counters counters = {.wall_cycles = 0};
    struct csim_error error;
    struct arena arena = {.block = 0};
    struct pagetable pt;
    struct mmu mmu;
    if (mmu_check_machine(&machine, &error) != CSIM_OK || !arena_open(&arena, 1 << 20))
        return UINT64_MAX;
    pagetable_create(&pt, &arena, 3, 4, 8, &machine);
    mmu_create(&mmu, &arena, &machine, pt.root_ppn, 0, 0, &counters);
    pagetable_map(&pt, 0, 1, 0, 1, 0xcf, 0, 0, 0);
    pagetable_settle(&pt);
    for (uint32_t i = 0; i < row->speculative; i++)
        mmu_occupy_walker(&mmu, 100, SPECULATIVE_CYCLES);
    struct mmu_request request = {.va = 0, .access = CSIM_LOAD};
    uint64_t cycles = mmu_begin(&mmu, &request);
    while (mmu.walking)
        cycles += mmu_step(&mmu, &pt, row->at_cycles + cycles);
    arena_close(&arena);
    return mmu.answer.fail == WALK_NONE ? cycles : UINT64_MAX;
}

int main(void)
{
    struct table table = {0, 0};
    for (size_t i = 0; i < ROWS(rows); i++, table.rows++)
        table_want(&table, rows[i].name, "the walk's cycles", walk_cycles(&rows[i]),
                   WALK_CYCLES + (uint64_t)rows[i].waits_cycles);
    return table_end(&table);
}
