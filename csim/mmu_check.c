/* mmu_check.c: what a machine's translation must satisfy before anybody builds it.
 *
 * Sizes that index or mask must be powers of two; names given as numbers must exist; shares of
 * PTE reads may not exceed the whole. A structure with ways = 0 is absent and not looked at.
 */
#include <stdio.h>

#include "mmu.h"
#include "rv.h"

enum { SETS_MAX = 1 << 20, ASID_BITS_MAX = 16, PERMILLE = 1000, PREFETCH_LINES_MAX = 8 };

static bool is_power_of_two(uint32_t n) { return n != 0 && (n & (n - 1)) == 0; }

static enum csim_status refuse(struct csim_error *error, const char *array, int i,
                               const char *field, const char *reason)
{
    if (array == 0)
        snprintf(error->field, sizeof error->field, "machine.%s", field);
    else
        snprintf(error->field, sizeof error->field, "machine.%s[%d].%s", array, i, field);
    snprintf(error->reason, sizeof error->reason, "%s", reason);
    return CSIM_BAD_PARAM;
}

static enum csim_status check_array(const struct csim_array *array, const char *name, int i,
                                    struct csim_error *error)
{
    if (array->ways == 0)
        return CSIM_OK;
    if (array->ways > TLB_WAYS_MAX)
        return refuse(error, name, i, "ways", "at most 64");
    if (!is_power_of_two(array->sets) || array->sets > SETS_MAX)
        return refuse(error, name, i, "sets", "a power of two up to 2^20");
    if (!is_power_of_two(array->sectors) || array->sectors > TLB_SECTORS_MAX)
        return refuse(error, name, i, "sectors", "1, 2, 4 or 8: the PTEs of a 64-byte line");
    if (array->levels == 0 || array->levels >> (CSIM_NAPOT + 1) != 0)
        return refuse(error, name, i, "levels", "a nonzero mask of bits 0 to 5");
    if (tlb_policy_at(array->policy) == 0)
        return refuse(error, name, i, "policy", "no such policy, see csim_tlb_policy_name()");
    return CSIM_OK;
}

static enum csim_status check_numbers(const struct csim_machine *machine,
                                      struct csim_error *error)
{
    uint64_t shares = (uint64_t)machine->read_l1d_permille + machine->read_l2_permille
                      + machine->read_llc_permille;
    uint32_t captured = machine->inv_line_capture;
    if (machine->levels < RV_LEVELS_MIN || machine->levels > RV_LEVELS_MAX)
        return refuse(error, 0, 0, "levels", "3 (Sv39), 4 (Sv48) or 5 (Sv57)");
    if (machine->asid_bits > ASID_BITS_MAX)
        return refuse(error, 0, 0, "asid_bits", "at most 16");
    if (captured > TLB_SECTORS_MAX || (captured != 0 && !is_power_of_two(captured)))
        return refuse(error, 0, 0, "inv_line_capture", "0, 1, 2, 4 or 8 PTEs");
    if (machine->walkers == 0 || machine->walkers > MMU_WALKERS_MAX)
        return refuse(error, 0, 0, "walkers", "from 1 to 8");
    if (machine->prefetch_next_line > PREFETCH_LINES_MAX)
        return refuse(error, 0, 0, "prefetch_next_line", "at most 8 lines");
    if (machine->negative_global > 2)
        return refuse(error, 0, 0, "negative_global", "0 never, 1 from the PTE, 2 always");
    if (machine->pte_via > CSIM_PTE_L2)
        return refuse(error, 0, 0, "pte_via", "0 (L1 data cache) or 1 (L2 cache)");
    if (shares > PERMILLE)
        return refuse(error, 0, 0, "read_l1d_permille",
                      "with read_l2_permille and read_llc_permille more than 1000");
    if (machine->pwc_unified && machine->pwc[0].ways != 0 && machine->pwc[0].sectors != 1)
        return refuse(error, "pwc", 0, "sectors", "1 in a unified page-walk cache");
    return CSIM_OK;
}

static enum csim_status check_caches(const struct csim_machine *machine, struct csim_error *error)
{
    const struct { const char *field; uint32_t bytes, ways; } caches[] = {
        {"cache_l1d_bytes", machine->cache_l1d_bytes, machine->cache_l1d_ways},
        {"cache_l2_bytes", machine->cache_l2_bytes, machine->cache_l2_ways},
        {"cache_llc_bytes", machine->cache_llc_bytes, machine->cache_llc_ways},
    };
    for (size_t i = 0; i < sizeof caches / sizeof caches[0]; i++) {
        uint32_t lines = caches[i].bytes >> CACHE_LINE_SHIFT;
        if (caches[i].bytes == 0)
            continue;
        if (caches[i].ways == 0 || caches[i].ways > TLB_WAYS_MAX || lines % caches[i].ways != 0
            || lines << CACHE_LINE_SHIFT != caches[i].bytes
            || !is_power_of_two(lines / caches[i].ways))
            return refuse(error, 0, 0, caches[i].field,
                          "64 x ways x a power of two sets, with 1 to 64 ways");
    }
    return CSIM_OK;
}

enum csim_status mmu_check_machine(const struct csim_machine *machine, struct csim_error *error)
{
    const struct {
        const char *name;
        const struct csim_array *arrays;
        int count;
    } structures[] = {
        {"l1i", machine->l1i, 2}, {"l1d", machine->l1d, 2},        {"l1st", machine->l1st, 2},
        {"l2", machine->l2, 2},   {"pwc", machine->pwc, CSIM_SIZES},
    };
    enum csim_status status = CSIM_OK;
    for (size_t s = 0; s < sizeof structures / sizeof structures[0]; s++)
        for (int i = 0; status == CSIM_OK && i < structures[s].count; i++)
            status = check_array(&structures[s].arrays[i], structures[s].name, i, error);
    for (int i = 0; status == CSIM_OK && i < CSIM_SIZES; i++)
        if (machine->pwc[i].ways != 0 && machine->pwc[i].levels >> CSIM_NAPOT != 0)
            status = refuse(error, "pwc", i, "levels", "pointers are not NAPOT");
    if (status == CSIM_OK)
        status = check_numbers(machine, error);
    return status == CSIM_OK ? check_caches(machine, error) : status;
}

enum csim_status csim_check_machine(const struct csim_machine *machine, struct csim_error *error)
{
    return mmu_check_machine(machine, error);
}
