/* One PTE word. Clauses: riscv-isa-manual 1d472b8, src/priv/supervisor.adoc, "Sv39", "Svnapot",
 * "Svpbmt". */
#include "pte.h"
#include "table.h"

#define V RV_PTE_V
#define R RV_PTE_R
#define W RV_PTE_W
#define X RV_PTE_X
#define N RV_PTE_N
#define PPN(ppn) ((uint64_t)(ppn) << 10)
#define PBMT(type) ((uint64_t)(type) << 61)
#define TOP_PPN ((UINT64_C(1) << 44) - 1)

static const struct {
    const char *name;
    uint64_t bits;
    bool valid, leaf, global;
    uint64_t ppn;
    uint32_t pbmt;
} fields[] = {
    {"zero", 0, false, false, false, 0, 0},
    {"V alone is a pointer", V, true, false, false, 0, 0},
    {"R makes a leaf", V | R, true, true, false, 0, 0},
    {"X makes a leaf", V | X, true, true, false, 0, 0},
    {"W alone does not", V | W, true, false, false, 0, 0},
    {"V clear, all else set", ~V, false, true, true, TOP_PPN, 3},
    {"G is bit 5", V | UINT64_C(0x20), true, false, true, 0, 0},
    {"lowest bit of ppn is 10", UINT64_C(1) << 10, false, false, false, 1, 0},
    {"highest bit of ppn is 53", UINT64_C(1) << 53, false, false, false, UINT64_C(1) << 43, 0},
    {"bit 54 is not ppn", UINT64_C(1) << 54, false, false, false, 0, 0},
    {"RSW is not ppn", RV_PTE_RSW, false, false, false, 0, 0},
    {"PBMT is 62:61, low bit", UINT64_C(1) << 61, false, false, false, 0, 1},
    {"PBMT is 62:61, high bit", UINT64_C(1) << 62, false, false, false, 0, 2},
};

static void check_fields(struct table *table)
{
    for (size_t i = 0; i < ROWS(fields); i++) {
        struct pte pte = {fields[i].bits};
        const char *name = fields[i].name;
        table->rows++;
        table_want(table, name, "valid", pte_is_valid(pte), fields[i].valid);
        table_want(table, name, "leaf", pte_is_leaf(pte), fields[i].leaf);
        table_want(table, name, "global", pte_is_global(pte), fields[i].global);
        table_want(table, name, "ppn", pte_ppn(pte), fields[i].ppn);
        table_want(table, name, "pbmt", pte_pbmt(pte), fields[i].pbmt);
    }
}

static const struct {
    const char *name;
    uint64_t bits;
    uint32_t level;
    bool misaligned, reserved;
    uint64_t va, pa, size_bytes;
} leaves[] = {
    {"4 KiB", PPN(0x12345), 0, false, false, 0xabc, 0x12345abc, 4096},
    {"4 KiB, any ppn is aligned", PPN(TOP_PPN), 0, false, false, 0x1fff, (TOP_PPN << 12) | 0xfff,
     4096},
    {"2 MiB takes vpn[0] from va (step 10)", PPN(0x12200), 1, false, false, 0x3f5678, 0x123f5678,
     UINT64_C(2) << 20},
    {"2 MiB, ppn[0] = 1 (step 5)", PPN(0x12201), 1, true, false, 0, 0x12200000, UINT64_C(2) << 20},
    {"2 MiB, ppn[0] = 0x100 (step 5)", PPN(0x12300), 1, true, false, 0, 0x12200000,
     UINT64_C(2) << 20},
    {"1 GiB", PPN(0x40000), 2, false, false, 0x3fffffff, 0x7fffffff, UINT64_C(1) << 30},
    {"1 GiB, ppn[1] = 1 (step 5)", PPN(0x40200), 2, true, false, 0, 0x40000000, UINT64_C(1) << 30},
    {"512 GiB", PPN(UINT64_C(1) << 27), 3, false, false, 1, (UINT64_C(1) << 39) | 1,
     UINT64_C(512) << 30},
    {"512 GiB, ppn[2] = 1 (step 5)", PPN(UINT64_C(1) << 18), 3, true, false, 0, 0,
     UINT64_C(512) << 30},
    {"256 TiB", PPN(UINT64_C(1) << 36), 4, false, false, 2, (UINT64_C(1) << 48) | 2,
     UINT64_C(256) << 40},
    {"256 TiB, ppn[3] = 1 (step 5)", PPN(UINT64_C(1) << 27), 4, true, false, 0, 0,
     UINT64_C(256) << 40},
    {"64 KiB takes vpn[3:0] from va (Svnapot)", N | PPN(0x12348), 0, false, false, 0xdabc,
     0x1234dabc, 65536},
    {"N, ppn[3:0] = 0 (Svnapot, reserved)", N | PPN(0x12340), 0, false, true, 0, 0x12340000,
     65536},
    {"N, ppn[3:0] = 9 (Svnapot, reserved)", N | PPN(0x12349), 0, false, true, 0, 0x12340000,
     65536},
    {"N, ppn[3:0] = 4 (Svnapot, reserved)", N | PPN(0x12344), 0, false, true, 0, 0x12340000,
     65536},
    {"N on a superpage (Svnapot, reserved)", N | PPN(0x12208), 1, true, true, 0, 0x12000000,
     UINT64_C(32) << 20},
    {"PBMT 1 is NC", PBMT(1) | PPN(1), 0, false, false, 0, 0x1000, 4096},
    {"PBMT 2 is IO", PBMT(2) | PPN(1), 0, false, false, 0, 0x1000, 4096},
    {"PBMT 3 is reserved (Svpbmt)", PBMT(3) | PPN(1), 0, false, true, 0, 0x1000, 4096},
};

static void check_leaves(struct table *table)
{
    for (size_t i = 0; i < ROWS(leaves); i++) {
        struct pte pte = {leaves[i].bits | V | R};
        uint32_t level = leaves[i].level;
        const char *name = leaves[i].name;
        table->rows++;
        table_want(table, name, "misaligned", pte_is_misaligned(pte, level), leaves[i].misaligned);
        table_want(table, name, "reserved", pte_has_reserved_encoding(pte, level),
                   leaves[i].reserved);
        table_want(table, name, "size", pte_size_bytes(pte, level), leaves[i].size_bytes);
        table_want(table, name, "pa", pte_pa(pte, level, leaves[i].va), leaves[i].pa);
    }
}

/* The highest and lowest addresses on both sides of the hole: "bits 63-39 all equal to bit 38". */
static const struct {
    const char *name;
    uint64_t va;
    uint32_t levels;
    bool canonical;
} addresses[] = {
    {"Sv39, end of the low half", UINT64_C(0x3fffffffff), 3, true},
    {"Sv39, first above it", UINT64_C(0x4000000000), 3, false},
    {"Sv39, last below the high half", UINT64_C(0xffffffbfffffffff), 3, false},
    {"Sv39, start of the high half", UINT64_C(0xffffffc000000000), 3, true},
    {"Sv48, end of the low half", UINT64_C(0x7fffffffffff), 4, true},
    {"Sv48, first above it", UINT64_C(0x800000000000), 4, false},
    {"Sv48, last below the high half", UINT64_C(0xffff7fffffffffff), 4, false},
    {"Sv48, start of the high half", UINT64_C(0xffff800000000000), 4, true},
    {"Sv57, end of the low half", UINT64_C(0xffffffffffffff), 5, true},
    {"Sv57, first above it", UINT64_C(0x100000000000000), 5, false},
    {"Sv57, last below the high half", UINT64_C(0xfeffffffffffffff), 5, false},
    {"Sv57, start of the high half", UINT64_C(0xff00000000000000), 5, true},
    {"zero", 0, 3, true},
    {"the last byte", UINT64_MAX, 5, true},
    {"bit 63 alone", UINT64_C(1) << 63, 5, false},
};

static void check_addresses(struct table *table)
{
    for (size_t i = 0; i < ROWS(addresses); i++) {
        int canonical = rv_is_canonical(addresses[i].va, addresses[i].levels);
        table->rows++;
        table_want(table, addresses[i].name, "canonical", canonical != 0, addresses[i].canonical);
    }
}

int main(void)
{
    struct table table = {0};
    check_fields(&table);
    check_leaves(&table);
    check_addresses(&table);
    return table_end(&table);
}
