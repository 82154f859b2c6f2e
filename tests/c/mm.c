/* Address spaces: masks that grow, ASIDs given out in order, what a rollover keeps and owes. */
#include <stdlib.h>

#include "mm.h"
#include "table.h"

enum { HARTS = 3, OTHERS = 30, NR_CPUS = 3, BITS = 4 };     /* 16 ASIDs, more than 2 x 3 */

/* SWITCH: want is the ASID, flush whether a full fence is owed. RAN: want is whether the space that
 * `hart` runs has run on hart `n`; RUNS: runs there now; ALONE: ran nowhere else. */
enum kind { NOTHING, SWITCH, RAN, RUNS, ALONE, FILL };

static const struct {
    const char *name;
    uint32_t asid_bits;
    struct { enum kind kind; uint32_t hart, n, want; bool flush; } steps[12];
} rows[] = {
    {"a hart starts with its own, alone", BITS,
     {{RAN, 0, 0, 1, 0}, {RAN, 0, 1, 0, 0}, {ALONE, 0, 0, 1, 0}, {RUNS, 0, 1, 0, 0}}},
    {"ASIDs in order, kept while the generation lasts", BITS,
     {{SWITCH, 0, 1, 2, 0}, {SWITCH, 0, 2, 3, 0}, {SWITCH, 1, 1, 2, 0}, {SWITCH, 0, 0, 1, 0},
      {SWITCH, 2, 2, 3, 0}}},
    {"migration leaves its mark with ASIDs", BITS,
     {{SWITCH, 0, 1, 2, 0}, {SWITCH, 0, 0, 1, 0}, {SWITCH, 1, 1, 2, 0}, {RAN, 1, 0, 1, 0},
      {ALONE, 1, 0, 0, 0}, {RUNS, 1, 0, 0, 0}, {RAN, 1, 2, 0, 0}}},
    {"two harts may run one", BITS,
     {{SWITCH, 0, 1, 2, 0}, {SWITCH, 1, 1, 2, 0}, {RUNS, 0, 1, 1, 0}, {RUNS, 1, 0, 1, 0},
      {RUNS, 1, 2, 0, 0}}},
    {"without ASIDs the bit leaves with the hart", 2,
     {{SWITCH, 0, 1, 0, 0}, {SWITCH, 0, 0, 1, 0}, {SWITCH, 1, 1, 0, 0}, {RAN, 1, 0, 0, 0},
      {ALONE, 1, 0, 1, 0}}},
    {"more than twice the harts' number of ASIDs, or none", 3, {{SWITCH, 0, 1, 2, 0}}},
    {"a rollover gives out anew, every hart owes a fence once", BITS,
     {{FILL, 0, 14, 15, 0}, {SWITCH, 0, 15, 2, 1}, {SWITCH, 0, 1, 3, 0}, {SWITCH, 1, 2, 4, 1},
      {SWITCH, 1, 2, 4, 0}, {SWITCH, 2, 0, 1, 1}}},
    {"what runs elsewhere keeps its ASID over a rollover", BITS,
     {{SWITCH, 1, 1, 2, 0}, {FILL, 0, 14, 15, 0}, {SWITCH, 0, 15, 3, 1}, {SWITCH, 1, 1, 2, 1},
      {SWITCH, 2, 1, 2, 1}}},
};

static uint32_t step(struct mms *mms, enum kind kind, uint32_t hart, uint32_t n, bool *flush)
{
    uint32_t asid = 0;
    switch (kind) {
    case SWITCH: return mm_switch(mms, hart, n, flush);
    case FILL:                                  /* as many spaces, one after the other */
        for (uint32_t other = 1; other <= n; other++)
            asid = mm_switch(mms, hart, other, flush);
        return asid;
    case RAN: return mm_ran_on(mms, mm_on(mms, hart), n);
    case RUNS: return mm_runs_on(mms, mm_on(mms, hart), n);
    case ALONE: return mm_alone(mms, mm_on(mms, hart), hart);
    case NOTHING: break;
    }
    return 0;
}

int main(void)
{
    struct table table = {0};
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct arena arena = {0};
        struct mms mms = {0};
        mm_create(&mms, &arena, HARTS, OTHERS, rows[i].asid_bits, NR_CPUS);
        if (!arena_open(&arena, arena.used_bytes))
            abort();
        mm_create(&mms, &arena, HARTS, OTHERS, rows[i].asid_bits, NR_CPUS);
        mm_start(&mms);
        for (size_t k = 0; k < ROWS(rows[i].steps) && rows[i].steps[k].kind != NOTHING; k++) {
            bool flush = false;
            uint32_t got = step(&mms, rows[i].steps[k].kind, rows[i].steps[k].hart,
                                rows[i].steps[k].n, &flush);
            table_want(&table, rows[i].name, "the answer", got, rows[i].steps[k].want);
            table_want(&table, rows[i].name, "the fence owed", flush, rows[i].steps[k].flush);
        }
        table.rows++;
        arena_close(&arena);
    }
    return table_end(&table);
}
