/* draw.c: logarithm and exponential by repeated squaring and square roots in fixed point.
 *
 * log2: normalise to [1, 2) with 63 fractional bits; squaring doubles the logarithm, so each
 * squaring yields one more bit of it. 2^-x: the product of the roots 2^(-1/2), 2^(-1/4), ... that
 * the bits of the fraction select. Errors stay below 2^-30, far under what 32-bit draws can tell
 * apart.
 *
 * Zipf: beyond the first 64 ranks, ranks that differ by less than a 32nd share the weight of their
 * middle, so a footprint of a million pages takes a few hundred weights; for an exponent s a weight
 * is at most s/64 off, their sum (s + 1) s / 24576: what the middle leaves of the curve.
 */
#include "draw.h"

__extension__ typedef unsigned __int128 u128;

enum { FRACTION_BITS = 32, BLOCK_PARTS = 32 };

#define LN2_Q32 UINT64_C(2977044471)               /* ln 2 = 0.693147180559945... */
#define TERA UINT64_C(1000000000000)

uint64_t draw_log2(uint64_t x)
{
    uint32_t exponent = 63u - (uint32_t)__builtin_clzll(x);
    uint64_t mantissa = x << (63u - exponent);     /* [1, 2) with 63 fractional bits */
    uint64_t log = exponent;
    for (int bit = 0; bit < FRACTION_BITS; bit++) {
        u128 square = (u128)mantissa * mantissa;   /* 126 fractional bits */
        uint64_t two = (uint64_t)(square >> 127);
        mantissa = (uint64_t)(square >> (63 + two));
        log = log << 1 | two;
    }
    return log;
}

/* Integer square root of a 126-bit number, bit by bit. */
static uint64_t root(u128 x)
{
    uint64_t result = 0;
    for (int bit = 62; bit >= 0; bit--) {
        uint64_t next = result | UINT64_C(1) << bit;
        if ((u128)next * next <= x)
            result = next;
    }
    return result;
}

/* factors[bit] = 2^-(2^bit / 2^32) with 62 fractional bits. */
static void roots_of_half(uint64_t factors[FRACTION_BITS])
{
    uint64_t factor = UINT64_C(1) << 61;           /* 2^-1; its square roots follow */
    for (int bit = FRACTION_BITS - 1; bit >= 0; bit--) {
        factor = root((u128)factor << 62);
        factors[bit] = factor;
    }
}

static uint64_t power(const uint64_t factors[FRACTION_BITS], uint64_t x)
{
    uint64_t whole = x >> FRACTION_BITS;
    if (whole > FRACTION_BITS)
        return 0;
    uint64_t value = UINT64_C(1) << 62;            /* 1 with 62 fractional bits */
    for (int bit = FRACTION_BITS - 1; bit >= 0; bit--)
        if ((x >> bit & 1) != 0)
            value = (uint64_t)((u128)value * factors[bit] >> 62);
    return value >> (62 - FRACTION_BITS) >> whole;
}

uint64_t draw_exp2_negative(uint64_t x)
{
    uint64_t factors[FRACTION_BITS];
    roots_of_half(factors);
    return power(factors, x);
}

/* -ln(u) with 32 fractional bits, u = draw / 2^64. */
static uint64_t minus_ln(uint64_t draw)
{
    uint64_t log2 = (UINT64_C(64) << FRACTION_BITS) - draw_log2(draw | 1);
    return (uint64_t)((u128)log2 * LN2_Q32 >> FRACTION_BITS);
}

uint64_t draw_exponential(uint64_t draw, uint64_t mean)
{
    uint64_t value = (uint64_t)((u128)minus_ln(draw) * mean >> FRACTION_BITS);
    return value == 0 ? 1 : value;
}

uint64_t draw_interval(uint64_t draw, uint64_t per_tcycle)
{
    uint64_t value = (uint64_t)((u128)minus_ln(draw) * TERA / per_tcycle >> FRACTION_BITS);
    return value == 0 ? 1 : value;
}

/* Of the middle of `ranks` ranks from `rank`; rank 0 weighs 1. */
static uint64_t weight(const uint64_t factors[FRACTION_BITS], uint32_t rank, uint32_t ranks,
                       uint32_t zipf_permille)
{
    uint64_t twice = 2 * (uint64_t)rank + ranks + 1;             /* it may lie between two */
    uint64_t log = draw_log2(twice) - (UINT64_C(1) << FRACTION_BITS);
    u128 exponent = (u128)log * zipf_permille / 1000;
    return power(factors, (uint64_t)exponent);
}

/* Ranks that share a weight: one each at first, then a 32nd of the rank. */
static uint32_t block_ranks(uint32_t rank, uint32_t pages)
{
    uint32_t ranks = rank < 2 * BLOCK_PARTS ? 1 : rank / BLOCK_PARTS;
    return ranks < pages - rank ? ranks : pages - rank;
}

void draw_zipf_quantiles(uint32_t *quantiles, uint32_t n, uint32_t pages, uint32_t zipf_permille)
{
    uint64_t factors[FRACTION_BITS];
    roots_of_half(factors);
    u128 total = 0;
    for (uint32_t rank = 0, ranks; rank < pages; rank += ranks) {
        ranks = block_ranks(rank, pages);
        total += (u128)weight(factors, rank, ranks, zipf_permille) * ranks;
    }
    u128 below = 0;
    uint32_t filled = 0;
    for (uint32_t rank = 0, ranks; rank < pages; rank += ranks) {
        ranks = block_ranks(rank, pages);
        uint64_t each = weight(factors, rank, ranks, zipf_permille);
        u128 above = below + (u128)each * ranks;
        while (filled < n && (u128)(2 * filled + 1) * total < 2 * above * n) {
            u128 into = (u128)(2 * filled + 1) * total - 2 * below * n;
            quantiles[filled++] = rank + (uint32_t)(into / (2 * (u128)each * n));
        }
        below = above;
    }
    while (filled < n)
        quantiles[filled++] = pages - 1;
}
