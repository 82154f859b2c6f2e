/* shootdown.c: costs are the terms of facts in the machine's table: a fixed part, one send per
 * target in sequence, delivery, handler, fence, acknowledgement.
 *
 * Source of the mechanism: OpenSBI 4e79fd7de, lib/sbi/sbi_tlb.c and sbi_ipi.c (windows of 64 hart
 * ids, sequential sends, widening above the range limit, a sender that serves its own queue); linux
 * 6.12, arch/riscv/mm/tlbflush.c, on_each_cpu_mask for S-mode IPIs.
 *
 * A request that arrives where one of the firmware's still waits, and contains it or lies in it,
 * is merged: one handler and one fence serve both, each sender gets its acknowledgement. OpenSBI
 * merges when it enqueues, one delivery earlier (sbi_tlb.c, sbi_fifo_inplace_update). A queue has
 * as many entries as there are harts, and a sender waits for its acknowledgements before it sends
 * again, so it is never full and nobody retries.
 */
#include "shootdown.h"

#include <assert.h>

#include "fence.h"
#include "histogram.h"

enum shoot_phase { SHOOT_CALL, SHOOT_SEND, SHOOT_WAIT };
enum serve_phase { SERVE_ENTER, SERVE_CHECKED, SERVE_SAVED, SERVE_FENCED };

bool shootdown_widens(const struct csim_machine *machine, uint32_t pages)
{
    return pages == 0 || ((uint64_t)pages << PAGE_SHIFT) > machine->sbi_range_limit_bytes;
}

static bool named(const struct world *world, const struct hart *hart, uint8_t who, uint32_t id)
{
    bool of_user = who == CSIM_WHO_MM_MASK || who == CSIM_WHO_RUNNING;
    if (id == hart->id && !of_user)
        return who != CSIM_WHO_OTHERS;
    switch ((enum csim_who)who) {
    case CSIM_WHO_ALL:
    case CSIM_WHO_ONLINE:
    case CSIM_WHO_OTHERS: return world->online[id] != 0;
    case CSIM_WHO_MM_MASK: return mm_ran_on(&world->mms, hart->mm, id);
    case CSIM_WHO_RUNNING: return mm_runs_on(&world->mms, hart->mm, id);
    case CSIM_WHO_OWN:
    case CSIM_WHO_FIRST_N: break;
    }
    return false;
}

/* The mask is read once, as the kernel does: a hart that joins it later fences when it switches. */
static void choose_targets(struct world *world, const struct hart *hart, uint32_t slot)
{
    uint64_t *mask = &world->shoot_masks[(size_t)slot * world->mms.words];
    for (uint32_t i = 0; i < world->mms.words; i++)
        mask[i] = 0;
    for (uint32_t id = 0; id < world->harts_nr; id++)
        if (named(world, hart, world->shoots[slot].who, id))
            mask[id / 64] |= UINT64_C(1) << id % 64;
}

void shootdown_begin(struct world *world, struct hart *hart, const struct csim_op *op, uint64_t va,
                     uint32_t pages, enum origin origin)
{
    if (hart->shoots_open == SHOOTS_MAX) {
        world_verdict(world, hart, CSIM_STACK_OVERFLOW, va);
        return;
    }
    struct frame *frame = world_push(world, hart, FRAME_SHOOT, origin);
    if (frame == 0)
        return;
    frame->slot = hart->id * SHOOTS_MAX + hart->shoots_open++;
    world->shoots[frame->slot] = (struct shoot){
        .va = va,
        .pages = pages,
        .threshold_pages = op->n,
        .via = op->c == CSIM_VIA_MACHINE ? (uint8_t)world->params.machine.via : op->c,
        .origin = (uint8_t)origin,
        .by_asid = op->d != 0,
        .who = op->b,
        .asid = world_asid(world, hart),
    };
    frame->phase = SHOOT_CALL;
    frame->index = 0;
    choose_targets(world, hart, frame->slot);
}

static bool targets(const struct world *world, uint32_t slot, uint32_t id)
{
    return (world->shoot_masks[(size_t)slot * world->mms.words + id / 64] >> id % 64 & 1) != 0;
}

static struct fence_extent extent_of(const struct world *world, const struct shoot *shoot)
{
    struct fence_extent extent = {.va = shoot->va,
                                  .pages = shoot->pages,
                                  .threshold_pages = shoot->threshold_pages,
                                  .asid = shoot->asid,
                                  .by_asid = shoot->by_asid,
                                  .firmware = shoot->via == CSIM_VIA_SBI};
    if (shoot->via == CSIM_VIA_SBI) {
        extent.threshold_pages = UINT32_MAX;
        if (shootdown_widens(&world->params.machine, shoot->pages))
            extent.pages = 0;
    }
    return extent;
}

static struct fence_extent for_another(const struct world *world, const struct shoot *shoot)
{
    struct fence_extent extent = extent_of(world, shoot);
    extent.for_another = true;
    return extent;
}

static uint32_t window_end(const struct world *world, const struct shoot *shoot, uint32_t index)
{
    if (shoot->via != CSIM_VIA_SBI)
        return world->harts_nr;
    uint32_t window = world->params.machine.sbi_window_harts;
    uint32_t end = (index / window + 1) * window;
    return end < world->harts_nr ? end : world->harts_nr;
}

static uint64_t call_cycles(const struct world *world, const struct shoot *shoot, uint32_t nr)
{
    const struct csim_machine *m = &world->params.machine;
    switch ((enum csim_via)shoot->via) {
    case CSIM_VIA_SBI: return (uint64_t)m->ecall_cycles + m->sbi_fixed_cycles;
    case CSIM_VIA_IMSIC: return m->imsic_fixed_cycles;
    case CSIM_VIA_HW: return m->hw_fixed_cycles + (uint64_t)nr * m->hw_per_hart_cycles;
    case CSIM_VIA_MACHINE: break;
    }
    return 0;
}

/* Enters the kernel's or the firmware's sending loop for the window that `frame->index` is in. */
static void call(struct world *world, struct hart *hart, struct frame *frame)
{
    struct shoot *shoot = &world->shoots[frame->slot];
    uint32_t nr = 0;
    for (uint32_t id = frame->index; id < window_end(world, shoot, frame->index); id++)
        nr += targets(world, frame->slot, id);
    struct csim_counters *counters = &hart->counters;
    if (nr == 0) {              /* a window without targets costs no call */
        frame->index = window_end(world, shoot, frame->index);
        frame->phase = SHOOT_WAIT;
        return;
    }
    counters->remote_fence_calls++;
    counters->remote_fence_targets += nr;
    if (frame->origin == ORIGIN_USER) {
        counters->remote_user_calls++;
        counters->remote_user_targets += nr;
    }
    world_log(world, hart, CSIM_LOG_SEND, shoot->va, shoot->pages, shoot->via);
    if (shoot->via == CSIM_VIA_SBI)
        counters->fence_requests += shoot->pages == 0 ? 1 : shoot->pages;
    world_charge(hart, world_cause(frame->origin, CAUSE_INITIATOR),
                 call_cycles(world, shoot, nr));
    frame->phase = SHOOT_SEND;
    frame->pc = window_end(world, shoot, frame->index);
}

static void send(struct world *world, struct hart *hart, struct frame *frame)
{
    const struct csim_machine *m = &world->params.machine;
    struct shoot *shoot = &world->shoots[frame->slot];
    enum cause cause = world_cause(frame->origin, CAUSE_INITIATOR);
    while (frame->index < frame->pc && !targets(world, frame->slot, frame->index))
        frame->index++;
    if (frame->index == frame->pc) {
        frame->phase = SHOOT_WAIT;
        return;
    }
    uint32_t id = frame->index++;
    if (id == hart->id) {
        uint64_t cycles = fence_execute(world, hart, extent_of(world, shoot),
                                        (enum origin)frame->origin);
        world_charge(hart, cause, cycles);
        return;
    }
    bool sbi = shoot->via == CSIM_VIA_SBI;
    if (shoot->via == CSIM_VIA_HW) {
        shoot->pending++;
        event_push(&world->events, hart->now_cycles, id, EVENT_BROADCAST, frame->slot);
        return;
    }
    world_charge(hart, cause, sbi ? m->sbi_send_cycles : m->imsic_send_cycles);
    shoot->pending++;
    hart->counters.ipis++;
    uint64_t deliver = sbi ? m->sbi_deliver_cycles : m->imsic_deliver_cycles;
    event_push(&world->events, hart->now_cycles + deliver, id, EVENT_IPI, frame->slot);
}

void shootdown_step(struct world *world, struct hart *hart, struct frame *frame)
{
    struct shoot *shoot = &world->shoots[frame->slot];
    switch ((enum shoot_phase)frame->phase) {
    case SHOOT_CALL:
        call(world, hart, frame);
        return;
    case SHOOT_SEND:
        send(world, hart, frame);
        return;
    case SHOOT_WAIT:
        break;
    }
    if (shoot->pending > 0) {
        hart->blocked = true;
        return;
    }
    if (shoot->ack_at_cycles > hart->now_cycles) {
        world_wait(world, hart, shoot->ack_at_cycles);
        return;
    }
    if (frame->index < world->harts_nr) {
        frame->phase = SHOOT_CALL;
        return;
    }
    world_log(world, hart, CSIM_LOG_WAITED, shoot->va, shoot->pages, 0);
    hart->shoots_open--;
    world_pop(hart);
}

void shootdown_acked(struct world *world, uint32_t slot, uint64_t at_cycles)
{
    const struct csim_machine *m = &world->params.machine;
    struct shoot *shoot = &world->shoots[slot];
    struct hart *sender = &world->harts[slot / SHOOTS_MAX];
    uint64_t cost = shoot->via == CSIM_VIA_SBI ? m->sbi_ack_cycles
                    : shoot->via == CSIM_VIA_IMSIC ? m->imsic_ack_cycles : 0;
    assert(shoot->pending > 0);
    if (at_cycles > shoot->ack_at_cycles)
        shoot->ack_at_cycles = at_cycles;
    shoot->ack_at_cycles += cost;
    shoot->pending--;
    if (shoot->pending == 0 && sender->blocked)
        world_wait(world, sender, at_cycles);               /* it looks when it has seen them */
}

void shootdown_broadcast(struct world *world, struct hart *hart, uint32_t slot,
                         uint64_t at_cycles)
{
    struct shoot *shoot = &world->shoots[slot];
    trace_put(world->trace, (struct csim_log_entry){
        .at_cycles = at_cycles, .va = shoot->va, .value = slot / SHOOTS_MAX, .hart = hart->id,
        .kind = CSIM_LOG_FIRMWARE});                /* the hart itself may be further */
    (void)fence_execute(world, hart, for_another(world, shoot), (enum origin)shoot->origin);
    shootdown_acked(world, slot, world->harts[slot / SHOOTS_MAX].now_cycles);
}

uint32_t shootdown_inbox_room(const struct world *world) { return world->harts_nr * SHOOTS_MAX; }

/* Whether a fence for `outer` is one for `inner`. */
static bool contains(const struct world *world, uint32_t outer, uint32_t inner)
{
    struct fence_extent a = extent_of(world, &world->shoots[outer]);
    struct fence_extent b = extent_of(world, &world->shoots[inner]);
    if (a.by_asid != b.by_asid || (a.by_asid && a.asid != b.asid))
        return false;
    if (a.pages == 0 || b.pages == 0)
        return a.pages == 0;
    return a.va <= b.va && b.va + ((uint64_t)b.pages << PAGE_SHIFT) <=
                               a.va + ((uint64_t)a.pages << PAGE_SHIFT);
}

static bool merge(const struct world *world, struct hart *hart, uint32_t slot)
{
    for (uint32_t i = 0; i < hart->inbox_nr; i++) {
        uint32_t at = (hart->inbox_first + i) % shootdown_inbox_room(world);
        if (world->shoots[hart->inbox[at]].via != CSIM_VIA_SBI)
            continue;
        if (contains(world, slot, hart->inbox_extent[at]))
            hart->inbox_extent[at] = slot;
        else if (!contains(world, hart->inbox_extent[at], slot))
            continue;
        hart->merged_next[slot] = hart->inbox_merged[at];
        hart->inbox_merged[at] = slot + 1;
        hart->counters.requests_merged++;
        return true;
    }
    return false;
}

void shootdown_arrive(struct world *world, struct hart *hart, uint32_t slot, uint64_t at_cycles)
{
    assert(hart->inbox_nr < shootdown_inbox_room(world));
    if (world->shoots[slot].via == CSIM_VIA_SBI && merge(world, hart, slot))
        return;
    uint32_t at = (hart->inbox_first + hart->inbox_nr++) % shootdown_inbox_room(world);
    hart->inbox[at] = slot;
    hart->inbox_extent[at] = slot;
    hart->inbox_merged[at] = 0;
    hart->inbox_at_cycles[at] = at_cycles;
}

/* Whether the top frame lets an interrupt of this way in, and whether the sender's wait serves
 * it. */
static bool interruptible(const struct world *world, const struct hart *hart, uint8_t via,
                          bool *inline_service)
{
    *inline_service = false;
    if (via == CSIM_VIA_IMSIC && !hart->irqs_on)
        return false;
    if (hart->depth == 0)
        return true;
    const struct frame *top = &hart->frames[hart->depth - 1];
    bool in_firmware = false;
    if (top->kind == FRAME_SERVE)
        in_firmware = world->shoots[top->index].via == CSIM_VIA_SBI;
    if (top->kind == FRAME_SHOOT && world->shoots[top->slot].via == CSIM_VIA_SBI) {
        if (top->phase == SHOOT_WAIT && via == CSIM_VIA_SBI) {
            *inline_service = true;
            return true;
        }
        in_firmware = true;
    }
    return !in_firmware;
}

/* An idle hart wakes; a walk in flight is lost to the interrupt. */
static void disturb(struct world *world, struct hart *hart, const struct frame *frame)
{
    if (hart->mmu.walking)
        mmu_abort(&hart->mmu);
    if (!hart->asleep)
        return;
    hart->asleep = false;
    hart->counters.idle_wakes++;
    world_charge(hart, world_cause(frame->origin, CAUSE_VICTIM),
                 world->params.machine.idle_wake_cycles);
}

bool shootdown_take(struct world *world, struct hart *hart)
{
    if (hart->inbox_nr == 0)
        return false;
    uint32_t slot = hart->inbox[hart->inbox_first];
    bool inline_service = false;
    if (!interruptible(world, hart, world->shoots[slot].via, &inline_service))
        return false;
    uint32_t covers = hart->inbox_extent[hart->inbox_first];
    uint32_t merged = hart->inbox_merged[hart->inbox_first];
    uint64_t arrived = hart->inbox_at_cycles[hart->inbox_first];
    hart->counters.ipi_delay_cycles += hart->now_cycles > arrived ? hart->now_cycles - arrived : 0;
    hart->inbox_nr--;
    hart->inbox_first = hart->inbox_nr == 0 ? 0 : (hart->inbox_first + 1) %
                                                      shootdown_inbox_room(world);
    bool from_user = hart->depth == 0 && hart->stream.user;
    struct frame *frame = world_push(world, hart, FRAME_SERVE,
                                     (enum origin)world->shoots[slot].origin);
    if (frame == 0)
        return false;
    frame->index = slot;
    frame->slot = covers;
    frame->pc = merged;
    frame->inline_service = inline_service;
    frame->interrupt = true;
    frame->from_user = from_user;
    frame->sscratch_zero = !from_user;
    frame->scause = 1;          /* supervisor software interrupt */
    disturb(world, hart, frame);
    if (world->shoots[slot].via == CSIM_VIA_IMSIC) {
        hart->irqs_on = false;      /* the trap clears sstatus.SIE */
        world_log(world, hart, CSIM_LOG_TAKE, world->shoots[slot].va, slot / SHOOTS_MAX, 0);
    }
    return true;
}

void shootdown_ack(struct world *world, struct hart *hart, struct frame *serve)
{
    if (serve->acked)
        return;
    serve->acked = true;
    world_log(world, hart, CSIM_LOG_ACK, 0, serve->index / SHOOTS_MAX, 0);
    event_push(&world->events, hart->now_cycles, serve->index / SHOOTS_MAX, EVENT_ACK,
               serve->index);
    for (uint32_t next = serve->pc; next != 0; next = hart->merged_next[next - 1]) {
        world_log(world, hart, CSIM_LOG_ACK, 0, (next - 1) / SHOOTS_MAX, 0);
        event_push(&world->events, hart->now_cycles, (next - 1) / SHOOTS_MAX, EVENT_ACK, next - 1);
    }
}

static void leave(struct world *world, struct hart *hart, struct frame *frame)
{
    shootdown_ack(world, hart, frame);
    uint64_t stall = hart->now_cycles - frame->started_at_cycles;
    if (!frame->inline_service && !hart->done)
        world->result->histogram[CSIM_HIST_STALL][histogram_bucket(stall)]++;
    world_pop(hart);
}

static void serve_firmware(struct world *world, struct hart *hart, struct frame *frame)
{
    const struct shoot *shoot = &world->shoots[frame->slot];
    enum cause cause = world_cause(frame->origin, CAUSE_VICTIM);
    if (frame->phase == SERVE_ENTER) {
        if (!frame->inline_service)
            world_charge(hart, cause, world->params.machine.sbi_handler_cycles);
        frame->phase = SERVE_CHECKED;
        return;
    }
    world_log(world, hart, CSIM_LOG_FIRMWARE, shoot->va, frame->index / SHOOTS_MAX, 0);
    for (uint32_t next = frame->pc; next != 0; next = hart->merged_next[next - 1])
        world_log(world, hart, CSIM_LOG_FIRMWARE, world->shoots[next - 1].va,
                  (next - 1) / SHOOTS_MAX, 0);
    uint64_t cycles = fence_execute(world, hart, for_another(world, shoot),
                                    (enum origin)frame->origin);
    world_charge(hart, cause, cycles);
    leave(world, hart, frame);
}

void shootdown_serve_step(struct world *world, struct hart *hart, struct frame *frame)
{
    const struct csim_machine *m = &world->params.machine;
    const struct shoot *shoot = &world->shoots[frame->index];
    if (shoot->via == CSIM_VIA_SBI) {
        serve_firmware(world, hart, frame);
        return;
    }
    enum cause cause = world_cause(frame->origin, CAUSE_VICTIM);
    switch ((enum serve_phase)frame->phase) {
    case SERVE_ENTER:
        frame->entering = true;
        frame->phase = SERVE_CHECKED;
        world_charge(hart, cause, m->trap_entry_cycles);
        world_push_handler(world, hart, CSIM_EARLY_TRAP, 0, 0, ORIGIN_TRAP);
        return;
    case SERVE_CHECKED:
        frame->phase = SERVE_SAVED;
        world_push_stack_store(world, hart, 0);
        return;
    case SERVE_SAVED:
        frame->phase = SERVE_FENCED;
        frame->entering = false;
        world_charge(hart, cause, m->imsic_handler_cycles);
        world_push_handler(world, hart, CSIM_IPI, shoot->va, shoot->pages,
                           (enum origin)frame->origin);
        return;
    case SERVE_FENCED:
        shootdown_ack(world, hart, frame);
        world_log(world, hart, CSIM_LOG_SRET, 0, 0, 0);
        world_charge(hart, cause, m->sret_cycles);
        leave(world, hart, frame);
        return;
    }
}
