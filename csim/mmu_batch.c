/* mmu_batch.c: a stream of references, level by level.
 *
 * What a level does with a reference does not depend on what the levels below it answer, as long as
 * every walk ends in a leaf that answers: each miss is filled, whatever with. So a batch passes
 * L1 whole, what missed there passes L2, what missed there the page-walk caches from the deepest
 * up, and last the PTEs are read and tested. References to the page before are dropped first: they
 * hit by construction.
 *
 * A batch that holds anything else is undone and run one by one: a walk that fails, finds a
 * superpage or must set A or D. So is every reference while a PTE store is still on its way to this
 * hart, since a batch reads the table as it is when it begins. Fences and stores come between two
 * streams, never inside one. After a batch that was undone the next tries are rarer and rarer, as a
 * stream that faults now will soon again.
 *
 * Entries are tags while batches run (tlb_batch.c). Their PTEs are looked up in the table when the
 * arrays are closed, which is what they held if they agreed with it when they were opened: checked
 * there, as a stale entry is the point of this simulator. One that disagrees, a negative entry, a
 * tag that a fence dropped, a unified page-walk cache, lines captured into sectors or fetched
 * ahead: all of that is run one by one by mmu.c.
 *
 * Time. When the machine reads every PTE in the same time, it is a product; else each read is drawn
 * as mmu.c draws it, in the order of the references, because the draws are counted per line.
 */
#include "mmu_batch.h"

#include <assert.h>
#include <string.h>

#include "rv.h"
#include "simd.h"

enum { BATCH_MIN = 256, REPEATS_LOOKED = 64, REPEATS_WORTH = 6, WAIT_MAX = 64,
       AHEAD_BYTES = 4096,
       LEVEL_SHIFT = TLB_VPN_BITS, ASID_SHIFT = 48 };

#define INDEX_MASK ((UINT64_C(1) << TLB_VPN_BITS) - 1)
#define NO_KEY UINT64_MAX

static void touch(uint64_t *words, size_t words_nr)
{
    memset(words, 0, words_nr * sizeof words[0]);
}

void mmu_batch_create(struct mmu_batch *batch, struct arena *arena, struct mmu *mmu,
                      const struct pagetable *pt)
{
    size_t room = MMU_BATCH_REFERENCES + MMU_BATCH_SLACK;
    *batch = (struct mmu_batch){.mmu = mmu, .pt = pt};
    tlb_batch_create(&batch->l1i, arena, &mmu->l1i.array[0]);
    tlb_batch_create(&batch->l1d, arena, &mmu->l1d.array[0]);
    tlb_batch_create(&batch->l1st, arena, &mmu->l1st.array[0]);
    tlb_batch_create(&batch->l2, arena, &mmu->l2.array[0]);
    for (uint32_t level = 0; level < CSIM_SIZES; level++)
        tlb_batch_create(&batch->pwc[level], arena, &mmu->pwc.array[level]);
    batch->keys = arena_take(arena, MMU_BATCH_BLOCK + MMU_BATCH_SLACK, sizeof batch->keys[0]);
    batch->l1_missed = arena_take(arena, room, sizeof batch->l1_missed[0]);
    batch->l2_missed = arena_take(arena, room, sizeof batch->l2_missed[0]);
    batch->pointers = arena_take(arena, room, sizeof batch->pointers[0]);
    batch->at = arena_take(arena, room, sizeof batch->at[0]);
    batch->next_at = arena_take(arena, room, sizeof batch->next_at[0]);
    batch->hits = arena_take(arena, room, sizeof batch->hits[0]);
    batch->reads = arena_take(arena, room, sizeof batch->reads[0]);
    batch->tables = arena_take(arena, MMU_BATCH_TABLES, sizeof batch->tables[0]);
    if (batch->tables == 0)
        return;
    touch(batch->l1_missed, room);                  /* pages come at creation, not in a stream */
    touch(batch->l2_missed, room);
    touch(batch->pointers, room);
    memset(batch->at, 0, room * sizeof batch->at[0]);
    memset(batch->next_at, 0, room * sizeof batch->next_at[0]);
    memset(batch->tables, 0, MMU_BATCH_TABLES * sizeof batch->tables[0]);
}

static uint16_t asid_of(const struct mmu_batch *batch)
{
    return batch->request.asid & batch->mmu->asid_mask;
}

/* ---- The table as it is ---------------------------------------------------------------------- */

static bool is_pointer(struct pte pte)
{
    uint64_t rwx = RV_PTE_R | RV_PTE_W | RV_PTE_X;
    return (pte.bits & (rwx | RV_PTE_V | PTE_POINTER_RESERVED)) == RV_PTE_V;
}

/* The PTE of a page at `level`, the way there being pointers; *global: one of them was, or it. */
static bool find_pte(const struct mmu_batch *batch, uint64_t vpn, uint32_t level, struct pte *pte,
                     uint64_t *pa, bool *global)
{
    const struct pagetable *pt = batch->pt;
    uint64_t table_ppn = pt->root_ppn;
    *global = false;
    for (uint32_t at = pt->levels - 1;; at--) {
        *pa = (table_ppn << RV_PAGE_SHIFT)
              + (rv_vpn_index(vpn << RV_PAGE_SHIFT, at) << RV_PTE_SHIFT);
        *pte = pagetable_newest(pt, *pa);
        *global |= pte_is_global(*pte);
        if (at == level)
            return true;
        if (!is_pointer(*pte))
            return false;
        table_ppn = pte_ppn(*pte);
    }
}

/* The last-level table of a region; NULL: there is none in the window. */
static struct mmu_batch_table *find_table(struct mmu_batch *batch, uint64_t region)
{
    struct mmu_batch_table *table = &batch->tables[region % MMU_BATCH_TABLES];
    const struct pagetable *pt = batch->pt;
    struct pte pte;
    uint64_t pa;
    bool global;
    if (!find_pte(batch, region << RV_VPN_BITS, 1, &pte, &pa, &global) || !is_pointer(pte))
        return 0;
    uint64_t frame = pte_ppn(pte) - pt->base_ppn;
    if (frame >= pt->frames_nr)
        return 0;
    *table = (struct mmu_batch_table){region + 1, frame * RV_TABLE_PTES, pa, global};
    return table;
}

static inline const struct mmu_batch_table *table_of(struct mmu_batch *batch, uint64_t key)
{
    uint64_t region = (key & INDEX_MASK) >> RV_VPN_BITS;
    const struct mmu_batch_table *table = &batch->tables[region % MMU_BATCH_TABLES];
    return table->region == region + 1 ? table : find_table(batch, region);
}

static bool answers(const struct mmu_batch *batch, struct pte pte)
{
    return (pte.bits & batch->leaf_mask) == batch->leaf_want;
}

/* A readable leaf of 4 KiB that passes every check of the context and needs no A or D. */
static void derive_leaf(struct mmu_batch *batch)
{
    const struct walk_context *context = &batch->mmu->context[batch->request.user ? 0 : 1];
    const struct walk_rule *rule = &context->rule[batch->request.access];
    batch->leaf_want = rule->want | rule->ad | RV_PTE_V | RV_PTE_R;
    batch->leaf_mask = rule->mask | batch->leaf_want | context->leaf_reserved | RV_PTE_N
                       | RV_PTE_PBMT;
}

/* ---- Opening and closing --------------------------------------------------------------------- */

/* The PTE a slot should hold for its page; false: the table says otherwise than a batch needs. */
static bool wanted_pte(struct mmu_batch *batch, uint64_t vpn, uint32_t level, struct pte *pte,
                       bool *global)
{
    uint64_t pa;
    if (level > 0)
        return find_pte(batch, vpn, level, pte, &pa, global) && is_pointer(*pte);
    const struct mmu_batch_table *table = table_of(batch, vpn);
    if (table == 0)
        return false;
    pte->bits = batch->pt->frames[table->word + (vpn & (RV_TABLE_PTES - 1))];
    *global = table->global || pte_is_global(*pte);
    return answers(batch, *pte);
}

/* Every entry of the array, written as the table has it, or only compared with it. */
static bool agree(struct mmu_batch *batch, struct tlb_batch *one, uint32_t level, bool write)
{
    struct tlb_array *array = one->array;
    bool same = true;
    for (uint32_t slot = 0; slot < array->sets * array->ways; slot++) {
        uint64_t key;
        uint8_t held;
        if (!tlb_batch_slot(one, slot, &key, &held))
            continue;
        for (uint32_t sector = 0; held >> sector != 0; sector++) {
            struct pte *to = &array->ptes[(slot << array->sector_shift) + sector], pte;
            uint64_t vpn = ((key & INDEX_MASK) + sector) << (RV_VPN_BITS * level);
            uint8_t bit = (uint8_t)(1u << sector);
            bool global;
            if (!(held & bit))
                continue;
            bool found = wanted_pte(batch, vpn, level, &pte, &global);
            same &= found && to->bits == pte.bits && ((array->global[slot] & bit) != 0) == global;
            if (!write)
                continue;
            *to = pte;
            array->global[slot] = (uint8_t)((array->global[slot] & ~bit) | (global ? bit : 0));
        }
    }
    return same;
}

static bool is_plain(const struct mmu_batch *batch)
{
    const struct mmu *mmu = batch->mmu;
    const struct csim_machine *machine = mmu->machine;
    const struct tlb *l1 = mmu_l1_of(batch->mmu, (enum csim_access)batch->request.access);
    bool sectors = l1->array[0].sector_shift != 0 || mmu->l2.array[0].sector_shift != 0;
    for (uint32_t level = 1; level < CSIM_SIZES; level++)
        sectors |= mmu->pwc.array[level].sector_shift != 0;
    return !machine->prefetch_next_line && !mmu->pwc.unified && l1->home[0] == 0
           && (mmu->l2.levels == 0 || mmu->l2.home[0] == 0)
           && !(sectors && machine->inv_line_capture > 1)
           && l1->array[1].levels_used == 0 && mmu->l2.array[1].levels_used == 0;
}

static bool open_one(struct mmu_batch *batch, struct tlb_batch *one, uint32_t level)
{
    return tlb_batch_open(one, level, asid_of(batch), batch->simd)
           && agree(batch, one, level, false);
}

static bool open_all(struct mmu_batch *batch, uint64_t at_cycles)
{
    struct mmu *mmu = batch->mmu;
    if (at_cycles < batch->pt->settled_at_cycles || !is_plain(batch))
        return false;
    for (uint32_t i = 0; i < MMU_WALKERS_MAX; i++)
        if (mmu->walker_free_at[i] > at_cycles)
            return false;
    if (batch->stores != batch->pt->stores)
        memset(batch->tables, 0, MMU_BATCH_TABLES * sizeof batch->tables[0]);
    batch->stores = batch->pt->stores;
    derive_leaf(batch);
    bool open = open_one(batch, batch->l1, 0) && open_one(batch, &batch->l2, 0);
    for (uint32_t level = 1; open && level < mmu->machine->levels; level++)
        open = open_one(batch, &batch->pwc[level], level);
    batch->last_key = NO_KEY;
    batch->open = open;
    return open;
}

static void close_one(struct mmu_batch *batch, struct tlb_batch *one, uint32_t level)
{
    tlb_batch_close(one, level, asid_of(batch));
    (void)agree(batch, one, level, true);
}

static void close_all(struct mmu_batch *batch)
{
    close_one(batch, batch->l1, 0);
    close_one(batch, &batch->l2, 0);
    for (uint32_t level = 1; level < batch->mmu->machine->levels; level++)
        close_one(batch, &batch->pwc[level], level);
    batch->open = false;
}

static void for_all(struct mmu_batch *batch, void (*act)(struct tlb_batch *))
{
    act(batch->l1);
    act(&batch->l2);
    for (uint32_t level = 1; level < batch->mmu->machine->levels; level++)
        act(&batch->pwc[level]);
}

/* ---- One batch ------------------------------------------------------------------------------- */

/* A stream longer than the caches comes from memory: what the next block will be made of is on its
 * way while this one passes L1. Past the stream's end there may be nothing: no word is read. */
static inline void fetch_ahead(const uint64_t *vas)
{
    __builtin_prefetch((const void *)((uintptr_t)vas + AHEAD_BYTES));
}

/* Keys of the addresses, those like the one before left out if `drop`; *odd: some address is not
 * canonical. */
static uint32_t make_keys(const uint64_t *vas, uint32_t n, uint32_t sign, uint64_t kind, bool drop,
                          uint64_t last, uint64_t *keys, bool *odd)
{
    uint32_t made = 0;
    uint64_t differs = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t key = (vas[i] >> RV_PAGE_SHIFT & INDEX_MASK) | kind;
        differs |= (uint64_t)((int64_t)(vas[i] << sign) >> sign) ^ vas[i];
        keys[made] = key;
        made += !drop || key != last;
        last = key;
    }
    *odd = differs != 0;
    return made;
}

#if SIMD_X86

/* va + half reaches past the mode's bits where va does not end in copies of its sign. */
SIMD_AVX512 static bool is_odd(__m512i sums, uint32_t sign)
{
    const __m512i past = _mm512_set1_epi64((long long)~(UINT64_MAX >> sign));
    return _mm512_test_epi64_mask(sums, past) != 0;
}

SIMD_AVX512 static uint32_t make_keys_avx512(const uint64_t *vas, uint32_t n, uint32_t sign,
                                             uint64_t kind, uint64_t last, uint64_t *keys,
                                             bool *odd)
{
    const __m512i index = _mm512_set1_epi64((long long)INDEX_MASK);
    const __m512i kinds = _mm512_set1_epi64((long long)kind);
    const __m512i half = _mm512_set1_epi64((long long)(UINT64_C(1) << 63 >> sign));
    __m512i before = _mm512_set1_epi64((long long)last), sums = _mm512_setzero_si512();
    uint32_t made = 0, i = 0;
    for (; i + 8 <= n; i += 8) {
        fetch_ahead(vas + i);
        __m512i va = _mm512_loadu_si512(vas + i), key = _mm512_srli_epi64(va, RV_PAGE_SHIFT);
        key = _mm512_ternarylogic_epi64(key, index, kinds, 0xea);       /* key & index | kinds */
        sums = _mm512_or_si512(sums, _mm512_add_epi64(va, half));
        uint32_t keep = _mm512_cmpneq_epi64_mask(key, _mm512_alignr_epi64(key, before, 7));
        before = key;
        if (keep == 0)
            continue;
        _mm512_storeu_si512(keys + made, _mm512_maskz_compress_epi64((__mmask8)keep, key));
        made += (uint32_t)__builtin_popcount(keep);
    }
    if (i > 0)
        last = (vas[i - 1] >> RV_PAGE_SHIFT & INDEX_MASK) | kind;
    bool odd_tail;
    made += make_keys(vas + i, n - i, sign, kind, true, last, keys + made, &odd_tail);
    *odd = odd_tail || is_odd(sums, sign);
    return made;
}

SIMD_AVX512 static uint32_t make_all_keys_avx512(const uint64_t *vas, uint32_t n, uint32_t sign,
                                                 uint64_t kind, uint64_t *keys, bool *odd)
{
    const __m512i index = _mm512_set1_epi64((long long)INDEX_MASK);
    const __m512i kinds = _mm512_set1_epi64((long long)kind);
    const __m512i half = _mm512_set1_epi64((long long)(UINT64_C(1) << 63 >> sign));
    __m512i sums = _mm512_setzero_si512();
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8) {
        fetch_ahead(vas + i);
        __m512i va = _mm512_loadu_si512(vas + i), key = _mm512_srli_epi64(va, RV_PAGE_SHIFT);
        sums = _mm512_or_si512(sums, _mm512_add_epi64(va, half));
        _mm512_storeu_si512(keys + i, _mm512_ternarylogic_epi64(key, index, kinds, 0xea));
    }
    bool odd_tail;
    (void)make_keys(vas + i, n - i, sign, kind, false, NO_KEY, keys + i, &odd_tail);
    *odd = odd_tail || is_odd(sums, sign);
    return n;
}

#endif

static uint64_t key_of(const struct mmu_batch *batch, uint64_t va)
{
    return (va >> RV_PAGE_SHIFT & INDEX_MASK) | (uint64_t)asid_of(batch) << ASID_SHIFT;
}

/* Whether many of the first references are to the page of the one before: worth leaving out. */
static bool repeats(const uint64_t *vas, uint32_t n)
{
    uint32_t found = 0, looked = n < REPEATS_LOOKED ? n : REPEATS_LOOKED;
    for (uint32_t i = 1; i < looked; i++)
        found += (vas[i] ^ vas[i - 1]) >> RV_PAGE_SHIFT == 0;
    return found * REPEATS_WORTH > looked;
}

static uint32_t keys_of(const struct mmu_batch *batch, const uint64_t *vas, uint32_t n, bool drop,
                        bool *odd)
{
    uint32_t sign = 64 - RV_PAGE_SHIFT - RV_VPN_BITS * batch->mmu->machine->levels;
    uint64_t kind = (uint64_t)asid_of(batch) << ASID_SHIFT;
#if SIMD_X86
    if (batch->simd == CSIM_SIMD_AVX512 && !drop)
        return make_all_keys_avx512(vas, n, sign, kind, batch->keys, odd);
    if (batch->simd == CSIM_SIMD_AVX512)
        return make_keys_avx512(vas, n, sign, kind, batch->last_key, batch->keys, odd);
#endif
    return make_keys(vas, n, sign, kind, drop, batch->last_key, batch->keys, odd);
}

/* Whether all leaves that the walks lead to answer. */
static bool read_leaves(struct mmu_batch *batch, uint32_t walks)
{
    const uint64_t *frames = batch->pt->frames, *keys = batch->l2_missed;
    uint64_t mask = batch->leaf_mask, want = batch->leaf_want, differs = 0;
    for (uint32_t i = 0; i < walks; i++) {
        const struct mmu_batch_table *table = table_of(batch, keys[i]);
        if (table == 0)
            return false;
        uint64_t pte = frames[table->word + (keys[i] & (RV_TABLE_PTES - 1))];
        differs |= (pte & mask) ^ want;
    }
    return differs == 0;
}

/* Takes the walks that found no pointer yet through the cache of `level`; returns how many still
 * found none. A pointer of `level` leaves `level` reads. */
static uint32_t pass_pointers(struct mmu_batch *batch, uint32_t level, uint32_t looking)
{
    struct tlb_batch *pwc = &batch->pwc[level];
    const uint64_t *walks = batch->l2_missed;
    uint64_t kind = (uint64_t)level << LEVEL_SHIFT | (uint64_t)asid_of(batch) << ASID_SHIFT;
    uint64_t *keys = batch->pointers, last = NO_KEY;
    uint32_t asked = 0, missed = 0, shift = RV_VPN_BITS * level;
    uint16_t *at = batch->at, *next_at = batch->next_at;
    bool drop = tlb_batch_repeats_free(pwc);
    if (pwc->array->ways == 0)
        return looking;
    for (uint32_t i = 0; i < looking; i++) {
        uint64_t key = (walks[at[i]] & INDEX_MASK) >> shift | kind;
        batch->reads[at[i]] = (uint8_t)level;
        keys[asked] = key;
        next_at[asked] = at[i];
        asked += !drop || key != last;
        last = key;
    }
    (void)tlb_batch_pass(pwc, keys, asked, batch->l1_missed, batch->hits);   /* read before */
    for (uint32_t i = 0; i < asked; i++) {
        at[missed] = next_at[i];
        missed += !batch->hits[i];
    }
    return missed;
}

/* How many PTEs each walk reads: reads[i]. Returns the walks that no pointer shortened. */
static uint32_t follow_pointers(struct mmu_batch *batch, uint32_t walks)
{
    uint32_t levels = batch->mmu->machine->levels, looking = walks;
    for (uint32_t i = 0; i < walks; i++)
        batch->at[i] = (uint16_t)i;
    for (uint32_t level = 1; level < levels; level++)
        looking = pass_pointers(batch, level, looking);
    for (uint32_t i = 0; i < looking; i++)
        batch->reads[batch->at[i]] = (uint8_t)levels;
    return looking;
}

/* Cycles of the walks' reads, each drawn as mmu.c would. */
static uint64_t draw_reads(struct mmu_batch *batch, uint32_t walks)
{
    uint64_t cycles = 0, base_pa = batch->pt->base_ppn << RV_PAGE_SHIFT;
    for (uint32_t i = 0; i < walks; i++) {
        uint64_t key = batch->l2_missed[i];
        const struct mmu_batch_table *table = table_of(batch, key);
        for (uint32_t level = batch->reads[i]; level-- > 2;) {
            struct pte pte;
            uint64_t pa;
            bool global;
            (void)find_pte(batch, key & INDEX_MASK, level, &pte, &pa, &global);
            cycles += mmu_read_cycles(batch->mmu, pa);
        }
        if (batch->reads[i] > 1)
            cycles += mmu_read_cycles(batch->mmu, table->pointer_pa);
        uint64_t word = table->word + (key & (RV_TABLE_PTES - 1));
        cycles += mmu_read_cycles(batch->mmu, base_pa + (word << RV_PTE_SHIFT));
    }
    return cycles;
}

struct tally {
    uint32_t references, l1_misses, walks, unshortened;
};

static uint64_t charge(struct mmu_batch *batch, const struct tally *tally)
{
    struct mmu *mmu = batch->mmu;
    const struct csim_machine *machine = mmu->machine;
    struct csim_counters *counters = mmu->counters;
    uint64_t reads = 0, shortened = tally->walks - tally->unshortened;
    uint32_t l2_hits = tally->l1_misses - tally->walks, each;
    for (uint32_t i = 0; i < tally->walks; i++)
        reads += batch->reads[i];
    counters->lookups += tally->references;
    counters->l1_hits += tally->references - tally->l1_misses;
    counters->l2_hits += l2_hits;
    counters->misses += tally->walks;
    counters->walks += tally->walks;
    counters->walk_reads += reads;
    counters->pwc_hits += shortened;
    uint64_t cycles = (uint64_t)tally->references * machine->l1_hit_cycles
                      + (uint64_t)l2_hits * mmu_l2_cycles(mmu, 0)
                      + (uint64_t)tally->walks * mmu_l2_cycles(mmu, CSIM_SIZES)
                      + shortened * machine->pwc_hit_cycles
                      + reads * machine->walk_overhead_per_level_cycles;
    if (mmu_reads_alike(mmu, &each))
        return cycles + reads * each;
    return cycles + draw_reads(batch, tally->walks);
}

/* Block by block, so that keys stay near; returns the misses. *odd: an address is not canonical. */
static uint32_t pass_l1(struct mmu_batch *batch, const uint64_t *vas, uint32_t n, bool *odd)
{
    bool drop = tlb_batch_repeats_free(batch->l1) && repeats(vas, n);
    uint32_t misses = 0;
    *odd = false;
    for (uint32_t at = 0; at < n && !*odd; at += MMU_BATCH_BLOCK) {
        uint32_t block = n - at < MMU_BATCH_BLOCK ? n - at : MMU_BATCH_BLOCK;
        uint32_t keys = keys_of(batch, vas + at, block, drop, odd);
        misses += tlb_batch_pass(batch->l1, batch->keys, keys, batch->l1_missed + misses, 0);
        batch->last_key = key_of(batch, vas[at + block - 1]);
    }
    return misses;
}

/* False: the batch holds something that has to go one by one; nothing has changed. */
static bool run_batch(struct mmu_batch *batch, const uint64_t *vas, uint32_t n, uint64_t *cycles)
{
    bool odd;
    for_all(batch, tlb_batch_save);
    struct tally tally = {.references = n};
    tally.l1_misses = pass_l1(batch, vas, n, &odd);
    tally.walks = tlb_batch_pass(&batch->l2, batch->l1_missed, tally.l1_misses, batch->l2_missed,
                                 0);
    if (odd || !read_leaves(batch, tally.walks)) {
        for_all(batch, tlb_batch_restore);
        return false;
    }
    tally.unshortened = follow_pointers(batch, tally.walks);
    *cycles += charge(batch, &tally);
    return true;
}

/* ---- The stream ------------------------------------------------------------------------------ */

static void one_by_one(struct mmu_batch *batch, const uint64_t *vas, uint32_t n,
                       uint64_t at_cycles, struct mmu_batch_sum *sum)
{
    struct mmu *mmu = batch->mmu;
    struct mmu_request request = batch->request;
    for (uint32_t i = 0; i < n; i++) {
        request.va = vas[i];
        sum->cycles += mmu_begin(mmu, &request);
        while (mmu->walking)
            sum->cycles += mmu_step(mmu, batch->pt, at_cycles + sum->cycles);
        sum->faults += mmu->answer.fail != WALK_NONE;
    }
}

void mmu_batch_run(struct mmu_batch *batch, const struct mmu_request *request,
                   const uint64_t *vas, uint64_t vas_nr, enum csim_simd simd,
                   uint64_t at_cycles, struct mmu_batch_sum *sum)
{
    uint32_t wait = 0, patience = 1;
    *sum = (struct mmu_batch_sum){.cycles = 0};
    mmu_abort(batch->mmu);
    batch->request = *request;
    batch->simd = simd;
    batch->l1 = request->access == CSIM_FETCH ? &batch->l1i : &batch->l1d;
    if (request->access == CSIM_STORE && batch->mmu->machine->l1_split_store)
        batch->l1 = &batch->l1st;
    for (uint64_t done = 0; done < vas_nr;) {
        uint64_t left = vas_nr - done;
        uint32_t n = left < MMU_BATCH_REFERENCES ? (uint32_t)left : MMU_BATCH_REFERENCES;
        bool worth = wait == 0 && left >= BATCH_MIN;
        bool tried = batch->open || (worth && open_all(batch, at_cycles + sum->cycles));
        if (tried && run_batch(batch, vas + done, n, &sum->cycles)) {
            sum->batched += n;
            done += n;
            continue;
        }
        if (batch->open)
            close_all(batch);
        if (wait == 0) {
            wait = patience;
            patience = patience < WAIT_MAX ? 2 * patience : WAIT_MAX;
        }
        wait--;
        one_by_one(batch, vas + done, n, at_cycles, sum);
        done += n;
    }
    if (batch->open)
        close_all(batch);
}
