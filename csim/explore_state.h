/* explore_state.h: a state of the abstract machine, and the question it belongs to.
 *
 * docs/abstract-machine.md is the meaning of every field; this is only where its bits are. A state
 * is fixed-size while it is worked on; explore_canon.c packs it for keeping. */
#ifndef EXPLORE_STATE_H
#define EXPLORE_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "csim.h"

enum {
    EXPLORE_HARTS = CSIM_EXPLORE_HARTS_MAX,
    EXPLORE_PAGES = CSIM_EXPLORE_PAGES_MAX,
    EXPLORE_NESTING_MAX = 6,
    EXPLORE_FRAMES = EXPLORE_NESTING_MAX + 2, /* and a call at the bottom, and chaos's over it */
    EXPLORE_STORES = 16,                      /* buffered stores of one hart */
    EXPLORE_EVERYTHING = 15                   /* an extent's count */
};

/* Places of memory, as a store buffer names them. */
enum {
    EXPLORE_AT_LEAF = 0,
    EXPLORE_AT_TABLE = EXPLORE_AT_LEAF + EXPLORE_PAGES,
    EXPLORE_AT_MARK,
    EXPLORE_AT_FLAG = EXPLORE_AT_MARK + CSIM_MARKS_MAX,
    EXPLORE_AT_DONE = EXPLORE_AT_FLAG + EXPLORE_PAGES
};

enum explore_frame_kind {
    EXPLORE_CALL,           /* a handler an action called */
    EXPLORE_NESTED,         /* map_kernel from inside a handler */
    EXPLORE_FAULT,
    EXPLORE_IPI,
    EXPLORE_INTERRUPTED,
    EXPLORE_FROM_USER
};

enum {                      /* explore_frame.flags */
    EXPLORE_USER_MODE = 1,  /* trapped from user mode */
    EXPLORE_MASKED = 2,     /* a call with interrupts off */
    EXPLORE_PUBLISHED = 4,
    EXPLORE_ACKED = 8,
    EXPLORE_CLEARED = 16,   /* ghost: it cleared a mark and has not fenced in full since */
    EXPLORE_BY_FETCH = 4,   /* of a fault, that no call is: an instruction fetch's */
    EXPLORE_BY_STORE = 32,  /* the fault is a store's */
    EXPLORE_KNOWS_WORD = 64, /* regs hold something */
    EXPLORE_ELSEWHERE = 128 /* a fault that no access of the script took, or a call of no action */
};

struct explore_frame {
    uint16_t at;            /* op */
    uint8_t kind;           /* enum explore_frame_kind */
    uint8_t phase;          /* enum csim_explore_phase */
    uint8_t flags;
    uint8_t extent;         /* first page | pages << 4; pages 0: none */
    uint8_t sub;            /* position inside an op or phase of several steps */
    uint8_t faults;         /* of the access it tries */
    /* packed only where a policy shoots down or clears by plain stores */
    uint8_t regs[CSIM_MARKS_MAX]; /* words a plain clear will store back; bit 7: present */
    uint8_t untaken, taken; /* its requests: harts */
    uint8_t from;           /* IPI: sender | level << 4 */
    uint8_t zero;
};
_Static_assert(sizeof(struct explore_frame) == 16, "two words");

struct explore_store {
    uint8_t place;
    uint8_t epoch;
    uint8_t value;
    uint8_t keep;           /* marks: bits of the word that stay */
    uint16_t covers;        /* ghost: pages whose map_kernel issued this mark */
    uint16_t zero;
};
_Static_assert(sizeof(struct explore_store) == 8, "one word");
_Static_assert(CSIM_MARKS_MAX * sizeof(uint16_t) == 8, "what marks cover is one word");

enum {                      /* explore_hart.flags */
    EXPLORE_NEW_STACK = 1,
    EXPLORE_USER = 2,
    EXPLORE_BARRIER = 4,    /* the next store begins an epoch */
    EXPLORE_DEFERRED_ALL = 8,
    EXPLORE_TABLE_INVALID = 16, /* N, or TN: two bits, shifted by EXPLORE_TABLE_SHIFT */
    EXPLORE_TABLE_VALID = 32,
    EXPLORE_TABLE_SHIFT = 4,
    EXPLORE_STACK_SHIFT = 6     /* two bits: frame of the new stack's pages, less 1 */
};

struct explore_hart {
    uint8_t at;             /* action */
    uint8_t sub;
    uint8_t frames_nr;
    uint8_t stores_nr;
    uint8_t flags;
    uint8_t faults;         /* of the script's access */
    uint8_t marks;          /* memory: this hart's bit of mark m is bit m */
    uint8_t done;           /* memory: signals of this hart */
    uint64_t answers;       /* nibble p: set of values a walk to p may return (H), or T's one */
    uint64_t stale;         /* nibble p: K; nibble EXPLORE_PAGES: KN. Packed only when bounded */
    uint32_t trace;         /* page + 1. Packed, like the rest of this word, when it is used */
    uint32_t deferred;      /* pages */
    struct explore_frame frames[EXPLORE_FRAMES];
    struct explore_store stores[EXPLORE_STORES];
};

struct explore_state {
    uint32_t leaf;          /* two bits a page */
    uint8_t table;
    uint8_t zero[3];
    uint64_t flags;         /* nibble p: version last published */
    uint16_t covered[CSIM_MARKS_MAX]; /* ghost: pages, by mark */
    struct explore_hart hart[EXPLORE_HARTS];
};

/* The question, checked, and what follows from it. Constant during a search. */
struct explore_model {
    struct csim_explore_question q;
    struct csim_program program;
    struct csim_op ops[CSIM_OPS_MAX];
    uint8_t clears_later[CSIM_OPS_MAX];  /* marks that a later op of the handler clears plainly */
    uint64_t atoms;         /* static atoms that are true everywhere */
    uint64_t region_atom;   /* true in frames with an extent */
    uint32_t below;         /* pages under the table */
    uint32_t wiped;         /* chaos: marks that another hart's clear may wipe */
    uint8_t all;            /* harts */
    uint8_t low;            /* harts whose CPU number is below 32 */
    bool single;            /* single-entry TLB */
    bool bounded;           /* Svvptc with a bound */
    bool shoots;            /* the program has a shootdown */
    bool wide_frames;       /* frames use their second word */
    bool wide_harts;        /* harts use trace or deferred */
    bool tells_faults;      /* some condition asks what kind of access a fault is of */
    bool ghosts;            /* map_kernel marks: S5 means something */
    bool eager;             /* allowed and asked for */
    uint8_t group[EXPLORE_HARTS]; /* interchangeable harts have the same; 255: alone */
    uint8_t members[EXPLORE_HARTS]; /* harts in groups, those of a group after each other */
    uint8_t under[EXPLORE_HARTS], above[EXPLORE_HARTS]; /* neighbours among them; 255: none */
    uint32_t members_nr;
    uint8_t grouped;        /* the same harts, as bits */
    bool names;             /* frames or buffered marks can name some harts and not others */
};

enum explore_outcome {
    EXPLORE_FINE,
    EXPLORE_S1, EXPLORE_S2, EXPLORE_S3, EXPLORE_S4,
    EXPLORE_NO_ROOM         /* the store buffer is full: no verdict */
};

static inline uint32_t explore_state_first(const struct explore_frame *f) { return f->extent & 15; }
static inline uint32_t explore_state_pages(const struct explore_frame *f) { return f->extent >> 4; }

/* The extent names pages: it is neither empty nor everything. */
static inline bool explore_state_has_pages(const struct explore_frame *f)
{
    return explore_state_pages(f) != 0 && explore_state_pages(f) != EXPLORE_EVERYTHING;
}

static inline struct explore_frame *explore_state_top(struct explore_hart *hart)
{
    return hart->frames_nr == 0 ? 0 : &hart->frames[hart->frames_nr - 1];
}

static inline const struct explore_frame *explore_state_top_of(const struct explore_hart *hart)
{
    return hart->frames_nr == 0 ? 0 : &hart->frames[hart->frames_nr - 1];
}

static inline uint32_t explore_state_stack_frame(const struct explore_hart *hart)
{
    return 1 + (uint32_t)(hart->flags >> EXPLORE_STACK_SHIFT & 3);
}

static inline bool explore_state_is_below(const struct explore_model *m, uint32_t page)
{
    return m->below >> page & 1;
}

#endif
