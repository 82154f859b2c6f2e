/* tlb_batch.c: passes of many references over one array, in two exact forms of LRU and, for any
 * other policy, in the array's own.
 *
 * Ordered: a set's tags stand most recent first. A reference moves its tag to the front and those
 * before it one place down; a miss moves all, and the last falls out. That is one compare, one
 * shift and one store of the whole set, without a branch, so misses cost what hits cost. Stamped: a
 * hit writes its slot's stamp, which nobody waits for, found through a memo that the tag verifies;
 * a miss searches. Whichever suits the misses of the pass before is used: both are LRU, and turning
 * one into the other is a sort of each set. Sectors move with their tag. Other policies run in
 * place, as tlb.c would; trees of few ways, when much is missed, without a branch on hit or miss.
 *
 * A free slot lies behind all others (ordered) or has stamp 0, so it is taken first and the lowest
 * way first, as tlb.c does. What a fence dropped is not known here: tlb_batch_open() refuses an
 * array that still remembers some of it.
 *
 * The vector paths are the same operations with other instructions; tests/test_mmu_stream.py runs
 * all of them. Whole sets are loaded and stored at once: a narrow store into a set that is loaded
 * wide shortly after would wait for the store to retire.
 */
#include "tlb_batch.h"

#include <assert.h>
#include <string.h>

#include "rv.h"
#include "simd.h"

enum { MEMO_MASK = TLB_BATCH_MEMO - 1, LEVEL_SHIFT = TLB_VPN_BITS, ASID_SHIFT = 48,
       LOG_WAYS_MIN = 9, ORDER_PASS_MIN = 8, STAMP_PASS_MIN = 64, ORDER_ABOVE = 16,
       STAMP_BELOW = 32, HELD_SHIFT = 56, NOWHERE = -1 };

#define INDEX_MASK ((UINT64_C(1) << TLB_VPN_BITS) - 1)
#define NO_TAG UINT64_MAX

static uint32_t slots_of(const struct tlb_array *array) { return array->sets * array->ways; }

static bool is_lru(const struct tlb_array *array)
{
    return array->policy->ages && array->policy->hit == array->policy->fill;
}

void tlb_batch_create(struct tlb_batch *batch, struct arena *arena, struct tlb_array *array)
{
    size_t slots = slots_of(array);
    *batch = (struct tlb_batch){
        .array = array,
        .memo = arena_take(arena, array->ways != 0 ? TLB_BATCH_MEMO : 0, sizeof batch->memo[0]),
        .tags = arena_take(arena, slots, sizeof batch->tags[0]),
        .stamps = arena_take(arena, slots, sizeof batch->stamps[0]),
        .trees = arena_take(arena, array->sets, sizeof batch->trees[0]),
        .held = arena_take(arena, slots, sizeof batch->held[0]),
    };
    batch->logged = array->sets == 1 && array->ways >= LOG_WAYS_MIN && array->sector_shift == 0
                    && is_lru(array);
    if (batch->logged)
        tlb_batch_log_create(&batch->log, arena);
    if (batch->memo == 0 || slots == 0)
        return;
    memset(batch->memo, 0, TLB_BATCH_MEMO * sizeof batch->memo[0]);
    tlb_batch_save(batch);                          /* its pages come now, not in a stream */
}

/* A slot without an entry forgets its tag; false when a fence's doing is remembered there, or the
 * entry is of another kind than the stream's. */
static bool settle(struct tlb_array *array, uint32_t slot, uint64_t kind)
{
    bool current = array->epochs[slot] == array->epoch;
    if (array->dropped[slot] != 0 || (!current && array->held[slot] != 0))
        return false;
    if (current && array->held[slot] != 0)
        return (array->tags[slot] & ~INDEX_MASK) == kind;
    array->tags[slot] = NO_TAG;
    array->held[slot] = array->global[slot] = 0;
    array->epochs[slot] = array->epoch;
    if (array->policy->ages)
        array->order.stamps[slot] = 0;
    return true;
}

bool tlb_batch_open(struct tlb_batch *batch, uint32_t level, uint16_t asid, enum csim_simd simd)
{
    struct tlb_array *array = batch->array;
    batch->simd = simd;
    batch->ordered = false;
    if (array->ways == 0)
        return true;
    if (array->many_asids || (array->filled && array->asid != asid)
        || (array->levels_used & ~(UINT32_C(1) << level)) != 0)
        return false;
    uint64_t kind = batch->kind = (uint64_t)level << LEVEL_SHIFT | (uint64_t)asid << ASID_SHIFT;
    for (uint32_t slot = 0; slot < slots_of(array); slot++)
        if (!settle(array, slot, kind))
            return false;
    memset(array->full, 0, array->sets * sizeof array->full[0]);
    memset(batch->memo, 0, TLB_BATCH_MEMO * sizeof batch->memo[0]);
    return true;
}

bool tlb_batch_repeats_free(const struct tlb_batch *batch)
{
    const struct tlb_array *array = batch->array;
    return array->ways != 0 && (array->policy->ages || array->policy->hit_repeats);
}

/* ---- Two forms of LRU ------------------------------------------------------------------------ */

/* Ordered, a tag under which there are sectors has what is held of them in its top byte, where the
 * ASID was, so that both move at once. */
static void fold_sectors(struct tlb_array *array)
{
    for (uint32_t slot = 0; slot < slots_of(array); slot++) {
        uint64_t *tag = &array->tags[slot];
        *tag = *tag == NO_TAG ? INDEX_MASK
                              : (*tag & INDEX_MASK) | (uint64_t)array->held[slot] << HELD_SHIFT;
    }
}

static void unfold_sectors(struct tlb_array *array, uint64_t kind)
{
    for (uint32_t slot = 0; slot < slots_of(array); slot++) {
        uint64_t *tag = &array->tags[slot];
        array->held[slot] = (uint8_t)(*tag >> HELD_SHIFT);
        *tag = *tag == INDEX_MASK ? NO_TAG : (*tag & INDEX_MASK) | kind;
    }
}

/* Insertion sort of each set by stamp, the youngest first. */
static void put_in_order(struct tlb_batch *batch)
{
    struct tlb_array *array = batch->array;
    if (array->sector_shift != 0)
        fold_sectors(array);
    for (uint32_t set = 0; set < array->sets; set++) {
        uint64_t *tags = array->tags + (size_t)set * array->ways;
        uint64_t *stamps = array->order.stamps + (size_t)set * array->ways;
        for (uint32_t way = 1; way < array->ways; way++) {
            uint64_t tag = tags[way], stamp = stamps[way];
            uint32_t to = way;
            for (; to > 0 && stamps[to - 1] < stamp; to--) {
                tags[to] = tags[to - 1];
                stamps[to] = stamps[to - 1];
            }
            tags[to] = tag;
            stamps[to] = stamp;
        }
    }
    batch->ordered = true;
    if (batch->logged)
        tlb_batch_log_open(&batch->log, array->tags, array->ways, NO_TAG);
}

static void give_stamps(struct tlb_batch *batch)
{
    struct tlb_array *array = batch->array;
    if (batch->logged)
        tlb_batch_log_close(&batch->log, array->tags, array->ways);
    if (array->sector_shift != 0)
        unfold_sectors(array, batch->kind);
    for (uint32_t set = 0; set < array->sets; set++) {
        for (uint32_t way = 0; way < array->ways; way++) {
            uint32_t slot = set * array->ways + way;
            bool is_free = array->tags[slot] == NO_TAG;
            array->order.stamps[slot] = is_free ? 0 : array->order.tick + array->ways - way;
        }
    }
    array->order.tick += array->ways;
    batch->ordered = false;
}

/* ---- Ordered passes -------------------------------------------------------------------------- */

static uint32_t ordered_plain(uint64_t *tags, uint32_t ways, uint64_t set_mask,
                              const uint64_t *keys, uint32_t n, uint64_t *missed, uint8_t *hits)
{
    uint32_t misses = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t key = keys[i], moving = key;
        uint64_t *set = tags + (key & set_mask) * ways;
        uint32_t way = 0;
        for (; way < ways; way++) {
            uint64_t old = set[way];
            set[way] = moving;
            moving = old;
            if (old == key)
                break;
        }
        missed[misses] = key;
        misses += way == ways;
        if (hits != 0)
            hits[i] = way != ways;
    }
    return misses;
}

#if SIMD_X86

/* Lanes up to and with `last` of a window that starts at LANES - 1 - last. */
static const int64_t lanes_up_to[16] = {-1, -1, -1, -1, -1, -1, -1, -1};

SIMD_AVX2 static uint32_t ordered4_avx2(uint64_t *tags, uint64_t set_mask, const uint64_t *keys,
                                        uint32_t n, uint64_t *missed, uint8_t *hits)
{
    uint32_t misses = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t key = keys[i];
        __m256i *set = (__m256i *)(void *)(tags + 4 * (key & set_mask));
        __m256i wanted = _mm256_set1_epi64x((long long)key), old = _mm256_load_si256(set);
        __m256i same = _mm256_cmpeq_epi64(old, wanted);
        uint32_t hit = (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(same));
        uint32_t last = (uint32_t)__builtin_ctz(hit | 8);
        const int64_t *from = lanes_up_to + (7 - last);
        __m256i moved = _mm256_blend_epi32(_mm256_permute4x64_epi64(old, 0x90), wanted, 3);
        __m256i moves = _mm256_loadu_si256((const __m256i *)(const void *)from);
        _mm256_store_si256(set, _mm256_blendv_epi8(old, moved, moves));
        missed[misses] = key;
        misses += hit == 0;
        if (hits != 0)
            hits[i] = hit != 0;
    }
    return misses;
}

SIMD_AVX2 static uint32_t ordered8_avx2(uint64_t *tags, uint64_t set_mask, const uint64_t *keys,
                                        uint32_t n, uint64_t *missed, uint8_t *hits)
{
    uint32_t misses = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t key = keys[i];
        __m256i *set = (__m256i *)(void *)(tags + 8 * (key & set_mask));
        __m256i wanted = _mm256_set1_epi64x((long long)key);
        __m256i low = _mm256_load_si256(set), high = _mm256_load_si256(set + 1);
        __m256i same_low = _mm256_cmpeq_epi64(low, wanted);
        __m256i same_high = _mm256_cmpeq_epi64(high, wanted);
        uint32_t hit = (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(same_low))
                       | (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(same_high)) << 4;
        uint32_t last = (uint32_t)__builtin_ctz(hit | 128);
        const int64_t *from = lanes_up_to + (7 - last);
        __m256i carry = _mm256_permute4x64_epi64(low, 0xff);
        __m256i moved_low = _mm256_blend_epi32(_mm256_permute4x64_epi64(low, 0x90), wanted, 3);
        __m256i moved_high = _mm256_blend_epi32(_mm256_permute4x64_epi64(high, 0x90), carry, 3);
        __m256i moves_low = _mm256_loadu_si256((const __m256i *)(const void *)from);
        __m256i moves_high = _mm256_loadu_si256((const __m256i *)(const void *)(from + 4));
        _mm256_store_si256(set, _mm256_blendv_epi8(low, moved_low, moves_low));
        _mm256_store_si256(set + 1, _mm256_blendv_epi8(high, moved_high, moves_high));
        missed[misses] = key;
        misses += hit == 0;
        if (hits != 0)
            hits[i] = hit != 0;
    }
    return misses;
}

SIMD_AVX512 static uint32_t ordered4_avx512(uint64_t *tags, uint64_t set_mask,
                                            const uint64_t *keys, uint32_t n, uint64_t *missed,
                                            uint8_t *hits)
{
    uint32_t misses = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t key = keys[i];
        __m256i *set = (__m256i *)(void *)(tags + 4 * (key & set_mask));
        __m256i wanted = _mm256_set1_epi64x((long long)key), old = _mm256_load_si256(set);
        uint32_t hit = _mm256_cmpeq_epi64_mask(old, wanted);
        __mmask8 moves = (__mmask8)(hit ^ (hit - 1));
        _mm256_store_si256(set, _mm256_mask_alignr_epi64(old, moves, old, wanted, 3));
        missed[misses] = key;
        misses += hit == 0;
        if (hits != 0)
            hits[i] = hit != 0;
    }
    return misses;
}

SIMD_AVX512 static uint32_t ordered8_avx512(uint64_t *tags, uint64_t set_mask,
                                            const uint64_t *keys, uint32_t n, uint64_t *missed,
                                            uint8_t *hits)
{
    uint32_t misses = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t key = keys[i];
        uint64_t *set = tags + 8 * (key & set_mask);
        __m512i wanted = _mm512_set1_epi64((long long)key), old = _mm512_load_si512(set);
        uint32_t hit = _mm512_cmpeq_epi64_mask(old, wanted);
        __mmask8 moves = (__mmask8)(hit ^ (hit - 1));
        _mm512_store_si512(set, _mm512_mask_alignr_epi64(old, moves, old, wanted, 7));
        missed[misses] = key;
        misses += hit == 0;
        if (hits != 0)
            hits[i] = hit != 0;
    }
    return misses;
}

SIMD_AVX512 static uint32_t ordered16_avx512(uint64_t *tags, uint64_t set_mask,
                                             const uint64_t *keys, uint32_t n, uint64_t *missed,
                                             uint8_t *hits)
{
    uint32_t misses = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t key = keys[i], *set = tags + 16 * (key & set_mask);
        __m512i wanted = _mm512_set1_epi64((long long)key);
        __m512i low = _mm512_load_si512(set), high = _mm512_load_si512(set + 8);
        uint32_t hit = _mm512_cmpeq_epi64_mask(low, wanted);
        hit |= (uint32_t)_mm512_cmpeq_epi64_mask(high, wanted) << 8;
        uint32_t moves = hit ^ (hit - 1);
        __mmask8 moves_low = (__mmask8)moves, moves_high = (__mmask8)(moves >> 8);
        _mm512_store_si512(set, _mm512_mask_alignr_epi64(low, moves_low, low, wanted, 7));
        _mm512_store_si512(set + 8, _mm512_mask_alignr_epi64(high, moves_high, high, low, 7));
        missed[misses] = key;
        misses += hit == 0;
        if (hits != 0)
            hits[i] = hit != 0;
    }
    return misses;
}

/* Ways a multiple of 8, up to 64: the last tag of one vector goes to the front of the next. */
SIMD_AVX512 static uint32_t ordered_wide_avx512(uint64_t *tags, uint32_t ways, uint64_t set_mask,
                                                const uint64_t *keys, uint32_t n,
                                                uint64_t *missed, uint8_t *hits)
{
    uint32_t misses = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t key = keys[i], *set = tags + (key & set_mask) * ways;
        __m512i wanted = _mm512_set1_epi64((long long)key), before = wanted;
        uint32_t hit = 0;
        for (uint32_t way = 0; way < ways && hit == 0; way += 8) {
            __m512i old = _mm512_load_si512(set + way);
            hit = _mm512_cmpeq_epi64_mask(old, wanted);
            __mmask8 moves = (__mmask8)(hit ^ (hit - 1));
            _mm512_store_si512(set + way, _mm512_mask_alignr_epi64(old, moves, old, before, 7));
            before = old;
        }
        missed[misses] = key;
        misses += hit == 0;
        if (hits != 0)
            hits[i] = hit != 0;
    }
    return misses;
}

#endif

static uint32_t ordered_sectors_plain(const struct tlb_array *array, const uint64_t *keys,
                                      uint32_t n, uint64_t *missed, uint8_t *hits)
{
    uint64_t sector_mask = (UINT64_C(1) << array->sector_shift) - 1;
    uint32_t misses = 0, ways = array->ways;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t tag = (keys[i] & INDEX_MASK) >> array->sector_shift, found = tag, moving = 0;
        uint64_t bit = UINT64_C(1) << HELD_SHIFT << (keys[i] & sector_mask);
        uint64_t *set = array->tags + (tag & (array->sets - 1)) * ways;
        for (uint32_t way = 0; way < ways; way++) {
            uint64_t old = set[way];
            set[way] = moving;
            moving = old;
            if ((old & INDEX_MASK) == tag) {
                found = old;
                break;
            }
        }
        set[0] = found | bit;
        missed[misses] = keys[i];
        misses += (found & bit) == 0;
        if (hits != 0)
            hits[i] = (found & bit) != 0;
    }
    return misses;
}

#if SIMD_X86

SIMD_AVX512 static uint32_t ordered_sectors4_avx512(const struct tlb_array *array,
                                                    const uint64_t *keys, uint32_t n,
                                                    uint64_t *missed, uint8_t *hits)
{
    uint64_t *tags = array->tags, set_mask = array->sets - 1;
    uint64_t shift = array->sector_shift, sector_mask = (UINT64_C(1) << shift) - 1;
    const __m256i index = _mm256_set1_epi64x((long long)INDEX_MASK);
    uint32_t misses = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t key = keys[i], tag = (key & INDEX_MASK) >> shift;
        uint64_t bit = UINT64_C(1) << HELD_SHIFT << (key & sector_mask);
        __m256i *set = (__m256i *)(void *)(tags + 4 * (tag & set_mask));
        __m256i wanted = _mm256_set1_epi64x((long long)tag), old = _mm256_load_si256(set);
        __mmask8 same = _mm256_testn_epi64_mask(_mm256_xor_si256(old, wanted), index);
        uint32_t hit = same;
        __mmask8 moves = (__mmask8)(hit ^ (hit - 1));
        __m256i found = _mm256_maskz_compress_epi64(same, old);
        __m256i front = _mm256_or_si256(_mm256_set1_epi64x((long long)(tag | bit)),
                                        _mm256_broadcastq_epi64(_mm256_castsi256_si128(found)));
        _mm256_store_si256(set, _mm256_mask_alignr_epi64(old, moves, old, front, 3));
        bool held = ((uint64_t)_mm_cvtsi128_si64(_mm256_castsi256_si128(found)) & bit) != 0;
        missed[misses] = key;
        misses += !held;
        if (hits != 0)
            hits[i] = held;
    }
    return misses;
}

SIMD_AVX512 static uint32_t ordered_sectors8_avx512(const struct tlb_array *array,
                                                    const uint64_t *keys, uint32_t n,
                                                    uint64_t *missed, uint8_t *hits)
{
    uint64_t *tags = array->tags, set_mask = array->sets - 1;
    uint64_t shift = array->sector_shift, sector_mask = (UINT64_C(1) << shift) - 1;
    const __m512i index = _mm512_set1_epi64((long long)INDEX_MASK);
    uint32_t misses = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t key = keys[i], tag = (key & INDEX_MASK) >> shift;
        uint64_t bit = UINT64_C(1) << HELD_SHIFT << (key & sector_mask);
        uint64_t *set = tags + 8 * (tag & set_mask);
        __m512i wanted = _mm512_set1_epi64((long long)tag), old = _mm512_load_si512(set);
        __mmask8 same = _mm512_testn_epi64_mask(_mm512_xor_si512(old, wanted), index);
        uint32_t hit = same;
        __mmask8 moves = (__mmask8)(hit ^ (hit - 1));
        __m512i found = _mm512_maskz_compress_epi64(same, old);
        __m512i front = _mm512_or_si512(_mm512_set1_epi64((long long)(tag | bit)),
                                        _mm512_broadcastq_epi64(_mm512_castsi512_si128(found)));
        _mm512_store_si512(set, _mm512_mask_alignr_epi64(old, moves, old, front, 7));
        bool held = ((uint64_t)_mm_cvtsi128_si64(_mm512_castsi512_si128(found)) & bit) != 0;
        missed[misses] = key;
        misses += !held;
        if (hits != 0)
            hits[i] = held;
    }
    return misses;
}

#endif

static uint32_t ordered_sectors(struct tlb_batch *batch, const uint64_t *keys, uint32_t n,
                                uint64_t *missed, uint8_t *hits)
{
    const struct tlb_array *array = batch->array;
#if SIMD_X86
    if (batch->simd == CSIM_SIMD_AVX512 && array->ways == 4)
        return ordered_sectors4_avx512(array, keys, n, missed, hits);
    if (batch->simd == CSIM_SIMD_AVX512 && array->ways == 8)
        return ordered_sectors8_avx512(array, keys, n, missed, hits);
#endif
    return ordered_sectors_plain(array, keys, n, missed, hits);
}

static uint32_t ordered(struct tlb_batch *batch, const uint64_t *keys, uint32_t n,
                        uint64_t *missed, uint8_t *hits)
{
    struct tlb_array *array = batch->array;
    uint64_t *tags = array->tags, set_mask = array->sets - 1;
    if (batch->logged)
        return tlb_batch_log_pass(&batch->log, array->ways, keys, n, missed, hits);
    if (array->sector_shift != 0)
        return ordered_sectors(batch, keys, n, missed, hits);
#if SIMD_X86
    bool avx512 = batch->simd == CSIM_SIMD_AVX512, avx2 = batch->simd == CSIM_SIMD_AVX2;
    if (avx512 && array->ways == 4)
        return ordered4_avx512(tags, set_mask, keys, n, missed, hits);
    if (avx512 && array->ways == 8)
        return ordered8_avx512(tags, set_mask, keys, n, missed, hits);
    if (avx512 && array->ways == 16)
        return ordered16_avx512(tags, set_mask, keys, n, missed, hits);
    if (avx512 && array->ways % 8 == 0)
        return ordered_wide_avx512(tags, array->ways, set_mask, keys, n, missed, hits);
    if (avx2 && array->ways == 4)
        return ordered4_avx2(tags, set_mask, keys, n, missed, hits);
    if (avx2 && array->ways == 8)
        return ordered8_avx2(tags, set_mask, keys, n, missed, hits);
#endif
    return ordered_plain(tags, array->ways, set_mask, keys, n, missed, hits);
}

/* ---- Passes in place ------------------------------------------------------------------------- */

static int32_t way_of(const uint64_t *set, uint32_t ways, uint64_t tag)
{
    for (uint32_t way = 0; way < ways; way++)
        if (set[way] == tag)
            return (int32_t)way;
    return NOWHERE;
}

static inline __attribute__((always_inline)) uint32_t oldest(const uint64_t *stamps,
                                                             uint32_t ways)
{
    uint32_t found = 0;
    uint64_t least = stamps[0];
#pragma GCC unroll 8
    for (uint32_t way = 1; way < ways; way++) {
        bool older = stamps[way] < least;
        found = older ? way : found;
        least = older ? stamps[way] : least;
    }
    return found;
}

/* All ways compared at once where they are few, so that no branch depends on which one matches. */
static inline __attribute__((always_inline)) uint32_t
ways_with(const uint64_t *set, uint32_t ways, uint64_t tag)
{
    uint32_t found = 0;
#pragma GCC unroll 8
    for (uint32_t way = 0; way < ways; way++)
        found |= (uint32_t)(set[way] == tag) << way;
    return found;
}

/* Where a tag is that its memo does not know; *hit: it was there, else it is now. `ways` is a
 * constant where there are few, and no branch depends on which way it is. */
static inline __attribute__((always_inline)) uint32_t
stamped_slot(struct tlb_array *array, uint64_t key, uint32_t ways, bool few, bool *hit)
{
    uint32_t first = (uint32_t)(key & (array->sets - 1)) * ways;
    uint64_t *tags = array->tags + first;
    uint32_t way = oldest(array->order.stamps + first, ways);
    if (few) {
        uint32_t match = ways_with(tags, ways, key);
        *hit = match != 0;
        way ^= (way ^ (uint32_t)__builtin_ctz(match | 1u << 31)) & (0u - *hit);
    } else {
        int32_t found = way_of(tags, ways, key);
        *hit = found != NOWHERE;
        way = *hit ? (uint32_t)found : way;
    }
    tags[way] = key;
    return first + way;
}

#if SIMD_X86

/* Ways a multiple of 8, up to 64: the tag's own way, else that with the least stamp. */
SIMD_AVX512 static uint32_t way_avx512(const uint64_t *tags, const uint64_t *stamps,
                                       uint32_t ways, uint64_t tag, bool *hit)
{
    __m512i wanted = _mm512_set1_epi64((long long)tag), least = _mm512_set1_epi64(-1);
    uint64_t match = 0, oldest_ways = 0;
    for (uint32_t way = 0; way < ways; way += 8) {
        match |= (uint64_t)_mm512_cmpeq_epi64_mask(_mm512_loadu_si512(tags + way), wanted) << way;
        least = _mm512_min_epu64(least, _mm512_loadu_si512(stamps + way));
    }
    *hit = match != 0;
    if (*hit)
        return (uint32_t)__builtin_ctzll(match);
    least = _mm512_set1_epi64((long long)_mm512_reduce_min_epu64(least));
    for (uint32_t way = 0; way < ways; way += 8)
        oldest_ways |= (uint64_t)_mm512_cmpeq_epi64_mask(_mm512_loadu_si512(stamps + way), least)
                       << way;
    return (uint32_t)__builtin_ctzll(oldest_ways);
}

#endif

/* One that the memo does not know: found or filled; true when it was there. Out of the way of the
 * loop that hits. */
static __attribute__((noinline)) bool stamped_search(struct tlb_batch *batch, uint64_t key,
                                                     uint64_t stamp)
{
    struct tlb_array *array = batch->array;
    bool hit;
    uint32_t slot;
    if (array->ways == 4)
        slot = stamped_slot(array, key, 4, true, &hit);
    else if (array->ways == 8)
        slot = stamped_slot(array, key, 8, true, &hit);
#if SIMD_X86
    else if (batch->simd == CSIM_SIMD_AVX512 && array->ways % 8 == 0) {
        uint32_t first = (uint32_t)(key & (array->sets - 1)) * array->ways;
        slot = first + way_avx512(array->tags + first, array->order.stamps + first, array->ways,
                                  key, &hit);
        array->tags[slot] = key;
    }
#endif
    else
        slot = stamped_slot(array, key, array->ways, false, &hit);
    batch->memo[key & MEMO_MASK] = (uint16_t)slot;
    array->order.stamps[slot] = stamp;
    return hit;
}

static uint32_t stamped(struct tlb_batch *batch, const uint64_t *keys, uint32_t n,
                        uint64_t *missed, uint8_t *hits)
{
    struct tlb_array *array = batch->array;
    const uint64_t *tags = array->tags, tick = array->order.tick + 1;
    uint64_t *stamps = array->order.stamps;
    const uint16_t *memo = batch->memo;
    uint32_t misses = 0;
    if (hits != 0)
        memset(hits, 1, n);
#pragma GCC unroll 4
    for (uint32_t i = 0; i < n; i++) {
        uint64_t key = keys[i];
        uint32_t slot = memo[key & MEMO_MASK];
        if (__builtin_expect(tags[slot] == key, 1)) {
            stamps[slot] = tick + i;
            continue;
        }
        bool hit = stamped_search(batch, key, tick + i);
        missed[misses] = key;
        misses += !hit;
        if (hits != 0)
            hits[i] = hit;
    }
    array->order.tick = tick + n;
    return misses;
}

/* A way for a tag that has none: the first free one, else the victim's. */
static inline __attribute__((always_inline)) uint32_t
way_for(struct tlb_array *array, uint32_t set, uint32_t ways, bool lru)
{
    if (lru)                                        /* a free way has stamp 0 */
        return oldest(array->order.stamps + (size_t)set * ways, ways);
    if (array->full[set] == 0) {
        int32_t way = way_of(array->tags + (size_t)set * ways, ways, NO_TAG);
        if (way != NOWHERE)
            return (uint32_t)way;
        array->full[set] = 1;
    }
    return array->policy->trees ? tlb_policy_follow(&array->order, set)
                                : array->policy->victim(&array->order, set);
}

/* The way where the tag is or will be. */
static inline __attribute__((always_inline)) uint32_t
place_of(struct tlb_array *array, uint32_t set, uint32_t ways, bool few, bool lru, uint64_t tag,
         bool *known)
{
    const uint64_t *tags = array->tags + (size_t)set * ways;
    if (few && (lru || array->policy->trees)) {     /* asking for a victim changes nothing */
        uint32_t match = ways_with(tags, ways, tag), other = way_for(array, set, ways, lru);
        uint32_t own = (uint32_t)__builtin_ctz(match | 1u << 31);
        *known = match != 0;
        return other ^ ((other ^ own) & (0u - *known));
    }
    int32_t found = way_of(tags, ways, tag);
    *known = found != NOWHERE;
    return *known ? (uint32_t)found : way_for(array, set, ways, lru);
}

/* One reference; true: it hit. The arguments from `ways` on are constants where this is inlined.
 * `few`: at most 8 ways, then no branch depends on which way matches. */
static inline __attribute__((always_inline)) bool
one_in_place(struct tlb_batch *batch, uint64_t key, uint64_t stamp, uint32_t ways, bool few,
             bool lru)
{
    struct tlb_array *array = batch->array;
    uint32_t shift = array->sector_shift, bit = 1u << (key & ((UINT64_C(1) << shift) - 1));
    uint64_t tag = (key & INDEX_MASK) >> shift | (key & ~INDEX_MASK);
    uint32_t set = (uint32_t)tag & (array->sets - 1);
    bool known;
    uint32_t way = place_of(array, set, ways, few, lru, tag, &known), slot = set * ways + way;
    if (lru)
        array->order.stamps[slot] = stamp;
    else if (array->policy->trees)
        tlb_policy_turn_away(&array->order, set, way);
    else if (known)
        array->policy->hit(&array->order, set, way);
    else
        array->policy->fill(&array->order, set, way);
    uint32_t before = known ? array->held[slot] : 0;
    array->tags[slot] = tag;
    array->held[slot] = (uint8_t)(before | bit);
    batch->memo[tag & MEMO_MASK] = (uint16_t)slot;
    return (before & bit) != 0;
}

/* Out of the way of the loops that hit. */
static __attribute__((noinline)) bool in_place_search(struct tlb_batch *batch, uint64_t key,
                                                      uint64_t stamp)
{
    bool lru = is_lru(batch->array);
    if (batch->array->ways == 4)
        return lru ? one_in_place(batch, key, stamp, 4, true, true)
                   : one_in_place(batch, key, stamp, 4, true, false);
    if (batch->array->ways == 8)
        return lru ? one_in_place(batch, key, stamp, 8, true, true)
                   : one_in_place(batch, key, stamp, 8, true, false);
    return one_in_place(batch, key, stamp, batch->array->ways, false, lru);
}

enum order { ORDER_STAMPS, ORDER_TREES, ORDER_OTHER };

/* What the memo knows hits at once. */
static inline __attribute__((always_inline)) uint32_t
in_place_of(struct tlb_batch *batch, const uint64_t *keys, uint32_t n, uint64_t *missed,
            uint8_t *hits, enum order order)
{
    struct tlb_array *array = batch->array;
    const uint64_t *tags = array->tags, *path = array->order.tree_path;
    const uint64_t *away = array->order.tree_away, tick = array->order.tick + 1;
    uint64_t *stamps = array->order.stamps, *trees = array->order.trees;
    uint64_t sector_mask = (UINT64_C(1) << array->sector_shift) - 1;
    const uint16_t *memo = batch->memo;
    const uint8_t *held = array->held;
    uint32_t misses = 0, shift = array->sector_shift, ways = array->ways;
    uint32_t set_mask = array->sets - 1;
    if (hits != 0)
        memset(hits, 1, n);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t key = keys[i], tag = (key & INDEX_MASK) >> shift | (key & ~INDEX_MASK);
        uint32_t slot = memo[tag & MEMO_MASK], set = (uint32_t)tag & set_mask;
        uint32_t way = slot - set * ways;
        if (__builtin_expect(tags[slot] == tag && (held[slot] >> (key & sector_mask) & 1), 1)) {
            if (order == ORDER_STAMPS)
                stamps[slot] = tick + i;
            else if (order == ORDER_TREES)
                trees[set] = (trees[set] & ~path[way]) | away[way];
            else
                array->policy->hit(&array->order, set, way);
            continue;
        }
        bool hit = in_place_search(batch, key, tick + i);
        missed[misses] = key;
        misses += !hit;
        if (hits != 0)
            hits[i] = hit;
    }
    if (order == ORDER_STAMPS)
        array->order.tick = tick + n;
    return misses;
}

/* No branch depends on whether a reference hits: trees and few ways. */
static inline __attribute__((always_inline)) uint32_t
in_trees_of(struct tlb_batch *batch, const uint64_t *keys, uint32_t n, uint64_t *missed,
            uint8_t *hits, uint32_t ways)
{
    uint32_t misses = 0;
    for (uint32_t i = 0; i < n; i++) {
        bool hit = one_in_place(batch, keys[i], 0, ways, true, false);
        missed[misses] = keys[i];
        misses += !hit;
        if (hits != 0)
            hits[i] = hit;
    }
    return misses;
}

#if SIMD_X86

/* The way of 4 or 8 that a reference takes, as a mask: its own, else the first free, else where the
 * tree leads. */
static inline __attribute__((always_inline)) uint32_t
taken_way(const struct tlb_order *order, uint64_t tree, uint32_t own, uint32_t free)
{
    uint32_t victim = 1u << order->tree_victim[tree >> 1 & (TLB_TREE_WORDS - 1)];
    uint32_t taken = free != 0 ? free : victim;
    taken = own != 0 ? own : taken;
    return taken & (0u - taken);
}

SIMD_AVX512 static uint32_t in_trees4_avx512(const struct tlb_array *array, const uint64_t *keys,
                                             uint32_t n, uint64_t *missed, uint8_t *hits)
{
    const struct tlb_order order = array->order;
    const __m256i none = _mm256_set1_epi64x((long long)NO_TAG);
    uint64_t *tags = array->tags, set_mask = array->sets - 1;
    uint32_t misses = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t key = keys[i], set = key & set_mask, tree = order.trees[set];
        __m256i *line = (__m256i *)(void *)(tags + 4 * set);
        __m256i wanted = _mm256_set1_epi64x((long long)key), old = _mm256_load_si256(line);
        uint32_t own = _mm256_cmpeq_epi64_mask(old, wanted);
        uint32_t taken = taken_way(&order, tree, own, _mm256_cmpeq_epi64_mask(old, none));
        uint32_t way = (uint32_t)__builtin_ctz(taken);
        _mm256_store_si256(line, _mm256_mask_mov_epi64(old, (__mmask8)taken, wanted));
        order.trees[set] = (tree & ~order.tree_path[way]) | order.tree_away[way];
        array->held[4 * set + way] = 1;
        missed[misses] = key;
        misses += own == 0;
        if (hits != 0)
            hits[i] = own != 0;
    }
    return misses;
}

SIMD_AVX512 static uint32_t in_trees8_avx512(const struct tlb_array *array, const uint64_t *keys,
                                             uint32_t n, uint64_t *missed, uint8_t *hits)
{
    const struct tlb_order order = array->order;
    const __m512i none = _mm512_set1_epi64((long long)NO_TAG);
    uint64_t *tags = array->tags, set_mask = array->sets - 1;
    uint32_t misses = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t key = keys[i], set = key & set_mask, tree = order.trees[set];
        uint64_t *line = tags + 8 * set;
        __m512i wanted = _mm512_set1_epi64((long long)key), old = _mm512_load_si512(line);
        uint32_t own = _mm512_cmpeq_epi64_mask(old, wanted);
        uint32_t taken = taken_way(&order, tree, own, _mm512_cmpeq_epi64_mask(old, none));
        uint32_t way = (uint32_t)__builtin_ctz(taken);
        _mm512_store_si512(line, _mm512_mask_mov_epi64(old, (__mmask8)taken, wanted));
        order.trees[set] = (tree & ~order.tree_path[way]) | order.tree_away[way];
        array->held[8 * set + way] = 1;
        missed[misses] = key;
        misses += own == 0;
        if (hits != 0)
            hits[i] = own != 0;
    }
    return misses;
}

#endif

/* Trees of 4 or 8 ways, much missed. */
static uint32_t in_trees(struct tlb_batch *batch, const uint64_t *keys, uint32_t n,
                         uint64_t *missed, uint8_t *hits)
{
    const struct tlb_array *array = batch->array;
#if SIMD_X86
    bool vectors = batch->simd == CSIM_SIMD_AVX512 && array->sector_shift == 0;
    if (vectors && array->ways == 4)
        return in_trees4_avx512(array, keys, n, missed, hits);
    if (vectors && array->ways == 8)
        return in_trees8_avx512(array, keys, n, missed, hits);
#endif
    return array->ways == 4 ? in_trees_of(batch, keys, n, missed, hits, 4)
                            : in_trees_of(batch, keys, n, missed, hits, 8);
}

static uint32_t in_place(struct tlb_batch *batch, const uint64_t *keys, uint32_t n,
                         uint64_t *missed, uint8_t *hits)
{
    const struct tlb_array *array = batch->array;
    bool few = array->ways == 4 || array->ways == 8;
    uint32_t misses;
    if (array->policy->trees && few && batch->misses_much)
        misses = in_trees(batch, keys, n, missed, hits);
    else if (array->policy->trees)
        misses = in_place_of(batch, keys, n, missed, hits, ORDER_TREES);
    else
        misses = in_place_of(batch, keys, n, missed, hits, ORDER_OTHER);
    if (n >= STAMP_PASS_MIN)
        batch->misses_much = misses * ORDER_ABOVE > n;
    return misses;
}

/* ---- Any array ------------------------------------------------------------------------------- */

static uint32_t in_stamps(struct tlb_batch *batch, const uint64_t *keys, uint32_t n,
                          uint64_t *missed, uint8_t *hits)
{
    if (batch->array->sector_shift == 0)
        return stamped(batch, keys, n, missed, hits);
    return in_place_of(batch, keys, n, missed, hits, ORDER_STAMPS);
}

uint32_t tlb_batch_pass(struct tlb_batch *batch, const uint64_t *keys, uint32_t n,
                        uint64_t *missed, uint8_t *hits)
{
    const struct tlb_array *array = batch->array;
    if (array->ways == 0) {
        memcpy(missed, keys, n * sizeof keys[0]);
        if (hits != 0)
            memset(hits, 0, n);
        return n;
    }
    if (!is_lru(array))
        return in_place(batch, keys, n, missed, hits);
    uint32_t misses = batch->ordered ? ordered(batch, keys, n, missed, hits)
                                     : in_stamps(batch, keys, n, missed, hits);
    if (n >= ORDER_PASS_MIN && !batch->ordered && misses * ORDER_ABOVE > n)
        put_in_order(batch);
    else if (n >= STAMP_PASS_MIN && batch->ordered && misses * STAMP_BELOW < n)
        give_stamps(batch);
    return misses;
}

/* ---- Saving, closing ------------------------------------------------------------------------- */

void tlb_batch_save(struct tlb_batch *batch)
{
    const struct tlb_array *array = batch->array;
    size_t slots = slots_of(array);
    if (slots == 0)
        return;
    if (batch->logged && batch->ordered)
        tlb_batch_log_close(&batch->log, array->tags, array->ways);
    memcpy(batch->tags, array->tags, slots * sizeof array->tags[0]);
    if (!batch->ordered)
        memcpy(batch->stamps, array->order.stamps, slots * sizeof array->order.stamps[0]);
    if (array->policy->trees)
        memcpy(batch->trees, array->order.trees, array->sets * sizeof array->order.trees[0]);
    if (array->sector_shift != 0)
        memcpy(batch->held, array->held, slots * sizeof array->held[0]);
    batch->draws = array->order.draws;
    batch->next_way = array->order.next_way;
    batch->was_ordered = batch->ordered;
}

void tlb_batch_restore(struct tlb_batch *batch)
{
    struct tlb_array *array = batch->array;
    size_t slots = slots_of(array);
    if (slots == 0)
        return;
    memcpy(array->tags, batch->tags, slots * sizeof array->tags[0]);
    if (!batch->was_ordered)
        memcpy(array->order.stamps, batch->stamps, slots * sizeof array->order.stamps[0]);
    if (array->policy->trees)
        memcpy(array->order.trees, batch->trees, array->sets * sizeof array->order.trees[0]);
    if (array->sector_shift != 0)
        memcpy(array->held, batch->held, slots * sizeof array->held[0]);
    memset(array->full, 0, array->sets * sizeof array->full[0]);
    array->order.draws = batch->draws;
    array->order.next_way = batch->next_way;
    batch->ordered = batch->was_ordered;
    if (batch->logged && batch->ordered)
        tlb_batch_log_open(&batch->log, array->tags, array->ways, NO_TAG);
}

bool tlb_batch_slot(const struct tlb_batch *batch, uint32_t slot, uint64_t *key, uint8_t *held)
{
    const struct tlb_array *array = batch->array;
    uint64_t tag = array->tags[slot];
    *key = (tag & ~INDEX_MASK) | ((tag & INDEX_MASK) << array->sector_shift & INDEX_MASK);
    *held = array->held[slot];
    return tag != NO_TAG;
}

void tlb_batch_close(struct tlb_batch *batch, uint32_t level, uint16_t asid)
{
    struct tlb_array *array = batch->array;
    bool any = false;
    if (array->ways == 0)
        return;
    if (batch->ordered)
        give_stamps(batch);
    for (uint32_t slot = 0; slot < slots_of(array); slot++) {
        bool entry = array->tags[slot] != NO_TAG;
        if (array->sector_shift == 0)
            array->held[slot] = entry;
        array->epochs[slot] = array->epoch;
        any |= entry;
    }
    memset(array->full, 0, array->sets * sizeof array->full[0]);
    tlb_array_rehash(array);
    if (!any)
        return;
    array->filled = true;
    array->asid = asid;
    array->levels_used |= UINT32_C(1) << level;
}
