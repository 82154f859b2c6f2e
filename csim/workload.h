/* workload.h: the items of a run: drawn here, or given, plus the ticks, interrupts and user faults
 * that both have. All before the clock starts. */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include <stdint.h>

#include "arena.h"
#include "csim.h"
#include "vmap.h"

struct workload {
    struct csim_item *items;    /* sorted by hart, then by place on its axis */
    uint64_t items_nr, room;
    uint64_t *first;            /* [hart]: index of its first item; [harts] = items_nr */
    uint64_t *budget_cycles;    /* [hart]: useful cycles until it is done */
    uint32_t *gates;            /* signals each gate needs; gates[0] is unused */
    uint32_t gates_nr, gates_room;
    uint64_t stack_cache_hits;
    uint64_t area_pages;        /* vmalloc area used at most */
    uint64_t drawn_pages;       /* of it by drawn maps */
    uint64_t digest;
};

/* How many items and gates at most, so that memory can be taken before anything is drawn. */
uint64_t workload_items_max(const struct csim_params *params, uint64_t items_nr);
uint32_t workload_gates_max(const struct csim_params *params, uint32_t gates_nr);

/* Takes memory; draws only when the arena is real. */
void workload_create(struct workload *workload, struct arena *arena,
                     const struct csim_params *params, const struct csim_layout *layout,
                     const struct csim_item *items, uint64_t items_nr, const uint32_t *gates,
                     uint32_t gates_nr);

#endif
