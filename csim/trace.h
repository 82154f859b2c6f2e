/* trace.h: the event log: what every hart did and when, in memory of the caller. With no log a run
 * writes nothing and answers the same. Entries beyond the caller's room are counted, not kept. */
#ifndef TRACE_H
#define TRACE_H

#include <stdbool.h>

#include "csim.h"

struct trace {
    struct csim_log_entry *entries;   /* NULL: no log */
    uint64_t room;
    uint64_t logged;                  /* ever, also what found no room */
    bool last;                        /* new entries take the place of the oldest */
};

static inline void trace_put(struct trace *trace, struct csim_log_entry entry)
{
    if (trace->entries == 0)
        return;
    if (trace->last)
        trace->entries[trace->logged % trace->room] = entry;
    else if (trace->logged < trace->room)
        trace->entries[trace->logged] = entry;
    trace->logged++;
}

#endif
