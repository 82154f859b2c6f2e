/* The door: every refusal has its row, and beside it the nearest value that is let in. */
#include "params.h"

#include <stddef.h>
#include <string.h>

#include "table.h"

#define FIELD(name) offsetof(struct csim_params, name), sizeof(((struct csim_params *)0)->name)
#define VMALLOC UINT64_C(0xffffffc600000000)
#define OWN (VMALLOC + (UINT64_C(32) << 30))        /* the harts' own stacks */
#define BUDGET UINT64_C(1000000)

enum { GATES = 3, ITEMS = 4, HARTS = 4, SCRATCH = 2 * GATES + HARTS };

static struct csim_params valid(void)
{
    struct csim_array array = {.sets = 1, .ways = 4, .sectors = 1, .levels = 1};
    return (struct csim_params){
        .harts = HARTS, .nr_cpus = 64, .livelock_retries = 10,
        .workload = {.useful_cycles = BUDGET, .visit_cycles = 10, .synthetic = 1,
                     .maps_per_tcycle = 1000, .lifetime_cycles = 10, .text_pages = 1,
                     .linear_pages = 1, .user_pages = 1},
        .machine = {.mhz = 1000, .levels = 3, .l1i = {array}, .l1d = {array}, .walkers = 1,
                    .via = CSIM_VIA_SBI, .sbi_window_harts = 64, .instruction_millicycles = 1000},
    };
}

/* ---- fields ---- */

static const struct {
    const char *name;
    size_t at, size;
    uint64_t refused, taken;
    const char *field, *reason;
} fields[] = {
    {"no harts", FIELD(harts), 0, 1, "harts", "from 1 to 4096"},
    {"too many harts", FIELD(harts), 4097, 4, "harts", "from 1 to 4096"},
    {"a kernel for fewer", FIELD(nr_cpus), 3, 4, "nr_cpus",
     "a kernel built for fewer harts than there are"},
    {"never patient", FIELD(livelock_retries), 0, 1, "livelock_retries", "at least 1"},
    {"no way to other harts", FIELD(machine.via), CSIM_VIA_MACHINE, CSIM_VIA_HW, "machine.via",
     "sbi, imsic or hw"},
    {"an unknown way", FIELD(machine.via), 4, CSIM_VIA_IMSIC, "machine.via", "sbi, imsic or hw"},
    {"an empty window", FIELD(machine.sbi_window_harts), 0, 1, "machine.sbi_window_harts",
     "at least 1"},
    {"no clock", FIELD(machine.mhz), 0, 1, "machine.mhz", "at least 1"},
    {"instructions for nothing", FIELD(machine.instruction_millicycles), 0, 1,
     "machine.instruction_millicycles", "at least 1"},
    {"a window too wide to remember", FIELD(machine.coherence_cycles), 1000001, 1000000,
     "machine.coherence_cycles",
     "with store_drain_cycles more than 10^6: every store in it is remembered"},
    {"the same by the drain", FIELD(machine.store_drain_cycles), UINT32_MAX, 1000000,
     "machine.coherence_cycles",
     "with store_drain_cycles more than 10^6: every store in it is remembered"},
    {"what the mmu refuses", FIELD(machine.levels), 2, 5, "machine.levels",
     "3 (Sv39), 4 (Sv48) or 5 (Sv57)"},
    {"no budget", FIELD(workload.useful_cycles), 0, 1, "workload.useful_cycles",
     "from 1 to 2^48"},
    {"an endless budget", FIELD(workload.useful_cycles), (UINT64_C(1) << 48) + 1,
     UINT64_C(1) << 48, "workload.useful_cycles", "from 1 to 2^48"},
    {"visits of no length", FIELD(workload.visit_cycles), 0, 1, "workload.visit_cycles",
     "at least 1"},
    {"half synthetic", FIELD(workload.synthetic), 2, 1, "workload.synthetic", "0 or 1"},
    {"no text", FIELD(workload.text_pages), 0, 1, "workload.text_pages", "from 1 to 2^20"},
    {"too much text", FIELD(workload.text_pages), (1 << 20) + 1, 1 << 20, "workload.text_pages",
     "from 1 to 2^20"},
    {"no linear map", FIELD(workload.linear_pages), 0, 1, "workload.linear_pages",
     "from 1 to 2^20"},
    {"too much linear map", FIELD(workload.linear_pages), (1 << 20) + 1, 1 << 20,
     "workload.linear_pages", "from 1 to 2^20"},
    {"no user pages", FIELD(workload.user_pages), 0, 1, "workload.user_pages", "from 1 to 2^20"},
    {"too many user pages", FIELD(workload.user_pages), (1 << 20) + 1, 1 << 20,
     "workload.user_pages", "from 1 to 2^20"},
    {"maps without a life", FIELD(workload.lifetime_cycles), 0, 1, "workload.lifetime_cycles",
     "at least 1"},
    {"a cache of many stacks", FIELD(workload.stack_cache_slots), 65, 64,
     "workload.stack_cache_slots", "at most 64"},
    {"too steep a law", FIELD(workload.zipf_permille), 4001, 4000, "workload.zipf_permille",
     "at most 4000"},
    {"text beyond all visits", FIELD(workload.visit_text_permille), 1001, 1000,
     "workload.visit_*_permille", "the shares add up to more than 1000"},
    {"linear map beyond all visits", FIELD(workload.visit_linear_permille), 1001, 1000,
     "workload.visit_*_permille", "the shares add up to more than 1000"},
    {"stack beyond all visits", FIELD(workload.visit_stack_permille), UINT32_MAX, 1000,
     "workload.visit_*_permille", "the shares add up to more than 1000"},
    {"areas beyond all visits", FIELD(workload.visit_module_permille), 1001, 1000,
     "workload.visit_*_permille", "the shares add up to more than 1000"},
    {"sizes beyond all", FIELD(workload.pages_1_permille), 1001, 1000,
     "workload.pages_*_permille", "the shares add up to more than 1000"},
    {"four pages beyond all", FIELD(workload.pages_4_permille), UINT32_MAX, 1000,
     "workload.pages_*_permille", "the shares add up to more than 1000"},
    {"16 pages beyond all", FIELD(workload.pages_16_permille), 1001, 1000,
     "workload.pages_*_permille", "the shares add up to more than 1000"},
    {"kernel traps", FIELD(workload.kernel_trap_permille), 1001, 1000,
     "workload.kernel_trap_permille", "a share is at most 1000"},
    {"stacks", FIELD(workload.stack_permille), 1001, 1000, "workload.stack_permille",
     "a share is at most 1000"},
    {"remote use", FIELD(workload.remote_permille), 1001, 1000, "workload.remote_permille",
     "a share is at most 1000"},
    {"masked maps", FIELD(workload.irqs_off_permille), 1001, 1000, "workload.irqs_off_permille",
     "a share is at most 1000"},
    {"maps", FIELD(workload.maps_per_tcycle), UINT64_C(1000000000001), UINT64_C(1000000000000),
     "workload.maps_per_tcycle", "at most 10^12: one a cycle"},
    {"user faults", FIELD(workload.user_faults_per_tcycle), UINT64_MAX, UINT64_C(1000000000000),
     "workload.user_faults_per_tcycle", "at most 10^12: one a cycle"},
    {"ticks", FIELD(workload.ticks_per_tcycle), UINT64_C(1000000000001), UINT64_C(1000000000000),
     "workload.ticks_per_tcycle", "at most 10^12: one a cycle"},
    {"interrupts", FIELD(workload.interrupts_per_tcycle), UINT64_C(1000000000001),
     UINT64_C(1000000000000), "workload.interrupts_per_tcycle", "at most 10^12: one a cycle"},
    {"speculation", FIELD(workload.speculative_walks_per_tcycle), UINT64_C(1000000000001),
     UINT64_C(1000000000000), "workload.speculative_walks_per_tcycle",
     "at most 10^12: one a cycle"},
};

static void put(struct csim_params *params, size_t at, size_t size, uint64_t value)
{
    unsigned char *field = (unsigned char *)params + at;
    uint32_t small = (uint32_t)value;
    if (size == sizeof value)
        memcpy(field, &value, sizeof value);
    else
        memcpy(field, &small, sizeof small);
}

static void want_refused(struct table *table, const char *name, enum csim_status status,
                         const struct csim_error *error, const char *field, const char *reason)
{
    table_want(table, name, "refused", status, CSIM_BAD_PARAM);
    if (strcmp(error->field, field) == 0 && strcmp(error->reason, reason) == 0)
        return;
    printf("%s: refused with %s: %s\n", name, error->field, error->reason);
    table->wrong++;
}

static void check_fields(struct table *table)
{
    struct csim_error error;
    for (size_t i = 0; i < ROWS(fields); i++) {
        struct csim_params params = valid();
        put(&params, fields[i].at, fields[i].size, fields[i].refused);
        table->rows++;
        want_refused(table, fields[i].name, params_check(&params, &error), &error,
                     fields[i].field, fields[i].reason);
        put(&params, fields[i].at, fields[i].size, fields[i].taken);
        table_want(table, fields[i].name, "the nearest is taken", params_check(&params, &error),
                   CSIM_OK);
    }
}

/* Rules over two fields. */
static void check_pairs(struct table *table)
{
    struct csim_error error;
    struct csim_params params = valid();
    params.workload.synthetic = 0;
    params.workload.lifetime_cycles = 0;
    params.workload.maps_per_tcycle = UINT64_MAX;
    table->rows += 2;
    table_want(table, "a given work draws no maps", "status", params_check(&params, &error),
               CSIM_OK);
    params = valid();
    params.workload.useful_cycles = UINT64_C(1) << 40;
    params.workload.ticks_per_tcycle = 61000000;
    table_want(table, "many ticks", "status", params_check(&params, &error), CSIM_OK);
    params.workload.ticks_per_tcycle = 61100000;
    want_refused(table, "too many ticks", params_check(&params, &error), &error,
                 "workload.ticks_per_tcycle", "more than 2^26 events in useful_cycles");
}

/* ---- items ---- */

#define V(page) (VMALLOC + (UINT64_C(page) << 12))
#define I(k, ...) {1 + CSIM_ITEM_##k, {__VA_ARGS__}}

static const struct {
    const char *name;
    struct { uint32_t kind_and_1; struct csim_item item; } items[ITEMS];     /* 0 ends them */
    uint32_t gates[GATES];
    const char *field, *reason;          /* NULL: taken */
} lists[] = {
    {"nothing", {{0}}, {0}, NULL, NULL},
    {"a map", {I(MAP, .va = V(0), .pages = 1)}, {0}, NULL, NULL},
    {"no such hart",
     {I(MAP, .va = V(0), .pages = 1, .hart = HARTS)}, {0}, "items[0]", "no such hart"},
    {"the last hart", {I(MAP, .va = V(0), .pages = 1, .hart = HARTS - 1)}, {0}, NULL, NULL},
    {"an unknown kind", {I(KINDS, 0)}, {0}, "items[0]", "unknown kind"},
    {"at the end", {I(IDLE, .at_cycles = BUDGET)}, {0}, "items[0]",
     "after the end of the hart's budget"},
    {"just before it", {I(IDLE, .at_cycles = BUDGET - 1)}, {0}, NULL, NULL},
    {"half a page",
     {I(MAP, .pages = 1, .va = VMALLOC + 2048)}, {0}, "items[0]", "not a range of pages"},
    {"too many pages", {I(FLUSH, .pages = (1 << 28) + 1)}, {0}, "items[0]",
     "not a range of pages"},
    {"everything", {I(FLUSH, .pages = 0)}, {0}, NULL, NULL},
    {"waits for no gate there is",
     {I(MAP, .va = V(0), .pages = 1, .wait = GATES)}, {0}, "items[0]", "no such gate"},
    {"signals none",
     {I(MAP, .va = V(0), .pages = 1, .signal = GATES)}, {0}, "items[0]", "no such gate"},
    {"maps nothing", {I(MAP, .va = V(0), .pages = 0)}, {0}, "items[0]", "an empty range"},
    {"unmaps nothing", {I(UNMAP, .va = VMALLOC)}, {0}, "items[0]", "an empty range"},
    {"touches nothing", {I(TOUCH, .va = VMALLOC)}, {0}, "items[0]", "an empty range"},
    {"touches nowhere", {I(TOUCH, .pages = 1)}, {0}, "items[0]", "an empty range"},
    {"forgets nothing", {I(FORGET, .va = VMALLOC)}, {0}, "items[0]", "an empty range"},
    {"half a huge page", {I(MAP, .va = V(0), .pages = 1, .flags = CSIM_ITEM_HUGE)}, {0}, "items[0]",
     "a huge mapping is made of whole 2 MiB pages"},
    {"a huge page out of line",
     {I(MAP, .va = V(1), .pages = 512, .flags = CSIM_ITEM_HUGE)}, {0}, "items[0]",
     "a huge mapping is made of whole 2 MiB pages"},
    {"a huge page", {I(MAP, .va = V(512), .pages = 512, .flags = CSIM_ITEM_HUGE)}, {0}, NULL, NULL},
    {"maps user memory", {I(MAP, .pages = 1, .va = 0x10000)}, {0}, "items[0]",
     "not in an area that mappings come and go in"},
    {"maps over kernel text",
     {I(MAP, .pages = 1, .va = UINT64_C(0xffffffff80000000))}, {0}, "items[0]",
     "not in an area that mappings come and go in"},
    {"maps over the linear map",
     {I(MAP, .pages = 1, .va = UINT64_C(0xffffffd600000000))}, {0}, "items[0]",
     "not in an area that mappings come and go in"},
    {"unmaps past the end", {I(UNMAP, .va = UINT64_C(0xffffffd5fffff000), .pages = 2)}, {0},
     "items[0]", "not in an area that mappings come and go in"},
    {"the last page of vmalloc",
     {I(MAP, .pages = 1, .va = UINT64_C(0xffffffd5fffff000))}, {0}, NULL, NULL},
    {"a module", {I(MAP, .pages = 1, .va = UINT64_C(0xffffffff00000000))}, {0}, NULL, NULL},
    {"vmemmap", {I(MAP, .pages = 1, .va = UINT64_C(0xffffffc500000000))}, {0}, NULL, NULL},
    {"PCI I/O", {I(MAP, .pages = 1, .va = UINT64_C(0xffffffc4fe000000))}, {0}, NULL, NULL},
    {"over the own stacks",
     {I(MAP, .pages = 1, .va = OWN)}, {0}, "items[0]", "over the harts' own stacks"},
    {"up to them", {I(MAP, .pages = 1, .va = OWN - 4096)}, {0}, NULL, NULL},
    {"into them", {I(MAP, .va = OWN - 4096, .pages = 2)}, {0}, "items[0]",
     "over the harts' own stacks"},
    {"the end of their arenas",
     {I(MAP, .pages = 1, .va = OWN + HARTS * UINT64_C(1032) * 4096 - 4096)}, {0},
     "items[0]", "over the harts' own stacks"},
    {"past them", {I(MAP, .pages = 1, .va = OWN + HARTS * UINT64_C(1032) * 4096)}, {0}, NULL, NULL},
    {"home", {I(SWITCH, 0)}, {0}, NULL, NULL},
    {"a stack without pages", {I(SWITCH, .va = VMALLOC, .arg = 1)}, {0}, "items[0]",
     "a stack has pages, and at least one in use"},
    {"a stack not in use", {I(SWITCH, .va = VMALLOC, .pages = 4)}, {0}, "items[0]",
     "a stack has pages, and at least one in use"},
    {"more of it in use than there is", {I(SWITCH, .va = VMALLOC, .pages = 4, .arg = 5)}, {0},
     "items[0]", "a stack has pages, and at least one in use"},
    {"a whole stack in use", {I(SWITCH, .va = VMALLOC, .pages = 4, .arg = 4)}, {0}, NULL, NULL},
    {"no such hart to wake", {I(ONLINE, .arg = HARTS)}, {0}, "items[0]",
     "no such hart to come online"},
    {"a fault on no page", {I(USER_FAULT, .arg = 0)}, {0}, "items[0]",
     "a user fault maps from 1 to 2^20 pages"},
    {"a fault on too many", {I(USER_FAULT, .arg = (1 << 20) + 1)}, {0}, "items[0]",
     "a user fault maps from 1 to 2^20 pages"},
    {"64 fixmap slots", {I(FIXMAP, .arg = 64)}, {0}, NULL, NULL},
    {"no fixmap slot", {I(FIXMAP, .arg = 0)}, {0}, "items[0]", "from 1 to 64 fixmap slots"},
    {"too many fixmap slots", {I(FIXMAP, .arg = 65)}, {0}, "items[0]",
     "from 1 to 64 fixmap slots"},
    {"an endless sleep", {I(IDLE, .arg = UINT64_MAX)}, {0}, "items[0]",
     "a sleep of more than 2^48 cycles"},
    {"out of order", {I(IDLE, .order = 2), I(IDLE, .order = 1)}, {0}, "items[1]",
     "items are given in their order"},
    {"the same order", {I(IDLE, 0), I(IDLE, 0)}, {0}, NULL, NULL},
    {"a hart goes back", {I(IDLE, .at_cycles = 5), I(IDLE, .order = 2)}, {0}, "items[1]",
     "comes before an earlier item of its hart"},
    {"another hart is behind", {I(IDLE, .at_cycles = 5), I(IDLE, .hart = 1)}, {0}, NULL,
     NULL},
    {"a gate that opens",
     {I(MAP, .va = V(0), .pages = 1, .signal = 1), I(IDLE, .order = 2, .wait = 1)}, {0, 1, 0},
     NULL, NULL},
    {"a gate that needs more",
     {I(MAP, .va = V(0), .pages = 1, .signal = 1), I(IDLE, .order = 2, .wait = 1)},
     {0, 2, 0}, "gates[1]", "needs 2 signals, gets 1"},
    {"a gate that needs less",
     {I(MAP, .va = V(0), .pages = 1, .signal = 1), I(MAP, .va = V(1), .pages = 1, .signal = 1)},
     {0, 1, 0}, "gates[1]",
     "needs 1 signals, gets 2"},
    {"a gate nobody signals", {I(IDLE, .wait = 2)}, {0, 0, 1}, "gates[2]",
     "needs 1 signals, gets 0"},
    {"a gate without a need is open", {I(IDLE, .wait = 2)}, {0, 0, 0}, NULL, NULL},
    {"waits for a later item", {I(IDLE, .wait = 1), I(IDLE, .order = 2, .signal = 1)},
     {0, 1, 0}, "items[0]", "waits for an item that is not of an earlier order"},
    {"waits for one of its own order", {I(IDLE, .signal = 1), I(IDLE, .wait = 1)},
     {0, 1, 0}, "items[1]", "waits for an item that is not of an earlier order"},
    {"waits for itself", {I(IDLE, .signal = 1, .wait = 1)}, {0, 1, 0}, "items[0]",
     "waits for an item that is not of an earlier order"},
};

static void check_lists(struct table *table)
{
    struct csim_params params = valid();
    for (size_t i = 0; i < ROWS(lists); i++) {
        struct csim_error error = {.field = "", .reason = ""};
        struct csim_item items[ITEMS];
        uint64_t scratch[SCRATCH], nr = 0;
        for (; nr < ITEMS && lists[i].items[nr].kind_and_1 != 0; nr++) {
            items[nr] = lists[i].items[nr].item;
            items[nr].kind = (uint8_t)(lists[i].items[nr].kind_and_1 - 1);
        }
        enum csim_status status = params_check_items(&params, items, nr, lists[i].gates, GATES,
                                                     scratch, &error);
        table->rows++;
        if (lists[i].field == NULL)
            table_want(table, lists[i].name, "taken", status, CSIM_OK);
        else
            want_refused(table, lists[i].name, status, &error, lists[i].field, lists[i].reason);
    }
}

int main(void)
{
    struct table table = {0};
    check_fields(&table);
    check_pairs(&table);
    check_lists(&table);
    return table_end(&table);
}
