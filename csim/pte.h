/* pte.h: one PTE word. Pure functions of it; nothing here reads memory.
 *
 * What a word means depends on the level it was read at and, for some bits, on the extensions that
 * are on; whoever asks says so. The predicates of every step are inline, since a walk asks them for
 * each level; what happens once per leaf is in pte.c.
 */
#ifndef PTE_H
#define PTE_H

#include <stdbool.h>
#include <stdint.h>

#include "rv.h"

struct pte { uint64_t bits; };

/* Bits that no pointer may have: D, A, U ("for non-leaf PTEs ... reserved"), N, PBMT, 60:54. */
#define PTE_POINTER_RESERVED                                                                       \
    (RV_PTE_D | RV_PTE_A | RV_PTE_U | RV_PTE_N | RV_PTE_PBMT | RV_PTE_RSW60T59B |                  \
     RV_PTE_RESERVED_58_54)

static inline bool pte_is_valid(struct pte pte) { return (pte.bits & RV_PTE_V) != 0; }

/* R or X: a leaf. Meaningful when V is set and (R, W) is not the reserved (0, 1). */
static inline bool pte_is_leaf(struct pte pte)
{
    return (pte.bits & (RV_PTE_R | RV_PTE_X)) != 0;
}

static inline bool pte_is_global(struct pte pte) { return (pte.bits & RV_PTE_G) != 0; }

static inline bool pte_is_napot(struct pte pte) { return (pte.bits & RV_PTE_N) != 0; }

static inline uint64_t pte_ppn(struct pte pte)
{
    return (pte.bits & RV_PTE_PPN) >> RV_PTE_PPN_SHIFT;
}

/* 0 PMA, 1 NC, 2 IO, 3 reserved. */
static inline uint32_t pte_pbmt(struct pte pte)
{
    return (uint32_t)((pte.bits & RV_PTE_PBMT) >> RV_PTE_PBMT_SHIFT);
}

/* ppn in place, flags as they stand in the PTE. */
static inline struct pte pte_make(uint64_t ppn, uint64_t flags)
{
    return (struct pte){(ppn << RV_PTE_PPN_SHIFT & RV_PTE_PPN) | flags};
}

/* A superpage whose ppn[level-1:0] is not zero. Level 0 never is. */
static inline bool pte_is_misaligned(struct pte pte, uint32_t level)
{
    uint64_t below = (UINT64_C(1) << (RV_VPN_BITS * level)) - 1;
    return (pte_ppn(pte) & below) != 0;
}

/* A leaf whose N or PBMT encoding is reserved although Svnapot / Svpbmt are on: N anywhere but on a
 * level-0 leaf with ppn[3:0] = 1000, PBMT = 3. */
bool pte_has_reserved_encoding(struct pte pte, uint32_t level);

/* Bytes that this leaf maps: 4 KiB << 9 * level, 64 KiB when N. */
uint64_t pte_size_bytes(struct pte pte, uint32_t level);

/* The physical address of va through this leaf; superpage and NAPOT bits come from va. */
uint64_t pte_pa(struct pte pte, uint32_t level, uint64_t va);

#endif
