/* histogram.h: log-linear buckets: 16 per power of two, exact below 16. */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>

#include "csim.h"

/* The bucket that counts `value`. */
uint32_t histogram_bucket(uint64_t value);

#endif
