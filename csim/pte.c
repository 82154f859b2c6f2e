/* pte.c: arithmetic on one leaf.
 *
 * The physical address of a leaf takes its low page-number bits from the virtual address: 9 for
 * each level above 0 ("Virtual Address Translation Process", step 10), 4 for a NAPOT leaf
 * ("Svnapot": ppn[3:0] is the size encoding, so it is replaced by vpn[3:0]). Both are the same
 * move, hence one function that says how many bits a leaf leaves to the address.
 *
 * Left out: NAPOT sizes other than 64 KiB, which the manual reserves, and Svrsw60t59b.
 * Source: riscv-isa-manual 1d472b8, src/priv/supervisor.adoc and svnapot.adoc.
 */
#include "pte.h"

static uint32_t offset_bits(struct pte pte, uint32_t level)
{
    return rv_span_shift(level) + (pte_is_napot(pte) ? RV_NAPOT_BITS : 0U);
}

bool pte_has_reserved_encoding(struct pte pte, uint32_t level)
{
    uint64_t napot_ppn = pte_ppn(pte) & ((1U << RV_NAPOT_BITS) - 1);
    if (pte_is_napot(pte) && (level > 0 || napot_ppn != RV_NAPOT_PPN))
        return true;
    return pte_pbmt(pte) == RV_PBMT_RESERVED;
}

uint64_t pte_size_bytes(struct pte pte, uint32_t level)
{
    return UINT64_C(1) << offset_bits(pte, level);
}

uint64_t pte_pa(struct pte pte, uint32_t level, uint64_t va)
{
    uint64_t offset = pte_size_bytes(pte, level) - 1;
    return (pte_ppn(pte) << RV_PAGE_SHIFT & ~offset) | (va & offset);
}
