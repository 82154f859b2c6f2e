/* tlb.c: translation caches as structures of arrays.
 *
 * Tags. One 64-bit word per slot: the page's index within its size (bits below the level and below
 * the sector are gone), the level, the ASID in the high bits; equal words are a hit in one compare.
 * A global entry of another ASID differs from the wanted word in the high bits only. Global is per
 * sector, since a valid kernel page is global while its invalid neighbour need not be.
 *
 * Sizes. Each size that an array ever held is asked for under its own index, smallest first, 64 KiB
 * last; among ways the lowest wins. Two live entries can cover one page (a stale 4 KiB one under a
 * new 2 MiB one): hardware leaves the choice open, this order is ours.
 *
 * Sectors: neighbours under one tag, each with its own PTE (Rocket: 8 tags x 4 pages). Superpages
 * in a sectored array own their tag alone and lie in sector 0.
 *
 * Fences. What a fence drops keeps its tag, so that the later miss can be charged to the fence's
 * cause. A full fence only ends the array's epoch: `held` of an older epoch is void, and
 * `ended_by[epoch]` says why. Every 256th full fence writes this down in all slots and starts over.
 * A dropped slot is free. When a fill takes it, its dropped tag moves: to the slot where the filled
 * tag itself lay dropped, if it did (refilling one page never forgets that another was dropped),
 * else to a free slot without dropped tags, else a dropped tag is forgotten, as an entry would have
 * been evicted by the newcomer: the oldest where the policy has ages, else that of the slot filled.
 * With LRU and full fences this is exact: a miss is a refill if and only if it would have hit had
 * no fence been (tests/laws). A negative entry that is dropped leaves no tag: the walk that follows
 * is what the first use of a new mapping costs anyway, under any policy.
 *
 * Speed. Most questions to an array of many ways are answered without reading its tags: a
 * counting filter over the tags says "nowhere", a memo of the slot found last says "here" and is
 * verified by the tag, and a set that was seen full stays so until something in it is dropped. None
 * of them can change an answer: the filter counts every tag that is in a slot, live or dropped, and
 * with one ASID in the array a tag is in one slot at most; with more, the memo is not asked,
 * because an entry of another ASID may be global and come first.
 *
 * Left out: banks, multi-hits as errors, the victim path of XiangShan's direct-mapped first level,
 * ECC.
 */
#include "tlb.h"

#include <assert.h>

#include "rv.h"

enum { LEVEL_SHIFT = TLB_VPN_BITS, ASID_SHIFT = 48, LEVEL_MASK = 7, FILTER_BITS_MIN = 8,
       HASHED_WAYS_MIN = 9 };

#define INDEX_MASK ((UINT64_C(1) << TLB_VPN_BITS) - 1)
#define NO_ASID ((UINT64_C(1) << ASID_SHIFT) - 1)
#define NO_TAG UINT64_MAX        /* level 7: no page has it */

/* Where to look for one address. */
struct key {
    uint64_t tag;
    uint32_t set, first;         /* first: its slot of way 0 */
    uint32_t sector;
};

static struct key key_of(const struct tlb_array *array, uint64_t vpn, uint32_t level,
                         uint16_t asid)
{
    uint64_t index = (vpn & INDEX_MASK) >> tlb_span_bits(level);
    uint32_t shift = level == array->sector_level ? array->sector_shift : 0;
    struct key key;
    key.sector = (uint32_t)index & ((UINT32_C(1) << shift) - 1);
    index >>= shift;
    key.tag = index | (uint64_t)level << LEVEL_SHIFT | (uint64_t)asid << ASID_SHIFT;
    key.set = (uint32_t)index & (array->sets - 1);
    key.first = key.set * array->ways;
    return key;
}

/* Fibonacci hashing of a tag without its ASID. */
static uint32_t hash_of(const struct tlb_array *array, uint64_t tag)
{
    return (uint32_t)((tag & NO_ASID) * UINT64_C(0x9e3779b97f4a7c15) >> array->filter_shift);
}

/* No slot has the tag; false: perhaps one has. */
static bool is_nowhere(const struct tlb_array *array, uint64_t tag)
{
    return array->hashed && array->filter[hash_of(array, tag)] == 0;
}

static uint32_t tag_level(uint64_t tag) { return tag >> LEVEL_SHIFT & LEVEL_MASK; }

static struct pte *pte_at(const struct tlb_array *array, uint32_t slot, uint32_t sector)
{
    return &array->ptes[(slot << array->sector_shift) + sector];
}

static uint8_t *cause_at(const struct tlb_array *array, uint32_t slot, uint32_t sector)
{
    return &array->causes[(slot << array->sector_shift) + sector];
}

static bool is_live(const struct tlb_array *array, uint32_t slot)
{
    return array->epochs[slot] == array->epoch && array->held[slot] != 0;
}

void tlb_array_create(struct tlb_array *array, struct arena *arena, const struct csim_array *shape,
                      uint32_t sector_level, uint64_t seed, uint32_t hart, uint32_t stream)
{
    *array = (struct tlb_array){.sector_level = sector_level};
    if (shape->ways == 0)
        return;
    array->sets = shape->sets;
    array->ways = shape->ways;
    array->levels = shape->levels;
    while ((UINT32_C(1) << array->sector_shift) < shape->sectors)
        array->sector_shift++;
    array->policy = tlb_policy_at(shape->policy);
    assert(array->policy != NULL && shape->sectors <= TLB_SECTORS_MAX);

    uint32_t slots = shape->sets * shape->ways;
    size_t sectors = (size_t)slots << array->sector_shift;
    array->tags = arena_take(arena, slots, sizeof array->tags[0]);
    array->held = arena_take(arena, slots, sizeof array->held[0]);
    array->global = arena_take(arena, slots, sizeof array->global[0]);
    array->dropped = arena_take(arena, slots, sizeof array->dropped[0]);
    array->epochs = arena_take(arena, slots, sizeof array->epochs[0]);
    array->ptes = arena_take(arena, sectors, sizeof array->ptes[0]);
    array->causes = arena_take(arena, sectors, sizeof array->causes[0]);
    array->hashed = shape->ways >= HASHED_WAYS_MIN;
    array->filter_shift = 64 - FILTER_BITS_MIN;
    while (array->hashed && UINT32_C(1) << (64 - array->filter_shift) < 8 * slots)
        array->filter_shift--;
    array->full = arena_take(arena, shape->sets, sizeof array->full[0]);
    size_t hashes = array->hashed ? (size_t)1 << (64 - array->filter_shift) : 0;
    array->filter = arena_take(arena, hashes, sizeof array->filter[0]);
    array->memo = arena_take(arena, hashes, sizeof array->memo[0]);
    tlb_policy_create(&array->order, arena, shape->sets, shape->ways, seed, hart, stream);
    if (array->tags == NULL)
        return;
    for (uint32_t slot = 0; slot < slots; slot++)
        array->tags[slot] = NO_TAG;
}

/* Slots from `first` on whose tag is this one but for the ASID; at most 32 of them are looked at,
 * and none is left out by a branch that depends on which it is. */
static inline uint32_t matches(const uint64_t *tags, uint32_t ways, uint64_t tag)
{
    uint32_t found = 0;
    for (uint32_t way = 0; way < ways; way++)
        found |= (uint32_t)(((tags[way] ^ tag) & NO_ASID) == 0) << way;
    return found;
}

/* Whether the slot, which has the tag but perhaps another ASID, answers for it. */
static inline bool slot_answers(const struct tlb_array *array, uint32_t slot,
                                const struct key *key, bool *trace)
{
    bool live = array->epochs[slot] == array->epoch && (array->held[slot] >> key->sector & 1);
    *trace |= !live;
    return live && (array->tags[slot] == key->tag || array->global[slot] >> key->sector & 1);
}

static bool found_at(struct tlb_array *array, const struct key *key, uint32_t slot, uint32_t level,
                     struct tlb_place *place)
{
    *place = (struct tlb_place){array, key->set, slot - key->first, key->sector, level};
    return true;
}

/* An array of many ways: the filter and the memo answer most. */
static bool trace_hashed(struct tlb_array *array, const struct key *key, uint32_t level,
                         struct tlb_place *place, bool *trace)
{
    uint32_t hash = hash_of(array, key->tag), slot = array->memo[hash];
    if (array->filter[hash] == 0)
        return false;
    if (array->tags[slot] != key->tag || array->many_asids)
        slot = key->first;
    for (; slot < key->first + array->ways; slot++) {
        if (((array->tags[slot] ^ key->tag) & NO_ASID) != 0
            || !slot_answers(array, slot, key, trace))
            continue;
        array->memo[hash] = (uint16_t)slot;
        return found_at(array, key, slot, level, place);
    }
    return false;
}

bool tlb_array_trace(struct tlb_array *array, uint64_t vpn, uint32_t level, uint16_t asid,
                     struct tlb_place *place, bool *trace)
{
    struct key key = key_of(array, vpn, level, asid);
    if (array->hashed)
        return trace_hashed(array, &key, level, place, trace);
    uint32_t match = array->ways == 4 ? matches(array->tags + key.first, 4, key.tag)
                                      : matches(array->tags + key.first, array->ways, key.tag);
    for (; match != 0; match &= match - 1) {
        uint32_t slot = key.first + (uint32_t)__builtin_ctz(match);
        if (slot_answers(array, slot, &key, trace))
            return found_at(array, &key, slot, level, place);
    }
    return false;
}

bool tlb_array_find(struct tlb_array *array, uint64_t vpn, uint32_t level, uint16_t asid,
                    struct tlb_place *place)
{
    bool trace = false;
    return tlb_array_trace(array, vpn, level, asid, place, &trace);
}

bool tlb_array_dropped(const struct tlb_array *array, uint64_t vpn, uint32_t level, uint16_t asid,
                       uint8_t *cause)
{
    struct key key = key_of(array, vpn, level, asid);
    if (is_nowhere(array, key.tag))
        return false;
    for (uint32_t way = 0; way < array->ways; way++) {
        uint32_t slot = key.first + way;
        uint64_t differs = array->tags[slot] ^ key.tag;
        if (differs != 0 && ((differs & NO_ASID) != 0 || !(array->global[slot] >> key.sector & 1)))
            continue;
        if (array->dropped[slot] >> key.sector & 1) {
            *cause = *cause_at(array, slot, key.sector);
            return true;
        }
        if (array->epochs[slot] != array->epoch && array->held[slot] >> key.sector & 1
            && pte_is_valid(*pte_at(array, slot, key.sector))) {
            *cause = array->ended_by[array->epochs[slot]];
            return true;
        }
    }
    return false;
}

/* Entries of `sectors` leave; the valid ones stay as dropped tags. */
static void drop(struct tlb_array *array, uint32_t slot, uint32_t sectors, uint8_t cause)
{
    uint32_t leaving = array->held[slot] & sectors;
    for (uint32_t sector = 0; leaving >> sector != 0; sector++) {
        if (!(leaving >> sector & 1) || !pte_is_valid(*pte_at(array, slot, sector)))
            continue;
        array->dropped[slot] |= (uint8_t)(1u << sector);
        *cause_at(array, slot, sector) = cause;
    }
    array->held[slot] &= (uint8_t)~leaving;
    array->full[slot / array->ways] = 0;
}

/* Writes down what the end of the slot's epoch meant. */
static void settle(struct tlb_array *array, uint32_t slot)
{
    if (array->epochs[slot] == array->epoch)
        return;
    drop(array, slot, UINT8_MAX, array->ended_by[array->epochs[slot]]);
    array->epochs[slot] = array->epoch;
}

/* Two free, settled slots change places; what decides who leaves stays with the ways, but ages, as
 * a free way gets a new one before it is asked for. */
static void swap(struct tlb_array *array, uint32_t a, uint32_t b)
{
    uint64_t tag = array->tags[a];
    array->tags[a] = array->tags[b];
    array->tags[b] = tag;
    uint8_t global = array->global[a], dropped = array->dropped[a];
    array->global[a] = array->global[b], array->global[b] = global;
    array->dropped[a] = array->dropped[b], array->dropped[b] = dropped;
    for (uint32_t sector = 0; sector >> array->sector_shift == 0; sector++) {
        uint8_t cause = *cause_at(array, a, sector);
        *cause_at(array, a, sector) = *cause_at(array, b, sector);
        *cause_at(array, b, sector) = cause;
    }
    if (array->policy->ages) {
        uint64_t stamp = array->order.stamps[a];
        array->order.stamps[a] = array->order.stamps[b];
        array->order.stamps[b] = stamp;
    }
}

/* Whether free slot a loses its dropped tags rather than b. */
static bool goes_before(const struct tlb_array *array, uint32_t a, uint32_t b)
{
    if (array->dropped[a] == 0 || array->dropped[b] == 0)
        return array->dropped[a] == 0 && array->dropped[b] != 0;
    return array->policy->ages && array->order.stamps[a] < array->order.stamps[b];
}

/* The free slot whose dropped tags are given up for `tag`: where it lay dropped itself, else see
 * above. Settles the set. `slot` is the one that will be filled. */
static uint32_t spared(struct tlb_array *array, const struct key *key, uint32_t slot)
{
    uint32_t found = slot;
    settle(array, slot);
    for (uint32_t other = key->first; other < key->first + array->ways; other++) {
        settle(array, other);
        if (array->held[other] != 0)
            continue;
        if (array->tags[other] == key->tag)
            return other;
        if (goes_before(array, other, found))
            found = other;
    }
    return found;
}

/* Makes the slot the tag's, empty. */
static void take_over(struct tlb_array *array, uint32_t slot, uint64_t tag)
{
    if (array->hashed && array->tags[slot] != NO_TAG)
        array->filter[hash_of(array, array->tags[slot])]--;
    if (array->hashed)
        array->filter[hash_of(array, tag)]++;
    array->tags[slot] = tag;
    array->held[slot] = array->global[slot] = array->dropped[slot] = 0;
    array->epochs[slot] = array->epoch;
}

/* The ways of the set that matter to a fill: the tag's own and the first free one; `ways`: none. */
static void survey(struct tlb_array *array, const struct key *key, uint32_t *own, uint32_t *free)
{
    *own = *free = array->ways;
    if (array->full[key->set] == array->epoch + 1u && is_nowhere(array, key->tag))
        return;
    for (uint32_t way = 0; way < array->ways; way++) {
        uint32_t slot = key->first + way;
        if (array->tags[slot] == key->tag)
            *own = way;
        if (*free == array->ways && !is_live(array, slot))
            *free = way;
    }
    if (*free == array->ways)
        array->full[key->set] = (uint16_t)(array->epoch + 1u);
}

/* The slot where the tag lives from now on: its own, a free one, or the victim's. */
static uint32_t open_slot(struct tlb_array *array, const struct key *key)
{
    uint32_t own, way;
    survey(array, key, &own, &way);
    if (own < array->ways && is_live(array, key->first + own)) {
        array->policy->hit(&array->order, key->set, own);
        return key->first + own;
    }
    bool is_free = way < array->ways;
    if (!is_free)
        way = array->policy->trees ? tlb_policy_follow(&array->order, key->set)
                                   : array->policy->victim(&array->order, key->set);
    uint32_t slot = key->first + way;
    if (is_free) {
        uint32_t given_up = spared(array, key, slot);
        if (given_up != slot)
            swap(array, slot, given_up);
    }
    if (array->policy->trees)
        tlb_policy_turn_away(&array->order, key->set, way);
    else
        array->policy->fill(&array->order, key->set, way);
    if (array->tags[slot] != key->tag)
        take_over(array, slot, key->tag);
    return slot;
}

static void note_asid(struct tlb_array *array, uint16_t asid)
{
    array->many_asids |= array->filled && array->asid != asid;
    array->filled = true;
    array->asid = asid;
}

/* Returns 1 when a negative entry came in that was not there. */
static uint32_t put_in(struct tlb_array *array, uint32_t slot, uint32_t sector, struct pte pte,
                       bool global)
{
    struct pte *to = pte_at(array, slot, sector);
    uint32_t bit = UINT32_C(1) << sector;
    bool was_negative = (array->held[slot] & bit) != 0 && !pte_is_valid(*to);
    *to = pte;
    array->negatives |= !pte_is_valid(pte);
    array->held[slot] |= (uint8_t)bit;
    array->dropped[slot] &= (uint8_t)~bit;
    array->global[slot] = (uint8_t)((array->global[slot] & ~bit) | (global ? bit : 0));
    return !pte_is_valid(pte) && !was_negative;
}

uint32_t tlb_array_fill_one(struct tlb_array *array, uint64_t vpn, uint32_t level, uint16_t asid,
                            struct pte pte, bool global)
{
    struct key key = key_of(array, vpn, level, asid);
    note_asid(array, asid);
    array->levels_used |= UINT32_C(1) << level;
    return put_in(array, open_slot(array, &key), key.sector, pte, global);
}

uint32_t tlb_array_fill(struct tlb_array *array, uint64_t vpn, uint32_t level, uint16_t asid,
                        const struct tlb_line *line, uint8_t take)
{
    struct key key = key_of(array, vpn, level, asid);
    uint32_t at = (uint32_t)(vpn >> (RV_VPN_BITS * level)) & (TLB_SECTORS_MAX - 1);
    uint32_t sectors = level == array->sector_level ? UINT32_C(1) << array->sector_shift : 1;
    uint32_t first = at - key.sector;   /* of the line, under this tag */
    uint32_t taken = (uint32_t)take >> first & ((UINT32_C(1) << sectors) - 1);
    if (taken == 0)
        return 0;
    note_asid(array, asid);
    array->levels_used |= UINT32_C(1) << level;
    uint32_t slot = open_slot(array, &key), negative = 0;
    for (uint32_t sector = 0; taken >> sector != 0; sector++)
        if (taken >> sector & 1)
            negative += put_in(array, slot, sector, line->ptes[first + sector],
                               line->global >> (first + sector) & 1);
    return negative;
}

void tlb_array_drop_all(struct tlb_array *array, uint8_t cause)
{
    if (array->ways == 0)
        return;
    array->ended_by[array->epoch] = cause;
    if (array->epoch < TLB_EPOCHS - 1) {
        array->epoch++;
        return;
    }
    for (uint32_t slot = 0; slot < array->sets * array->ways; slot++) {
        drop(array, slot, UINT8_MAX, array->ended_by[array->epochs[slot]]);
        array->epochs[slot] = 0;
    }
    array->epoch = 0;
}

void tlb_array_drop_asid(struct tlb_array *array, uint16_t asid, uint8_t cause)
{
    for (uint32_t slot = 0; slot < array->sets * array->ways; slot++)
        if (is_live(array, slot) && array->tags[slot] >> ASID_SHIFT == asid)
            drop(array, slot, (uint8_t)~array->global[slot], cause);
}

void tlb_array_drop_page(struct tlb_array *array, uint64_t vpn, uint8_t cause)
{
    for (uint32_t level = 0; array->levels_used >> level != 0; level++) {
        struct key key = key_of(array, vpn, level, 0);
        for (uint32_t slot = key.first; slot < key.first + array->ways; slot++)
            if (is_live(array, slot) && ((array->tags[slot] ^ key.tag) & NO_ASID) == 0)
                drop(array, slot, UINT32_C(1) << key.sector, cause);
    }
}

void tlb_array_drop_page_asid(struct tlb_array *array, uint64_t vpn, uint16_t asid,
                              uint8_t cause)
{
    for (uint32_t level = 0; array->levels_used >> level != 0; level++) {
        struct key key = key_of(array, vpn, level, asid);
        for (uint32_t slot = key.first; slot < key.first + array->ways; slot++)
            if (is_live(array, slot) && array->tags[slot] == key.tag)
                drop(array, slot, UINT32_C(1) << key.sector & ~(uint32_t)array->global[slot],
                     cause);
    }
}

void tlb_array_drop_low8(struct tlb_array *array, uint64_t vpn, uint8_t cause)
{
    uint32_t sector = (uint32_t)vpn & ((UINT32_C(1) << array->sector_shift) - 1);
    for (uint32_t slot = 0; slot < array->sets * array->ways; slot++) {
        if (!is_live(array, slot))
            continue;
        uint64_t low = (array->tags[slot] << array->sector_shift) + sector;
        if (tag_level(array->tags[slot]) > 0)
            drop(array, slot, UINT8_MAX, cause);
        else if (((low ^ vpn) & UINT8_MAX) == 0)
            drop(array, slot, UINT32_C(1) << sector, cause);
    }
}

void tlb_array_drop_set(struct tlb_array *array, uint64_t vpn, uint8_t cause)
{
    for (uint32_t level = 0; array->levels >> level != 0; level++) {
        if (!(array->levels >> level & 1))
            continue;
        struct key key = key_of(array, vpn, level, 0);
        for (uint32_t slot = key.first; slot < key.first + array->ways; slot++)
            if (is_live(array, slot))
                drop(array, slot, UINT8_MAX, cause);
    }
}

void tlb_array_forget(struct tlb_array *array, uint64_t vpn, uint64_t pages)
{
    if (!array->negatives)
        return;
    for (uint32_t slot = 0; slot < array->sets * array->ways; slot++) {
        if (!is_live(array, slot))
            continue;
        uint32_t level = tag_level(array->tags[slot]);
        uint32_t shift = level == array->sector_level ? array->sector_shift : 0;
        uint32_t held = array->held[slot];
        for (uint32_t sector = 0; held >> sector != 0; sector++) {
            uint64_t unit = ((array->tags[slot] & INDEX_MASK) << shift) + sector;
            uint64_t first = unit << tlb_span_bits(level);
            uint64_t end = (unit + 1) << tlb_span_bits(level);
            if ((held >> sector & 1) && !pte_is_valid(*pte_at(array, slot, sector))
                && first < vpn + pages && vpn < end)
                array->held[slot] &= (uint8_t)~(1u << sector);
        }
        array->full[slot / array->ways] = 0;
    }
}

void tlb_array_rehash(struct tlb_array *array)
{
    if (!array->hashed)
        return;
    for (uint64_t hash = 0; hash >> (64 - array->filter_shift) == 0; hash++)
        array->filter[hash] = 0;
    for (uint32_t slot = 0; slot < array->sets * array->ways; slot++)
        if (array->tags[slot] != NO_TAG)
            array->filter[hash_of(array, array->tags[slot])]++;
}

void tlb_create(struct tlb *tlb, struct arena *arena, const struct csim_array shape[2],
                uint64_t seed, uint32_t hart, uint32_t stream)
{
    *tlb = (struct tlb){.levels = 0};
    for (uint32_t i = 0; i < 2; i++) {
        tlb_array_create(&tlb->array[i], arena, &shape[i], 0, seed, hart, stream + i);
        tlb->levels |= tlb->array[i].levels;
    }
    int8_t largest = -1;
    for (uint32_t level = 0; level <= CSIM_NAPOT; level++) {
        uint32_t first = level == 0 ? 0 : 1;   /* superpages prefer their own array */
        tlb->home[level] = -1;
        if (tlb->array[first].levels >> level & 1)
            tlb->home[level] = (int8_t)first;
        else if (tlb->array[1 - first].levels >> level & 1)
            tlb->home[level] = (int8_t)(1 - first);
        if (tlb->home[level] >= 0)
            tlb->homed[tlb->home[level]] |= UINT32_C(1) << level;
        if (level == CSIM_NAPOT)
            break;
        if (tlb->home[level] >= 0)
            largest = (int8_t)level;
        tlb->piece[level] = largest;
    }
}

/* Levels of which an entry may be there. */
static uint32_t levels_to_ask(const struct tlb *tlb)
{
    return (tlb->array[0].levels_used & tlb->homed[0])
           | (tlb->array[1].levels_used & tlb->homed[1]);
}

bool tlb_lookup(struct tlb *tlb, uint64_t vpn, uint16_t asid, struct tlb_place *place)
{
    tlb->trace = false;
    for (uint32_t ask = levels_to_ask(tlb); ask != 0; ask &= ask - 1) {
        uint32_t level = (uint32_t)__builtin_ctz(ask);
        struct tlb_array *array = &tlb->array[tlb->homed[1] >> level & 1];
        if (tlb_array_trace(array, vpn, level, asid, place, &tlb->trace)) {
            tlb_use(place);
            return true;
        }
    }
    return false;
}

bool tlb_dropped(const struct tlb *tlb, uint64_t vpn, uint16_t asid, uint8_t *cause)
{
    for (uint32_t ask = levels_to_ask(tlb); ask != 0; ask &= ask - 1) {
        uint32_t level = (uint32_t)__builtin_ctz(ask);
        if (tlb_array_dropped(&tlb->array[tlb->homed[1] >> level & 1], vpn, level, asid, cause))
            return true;
    }
    return false;
}
