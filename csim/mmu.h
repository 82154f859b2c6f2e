/* mmu.h: one hart's translation: L1, then L2, then a walk that the page-walk cache shortens; and
 * that hart's own fences. Knows no trap and no other hart.
 *
 * A translation is begun, then stepped while it walks: between two steps time passes, and the
 * caller may serve an event. `mmu_begin` alone answers every hit.
 *
 * Of the counters this file moves lookups, l1_hits, l2_hits, misses, refill_misses, walks,
 * walks_speculative, walk_reads, pwc_hits, negative_fills and negative_hits, no other; and
 * l1_hits + l2_hits + misses == lookups, walks == misses + walks_speculative.
 */
#ifndef MMU_H
#define MMU_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "cache.h"
#include "csim.h"
#include "pagetable.h"
#include "pwc.h"
#include "tlb.h"
#include "walk.h"

/* On whose behalf a fence dropped an entry, so that the later miss can be charged. */
enum fence_cause { FENCE_FOR_MAP, FENCE_FOR_LAZY, FENCE_FOR_USER, FENCE_FOR_PURGE, FENCE_CAUSES };

struct mmu_request {
    uint64_t va;
    uint16_t asid;
    uint8_t access;              /* enum csim_access */
    bool user;                   /* a user page is meant: SUM-less, the effective privilege is U */
    bool speculative;            /* fills, never faults, is not counted as a lookup */
};

struct mmu_answer {
    enum walk_fail fail;         /* WALK_NONE: translated */
    bool negative;               /* a cached invalid PTE answered */
    bool refill;                 /* an entry that a fence dropped was missed, in L1 or in L2 */
    enum fence_cause refill_for;
    uint64_t ppn;                /* of the 4 KiB page, when translated */
};

/* How often each PTE line was read, lines sharing counts by hash. */
enum { MMU_LINE_READS = 1024, MMU_READ_PLACES = 4, MMU_WALKERS_MAX = 8 };

struct mmu {
    const struct csim_machine *machine;
    struct csim_counters *counters;
    struct walk_context context[2];   /* [0] U, [1] S */
    struct tlb l1i, l1d, l1st, l2;
    struct pwc pwc;
    uint64_t read_key;           /* of the draws that say where a PTE line lies: in the first */
    uint32_t read_bounds[MMU_READ_PLACES - 1];   /* place whose bound the permille is below */
    uint32_t read_cycles[MMU_READ_PLACES];
    uint32_t hart;
    uint16_t asid_mask;
    uint32_t *line_reads;        /* MMU_LINE_READS of them */
    struct caches *caches;       /* where PTE lines lie; NULL: drawn from the machine's mix */

    struct mmu_request request;  /* the translation in flight */
    struct walk walk;
    bool walk_global;            /* a pointer on the way was global */
    bool walk_pwc_hit;           /* counted once a walk */
    bool walk_queued;            /* no PTE has been read yet: a walker must be free */
    uint64_t walker_free_at[MMU_WALKERS_MAX];   /* in cycles; of walks nobody waits for */
    bool walking;
    bool aborted;                /* the last translation was: it has no answer, begin again */
    struct mmu_answer answer;    /* valid when !walking and !aborted */
};

/* `machine` and `counters` outlive the mmu. The machine passed mmu_check_machine(). */
void mmu_create(struct mmu *mmu, struct arena *arena, const struct csim_machine *machine,
                uint64_t root_ppn, uint32_t hart, uint64_t seed, struct csim_counters *counters);

/* Asks the TLBs (and the page-walk cache); returns the cycles until answered, or until the first
 * PTE read when `walking`. */
uint32_t mmu_begin(struct mmu *mmu, const struct mmu_request *request);

/* One PTE read at `at_cycles`; returns the cycles until the next one, or until the answer. The
 * last step fills the caches. Only while `walking`. */
uint32_t mmu_step(struct mmu *mmu, const struct pagetable *pt, uint64_t at_cycles);

/* A walk that nobody waits for has one of the walkers for `cycles`, from `at_cycles` or from when
 * the first of them is free: a translation that must walk meanwhile waits unless another is. */
void mmu_occupy_walker(struct mmu *mmu, uint64_t at_cycles, uint64_t cycles);

/* A fence executed while it walked: no translation is filled (pointers read before stay in the
 * page-walk cache); begin again. Nothing happens when nothing walks. */
void mmu_abort(struct mmu *mmu);

/* Which operand form of sfence.vma. */
enum fence_form { FENCE_ALL, FENCE_ASID, FENCE_VA, FENCE_VA_ASID };

/* Drops what the form covers on this machine, marks it dropped for `cause`; returns the cycles of
 * the instruction, pipeline refill included. A walk in flight is aborted, whatever the form. */
uint32_t mmu_fence(struct mmu *mmu, enum fence_form form, uint64_t va, uint16_t asid,
                   enum fence_cause cause);

/* `ideal` only: the stale invalid entries of the range vanish, at no cost. A walk in flight in the
 * range is aborted. */
void mmu_forget_range(struct mmu *mmu, uint64_t va, uint32_t pages);

/* The first level that an access asks. */
struct tlb *mmu_l1_of(struct mmu *mmu, enum csim_access access);

/* Cycles until L2 answered; `level` is where it hit, CSIM_SIZES when it missed. */
uint32_t mmu_l2_cycles(const struct mmu *mmu, uint32_t level);

/* Latency of one PTE read. Counts the reads of its line, so each read asks once, in their order. */
uint32_t mmu_read_cycles(struct mmu *mmu, uint64_t pa);

/* Every PTE read takes *cycles, whichever it is: nobody need ask for each. */
bool mmu_reads_alike(const struct mmu *mmu, uint32_t *cycles);

/* What mmu_create() relies on; names the first field that is wrong. */
enum csim_status mmu_check_machine(const struct csim_machine *machine, struct csim_error *error);

#endif
