/* mm.h: user address spaces: which one each hart runs, where each has ever run, and their ASIDs. */
#ifndef MM_H
#define MM_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"

/* Of the address space a hart starts with; it never leaves its hart. */
enum { MM_OWN_ASID = 1 };

struct mm {
    uint64_t generation;      /* of its ASID; 0 = it has none yet */
    uint32_t asid;
    uint32_t runs_on;         /* harts that run it now */
};

struct mms {
    struct mm *mms;           /* the harts' own, then the work's */
    uint64_t *masks;          /* [mm * words]: harts that it ran on */
    uint32_t *on;             /* [hart]: what it runs */
    uint8_t *flush_pending;   /* [hart]: the ASIDs have rolled over since its last switch */
    uint32_t harts, words;
    uint32_t asids;           /* 0: the kernel does not use them */
    uint32_t next_asid;
    uint64_t generation;
    uint64_t rollovers;
};

/* `others`: address spaces beside the one of each hart. ASIDs are used when there are more than
 * twice as many as harts the kernel is built for. */
void mm_create(struct mms *mms, struct arena *arena, uint32_t harts, uint32_t others,
               uint32_t asid_bits, uint32_t nr_cpus);

/* Every hart runs its own. */
void mm_start(struct mms *mms);

/* The hart runs address space `other` of the work (from 1), or its own (0). Returns its ASID;
 * *flush: ASIDs were given out anew since this hart's last switch, its entries of old ones are
 * still there. */
uint32_t mm_switch(struct mms *mms, uint32_t hart, uint32_t other, bool *flush);

/* Index of the address space that a hart runs, and of one of the work (from 1). */
uint32_t mm_on(const struct mms *mms, uint32_t hart);
uint32_t mm_of_work(const struct mms *mms, uint32_t other);

/* Whether an mm has run on a hart, and whether it runs there now. */
bool mm_ran_on(const struct mms *mms, uint32_t mm, uint32_t hart);
bool mm_runs_on(const struct mms *mms, uint32_t mm, uint32_t hart);

/* Whether an mm has run on no hart but this one. */
bool mm_alone(const struct mms *mms, uint32_t mm, uint32_t hart);

#endif
