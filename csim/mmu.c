/* mmu.c: translate one access of one hart.
 *
 * Order: the L1 of the access (instruction, data, or store side where split), L2, then a walk. An
 * L2 hit and a finished walk fill the levels above. A leaf goes to the array that holds its size;
 * an L1 that does not hold it takes the largest piece it can hold, an L2 takes nothing (Rocket's
 * holds 4 KiB leaves only, PTW.scala:725-733). A NAPOT leaf is one entry for its 16 pages where an
 * array says that it holds such (CVA6 as an option), else it is kept page by page.
 *
 * Failing walks. Where invalid PTEs are not cached (cva6_ptw.sv:430, ct_mmu_ptw.v:705) a failing
 * walk fills nothing. Where they are (inv_l1, inv_l2, per structure), the PTE is inserted
 * untested, V clear or access refused alike (Rocket TLB.scala:408, :446-491), and the hit then
 * fails as the walk did. A cached leaf that refuses the access fails without a walk on every
 * core. An invalid non- leaf covers its range where inv_nonleaf_range says so, else the one page
 * asked.
 *
 * Lines. A walk reads the 64-byte line of the last-level PTE; with inv_line_capture > 1 the
 * caches may keep the neighbours it shows. Where do they live? Not as entries of their own, but
 * under the tag of the page asked, in sectors: a structure without sectors has no room and takes
 * none. L2 (a cache of PTE lines in XiangShan, PageTableCache.scala) keeps valid neighbours, and
 * invalid ones under inv_l2. An L1 tag has one set of bits for all its sectors, so it keeps those
 * neighbours only that have the same bits but the low PPN ones: same V, same permissions, same 8
 * frames (XiangShan L2TLB.scala, `valididx`); an L2 hit offers the line's sectors in the same
 * way. So an invalid neighbour of a valid page sits in L2, and in L1 only after somebody asked
 * for it or for another invalid page of its line. Page-walk caches with sectors keep the pointers
 * of a line. prefetch_next_line: after a last-level read the next lines of the same table are read
 * too, so many, and kept by L2 alone, as the answers to their first pages would be, unless L2 has
 * them. Their time is not modelled.
 *
 * Fences. ALL and ASID: each structure, the page-walk cache too. By address: entries that cover
 * the page, superpages included; also an invalid non-leaf that a TLB holds as a range, because
 * the cores that hold one compare it like any other entry (Rocket's superpage array, XiangShan's
 * sp array, which is cleared whole); the page-walk cache is not touched. A page drops alone from
 * its sectors, and takes a NAPOT entry with it: software has to fence every page of such a region
 * ("Svnapot", riscv-isa-manual 1d472b8), and a fence may always drop more than it was asked to.
 * Quirks: fence_va_as_all (every form is a full fence: U74 by erratum, NaxRiscv,
 * VexiiRiscv, BlackParrot by design), fence_l2_va_clears_set (all ways, whatever their ASID or
 * global bit), fence_va_low8_match (the L1 compares 8 bits of the page number, no ASID, and drops
 * every superpage). Any fence aborts the walk in flight: a walk for a neighbour could still fill
 * a line or a superpage that the fence covered (Rocket PTW.scala:457-464). An address that is not
 * canonical drops nothing.
 *
 * Refill. A miss is a fence's when the L1 still knows the dropped tag, or when L2 missed and knows
 * it; then all of its latency is. Longer walks after a dropped page-walk cache alone stay base.
 *
 * Time of a PTE read: where the line lies is drawn from the machine's mix, keyed by (seed, hart,
 * line, how often this hart read that line). Per read, because a line does not live in one cache
 * for a whole run; counted per line, so that two policies with the same seed pay the same for the
 * reads both make, and differ by the reads only one makes. Counts are kept in a table by hash. A
 * mix, not a cache model, because a run's data accesses are not simulated: nothing would drive PTE
 * lines out. The footprint sweep simulates them, and reads PTEs through `caches`.
 *
 * Walkers. A hart waits for its own walk, so walks meet only those that nobody waits for:
 * speculative ones, which take their time on a walker while the hart works on. A translation that
 * must walk begins when one of the `walkers` is free: with one, as on every core but XiangShan, it
 * waits for the speculative walk before it; with seven it hardly ever does. A speculative walk
 * reads and fills at the time it is made, which is early by its own duration.
 *
 * Left out: queues between the levels, XiangShan's split of its walkers by level, the L1 of
 * C906 without ASIDs (a satp write clears it), A and D that Svadu sets are kept in the cached copy
 * and not stored.
 */
#include "mmu.h"

#include <assert.h>

#include "rng.h"
#include "rv.h"

enum { LINE_BYTES = 64, LINE_PTES = 8, STREAMS_PER_TLB = 2, PERMILLE = 1000 };
enum { STREAM_L1I = 0, STREAM_L1D = 2, STREAM_L1ST = 4, STREAM_L2 = 6, STREAM_PWC = 8 };

/* What of two PTEs may differ under one L1 tag: ppn[2:0]. */
#define SAME_FRAMES_MASK (~((uint64_t)(LINE_PTES - 1) << RV_PTE_PPN_SHIFT))
#define VPN_MASK ((UINT64_C(1) << TLB_VPN_BITS) - 1)

static void create_reads(struct mmu *mmu)
{
    const struct csim_machine *machine = mmu->machine;
    bool via_l1d = machine->pte_via == CSIM_PTE_L1D;
    mmu->read_bounds[0] = machine->read_l1d_permille;
    mmu->read_bounds[1] = mmu->read_bounds[0] + machine->read_l2_permille;
    mmu->read_bounds[2] = mmu->read_bounds[1] + machine->read_llc_permille;
    mmu->read_cycles[0] = via_l1d ? machine->read_l1d_cycles : machine->read_l2_cycles;
    mmu->read_cycles[1] = machine->read_l2_cycles;
    mmu->read_cycles[2] = machine->read_llc_cycles;
    mmu->read_cycles[3] = machine->read_dram_cycles;
}

void mmu_create(struct mmu *mmu, struct arena *arena, const struct csim_machine *machine,
                uint64_t root_ppn, uint32_t hart, uint64_t seed, struct csim_counters *counters)
{
    *mmu = (struct mmu){
        .machine = machine, .counters = counters, .hart = hart,
        .read_key = rng_key(seed, RNG_PTE_LOCATION, hart),
        .asid_mask = (uint16_t)((UINT32_C(1) << machine->asid_bits) - 1),
    };
    for (uint32_t i = 0; i < 2; i++) {
        mmu->context[i] = (struct walk_context){
            .levels = machine->levels,
            .root_ppn = root_ppn,
            .privilege = i == 0 ? CSIM_USER : CSIM_SUPERVISOR,
            .svadu = machine->svade == 0,
            .svnapot = machine->svnapot != 0,
            .svpbmt = machine->svpbmt != 0,
        };
        walk_context_derive(&mmu->context[i]);
    }
    create_reads(mmu);
    tlb_create(&mmu->l1i, arena, machine->l1i, seed, hart, STREAM_L1I);
    tlb_create(&mmu->l1d, arena, machine->l1d, seed, hart, STREAM_L1D);
    tlb_create(&mmu->l1st, arena, machine->l1st, seed, hart, STREAM_L1ST);
    tlb_create(&mmu->l2, arena, machine->l2, seed, hart, STREAM_L2);
    pwc_create(&mmu->pwc, arena, machine, seed, hart, STREAM_PWC);
    mmu->line_reads = arena_take(arena, MMU_LINE_READS, sizeof mmu->line_reads[0]);
}

static uint64_t vpn_of(uint64_t va) { return va >> RV_PAGE_SHIFT & VPN_MASK; }

static const struct walk_context *context_of(const struct mmu *mmu)
{
    return &mmu->context[mmu->request.user ? 0 : 1];
}

struct tlb *mmu_l1_of(struct mmu *mmu, enum csim_access access)
{
    switch (access) {
    case CSIM_FETCH:
        return &mmu->l1i;
    case CSIM_STORE:
        return mmu->machine->l1_split_store ? &mmu->l1st : &mmu->l1d;
    case CSIM_LOAD:
        return &mmu->l1d;
    }
    return &mmu->l1d;
}

static struct tlb *l1_of(struct mmu *mmu)
{
    return mmu_l1_of(mmu, (enum csim_access)mmu->request.access);
}

/* ---- Filling --------------------------------------------------------------------------------- */

/* The leaf of `level` as a leaf of the smaller size `piece` that maps vpn. */
static struct pte piece_of(struct pte pte, uint32_t level, uint32_t piece, uint64_t vpn)
{
    if (!pte_is_valid(pte))
        return pte;
    uint64_t ppn = pte_pa(pte, level, vpn << RV_PAGE_SHIFT) >> RV_PAGE_SHIFT;
    ppn &= ~((UINT64_C(1) << (RV_VPN_BITS * piece)) - 1);
    return pte_make(ppn, pte.bits & ~(RV_PTE_PPN | RV_PTE_N));
}

/* Neighbours nobody asked for come in when they are whole translations. */
static bool is_fillable(const struct walk_context *context, struct pte pte)
{
    return pte_is_valid(pte) && pte_is_leaf(pte)
           && (pte.bits & (RV_PTE_R | RV_PTE_W)) != RV_PTE_W
           && (pte.bits & context->leaf_reserved) == 0 && !pte_has_reserved_encoding(pte, 0);
}

/* The PTE asked for, and whether a structure (inv: it caches invalid PTEs) takes it. */
static bool takes_own(enum walk_fail fail, bool inv)
{
    return fail == WALK_NONE
           || (inv && (fail == WALK_INVALID || fail == WALK_DENIED || fail == WALK_NEEDS_AD));
}

static uint8_t takes_l2(const struct mmu *mmu, const struct tlb_line *line, uint32_t own,
                        enum walk_fail fail)
{
    bool inv = mmu->machine->inv_l2 != 0;
    uint32_t take = takes_own(fail, inv) ? 1u << own : 0;
    for (uint32_t i = 0; i < LINE_PTES; i++) {
        if (i == own || !(line->known >> i & 1))
            continue;
        if (pte_is_valid(line->ptes[i]) ? is_fillable(context_of(mmu), line->ptes[i]) : inv)
            take |= 1u << i;
    }
    return (uint8_t)take;
}

static uint8_t takes_l1(const struct mmu *mmu, const struct tlb_line *line, uint32_t own,
                        enum walk_fail fail)
{
    if (!takes_own(fail, mmu->machine->inv_l1 != 0))
        return 0;
    uint32_t take = 1u << own;
    for (uint32_t i = 0; i < LINE_PTES; i++)
        if ((line->known >> i & 1)
            && ((line->ptes[i].bits ^ line->ptes[own].bits) & SAME_FRAMES_MASK) == 0)
            take |= 1u << i;
    return (uint8_t)take;
}

/* Where the leaf is kept as one entry for 64 KiB; NULL: nowhere. */
static struct tlb_array *napot_array(const struct mmu *mmu, struct tlb *tlb, struct pte pte,
                                     uint32_t level)
{
    int8_t home = tlb->home[CSIM_NAPOT];
    bool keeps = home >= 0 && level == 0 && pte_is_napot(pte) && is_fillable(context_of(mmu), pte);
    return keeps ? &tlb->array[home] : 0;
}

static void fill_l1(struct mmu *mmu, struct pte pte, uint32_t level, bool global,
                    enum walk_fail fail, const struct tlb_line *captured)
{
    struct tlb *l1 = l1_of(mmu);
    uint64_t vpn = vpn_of(mmu->request.va);
    struct tlb_array *napot = napot_array(mmu, l1, pte, level);
    if (napot != 0 && takes_own(fail, mmu->machine->inv_l1 != 0))
        (void)tlb_array_fill_one(napot, vpn, CSIM_NAPOT, mmu->request.asid & mmu->asid_mask, pte,
                                 global);
    if (napot != 0 || l1->piece[level] < 0)
        return;
    uint32_t piece = (uint32_t)l1->piece[level];
    uint32_t own = (uint32_t)(vpn >> (RV_VPN_BITS * piece)) & (LINE_PTES - 1);
    uint16_t asid = mmu->request.asid & mmu->asid_mask;
    struct tlb_array *array = &l1->array[l1->home[piece]];
    if (captured != 0 && level == 0)
        mmu->counters->negative_fills +=
            tlb_array_fill(array, vpn, piece, asid, captured, takes_l1(mmu, captured, own, fail));
    else if (takes_own(fail, mmu->machine->inv_l1 != 0))
        mmu->counters->negative_fills +=
            tlb_array_fill_one(array, vpn, piece, asid, piece_of(pte, level, piece, vpn), global);
}

static void fill_l2(struct mmu *mmu, uint64_t vpn, uint32_t level, const struct tlb_line *line,
                    enum walk_fail fail)
{
    if (mmu->l2.home[level] < 0)
        return;
    uint32_t own = (uint32_t)(vpn >> (RV_VPN_BITS * level)) & (LINE_PTES - 1);
    mmu->counters->negative_fills +=
        tlb_array_fill(&mmu->l2.array[mmu->l2.home[level]], vpn, level,
                       mmu->request.asid & mmu->asid_mask, line, takes_l2(mmu, line, own, fail));
}

/* True: L2 keeps the leaf as one entry, and nothing else of its line. */
static bool fill_l2_napot(struct mmu *mmu, uint64_t vpn, uint32_t level, struct pte pte,
                          bool global, enum walk_fail fail)
{
    struct tlb_array *napot = napot_array(mmu, &mmu->l2, pte, level);
    if (napot != 0 && takes_own(fail, mmu->machine->inv_l2 != 0))
        (void)tlb_array_fill_one(napot, vpn, CSIM_NAPOT, mmu->request.asid & mmu->asid_mask, pte,
                                 global);
    return napot != 0;
}

/* ... of which only the PTE asked for is known. */
static void fill_l2_one(struct mmu *mmu, uint64_t vpn, uint32_t level, struct pte pte, bool global,
                        enum walk_fail fail)
{
    if (fill_l2_napot(mmu, vpn, level, pte, global, fail) || mmu->l2.home[level] < 0
        || !takes_own(fail, mmu->machine->inv_l2 != 0))
        return;
    mmu->counters->negative_fills +=
        tlb_array_fill_one(&mmu->l2.array[mmu->l2.home[level]], vpn, level,
                           mmu->request.asid & mmu->asid_mask, piece_of(pte, level, level, vpn),
                           global);
}

static bool is_global(const struct mmu *mmu, struct pte pte)
{
    bool from_ptes = mmu->walk_global || pte_is_global(pte);
    if (pte_is_valid(pte))
        return from_ptes;
    return mmu->machine->negative_global == 2
           || (mmu->machine->negative_global == 1 && from_ptes);
}

/* The line around the PTE at `pa`, of which `captured` aligned PTEs are looked at. */
static struct tlb_line read_line(const struct mmu *mmu, const struct pagetable *pt, uint64_t pa,
                                 uint32_t captured, uint64_t at_cycles)
{
    struct tlb_line line = {.known = 0};
    uint32_t own = (uint32_t)(pa >> RV_PTE_SHIFT) & (LINE_PTES - 1);
    uint32_t first = own & ~(captured - 1);
    uint64_t line_pa = pa & ~(uint64_t)(LINE_BYTES - 1);
    for (uint32_t i = first; i < first + captured; i++) {
        if (!pagetable_read(pt, line_pa + (i << RV_PTE_SHIFT), mmu->hart, at_cycles,
                            &line.ptes[i]))
            continue;
        line.known |= (uint8_t)(1u << i);
        if (is_global(mmu, line.ptes[i]))
            line.global |= (uint8_t)(1u << i);
    }
    return line;
}

static uint32_t captured_ptes(const struct mmu *mmu)
{
    return mmu->machine->inv_line_capture > 1 ? mmu->machine->inv_line_capture : 1;
}

/* Last-level PTEs as sectors keep them: NAPOT leaves page by page. */
static void make_pages(const struct mmu *mmu, struct tlb_line *line, uint64_t vpn)
{
    for (uint32_t i = 0; i < LINE_PTES; i++)
        if (pte_is_napot(line->ptes[i]) && is_fillable(context_of(mmu), line->ptes[i]))
            line->ptes[i] = piece_of(line->ptes[i], 0, 0, (vpn & ~(uint64_t)(LINE_PTES - 1)) + i);
}

/* The line that lies `lines` after the one the walk read. */
static void prefetch(struct mmu *mmu, const struct pagetable *pt, uint32_t lines,
                     uint64_t at_cycles)
{
    uint64_t pa = (mmu->walk.pte_pa & ~(uint64_t)(LINE_BYTES - 1)) + (uint64_t)lines * LINE_BYTES;
    uint64_t vpn = (vpn_of(mmu->request.va) & ~(uint64_t)(LINE_PTES - 1)) + lines * LINE_PTES;
    uint16_t asid = mmu->request.asid & mmu->asid_mask;
    int8_t napot = mmu->l2.home[CSIM_NAPOT];
    struct tlb_place place;
    if (pa >> RV_PAGE_SHIFT != mmu->walk.pte_pa >> RV_PAGE_SHIFT || mmu->l2.home[0] < 0
        || tlb_array_find(&mmu->l2.array[mmu->l2.home[0]], vpn, 0, asid, &place)
        || (napot >= 0 && tlb_array_find(&mmu->l2.array[napot], vpn, CSIM_NAPOT, asid, &place)))
        return;
    struct tlb_line line = read_line(mmu, pt, pa, captured_ptes(mmu), at_cycles);
    if (!(line.known & 1))
        return;
    enum walk_fail fail = WALK_NONE;
    if (!pte_is_valid(line.ptes[0]))
        fail = WALK_INVALID;
    else if (!is_fillable(context_of(mmu), line.ptes[0]))
        fail = WALK_RESERVED_BITS;
    if (fill_l2_napot(mmu, vpn, 0, line.ptes[0], line.global & 1, fail))
        return;
    make_pages(mmu, &line, vpn);
    fill_l2(mmu, vpn, 0, &line, fail);
}

/* ---- Answers --------------------------------------------------------------------------------- */

/* What a cached PTE says to the request; false: the walker must be asked, to set A or D. */
static bool answer_from(struct mmu *mmu, const struct tlb_place *place)
{
    struct pte pte = tlb_pte(place);
    const struct walk_context *context = context_of(mmu);
    enum csim_access access = (enum csim_access)mmu->request.access;
    struct mmu_answer *answer = &mmu->answer;
    if (!pte_is_valid(pte)) {
        answer->fail = WALK_INVALID;
        answer->negative = true;
        return true;
    }
    const struct walk_rule *rule = &context->rule[access];
    bool plain = (pte.bits & (rule->mask | RV_PTE_N)) == rule->want
                 && (pte.bits & rule->ad) == rule->ad;
    if (plain) {                                    /* most often: nothing to refuse or to set */
        uint64_t within = (UINT64_C(1) << (RV_VPN_BITS * place->level)) - 1;
        answer->ppn = (pte_ppn(pte) & ~within) | (vpn_of(mmu->request.va) & within);
        return true;
    }
    if (walk_needs_update(context, pte, access)) {
        l1_of(mmu)->trace = mmu->l2.trace = true;   /* the lookup did not look further */
        return false;
    }
    answer->fail = walk_check_leaf(context, pte, access);
    if (answer->fail == WALK_NONE)
        answer->ppn = pte_pa(pte, tlb_pte_level(place->level), mmu->request.va) >> RV_PAGE_SHIFT;
    return true;
}

/* The walk is over: answer and fill. pt is NULL when a page-walk cache ended it. */
static void finish(struct mmu *mmu, const struct pagetable *pt, uint64_t at_cycles)
{
    struct walk *walk = &mmu->walk;
    uint64_t vpn = vpn_of(walk->va);
    uint32_t level = (uint32_t)walk->level;
    mmu->walking = false;
    mmu->answer.fail = walk->fail;
    if (walk->fail == WALK_ACCESS || walk->fail == WALK_NON_CANONICAL)
        return;
    struct pte pte = walk->pte;
    if (walk->update)
        pte = walk_updated_pte(context_of(mmu), pte, (enum csim_access)walk->access);
    if (walk->fail == WALK_NONE)
        mmu->answer.ppn = pte_pa(pte, level, walk->va) >> RV_PAGE_SHIFT;
    bool global = is_global(mmu, pte), last_level = pt != 0 && level == 0;
    if (walk->fail == WALK_INVALID && !mmu->machine->inv_nonleaf_range)
        level = 0;

    if (last_level && captured_ptes(mmu) > 1) {
        struct tlb_line line = read_line(mmu, pt, walk->pte_pa, captured_ptes(mmu), at_cycles);
        line.ptes[vpn & (LINE_PTES - 1)] = pte;
        make_pages(mmu, &line, vpn);
        if (!fill_l2_napot(mmu, vpn, level, pte, global, walk->fail))
            fill_l2(mmu, vpn, level, &line, walk->fail);
        fill_l1(mmu, pte, level, global, walk->fail, &line);
    } else {
        fill_l2_one(mmu, vpn, level, pte, global, walk->fail);
        fill_l1(mmu, pte, level, global, walk->fail, 0);
    }
    for (uint32_t i = 1; last_level && i <= mmu->machine->prefetch_next_line; i++)
        prefetch(mmu, pt, i, at_cycles);
}

/* ---- L1, L2 ---------------------------------------------------------------------------------- */

static uint32_t bits_set(uint32_t word)
{
    uint32_t count = 0;
    for (; word != 0; word &= word - 1)
        count++;
    return count;
}

uint32_t mmu_l2_cycles(const struct mmu *mmu, uint32_t level)
{
    if (mmu->l2.levels == 0)
        return 0;
    if (!mmu->machine->l2_seq_page_sizes)
        return mmu->machine->l2_hit_cycles;
    uint32_t asked = mmu->l2.levels & ((UINT32_C(2) << level) - 1);
    return bits_set(asked) * mmu->machine->l2_hit_cycles;
}

/* What L2 shows L1 of the line around a hit. */
static struct tlb_line offered_line(const struct mmu *mmu, const struct tlb_place *place,
                                    uint64_t vpn)
{
    const struct tlb_array *array = place->array;
    uint32_t slot = tlb_slot(place), own = (uint32_t)vpn & (LINE_PTES - 1);
    uint32_t block = own & ~(captured_ptes(mmu) - 1), from = own - place->sector;
    struct tlb_line line = {.known = 0};
    for (uint32_t i = block; i < block + captured_ptes(mmu); i++) {
        if (i < from || (i - from) >> array->sector_shift != 0
            || !(array->held[slot] >> (i - from) & 1))
            continue;
        line.known |= (uint8_t)(1u << i);
        line.ptes[i] = array->ptes[(slot << array->sector_shift) + i - from];
        line.global |= (uint8_t)((array->global[slot] >> (i - from) & 1) << i);
    }
    return line;
}

static bool hit_l2(struct mmu *mmu, uint64_t vpn, uint16_t asid, uint32_t *cycles)
{
    struct tlb_place place = {.level = CSIM_SIZES};
    bool hit = tlb_lookup(&mmu->l2, vpn, asid, &place);
    *cycles += mmu_l2_cycles(mmu, hit ? place.level : CSIM_SIZES);
    if (!hit || !answer_from(mmu, &place))
        return false;
    struct pte pte = tlb_pte(&place);
    bool global = tlb_is_global(&place);
    if (place.level == 0 && captured_ptes(mmu) > 1) {
        struct tlb_line line = offered_line(mmu, &place, vpn);
        fill_l1(mmu, pte, 0, global, mmu->answer.fail, &line);
    } else {
        fill_l1(mmu, pte, tlb_pte_level(place.level), global, mmu->answer.fail, 0);
    }
    return true;
}

/* Whether a fence is to blame for the L1 miss; `l2_too`: L2 missed as well. */
static void find_blame(struct mmu *mmu, uint64_t vpn, uint16_t asid, bool l2_too)
{
    uint8_t cause = 0;
    struct tlb *l1 = l1_of(mmu);
    mmu->answer.refill = (l1->trace && tlb_dropped(l1, vpn, asid, &cause))
                         || (l2_too && mmu->l2.trace && tlb_dropped(&mmu->l2, vpn, asid, &cause));
    mmu->answer.refill_for = (enum fence_cause)cause;
    mmu->counters->refill_misses += mmu->answer.refill && !mmu->request.speculative;
}

/* ---- The walk -------------------------------------------------------------------------------- */

uint32_t mmu_read_cycles(struct mmu *mmu, uint64_t pa)
{
    if (mmu->caches != 0)
        return cache_read_pte(mmu->caches, pa);
    uint64_t line = rng_mix(pa / LINE_BYTES);
    uint32_t *reads = &mmu->line_reads[line % MMU_LINE_READS];
    uint64_t draw = rng_draw_keyed(mmu->read_key, line + (*reads)++);
    uint64_t permille = rng_below(draw, PERMILLE);
    uint32_t place = 0;
    for (uint32_t i = 0; i + 1 < MMU_READ_PLACES; i++)
        place += permille >= mmu->read_bounds[i];
    return mmu->read_cycles[place];
}

bool mmu_reads_alike(const struct mmu *mmu, uint32_t *cycles)
{
    uint32_t below = 0, place = 0;
    bool alike = mmu->caches == 0;
    while (place + 1 < MMU_READ_PLACES && mmu->read_bounds[place] == 0)
        place++;
    *cycles = mmu->read_cycles[place];
    for (place = 0; place < MMU_READ_PLACES; place++) {
        uint32_t bound = place + 1 < MMU_READ_PLACES ? mmu->read_bounds[place] : PERMILLE;
        alike &= bound == below || mmu->read_cycles[place] == *cycles;
        below = bound;
    }
    return alike;
}

static uint32_t follow_pwc(struct mmu *mmu)
{
    uint32_t hits = pwc_follow(&mmu->pwc, &mmu->walk, mmu->request.asid & mmu->asid_mask,
                               &mmu->walk_global);
    if (hits > 0 && !mmu->walk_pwc_hit) {
        mmu->walk_pwc_hit = true;
        mmu->counters->pwc_hits++;
    }
    if (mmu->walk.done) {
        mmu->answer.negative = true;
        mmu->counters->negative_hits += !mmu->request.speculative;
        finish(mmu, 0, 0);
    }
    return hits * mmu->machine->pwc_hit_cycles;
}

/* A pointer, or an invalid PTE where one is expected, was read at `level`. */
static void fill_pwc(struct mmu *mmu, const struct pagetable *pt, uint32_t level,
                     uint64_t at_cycles)
{
    struct tlb_array *array = pwc_array(&mmu->pwc, level);
    bool inv = mmu->machine->inv_pwc != 0;
    if (array == 0)
        return;
    uint32_t captured = array->sector_shift > 0 ? captured_ptes(mmu) : 1;
    if (captured == 1) {
        struct pte pte = mmu->walk.pte;
        if (pte_is_valid(pte) || inv)
            mmu->counters->negative_fills +=
                tlb_array_fill_one(array, vpn_of(mmu->walk.va), level,
                                   mmu->request.asid & mmu->asid_mask, pte, is_global(mmu, pte));
        return;
    }
    struct tlb_line line = read_line(mmu, pt, mmu->walk.pte_pa, captured, at_cycles);
    uint32_t take = 0;
    for (uint32_t i = 0; i < LINE_PTES; i++) {
        struct pte pte = line.ptes[i];
        bool pointer = pte_is_valid(pte) && (pte.bits & (RV_PTE_R | RV_PTE_W | RV_PTE_X)) == 0
                       && (pte.bits & PTE_POINTER_RESERVED) == 0;
        if ((line.known >> i & 1) && (pte_is_valid(pte) ? pointer : inv))
            take |= 1u << i;
    }
    mmu->counters->negative_fills +=
        tlb_array_fill(array, vpn_of(mmu->walk.va), level, mmu->request.asid & mmu->asid_mask,
                       &line, (uint8_t)take);
}

static uint32_t begin_walk(struct mmu *mmu)
{
    mmu->counters->walks++;
    mmu->counters->walks_speculative += mmu->request.speculative;
    mmu->walk_global = false;
    mmu->walk_pwc_hit = false;
    walk_begin(&mmu->walk, context_of(mmu), mmu->request.va,
               (enum csim_access)mmu->request.access);
    if (mmu->walk.done) {
        finish(mmu, 0, 0);
        return 0;
    }
    mmu->walking = true;
    mmu->walk_queued = !mmu->request.speculative;
    return follow_pwc(mmu);
}

uint32_t mmu_begin(struct mmu *mmu, const struct mmu_request *request)
{
    assert(!mmu->walking);
    struct csim_counters *counters = mmu->counters;
    uint64_t vpn = vpn_of(request->va), demand = !request->speculative;
    uint16_t asid = request->asid & mmu->asid_mask;
    uint32_t cycles = mmu->machine->l1_hit_cycles;
    mmu->request = *request;
    mmu->answer = (struct mmu_answer){.fail = WALK_NONE};
    mmu->aborted = false;
    counters->lookups += demand;

    if (!rv_is_canonical(request->va, mmu->machine->levels)) {
        counters->misses += demand;
        return cycles + begin_walk(mmu);
    }
    struct tlb_place place;
    if (tlb_lookup(l1_of(mmu), vpn, asid, &place) && answer_from(mmu, &place)) {
        counters->l1_hits += demand;
        counters->negative_hits += demand && mmu->answer.negative;
        return cycles;
    }
    if (hit_l2(mmu, vpn, asid, &cycles)) {
        counters->l2_hits += demand;
        counters->negative_hits += demand && mmu->answer.negative;
        find_blame(mmu, vpn, asid, false);
        return cycles;
    }
    counters->misses += demand;
    find_blame(mmu, vpn, asid, true);
    return cycles + begin_walk(mmu);
}

/* The walker that is free first. */
static uint64_t *first_walker(struct mmu *mmu)
{
    uint64_t *first = &mmu->walker_free_at[0];
    for (uint32_t i = 1; i < mmu->machine->walkers && i < MMU_WALKERS_MAX; i++)
        if (mmu->walker_free_at[i] < *first)
            first = &mmu->walker_free_at[i];
    return first;
}

void mmu_occupy_walker(struct mmu *mmu, uint64_t at_cycles, uint64_t cycles)
{
    uint64_t *walker = first_walker(mmu);
    *walker = (*walker > at_cycles ? *walker : at_cycles) + cycles;
}

/* Cycles until the walk has a walker. */
static uint32_t queue(struct mmu *mmu, uint64_t at_cycles)
{
    if (!mmu->walk_queued)
        return 0;
    uint64_t free_at = *first_walker(mmu);
    mmu->walk_queued = false;
    return free_at > at_cycles ? (uint32_t)(free_at - at_cycles) : 0;
}

uint32_t mmu_step(struct mmu *mmu, const struct pagetable *pt, uint64_t at_cycles)
{
    assert(mmu->walking);
    struct walk *walk = &mmu->walk;
    uint32_t level = (uint32_t)walk->level, queued = queue(mmu, at_cycles);
    at_cycles += queued;
    walk_step(walk, context_of(mmu), pt, mmu->hart, at_cycles);
    mmu->counters->walk_reads++;
    uint32_t cycles = queued + mmu->machine->walk_overhead_per_level_cycles
                      + mmu_read_cycles(mmu, walk->pte_pa);
    if (level > 0 && (!walk->done || walk->fail == WALK_INVALID))
        fill_pwc(mmu, pt, level, at_cycles);
    if (!walk->done) {
        mmu->walk_global |= pte_is_global(walk->pte);
        if (mmu->pwc.unified)
            cycles += follow_pwc(mmu);
    } else {
        finish(mmu, pt, at_cycles);
    }
    return cycles;
}

void mmu_abort(struct mmu *mmu)
{
    if (!mmu->walking)
        return;
    mmu->walking = false;
    mmu->aborted = true;
}

/* ---- Fences ---------------------------------------------------------------------------------- */

static void fence_array(const struct mmu *mmu, struct tlb_array *array, enum fence_form form,
                        uint64_t vpn, uint16_t asid, uint8_t cause)
{
    bool l2 = array == &mmu->l2.array[0] || array == &mmu->l2.array[1];
    bool by_address = form == FENCE_VA || form == FENCE_VA_ASID;
    if (array->ways == 0)
        return;
    if (by_address && l2 && mmu->machine->fence_l2_va_clears_set) {
        tlb_array_drop_set(array, vpn, cause);
        return;
    }
    if (by_address && !l2 && mmu->machine->fence_va_low8_match) {
        tlb_array_drop_low8(array, vpn, cause);
        return;
    }
    switch (form) {
    case FENCE_ALL:
        tlb_array_drop_all(array, cause);
        break;
    case FENCE_ASID:
        tlb_array_drop_asid(array, asid, cause);
        break;
    case FENCE_VA:
        tlb_array_drop_page(array, vpn, cause);
        break;
    case FENCE_VA_ASID:
        tlb_array_drop_page_asid(array, vpn, asid, cause);
        break;
    }
}

static uint32_t fence_cycles(const struct csim_machine *machine, enum fence_form form)
{
    switch (form) {
    case FENCE_ALL:
        return machine->fence_all_cycles + machine->fence_pipe_cycles;
    case FENCE_ASID:
        return machine->fence_asid_cycles + machine->fence_pipe_cycles;
    case FENCE_VA:
    case FENCE_VA_ASID:
        return machine->fence_va_cycles + machine->fence_pipe_cycles;
    }
    return 0;
}

uint32_t mmu_fence(struct mmu *mmu, enum fence_form form, uint64_t va, uint16_t asid,
                   enum fence_cause cause)
{
    struct tlb *tlbs[] = {&mmu->l1i, &mmu->l1d, &mmu->l1st, &mmu->l2};
    if (mmu->machine->fence_va_as_all)
        form = FENCE_ALL;
    uint32_t cycles = fence_cycles(mmu->machine, form);
    asid &= mmu->asid_mask;
    mmu_abort(mmu);
    if ((form == FENCE_VA || form == FENCE_VA_ASID)
        && !rv_is_canonical(va, mmu->machine->levels))
        return cycles;
    for (uint32_t i = 0; i < sizeof tlbs / sizeof tlbs[0]; i++)
        for (uint32_t j = 0; j < 2; j++)
            fence_array(mmu, &tlbs[i]->array[j], form, vpn_of(va), asid, (uint8_t)cause);
    if (form == FENCE_ALL)
        pwc_fence(&mmu->pwc, (uint8_t)cause);
    if (form == FENCE_ASID)
        pwc_fence_asid(&mmu->pwc, asid, (uint8_t)cause);
    return cycles;
}

void mmu_forget_range(struct mmu *mmu, uint64_t va, uint32_t pages)
{
    struct tlb *tlbs[] = {&mmu->l1i, &mmu->l1d, &mmu->l1st, &mmu->l2};
    uint64_t vpn = vpn_of(va);
    for (uint32_t i = 0; i < sizeof tlbs / sizeof tlbs[0]; i++)
        for (uint32_t j = 0; j < 2; j++)
            tlb_array_forget(&tlbs[i]->array[j], vpn, pages);
    pwc_forget(&mmu->pwc, vpn, pages);
    if (vpn_of(mmu->request.va) - vpn < pages)
        mmu_abort(mmu);
}
