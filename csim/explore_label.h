/* explore_label.h: a transition in 16 bits: hart, kind (enum csim_explore_kind), argument. */
#ifndef EXPLORE_LABEL_H
#define EXPLORE_LABEL_H

#include <stdint.h>

static inline uint16_t explore_label_make(uint32_t hart, uint32_t kind, uint32_t arg)
{
    return (uint16_t)(hart | kind << 3 | arg << 8);
}
static inline uint32_t explore_label_hart(uint16_t label) { return label & 7; }
static inline uint32_t explore_label_kind(uint16_t label) { return label >> 3 & 31; }
static inline uint32_t explore_label_arg(uint16_t label) { return label >> 8; }

#endif
