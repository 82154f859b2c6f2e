/* explore_memory.h: stores, fences, what a walk may find; docs/abstract-machine.md, section 2. */
#ifndef EXPLORE_MEMORY_H
#define EXPLORE_MEMORY_H

#include "explore_state.h"

/* The value of a place with the hart's own buffered stores applied; a mark is a word, bit h = hart
 * h. */
uint32_t explore_memory_visible(const struct explore_model *m, const struct explore_state *s,
                                uint32_t h, uint32_t place);
/* Memory's value alone. */
uint32_t explore_memory_value(const struct explore_model *m, const struct explore_state *s,
                              uint32_t h, uint32_t place);

/* Issues a store; false: the buffer is full. `keep` and `covers` are for marks. */
bool explore_memory_issue(const struct explore_model *m, struct explore_state *s, uint32_t h,
                          struct explore_store store);
/* Clears `bits` of a mark in memory, atomically. */
void explore_memory_amo_clear(struct explore_state *s, const struct explore_model *m,
                              uint32_t mark, uint32_t bits);
void explore_memory_raise_barrier(const struct explore_model *m, struct explore_state *s,
                                  uint32_t h);
/* Which of the hart's buffered stores may drain now: bits. */
uint32_t explore_memory_drainable(const struct explore_model *m, const struct explore_hart *hart);
void explore_memory_drain(const struct explore_model *m, struct explore_state *s, uint32_t h,
                          uint32_t index);

void explore_memory_fence_all(const struct explore_model *m, struct explore_state *s, uint32_t h);
void explore_memory_fence_page(const struct explore_model *m, struct explore_state *s, uint32_t h,
                               uint32_t page);
/* Trap entry, sret, sfence.vma, csrw sscratch: only a reordered walk cares. */
void explore_memory_serialise(const struct explore_model *m, struct explore_state *s, uint32_t h);
/* What the parameters say cannot last is forgotten, after every step. */
void explore_memory_forget(const struct explore_model *m, struct explore_state *s);

/* What an access of h to a page may find now: bit v a leaf value, bit 4 an invalid non-leaf. */
enum { EXPLORE_INVALID_LEAF = 1, EXPLORE_INVALID_TABLE = 16 };
uint32_t explore_memory_answers(const struct explore_model *m, const struct explore_state *s,
                                uint32_t h, uint32_t page);
/* Counts an invalid answer that was stale. */
void explore_memory_count_stale(const struct explore_model *m, struct explore_state *s, uint32_t h,
                                uint32_t page, bool table);

/* Single-entry TLB: pages (bit EXPLORE_PAGES: the table) whose entry can be filled, or evicted. */
uint32_t explore_memory_fillable(const struct explore_model *m, const struct explore_state *s,
                                 uint32_t h);
uint32_t explore_memory_evictable(const struct explore_model *m, const struct explore_state *s,
                                  uint32_t h);
void explore_memory_fill(const struct explore_model *m, struct explore_state *s, uint32_t h,
                         uint32_t page);
void explore_memory_evict(struct explore_state *s, uint32_t h, uint32_t page);

/* S5, the ghost: some hart may still miss a page that was marked for it and that it cleared. */
bool explore_memory_breaks_s5(const struct explore_model *m, const struct explore_state *s);

#endif
