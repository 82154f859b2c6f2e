/* pagetable.c: PTEs in simulated memory, and who sees a recent store from when.
 *
 * Memory holds the newest value of each word. A hart that a store has not reached yet must read the
 * value before it, so each store leaves a version in a ring: place, old value, time, storing hart.
 * Reading starts from the newest value and goes back over the versions of that word, newest first,
 * until one has reached the asking hart; each one that has not is undone. Since a hart takes the
 * last store that has reached it, it never goes back to an older value once it saw a newer one, as
 * coherence of a single location demands (RVWMO, "load value axiom"), whatever the order of times.
 *
 * Finding the versions of a word: `newest` holds, per word, the ring slot of its last store, and a
 * version says how many stores ago the previous one of the same word was. A slot that was
 * overwritten since belongs to another word or is a later store of the same one, which then is what
 * `newest` means; so a slot whose `pa` matches is always the last store. Versions older than the
 * ring are gone; pagetable_must_wait() keeps the caller from losing one that is still needed.
 *
 * From `settled_at_cycles` on nothing is in flight, and a read is one load.
 *
 * Left out: the bytes a store covers (PTE stores are full words), store-buffer forwarding to the
 * own walker (the drain time stands for it), bandwidth. Stores of one hart are seen in the order of
 * their times (FIFO drain), so this model never shows a missing barrier; the explorer does.
 * Source: riscv-isa-manual 1d472b8, src/priv/supervisor.adoc (implicit references are not ordered
 * with explicit stores); the two delays are fields of the machine.
 */
#include "pagetable.h"

#include <assert.h>
#include <stddef.h>

/* assumed: RAM starts at 2 GiB, as on QEMU's virt machine; it ends where the 56-bit physical
 * addresses of Sv39 do. Tables lie at its start; what the leaves point to is never read. */
#define RAM_FIRST UINT64_C(0x80000000)
#define RAM_END (UINT64_C(1) << 56)

/* A run of stores: one hart, one store each `step_cycles`. */
struct burst {
    uint64_t at_cycles;
    uint32_t hart;
    uint32_t step_cycles;
    uint32_t stores;
};

/* One PTE: where it lies, and what it translates. */
struct place {
    uint64_t pa;
    uint64_t va;
    uint32_t level;
};

static uint64_t frame_ppn(const struct pagetable *pt, uint32_t frame)
{
    return pt->base_ppn + frame;
}

void pagetable_create(struct pagetable *pt, struct arena *arena, uint32_t levels,
                      uint32_t frames_nr, uint32_t ring_nr, const struct csim_machine *machine)
{
    uint32_t slots = 1;
    while (slots < ring_nr)
        slots *= 2;
    size_t words = (size_t)frames_nr * RV_TABLE_PTES;
    *pt = (struct pagetable){
        .base_ppn = RAM_FIRST >> RV_PAGE_SHIFT,
        .frames_nr = frames_nr,
        .frames_used = 1,
        .levels = levels,
        .root_ppn = RAM_FIRST >> RV_PAGE_SHIFT,
        .ram_first = RAM_FIRST,
        .ram_end = RAM_END,
        .ring_nr = slots,
        .store_drain_cycles = machine->store_drain_cycles,
        .coherence_cycles = machine->coherence_cycles,
    };
    assert(frames_nr > 0 && levels >= RV_LEVELS_MIN && levels <= RV_LEVELS_MAX);
    pt->frames = arena_take(arena, words, sizeof pt->frames[0]);
    pt->newest = arena_take(arena, words, sizeof pt->newest[0]);
    pt->spare = arena_take(arena, frames_nr, sizeof pt->spare[0]);
    pt->ring = arena_take(arena, slots, sizeof pt->ring[0]);
}

void pagetable_of_words(struct pagetable *pt, const struct csim_word *words, uint32_t words_nr,
                        uint64_t ram_first, uint64_t ram_end)
{
    *pt = (struct pagetable){
        .words = words,
        .words_nr = words_nr,
        .ram_first = ram_first,
        .ram_end = ram_end,
    };
}

/* Whether pa is in the window; then *word is its index there. */
static bool window_word(const struct pagetable *pt, uint64_t pa, size_t *word)
{
    uint64_t offset = pa - (pt->base_ppn << RV_PAGE_SHIFT);
    *word = (size_t)(offset >> RV_PTE_SHIFT);
    return offset < (uint64_t)pt->frames_nr << RV_PAGE_SHIFT;
}

/* The number (from 0, over all stores) of the store in a ring slot. */
static uint64_t store_in_slot(const struct pagetable *pt, uint32_t slot)
{
    uint64_t last = pt->stores - 1;
    return last - ((last - slot) & (pt->ring_nr - 1));
}

/* The number of the last store to a word, while the ring remembers it. */
static bool last_store(const struct pagetable *pt, size_t word, uint64_t pa, uint64_t *number)
{
    if (pt->newest[word] == 0)
        return false;
    uint32_t slot = pt->newest[word] - 1;
    *number = store_in_slot(pt, slot);
    return pt->ring[slot].pa == pa;
}

/* Who asks: its loads find its own stores at once (they forward), its walker when they drained. */
struct reader {
    uint32_t hart;
    bool walker;
    uint64_t at_cycles;
};

static bool has_reached(const struct pagetable *pt, const struct pagetable_version *version,
                        const struct reader *reader)
{
    uint64_t seen_at = version->at_cycles;
    if (version->hart != reader->hart)
        seen_at += (uint64_t)pt->store_drain_cycles + pt->coherence_cycles;
    else if (reader->walker)
        seen_at += pt->store_drain_cycles;
    return seen_at <= reader->at_cycles;
}

/* Undoes, newest first, the stores to the word that have not reached the hart. */
static uint64_t value_behind(const struct pagetable *pt, size_t word, uint64_t pa,
                             const struct reader *reader)
{
    uint64_t value = pt->frames[word];
    uint64_t number;
    if (!last_store(pt, word, pa, &number))
        return value;
    for (;;) {                                      /* at most ring_nr versions */
        const struct pagetable_version *version = &pt->ring[number & (pt->ring_nr - 1)];
        if (has_reached(pt, version, reader))
            return value;
        value = version->before;
        number -= version->older;
        if (version->older == 0 || pt->stores - number > pt->ring_nr)
            return value;
    }
}

static uint64_t value_of_words(const struct pagetable *pt, uint64_t pa)
{
    for (uint32_t i = 0; i < pt->words_nr; i++)
        if (pt->words[i].pa == pa)
            return pt->words[i].value;
    return 0;
}

static uint64_t value_for(const struct pagetable *pt, size_t word, uint64_t pa,
                          const struct reader *reader)
{
    bool settled = reader->at_cycles >= pt->settled_at_cycles;
    return settled ? pt->frames[word] : value_behind(pt, word, pa, reader);
}

bool pagetable_read(const struct pagetable *pt, uint64_t pa, uint32_t hart, uint64_t at_cycles,
                    struct pte *pte)
{
    size_t word;
    if (window_word(pt, pa, &word)) {
        struct reader walker = {.hart = hart, .walker = true, .at_cycles = at_cycles};
        pte->bits = value_for(pt, word, pa, &walker);
        return true;
    }
    pte->bits = value_of_words(pt, pa);
    return pa >= pt->ram_first && pa < pt->ram_end;
}

struct pte pagetable_newest(const struct pagetable *pt, uint64_t pa)
{
    size_t word;
    if (window_word(pt, pa, &word))
        return (struct pte){pt->frames[word]};
    return (struct pte){value_of_words(pt, pa)};
}

void pagetable_store(struct pagetable *pt, uint64_t pa, struct pte pte, uint32_t hart,
                     uint64_t at_cycles)
{
    size_t word;
    bool inside = window_word(pt, pa, &word);
    assert(inside);
    (void)inside;
    uint64_t number = pt->stores, last;
    uint64_t older = last_store(pt, word, pa, &last) ? number - last : 0;
    uint32_t slot = (uint32_t)(number & (pt->ring_nr - 1));
    pt->ring[slot] = (struct pagetable_version){
        .pa = pa,
        .before = pt->frames[word],
        .at_cycles = at_cycles,
        .hart = hart,
        .older = (uint32_t)older,                   /* <= ring_nr, as it is still in the ring */
    };
    pt->frames[word] = pte.bits;
    pt->newest[word] = slot + 1;
    pt->stores++;
    uint64_t settled = at_cycles + pt->store_drain_cycles + pt->coherence_cycles;
    if (settled > pt->settled_at_cycles)
        pt->settled_at_cycles = settled;
}

static void burst_store(struct pagetable *pt, struct burst *burst, struct place place,
                        struct pte pte)
{
    uint64_t at_cycles = burst->at_cycles + (uint64_t)burst->stores * burst->step_cycles;
    if (pt->trace != 0)
        trace_put(pt->trace, (struct csim_log_entry){
            .at_cycles = at_cycles, .va = place.va, .value = pte.bits, .hart = burst->hart,
            .detail = place.level, .kind = CSIM_LOG_STORE});
    pagetable_store(pt, place.pa, pte, burst->hart, at_cycles);
    burst->stores++;
}

static uint64_t pte_address(uint64_t table_ppn, uint64_t va, uint32_t level)
{
    return (table_ppn << RV_PAGE_SHIFT) + (rv_vpn_index(va, level) << RV_PTE_SHIFT);
}

/* A zeroed frame of the window. */
static uint64_t take_frame(struct pagetable *pt)
{
    if (pt->spare_nr > 0)
        return frame_ppn(pt, pt->spare[--pt->spare_nr]);
    assert(pt->frames_used < pt->frames_nr);
    return frame_ppn(pt, pt->frames_used++);
}

/* Only an empty table may be given back: its words are zero, so it can be taken again as it is. */
static void give_frame(struct pagetable *pt, uint64_t ppn)
{
    uint32_t frame = (uint32_t)(ppn - pt->base_ppn);
    for (size_t i = 0; i < RV_TABLE_PTES; i++)
        assert(pt->frames[(size_t)frame * RV_TABLE_PTES + i] == 0);
    pt->spare[pt->spare_nr++] = frame;
}

/* Where the PTE of va at `level` lies; tables that are missing above it are made. */
static uint64_t reach(struct pagetable *pt, uint64_t va, uint32_t level, struct burst *burst)
{
    uint64_t table_ppn = pt->root_ppn;
    for (uint32_t above = pt->levels - 1; above > level; above--) {
        uint64_t pa = pte_address(table_ppn, va, above);
        struct pte pte = pagetable_newest(pt, pa);
        if (!pte_is_valid(pte)) {
            pte = pte_make(take_frame(pt), RV_PTE_V);
            burst_store(pt, burst, (struct place){pa, va, above}, pte);
        }
        assert(!pte_is_leaf(pte));                  /* small pages over a mapped superpage */
        table_ppn = pte_ppn(pte);
    }
    return pte_address(table_ppn, va, level);
}

static uint32_t leaf_pages(uint32_t level) { return 1U << (RV_VPN_BITS * level); }

uint32_t pagetable_map(struct pagetable *pt, uint64_t va, uint32_t pages, uint32_t level,
                       uint64_t ppn, uint64_t flags, uint32_t hart, uint64_t at_cycles,
                       uint32_t store_cycles)
{
    struct burst burst = {.at_cycles = at_cycles, .hart = hart, .step_cycles = store_cycles};
    uint32_t step = leaf_pages(level);
    assert((flags & RV_PTE_V) != 0 && level < RV_LEVELS_MIN);
    assert((va >> RV_PAGE_SHIFT) % step == 0 && pages % step == 0 && ppn % step == 0);
    for (uint32_t page = 0; page < pages; page += step) {
        uint64_t at = va + ((uint64_t)page << RV_PAGE_SHIFT);
        uint64_t pa = reach(pt, at, level, &burst);
        struct pte old = pagetable_newest(pt, pa);
        if (pte_is_valid(old) && !pte_is_leaf(old))
            give_frame(pt, pte_ppn(old));
        burst_store(pt, &burst, (struct place){pa, at, level}, pte_make(ppn + page, flags));
    }
    assert(burst.stores <= pt->ring_nr);
    return burst.stores;
}

/* The newest valid leaf of va, its level and place; false when there is none, and *level is then
 * where the search ended. */
static bool find_leaf(const struct pagetable *pt, uint64_t va, uint32_t *level, uint64_t *pa,
                      struct pte *pte)
{
    uint64_t table_ppn = pt->root_ppn;
    for (*level = pt->levels - 1;; (*level)--) {
        *pa = pte_address(table_ppn, va, *level);
        *pte = pagetable_newest(pt, *pa);
        if (!pte_is_valid(*pte))
            return false;
        if (pte_is_leaf(*pte))
            return true;
        assert(*level > 0);                         /* a pointer at level 0 is never stored */
        table_ppn = pte_ppn(*pte);
    }
}

uint32_t pagetable_unmap(struct pagetable *pt, uint64_t va, uint32_t pages, uint32_t hart,
                         uint64_t at_cycles, uint32_t store_cycles)
{
    struct burst burst = {.at_cycles = at_cycles, .hart = hart, .step_cycles = store_cycles};
    uint64_t end = va + ((uint64_t)pages << RV_PAGE_SHIFT);
    while (va != end) {
        uint32_t level;
        uint64_t pa;
        struct pte pte;
        bool found = find_leaf(pt, va, &level, &pa, &pte);
        uint64_t span_bytes = UINT64_C(1) << rv_span_shift(level);
        uint64_t next = (va & ~(span_bytes - 1)) + span_bytes;
        if (found) {
            assert(next - span_bytes == va && end - va >= span_bytes);
            burst_store(pt, &burst, (struct place){pa, va, level}, (struct pte){0});
        }
        va = next - va > end - va ? end : next;     /* a hole may reach past the end */
    }
    assert(burst.stores <= pt->ring_nr);
    return burst.stores;
}

struct pte pagetable_leaf(const struct pagetable *pt, uint64_t va)
{
    uint32_t level;
    uint64_t pa;
    struct pte pte;
    return find_leaf(pt, va, &level, &pa, &pte) ? pte : (struct pte){0};
}

struct pte pagetable_load(const struct pagetable *pt, uint64_t va, uint32_t hart,
                          uint64_t at_cycles)
{
    struct reader loads = {.hart = hart, .at_cycles = at_cycles};
    uint64_t table_ppn = pt->root_ppn;
    for (uint32_t level = pt->levels; level-- > 0;) {
        uint64_t pa = pte_address(table_ppn, va, level);
        size_t word;
        bool inside = window_word(pt, pa, &word);
        struct pte pte = {inside ? value_for(pt, word, pa, &loads) : 0};
        if (!pte_is_valid(pte))
            break;
        if (pte_is_leaf(pte))
            return pte;
        table_ppn = pte_ppn(pte);
    }
    return (struct pte){0};
}

bool pagetable_must_wait(const struct pagetable *pt, uint32_t stores, uint64_t slowest_at_cycles)
{
    assert(stores <= pt->ring_nr);
    uint64_t after = pt->stores + stores;
    if (after <= pt->ring_nr || slowest_at_cycles >= pt->settled_at_cycles)
        return false;
    uint64_t oldest = pt->stores > pt->ring_nr ? pt->stores - pt->ring_nr : 0;
    for (uint64_t number = oldest; number < after - pt->ring_nr; number++) {
        const struct pagetable_version *version = &pt->ring[number & (pt->ring_nr - 1)];
        uint64_t settled = version->at_cycles + pt->store_drain_cycles + pt->coherence_cycles;
        if (settled > slowest_at_cycles)
            return true;
    }
    return false;
}

void pagetable_settle(struct pagetable *pt)
{
    uint64_t kept = pt->stores < pt->ring_nr ? pt->stores : pt->ring_nr;
    for (uint64_t back = 1; back <= kept; back++) {
        struct pagetable_version *version = &pt->ring[(pt->stores - back) & (pt->ring_nr - 1)];
        if (version->at_cycles == 0)
            break;                                  /* settled before, and so are all older ones */
        version->at_cycles = 0;
    }
    pt->settled_at_cycles = 0;
}

void pagetable_preallocate(struct pagetable *pt, uint64_t va, uint64_t at_cycles)
{
    struct burst burst = {.at_cycles = at_cycles};
    (void)reach(pt, va, pt->levels - 2, &burst);
}
