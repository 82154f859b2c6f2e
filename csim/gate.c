/* gate.c: see gate.h. Waiters form a list through the harts, so that no memory is needed.
 *
 * A hart passes when it has seen every signal: its own at once, another's when a store of then
 * would have reached it. Of many signals the last one and the last one of another hart decide. */
#include "gate.h"

#include <assert.h>

uint64_t gate_passable_at(const struct world *world, const struct hart *hart, uint32_t gate)
{
    const struct gate *g = &world->gates[gate];
    if (g->got < g->need)
        return 0;
    if (g->got == 0)
        return world->start_cycles;
    if (g->last_hart != hart->id)
        return world_visible(world, g->last_at_cycles);
    if (!g->others)
        return g->last_at_cycles;
    uint64_t seen = world_visible(world, g->other_at_cycles);
    return seen > g->last_at_cycles ? seen : g->last_at_cycles;
}

/* Signals come in the order of time. */
static void note(struct gate *gate, uint32_t hart, uint64_t at_cycles)
{
    if (gate->got > 0 && gate->last_hart != hart) {
        gate->others = true;
        gate->other_at_cycles = gate->last_at_cycles;
    }
    gate->last_hart = hart;
    gate->last_at_cycles = at_cycles;
    gate->got++;
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
    world_log(world, hart, CSIM_LOG_PUBLISH, 0, gate, 0);
    hart->stored_at_cycles = hart->now_cycles;
    note(g, hart->id, hart->now_cycles);
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
