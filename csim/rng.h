/* rng.h: counter-based random numbers. A draw is a pure function of (seed, purpose, hart, item), so
 * nothing depends on the order in which harts are simulated, and two policies draw the same work.
 *
 * The mixer is the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014, figure 16) over a
 * Weyl step per coordinate.
 */
#ifndef RNG_H
#define RNG_H

#include <stdint.h>

enum rng_purpose {
    RNG_VISIT, RNG_SPECULATION, RNG_ARRIVAL, RNG_KIND, RNG_LIFETIME, RNG_PARTNER, RNG_TRAP,
    RNG_USER_FAULT, RNG_REPLACEMENT, RNG_PTE_LOCATION, RNG_TOUCH,
    RNG_FOOTPRINT
};

static inline uint64_t rng_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* What all draws of one purpose on one hart share: who draws often keeps it. */
static inline uint64_t rng_key(uint64_t seed, enum rng_purpose purpose, uint32_t hart)
{
    uint64_t key = rng_mix(seed + UINT64_C(0x9e3779b97f4a7c15) * ((uint64_t)purpose + 1));
    return rng_mix(key + UINT64_C(0xd1b54a32d192ed03) * ((uint64_t)hart + 1));
}

static inline uint64_t rng_draw_keyed(uint64_t key, uint64_t item)
{
    return rng_mix(key + UINT64_C(0x9e3779b97f4a7c15) * (item + 1));
}

static inline uint64_t rng_draw(uint64_t seed, enum rng_purpose purpose, uint32_t hart,
                                uint64_t item)
{
    return rng_draw_keyed(rng_key(seed, purpose, hart), item);
}

/* Uniform in [0, bound), bound below 2^32: the high bits times the bound. */
static inline uint64_t rng_below(uint64_t draw, uint64_t bound)
{
    return ((draw >> 32) * bound) >> 32;
}

#endif
