/* The walk, step by step. Clauses: "Virtual Address Translation Process", riscv-isa-manual 1d472b8,
 * src/priv/supervisor.adoc; a row names the step that decides.
 *
 * A row gives one leaf at one level; the pointers above it are made here, over va's own indices.
 * `pointer` are further bits of the pointer just above the leaf. */
#include "table.h"
#include "walk.h"

#define V RV_PTE_V
#define R RV_PTE_R
#define W RV_PTE_W
#define X RV_PTE_X
#define U RV_PTE_U
#define G RV_PTE_G
#define A RV_PTE_A
#define D RV_PTE_D
#define N RV_PTE_N
#define RWX (V | R | W | X | A | D)
#define PPN(ppn) ((uint64_t)(ppn) << 10)
#define BIT(bit) (UINT64_C(1) << (bit))
#define PBMT(type) ((uint64_t)(type) << 61)
#define RAM_FIRST UINT64_C(0x80000000)
#define RAM_END (UINT64_C(1) << 40)
#define ROOT UINT64_C(0x80100)
#define OUTSIDE UINT64_C(0x10)         /* a ppn below RAM */
#define HIGH UINT64_C(0xffffffff87654321)

enum { LOAD = CSIM_LOAD, STORE = CSIM_STORE, FETCH = CSIM_FETCH, SUPER = CSIM_SUPERVISOR };
enum { USER = CSIM_USER };
enum { SUM = 1, MXR = 2, SVADU = 4, SVNAPOT = 8, SVPBMT = 16 };

struct row {
    const char *name;
    uint32_t levels;
    int privilege, access, on;         /* `on`: SUM, MXR, extensions */
    uint64_t va;
    int level;                         /* of the leaf */
    uint64_t leaf, pointer;
    enum walk_fail fail;
    int stopped_at;                    /* level */
    uint64_t pa;
};

static const struct row rows[] = {
    {"Sv39, 4 KiB", 3, SUPER, LOAD, 0, HIGH, 0, RWX | PPN(0x9abcd), 0, WALK_NONE, 0, 0x9abcd321},
    {"Sv48, 4 KiB", 4, SUPER, LOAD, 0, HIGH, 0, RWX | PPN(0x9abcd), 0, WALK_NONE, 0, 0x9abcd321},
    {"Sv57, 4 KiB", 5, SUPER, LOAD, 0, HIGH, 0, RWX | PPN(0x9abcd), 0, WALK_NONE, 0, 0x9abcd321},
    {"Sv39, 2 MiB", 3, SUPER, LOAD, 0, HIGH, 1, RWX | PPN(0x9a000), 0, WALK_NONE, 1, 0x9a054321},
    {"Sv39, 1 GiB", 3, SUPER, LOAD, 0, HIGH, 2, RWX | PPN(0xc0000), 0, WALK_NONE, 2, 0xc7654321},
    {"Sv48, 512 GiB", 4, SUPER, LOAD, 0, 0x87654321, 3, RWX | PPN(BIT(27)), 0, WALK_NONE, 3,
     BIT(39) | 0x87654321},
    {"Sv57, 256 TiB", 5, SUPER, LOAD, 0, 0x87654321, 4, RWX, 0, WALK_NONE, 4, 0x87654321},
    {"Svnapot 64 KiB", 3, SUPER, LOAD, SVNAPOT, HIGH, 0, RWX | N | PPN(0x9abc8), 0, WALK_NONE, 0,
     0x9abc4321},

    {"not canonical: before step 1", 3, SUPER, LOAD, 0, BIT(38), 0, RWX, 0, WALK_NON_CANONICAL, 2,
     0},
    {"step 2: table outside memory", 3, SUPER, LOAD, 0, HIGH, 1, V | PPN(OUTSIDE), 0, WALK_ACCESS,
     0, 0},
    {"step 2: table at the end of memory", 3, SUPER, LOAD, 0, HIGH, 1, V | PPN(RAM_END >> 12), 0,
     WALK_ACCESS, 0, 0},
    {"step 2: last table of memory, zero", 3, SUPER, LOAD, 0, HIGH, 1, V | PPN((RAM_END >> 12) - 1),
     0, WALK_INVALID, 0, 0},

    {"step 3: V = 0", 3, SUPER, LOAD, 0, HIGH, 0, RWX & ~V, 0, WALK_INVALID, 0, 0},
    {"step 3: zero", 3, SUPER, LOAD, 0, HIGH, 0, 0, 0, WALK_INVALID, 0, 0},
    {"step 3: V = 0 at the root", 4, SUPER, LOAD, 0, HIGH, 3, 0, 0, WALK_INVALID, 3, 0},
    {"step 3: V = 0 hides reserved bits", 3, SUPER, LOAD, 0, HIGH, 0, BIT(54), 0, WALK_INVALID, 0,
     0},
    {"step 3: W without R", 3, SUPER, STORE, 0, HIGH, 0, RWX & ~(R | X), 0, WALK_RESERVED_RW, 0, 0},
    {"step 3: WX without R", 3, SUPER, FETCH, 0, HIGH, 0, RWX & ~R, 0, WALK_RESERVED_RW, 0, 0},
    {"step 3: W without R at level 1", 3, SUPER, LOAD, 0, HIGH, 1, V | W, 0, WALK_RESERVED_RW, 1,
     0},
    {"step 3: bit 54", 3, SUPER, LOAD, 0, HIGH, 0, RWX | BIT(54), 0, WALK_RESERVED_BITS, 0, 0},
    {"step 3: bit 58", 3, SUPER, LOAD, 0, HIGH, 0, RWX | BIT(58), 0, WALK_RESERVED_BITS, 0, 0},
    {"step 3: bit 59 without Svrsw60t59b", 3, SUPER, LOAD, 0, HIGH, 0, RWX | BIT(59), 0,
     WALK_RESERVED_BITS, 0, 0},
    {"step 3: bit 60 without Svrsw60t59b", 3, SUPER, LOAD, 0, HIGH, 0, RWX | BIT(60), 0,
     WALK_RESERVED_BITS, 0, 0},
    {"step 3: N without Svnapot", 3, SUPER, LOAD, SVPBMT, HIGH, 0, RWX | N | PPN(8), 0,
     WALK_RESERVED_BITS, 0, 0},
    {"step 3: N, ppn[3:0] = 0", 3, SUPER, LOAD, SVNAPOT, HIGH, 0, RWX | N, 0, WALK_RESERVED_BITS, 0,
     0},
    {"step 3: N on a superpage", 3, SUPER, LOAD, SVNAPOT, HIGH, 1, RWX | N | PPN(8), 0,
     WALK_RESERVED_BITS, 1, 0},
    {"step 3: PBMT without Svpbmt", 3, SUPER, LOAD, SVNAPOT, HIGH, 0, RWX | PBMT(1), 0,
     WALK_RESERVED_BITS, 0, 0},
    {"step 3: PBMT = 3", 3, SUPER, LOAD, SVPBMT, HIGH, 0, RWX | PBMT(3), 0, WALK_RESERVED_BITS, 0,
     0},
    {"PBMT = 2 with Svpbmt", 3, SUPER, LOAD, SVPBMT, HIGH, 1, RWX | PBMT(2), 0, WALK_NONE, 1,
     0x54321},
    {"step 3: pointer with D", 3, SUPER, LOAD, 0, HIGH, 0, RWX, D, WALK_RESERVED_BITS, 1, 0},
    {"step 3: pointer with A", 3, SUPER, LOAD, 0, HIGH, 0, RWX, A, WALK_RESERVED_BITS, 1, 0},
    {"step 3: pointer with U", 3, SUPER, LOAD, 0, HIGH, 0, RWX, U, WALK_RESERVED_BITS, 1, 0},
    {"step 3: pointer with N", 3, SUPER, LOAD, SVNAPOT, HIGH, 0, RWX, N, WALK_RESERVED_BITS, 1, 0},
    {"step 3: pointer with PBMT", 3, SUPER, LOAD, SVPBMT, HIGH, 0, RWX, PBMT(1),
     WALK_RESERVED_BITS, 1, 0},
    {"step 3: pointer with bit 56", 3, SUPER, LOAD, 0, HIGH, 0, RWX, BIT(56), WALK_RESERVED_BITS, 1,
     0},
    {"step 3: pointer with bit 59", 3, SUPER, LOAD, 0, HIGH, 0, RWX, BIT(59), WALK_RESERVED_BITS, 1,
     0},
    {"step 3: pointer with bit 60", 3, SUPER, LOAD, 0, HIGH, 0, RWX, BIT(60), WALK_RESERVED_BITS, 1,
     0},
    {"pointer with G and RSW", 3, SUPER, LOAD, 0, HIGH, 0, RWX, G | RV_PTE_RSW, WALK_NONE, 0,
     0x321},
    {"RSW on a leaf", 3, SUPER, LOAD, 0, HIGH, 0, RWX | RV_PTE_RSW, 0, WALK_NONE, 0, 0x321},

    {"step 4: pointer at level 0", 3, SUPER, LOAD, 0, HIGH, 0, V, 0, WALK_NO_LEAF, 0, 0},
    {"step 3 before 4: pointer with A at level 0", 3, SUPER, LOAD, 0, HIGH, 0, V | A, 0,
     WALK_RESERVED_BITS, 0, 0},

    {"step 5: 2 MiB, ppn[0] = 1", 3, SUPER, LOAD, 0, HIGH, 1, RWX | PPN(1), 0, WALK_MISALIGNED, 1,
     0},
    {"step 5: 1 GiB, ppn[1] = 1", 3, SUPER, LOAD, 0, HIGH, 2, RWX | PPN(0x200), 0, WALK_MISALIGNED,
     2, 0},
    {"step 3 before 5", 3, SUPER, LOAD, 0, HIGH, 1, RWX | PPN(1) | BIT(54), 0, WALK_RESERVED_BITS,
     1, 0},
    {"step 5 before 6", 3, SUPER, LOAD, 0, HIGH, 1, RWX | U | PPN(1), 0, WALK_MISALIGNED, 1, 0},
    {"step 5 before 9", 3, SUPER, LOAD, 0, HIGH, 1, (RWX & ~A) | PPN(1), 0, WALK_MISALIGNED, 1, 0},

    {"step 6: U page from U", 3, USER, LOAD, 0, HIGH, 0, RWX | U, 0, WALK_NONE, 0, 0x321},
    {"step 6: S page from U", 3, USER, LOAD, 0, HIGH, 0, RWX, 0, WALK_DENIED, 0, 0},
    {"step 6: S page from U with SUM", 3, USER, LOAD, SUM, HIGH, 0, RWX, 0, WALK_DENIED, 0, 0},
    {"step 6: U page, load from S", 3, SUPER, LOAD, 0, HIGH, 0, RWX | U, 0, WALK_DENIED, 0, 0},
    {"step 6: U page, load from S with SUM", 3, SUPER, LOAD, SUM, HIGH, 0, RWX | U, 0, WALK_NONE,
     0, 0x321},
    {"step 6: U page, store from S with SUM", 3, SUPER, STORE, SUM, HIGH, 0, RWX | U, 0, WALK_NONE,
     0, 0x321},
    {"step 6: U page, fetch from S with SUM", 3, SUPER, FETCH, SUM, HIGH, 0, RWX | U, 0,
     WALK_DENIED, 0, 0},
    {"step 6: U page, fetch from U", 3, USER, FETCH, 0, HIGH, 0, RWX | U, 0, WALK_NONE, 0, 0x321},

    {"step 8: load, R", 3, SUPER, LOAD, 0, HIGH, 0, V | R | A, 0, WALK_NONE, 0, 0x321},
    {"step 8: store, R", 3, SUPER, STORE, 0, HIGH, 0, V | R | A | D, 0, WALK_DENIED, 0, 0},
    {"step 8: store, RX", 3, SUPER, STORE, MXR, HIGH, 0, V | R | X | A | D, 0, WALK_DENIED, 0, 0},
    {"step 8: store, RW", 3, SUPER, STORE, 0, HIGH, 0, V | R | W | A | D, 0, WALK_NONE, 0, 0x321},
    {"step 8: fetch, RW", 3, SUPER, FETCH, 0, HIGH, 0, V | R | W | A | D, 0, WALK_DENIED, 0, 0},
    {"step 8: fetch, X", 3, SUPER, FETCH, 0, HIGH, 0, V | X | A, 0, WALK_NONE, 0, 0x321},
    {"step 8: load, X", 3, SUPER, LOAD, 0, HIGH, 0, V | X | A, 0, WALK_DENIED, 0, 0},
    {"step 8: load, X with MXR", 3, SUPER, LOAD, MXR, HIGH, 0, V | X | A, 0, WALK_NONE, 0, 0x321},
    {"step 8: store, X with MXR", 3, SUPER, STORE, MXR, HIGH, 0, V | X | A | D, 0, WALK_DENIED, 0,
     0},
    {"step 6 holds with MXR", 3, USER, LOAD, MXR, HIGH, 0, V | X | A, 0, WALK_DENIED, 0, 0},

    {"step 9: Svade, load, A = 0", 3, SUPER, LOAD, 0, HIGH, 0, RWX & ~A, 0, WALK_NEEDS_AD, 0, 0},
    {"step 9: Svade, fetch, A = 0", 3, SUPER, FETCH, 0, HIGH, 0, RWX & ~A, 0, WALK_NEEDS_AD, 0, 0},
    {"step 9: Svade, load, D = 0", 3, SUPER, LOAD, 0, HIGH, 0, RWX & ~D, 0, WALK_NONE, 0, 0x321},
    {"step 9: Svade, store, D = 0", 3, SUPER, STORE, 0, HIGH, 0, RWX & ~D, 0, WALK_NEEDS_AD, 0, 0},
    {"step 9: Svade, store, A = 0", 3, SUPER, STORE, 0, HIGH, 0, RWX & ~A, 0, WALK_NEEDS_AD, 0, 0},
    {"step 6 before 9", 3, USER, LOAD, 0, HIGH, 0, RWX & ~A, 0, WALK_DENIED, 0, 0},
    {"step 8 before 9", 3, SUPER, STORE, 0, HIGH, 0, V | R, 0, WALK_DENIED, 0, 0},
    {"step 8 comes with Svadu too", 3, SUPER, STORE, SVADU, HIGH, 0, V | R, 0, WALK_DENIED, 0, 0},
};

static struct walk_context context_of(const struct row *row)
{
    struct walk_context context = {
        .levels = row->levels,
        .root_ppn = ROOT,
        .privilege = (uint8_t)row->privilege,
        .sum = (row->on & SUM) != 0,
        .mxr = (row->on & MXR) != 0,
        .svadu = (row->on & SVADU) != 0,
        .svnapot = (row->on & SVNAPOT) != 0,
        .svpbmt = (row->on & SVPBMT) != 0,
    };
    walk_context_derive(&context);
    return context;
}

static uint64_t word_pa(uint64_t table_ppn, uint64_t va, int level)
{
    return (table_ppn << 12) + (va >> (12 + 9 * level) & 511) * 8;
}

/* Table of level i is frame ROOT + (levels - 1 - i). */
static uint32_t build(const struct row *row, struct csim_word *words)
{
    uint32_t words_nr = 0;
    uint64_t table = ROOT;
    for (int level = (int)row->levels - 1; level > row->level; level--, table++) {
        uint64_t more = level == row->level + 1 ? row->pointer : 0;
        words[words_nr++] = (struct csim_word){word_pa(table, row->va, level),
                                               PPN(table + 1) | V | more};
    }
    words[words_nr++] = (struct csim_word){word_pa(table, row->va, row->level), row->leaf};
    return words_nr;
}

static void check_row(struct table *table, const struct row *row)
{
    struct walk_context context = context_of(row);
    struct csim_word words[RV_LEVELS_MAX];
    struct pagetable pt;
    struct walk walk;
    int reads = 0;
    pagetable_of_words(&pt, words, build(row, words), RAM_FIRST, RAM_END);
    walk_begin(&walk, &context, row->va, (enum csim_access)row->access);
    while (!walk.done && reads < RV_LEVELS_MAX + 1) {
        walk_step(&walk, &context, &pt, 0, 0);
        reads++;
    }
    int levels_read = (int)row->levels - row->stopped_at;
    table->rows++;
    table_want(table, row->name, "done", walk.done, 1);
    table_want(table, row->name, "fail", walk.fail, row->fail);
    table_want(table, row->name, "level", (uint64_t)walk.level, (uint64_t)row->stopped_at);
    table_want(table, row->name, "reads", (uint64_t)reads,
               (uint64_t)(row->fail == WALK_NON_CANONICAL ? 0 : levels_read));
    table_want(table, row->name, "update", walk.update, 0);
    if (walk.fail == WALK_NONE)
        table_want(table, row->name, "pa", pte_pa(walk.pte, (uint32_t)walk.level, row->va),
                   row->pa);
}

/* Step 9 under Svadu: what the PTE becomes; nothing under Svade or when nothing is missing. */
static const struct {
    const char *name;
    int access, on;
    uint64_t leaf, after;
} updates[] = {
    {"load sets A", LOAD, SVADU, RWX & ~(A | D), RWX & ~D},
    {"fetch sets A", FETCH, SVADU, RWX & ~(A | D), RWX & ~D},
    {"store sets A and D", STORE, SVADU, RWX & ~(A | D), RWX},
    {"store sets D", STORE, SVADU, RWX & ~D, RWX},
    {"store sets A", STORE, SVADU, RWX & ~A, RWX},
    {"load leaves D alone", LOAD, SVADU, RWX & ~D, RWX & ~D},
    {"store with A and D", STORE, SVADU, RWX, RWX},
    {"Svade sets nothing", LOAD, 0, RWX, RWX},
};

static void check_updates(struct table *table)
{
    for (size_t i = 0; i < ROWS(updates); i++) {
        struct row row = {updates[i].name, 3,   SUPER, updates[i].access, updates[i].on,
                          HIGH,            0,   updates[i].leaf, 0, WALK_NONE, 0, 0};
        struct walk_context context = context_of(&row);
        enum csim_access access = (enum csim_access)updates[i].access;
        struct pte leaf = {updates[i].leaf};
        bool changes = updates[i].leaf != updates[i].after;
        table->rows++;
        table_want(table, row.name, "check", walk_check_leaf(&context, leaf, access), WALK_NONE);
        table_want(table, row.name, "needs", walk_needs_update(&context, leaf, access), changes);
        table_want(table, row.name, "after", walk_updated_pte(&context, leaf, access).bits,
                   updates[i].after);
    }
}

static const struct {
    const char *name;
    enum walk_fail fail;
    enum csim_access access;
    uint32_t cause;
} causes[] = {
    {"no fault", WALK_NONE, CSIM_LOAD, 0},
    {"instruction access fault", WALK_ACCESS, CSIM_FETCH, 1},
    {"load access fault", WALK_ACCESS, CSIM_LOAD, 5},
    {"store access fault", WALK_ACCESS, CSIM_STORE, 7},
    {"instruction page fault", WALK_INVALID, CSIM_FETCH, 12},
    {"load page fault", WALK_MISALIGNED, CSIM_LOAD, 13},
    {"store page fault", WALK_NEEDS_AD, CSIM_STORE, 15},
    {"a denied access is a page fault", WALK_DENIED, CSIM_LOAD, 13},
    {"a non-canonical address is a page fault", WALK_NON_CANONICAL, CSIM_FETCH, 12},
};

static void check_causes(struct table *table)
{
    for (size_t i = 0; i < ROWS(causes); i++) {
        table->rows++;
        table_want(table, causes[i].name, "cause", walk_cause(causes[i].fail, causes[i].access),
                   causes[i].cause);
    }
}

int main(void)
{
    struct table table = {0};
    for (size_t i = 0; i < ROWS(rows); i++)
        check_row(&table, &rows[i]);
    check_updates(&table);
    check_causes(&table);
    return table_end(&table);
}
