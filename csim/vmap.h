/* vmap.h: the vmalloc area on the nominal axis: ranges with a guard page, lazy free, purge,
 * pools, and each hart's cache of kernel stacks. Decides addresses before the clock starts. */
#ifndef VMAP_H
#define VMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"

enum { VMAP_POOL_PAGES = 256 };
#define VMAP_NONE UINT32_MAX /* no area: an enumerator is an int */

struct vmap_area {
    uint64_t page;            /* first page, counted from the start of the area */
    uint32_t pages;           /* guard page included */
    uint32_t next;            /* in a pool or in the lazy list */
    uint32_t reuse_gate;      /* of the purge that made it reusable, 0 = fresh */
    uint32_t zero;
};

struct vmap {
    struct vmap_area *areas;
    uint32_t areas_nr, room;
    uint64_t end_page;        /* first page never used */
    uint32_t pool[VMAP_POOL_PAGES];  /* reusable areas by pages */
    uint32_t lazy;            /* freed, not purged */
    uint64_t lazy_pages, lazy_pages_max;
    uint32_t *cached;         /* [hart * slots + i]: stacks */
    uint32_t *cached_nr;      /* [hart] */
    uint32_t slots;
};

void vmap_create(struct vmap *vmap, struct arena *arena, uint32_t areas, uint32_t harts,
                 uint32_t stack_slots, uint64_t lazy_pages_max);

/* A range of `pages` and a guard page, aligned; returns the area's index. */
uint32_t vmap_alloc(struct vmap *vmap, uint32_t pages, uint32_t align_pages);

/* Frees lazily; true when a purge is due. */
bool vmap_free(struct vmap *vmap, uint32_t area);

/* Everything freed becomes reusable after the gate `reuse_gate`. */
void vmap_purge(struct vmap *vmap, uint32_t reuse_gate);

/* A stack from the hart's cache, or VMAP_NONE; false: the cache is full. */
uint32_t vmap_cached_stack(struct vmap *vmap, uint32_t hart);
bool vmap_cache_stack(struct vmap *vmap, uint32_t hart, uint32_t area);

#endif
