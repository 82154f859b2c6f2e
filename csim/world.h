/* world.h: what the harts share, and what each of them is doing. Data only; the rules are in the
 * files below (shootdown, trap, hart, sim), each of which changes its own part.
 *
 * A hart's work is a stack of frames, each a small state machine: an item of the workload, a
 * handler of the policy, an access, a trap, a shootdown it sends, one it serves. One step of the
 * top frame happens at one instant; between two steps other harts may act. */
#ifndef WORLD_H
#define WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "csim.h"
#include "event.h"
#include "mark.h"
#include "mm.h"
#include "mmu.h"
#include "pagetable.h"
#include "trace.h"

enum { FRAMES_MAX = 32, KNOWN_MAX = 64, PAGE_SHIFT = 12, NESTED_PAGES = 512,
       SHOOTS_MAX = 4 };

/* Kinds of events beside EVENT_STEP, the hart's own. */
enum event_kind {
    EVENT_IPI = 1,    /* a fence request arrives; arg = the shootdown's slot */
    EVENT_ACK,        /* a target has finished; hart = sender, arg = slot */
    EVENT_BROADCAST   /* a hardware broadcast takes effect; arg = slot */
};

/* On whose behalf something is done; decides which cause pays. */
enum origin { ORIGIN_MAP, ORIGIN_TRAP, ORIGIN_FAULT, ORIGIN_USER, ORIGIN_PURGE, ORIGIN_WORK };

enum frame_kind {
    FRAME_ITEM, FRAME_HANDLER, FRAME_ACCESS, FRAME_TRAP, FRAME_SHOOT, FRAME_SERVE
};

enum trap_result { TRAP_UNDECIDED, TRAP_RETRY, TRAP_FALL_THROUGH, TRAP_FAIL };

struct frame {
    uint8_t kind;         /* enum frame_kind */
    uint8_t phase;        /* the frame's own state */
    uint8_t origin;       /* enum origin */
    uint8_t handler;      /* HANDLER: enum csim_handler */
    uint8_t access;       /* ACCESS: enum csim_access */
    bool irqs_before;     /* what to restore when the frame is left */
    bool from_user;       /* TRAP: the saved privilege is U */
    bool huge;
    bool interrupt;       /* TRAP: scause is an interrupt */
    bool user;            /* ACCESS: a user page */
    bool sscratch_zero;   /* TRAP, SERVE: what the early check finds */
    bool entering;        /* TRAP, SERVE: not yet past the save, sscratch is not zero */
    bool acked;           /* SERVE */
    bool inline_service;  /* SERVE: by a sender that waits, no trap */
    uint32_t pc;          /* HANDLER: next op; SERVE: first slot merged into it, + 1 */
    uint32_t pages;       /* extent; ACCESS: attempts so far */
    uint32_t index;       /* ITEM: page; SHOOT: next target; SERVE: slot */
    uint32_t scause;
    uint32_t slot;        /* SHOOT: its own; SERVE: whose extent is fenced; ITEM: a load of the
                           * page is to follow */
    uint64_t va;          /* extent, address, stval */
    uint64_t started_at_cycles;
    uint64_t spent_cycles;    /* ACCESS: by the lookup in flight, nobody has paid yet */
};

/* One sender's shootdown under way. */
struct shoot {
    uint64_t va;
    uint64_t ack_at_cycles;   /* when the last acknowledgement has been seen */
    uint32_t pages;           /* 0 = everything */
    uint32_t threshold_pages;
    uint32_t pending;         /* targets that have not acknowledged */
    uint8_t via;
    uint8_t origin;
    bool by_asid;
    uint8_t who;              /* enum csim_who */
    uint16_t asid;            /* the sender's, when it sent */
};

struct gate {
    uint64_t last_at_cycles;  /* the last signal, and the last one of any other hart than its */
    uint64_t other_at_cycles;
    uint32_t need, got;
    uint32_t last_hart;
    uint32_t waiter;          /* first waiting hart + 1, 0 = none */
    bool others;              /* several harts have signalled */
};

struct range { uint64_t va; uint32_t pages; uint32_t zero; };

struct stream {               /* the reference stream; see hart.c */
    uint64_t visit;           /* number of the current one */
    uint64_t visit_key;       /* what the draws of all visits share */
    uint64_t speculation;     /* number of the next speculative walk */
    uint64_t speculate_at;    /* useful cycles of the next speculative walk */
    uint64_t va;              /* page under visit */
    uint64_t left_cycles;     /* of it */
    uint64_t spent_cycles;    /* of the lookup in flight */
    uint8_t access;
    bool user;
    uint8_t again;            /* pages still to be looked up after an interruption */
    bool looked_up;
};

struct hart {
    uint32_t id;
    uint64_t now_cycles;
    uint64_t useful_cycles;
    uint64_t budget_cycles;   /* useful cycles until it is done */
    uint64_t finished_at_cycles;
    struct mmu mmu;
    struct csim_counters counters;
    struct stream stream;
    struct frame frames[FRAMES_MAX];
    uint32_t depth;
    enum trap_result trap_result;  /* what the handler just left decided */
    bool blocked;             /* it waits: for a gate, for acknowledgements, for its idle end;
                               * perhaps with a step scheduled for when that is over */
    bool asleep;              /* blocked in an IDLE item */
    bool done;
    bool irqs_on;
    bool deferred;            /* a queued fence waits for flush_deferred */
    uint64_t ptes_stored_at_cycles;   /* its last PTE store; 0 = none */
    uint64_t marked_at_cycles;        /* its last store to a mark */
    uint64_t stored_at_cycles;        /* its last store that others wait for, of any kind */
    bool published;           /* the MAP item under way has been published */
    bool asid_rollover;       /* its last switch of address space found the ASIDs rolled over */
    uint16_t asid;            /* of the address space it runs */
    uint32_t mm;              /* index of the address space that its work concerns: the one it
                               * runs, unless the item under way names another */
    bool enlisted;            /* among the waiters of a gate */
    uint32_t next_waiter;     /* of that gate, + 1 */
    uint32_t shoots_open;     /* shootdowns it has under way, one inside the other */
    const struct csim_item *items;
    uint64_t items_nr, item;
    struct range stack;       /* current: va is the lowest page */
    struct range home_stack;
    uint32_t stack_in_use;    /* its top pages that this hart has touched */
    struct range known[KNOWN_MAX];  /* areas the reference stream may go to */
    uint32_t known_nr;
    uint32_t *inbox;          /* slots whose IPI has arrived, in order */
    uint32_t *inbox_extent;   /* slot whose extent covers those merged into the entry */
    uint32_t *inbox_merged;   /* first slot merged into the entry, + 1 */
    uint32_t *merged_next;    /* [slot]: the next one of its entry, + 1 */
    uint64_t *inbox_at_cycles;
    uint32_t inbox_first, inbox_nr;
    uint64_t nested_va;       /* arena of nested allocations */
    uint64_t nested_used_pages;
};

struct world {
    struct csim_params params;
    struct csim_program program;
    const struct csim_op *ops;
    struct csim_layout layout;
    struct event_queue events;
    struct pagetable pt;
    struct mark marks[CSIM_MARKS_MAX];
    struct gate *gates;
    uint32_t gates_nr;
    struct shoot *shoots;     /* [sender * SHOOTS_MAX + nesting] */
    uint64_t *shoot_masks;    /* [slot * mms.words]: harts still to be named by the sender */
    struct mms mms;
    struct hart *harts;
    uint32_t harts_nr;
    uint8_t *online;
    uint32_t online_nr;
    uint64_t next_ppn;        /* frames of new mappings: never the same twice */
    uint64_t start_cycles;    /* when the tables made before are visible to all */
    uint64_t area_pages;      /* vmalloc area in use, for speculation */
    uint64_t stores_at_sync;  /* PTE stores when every hart was last brought up to date */
    const uint32_t *zipf_text, *zipf_linear, *zipf_user;  /* quantile -> page */
    struct trace *trace;
    struct csim_result *result;
    bool over;                /* a verdict ended the run */
};

/* When others see a store made at `at_cycles`. */
static inline uint64_t world_visible(const struct world *world, uint64_t at_cycles)
{
    const struct csim_machine *machine = &world->params.machine;
    return at_cycles + machine->store_drain_cycles + machine->coherence_cycles;
}

/* From when on the hart's own buffer holds none of its stores. */
static inline uint64_t world_drained(const struct world *world, const struct hart *hart)
{
    return hart->stored_at_cycles == 0 ? 0 : world_visible(world, hart->stored_at_cycles);
}

/* Ends the run: the first verdict counts. */
void world_verdict(struct world *world, const struct hart *hart, enum csim_verdict verdict,
                   uint64_t va);

/* Puts a frame on top; NULL when the hart's stack of traps is full (a verdict). */
struct frame *world_push(struct world *world, struct hart *hart, enum frame_kind kind,
                         enum origin origin);

/* Puts the policy's handler on top, over the extent; nothing happens when it has none. */
void world_push_handler(struct world *world, struct hart *hart, enum csim_handler handler,
                        uint64_t va, uint32_t pages, enum origin origin);

/* Puts an access on top: a translation that may fault. NULL as for world_push. */
struct frame *world_push_access(struct world *world, struct hart *hart, uint64_t va,
                                enum csim_access access);

/* A store to the current stack, `below` pages below its top: a register save. */
void world_push_stack_store(struct world *world, struct hart *hart, uint32_t below);

/* Leaves the top frame. */
void world_pop(struct hart *hart);

/* The hart's next step happens at `at_cycles`, whenever it was to be before. */
void world_schedule(struct world *world, struct hart *hart, uint64_t at_cycles);

/* The hart waits until `at_cycles` and then looks again; an interrupt may come first. */
void world_wait(struct world *world, struct hart *hart, uint64_t at_cycles);

/* Logs what this hart does now. */
static inline void world_log(const struct world *world, const struct hart *hart,
                             enum csim_log_kind kind, uint64_t va, uint64_t value, uint32_t detail)
{
    trace_put(world->trace, (struct csim_log_entry){
        .at_cycles = hart->now_cycles, .va = va, .value = value, .hart = hart->id,
        .detail = detail, .kind = (uint32_t)kind});
}

/* Charged cycles: time passes, and somebody pays. */
enum cause {
    CAUSE_BASE, CAUSE_IDLE, CAUSE_MAP_STORE, CAUSE_MARK, CAUSE_EARLY_CHECK, CAUSE_LAZY_FAULT,
    CAUSE_LOCAL_FENCE, CAUSE_INITIATOR, CAUSE_VICTIM, CAUSE_REFILL_MAP, CAUSE_REFILL_LAZY,
    CAUSE_REFILL_USER, CAUSE_REFILL_PURGE, CAUSE_USER, CAUSE_PURGE, CAUSE_HANDOFF
};

void world_charge(struct hart *hart, enum cause cause, uint64_t cycles);

/* The cause for work of this origin, where `own` is what a kernel mapping pays. */
enum cause world_cause(uint8_t origin, enum cause own);

/* The ASID of the address space that the hart's work concerns. */
static inline uint16_t world_asid(const struct world *world, const struct hart *hart)
{
    return (uint16_t)world->mms.mms[hart->mm].asid;
}

/* Instructions in cycles. */
static inline uint64_t world_instructions(const struct world *world, uint64_t instructions)
{
    return (instructions * world->params.machine.instruction_millicycles + 999) / 1000;
}

#endif
