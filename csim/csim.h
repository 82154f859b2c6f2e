/* csim.h: the only door between the engine room and everybody else.
 *
 * `build.py` runs this very file through `cc -E -P -DCSIM_CDEF` and hands what is left to cffi, so
 * there is no second copy of any declaration. Everything that crosses the door is plain bytes:
 * fixed-width integers, no pointers inside the structs that are hashed, no padding left to chance.
 *
 * Units end a name: `_cycles` are cycles of the simulated core, `_permille` parts of 1000,
 * `_pages` 4 KiB pages. A field without a unit is a count, an index or a flag (0 or 1).
 */
#ifndef CSIM_H
#define CSIM_H

#ifndef CSIM_CDEF
#include <stddef.h>
#include <stdint.h>
#endif

/* ---- Statuses ------------------------------------------------------------------------------ */

/* A status says whether the question could be asked; what the machine did is a verdict. */
enum csim_status {
    CSIM_OK = 0,
    CSIM_BAD_PARAM = 1,  /* csim_error names the field and says why */
    CSIM_NO_MEMORY = 2,  /* only csim_*create returns it; a run cannot fail for want of memory */
    CSIM_STOPPED = 3,    /* the caller raised *stop; counters are valid up to there */
    CSIM_LIMIT = 4       /* the explorer's max_states or max_memory was reached */
};

/* Owned by the caller; there is no "last error". */
struct csim_error {
    char field[64];
    char reason[192];
};

/* ---- Ops: what a policy is lowered to ------------------------------------------------------- */

/* One list, read by the clock and by the explorer. Operands a..d are described per kind.
 *   extent: enum csim_extent; who: enum csim_who; barrier: enum csim_barrier; ...
 * Branches go forward only (`skip`), so every handler ends. */
#define CSIM_OPS(X)                                                                                \
    X(END, "end", "the handler ends")                                                              \
    X(STORE_PTES, "store_ptes", "store the extent's PTEs; a = valid")                              \
    X(STORE_BARRIER, "store_barrier", "a = barrier")                                               \
    X(SYNC_CONTEXT, "sync_context", "drain this hart's store buffer and refetch")                  \
    X(PUBLISH, "publish", "from here on others may use the mapping")                               \
    X(MARK, "mark", "plain stores to the words of mark a; b = who; n = first n harts")             \
    X(CLEAR_MARK, "clear_mark", "clear in mark a; b = amo; c = width in bits; d = who")            \
    X(FENCE, "fence", "this hart's sfence.vma; a = extent; b = by ASID (in `ipi` also when the "  \
                      "shootdown is); c = pages as one Svinval triple where the machine has it; "  \
                      "n = threshold in pages")                                                    \
    X(FENCE_FREE, "fence_free", "the extent's stale entries vanish everywhere at no cost")         \
    X(SHOOTDOWN, "shootdown", "fences on other harts; a = extent; b = who; c = via; d = by ASID; " \
                              "n = threshold in pages")                                            \
    X(ACK, "ack", "acknowledge the shootdown this `ipi` handler serves")                           \
    X(DEFER, "defer", "queue a fence of extent a for every hart of b")                             \
    X(FLUSH_DEFERRED, "flush_deferred", "execute this hart's queued fences")                       \
    X(WHEN, "when", "skip ops unless every atom of all_of holds and none of none_of; n = operand") \
    X(JUMP, "jump", "skip ops")                                                                    \
    X(TOUCH_STACK, "touch_stack", "a store through the TLB; a = next stack (1) or current (0); "   \
                                  "n = page below the top")                                        \
    X(TOUCH, "touch", "a store through the TLB to the nested object")                              \
    X(ALLOCATE, "allocate", "a nested vmalloc of n pages: map_kernel again, interrupts off")       \
    X(SYNC_ROOT, "sync_root", "copy the root entry of init_mm; a = all roots (1) or current (0)")  \
    X(SPEND, "spend", "this path's instructions: n of them, a loads, b stores; c = as many for "   \
                      "each page of the handler's extent")                                         \
    X(RETRY, "retry", "sret: execute the access again")                                            \
    X(FALL_THROUGH, "fall_through", "go on to the C handler")                                      \
    X(FAIL, "fail", "fix up if the access was a probe, else an oops")

enum csim_op_kind {
#define X(id, name, text) CSIM_OP_##id,
    CSIM_OPS(X)
#undef X
    CSIM_OP_KINDS
};

/* Which handler a list of ops belongs to. Zero ops: nothing happens at that moment. */
#define CSIM_HANDLERS_LIST(X)                                                                      \
    X(MAP_KERNEL, "map_kernel", "a vmalloc-area mapping is made")                                  \
    X(UNMAP_KERNEL, "unmap_kernel", "a vmalloc-area mapping is freed")                             \
    X(PURGE_KERNEL, "purge_kernel", "lazily freed areas are fenced before reuse")                  \
    X(FLUSH_KERNEL, "flush_kernel", "set_memory, kfence, reset-perms: an extent is fenced")        \
    X(EARLY_TRAP, "early_trap", "every trap, before the stack is touched")                         \
    X(KERNEL_FAULT, "kernel_fault", "page fault on a kernel address, in C, after the save")        \
    X(MAP_USER, "map_user", "a user fault installed PTEs")                                         \
    X(PROTECT_USER, "protect_user", "access flags: a user PTE gains rights")                       \
    X(UNMAP_USER, "unmap_user", "user PTEs lose rights: munmap, mprotect, COW, fork")              \
    X(USER_SPURIOUS, "user_spurious", "a user fault whose PTE was valid when re-read")             \
    X(IPI, "ipi", "the remote half of an S-mode shootdown")                                        \
    X(SWITCH_MM, "switch_mm", "context switch to another mm")                                      \
    X(SWITCH_TASK, "switch_task", "before a task's stack is first used on this hart")

enum csim_handler {
#define X(id, name, text) CSIM_##id,
    CSIM_HANDLERS_LIST(X)
#undef X
    CSIM_HANDLERS
};

/* Atoms of a condition: bit i of all_of / none_of. `operand` says what csim_op.n means for it;
 * a WHEN carries at most one atom with an operand. */
#define CSIM_ATOMS(X)                                                                              \
    X(SSCRATCH_ZERO, "sscratch_zero", "sscratch is zero: the trap came from the kernel")           \
    X(INTERRUPT, "interrupt", "scause is an interrupt")                                            \
    X(PAGE_FAULT, "page_fault", "scause is 12, 13 or 15")                                          \
    X(PAGE_FAULT_FETCH, "page_fault_fetch", "scause is 12")                                        \
    X(PAGE_FAULT_LOAD, "page_fault_load", "scause is 13")                                          \
    X(PAGE_FAULT_STORE, "page_fault_store", "scause is 15")                                        \
    X(USER_MODE, "user_mode", "the saved privilege is U")                                          \
    X(KERNEL_ADDRESS, "kernel_address", "the sign bit of stval is set")                            \
    X(REGION_VMALLOC, "region_vmalloc", "the extent starts in the vmalloc area")                   \
    X(REGION_MODULE, "region_module", "the extent starts in the module area")                      \
    X(REGION_VMEMMAP, "region_vmemmap", "the extent starts in vmemmap")                            \
    X(REGION_LINEAR, "region_linear", "the extent starts in the linear map")                       \
    X(REGION_PCI_IO, "region_pci_io", "the extent starts in the PCI I/O window")                   \
    X(MARKED, "marked", "this hart's bit of mark n is set (a load)")                               \
    X(SVVPTC, "svvptc", "the machine implements Svvptc")                                           \
    X(SVINVAL, "svinval", "the machine implements Svinval")                                        \
    X(ONE_HART, "one_hart", "no other hart is in the mask")                                        \
    X(SBI_FENCES, "sbi_fences", "remote fences go through SBI")                                    \
    X(IRQS_ON, "irqs_on", "S-mode interrupts are enabled")                                         \
    X(ASIDS, "asids", "the kernel uses ASIDs")                                                     \
    X(RUNNING, "running", "the mm runs on this hart now")                                          \
    X(PAGES_LE, "pages_le", "the extent has at most n pages")                                      \
    X(ASID_ROLLOVER, "asid_rollover", "ASIDs were given out anew since this hart's last switch")   \
    X(PTE_VALID_NOW, "pte_valid_now", "an explicit load of the PTE finds V set")                   \
    X(TRANSLATES_NOW, "translates_now", "a fresh walk of the address succeeds")

enum csim_atom {
#define X(id, name, text) CSIM_ATOM_##id,
    CSIM_ATOMS(X)
#undef X
    CSIM_ATOM_COUNT
};

enum csim_extent { CSIM_EXTENT_ALL, CSIM_EXTENT_PAGE, CSIM_EXTENT_RANGE };
enum csim_who { CSIM_WHO_ALL, CSIM_WHO_OWN, CSIM_WHO_FIRST_N, CSIM_WHO_OTHERS, CSIM_WHO_ONLINE,
                CSIM_WHO_MM_MASK, CSIM_WHO_RUNNING };
enum csim_barrier { CSIM_BARRIER_W_W, CSIM_BARRIER_RW_RW, CSIM_BARRIER_COMPLETE };
enum csim_via { CSIM_VIA_MACHINE, CSIM_VIA_SBI, CSIM_VIA_IMSIC, CSIM_VIA_HW };

struct csim_op {
    uint8_t kind;     /* enum csim_op_kind */
    uint8_t a, b, c;  /* operands, see CSIM_OPS */
    uint8_t d;
    uint8_t zero;     /* so that equal ops are equal bytes */
    uint16_t skip;    /* WHEN, JUMP: how many of the following ops are passed over */
    uint32_t n;
    uint32_t zero2;
    uint64_t all_of;  /* WHEN: bits of enum csim_atom */
    uint64_t none_of;
};

enum { CSIM_MARKS_MAX = 4, CSIM_OPS_MAX = 1024, CSIM_HARTS_MAX = 4096 };

/* A policy, whole. */
struct csim_program {
    uint32_t ops_nr;
    uint32_t marks_nr;
    uint32_t mark_words[CSIM_MARKS_MAX];   /* 64-bit words that one `mark` stores */
    uint32_t handler_at[CSIM_HANDLERS];    /* index of the first op */
    uint32_t handler_nr[CSIM_HANDLERS];    /* ops in the handler, END included; 0 = no handler */
};

/* ---- The machine ---------------------------------------------------------------------------- */

enum {
    CSIM_SIZES = 5,        /* page sizes by level: 0 = 4 KiB, 1 = 2 MiB, 2 = 1 GiB, ... */
    CSIM_NAPOT = 5         /* ... and one that is no level: a 64 KiB NAPOT leaf as one entry */
};

/* One array of a translation cache. ways = 0: the structure is absent. */
struct csim_array {
    uint32_t sets;
    uint32_t ways;
    uint32_t sectors;      /* neighbouring pages under one tag, a power of two */
    uint32_t levels;       /* bit i: holds leaves of level i (page-walk caches: pointers); bit
                            * CSIM_NAPOT: holds 64 KiB NAPOT leaves, else they are kept by page */
    uint32_t policy;       /* index into csim_tlb_policy_name() */
};

enum csim_pte_via { CSIM_PTE_L1D, CSIM_PTE_L2 };

struct csim_machine {
    uint32_t mhz;
    uint32_t levels;                       /* 3 = Sv39, 4 = Sv48, 5 = Sv57 */
    struct csim_array l1i[2], l1d[2];      /* 0 = base, 1 = superpages */
    struct csim_array l1st[2];             /* store side, when l1_split_store */
    struct csim_array l2[2];
    struct csim_array pwc[CSIM_SIZES];     /* [i] holds level-i pointers; unified: [0] holds all */
    uint32_t l1_split_store;
    uint32_t pwc_unified;
    uint32_t l2_seq_page_sizes;            /* L2 probes one page size after the other */
    uint32_t walkers;
    uint32_t asid_bits;
    uint32_t prefetch_next_line;           /* lines of PTEs that a walk fetches after its own */
    uint32_t inv_l1, inv_l2, inv_pwc;      /* invalid PTEs are cached here */
    uint32_t inv_nonleaf_range;            /* a cached invalid non-leaf covers its whole range */
    uint32_t inv_line_capture;             /* PTEs of the line whose validity one walk captures */
    uint32_t negative_global;              /* 0 never, 1 from the PTE, 2 always */
    uint32_t svvptc, svinval, svade, svnapot, svpbmt;

    uint32_t fence_all_cycles, fence_asid_cycles, fence_va_cycles;
    uint32_t fence_pipe_cycles;            /* pipeline refill after any sfence.vma */
    uint32_t fence_va_as_all;
    uint32_t fence_l2_va_clears_set;
    uint32_t fence_va_low8_match;          /* L1 compares only the low 8 VPN bits */

    uint32_t l1_hit_cycles, l2_hit_cycles;
    uint32_t walk_overhead_per_level_cycles;
    uint32_t pwc_hit_cycles;
    uint32_t pte_via;                      /* enum csim_pte_via: the first cache a walk asks */
    uint32_t read_l1d_cycles, read_l2_cycles, read_llc_cycles, read_dram_cycles;
    uint32_t read_l1d_permille, read_l2_permille, read_llc_permille;  /* the rest is DRAM */
    uint32_t cache_l1d_bytes, cache_l1d_ways;   /* 64-byte lines; 0 bytes = absent; asked by */
    uint32_t cache_l2_bytes, cache_l2_ways;     /* csim_footprint_run() only */
    uint32_t cache_llc_bytes, cache_llc_ways;

    uint32_t store_drain_cycles;           /* a PTE store reaches the own walker after this */
    uint32_t coherence_cycles;             /* ... and the other harts' after this much more */
    uint32_t line_transfer_cycles;         /* a line last written by another hart */
    uint32_t instruction_millicycles;      /* cycles per instruction x 1000 */
    uint32_t load_cycles, store_cycles, amo_cycles, barrier_cycles;
    uint32_t trap_entry_cycles, sret_cycles;
    uint32_t trap_save_instructions, trap_exit_instructions;

    uint32_t via;                          /* enum csim_via, not MACHINE */
    uint32_t ecall_cycles;
    uint32_t sbi_fixed_cycles, sbi_send_cycles, sbi_deliver_cycles, sbi_handler_cycles,
             sbi_ack_cycles;
    uint32_t sbi_range_limit_bytes;        /* a larger request becomes a full fence */
    uint32_t sbi_window_harts;             /* harts one call can name */
    uint32_t imsic_fixed_cycles, imsic_send_cycles, imsic_deliver_cycles, imsic_handler_cycles,
             imsic_ack_cycles;
    uint32_t hw_fixed_cycles, hw_per_hart_cycles;
    uint32_t idle_wake_cycles;
};

/* ---- The work ------------------------------------------------------------------------------- */

/* What a hart does at one point of its own axis of useful cycles. Items are made before the clock
 * starts, recorded (replay) or drawn (synthetic), and are the same for every policy.
 *
 * Gates order items of different harts. An item with wait != 0 blocks until gate `wait` has been
 * signalled gates[wait] times; with signal != 0 it signals that gate when it is done (a MAP: when
 * the policy publishes). Items are given in `order`; a gate is signalled only by items of an
 * earlier one, and on one hart `order` grows with `at_cycles`, so nobody can wait in a circle.
 *
 * A hart's reference stream goes only to pages the hart has already used: its first use of a page
 * of a new mapping is a TOUCH or a first SWITCH, its last is a FORGET. An UNMAP waits for the
 * FORGETs (and the PURGE for the UNMAPs it covers, and the MAP that reuses the range for it). */
enum csim_item_kind {
    CSIM_ITEM_MAP,         /* map_kernel over [va, va + pages) */
    CSIM_ITEM_UNMAP,       /* unmap_kernel over the same; PTEs become invalid, nobody fences */
    CSIM_ITEM_PURGE,       /* purge_kernel over [va, va + pages) */
    CSIM_ITEM_FLUSH,       /* flush_kernel over [va, va + pages); pages 0 = everything */
    CSIM_ITEM_TOUCH,       /* one access to each page (and a load where loads have a TLB of their
                            * own), then the reference stream may go there */
    CSIM_ITEM_SWITCH,      /* the stack [va, va + pages) becomes current, its top arg pages in use;
                            * va 0: this hart's own stack. FIRST: switch_task, then the top page
                            * is touched */
    CSIM_ITEM_FORGET,      /* this hart uses [va, va + pages) no more */
    CSIM_ITEM_TRAP,        /* a trap that every policy takes: arg = scause, va = stval */
    CSIM_ITEM_USER_FAULT,  /* map_user over arg fresh user pages */
    CSIM_ITEM_USER_PROTECT, /* protect_user over arg user pages of address space `pages`; 0: of
                            * the one that the hart runs */
    CSIM_ITEM_USER_SPURIOUS, /* user_spurious over one user page */
    CSIM_ITEM_USER_UNMAP,  /* unmap_user over arg user pages, 0 = all of them, of address space
                            * `pages`; 0: of the one that the hart runs */
    CSIM_ITEM_SWITCH_MM,   /* address space arg runs here from now on, then switch_mm; 0 = the
                            * hart's own, with which it starts and which runs nowhere else */
    CSIM_ITEM_IDLE,        /* the hart sleeps for arg cycles */
    CSIM_ITEM_ONLINE,      /* hart arg comes up; a hart with an ONLINE is in no mask before it */
    CSIM_ITEM_FINISH,      /* this hart's budget ends here instead of at useful_cycles */
    CSIM_ITEM_FIXMAP,      /* arg fixmap slots are set or cleared: this hart fences the page of
                            * each, under every policy */
    CSIM_ITEM_KINDS
};

enum csim_item_flag {
    CSIM_ITEM_FROM_USER = 1,    /* TRAP: the trap came from U-mode */
    CSIM_ITEM_FETCH = 2,        /* TOUCH: an instruction fetch */
    CSIM_ITEM_LOAD = 4,         /* TOUCH: a load; neither FETCH nor LOAD: a store */
    CSIM_ITEM_HUGE = 8,         /* MAP, UNMAP: leaves of 2 MiB */
    CSIM_ITEM_IRQS_OFF = 16,    /* the item runs with S-mode interrupts masked */
    CSIM_ITEM_STACK = 32,       /* MAP: a kernel stack; TOUCH: a page of the current stack */
    CSIM_ITEM_FIRST = 64        /* SWITCH: this hart's first use of the stack */
};

struct csim_item {
    uint64_t at_cycles;   /* useful cycles since the hart's start */
    uint64_t order;       /* position on the nominal axis common to all harts */
    uint64_t va;
    uint64_t arg;
    uint32_t pages;
    uint32_t wait;        /* gate, 0 = none */
    uint32_t signal;      /* gate, 0 = none */
    uint16_t hart;
    uint8_t kind;         /* enum csim_item_kind */
    uint8_t flags;        /* enum csim_item_flag */
};

/* The kernel's virtual layout by mode; addresses of items lie in it. */
struct csim_layout {
    uint64_t vmalloc_first, vmalloc_end;
    uint64_t module_first, module_end;
    uint64_t vmemmap_first, vmemmap_end;
    uint64_t pci_io_first, pci_io_end;
    uint64_t linear_first, linear_end;
    uint64_t text_first, text_end;
    uint64_t user_first, user_end;
};

struct csim_workload {
    uint64_t seed;                     /* hash(root seed, workload fields, replicate) */
    uint64_t useful_cycles;            /* budget of each hart that no item finishes earlier */
    uint64_t speculative_walks_per_tcycle;  /* wrong-path walks per 10^12 useful cycles, a hart */
    uint32_t visit_cycles;             /* useful cycles per page visit */
    uint32_t synthetic;                /* 1: draw maps; 0: the items given are the maps */
    /* the mix of page visits, parts of 1000; the rest goes to user pages */
    uint32_t visit_text_permille;      /* kernel text: fetches, 2 MiB leaves */
    uint32_t visit_linear_permille;    /* linear map: data, 2 MiB leaves */
    uint32_t visit_stack_permille;     /* current kernel stack */
    uint32_t visit_module_permille;    /* vmalloc objects this hart has touched */
    uint32_t text_pages, linear_pages, user_pages;   /* 4 KiB pages in each footprint */
    uint32_t zipf_permille;            /* Zipf exponent x 1000 over a footprint's pages */
    uint32_t speculative_span_pages;   /* how far past the area's end they reach */
    /* drawn events, per 10^12 useful cycles: whole system for maps, per hart for the rest */
    uint64_t maps_per_tcycle;
    uint64_t user_faults_per_tcycle;
    uint64_t ticks_per_tcycle;
    uint64_t interrupts_per_tcycle;    /* device interrupts */
    uint32_t kernel_trap_permille;     /* ticks and interrupts that hit S-mode */
    /* what a drawn map is */
    uint32_t stack_permille;           /* of maps: a fork's stack, through the stack cache */
    uint32_t pages_1_permille, pages_4_permille, pages_16_permille;  /* others; rest: 64 */
    uint32_t lifetime_cycles;          /* mean useful cycles from map to free */
    uint32_t remote_permille;          /* maps also used by another hart */
    uint32_t touch_delay_cycles;       /* from the map to its first use */
    uint32_t stack_cache_slots;        /* NR_CACHED_STACKS */
    uint32_t lazy_pages_per_log2;      /* purge past fls(harts) times this many pages */
    uint32_t irqs_off_permille;        /* maps made with interrupts masked */
};

struct csim_params {
    uint32_t harts;
    uint32_t nr_cpus;                  /* CONFIG_NR_CPUS: sizes the kernel's masks */
    uint32_t livelock_retries;         /* faults on one access before that is a livelock */
    uint32_t zero;
    struct csim_workload workload;
    struct csim_machine machine;
};

/* ---- What comes out ------------------------------------------------------------------------- */

#define CSIM_COUNTERS(X)                                                                           \
    X(wall_cycles, "cycles", "summed over harts, from start to the end of each hart's budget")     \
    X(useful_cycles, "cycles", "work of the workload, equal for every policy")                     \
    X(idle_cycles, "cycles", "sleep of the workload")                                              \
    X(base_translation_cycles, "cycles", "TLB and walk latency that no fence caused")              \
    X(map_store_cycles, "cycles", "cause: PTE stores, barriers and C code of kernel mappings")     \
    X(mark_cycles, "cycles", "cause: marks and their line transfers, on the mapping side")         \
    X(early_check_cycles, "cycles", "cause: the check on traps that need no fence")                \
    X(lazy_fault_cycles, "cycles", "cause: kernel page faults resolved by a retry")                \
    X(local_fence_cycles, "cycles", "cause: this hart's fences for kernel mappings")               \
    X(initiator_wait_cycles, "cycles", "cause: shootdowns for kernel mappings, at their sender")   \
    X(victim_handler_cycles, "cycles", "cause: shootdowns for kernel mappings, at their targets")  \
    X(refill_map_cycles, "cycles", "cause: misses on entries dropped for a kernel mapping")        \
    X(refill_lazy_cycles, "cycles", "cause: misses on entries dropped after a kernel fault")       \
    X(refill_user_cycles, "cycles", "cause: misses on entries dropped for a user mapping")         \
    X(refill_purge_cycles, "cycles", "cause: misses on entries dropped by unmap, purge, flush")    \
    X(user_fence_cycles, "cycles", "cause: user-side handlers, their fences and shootdowns")       \
    X(purge_cycles, "cycles", "cause: unmap, purge and flush, at sender and targets")              \
    X(handoff_wait_cycles, "cycles", "waits for another hart's item; shown, not overhead")         \
    X(maps, "maps", "kernel mappings made")                                                        \
    X(map_pages, "pages", "4 KiB pages in them")                                                   \
    X(unmaps, "maps", "kernel mappings freed")                                                     \
    X(purges, "purges", "lazily freed areas fenced")                                               \
    X(stack_cache_hits, "forks", "drawn forks whose stack came from the hart's cache: no map")     \
    X(user_faults, "faults", "user faults of the workload")                                        \
    X(user_fault_pages, "pages", "installed by them")                                              \
    X(user_protects, "changes", "user PTEs given rights by the workload")                          \
    X(user_spurious_faults, "faults", "user faults of the workload whose PTE was valid by then")   \
    X(user_unmaps, "changes", "user ranges that lost rights: munmap, mprotect, COW, fork")         \
    X(mm_switches, "switches", "of a hart to another address space")                               \
    X(asid_rollovers, "rollovers", "times that the ASIDs ran out and were given out anew")         \
    X(pte_stores, "stores", "PTE stores, non-leaf included")                                       \
    X(marks, "marks", "mark ops executed")                                                         \
    X(mark_words, "stores", "64-bit stores by them")                                               \
    X(mark_clears, "amos", "own bits cleared")                                                     \
    X(line_transfers, "lines", "accesses to a mark line last written by another hart")             \
    X(fence_requests, "requests", "as kernel developers counted: 1 per local sfence.vma, "         \
                                  "size/4K or 1 per SBI call, not times harts")                    \
    X(fences_full, "fences", "sfence.vma x0, x0 executed by the kernel")                           \
    X(fences_addr, "fences", "sfence.vma va, x0 executed by the kernel")                           \
    X(fences_asid, "fences", "sfence.vma x0, asid executed by the kernel")                         \
    X(fences_addr_asid, "fences", "sfence.vma va, asid executed by the kernel")                    \
    X(fences_firmware, "fences", "sfence.vma executed by the firmware for remote fences")          \
    X(fences_firmware_full, "fences", "of them full, widened ones included")                       \
    X(remote_fence_calls, "calls", "remote-fence requests: SBI calls, or S-mode IPI broadcasts")   \
    X(remote_fence_targets, "harts", "harts they addressed, the caller included")                  \
    X(remote_user_calls, "calls", "of remote_fence_calls: for user mappings")                      \
    X(remote_user_targets, "harts", "of remote_fence_targets: for user mappings")                  \
    X(requests_merged, "requests", "SBI fences that one already waiting at the target took along") \
    X(ipis, "IPIs", "inter-processor interrupts sent for fences")                                  \
    X(ipi_delay_cycles, "cycles", "from arrival until the target could take them")                 \
    X(idle_wakes, "wakes", "IPIs that woke an idle hart")                                          \
    X(traps_interrupt, "traps", "interrupts of the workload")                                      \
    X(traps_kernel_fault, "traps", "page faults on kernel addresses")                              \
    X(traps_user, "traps", "traps from U-mode")                                                    \
    X(early_checks, "checks", "early_trap handlers run on traps from the kernel")                  \
    X(early_checks_retried, "checks", "of them that ended in a retry")                             \
    X(spurious_faults, "faults", "kernel page faults on a mapping whose PTE was valid")            \
    X(window_faults, "faults", "of them: no cached invalid entry, the store was not visible yet")  \
    X(negative_faults, "faults", "of them: answered from a cached invalid entry")                  \
    X(kernel_faults_c, "faults", "kernel page faults that reached the C handler")                  \
    X(retries, "retries", "accesses executed again after a fault")                                 \
    X(visits, "visits", "page visits of the reference stream")                                     \
    X(lookups, "lookups", "translations asked of the first level")                                 \
    X(l1_hits, "hits", "answered by the first level, invalid entries included")                    \
    X(l2_hits, "hits", "answered by the second level, invalid entries included")                   \
    X(misses, "misses", "lookups that needed a walk")                                              \
    X(refill_misses, "misses", "first-level misses on an entry that a fence dropped, there or "    \
                               "in the second level")                                              \
    X(walks, "walks", "page walks, speculative ones included")                                     \
    X(walks_speculative, "walks", "walks nobody asked for")                                        \
    X(walk_reads, "reads", "PTEs read by walks")                                                   \
    X(pwc_hits, "hits", "walks that a page-walk cache shortened")                                  \
    X(negative_fills, "fills", "invalid PTEs that entered a cache")                                \
    X(negative_hits, "hits", "lookups answered by a cached invalid PTE")                           \
    X(ambient_faults, "faults", "must be 0: a reference to a page already used faulted")           \
    X(items, "items", "items executed")                                                            \
    X(work_digest, "hash", "of the items, whatever the policy")                                    \
    X(events, "events", "taken from the queue")

struct csim_counters {
#define X(name, unit, meaning) uint64_t name;
    CSIM_COUNTERS(X)
#undef X
};

/* Log-linear: 16 buckets per power of two, exact below 16. See csim_histogram_floor(). */
enum { CSIM_HISTOGRAM_BUCKETS = 976 };
enum csim_histogram { CSIM_HIST_MAP, CSIM_HIST_STALL, CSIM_HIST_FIRST_TOUCH, CSIM_HISTOGRAMS };

enum csim_verdict {
    CSIM_RAN,             /* to the end: the counters mean something */
    CSIM_OOPS,            /* a kernel page fault that nobody resolved */
    CSIM_LIVELOCK,        /* one access faulted livelock_retries times */
    CSIM_STACK_OVERFLOW,  /* traps nested past the stack */
    CSIM_DEADLOCK,        /* every hart waits */
    CSIM_STALE_USE,       /* a freed mapping answered */
    CSIM_VERDICTS
};

struct csim_result {
    uint32_t verdict;           /* enum csim_verdict */
    uint32_t verdict_hart;
    uint64_t verdict_at_cycles;
    uint64_t verdict_va;
    struct csim_counters counters;
    uint64_t histogram[CSIM_HISTOGRAMS][CSIM_HISTOGRAM_BUCKETS];
};

/* ---- The event log --------------------------------------------------------------------------- */

/* X(ID, name, what it says; va, value and detail are 0 where nothing is said of them) */
#define CSIM_LOG_KINDS(X)                                                                          \
    X(ITEM, "item", "an item begins, past its gate; value = kind, detail = index, va = extent")    \
    X(ITEM_END, "item_end", "the item is over; value = kind, detail = index")                      \
    X(PUBLISH, "publish", "a gate is signalled; value = gate")                                     \
    X(OP, "op", "an op of the policy; detail = index in ops")                                      \
    X(STORE, "store", "a PTE store; va, value = the PTE, detail = its level")                      \
    X(FENCE, "fence", "sfence.vma; va, value = pages (0 = all), detail = CSIM_LOG_* flags")        \
    X(SEND, "send", "a shootdown is sent; va, value = pages (0 = all), detail = way")              \
    X(WAITED, "waited", "its last acknowledgement has been seen")                                  \
    X(FIRMWARE, "firmware", "firmware or hardware fenced for another; value = sender")             \
    X(TAKE, "take", "a shootdown's interrupt is taken; value = sender")                            \
    X(ACK, "ack", "it is acknowledged; value = sender")                                            \
    X(ACCESS, "access", "an access is answered; va, value = ppn, detail = why it failed")          \
    X(TRAP, "trap", "trap entry; va = stval, value = scause")                                      \
    X(SRET, "sret", "the trap returns")                                                            \
    X(FAIL, "fail", "nobody resolved the fault: an oops, or the fix-up of a probe")                \
    X(STACK, "stack", "the hart runs on another stack; va = its lowest page")

enum csim_log_kind {
#define X(id, name, text) CSIM_LOG_##id,
    CSIM_LOG_KINDS(X)
#undef X
    CSIM_LOG_KINDS_NR
};

/* A fence for another is told by its FIRMWARE entry too. */
enum { CSIM_LOG_BY_ASID = 1, CSIM_LOG_BY_FIRMWARE = 2, CSIM_LOG_FOR_ANOTHER = 4 };

/* Entries come in the engine's total order; at_cycles counts from the start of the run and falls
 * back only after the stores of one op, which follow each other in time. */
struct csim_log_entry {
    uint64_t at_cycles;
    uint64_t va;
    uint64_t value;
    uint32_t hart;
    uint32_t detail;
    uint32_t kind;                /* enum csim_log_kind */
    uint32_t zero;
};

/* ---- A simulator ---------------------------------------------------------------------------- */

struct csim;

/* Checks everything, draws or copies the work, allocates all memory of the run. `items` and `gates`
 * (gates[0] is unused) are copied; both may be NULL when the counts are 0. On failure *out is NULL
 * and *error is filled. */
enum csim_status csim_create(const struct csim_params *params, const struct csim_program *program,
                             const struct csim_op *ops, const struct csim_item *items,
                             uint64_t items_nr, const uint32_t *gates, uint32_t gates_nr,
                             struct csim **out, struct csim_error *error);

/* Before csim_run(): the run logs what happens into `entries`, which stay the caller's; NULL turns
 * the log off. It changes no result. */
void csim_log(struct csim *sim, struct csim_log_entry *entries, uint64_t room);

/* The same, but the last `room` entries are kept: entry i of the run stands at i mod room. */
void csim_log_last(struct csim *sim, struct csim_log_entry *entries, uint64_t room);

/* How many entries the run had for the log; those beyond its room were not kept. */
uint64_t csim_logged(const struct csim *sim);

/* Runs to the end, a verdict, or until *stop (may be NULL) is nonzero. */
enum csim_status csim_run(struct csim *sim, const volatile int *stop, struct csim_result *result);

/* After csim_run(): one hart's part of the counters; the parts add up, but for those of the whole
 * run (stack_cache_hits, work_digest, events), which are 0 here. */
void csim_hart_counters(const struct csim *sim, uint32_t hart, struct csim_counters *counters);

/* Gives all memory back; NULL is fine. */
void csim_destroy(struct csim *sim);

/* The items of a simulator, drawn and copied, in execution order per hart; at most `room`. */
uint64_t csim_items(const struct csim *sim, struct csim_item *out, uint64_t room);

/* ---- Programs alone ------------------------------------------------------------------------- */

/* Fills the layout of a mode: levels 3 = Sv39, 4 = Sv48, 5 = Sv57. */
void csim_layout(uint32_t levels, struct csim_layout *layout);

/* Checks a program alone: what the clock and the explorer both require of it. */
enum csim_status csim_check_program(const struct csim_program *program, const struct csim_op *ops,
                                    struct csim_error *error);

/* ---- The explorer: the same ops over every interleaving of a small machine ------------------- */

/* docs/abstract-machine.md says what each of these means, to the letter. */
enum { CSIM_EXPLORE_HARTS_MAX = 6, CSIM_EXPLORE_PAGES_MAX = 10, CSIM_EXPLORE_ACTIONS_MAX = 32 };

enum csim_explore_action_kind {
    CSIM_EXPLORE_MAP, CSIM_EXPLORE_UNMAP, CSIM_EXPLORE_PURGE, CSIM_EXPLORE_FLUSH,
    CSIM_EXPLORE_WAIT, CSIM_EXPLORE_ACCESS, CSIM_EXPLORE_PROBE, CSIM_EXPLORE_SWITCH,
    CSIM_EXPLORE_INTERRUPT, CSIM_EXPLORE_USER, CSIM_EXPLORE_TRAP, CSIM_EXPLORE_SIGNAL,
    CSIM_EXPLORE_AWAIT, CSIM_EXPLORE_TRACE, CSIM_EXPLORE_USES, CSIM_EXPLORE_LEAVE,
    CSIM_EXPLORE_ACTION_KINDS
};

struct csim_explore_action {
    uint8_t kind;      /* enum csim_explore_action_kind */
    uint8_t first;     /* first page; AWAIT: a hart */
    uint8_t pages;
    uint8_t frame;     /* mapped, or expected */
    uint8_t count;     /* MAP, WAIT: version; SIGNAL, AWAIT: number of signals */
    uint8_t masked;    /* MAP: interrupts are off */
    uint8_t zero[2];
};

enum csim_explore_order { CSIM_EXPLORE_PSO, CSIM_EXPLORE_TSO, CSIM_EXPLORE_SC };
enum csim_explore_invalid { CSIM_EXPLORE_CACHE, CSIM_EXPLORE_REORDER, CSIM_EXPLORE_NEVER };
enum csim_explore_tlb { CSIM_EXPLORE_MAXIMAL, CSIM_EXPLORE_SINGLE };

/* A scenario, the parameters of the abstract machine, and how to search. */
struct csim_explore_question {
    uint32_t harts, pages;
    uint32_t below;               /* bit p: page p is under the new non-leaf PTE */
    uint32_t region;              /* 0..4: vmalloc, module, vmemmap, linear, pci_io */
    uint32_t stack_first, stack_pages, frame_pages;
    uint32_t object;              /* hart h's object page is object + h; UINT32_MAX: none */
    uint32_t ipi_allocates;
    uint32_t order, invalid, tlb; /* enums above */
    uint32_t nonleaf;             /* 1: invalid non-leaf PTEs may be cached too */
    uint32_t svvptc, svvptc_k;    /* k = UINT32_MAX: unbounded */
    uint32_t via;                 /* enum csim_via, not MACHINE */
    uint32_t sbi_limit_pages, retries, nesting;
    uint32_t cpus[CSIM_EXPLORE_HARTS_MAX];
    uint32_t actions_nr[CSIM_EXPLORE_HARTS_MAX];
    struct csim_explore_action actions[CSIM_EXPLORE_HARTS_MAX][CSIM_EXPLORE_ACTIONS_MAX];
    uint32_t chaos;               /* everything but this hart is chaos; UINT32_MAX: nothing is */
    uint32_t exact;               /* 1: keep states, compare them; 0: 64-bit fingerprints */
    uint32_t symmetry;            /* 1: harts with the same script are interchangeable */
    uint32_t eager;               /* 1: steps that nobody else can notice are taken at once */
    uint64_t max_states;
    uint64_t max_memory_bytes;
    uint64_t hash_seed;
};

enum csim_explore_verdict { CSIM_EXPLORE_VERIFIED, CSIM_EXPLORE_REFUTED, CSIM_EXPLORE_UNKNOWN };

#define CSIM_EXPLORE_PROPERTIES(X)                                                                 \
    X(NONE, "", "")                                                                                \
    X(DL, "DL", "no hart can go on, and some are not done")                                        \
    X(S1, "S1", "an access used a frame other than the one published")                             \
    X(S2, "S2", "a kernel page fault on a published mapping that nobody resolved")                 \
    X(S3, "S3", "one access faulted again and again")                                              \
    X(S4, "S4", "a trap where no trap can be survived, or too many on one stack")

enum csim_explore_property {
#define X(id, name, text) CSIM_EXPLORE_##id,
    CSIM_EXPLORE_PROPERTIES(X)
#undef X
    CSIM_EXPLORE_PROPERTIES_NR
};

/* What stopped a search whose verdict is unknown. */
enum csim_explore_limit {
    CSIM_EXPLORE_NO_LIMIT,
    CSIM_EXPLORE_STATES,          /* max_states */
    CSIM_EXPLORE_MEMORY,          /* max_memory_bytes */
    CSIM_EXPLORE_STORES,          /* a hart had more stores buffered than a state can hold */
    CSIM_EXPLORE_INTERRUPTED      /* *stop was raised */
};

struct csim_explore_result {
    uint32_t verdict;             /* enum csim_explore_verdict */
    uint32_t property;            /* enum csim_explore_property, when refuted */
    uint32_t length;              /* steps of the counterexample */
    uint32_t limit;               /* enum csim_explore_limit, when unknown */
    uint32_t depth;               /* no counterexample of so few steps was missed */
    uint32_t s5_length;           /* steps to the first state that breaks S5; UINT32_MAX: none */
    uint32_t symmetric;           /* harts that were interchangeable; 0: none */
    uint32_t eager;               /* 1: eager steps were allowed and taken */
    uint64_t states, transitions;
};

/* What a hart does when it takes one transition; docs/abstract-machine.md, section 7, and where the
 * hart rested before it. */
enum csim_explore_kind {
    CSIM_EXPLORE_STEP, CSIM_EXPLORE_ANSWER, CSIM_EXPLORE_DRAIN, CSIM_EXPLORE_TAKE,
    CSIM_EXPLORE_FIRMWARE, CSIM_EXPLORE_FILL, CSIM_EXPLORE_EVICT, CSIM_EXPLORE_CHAOS
};

#define CSIM_EXPLORE_PHASES(X)                                                                     \
    X(DONE, "done", "its script is over")                                                          \
    X(SCRIPT, "script", "an action of the script")                                                 \
    X(OPS, "ops", "an op of a handler")                                                            \
    X(EARLY, "early", "an op of early_trap")                                                       \
    X(PUBLISH, "publish", "the end of map_kernel")                                                 \
    X(SAVE, "save", "the trap frame is stored on the stack")                                       \
    X(TRACE, "trace", "the C handler writes its trace buffer")                                     \
    X(ALLOCATE, "allocate", "the IPI path allocates")                                              \
    X(TOUCH, "touch", "the IPI path uses what it allocated")                                       \
    X(FAIL, "fail", "nobody resolved the fault")                                                   \
    X(ACK, "ack", "the IPI is acknowledged")                                                       \
    X(RETURN, "return", "sret to the kernel")                                                      \
    X(USER_CSRW, "user_csrw", "csrw sscratch, tp on the way to user mode")                         \
    X(USER_LOAD, "user_load", "the registers are loaded from the stack")                           \
    X(USER_SRET, "user_sret", "sret to user mode")

enum csim_explore_phase {
#define X(id, name, text) CSIM_EXPLORE_AT_##id,
    CSIM_EXPLORE_PHASES(X)
#undef X
    CSIM_EXPLORE_PHASES_NR
};

struct csim_explore_step {
    uint8_t hart, kind, arg;      /* the transition */
    uint8_t phase;                /* enum csim_explore_phase */
    uint8_t action;               /* index in the hart's script */
    uint8_t frames;               /* frames above the script */
    uint8_t page;                 /* of the access, store or extent; marks: which; 255: none */
    uint8_t value;                /* a store, a DRAIN: what is stored, for marks the bits that are
                                   * set; a condition: 1 if it holds; ANSWER: what the PTE is now */
    uint8_t place;                /* where a store or a DRAIN goes, enum csim_explore_place */
    uint8_t sub;                  /* position inside an op of several steps */
    uint8_t user;                 /* the top frame trapped from user mode */
    uint8_t property;             /* what this transition breaks, enum csim_explore_property */
    uint32_t op;                  /* index in ops; UINT32_MAX: none */
};

enum csim_explore_place {
    CSIM_EXPLORE_LEAF, CSIM_EXPLORE_TABLE, CSIM_EXPLORE_MARK_WORD, CSIM_EXPLORE_FLAG,
    CSIM_EXPLORE_DONE, CSIM_EXPLORE_NOWHERE
};

struct csim_explore;

/* Checks question and program, takes all memory. On failure *out is NULL and *error is filled. */
enum csim_status csim_explore_create(const struct csim_explore_question *question,
                                     const struct csim_program *program, const struct csim_op *ops,
                                     struct csim_explore **out, struct csim_error *error);

/* Searches breadth first until a verdict, a limit, or *stop (may be NULL) is nonzero. */
void csim_explore_run(struct csim_explore *explore, const volatile int *stop,
                      struct csim_explore_result *result);

/* The counterexample of the last run, in the harts of the question, at most `room` steps of it.
 * Returns its length; 0 when the last run did not refute. Of a deadlock, one more step per hart
 * says where it rests in the end. */
uint32_t csim_explore_trace(struct csim_explore *explore, struct csim_explore_step *steps,
                            uint32_t room);

/* One transition, and what taking it breaks. */
struct csim_explore_move {
    uint8_t hart, kind, arg;
    uint8_t property;             /* enum csim_explore_property */
};

/* Takes `moves` from the start and lists what can happen next, for all harts, at most `room` of
 * them. Returns how many there are; UINT32_MAX when a move is not possible where it stands, or
 * breaks a property. Nothing is searched: this is for those who drive the machine themselves. */
uint32_t csim_explore_follow(struct csim_explore *explore, const struct csim_explore_move *moves,
                             uint32_t moves_nr, struct csim_explore_move *next, uint32_t room);

/* Gives all memory back; NULL is allowed. */
void csim_explore_destroy(struct csim_explore *explore);

/* NULL past the end. */
const char *csim_explore_property_name(uint32_t property);
const char *csim_explore_property_text(uint32_t property);
const char *csim_explore_phase_name(uint32_t phase);
const char *csim_explore_phase_text(uint32_t phase);

/* ---- Names: Python asks, nothing is listed twice --------------------------------------------- */

/* Each returns NULL past the end. */
const char *csim_op_name(uint32_t kind);
const char *csim_op_text(uint32_t kind);
const char *csim_atom_name(uint32_t atom);
const char *csim_atom_text(uint32_t atom);
const char *csim_handler_name(uint32_t handler);
const char *csim_handler_text(uint32_t handler);
const char *csim_counter_name(uint32_t counter);
const char *csim_counter_unit(uint32_t counter);
const char *csim_counter_meaning(uint32_t counter);
const char *csim_verdict_name(uint32_t verdict);
const char *csim_tlb_policy_name(uint32_t policy);
const char *csim_log_kind_name(uint32_t kind);
const char *csim_log_kind_text(uint32_t kind);

/* Smallest value of a histogram bucket. */
uint64_t csim_histogram_floor(uint32_t bucket);

/* The first of CSIM_HISTOGRAM_BUCKETS that is not 0, and one past the last; equal if all are. */
uint32_t csim_histogram_first(const uint64_t *buckets);
uint32_t csim_histogram_end(const uint64_t *buckets);

/* Hash of the C sources, this header and the compiler flags. */
const char *csim_build_id(void);

/* ---- Page walks alone, for golden vectors ---------------------------------------------------- */

enum csim_access { CSIM_LOAD, CSIM_STORE, CSIM_FETCH };
enum csim_privilege { CSIM_USER = 0, CSIM_SUPERVISOR = 1, CSIM_MACHINE = 3 };

/* One word of simulated memory; what is not listed is zero. */
struct csim_word {
    uint64_t pa;
    uint64_t value;
};

struct csim_walk_case {
    uint64_t va;
    uint64_t satp_ppn;
    uint64_t ram_first, ram_end;  /* memory is [ram_first, ram_end) */
    uint32_t words_at, words_nr;  /* this case's part of the words given */
    uint8_t levels;               /* 3, 4, 5; 0 = bare */
    uint8_t privilege;            /* enum csim_privilege */
    uint8_t access;               /* enum csim_access */
    uint8_t sum, mxr, svadu, svnapot, svpbmt;
};

struct csim_walk_result {
    uint64_t pa;
    uint64_t size_bytes;
    uint64_t reads[5];        /* PTE addresses in the order they were read */
    uint64_t after_pa, after_value;  /* the PTE that Svadu updated, when updated */
    uint8_t cause;            /* scause of the translation; 0 = it succeeded */
    uint8_t access_cause;     /* scause of the whole access; 0 = ok */
    uint8_t level;
    uint8_t pbmt;
    uint8_t global;
    uint8_t bare;
    uint8_t reads_nr;
    uint8_t updated;
    uint32_t reason;          /* why the walk stopped: csim_walk_fail_name() */
    uint32_t zero;
};

/* Walks every case over words[words_at .. words_at + words_nr); results[i] answers cases[i]. Enums
 * and the parts of `words` must be in range: the caller checked them. */
void csim_walk_batch(const struct csim_walk_case *cases, uint64_t cases_nr,
                     const struct csim_word *words, struct csim_walk_result *results);

/* NULL past the end. */
const char *csim_walk_fail_name(uint32_t reason);

/* ---- One hart's translation alone, for tests ------------------------------------------------- */

/* What csim_create() and csim_mmu_run() require of the translation side of a machine. */
enum csim_status csim_check_machine(const struct csim_machine *machine, struct csim_error *error);

enum csim_mmu_step_kind {
    CSIM_MMU_ACCESS,         /* va, asid, access, user, speculative, reads_max, lazy */
    CSIM_MMU_RESUME,         /* the access in flight goes on: reads_max */
    CSIM_MMU_FENCE,          /* form, va, asid, cause */
    CSIM_MMU_FORGET,         /* va, pages: stale invalid entries vanish */
    CSIM_MMU_MAP,            /* va, pages, level, ppn, flags, other_hart */
    CSIM_MMU_UNMAP,          /* va, pages, other_hart; level = 0 */
    CSIM_MMU_STORE_INVALID,  /* va, pages, level, other_hart: PTEs become `flags`, V clear */
    CSIM_MMU_ADVANCE,        /* cycles pass */
    CSIM_MMU_GLOBAL_POINTER, /* va, level, other_hart: the pointer on va's way gains G */
    CSIM_MMU_STEP_KINDS
};

struct csim_mmu_step {
    uint64_t va;
    uint64_t ppn;
    uint64_t flags;          /* PTE bits but the PPN */
    uint64_t cycles;
    uint32_t pages;
    uint32_t reads_max;      /* PTE reads after which the walk is left in flight; 0: it ends */
    uint16_t asid;
    uint8_t kind;            /* enum csim_mmu_step_kind */
    uint8_t access;          /* enum csim_access */
    uint8_t user, speculative;
    uint8_t level;           /* of the leaves */
    uint8_t form;            /* 0 all, 1 asid, 2 va, 3 va and asid */
    uint8_t cause;           /* 0 to 3: why the fence; a later refill names it */
    uint8_t other_hart;      /* the next hart stores, in no time of this one */
    uint8_t lazy;            /* a cached invalid PTE: fence in full and ask again, as a kernel that
                              * fences at its first fault does; the answer keeps `negative` */
    uint8_t zero[5];
};

struct csim_mmu_answer {
    uint64_t cycles;         /* this step took */
    uint64_t ppn;            /* of the 4 KiB page; 0 unless translated */
    uint32_t fail;           /* csim_walk_fail_name() */
    uint8_t negative, refill, refill_for;
    uint8_t walking;         /* left in flight: no answer yet */
    uint8_t aborted;         /* RESUME: a fence ended the walk, there is no answer */
    uint8_t zero[7];
};

/* Runs the steps on an empty mmu and an empty table; answers[i] is of steps[i]; *counters is
 * cleared first. */
enum csim_status csim_mmu_run(const struct csim_machine *machine, uint32_t hart, uint64_t seed,
                              const struct csim_mmu_step *steps, uint64_t steps_nr,
                              struct csim_mmu_answer *answers, struct csim_counters *counters,
                              struct csim_error *error);

/* Vector instructions a stream may use; the results are the same bytes. */
enum csim_simd { CSIM_SIMD_BEST, CSIM_SIMD_PLAIN, CSIM_SIMD_AVX2, CSIM_SIMD_AVX512,
                 CSIM_SIMD_PATHS };

struct csim_mmu;

/* How the references of a stream are made. */
struct csim_mmu_stream {
    uint16_t asid;
    uint8_t access;          /* enum csim_access */
    uint8_t user;
    uint32_t simd;           /* enum csim_simd; BEST: what this processor has */
};

struct csim_mmu_streamed {
    uint64_t cycles;         /* the stream took */
    uint64_t faults;         /* references that were not translated */
    uint64_t batched;        /* references that went level by level; the rest one by one */
};

/* An empty mmu over an empty table with room for so many PTE stores and tables in its life. On
 * failure *out is NULL and *error is filled. */
enum csim_status csim_mmu_create(const struct csim_machine *machine, uint32_t hart, uint64_t seed,
                                 uint64_t stores, uint64_t tables, struct csim_mmu **out,
                                 struct csim_error *error);

/* Runs the steps, as csim_mmu_run() does, after all that was run before. */
enum csim_status csim_mmu_steps(struct csim_mmu *mmu, const struct csim_mmu_step *steps,
                                uint64_t steps_nr, struct csim_mmu_answer *answers,
                                struct csim_error *error);

/* One access to each address, one after the other, each ended before the next: what as many
 * CSIM_MMU_ACCESS steps would do. */
enum csim_status csim_mmu_stream(struct csim_mmu *mmu, const struct csim_mmu_stream *how,
                                 const uint64_t *vas, uint64_t vas_nr,
                                 struct csim_mmu_streamed *out, struct csim_error *error);

/* All counters since it was made. */
void csim_mmu_counters(const struct csim_mmu *mmu, struct csim_counters *counters);

/* Gives all memory back; NULL is fine. */
void csim_mmu_destroy(struct csim_mmu *mmu);

/* ---- Random reads over a footprint ----------------------------------------------------------- */

/* Where a read is answered. */
enum csim_place { CSIM_PLACE_L1D, CSIM_PLACE_L2, CSIM_PLACE_LLC, CSIM_PLACE_DRAM, CSIM_PLACES };

struct csim_footprint {
    uint64_t bytes;          /* of the buffer: whole 4 KiB pages */
    uint64_t reads;          /* uniform random, one after the other */
    uint64_t warm_up;        /* reads before them that are not counted */
    uint64_t seed;
    uint32_t level;          /* of the buffer's leaves: 0 = 4 KiB, 1 = 2 MiB */
    uint32_t scattered;      /* 4 KiB pages: their frames lie all over memory, not in a row */
};

struct csim_footprint_cost {
    uint64_t cycles;         /* of all reads: translation and data */
    uint64_t translation_cycles;
    uint64_t l1_misses, l2_misses;
    uint64_t pte_reads[CSIM_PLACES], data_reads[CSIM_PLACES];
};

/* Reads through the machine's TLBs and data caches; PTE lines and data share the caches. */
enum csim_status csim_footprint_run(const struct csim_machine *machine,
                                    const struct csim_footprint *question,
                                    struct csim_footprint_cost *cost, struct csim_error *error);

#endif /* CSIM_H */
