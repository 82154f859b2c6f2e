/* simd.h: which vector instructions a path may use. A path changes no result, only its time. */
#ifndef SIMD_H
#define SIMD_H

#include <stdbool.h>
#include <stdint.h>

#include "csim.h"

/* Vector paths are written for x86-64 only; every other processor runs the plain C. */
#if defined(__x86_64__)
#define SIMD_X86 1
#define _MM_MALLOC_H_INCLUDED 1  /* gcc's header brings an allocator along: not into this house */
#include <immintrin.h>
#define SIMD_AVX2 __attribute__((target("avx2,bmi,popcnt")))
#define SIMD_AVX512 __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,bmi,popcnt")))
#else
#define SIMD_X86 0
#endif

/* The path asked for, CSIM_SIMD_BEST resolved; false: this processor cannot. */
bool simd_choose(uint32_t asked, enum csim_simd *chosen);

#endif
