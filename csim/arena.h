/* arena.h: the only allocator. One block per simulator, taken in csim_create, given back whole.
 *
 * Sizes are found by running the same creation code twice: once over an arena that only adds up
 * (block == NULL), once over the real block.
 */
#ifndef ARENA_H
#define ARENA_H

#include <stddef.h>
#include <stdint.h>

struct arena {
    unsigned char *block;        /* NULL: only measure */
    size_t used_bytes;
    size_t room_bytes;
};

/* Takes the block; false when there is none to be had. */
int arena_open(struct arena *arena, size_t room_bytes);
void arena_close(struct arena *arena);

/* Zeroed memory for `count` things of `size_bytes`, 64-byte aligned. NULL while measuring: the
 * caller must then not touch it. */
void *arena_take(struct arena *arena, size_t count, size_t size_bytes);

#endif
