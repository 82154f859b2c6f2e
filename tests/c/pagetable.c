/* The tree in memory, and who sees a store when. Rows of visibility are read at t - 1 and at t: a
 * value that is late or early by one cycle is wrong. */
#include <stdlib.h>

#include "pagetable.h"
#include "rng.h"
#include "table.h"
#include "walk.h"

#define LEAF (RV_PTE_V | RV_PTE_R | RV_PTE_W | RV_PTE_A | RV_PTE_D | RV_PTE_G)
#define MIB2 (UINT64_C(2) << 20)
#define BASE UINT64_C(0xffffffc600000000)    /* in the high half, 1 GiB aligned */

enum { DRAIN = 7, COHERENCE = 40, FRAMES = 32, RING = 64 };

static struct pagetable open_tables(struct arena *arena, uint32_t levels, uint32_t ring_nr)
{
    const struct csim_machine machine = {
        .store_drain_cycles = DRAIN,
        .coherence_cycles = COHERENCE,
    };
    struct pagetable pt;
    *arena = (struct arena){0};
    pagetable_create(&pt, arena, levels, FRAMES, ring_nr, &machine);     /* only measures */
    size_t room_bytes = arena->used_bytes;
    if (!arena_open(arena, room_bytes))
        abort();
    pagetable_create(&pt, arena, levels, FRAMES, ring_nr, &machine);
    return pt;
}

static uint64_t seen(const struct pagetable *pt, uint64_t pa, uint32_t hart, uint64_t at_cycles)
{
    struct pte pte;
    return pagetable_read(pt, pa, hart, at_cycles, &pte) ? pte.bits : UINT64_MAX;
}

/* ---- visibility: rows of stores to one word, and when a hart's view of it changes ---- */

struct store_row { uint64_t at_cycles; uint32_t hart; };   /* the n-th store stores n, from 1 */

static const struct {
    const char *name;
    uint32_t hart;                     /* who reads */
    struct store_row stores[3];        /* in the order of the calls; at_cycles 0 ends them */
    struct { uint64_t at_cycles, value; } views[4];   /* from then on; at_cycles 0 ends them */
} visibility[] = {
    {"the own walker waits for the drain", 0, {{100, 0}}, {{100 + DRAIN, 1}}},
    {"another hart waits for coherence too", 1, {{100, 0}}, {{100 + DRAIN + COHERENCE, 1}}},
    {"two stores of one hart, seen by itself", 0, {{100, 0}, {103, 0}},
     {{107, 1}, {110, 2}}},
    {"two stores of one hart, seen by another", 1, {{100, 0}, {103, 0}}, {{147, 1}, {150, 2}}},
    {"two stores in one cycle: the later call", 1, {{100, 0}, {100, 0}}, {{147, 2}}},
    {"stores of two harts, seen by the first", 0, {{100, 0}, {101, 1}}, {{107, 1}, {148, 2}}},
    {"stores of two harts, seen by the second", 1, {{100, 0}, {101, 1}}, {{108, 2}}},
    {"stores of two harts, seen by a third", 2, {{100, 0}, {101, 1}}, {{147, 1}, {148, 2}}},
    {"own store, another's, own again", 0, {{100, 0}, {101, 1}, {102, 0}}, {{107, 1}, {109, 3}}},
    {"the same, seen by the other", 1, {{100, 0}, {101, 1}, {102, 0}}, {{108, 2}, {149, 3}}},
    {"far apart", 1, {{100, 0}, {300, 0}}, {{147, 1}, {347, 2}}},
    {"a later call with an earlier time is the newer store", 0, {{100, 0}, {90, 0}}, {{97, 2}}},
};

static void check_visibility(struct table *table)
{
    for (size_t i = 0; i < ROWS(visibility); i++) {
        struct arena arena;
        struct pagetable pt = open_tables(&arena, 3, RING);
        uint64_t pa = (pt.base_ppn << RV_PAGE_SHIFT) + 8 * 11, value = 0;
        const char *name = visibility[i].name;
        for (size_t n = 0; n < 3 && visibility[i].stores[n].at_cycles != 0; n++)
            pagetable_store(&pt, pa, (struct pte){n + 1}, visibility[i].stores[n].hart,
                            visibility[i].stores[n].at_cycles);
        table->rows++;
        for (size_t n = 0; n < 4 && visibility[i].views[n].at_cycles != 0; n++) {
            uint64_t at_cycles = visibility[i].views[n].at_cycles;
            table_want(table, name, "one cycle before",
                       seen(&pt, pa, visibility[i].hart, at_cycles - 1), value);
            value = visibility[i].views[n].value;
            table_want(table, name, "then", seen(&pt, pa, visibility[i].hart, at_cycles), value);
        }
        table_want(table, name, "at the end", seen(&pt, pa, visibility[i].hart, UINT64_MAX), value);
        table_want(table, name, "settled", seen(&pt, pa, 9, pt.settled_at_cycles), value);
        table_want(table, name, "a neighbour", seen(&pt, pa + 8, visibility[i].hart, 0), 0);
        arena_close(&arena);
    }
}

/* ---- chance against a naive list of all stores ---- */

enum { CHANCE_STORES = 2000, CHANCE_WORDS = 5, CHANCE_HARTS = 3 };

struct history {
    struct naive_store { uint64_t pa, value, at_cycles; uint32_t hart; } stores[CHANCE_STORES];
    uint32_t nr;
};

/* The last call whose store has reached the hart. */
static uint64_t naive_seen(const struct history *history, uint64_t pa, uint32_t hart,
                           uint64_t at_cycles)
{
    for (uint32_t i = history->nr; i-- > 0;) {
        const struct naive_store *store = &history->stores[i];
        uint64_t delay = DRAIN + (store->hart == hart ? 0 : COHERENCE);
        if (store->pa == pa && store->at_cycles + delay <= at_cycles)
            return store->value;
    }
    return 0;
}

/* Whether one of the stores that so many more would push out of the ring has not reached all. */
static bool naive_must_wait(const struct history *history, uint32_t ring_nr, uint32_t stores,
                            uint64_t slowest_at_cycles)
{
    for (uint32_t i = 0; i < history->nr; i++) {
        bool held = history->nr - i <= ring_nr, pushed_out = history->nr + stores - i > ring_nr;
        if (held && pushed_out
            && history->stores[i].at_cycles + DRAIN + COHERENCE > slowest_at_cycles)
            return true;
    }
    return false;
}

/* Harts lag behind each other; nobody reads before `slowest`, which moves only when it must. */
static void check_chance(struct table *table, uint32_t ring_nr, uint64_t seed)
{
    struct arena arena;
    struct pagetable pt = open_tables(&arena, 3, ring_nr);
    struct history *history = calloc(1, sizeof *history);
    uint64_t slowest = 0, first_pa = (pt.base_ppn << RV_PAGE_SHIFT) + 8 * 509, waits = 0;
    for (uint32_t i = 0; history != NULL && i < CHANCE_STORES; i++) {
        uint64_t draw = rng_draw(seed, RNG_TOUCH, ring_nr, i);
        uint64_t at_cycles = 3 * (uint64_t)i + draw % 16;
        uint64_t pa = first_pa + 8 * (draw / 16 % CHANCE_WORDS);    /* over a frame's end */
        uint32_t hart = (uint32_t)(draw / 256 % CHANCE_HARTS);
        table->rows++;
        while (pagetable_must_wait(&pt, 1, slowest)) {
            table_want(table, "chance", "waits", naive_must_wait(history, ring_nr, 1, slowest), 1);
            slowest++;
            waits++;
        }
        table_want(table, "chance", "waits", naive_must_wait(history, ring_nr, 1, slowest), 0);
        pagetable_store(&pt, pa, (struct pte){draw}, hart, at_cycles);
        history->stores[history->nr++] = (struct naive_store){pa, draw, at_cycles, hart};
        for (uint32_t n = 0; n < 2 * CHANCE_WORDS; n++) {
            uint64_t look = rng_draw(seed, RNG_VISIT, n, i), word = first_pa + 8 * (n / 2);
            uint32_t reader = (uint32_t)(look % CHANCE_HARTS);
            uint64_t then = slowest + look / 256 % (at_cycles + 2 * COHERENCE - slowest + 1);
            table_want(table, "chance", "seen", seen(&pt, word, reader, then),
                       naive_seen(history, word, reader, then));
        }
    }
    table_want(table, "chance", "a small ring makes somebody wait", waits > 0, ring_nr < 64);
    free(history);
    arena_close(&arena);
}

/* ---- the tree ---- */

static const struct {
    const char *name;
    uint32_t levels, level;
    uint64_t va;
    uint32_t pages, stores;            /* stores: pointers made and leaves */
    uint32_t unmap_stores;
} maps[] = {
    {"Sv39, one page: two tables, one leaf", 3, 0, BASE, 1, 3, 1},
    {"Sv48, one page: three tables, one leaf", 4, 0, BASE, 1, 4, 1},
    {"Sv57, one page: four tables, one leaf", 5, 0, BASE, 1, 5, 1},
    {"four pages of one table", 3, 0, BASE, 4, 6, 4},
    {"four pages over the end of a table", 3, 0, BASE + MIB2 - 8192, 4, 7, 4},
    {"a whole table", 3, 0, BASE, 512, 514, 512},
    {"2 MiB: one table, one leaf", 3, 1, BASE, 512, 2, 1},
    {"three of 2 MiB", 3, 1, BASE, 3 * 512, 4, 3},
    {"1 GiB: no table", 3, 2, BASE, 512 * 512, 1, 1},
    {"Sv48, 1 GiB: one table", 4, 2, BASE, 512 * 512, 2, 1},
    {"the last page of all", 3, 0, UINT64_C(0) - 4096, 1, 3, 1},
};

/* Every page walks to its own frame once the stores are seen, and not one cycle before its store
 * was. */
static void check_maps(struct table *table)
{
    for (size_t i = 0; i < ROWS(maps); i++) {
        struct arena arena;
        struct pagetable pt = open_tables(&arena, maps[i].levels, 1024);
        uint64_t ppn = UINT64_C(5) << 18, last_va = maps[i].va + ((maps[i].pages - 1) << 12);
        const char *name = maps[i].name;
        uint32_t stores = pagetable_map(&pt, maps[i].va, maps[i].pages, maps[i].level, ppn, LEAF,
                                        1, 1000, 3);
        uint64_t last_at = 1000 + 3 * (uint64_t)(maps[i].stores - 1);
        table->rows++;
        table_want(table, name, "stores", stores, maps[i].stores);
        table_want(table, name, "settled", pt.settled_at_cycles, last_at + DRAIN + COHERENCE);
        struct pte first = pagetable_leaf(&pt, maps[i].va), last = pagetable_leaf(&pt, last_va);
        uint64_t last_leaf = (maps[i].pages - 1) >> (9 * maps[i].level) << (9 * maps[i].level);
        table_want(table, name, "first leaf", first.bits, pte_make(ppn, LEAF).bits);
        table_want(table, name, "last leaf", last.bits, pte_make(ppn + last_leaf, LEAF).bits);
        table_want(table, name, "past it", pagetable_leaf(&pt, last_va + (512 << 21)).bits, 0);
        stores = pagetable_unmap(&pt, maps[i].va, maps[i].pages, 1, 5000, 3);
        table_want(table, name, "unmap stores", stores, maps[i].unmap_stores);
        table_want(table, name, "after unmap", pagetable_leaf(&pt, last_va).bits, 0);
        stores = pagetable_unmap(&pt, maps[i].va, maps[i].pages, 1, 6000, 3);
        table_want(table, name, "nothing left to unmap", stores, 0);
        stores = pagetable_map(&pt, maps[i].va, maps[i].pages, maps[i].level, ppn, LEAF, 1, 7000,
                               3);
        table_want(table, name, "tables stay", stores, maps[i].unmap_stores);
        arena_close(&arena);
    }
}

/* A superpage takes the place of an emptied table; the frame is used again, zeroed. */
static void check_replaced_table(struct table *table)
{
    struct arena arena;
    struct pagetable pt = open_tables(&arena, 3, RING);
    const char *name = "2 MiB over an empty table";
    pagetable_map(&pt, BASE, 3, 0, 0x1000, LEAF, 0, 0, 1);
    pagetable_unmap(&pt, BASE, 3, 0, 0, 1);
    uint32_t used = pt.frames_used;
    table->rows++;
    table_want(table, name, "stores", pagetable_map(&pt, BASE, 512, 1, 0x1000, LEAF, 0, 0, 1), 1);
    table_want(table, name, "spare", pt.spare_nr, 1);
    table_want(table, name, "a hole that reaches past the end",
               pagetable_unmap(&pt, BASE - 8192, 2, 0, 0, 1), 0);
    table_want(table, name, "and before it", pagetable_unmap(&pt, BASE - MIB2 + 4096, 1, 0, 0, 1),
               0);
    table_want(table, name, "partly a hole",
               pagetable_unmap(&pt, BASE - MIB2, 2 * 512, 0, 0, 1), 1);
    pagetable_map(&pt, BASE + MIB2, 1, 0, 0x1000, LEAF, 0, 0, 1);
    table_want(table, name, "spare taken", pt.spare_nr, 0);
    table_want(table, name, "frames", pt.frames_used, used);
    table_want(table, name, "neighbour of the new leaf",
               pagetable_leaf(&pt, BASE + MIB2 + 4096).bits, 0);
    arena_close(&arena);
}

/* Memory of a few words: what is not listed is zero, what is not RAM is not there. */
static void check_words(struct table *table)
{
    const struct csim_word words[] = {{0x1000, 5}, {0x1ff8, 6}};
    const struct { const char *name; uint64_t pa, want; } rows[] = {
        {"the first word, listed", 0x1000, 5},
        {"the last word, listed", 0x1ff8, 6},
        {"not listed", 0x1008, 0},
        {"below", 0xff8, UINT64_MAX},
        {"past", 0x2000, UINT64_MAX},
    };
    struct pagetable pt;
    pagetable_of_words(&pt, words, ROWS(words), 0x1000, 0x2000);
    for (size_t i = 0; i < ROWS(rows); i++) {
        table->rows++;
        table_want(table, rows[i].name, "read", seen(&pt, rows[i].pa, 0, 0), rows[i].want);
    }
}

static void check_memory(struct table *table)
{
    struct arena arena;
    struct pagetable pt = open_tables(&arena, 3, RING);
    uint64_t window_end = (pt.base_ppn + FRAMES) << RV_PAGE_SHIFT;
    const struct { const char *name; uint64_t pa, want; } rows[] = {
        {"below RAM", pt.ram_first - 8, UINT64_MAX},
        {"the first word of RAM", pt.ram_first, 0},
        {"past the window is RAM that reads as zero", window_end, 0},
        {"the last word of RAM", pt.ram_end - 8, 0},
        {"past RAM", pt.ram_end, UINT64_MAX},
        {"address 0", 0, UINT64_MAX},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        table->rows++;
        table_want(table, rows[i].name, "read", seen(&pt, rows[i].pa, 0, 0), rows[i].want);
    }
    arena_close(&arena);
}

/* ---- a walk among stores ---- */

static struct walk_context context_of(const struct pagetable *pt, bool svadu)
{
    struct walk_context context = {
        .levels = pt->levels,
        .root_ppn = pt->root_ppn,
        .privilege = CSIM_SUPERVISOR,
        .svadu = svadu,
    };
    walk_context_derive(&context);
    return context;
}

/* A mapping of hart 0 whose three stores are at 100, 110, 120; hart 1 walks, a read each so many
 * cycles. */
static const struct {
    const char *name;
    uint64_t begin_at, read_cycles;
    enum walk_fail fail;
    int level;
} races[] = {
    {"root read one cycle early", 146, 1000, WALK_INVALID, 2},
    {"root read in time, level 1 one cycle early", 147, 9, WALK_INVALID, 1},
    {"level 1 in time, leaf one cycle early", 148, 9, WALK_INVALID, 0},
    {"each level read when it is just there", 147, 10, WALK_NONE, 0},
};

static void check_races(struct table *table)
{
    struct arena arena;
    struct pagetable pt = open_tables(&arena, 3, RING);
    struct walk_context context = context_of(&pt, false);
    pagetable_map(&pt, BASE, 1, 0, 0x1234, LEAF, 0, 100, 10);
    for (size_t i = 0; i < ROWS(races); i++) {
        struct walk walk;
        uint64_t at_cycles = races[i].begin_at;
        walk_begin(&walk, &context, BASE, CSIM_STORE);
        for (; !walk.done; at_cycles += races[i].read_cycles)
            walk_step(&walk, &context, &pt, 1, at_cycles);
        table->rows++;
        table_want(table, races[i].name, "fail", walk.fail, races[i].fail);
        table_want(table, races[i].name, "level", (uint64_t)walk.level, (uint64_t)races[i].level);
    }
    arena_close(&arena);
}

/* A page-walk cache gives the walk a lower table to start from. */
static void check_shortened_walk(struct table *table)
{
    struct arena arena;
    struct pagetable pt = open_tables(&arena, 3, RING);
    struct walk_context context = context_of(&pt, false);
    struct walk whole, walk;
    pagetable_map(&pt, BASE, 1, 0, 0x1234, LEAF, 0, 0, 1);
    walk_begin(&whole, &context, BASE, CSIM_LOAD);
    while (!whole.done)
        walk_step(&whole, &context, &pt, 0, 1000);
    walk_begin(&walk, &context, BASE, CSIM_LOAD);
    walk.table_ppn = whole.table_ppn;
    walk.level = 0;
    walk_step(&walk, &context, &pt, 0, 1000);
    table->rows++;
    table_want(table, "shortened walk", "done", walk.done, 1);
    table_want(table, "shortened walk", "pte", walk.pte.bits, whole.pte.bits);
    table_want(table, "shortened walk", "ppn", pte_ppn(walk.pte), 0x1234);
    arena_close(&arena);
}

/* Step 9: "Compare pte to the value of the PTE ... If the comparison fails, return to step 2." */
static void check_update(struct table *table)
{
    struct arena arena;
    struct pagetable pt = open_tables(&arena, 3, RING);
    struct walk_context context = context_of(&pt, true);
    uint64_t fresh = LEAF & ~(RV_PTE_A | RV_PTE_D), settled = 1000;
    struct walk walk;
    pagetable_map(&pt, BASE, 1, 0, 0x1234, fresh, 0, 0, 1);
    walk_begin(&walk, &context, BASE, CSIM_STORE);
    while (!walk.done)
        walk_step(&walk, &context, &pt, 1, settled);
    table->rows++;
    table_want(table, "Svadu", "update", walk.update, 1);
    pagetable_store(&pt, walk.pte_pa, pte_make(0x5678, fresh), 0, settled);
    walk_update(&walk, &context, &pt, 1, settled);
    table_want(table, "Svadu, the PTE changed", "done", walk.done, 0);
    table_want(table, "Svadu, the PTE changed", "memory", pagetable_leaf(&pt, BASE).bits,
               pte_make(0x5678, fresh).bits);
    walk_step(&walk, &context, &pt, 1, 2 * settled);
    walk_update(&walk, &context, &pt, 1, 2 * settled);
    table_want(table, "Svadu, read again", "done", walk.done, 1);
    table_want(table, "Svadu, read again", "memory", pagetable_leaf(&pt, BASE).bits,
               pte_make(0x5678, LEAF).bits);
    table_want(table, "Svadu, read again", "pte", walk.pte.bits, pte_make(0x5678, LEAF).bits);
    arena_close(&arena);
}

int main(void)
{
    struct table table = {0};
    check_visibility(&table);
    for (uint64_t seed = 1; seed <= 4; seed++) {
        check_chance(&table, 4, seed);
        check_chance(&table, 16, seed);
        check_chance(&table, 4096, seed);
    }
    check_maps(&table);
    check_replaced_table(&table);
    check_words(&table);
    check_memory(&table);
    check_races(&table);
    check_shortened_walk(&table);
    check_update(&table);
    return table_end(&table);
}
