/* fence.h: what one hart's sfence.vma costs, drops and counts, for kernel and firmware alike. */
#ifndef FENCE_H
#define FENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "world.h"

struct fence_extent {
    uint64_t va;
    uint32_t pages;             /* 0 = everything */
    uint32_t threshold_pages;   /* more pages: one full fence */
    uint16_t asid;              /* when by_asid; the kernel's mappings are global */
    bool by_asid;
    bool firmware;              /* executed in M-mode on behalf of the kernel */
    bool svinval;               /* pages go as one Svinval triple */
    bool for_another;           /* no instruction of this hart's kernel asked for it */
};

/* Executes the fences on this hart; returns their cycles, which the caller charges. */
uint64_t fence_execute(const struct world *world, struct hart *hart, struct fence_extent extent,
                       enum origin origin);

#endif
