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

/* Everything that stays the same between two writes of satp / sstatus / menvcfg. Fill the upper
 * half, then call walk_context_derive(); do so again after any change. */
struct walk_context {
    uint32_t levels;             /* 3, 4, 5 */
    uint64_t root_ppn;
    uint8_t privilege;           /* enum csim_privilege: U or S */
    bool sum, mxr, svadu, svnapot, svpbmt;

    bool derived;
    uint64_t leaf_reserved;      /* bits no leaf may have under these extensions */
    struct walk_rule {           /* per enum csim_access */
        uint64_t mask, want;     /* allowed when (pte & mask) == want: U, R/W/X, A and D (Svade) */
        uint64_t ad;             /* bits the PTE must have, or gains (Svadu), after the access */
    } rule[3];
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

/* Computes the lower half of the context from the upper one. */
void walk_context_derive(struct walk_context *context);

/* May be done at once: non-canonical, nothing was read. `level` and `table_ppn` are the root's; who
 * knows better, from a page-walk cache, overwrites them. */
void walk_begin(struct walk *walk, const struct walk_context *context, uint64_t va,
                enum csim_access access);

/* Reads one PTE as `hart` sees it at `at_cycles`. Only while !done. When done, `fail` says why it
 * stopped and `level` at which PTE. With `update`, the leaf's A (and D) are still to be stored: see
 * walk_update(). */
void walk_step(struct walk *walk, const struct walk_context *context, const struct pagetable *pt,
               uint32_t hart, uint64_t at_cycles);

/* The checks of a leaf that depend on the access, not on the tree: a TLB hit runs them too. Under
 * Svadu a leaf without A or D passes; walk_needs_update() then says that a walk must store them. */
enum walk_fail walk_check_leaf(const struct walk_context *context, struct pte pte,
                               enum csim_access access);

/* Svadu: this access would store A or D into the PTE. Always false under Svade. */
bool walk_needs_update(const struct walk_context *context, struct pte pte,
                       enum csim_access access);

/* The leaf with A, and D for a store, set. */
struct pte walk_updated_pte(const struct walk_context *context, struct pte pte,
                            enum csim_access access);

/* Svadu's compare and store, for a walk that is done with `update`: stores the updated PTE when
 * memory still holds what the walk read; otherwise the walk is not done any more and reads that PTE
 * again. */
void walk_update(struct walk *walk, const struct walk_context *context, struct pagetable *pt,
                 uint32_t hart, uint64_t at_cycles);

/* The exception code that a walk's reason is reported with, "corresponding to the original access
 * type": the one map from reasons to scause. 0 for WALK_NONE. */
uint32_t walk_cause(enum walk_fail fail, enum csim_access access);

#endif
