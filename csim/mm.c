/* mm.c: a hart's bit in an address space's mask is set when it first runs there. With ASIDs it
 * stays, because entries of that ASID may still be cached; without, every switch drops the user
 * entries and clears it. So masks grow with migration, and with them the harts that a user fence
 * has to reach.
 *
 * ASIDs are given out in order. When none is left a new generation begins: what runs keeps its own,
 * everything else gets a new one at its next switch, and each hart owes a full fence at its next
 * switch. No IPI is sent for it.
 *
 * Source: linux 6.12, arch/riscv/mm/context.c (asids_init, set_mm_asid, set_mm_noasid,
 * __flush_context). Left out: ends of address spaces; their ASIDs wait for the next generation
 * there too.
 */
#include "mm.h"

#include <string.h>

void mm_create(struct mms *mms, struct arena *arena, uint32_t harts, uint32_t others,
               uint32_t asid_bits, uint32_t nr_cpus)
{
    size_t nr = (size_t)harts + others;
    uint32_t asids = asid_bits < 32 ? UINT32_C(1) << asid_bits : UINT32_MAX;
    mms->harts = harts;
    mms->words = (harts + 63) / 64;
    mms->asids = asids > 2 * nr_cpus ? asids : 0;
    mms->mms = arena_take(arena, nr, sizeof mms->mms[0]);
    mms->masks = arena_take(arena, nr * mms->words, sizeof mms->masks[0]);
    mms->on = arena_take(arena, harts, sizeof mms->on[0]);
    mms->flush_pending = arena_take(arena, harts, sizeof mms->flush_pending[0]);
}

static uint64_t *word(const struct mms *mms, uint32_t mm, uint32_t hart)
{
    return &mms->masks[(size_t)mm * mms->words + hart / 64];
}

static uint64_t bit(uint32_t hart) { return UINT64_C(1) << hart % 64; }

void mm_start(struct mms *mms)
{
    mms->next_asid = MM_OWN_ASID + 1;
    mms->generation = 1;
    for (uint32_t hart = 0; hart < mms->harts; hart++) {
        mms->on[hart] = hart;
        mms->mms[hart] = (struct mm){.asid = MM_OWN_ASID, .runs_on = 1};
        *word(mms, hart, hart) |= bit(hart);
    }
}

/* Whether a running address space keeps the ASID over a rollover. */
static bool reserved(const struct mms *mms, uint32_t asid)
{
    for (uint32_t hart = 0; hart < mms->harts; hart++)
        if (mms->on[hart] >= mms->harts && mms->mms[mms->on[hart]].asid == asid)
            return true;
    return false;
}

static void roll_over(struct mms *mms)
{
    mms->generation++;
    mms->rollovers++;
    mms->next_asid = MM_OWN_ASID + 1;
    memset(mms->flush_pending, 1, mms->harts);
    for (uint32_t hart = 0; hart < mms->harts; hart++)
        if (mms->on[hart] >= mms->harts)
            mms->mms[mms->on[hart]].generation = mms->generation;
}

/* At most every running address space keeps one, and there are more than twice as many. */
static uint32_t new_asid(struct mms *mms)
{
    if (mms->next_asid >= mms->asids)
        roll_over(mms);
    while (mms->rollovers > 0 && reserved(mms, mms->next_asid))
        mms->next_asid++;
    return mms->next_asid++;
}

uint32_t mm_switch(struct mms *mms, uint32_t hart, uint32_t other, bool *flush)
{
    uint32_t next = other == 0 ? hart : mm_of_work(mms, other);
    uint32_t last = mms->on[hart];
    struct mm *mm = &mms->mms[next];
    mms->mms[last].runs_on--;
    if (mms->asids == 0)
        *word(mms, last, hart) &= ~bit(hart);
    if (mms->asids != 0 && next >= mms->harts && mm->generation != mms->generation) {
        uint32_t asid = new_asid(mms);
        mm->asid = asid;
        mm->generation = mms->generation;
    }
    mms->on[hart] = next;
    mm->runs_on++;
    *word(mms, next, hart) |= bit(hart);
    *flush = mms->flush_pending[hart] != 0;
    mms->flush_pending[hart] = 0;
    return mm->asid;
}

uint32_t mm_on(const struct mms *mms, uint32_t hart) { return mms->on[hart]; }

uint32_t mm_of_work(const struct mms *mms, uint32_t other) { return mms->harts + other - 1; }

bool mm_ran_on(const struct mms *mms, uint32_t mm, uint32_t hart)
{
    return (*word(mms, mm, hart) & bit(hart)) != 0;
}

bool mm_runs_on(const struct mms *mms, uint32_t mm, uint32_t hart)
{
    return mms->on[hart] == mm;
}

bool mm_alone(const struct mms *mms, uint32_t mm, uint32_t hart)
{
    const uint64_t *mask = &mms->masks[(size_t)mm * mms->words];
    for (uint32_t i = 0; i < mms->words; i++)
        if ((mask[i] & ~(i == hart / 64 ? bit(hart) : 0)) != 0)
            return false;
    return true;
}
