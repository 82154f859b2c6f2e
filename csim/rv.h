/* rv.h: the words of the privileged manual: PTE bits, the Sv39/48/57 rows, scause codes.
 *
 * Source of every number: riscv-isa-manual 1d472b8, src/priv. Sections are named, since numbers
 * move: "Sv39" and "Sv48", "Sv57" (formats), "Svnapot", "Svpbmt", "Svrsw60t59b", "scause".
 */
#ifndef RV_H
#define RV_H

#include <stdint.h>

/* "Sv39: Addressing and Memory Protection": PAGESIZE is 2^12, PTESIZE 8, 9 VPN bits a level. */
enum {
    RV_PAGE_SHIFT = 12,
    RV_PTE_SHIFT = 3,
    RV_VPN_BITS = 9,
    RV_TABLE_PTES = 1 << RV_VPN_BITS,
    RV_LEVELS_MAX = 5
};

/* One row per mode: Sv39 has LEVELS = 3 (and satp.MODE = 8), Sv48 4 (9), Sv57 5 (10). "satp". */
struct rv_mode {
    uint32_t levels;
    uint32_t va_bits;            /* the bits above repeat bit va_bits - 1 */
    uint32_t satp_mode;
};

static const struct rv_mode rv_modes[] = {{3, 39, 8}, {4, 48, 9}, {5, 57, 10}};

enum { RV_MODES = sizeof rv_modes / sizeof rv_modes[0], RV_LEVELS_MIN = 3 };

/* "Sv39 page table entry"; Sv48 and Sv57 have the same fields, only ppn is cut differently. */
#define RV_PTE_V (UINT64_C(1) << 0)
#define RV_PTE_R (UINT64_C(1) << 1)
#define RV_PTE_W (UINT64_C(1) << 2)
#define RV_PTE_X (UINT64_C(1) << 3)
#define RV_PTE_U (UINT64_C(1) << 4)
#define RV_PTE_G (UINT64_C(1) << 5)
#define RV_PTE_A (UINT64_C(1) << 6)
#define RV_PTE_D (UINT64_C(1) << 7)
#define RV_PTE_RSW (UINT64_C(3) << 8)              /* for software, ignored by the walk */
#define RV_PTE_PPN (((UINT64_C(1) << 44) - 1) << 10)
#define RV_PTE_RESERVED_58_54 (UINT64_C(0x1f) << 54)
#define RV_PTE_RSW60T59B (UINT64_C(3) << 59)       /* reserved without Svrsw60t59b */
#define RV_PTE_PBMT (UINT64_C(3) << 61)            /* "Svpbmt": 0 PMA, 1 NC, 2 IO, 3 reserved */
#define RV_PTE_N (UINT64_C(1) << 63)               /* "Svnapot" */

enum { RV_PTE_PPN_SHIFT = 10, RV_PTE_PBMT_SHIFT = 61, RV_PBMT_RESERVED = 3 };

/* "Svnapot": the one defined encoding, ppn[3:0] = 1000, is a 64 KiB region of level 0. */
enum { RV_NAPOT_BITS = 4, RV_NAPOT_PPN = 8 };

/* "scause": its top bit says interrupt, the rest is the code. */
#define RV_SCAUSE_INTERRUPT (UINT64_C(1) << 63)

/* "scause": exception codes that a walk can end in. */
enum {
    RV_CAUSE_FETCH_ACCESS = 1,
    RV_CAUSE_LOAD_ACCESS = 5,
    RV_CAUSE_STORE_ACCESS = 7,
    RV_CAUSE_FETCH_PAGE = 12,
    RV_CAUSE_LOAD_PAGE = 13,
    RV_CAUSE_STORE_PAGE = 15
};

/* Of an exception: an interrupt's code means something else. */
static inline int rv_is_page_fault(uint32_t scause)
{
    return scause == RV_CAUSE_FETCH_PAGE || scause == RV_CAUSE_LOAD_PAGE ||
           scause == RV_CAUSE_STORE_PAGE;
}

/* Bits of a virtual address below va.vpn[level]: what one leaf of that level spans. */
static inline uint32_t rv_span_shift(uint32_t level)
{
    return RV_PAGE_SHIFT + RV_VPN_BITS * level;
}

/* va.vpn[level] */
static inline uint64_t rv_vpn_index(uint64_t va, uint32_t level)
{
    return (va >> rv_span_shift(level)) & (RV_TABLE_PTES - 1);
}

/* "Instruction fetch addresses and load and store effective addresses ... must have bits 63-39 all
 * equal to bit 38" (Sv39; 48 and 57 alike): adding half the space makes all of them zero. */
static inline int rv_is_canonical(uint64_t va, uint32_t levels)
{
    uint32_t va_bits = rv_modes[levels - RV_LEVELS_MIN].va_bits;
    return (va + (UINT64_C(1) << (va_bits - 1))) >> va_bits == 0;
}

#endif
