/* Who leaves a full set. A history is a list of ways in order: 'a' = way 0 is used, 'A' = way 0 is
 * filled. Trees: rocket-chip c1dda5827, util/Replacement.scala; SRRIP: Jaleel et al., ISCA 2010. */
#include <stdlib.h>
#include <string.h>

#include "table.h"
#include "tlb_policy.h"

enum { SETS = 2, ARENA_BYTES = 1 << 14 };

static const struct {
    const char *name, *policy;
    uint32_t ways;
    const char *history;
    const char *victims;         /* asked one after the other, each filled; a letter per way */
} rows[] = {
    {"lru: the longest unused", "lru", 4, "ABCDacb", "dacb"},
    {"lru: one way", "lru", 1, "A", "aa"},
    {"lru: a use saves from leaving", "lru", 2, "ABa", "ba"},
    {"fifo: a use saves nobody", "fifo", 4, "ABCDacba", "abcd"},
    {"fifo: order of filling, not of ways", "fifo", 4, "DBCA", "dbca"},
    {"plru: fresh tree points down", "plru", 4, "", "acbd"},
    {"plru: away from the last two", "plru", 4, "ABCDca", "dbca"},
    {"plru: not the oldest", "plru", 4, "ABCDadb", "cadb"},
    {"plru, 3 ways: the upper half is one way", "plru", 3, "ABC", "acb"},
    {"plru, 3 ways: the lone way takes turns with two", "plru", 3, "CAB", "cacb"},
    {"plru, 5 ways: the fifth is half of the tree", "plru", 5, "ABCDE", "aecebedea"},
    {"plru, 6 ways: two beside four", "plru", 6, "ABCDEF", "aecfbedf"},
    {"setplru: the same trees", "setplru", 4, "ABCDadb", "cadb"},
    {"rr: from the way after the last fill", "rr", 4, "ABC", "dabcd"},
    {"rr: uses do not move it", "rr", 3, "ABCab", "abc"},
    {"srrip: filled ways leave before used ones", "srrip", 4, "ABCDbd", "acac"},
    {"srrip: ageing brings used ones back", "srrip", 2, "ABb", "aaab"},
    {"srrip: lowest way among equals", "srrip", 4, "DCBA", "abcd"},
};

static const struct tlb_policy *named(const char *name)
{
    for (uint32_t i = 0; tlb_policy_at(i) != NULL; i++)
        if (strcmp(tlb_policy_at(i)->name, name) == 0)
            return tlb_policy_at(i);
    return NULL;
}

/* The victims of set 1; set 0 is used in between and must not matter (but to rr, which is one for
 * all sets, so there it rests). */
static void check_row(struct table *table, size_t i)
{
    const struct tlb_policy *policy = named(rows[i].policy);
    struct arena arena = {.block = NULL};
    struct tlb_order order;
    char got[16] = "";
    size_t nr = strlen(rows[i].victims);
    table->rows++;
    if (policy == NULL || !arena_open(&arena, ARENA_BYTES)) {
        table_want(table, rows[i].name, "there", 0, 1);
        return;
    }
    tlb_policy_create(&order, &arena, SETS, rows[i].ways, 1, 0, 0);
    for (const char *at = rows[i].history; *at != '\0'; at++) {
        bool fills = *at >= 'A' && *at <= 'Z';
        uint32_t way = (uint32_t)(*at - (fills ? 'A' : 'a'));
        (fills ? policy->fill : policy->hit)(&order, 1, way);
        if (strcmp(rows[i].policy, "rr") != 0)
            policy->fill(&order, 0, rows[i].ways - 1 - way);
    }
    for (size_t n = 0; n < nr; n++) {
        uint32_t way = policy->victim(&order, 1);
        policy->fill(&order, 1, way);
        got[n] = (char)('a' + way);
    }
    if (strcmp(got, rows[i].victims) != 0)
        printf("%s: %s, want %s\n", rows[i].name, got, rows[i].victims);
    table_want(table, rows[i].name, "as wanted", strcmp(got, rows[i].victims) == 0, 1);
    arena_close(&arena);
}

int main(void)
{
    struct table table = {.rows = 0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check_row(&table, i);
    return table_end(&table);
}
