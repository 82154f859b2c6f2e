/* arena.c: see arena.h. calloc is here and nowhere else; the essay is the header's. */
#include "arena.h"

#include <assert.h>
#include <stdlib.h>

enum { LINE_BYTES = 64 };

int arena_open(struct arena *arena, size_t room_bytes)
{
    arena->used_bytes = 0;
    arena->room_bytes = room_bytes;
    arena->block = calloc(1, room_bytes + LINE_BYTES);
    return arena->block != NULL;
}

void arena_close(struct arena *arena)
{
    free(arena->block);
    arena->block = NULL;
}

void *arena_take(struct arena *arena, size_t count, size_t size_bytes)
{
    size_t at = arena->used_bytes;
    size_t bytes = count * size_bytes;
    assert(size_bytes == 0 || bytes / size_bytes == count);
    arena->used_bytes = at + (bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
    if (arena->block == NULL)
        return NULL;
    assert(arena->used_bytes <= arena->room_bytes);
    uintptr_t first = ((uintptr_t)arena->block + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
    return (unsigned char *)first + at;
}
