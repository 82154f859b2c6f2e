/* params.c: limits of the run itself; the machine's translation is checked by the mmu, the ops by
 * the policy. A gate that can never open, or that waits in a circle, would only show as a deadlock
 * of the simulated machine, so it is refused here; so is work that would map over what the harts
 * stand on, or take forever to draw.
 */
#include "params.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "mmu.h"
#include "tables.h"
#include "world.h"

enum { PERMILLE = 1000, FOOTPRINT_PAGES_MAX = 1 << 20, ITEM_PAGES_MAX = 1 << 28, SLOTS_MAX = 64,
       HUGE_PAGES = 512, WINDOW_MAX = 1000000, EVENTS_MAX = 1 << 26,
       MMS_MAX = 1 << 17, FIXMAP_SLOTS_MAX = 64 };

#define MEGA UINT64_C(1000000)
#define TERA UINT64_C(1000000000000)
#define CYCLES_MAX (UINT64_C(1) << 48)

static enum csim_status refuse(struct csim_error *error, const char *field, const char *reason)
{
    snprintf(error->field, sizeof error->field, "%s", field);
    snprintf(error->reason, sizeof error->reason, "%s", reason);
    return CSIM_BAD_PARAM;
}

static enum csim_status check_shares(const struct csim_workload *w, struct csim_error *error)
{
    const struct { const char *field; uint32_t permille; } shares[] = {
        {"workload.kernel_trap_permille", w->kernel_trap_permille},
        {"workload.stack_permille", w->stack_permille},
        {"workload.remote_permille", w->remote_permille},
        {"workload.irqs_off_permille", w->irqs_off_permille},
    };
    uint64_t visits = (uint64_t)w->visit_text_permille + w->visit_linear_permille +
                      w->visit_stack_permille + w->visit_module_permille;
    uint64_t sizes = (uint64_t)w->pages_1_permille + w->pages_4_permille + w->pages_16_permille;
    if (visits > PERMILLE)
        return refuse(error, "workload.visit_*_permille", "the shares add up to more than 1000");
    if (sizes > PERMILLE)
        return refuse(error, "workload.pages_*_permille", "the shares add up to more than 1000");
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++)
        if (shares[i].permille > PERMILLE)
            return refuse(error, shares[i].field, "a share is at most 1000");
    return CSIM_OK;
}

/* Events are drawn one by one before the clock starts. */
static enum csim_status check_rates(const struct csim_workload *w, struct csim_error *error)
{
    const struct { const char *field; uint64_t per_tcycle; } rates[] = {
        {"workload.maps_per_tcycle", w->synthetic ? w->maps_per_tcycle : 0},
        {"workload.user_faults_per_tcycle", w->user_faults_per_tcycle},
        {"workload.ticks_per_tcycle", w->ticks_per_tcycle},
        {"workload.interrupts_per_tcycle", w->interrupts_per_tcycle},
        {"workload.speculative_walks_per_tcycle", w->speculative_walks_per_tcycle},
    };
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        if (rates[i].per_tcycle > TERA)
            return refuse(error, rates[i].field, "at most 10^12: one a cycle");
        if (rates[i].per_tcycle * (w->useful_cycles / MEGA) / MEGA > EVENTS_MAX)
            return refuse(error, rates[i].field, "more than 2^26 events in useful_cycles");
    }
    return CSIM_OK;
}

static enum csim_status check_footprints(const struct csim_workload *w, struct csim_error *error)
{
    const struct { const char *field; uint32_t pages; } footprints[] = {
        {"workload.text_pages", w->text_pages},
        {"workload.linear_pages", w->linear_pages},
        {"workload.user_pages", w->user_pages},
    };
    for (size_t i = 0; i < sizeof footprints / sizeof footprints[0]; i++)
        if (footprints[i].pages == 0 || footprints[i].pages > FOOTPRINT_PAGES_MAX)
            return refuse(error, footprints[i].field, "from 1 to 2^20");
    return CSIM_OK;
}

static enum csim_status check_workload(const struct csim_workload *w, struct csim_error *error)
{
    if (w->useful_cycles == 0 || w->useful_cycles > CYCLES_MAX)
        return refuse(error, "workload.useful_cycles", "from 1 to 2^48");
    if (w->visit_cycles == 0)
        return refuse(error, "workload.visit_cycles", "at least 1");
    if (w->synthetic > 1)
        return refuse(error, "workload.synthetic", "0 or 1");
    if (w->synthetic != 0 && w->maps_per_tcycle != 0 && w->lifetime_cycles == 0)
        return refuse(error, "workload.lifetime_cycles", "at least 1");
    if (w->stack_cache_slots > SLOTS_MAX)
        return refuse(error, "workload.stack_cache_slots", "at most 64");
    if (w->zipf_permille > 4 * PERMILLE)
        return refuse(error, "workload.zipf_permille", "at most 4000");
    enum csim_status status = check_footprints(w, error);
    if (status == CSIM_OK)
        status = check_shares(w, error);
    return status == CSIM_OK ? check_rates(w, error) : status;
}

static enum csim_status check_costs(const struct csim_machine *m, struct csim_error *error)
{
    uint64_t window = (uint64_t)m->store_drain_cycles + m->coherence_cycles;
    if (m->via < CSIM_VIA_SBI || m->via > CSIM_VIA_HW)
        return refuse(error, "machine.via", "sbi, imsic or hw");
    if (m->sbi_window_harts == 0)
        return refuse(error, "machine.sbi_window_harts", "at least 1");
    if (m->mhz == 0)
        return refuse(error, "machine.mhz", "at least 1");
    if (m->instruction_millicycles == 0)
        return refuse(error, "machine.instruction_millicycles", "at least 1");
    if (window > WINDOW_MAX)
        return refuse(error, "machine.coherence_cycles",
                      "with store_drain_cycles more than 10^6: every store in it is remembered");
    return CSIM_OK;
}

enum csim_status params_check(const struct csim_params *params, struct csim_error *error)
{
    memset(error, 0, sizeof *error);
    if (params->harts == 0 || params->harts > CSIM_HARTS_MAX)
        return refuse(error, "harts", "from 1 to 4096");
    if (params->nr_cpus < params->harts)
        return refuse(error, "nr_cpus", "a kernel built for fewer harts than there are");
    if (params->livelock_retries == 0)
        return refuse(error, "livelock_retries", "at least 1");
    enum csim_status status = check_costs(&params->machine, error);
    if (status == CSIM_OK)
        status = mmu_check_machine(&params->machine, error);
    return status == CSIM_OK ? check_workload(&params->workload, error) : status;
}

static enum csim_status refuse_item(struct csim_error *error, uint64_t index, const char *reason)
{
    snprintf(error->field, sizeof error->field, "items[%" PRIu64 "]", index);
    snprintf(error->reason, sizeof error->reason, "%s", reason);
    return CSIM_BAD_PARAM;
}

static bool within(const struct csim_item *item, uint64_t first, uint64_t end)
{
    uint64_t bytes = (uint64_t)item->pages << PAGE_SHIFT;
    return item->va >= first && item->va < end && bytes <= end - item->va;
}

/* Areas that mappings come and go in. */
static const char *check_mapping(const struct csim_params *params, const struct csim_item *item)
{
    struct csim_layout l;
    csim_layout(params->machine.levels, &l);
    if ((item->flags & CSIM_ITEM_HUGE) != 0 &&
        (item->va >> PAGE_SHIFT | item->pages) % HUGE_PAGES != 0)
        return "a huge mapping is made of whole 2 MiB pages";
    if (!within(item, l.vmalloc_first, l.vmalloc_end) &&
        !within(item, l.module_first, l.module_end) &&
        !within(item, l.vmemmap_first, l.vmemmap_end) &&
        !within(item, l.pci_io_first, l.pci_io_end))
        return "not in an area that mappings come and go in";
    return tables_has_own(params, item->va, item->pages) ? "over the harts' own stacks" : 0;
}

static const char *check_arg(const struct csim_params *params, const struct csim_item *item)
{
    bool maps = item->kind == CSIM_ITEM_MAP || item->kind == CSIM_ITEM_UNMAP;
    bool needs_pages = maps || item->kind == CSIM_ITEM_TOUCH || item->kind == CSIM_ITEM_FORGET;
    if (needs_pages && (item->pages == 0 || item->va == 0))
        return "an empty range";
    if (item->kind == CSIM_ITEM_SWITCH && item->va != 0 &&
        (item->pages == 0 || item->arg == 0 || item->arg > item->pages))
        return "a stack has pages, and at least one in use";
    if (item->kind == CSIM_ITEM_ONLINE && item->arg >= params->harts)
        return "no such hart to come online";
    if (item->kind == CSIM_ITEM_USER_FAULT && (item->arg == 0 || item->arg > FOOTPRINT_PAGES_MAX))
        return "a user fault maps from 1 to 2^20 pages";
    bool user = item->kind == CSIM_ITEM_USER_PROTECT || item->kind == CSIM_ITEM_USER_UNMAP;
    if (user && item->arg > FOOTPRINT_PAGES_MAX)
        return "more than 2^20 user pages";
    if (item->kind == CSIM_ITEM_USER_PROTECT && item->arg == 0)
        return "an empty range";
    if ((item->kind == CSIM_ITEM_SWITCH_MM && item->arg > MMS_MAX) ||
        (user && item->pages > MMS_MAX))
        return "more than 2^17 address spaces";
    if (item->kind == CSIM_ITEM_FIXMAP && (item->arg == 0 || item->arg > FIXMAP_SLOTS_MAX))
        return "from 1 to 64 fixmap slots";
    if (item->kind == CSIM_ITEM_IDLE && item->arg > CYCLES_MAX)
        return "a sleep of more than 2^48 cycles";
    return maps ? check_mapping(params, item) : 0;
}

static const char *check_item(const struct csim_params *params, const struct csim_item *item,
                              uint32_t gates_nr)
{
    if (item->hart >= params->harts)
        return "no such hart";
    if (item->kind >= CSIM_ITEM_KINDS)
        return "unknown kind";
    if (item->at_cycles >= params->workload.useful_cycles)
        return "after the end of the hart's budget";
    if ((item->va & ((UINT64_C(1) << PAGE_SHIFT) - 1)) != 0 || item->pages > ITEM_PAGES_MAX)
        return "not a range of pages";
    if ((item->wait != 0 && item->wait >= gates_nr) ||
        (item->signal != 0 && item->signal >= gates_nr))
        return "no such gate";
    return check_arg(params, item);
}

/* Latest order of a gate's signals in scratch[gate], their number in scratch[gates_nr + gate]. */
static void gather_signals(const struct csim_item *items, uint64_t items_nr, uint32_t gates_nr,
                           uint64_t *scratch)
{
    for (uint64_t i = 0; i < items_nr; i++) {
        uint32_t gate = items[i].signal;
        if (gate == 0)
            continue;
        scratch[gates_nr + gate]++;
        if (items[i].order > scratch[gate])
            scratch[gate] = items[i].order;
    }
}

enum csim_status params_check_items(const struct csim_params *params,
                                    const struct csim_item *items, uint64_t items_nr,
                                    const uint32_t *gates, uint32_t gates_nr, uint64_t *scratch,
                                    struct csim_error *error)
{
    memset(scratch, 0, (2 * (size_t)gates_nr + params->harts) * sizeof scratch[0]);
    for (uint64_t i = 0; i < items_nr; i++) {
        const char *wrong = check_item(params, &items[i], gates_nr);
        if (wrong != 0)
            return refuse_item(error, i, wrong);
        if (i > 0 && items[i - 1].order > items[i].order)
            return refuse_item(error, i, "items are given in their order");
        uint64_t *last_at = &scratch[2 * (size_t)gates_nr + items[i].hart];
        if (*last_at > items[i].at_cycles)
            return refuse_item(error, i, "comes before an earlier item of its hart");
        *last_at = items[i].at_cycles;
    }
    gather_signals(items, items_nr, gates_nr, scratch);
    for (uint32_t gate = 1; gate < gates_nr; gate++) {
        if (scratch[gates_nr + gate] == gates[gate])
            continue;
        snprintf(error->field, sizeof error->field, "gates[%" PRIu32 "]", gate);
        snprintf(error->reason, sizeof error->reason, "needs %" PRIu32 " signals, gets %" PRIu64,
                 gates[gate], scratch[gates_nr + gate]);
        return CSIM_BAD_PARAM;
    }
    for (uint64_t i = 0; i < items_nr; i++) {
        uint32_t gate = items[i].wait;
        if (gate != 0 && gates[gate] > 0 && scratch[gate] >= items[i].order)
            return refuse_item(error, i, "waits for an item that is not of an earlier order");
    }
    return CSIM_OK;
}
