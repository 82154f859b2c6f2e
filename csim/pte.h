/* pte.h: one PTE word. Pure functions of it; nothing here reads memory. */
#ifndef PTE_H
#define PTE_H

#include <stdbool.h>
#include <stdint.h>

struct pte { uint64_t bits; };

#endif
