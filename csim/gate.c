/* gate.c: see gate.h. Waiters form a list through the harts, so that no memory is needed. */
#include "gate.h"

#include <assert.h>

uint64_t gate_passable_at(const struct world *world, const struct hart *hart, uint32_t gate)
{
    const struct gate *g = &world->gates[gate];
    if (g->got < g->need)
        return 0;
    if (g->need == 1 && g->opener == hart->id)
        return g->opened_at_cycles;
    return world_visible(world, g->opened_at_cycles);
}

void gate_wait(struct world *world, struct hart *hart, uint32_t gate)
{
    struct gate *g = &world->gates[gate];
    hart->blocked = true;
    if (hart->enlisted)
        return;                     /* still in the list after it served an interrupt */
    hart->enlisted = true;
    hart->next_waiter = g->waiter;
    g->waiter = hart->id + 1;
}

void gate_signal(struct world *world, struct hart *hart, uint32_t gate)
{
    struct gate *g = &world->gates[gate];
    assert(g->got < g->need);
    g->got++;
    g->opener = hart->id;
    if (hart->now_cycles > g->opened_at_cycles)
        g->opened_at_cycles = hart->now_cycles;
    if (g->got < g->need)
        return;
    while (g->waiter != 0) {
        struct hart *waiter = &world->harts[g->waiter - 1];
        g->waiter = waiter->next_waiter;
        waiter->next_waiter = 0;
        waiter->enlisted = false;
        if (waiter->blocked)
            world_wait(world, waiter, hart->now_cycles);    /* it looks when it can pass */
    }
}

void gate_publish(struct world *world, struct hart *hart)
{
    if (hart->published || hart->item >= hart->items_nr)
        return;
    const struct csim_item *item = &hart->items[hart->item];
    if (item->kind != CSIM_ITEM_MAP)
        return;
    hart->published = true;
    if (item->signal != 0)
        gate_signal(world, hart, item->signal);
}
