/* Buckets of a log-linear histogram: floor and bucket are inverse, and 16 of them make a power of
 * two. */
#include "histogram.h"
#include "rng.h"
#include "table.h"

static const struct { const char *name; uint64_t value, bucket, floor; } rows[] = {
    {"zero", 0, 0, 0},
    {"below 16 each has its own", 15, 15, 15},
    {"16", 16, 16, 16},
    {"31 is exact too", 31, 31, 31},
    {"32 and 33 share", 33, 32, 32},
    {"34", 34, 33, 34},
    {"63", 63, 47, 62},
    {"64 to 67 share", 67, 48, 64},
    {"1000", 1000, 111, 992},
    {"2^32", UINT64_C(1) << 32, 464, UINT64_C(1) << 32},
    {"2^63", UINT64_C(1) << 63, 960, UINT64_C(1) << 63},
    {"the largest", UINT64_MAX, 975, UINT64_C(31) << 59},
};

static void check_value(struct table *table, const char *name, uint64_t value)
{
    uint32_t bucket = histogram_bucket(value);
    uint64_t floor = csim_histogram_floor(bucket);
    table->rows++;
    table_want(table, name, "bucket exists", bucket < CSIM_HISTOGRAM_BUCKETS, 1);
    table_want(table, name, "floor is not above it", floor <= value, 1);
    table_want(table, name, "at most 6.25 % below it", (value - floor) <= value / 16, 1);
    if (bucket + 1 < CSIM_HISTOGRAM_BUCKETS)
        table_want(table, name, "the next floor is above it",
                   csim_histogram_floor(bucket + 1) > value, 1);
}

static void check_used(struct table *table, const char *name, uint32_t low, uint32_t high)
{
    uint64_t buckets[CSIM_HISTOGRAM_BUCKETS] = {0};
    table->rows++;
    table_want(table, name, "none is used", csim_histogram_first(buckets),
               csim_histogram_end(buckets));
    buckets[low] = buckets[high] = UINT64_C(1) << 63;
    table_want(table, name, "first used", csim_histogram_first(buckets), low);
    table_want(table, name, "past the last used", csim_histogram_end(buckets), high + 1);
}

int main(void)
{
    struct table table = {0};
    check_used(&table, "one bucket", 7, 7);
    check_used(&table, "some", 100, 321);
    check_used(&table, "the first and the last", 0, CSIM_HISTOGRAM_BUCKETS - 1);
    for (uint32_t i = 0; i < ROWS(rows); i++) {
        table.rows++;
        table_want(&table, rows[i].name, "bucket", histogram_bucket(rows[i].value), rows[i].bucket);
        table_want(&table, rows[i].name, "floor",
                   csim_histogram_floor((uint32_t)rows[i].bucket), rows[i].floor);
    }
    for (uint32_t bucket = 0; bucket < CSIM_HISTOGRAM_BUCKETS; bucket++) {
        uint64_t floor = csim_histogram_floor(bucket);
        table.rows++;
        table_want(&table, "every bucket", "of its floor", histogram_bucket(floor), bucket);
        if (bucket > 0)
            table_want(&table, "every bucket", "below its floor", histogram_bucket(floor - 1),
                       bucket - 1);
    }
    for (uint64_t i = 0; i < 10000; i++)
        check_value(&table, "a drawn value", rng_mix(i) >> (i % 64));
    check_value(&table, "the largest", UINT64_MAX);
    return table_end(&table);
}
