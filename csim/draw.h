/* draw.h: distributions over counter-based draws, in integers, so that every machine and libc draws
 * the same work. */
#ifndef DRAW_H
#define DRAW_H

#include <stdint.h>

#include "arena.h"

/* log2(x) and 2^-x with 32 fractional bits; x of the logarithm is at least 1. */
uint64_t draw_log2(uint64_t x);
uint64_t draw_exp2_negative(uint64_t x);

/* Exponential with this mean, at least 1. */
uint64_t draw_exponential(uint64_t draw, uint64_t mean);

/* Time to the next event of a Poisson process of so many events per 10^12 cycles. */
uint64_t draw_interval(uint64_t draw, uint64_t per_tcycle);

/* quantiles[i] = the page (0-based rank) at probability (i + 1/2) / n under a Zipf law of exponent
 * s = zipf_permille / 1000 over `pages` pages: weight of rank k is (k + 1)^-s. */
void draw_zipf_quantiles(uint32_t *quantiles, uint32_t n, uint32_t pages, uint32_t zipf_permille);

#endif
