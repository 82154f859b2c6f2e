/* tlb_batch_log.h: one large LRU set over many references, as the log of its uses. No way is named:
 * what the set holds is what the log's end says. */
#ifndef TLB_BATCH_LOG_H
#define TLB_BATCH_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"

enum { TLB_LOG_USES = 4096, TLB_LOG_HASHES = 4096, TLB_LOG_WINDOW = 64 };

struct tlb_batch_log {
    uint64_t *keys;              /* in the order of their uses; [0] is none */
    uint8_t *newest;             /* per use: all ones, until its page is used again */
    uint16_t *last;              /* per low bits of a key: the last use of one with these bits */
    uint16_t *before;            /* per use: `last` as it was */
    uint32_t end;                /* the next use */
    uint32_t base;               /* the set holds nothing that was used last before here */
    uint64_t window;             /* bit i: the page used last at base + i is in the set; never 0 */
};

void tlb_batch_log_create(struct tlb_batch_log *log, struct arena *arena);

/* A set's tags, the most recent first, become the log, and back; `none` marks a free way. */
void tlb_batch_log_open(struct tlb_batch_log *log, const uint64_t *tags, uint32_t ways,
                        uint64_t none);
void tlb_batch_log_close(const struct tlb_batch_log *log, uint64_t *tags, uint32_t ways);

/* As tlb_batch_pass(). */
uint32_t tlb_batch_log_pass(struct tlb_batch_log *log, uint32_t ways, const uint64_t *keys,
                            uint32_t n, uint64_t *missed, uint8_t *hits);

#endif
