/* question.c: one question, read from stdin, asked without Python; the result's bytes to stdout.
 *
 * The input is five parts (params, program, ops, items, gates): for each a 64-bit little-endian
 * length, then its bytes. Every part gets a block of its own size: a sanitizer then sees one byte
 * too far; nothing is kept at the end, so that it sees a leak. Status 2: the question was refused.
 */
#include <stdio.h>
#include <stdlib.h>

#include "csim.h"

struct part {
    uint64_t size_bytes;
    void *bytes;
};

static int read_part(struct part *part)
{
    if (fread(&part->size_bytes, sizeof part->size_bytes, 1, stdin) != 1)
        return 0;
    part->bytes = malloc((size_t)part->size_bytes);
    return fread(part->bytes, 1, (size_t)part->size_bytes, stdin) == part->size_bytes;
}

static int ask(const struct part part[5], struct csim_result *result)
{
    struct csim *sim = NULL;
    struct csim_error error;
    uint64_t items_nr = part[3].size_bytes / sizeof(struct csim_item);
    uint32_t gates_nr = (uint32_t)(part[4].size_bytes / sizeof(uint32_t));
    if (csim_create(part[0].bytes, part[1].bytes, part[2].bytes, items_nr ? part[3].bytes : NULL,
                    items_nr, gates_nr ? part[4].bytes : NULL, gates_nr, &sim, &error) != CSIM_OK) {
        fprintf(stderr, "%s: %s\n", error.field, error.reason);
        return 2;
    }
    int failed = csim_run(sim, NULL, result) != CSIM_OK;
    csim_destroy(sim);
    return failed;
}

int main(void)
{
    static const struct csim_result none;
    struct part part[5];
    struct csim_result *result = malloc(sizeof *result);
    *result = none;
    for (int i = 0; i < 5; i++) {
        if (!read_part(&part[i]))
            return 3;
    }
    int status = ask(part, result);
    if (status == 0)
        fwrite(result, sizeof *result, 1, stdout);
    for (int i = 0; i < 5; i++)
        free(part[i].bytes);
    free(result);
    return status;
}
