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

#include <assert.h>

__extension__ typedef unsigned __int128 u128;

/* 32 bits of ranks make 650 blocks. */
enum { FRACTION_BITS = 32, BLOCK_PARTS = 32, BLOCKS_MAX = 700 };

#define LN2_Q32 UINT64_C(2977044471)               /* ln 2 = 0.693147180559945... */
#define TERA UINT64_C(1000000000000)

/* The mantissa lies in [1, 2) and has 63 fractional bits; the logarithm gains a bit a step. */
struct logarithm { uint64_t mantissa, log; };

static struct logarithm log2_begin(uint64_t x)
{
    uint32_t exponent = 63u - (uint32_t)__builtin_clzll(x);
    return (struct logarithm){x << (63u - exponent), exponent};
}

static struct logarithm log2_step(struct logarithm at)
{
    u128 square = (u128)at.mantissa * at.mantissa;  /* 126 fractional bits, in [1, 4) */
    uint64_t low = (uint64_t)(square >> 63), two = (uint64_t)(square >> 127);
    return (struct logarithm){low >> two | two << 63, at.log << 1 | two};
}

uint64_t draw_log2(uint64_t x)
{
    struct logarithm at = log2_begin(x);
    for (int bit = 0; bit < FRACTION_BITS; bit++)
        at = log2_step(at);
    return at.log;
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

/* values[i] = 2^-exponents[i]; bit by bit over all, for one's products wait for each other. */
static void powers_of_half(uint64_t *values, const uint64_t *exponents, uint32_t nr)
{
    uint64_t factors[FRACTION_BITS];
    roots_of_half(factors);
    for (uint32_t i = 0; i < nr; i++)
        values[i] = UINT64_C(1) << 62;             /* 1 with 62 fractional bits */
    for (int bit = FRACTION_BITS - 1; bit >= 0; bit--)
        for (uint32_t i = 0; i < nr; i++) {
            uint64_t less = (uint64_t)((u128)values[i] * factors[bit] >> 62);
            values[i] = (exponents[i] >> bit & 1) != 0 ? less : values[i];
        }
    for (uint32_t i = 0; i < nr; i++) {
        uint64_t whole = exponents[i] >> FRACTION_BITS;
        values[i] = whole > FRACTION_BITS ? 0 : values[i] >> (62 - FRACTION_BITS) >> whole;
    }
}

uint64_t draw_exp2_negative(uint64_t x)
{
    uint64_t value;
    powers_of_half(&value, &x, 1);
    return value;
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

/* Ranks that share a weight: one each at first, then a 32nd of the rank. */
static uint32_t block_ranks(uint32_t rank, uint32_t pages)
{
    uint32_t ranks = rank < 2 * BLOCK_PARTS ? 1 : rank / BLOCK_PARTS;
    return ranks < pages - rank ? ranks : pages - rank;
}

/* Weights of blocks from rank 0 on, each of its middle; rank 0 weighs 1. Return their number. */
static uint32_t weigh(uint64_t weights[BLOCKS_MAX], uint32_t pages, uint32_t zipf_permille)
{
    struct logarithm logs[BLOCKS_MAX];
    uint64_t exponents[BLOCKS_MAX] = {0};
    uint32_t blocks = 0;
    for (uint32_t rank = 0, ranks; rank < pages; rank += ranks) {
        ranks = block_ranks(rank, pages);
        assert(blocks < BLOCKS_MAX);
        logs[blocks++] = log2_begin(2 * (uint64_t)rank + ranks + 1);   /* it may lie between two */
    }
    for (int bit = 0; bit < FRACTION_BITS; bit++)
        for (uint32_t i = 0; i < blocks; i++)
            logs[i] = log2_step(logs[i]);
    for (uint32_t i = 0; i < blocks; i++) {
        uint64_t log = logs[i].log - (UINT64_C(1) << FRACTION_BITS);
        exponents[i] = (uint64_t)((u128)log * zipf_permille / 1000);
    }
    powers_of_half(weights, exponents, blocks);
    return blocks;
}

/* The quotient is the same; most need no more than the fast division of 64 bits. */
static uint32_t quotient(u128 dividend, uint64_t divisor)
{
    uint64_t low = (uint64_t)dividend;
    return (uint32_t)(low == dividend ? low / divisor : dividend / divisor);
}

/* Probabilities are compared as numbers out of 2 n times the sum of all weights. */
void draw_zipf_quantiles(uint32_t *quantiles, uint32_t n, uint32_t pages, uint32_t zipf_permille)
{
    uint64_t weights[BLOCKS_MAX];
    uint32_t blocks = weigh(weights, pages, zipf_permille);
    u128 total = 0;
    for (uint32_t rank = 0, block = 0, ranks; block < blocks; block++, rank += ranks) {
        ranks = block_ranks(rank, pages);
        total += (u128)weights[block] * ranks;
    }
    u128 middle = total, below = 0;                /* of the next quantile; of ranks before these */
    uint32_t filled = 0;
    for (uint32_t rank = 0, block = 0, ranks; block < blocks; block++, rank += ranks) {
        ranks = block_ranks(rank, pages);
        uint64_t each = 2 * weights[block] * n;
        u128 above = below + (u128)each * ranks;
        for (; filled < n && middle < above; middle += 2 * total)
            quantiles[filled++] = rank + (ranks == 1 ? 0 : quotient(middle - below, each));
        below = above;
    }
    while (filled < n)
        quantiles[filled++] = pages - 1;
}
