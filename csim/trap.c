/* trap.c: handle_exception in its order: swap with sscratch, the policy's check, the overflow test
 * and the register save onto the kernel stack (a store through the TLB), sscratch cleared, the C
 * handler, the return.
 *
 * Source: linux 6.12, arch/riscv/kernel/entry.S. sscratch is nonzero from the first instruction
 * until after the save: a fault in that window is taken for one from user mode, so the check is
 * skipped. A fault that nobody resolves nests until the frames run out, which is a verdict, not a
 * hang.
 *
 * A trap of the workload may be an access that is bound to fault: a load from user memory, a probe
 * of a kernel address. Where the check finds the hart's mark it retries such an access like any
 * other, and the trap comes again. A probe of a kernel address that the check does not resolve is
 * asked of the policy's C handler too; what that does not resolve, the exception table fixes.
 */
#include "trap.h"

#include "rv.h"

enum trap_phase { TRAP_ENTERED, TRAP_CHECKED, TRAP_SAVED, TRAP_HANDLED };

/* csrrw, bnez, csrr before the check begins */
enum { PROLOGUE_INSTRUCTIONS = 3 };

static bool in_window(const struct hart *hart)
{
    for (uint32_t i = 0; i < hart->depth; i++)
        if (hart->frames[i].entering)
            return true;
    return false;
}

static uint64_t entry_cycles(const struct world *world)
{
    return world->params.machine.trap_entry_cycles +
           world_instructions(world, PROLOGUE_INSTRUCTIONS);
}

static struct frame *enter(struct world *world, struct hart *hart, uint32_t scause, uint64_t va,
                           enum origin origin)
{
    bool window = in_window(hart);
    struct frame *frame = world_push(world, hart, FRAME_TRAP, origin);
    if (frame == 0)
        return 0;
    frame->scause = scause;
    frame->va = va;
    frame->sscratch_zero = !window;
    frame->entering = true;
    hart->irqs_on = false;
    return frame;
}

static void log_entry(const struct world *world, const struct hart *hart,
                      const struct frame *frame)
{
    uint64_t interrupt = frame->interrupt ? RV_SCAUSE_INTERRUPT : 0;
    world_log(world, hart, CSIM_LOG_TRAP, frame->va, frame->scause | interrupt, 0);
}

void trap_fault(struct world *world, struct hart *hart, uint32_t scause, uint64_t va)
{
    struct frame *frame = enter(world, hart, scause, va, ORIGIN_FAULT);
    if (frame == 0)
        return;
    hart->counters.traps_kernel_fault++;
    log_entry(world, hart, frame);
    world_charge(hart, CAUSE_LAZY_FAULT, entry_cycles(world));
}

void trap_of_work(struct world *world, struct hart *hart, uint64_t scause, uint64_t stval,
                  bool from_user)
{
    uint32_t code = (uint32_t)(scause & ~RV_SCAUSE_INTERRUPT);
    struct frame *frame = enter(world, hart, code, stval, ORIGIN_TRAP);
    if (frame == 0)
        return;
    frame->interrupt = (scause & RV_SCAUSE_INTERRUPT) != 0;
    frame->from_user = from_user;
    frame->sscratch_zero = frame->sscratch_zero && !from_user;
    hart->counters.traps_interrupt += frame->interrupt;
    hart->counters.traps_user += from_user;
    log_entry(world, hart, frame);
}

/* The save: a store to the top page of the current stack. */
static void save(struct world *world, struct hart *hart, struct frame *trap)
{
    const struct csim_machine *m = &world->params.machine;
    if (trap->origin == ORIGIN_FAULT)
        world_charge(hart, CAUSE_LAZY_FAULT, world_instructions(world, m->trap_save_instructions));
    world_push_stack_store(world, hart, 0);
}

/* Back to the access. One of the workload's own faults again. */
static void resolved(struct world *world, struct hart *hart, struct frame *trap)
{
    enum cause cause = world_cause(trap->origin, CAUSE_LAZY_FAULT);
    world_log(world, hart, CSIM_LOG_SRET, trap->va, 0, 0);
    world_charge(hart, cause, world->params.machine.sret_cycles);
    hart->counters.retries++;
    if (trap->origin == ORIGIN_FAULT) {
        world_pop(hart);
        return;
    }
    world_charge(hart, cause, entry_cycles(world));
    trap->phase = TRAP_ENTERED;
    log_entry(world, hart, trap);
    if (1 + ++trap->pages > world->params.livelock_retries)     /* faults, the first one too */
        world_verdict(world, hart, CSIM_LIVELOCK, trap->va);
}

static void check(struct world *world, struct hart *hart, struct frame *frame)
{
    hart->trap_result = TRAP_FALL_THROUGH;
    frame->phase = TRAP_CHECKED;
    if (frame->sscratch_zero)
        hart->counters.early_checks++;
    world_push_handler(world, hart, CSIM_EARLY_TRAP, frame->va, 1, (enum origin)frame->origin);
}

static void leave(const struct world *world, struct hart *hart, const struct frame *frame)
{
    world_log(world, hart, CSIM_LOG_SRET, frame->va, 0, 0);
    world_pop(hart);
}

/* Whether the C handler is the policy's: a page fault on a kernel address. */
static bool is_kernel_fault(const struct frame *frame)
{
    return rv_is_page_fault(frame->scause) && !frame->interrupt && !frame->from_user &&
           (int64_t)frame->va < 0;
}

static void handle_fault(struct world *world, struct hart *hart, struct frame *frame)
{
    hart->counters.kernel_faults_c++;
    frame->phase = TRAP_HANDLED;
    hart->trap_result = TRAP_FAIL;
    world_push_handler(world, hart, CSIM_KERNEL_FAULT, frame->va, 1, (enum origin)frame->origin);
}

void trap_step(struct world *world, struct hart *hart, struct frame *frame)
{
    switch ((enum trap_phase)frame->phase) {
    case TRAP_ENTERED:
        check(world, hart, frame);
        return;
    case TRAP_CHECKED:
        if (hart->trap_result == TRAP_RETRY && !frame->interrupt) {
            hart->counters.early_checks_retried++;
            resolved(world, hart, frame);
            return;
        }
        frame->phase = TRAP_SAVED;
        save(world, hart, frame);
        return;
    case TRAP_SAVED:
        frame->entering = false;
        if (is_kernel_fault(frame))
            handle_fault(world, hart, frame);
        else
            leave(world, hart, frame);      /* the C handler is the workload's */
        return;
    case TRAP_HANDLED:
        if (hart->trap_result != TRAP_RETRY) {
            world_log(world, hart, CSIM_LOG_FAIL, frame->va, 0, 0);
            if (frame->origin == ORIGIN_FAULT)
                world_verdict(world, hart, CSIM_OOPS, frame->va);
            else
                world_pop(hart);   /* fixed up */
            return;
        }
        world_charge(hart, world_cause(frame->origin, CAUSE_LAZY_FAULT),
                     world_instructions(world, world->params.machine.trap_exit_instructions));
        resolved(world, hart, frame);
        return;
    }
}
