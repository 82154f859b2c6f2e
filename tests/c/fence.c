/* One hart's fences: how many sfence.vma of which form, what they cost, for whom they drop. */
#include <stdlib.h>

#include "fence.h"
#include "table.h"

#define VA UINT64_C(0xffffffc600000000)
#define LEAF (RV_PTE_V | RV_PTE_R | RV_PTE_W | RV_PTE_A | RV_PTE_D)     /* not global */

static const struct csim_machine machine = {
    .mhz = 1000, .levels = 3, .walkers = 1, .asid_bits = 16, .svade = 1,
    .l1i = {{.sets = 1, .ways = 4, .sectors = 1, .levels = 7}},
    .l1d = {{.sets = 1, .ways = 4, .sectors = 1, .levels = 7}},
    .fence_all_cycles = 1000, .fence_asid_cycles = 500, .fence_va_cycles = 10,
    .fence_pipe_cycles = 3, .instruction_millicycles = 500,
};

#define KERNEL(va, pages, most, by_asid) {va, pages, most, 1, by_asid, false, false, false}
#define SVINVAL(va, pages, most, by_asid) {va, pages, most, 1, by_asid, false, true, false}
#define FIRMWARE(va, pages, most) {va, pages, most, 1, false, true, false, false}

struct counts { uint64_t full, addr, asid, addr_asid, firmware, firmware_full, requests; };

static const struct {
    const char *name;
    struct fence_extent extent;        /* va, pages, threshold, ASID, by ASID, firmware */
    struct counts want;
    uint64_t cycles;
    bool drops_first, drops_last;      /* the page at VA, and the 65th from there */
} rows[] = {
    {"everything", KERNEL(0, 0, 64, false), {.full = 1, .requests = 1}, 1003, true, true},
    {"one page", KERNEL(VA, 1, 64, false), {.addr = 1, .requests = 1}, 13, true, false},
    {"two pages", KERNEL(VA, 2, 64, false), {.addr = 2, .requests = 2}, 26, true, false},
    {"64 pages, the threshold", KERNEL(VA, 64, 64, false), {.addr = 64, .requests = 64}, 832,
     true, false},
    {"65 pages: one full fence", KERNEL(VA, 65, 64, false), {.full = 1, .requests = 1}, 1003,
     true, true},
    {"65 pages, no threshold", KERNEL(VA, 65, UINT32_MAX, false), {.addr = 65, .requests = 65},
     845, true, true},
    {"one page, threshold 0", KERNEL(VA, 1, 0, false), {.full = 1, .requests = 1}, 1003, true,
     true},
    {"another page", KERNEL(VA + 4096, 1, 64, false), {.addr = 1, .requests = 1}, 13, false,
     false},
    {"an ASID", KERNEL(0, 0, 64, true), {.asid = 1, .requests = 1}, 503, true, true},
    {"a page of an ASID", KERNEL(VA, 1, 64, true), {.addr_asid = 1, .requests = 1}, 13, true,
     false},
    {"65 pages of an ASID", KERNEL(VA, 65, 64, true), {.asid = 1, .requests = 1}, 503, true,
     true},
    {"four pages", KERNEL(VA, 4, 64, false), {.addr = 4, .requests = 4}, 4 * 13,
     true, false},
    {"four pages by Svinval: one refill, two more instructions",
     SVINVAL(VA, 4, 64, false), {.addr = 4, .requests = 4}, 4 * 10 + 3 + 1, true,
     false},
    {"four pages of an ASID by Svinval", SVINVAL(VA, 4, 64, true),
     {.addr_asid = 4, .requests = 4}, 4 * 10 + 3 + 1, true, false},
    {"65 pages by Svinval: one full fence", SVINVAL(VA, 65, 64, false),
     {.full = 1, .requests = 1}, 1003, true, true},
    {"firmware, everything", FIRMWARE(0, 0, 64), {.firmware = 1, .firmware_full = 1}, 1003,
     true, true},
    {"firmware, three pages", FIRMWARE(VA, 3, UINT32_MAX), {.firmware = 3}, 39, true,
     false},
};

static const struct { const char *name; enum origin origin; enum fence_cause want; } causes[] = {
    {"a map", ORIGIN_MAP, FENCE_FOR_MAP},        {"a check", ORIGIN_TRAP, FENCE_FOR_LAZY},
    {"a kernel fault", ORIGIN_FAULT, FENCE_FOR_LAZY}, {"a user fault", ORIGIN_USER, FENCE_FOR_USER},
    {"a purge", ORIGIN_PURGE, FENCE_FOR_PURGE},
};

static struct trace trace;              /* keeps nothing */
static const struct world world = {.trace = &trace};   /* stores drain at once */

struct scene { struct hart hart; struct pagetable pt; struct arena arena; };

static void make(struct scene *scene)
{
    pagetable_create(&scene->pt, &scene->arena, 3, 16, 1024, &machine);
    mmu_create(&scene->hart.mmu, &scene->arena, &machine, scene->pt.root_ppn, 0, 1,
               &scene->hart.counters);
}

/* The answer to a load; it fills the TLB. */
static struct mmu_answer load(struct scene *scene, uint64_t va)
{
    struct mmu_request request = {.va = va, .asid = MM_OWN_ASID, .access = CSIM_LOAD};
    (void)mmu_begin(&scene->hart.mmu, &request);
    while (scene->hart.mmu.walking)
        (void)mmu_step(&scene->hart.mmu, &scene->pt, 1000);
    return scene->hart.mmu.answer;
}

static struct scene *open_scene(void)
{
    struct scene *scene = calloc(1, sizeof *scene);
    if (scene == NULL)
        abort();
    make(scene);                                            /* only measures */
    size_t bytes = scene->arena.used_bytes;
    if (!arena_open(&scene->arena, bytes))
        abort();
    make(scene);
    (void)pagetable_map(&scene->pt, VA, 65, 0, 0x1000, LEAF, 0, 0, 0);
    (void)load(scene, VA);
    (void)load(scene, VA + (64 << 12));
    scene->hart.counters = (struct csim_counters){0};
    return scene;
}

static void close_scene(struct scene *scene)
{
    arena_close(&scene->arena);
    free(scene);
}

static void check_rows(struct table *table)
{
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct scene *scene = open_scene();
        const struct csim_counters *got = &scene->hart.counters;
        const char *name = rows[i].name;
        uint64_t cycles = fence_execute(&world, &scene->hart, rows[i].extent, ORIGIN_MAP);
        table->rows++;
        table_want(table, name, "cycles", cycles, rows[i].cycles);
        table_want(table, name, "full", got->fences_full, rows[i].want.full);
        table_want(table, name, "by address", got->fences_addr, rows[i].want.addr);
        table_want(table, name, "by ASID", got->fences_asid, rows[i].want.asid);
        table_want(table, name, "both", got->fences_addr_asid, rows[i].want.addr_asid);
        table_want(table, name, "firmware", got->fences_firmware, rows[i].want.firmware);
        table_want(table, name, "firmware, full", got->fences_firmware_full,
                   rows[i].want.firmware_full);
        table_want(table, name, "requests", got->fence_requests, rows[i].want.requests);
        table_want(table, name, "dropped the first", load(scene, VA).refill, rows[i].drops_first);
        table_want(table, name, "dropped the last", load(scene, VA + (64 << 12)).refill,
                   rows[i].drops_last);
        close_scene(scene);
    }
}

static void check_causes(struct table *table)
{
    for (size_t i = 0; i < ROWS(causes); i++) {
        struct scene *scene = open_scene();
        struct fence_extent everything = {.pages = 0};
        (void)fence_execute(&world, &scene->hart, everything, causes[i].origin);
        table->rows++;
        table_want(table, causes[i].name, "refill for", load(scene, VA).refill_for,
                   causes[i].want);
        close_scene(scene);
    }
}

int main(void)
{
    struct table table = {0};
    check_rows(&table);
    check_causes(&table);
    return table_end(&table);
}
