/* walk.h: VPN to PTE, one level per step, in the manual's order; says why it failed.
 *
 * A walk is a value: begin, then step until it is done. The caller owns time between two steps, so
 * a walk can be in flight while other harts store PTEs.
 */
#ifndef WALK_H
#define WALK_H

#include <stdbool.h>
#include <stdint.h>

#include "csim.h"
#include "pagetable.h"
#include "pte.h"

/* Why a walk stopped: ours, fine, counted. trap.c maps it to scause. */
#define WALK_FAILS(X)                                                                              \
    X(NONE, "none")                                                                                \
    X(NON_CANONICAL, "non-canonical address")                                                      \
    X(INVALID, "V clear")                                                                          \
    X(RESERVED_RW, "W without R")                                                                  \
    X(RESERVED_BITS, "reserved bits set")                                                          \
    X(NO_LEAF, "no leaf at level 0")                                                               \
    X(MISALIGNED, "misaligned superpage")                                                          \
    X(DENIED, "permission denied")                                                                 \
    X(NEEDS_AD, "A or D clear under Svade")                                                        \
    X(ACCESS, "PTE outside memory")

enum walk_fail {
#define X(id, text) WALK_##id,
    WALK_FAILS(X)
#undef X
    WALK_FAIL_KINDS
};

/* Everything that stays the same between two writes of satp / sstatus / menvcfg. */
struct walk_context {
    uint32_t levels;             /* 3, 4, 5 */
    uint64_t root_ppn;
    uint8_t privilege;           /* enum csim_privilege: U or S */
    bool sum, mxr, svadu, svnapot, svpbmt;
};

struct walk {
    uint64_t va;
    uint64_t table_ppn;          /* the table the next step reads */
    uint64_t pte_pa;             /* the PTE the last step read */
    struct pte pte;              /* ... and its value */
    int8_t level;                /* the level the next step reads; of the leaf when done */
    uint8_t access;              /* enum csim_access */
    bool done;
    bool update;                 /* Svadu: the leaf gains A (and D) */
    enum walk_fail fail;
};

/* May be done at once (non-canonical). `level` and `table_ppn` are the root's, or what a page-walk
 * cache knows. */
void walk_begin(struct walk *walk, const struct walk_context *context, uint64_t va,
                enum csim_access access);

/* Reads one PTE as `hart` sees it at `at_cycles`. */
void walk_step(struct walk *walk, const struct walk_context *context, const struct pagetable *pt,
               uint32_t hart, uint64_t at_cycles);

/* The checks of a leaf that depend on the access, not on the tree: a TLB hit runs them too. */
enum walk_fail walk_check_leaf(const struct walk_context *context, struct pte pte,
                               enum csim_access access);

#endif
