/* tlb_batch_log.c: LRU without ways.
 *
 * A set of w ways under LRU holds the w pages whose last uses are the latest. So it needs no ways,
 * only the uses in their order, and for each whether it is still its page's last: a miss drops the
 * page of the oldest such use. The oldest uses are a word of bits, the window: a miss clears its
 * lowest bit, a hit the bit of the use before. That is a chain of a few instructions from one
 * reference to the next, and no branch depends on whether a reference hits; comparing all ways, or
 * looking for the oldest, takes the processor several times as long.
 *
 * The last use of a page is found under the low bits of its key. Where another page with the same
 * bits was used since, the chain of uses under these bits leads on. Free ways are pages used before
 * all others that nobody asks for.
 */
#include "tlb_batch_log.h"

#include <string.h>

enum { HASH_MASK = TLB_LOG_HASHES - 1, WINDOW_MASK = TLB_LOG_WINDOW - 1, WAYS_MAX = 64,
       BYTE_BITS = 8, TOP_BYTE = 56 };

void tlb_batch_log_create(struct tlb_batch_log *log, struct arena *arena)
{
    *log = (struct tlb_batch_log){
        .keys = arena_take(arena, TLB_LOG_USES, sizeof log->keys[0]),
        .newest = arena_take(arena, TLB_LOG_USES + TLB_LOG_WINDOW, sizeof log->newest[0]),
        .last = arena_take(arena, TLB_LOG_HASHES, sizeof log->last[0]),
        .before = arena_take(arena, TLB_LOG_USES, sizeof log->before[0]),
    };
}

void tlb_batch_log_open(struct tlb_batch_log *log, const uint64_t *tags, uint32_t ways,
                        uint64_t none)
{
    memset(log->newest, UINT8_MAX, TLB_LOG_USES + TLB_LOG_WINDOW);
    memset(log->last, 0, TLB_LOG_HASHES * sizeof log->last[0]);
    log->keys[0] = none;
    for (uint32_t use = 1; use <= ways; use++) {
        uint64_t key = tags[ways - use];
        uint32_t hash = key & HASH_MASK;
        log->keys[use] = key;
        log->before[use] = log->last[hash];
        log->last[hash] = (uint16_t)use;
    }
    log->base = 1;
    log->end = ways + 1;
    log->window = UINT64_MAX;
}

void tlb_batch_log_close(const struct tlb_batch_log *log, uint64_t *tags, uint32_t ways)
{
    uint32_t way = 0;
    for (uint32_t use = log->end; way < ways; ) {
        use--;
        tags[way] = log->keys[use];
        way += log->newest[use] != 0;
    }
}

/* The window of the 64 uses from `base` on. */
static uint64_t window_at(const struct tlb_batch_log *log, uint32_t base)
{
    uint64_t window = 0;
    for (uint32_t at = 0; at < TLB_LOG_WINDOW; at += BYTE_BITS) {
        uint64_t bytes;
        memcpy(&bytes, log->newest + base + at, sizeof bytes);
        bytes = (bytes & UINT64_C(0x0101010101010101)) * UINT64_C(0x0102040810204080);
        window |= bytes >> TOP_BYTE << at;
    }
    return window;
}

static __attribute__((noinline)) void move_window(struct tlb_batch_log *log)
{
    do {
        log->base += TLB_LOG_WINDOW;
        log->window = window_at(log, log->base);
    } while (log->window == 0);
}

/* Where the key was used last, the last use under its low bits being another's; 0: nowhere. */
static __attribute__((noinline)) uint32_t follow(const struct tlb_batch_log *log, uint64_t key,
                                                 uint32_t at)
{
    while (at >= log->base && log->keys[at] != key)
        at = log->before[at];
    return at >= log->base ? at : 0;
}

/* All ones if so, else 0: a mask where a branch would be guessed wrong. */
static inline uint64_t all_if(bool so) { return 0 - (uint64_t)so; }

/* n uses fit behind the log's end. */
static inline __attribute__((always_inline)) uint32_t
pass(struct tlb_batch_log *log, const uint64_t *references, uint32_t n, uint64_t *missed,
     uint8_t *hits)
{
    uint64_t *keys = log->keys, window = log->window, base = log->base, end = log->end;
    uint16_t *last = log->last, *before = log->before;
    uint8_t *newest = log->newest;
    uint64_t misses = 0;
    for (uint64_t i = 0; i < n; i++, end++) {
        uint64_t key = references[i], hash = key & HASH_MASK, at = last[hash];
        keys[end] = key;
        before[end] = (uint16_t)at;
        last[hash] = (uint16_t)end;
        if (__builtin_expect(((keys[at] ^ key) & all_if(at >= base)) != 0, 0))
            at = follow(log, key, (uint32_t)at);
        uint64_t since = at - base, near = all_if(since < TLB_LOG_WINDOW);
        uint64_t known = all_if(((keys[at] ^ key) | all_if(at < base)) == 0);
        uint64_t bit = UINT64_C(1) << (since & WINDOW_MASK) & known & near;
        uint64_t hit = (known & ~near) | all_if((window & bit) != 0);
        newest[at] = 0;
        window &= ~bit & ((window - 1) | hit);
        missed[misses] = key;
        misses += 1 + hit;
        if (hits != 0)
            hits[i] = hit & 1;
        if (__builtin_expect(window == 0, 0)) {
            move_window(log);
            base = log->base;
            window = log->window;
        }
    }
    log->end = (uint32_t)end;
    log->window = window;
    return (uint32_t)misses;
}

uint32_t tlb_batch_log_pass(struct tlb_batch_log *log, uint32_t ways, const uint64_t *keys,
                            uint32_t n, uint64_t *missed, uint8_t *hits)
{
    uint32_t misses = 0, some = 0;
    for (uint32_t at = 0; at < n; at += some) {
        if (log->end == TLB_LOG_USES) {
            uint64_t tags[WAYS_MAX];
            tlb_batch_log_close(log, tags, ways);
            tlb_batch_log_open(log, tags, ways, log->keys[0]);
        }
        some = n - at < TLB_LOG_USES - log->end ? n - at : TLB_LOG_USES - log->end;
        misses += hits != 0 ? pass(log, keys + at, some, missed + misses, hits + at)
                            : pass(log, keys + at, some, missed + misses, 0);
    }
    return misses;
}
