/* The question of benchmarks/explore.py in Promela, for Spin: linux-next's mark and barrier, one
 * hart mapping PAGES pages one after the other, READERS harts using each. Written for comparison:
 * the same machine as docs/abstract-machine.md (a PSO store buffer with epochs, history sets), by
 * hand for this one policy. An oops is a failed assertion.
 */
#define READERS 3
#define PAGES 3
#define MARK PAGES              /* places: 0..PAGES-1 are PTEs, then the mark, then the flags */
#define FLAG (PAGES + 1)
#define STORES (3 * PAGES)

bit pte[PAGES];
bit flag[PAGES];
bit marked[READERS];
bit may_hit[READERS * PAGES];   /* what a walk by a reader may still return */
bit may_miss[READERS * PAGES] = 1;

byte stores;                    /* the mapping hart's buffer */
byte place[STORES];
byte epoch[STORES];
bit barrier;
hidden byte i;

inline fence_w_w() { barrier = (stores > 0) }

inline issue(at)
{
    place[stores] = at;
    epoch[stores] = (stores > 0 -> epoch[stores - 1] + barrier : 0);
    barrier = 0;
    stores++
}

inline drain(n, at)
{
    at = place[n];
    stores--;
    i = n;
    do
    :: i < stores -> place[i] = place[i + 1]; epoch[i] = epoch[i + 1]; i++
    :: else -> break
    od;
    place[stores] = 0;
    epoch[stores] = 0;
    if
    :: stores == 0 -> barrier = 0
    :: else -> skip
    fi;
    if
    :: stores > 0 && epoch[0] > 0 ->
        i = 0;
        do
        :: i < stores -> epoch[i]--; i++
        :: else -> break
        od
    :: else -> skip
    fi;
    i = 0;
    if
    :: at < PAGES ->
        pte[at] = 1;
        do
        :: i < READERS -> may_hit[i * PAGES + at] = 1; i++
        :: else -> break
        od
    :: at == MARK ->
        do
        :: i < READERS -> marked[i] = 1; i++
        :: else -> break
        od
    :: else -> flag[at - FLAG] = 1
    fi;
    i = 0;
    at = 0
}

active proctype mapper()
{
    byte page;
    do
    :: page < PAGES ->
        d_step { issue(page) };
        fence_w_w();
        d_step { issue(MARK) };
        d_step { fence_w_w(); issue(FLAG + page); page++ }
    :: else -> break
    od
}

active proctype memory()
{
    byte at;
end:
    do
    :: d_step { stores > 0 -> drain(0, at) }
    :: d_step { stores > 1 && epoch[1] == 0 && place[1] != place[0] -> drain(1, at) }
    :: d_step { stores > 2 && epoch[2] == 0 && place[2] != place[0] && place[2] != place[1] ->
                drain(2, at) }
    od
}

active [READERS] proctype reader()
{
    byte page;
    byte h = _pid - 2;
    do
    :: page < PAGES ->
        flag[page] == 1;                        /* see it published */
access:
        if
        :: may_hit[h * PAGES + page] -> page++
        :: may_miss[h * PAGES + page] ->        /* page fault */
            if
            :: marked[h] -> skip                /* the check's load */
            :: else -> assert(false)            /* oops on a published mapping */
            fi;
            marked[h] = 0;                      /* amoxor */
            d_step {                            /* sfence.vma */
                i = 0;
                do
                :: i < PAGES ->
                    may_hit[h * PAGES + i] = pte[i];
                    may_miss[h * PAGES + i] = 1 - pte[i];
                    i++
                :: else -> break
                od;
                i = 0
            };
            goto access                         /* sret */
        fi
    :: else -> break
    od
}
