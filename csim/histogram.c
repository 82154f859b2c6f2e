/* histogram.c: a value v >= 16 with its highest bit at e (e >= 4) falls into bucket
 * 16 * (e - 3) + the four bits below the highest one, so a bucket is 1/16 of its power of two wide
 * and a quantile read from it is at most 6.25 % too low. */
#include "histogram.h"

uint32_t histogram_bucket(uint64_t value)
{
    if (value < 16)
        return (uint32_t)value;
    uint32_t exponent = 63u - (uint32_t)__builtin_clzll(value);
    return 16 * (exponent - 3) + (uint32_t)((value >> (exponent - 4)) & 15);
}

uint64_t csim_histogram_floor(uint32_t bucket)
{
    if (bucket < 16)
        return bucket;
    uint32_t exponent = bucket / 16 + 3;
    return (UINT64_C(16) + bucket % 16) << (exponent - 4);
}

uint32_t csim_histogram_first(const uint64_t *buckets)
{
    uint32_t first = 0;
    while (first < CSIM_HISTOGRAM_BUCKETS && buckets[first] == 0)
        first++;
    return first;
}

uint32_t csim_histogram_end(const uint64_t *buckets)
{
    uint32_t end = CSIM_HISTOGRAM_BUCKETS;
    for (uint32_t first = csim_histogram_first(buckets); end > first && buckets[end - 1] == 0;)
        end--;
    return end;
}
