/* simd.c: asks the processor at run time, so that one wheel runs on any x86-64 and uses what the
 * machine it runs on has. The answer is not kept: whoever opens a stream asks once. */
#include "simd.h"

static bool runs_here(enum csim_simd path)
{
    switch (path) {
    case CSIM_SIMD_PLAIN:
        return true;
    case CSIM_SIMD_AVX2:
#if SIMD_X86
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi")
               && __builtin_cpu_supports("popcnt");
#else
        return false;
#endif
    case CSIM_SIMD_AVX512:
#if SIMD_X86
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")
               && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")
               && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("popcnt");
#else
        return false;
#endif
    case CSIM_SIMD_BEST:
    case CSIM_SIMD_PATHS:
        break;
    }
    return false;
}

bool simd_choose(uint32_t asked, enum csim_simd *chosen)
{
    if (asked >= CSIM_SIMD_PATHS)
        return false;
    *chosen = (enum csim_simd)asked;
    if (asked != CSIM_SIMD_BEST)
        return runs_here(*chosen);
    *chosen = CSIM_SIMD_AVX512;
    if (!runs_here(*chosen))
        *chosen = CSIM_SIMD_AVX2;
    if (!runs_here(*chosen))
        *chosen = CSIM_SIMD_PLAIN;
    return true;
}
