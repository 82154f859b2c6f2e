/* Fixed-point logarithm, exponential and Zipf against doubles computed here. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "draw.h"
#include "rng.h"
#include "table.h"

#define ONE UINT64_C(4294967296)    /* 1 with 32 fractional bits */
#define LN2 0.693147180559945309417232121458

enum { QUANTILES = 4096, DRAWS = 200000 };

static uint64_t distance(uint64_t a, uint64_t b) { return a > b ? a - b : b - a; }

/* `got` is within `most` of `want`. */
static void near(struct table *table, const char *name, const char *what, uint64_t got,
                 double want, double most)
{
    double off = fabs((double)got - want);
    table->rows++;
    if (off <= most)
        return;
    printf("%s: %s is %" PRIu64 ", want %.3f, off by %.3f, more than %.3f\n", name, what, got,
           want, off, most);
    table->wrong++;
}

static const struct { const char *name; uint64_t x, want; } logs[] = {
    {"log2 1", 1, 0},
    {"log2 2", 2, ONE},
    {"log2 2^32", UINT64_C(1) << 32, 32 * ONE},
    {"log2 2^63", UINT64_C(1) << 63, 63 * ONE},
    {"log2 3", 3, UINT64_C(6807362105)},                /* 1.5849625007... */
    {"log2 10", 10, UINT64_C(14267572527)},             /* 3.3219280948... */
    {"log2 2^64 - 1", UINT64_MAX, 64 * ONE - 1},
};

static void check_log2(struct table *table)
{
    for (size_t i = 0; i < ROWS(logs); i++) {
        table->rows++;
        table_want(table, logs[i].name, "fixed point", draw_log2(logs[i].x), logs[i].want);
    }
    for (uint64_t i = 0; i < 2000; i++) {
        uint64_t x = rng_mix(i) >> (i % 64) | 1;
        /* a double has 53 bits: exact enough for 32 fractional ones of numbers below 64 */
        near(table, "log2", "of a drawn number", draw_log2(x), log2((double)x) * (double)ONE, 1);
    }
}

static const struct { const char *name; uint64_t x, want; } powers[] = {
    {"2^-0", 0, ONE},
    {"2^-1", ONE, ONE / 2},
    {"2^-32", 32 * ONE, 1},
    {"2^-33", 33 * ONE, 0},
    {"2^-1000", 1000 * ONE, 0},
    {"2^-(1/2)", ONE / 2, UINT64_C(3037000499)},
    {"2^-(3/2)", ONE / 2 * 3, UINT64_C(1518500249)},
};

static void check_exp2(struct table *table)
{
    for (size_t i = 0; i < ROWS(powers); i++) {
        table->rows++;
        table_want(table, powers[i].name, "fixed point within one",
                   distance(draw_exp2_negative(powers[i].x), powers[i].want) <= 1, 1);
    }
    for (uint64_t i = 0; i < 2000; i++) {
        uint64_t x = rng_mix(i) % (20 * ONE);
        near(table, "2^-x", "of a drawn number", draw_exp2_negative(x),
             exp2(-(double)x / (double)ONE) * (double)ONE, 1);
    }
}

/* Draws at the edges, and against the inverse of the distribution function. */
static void check_exponential(struct table *table)
{
    near(table, "exponential", "of the median draw", draw_exponential(UINT64_C(1) << 63, 1000000),
         1e6 * LN2, 1);
    near(table, "exponential", "of the smallest draw", draw_exponential(0, 1000000),
         1e6 * LN2 * 64, 1);
    near(table, "exponential", "of the largest draw", draw_exponential(UINT64_MAX, 1000000), 1, 0);
    for (uint64_t i = 0; i < 2000; i++) {
        uint64_t draw = rng_draw(7, RNG_LIFETIME, 0, i);
        double want = -log((double)draw / 18446744073709551616.0);
        near(table, "exponential", "of a drawn number", draw_exponential(draw, 1000000000),
             want * 1e9, 2 + want);
        near(table, "interval", "of a drawn number", draw_interval(draw, 2000), want * 5e8,
             2 + want);
    }
}

/* The mean of many: its standard error is mean / sqrt(draws), six of them are allowed. */
static void check_means(struct table *table)
{
    const struct { const char *name; uint64_t mean; } rows[] = {
        {"mean 100000", 100000}, {"mean 1000000000", 1000000000},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        uint64_t sum = 0, squares_1000 = 0;
        for (uint64_t k = 0; k < DRAWS; k++) {
            uint64_t value = draw_exponential(rng_draw(i, RNG_LIFETIME, 1, k), rows[i].mean);
            uint64_t part = value * 1000 / rows[i].mean;
            sum += value;
            squares_1000 += part * part;
        }
        double slack = 6.0 / sqrt((double)DRAWS);
        near(table, rows[i].name, "mean", sum / DRAWS, (double)rows[i].mean,
             (double)rows[i].mean * slack);
        /* E[x^2] = 2 mean^2, Var[x^2] = 20 mean^4 */
        near(table, rows[i].name, "mean square", squares_1000 / DRAWS, 2e6, 2e6 * 2.3 * slack);
    }
    uint64_t sum = 0;
    for (uint64_t k = 0; k < DRAWS; k++)
        sum += draw_interval(rng_draw(5, RNG_ARRIVAL, 1, k), 10000000);
    near(table, "interval", "mean of 10^7 per 10^12", sum / DRAWS, 1e5, 1e5 * 6 / sqrt(DRAWS));
}

static const struct { const char *name; uint32_t pages, zipf_permille; } zipfs[] = {
    {"uniform over 1", 1, 0},      {"uniform over 7", 7, 0},       {"uniform over 4096", 4096, 0},
    {"0.8 over 2048", 2048, 800},  {"1.0 over 1000", 1000, 1000},  {"2.5 over 100", 100, 2500},
    {"4.0 over 10", 10, 4000},     {"0.6 over 20000", 20000, 600}, {"0.9 over 2^20", 1 << 20, 900},
};

/* Every quantile is the rank whose cumulated weight first passes it; or it lies so near the edge
 * between two ranks that fixed point and double, or many ranks of one weight, may disagree. */
static void check_zipf(struct table *table)
{
    for (size_t i = 0; i < ROWS(zipfs); i++) {
        uint32_t quantiles[QUANTILES], pages = zipfs[i].pages;
        double s = zipfs[i].zipf_permille / 1000.0, total = 0;
        double edge = pages <= 64 ? 1e-8 : 1e-8 + s * (s + 1) / 24576;
        double *below = calloc(pages + 1, sizeof *below);
        if (below == NULL)
            abort();
        draw_zipf_quantiles(quantiles, QUANTILES, pages, zipfs[i].zipf_permille);
        for (uint32_t rank = 0; rank < pages; rank++)
            below[rank + 1] = total += pow(rank + 1, -s);
        table->rows++;
        for (uint32_t q = 0; q < QUANTILES; q++) {
            double at = (q + 0.5) / QUANTILES * total;
            uint32_t rank = quantiles[q];
            bool inside = rank < pages && below[rank] <= at + edge * total &&
                          at <= below[rank + 1] + edge * total;
            table_want(table, zipfs[i].name, "quantile in its rank", inside, true);
        }
        free(below);
    }
    uint32_t quantiles[QUANTILES];
    draw_zipf_quantiles(quantiles, QUANTILES, UINT32_MAX, 1000);
    for (uint32_t q = 1; q < QUANTILES; q++)
        table_want(table, "1.0 over 2^32 - 1", "quantiles in order",
                   quantiles[q - 1] <= quantiles[q], true);
}

int main(void)
{
    struct table table = {0};
    check_log2(&table);
    check_exp2(&table);
    check_exponential(&table);
    check_means(&table);
    check_zipf(&table);
    return table_end(&table);
}
