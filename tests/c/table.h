/* table.h: what every table of rows {name, given, want} needs: count, say what differs, end.
 *
 * A program prints one line per wrong value and ends with 1 when there was one, or no row at all.
 */
#ifndef TABLE_H
#define TABLE_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>

struct table {
    uint32_t rows, wrong;
};

/* One value of one row. */
static inline void table_want(struct table *table, const char *row, const char *what, uint64_t got,
                              uint64_t want)
{
    if (got == want)
        return;
    printf("%s: %s is %#" PRIx64 ", want %#" PRIx64 "\n", row, what, got, want);
    table->wrong++;
}

/* The exit status. */
static inline int table_end(const struct table *table)
{
    printf("%" PRIu32 " rows, %" PRIu32 " wrong\n", table->rows, table->wrong);
    return table->rows == 0 || table->wrong != 0;
}

#define ROWS(array) (sizeof(array) / sizeof((array)[0]))

#endif
