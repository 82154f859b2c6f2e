/* names.c: the lists of csim.h as text, so that Python asks and nothing is written twice. */
#include <stddef.h>

#include "csim.h"

#ifndef CSIM_BUILD_ID
#define CSIM_BUILD_ID "not built by build.py"
#endif

static const struct {
    const char *name, *unit, *meaning;
} counters[] = {
#define X(name, unit, meaning) {#name, unit, meaning},
    CSIM_COUNTERS(X)
#undef X
};

static const char *const verdicts[] = {
    [CSIM_RAN] = "ran",
    [CSIM_OOPS] = "oops",
    [CSIM_LIVELOCK] = "livelock",
    [CSIM_STACK_OVERFLOW] = "stack overflow",
    [CSIM_DEADLOCK] = "deadlock",
    [CSIM_STALE_USE] = "stale use",
};

enum { COUNTERS = sizeof counters / sizeof counters[0] };

const char *csim_counter_name(uint32_t counter)
{
    return counter < COUNTERS ? counters[counter].name : NULL;
}

const char *csim_counter_unit(uint32_t counter)
{
    return counter < COUNTERS ? counters[counter].unit : NULL;
}

const char *csim_counter_meaning(uint32_t counter)
{
    return counter < COUNTERS ? counters[counter].meaning : NULL;
}

const char *csim_verdict_name(uint32_t verdict)
{
    return verdict < CSIM_VERDICTS ? verdicts[verdict] : NULL;
}

static const struct {
    const char *name, *text;
} log_kinds[] = {
#define X(id, name, text) {name, text},
    CSIM_LOG_KINDS(X)
#undef X
};

const char *csim_log_kind_name(uint32_t kind)
{
    return kind < CSIM_LOG_KINDS_NR ? log_kinds[kind].name : NULL;
}

const char *csim_log_kind_text(uint32_t kind)
{
    return kind < CSIM_LOG_KINDS_NR ? log_kinds[kind].text : NULL;
}

const char *csim_build_id(void) { return CSIM_BUILD_ID; }
