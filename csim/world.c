/* world.c: the few rules that every file above shares: frames, the next step, who pays. */
#include "world.h"

#include <assert.h>

#include "policy.h"

void world_verdict(struct world *world, const struct hart *hart, enum csim_verdict verdict,
                   uint64_t va)
{
    if (world->over)
        return;
    world->over = true;
    world->result->verdict = (uint32_t)verdict;
    world->result->verdict_hart = hart->id;
    world->result->verdict_at_cycles = hart->now_cycles - world->start_cycles;
    world->result->verdict_va = va;
}

struct frame *world_push(struct world *world, struct hart *hart, enum frame_kind kind,
                         enum origin origin)
{
    if (hart->depth == FRAMES_MAX) {
        world_verdict(world, hart, CSIM_STACK_OVERFLOW, hart->stack.va);
        return 0;
    }
    struct frame *frame = &hart->frames[hart->depth++];
    *frame = (struct frame){.kind = (uint8_t)kind, .origin = (uint8_t)origin,
                            .irqs_before = hart->irqs_on,
                            .started_at_cycles = hart->now_cycles};
    return frame;
}

void world_push_handler(struct world *world, struct hart *hart, enum csim_handler handler,
                        uint64_t va, uint32_t pages, enum origin origin)
{
    if (policy_handler(&world->program, world->ops, handler) == 0)
        return;
    struct frame *frame = world_push(world, hart, FRAME_HANDLER, origin);
    if (frame == 0)
        return;
    frame->handler = (uint8_t)handler;
    frame->pc = world->program.handler_at[handler];
    frame->va = va;
    frame->pages = pages;
}

struct frame *world_push_access(struct world *world, struct hart *hart, uint64_t va,
                                enum csim_access access)
{
    struct frame *frame = world_push(world, hart, FRAME_ACCESS, ORIGIN_WORK);
    if (frame == 0)
        return 0;
    frame->va = va;
    frame->access = (uint8_t)access;
    return frame;
}

void world_push_stack_store(struct world *world, struct hart *hart, uint32_t below)
{
    const struct range *stack = &hart->stack;
    uint32_t page = below < stack->pages ? stack->pages - 1 - below : 0;
    (void)world_push_access(world, hart, stack->va + ((uint64_t)page << PAGE_SHIFT), CSIM_STORE);
}

void world_pop(struct hart *hart)
{
    assert(hart->depth > 0);
    hart->irqs_on = hart->frames[--hart->depth].irqs_before;
}

void world_schedule(struct world *world, struct hart *hart, uint64_t at_cycles)
{
    event_schedule(&world->events, hart->id, at_cycles);
}

void world_wait(struct world *world, struct hart *hart, uint64_t at_cycles)
{
    hart->blocked = true;
    world_schedule(world, hart, at_cycles > hart->now_cycles ? at_cycles : hart->now_cycles);
}

static uint64_t *slot(struct csim_counters *counters, enum cause cause)
{
    switch (cause) {
    case CAUSE_BASE: return &counters->base_translation_cycles;
    case CAUSE_IDLE: return &counters->idle_cycles;
    case CAUSE_MAP_STORE: return &counters->map_store_cycles;
    case CAUSE_MARK: return &counters->mark_cycles;
    case CAUSE_EARLY_CHECK: return &counters->early_check_cycles;
    case CAUSE_LAZY_FAULT: return &counters->lazy_fault_cycles;
    case CAUSE_LOCAL_FENCE: return &counters->local_fence_cycles;
    case CAUSE_INITIATOR: return &counters->initiator_wait_cycles;
    case CAUSE_VICTIM: return &counters->victim_handler_cycles;
    case CAUSE_REFILL_MAP: return &counters->refill_map_cycles;
    case CAUSE_REFILL_LAZY: return &counters->refill_lazy_cycles;
    case CAUSE_REFILL_USER: return &counters->refill_user_cycles;
    case CAUSE_REFILL_PURGE: return &counters->refill_purge_cycles;
    case CAUSE_USER: return &counters->user_fence_cycles;
    case CAUSE_PURGE: return &counters->purge_cycles;
    case CAUSE_HANDOFF: return &counters->handoff_wait_cycles;
    }
    assert(0);
    return &counters->base_translation_cycles;
}

void world_charge(struct hart *hart, enum cause cause, uint64_t cycles)
{
    hart->now_cycles += cycles;
    if (!hart->done)
        *slot(&hart->counters, cause) += cycles;
}

enum cause world_cause(uint8_t origin, enum cause own)
{
    switch ((enum origin)origin) {
    case ORIGIN_MAP: return own;
    case ORIGIN_TRAP: return CAUSE_EARLY_CHECK;
    case ORIGIN_FAULT: return CAUSE_LAZY_FAULT;
    case ORIGIN_USER: return CAUSE_USER;
    case ORIGIN_PURGE: return CAUSE_PURGE;
    case ORIGIN_WORK: return CAUSE_BASE;
    }
    return own;
}
