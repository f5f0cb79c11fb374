// SPDX-License-Identifier: MIT
/*
 * What the functions of the core do when nobody disturbs them. Numbers in comments are conformance cases.
 */
#include "check.h"

#define CHANNELS 2047u

/* Remembers the callbacks of one drain, and may do something inside each. */
struct seen {
    unsigned count;
    uint32_t flag[VMB_FLAGS];
    uint64_t slot[VMB_FLAGS];
    void (*inside)(struct seen *seen, uint32_t flag);
    struct partition *partition;
};

static void remember(void *context, uint32_t flag, uint64_t slot)
{
    struct seen *seen = context;
    if (seen->count < VMB_FLAGS) {
        seen->flag[seen->count] = flag;
        seen->slot[seen->count] = slot;
    }
    seen->count++;
    if (seen->inside)
        seen->inside(seen, flag);
}

static void set(uint64_t *flags, uint32_t flag) { flags[flag / 64] |= VMB_BIT(flag); }

/* ---- event flags ------------------------------------------------------------------------------------------- */

static const uint32_t edges[] = {1, 63, 64, 2046, 2047}; /* 220 */
#define EDGES (sizeof edges / sizeof *edges)

static void take_reports_each_flag_once_ascending(void)
{
    struct partition p = partition_new(1, 0);
    uint16_t out[VMB_FLAGS];
    for (unsigned i = EDGES; i-- > 0;)
        set(p.host->flags, edges[i]);
    CHECK(vmb_take(p.host->flags, out) == EDGES); /* 219 */
    for (unsigned i = 0; i < EDGES; i++)
        CHECK(out[i] == edges[i]);
    CHECK(vmb_take(p.host->flags, out) == 0);
    CHECK(!vmb_any_pending(p.host->flags));
    partition_free(&p);
}

static void take_of_a_full_page_reports_2047_flags(void)
{
    struct partition p = partition_new(1, 0);
    uint16_t *out = malloc(VMB_FLAGS * sizeof *out);
    memset(p.host->flags, 0xff, sizeof p.host->flags);
    CHECK(vmb_take(p.host->flags, out) == VMB_FLAGS - 1);
    for (unsigned i = 0; i < VMB_FLAGS - 1; i++)
        CHECK(out[i] == i + 1);
    CHECK(!vmb_any_pending(p.host->flags));
    free(out);
    partition_free(&p);
}

static void flag_0_is_cleared_and_reported_to_nobody(void) /* 221 */
{
    struct partition p = partition_new(1, CHANNELS);
    struct vmb_worker w = worker_of(&p, 0);
    struct seen seen = {0};
    uint16_t out[VMB_FLAGS];
    set(p.host->flags, 0);
    CHECK(vmb_take(p.host->flags, out) == 0 && p.host->flags[0] == 0);
    set(w.flags, 0);
    vmb_slot_open(p.table, 0, slot_of(0, 1)); /* even if somebody filled its slot */
    CHECK(vmb_drain(&w, remember, &seen) == 0);
    CHECK(seen.count == 0 && w.flags[0] == 0 && p.blocks[0].claim == 0);
    partition_free(&p);
}

static void signals_set_only_the_bit_in_sint_2(void)
{
    struct partition p = partition_new(1, CHANNELS);
    struct vmb_sender s = sender_of(&p);
    for (unsigned i = 0; i < EDGES; i++) {
        const uint32_t flag = edges[i];
        unsigned char *page = (unsigned char *)p.pages;
        CHECK(vmb_signal(&s, flag, flag) == 1); /* 0 -> 1 */
        CHECK(vmb_signal(&s, flag, flag) == 0); /* was set */
        CHECK(page[512 + flag / 8] == 1u << flag % 8);
        page[512 + flag / 8] = 0;
        for (unsigned b = 0; b < VMB_PAGE; b++)
            CHECK(page[b] == 0);
    }
    CHECK(s.signals == 2 * EDGES && s.transitions == EDGES && s.moved == 0);
    partition_free(&p);
}

/* ---- dispatch ---------------------------------------------------------------------------------------------- */

static void drain_calls_each_channel_once_ascending(void) /* 218, 219 */
{
    struct partition p = partition_new(1, CHANNELS);
    struct vmb_worker w = worker_of(&p, 0);
    struct seen seen = {0};
    for (unsigned i = EDGES; i-- > 0;)
        set(w.flags, edges[i]);
    CHECK(vmb_drain(&w, remember, &seen) == EDGES);
    CHECK(seen.count == EDGES);
    for (unsigned i = 0; i < EDGES; i++) {
        CHECK(seen.flag[i] == edges[i]);
        CHECK(seen.slot[i] == (slot_of(edges[i], 1) | VMB_SLOT_OPEN));
        CHECK(p.blocks[edges[i]].claim == 0 && p.blocks[edges[i]].interrupts == 1); /* 239 */
    }
    CHECK(vmb_drain(&w, remember, &seen) == 0 && seen.count == EDGES);
    CHECK(!vmb_any_pending(w.flags) && w.work->callbacks == EDGES && w.work->passes == 2);
    for (unsigned i = 0; i < VMB_WORDS; i++)
        CHECK(w.work->taken[i] == 0);
    partition_free(&p);
}

static void bits_without_an_open_channel_are_dropped(void) /* 222, 223, 236, 239 */
{
    struct partition p = partition_new(1, 5);
    struct vmb_worker w = worker_of(&p, 0);
    struct seen seen = {0};
    vmb_slot_close(p.table, 5);
    set(w.flags, 5); /* closed */
    set(w.flags, 6); /* never filled */
    set(w.flags, 4);
    CHECK(vmb_drain(&w, remember, &seen) == 3);
    CHECK(seen.count == 1 && seen.flag[0] == 4);
    CHECK(w.work->spurious == 2 && !vmb_any_pending(w.flags));
    CHECK(p.blocks[5].interrupts == 0 && p.blocks[6].claim == 0);
    vmb_slot_empty(p.table, 5);
    CHECK(p.table->slot[5] == 0);
    partition_free(&p);
}

static void set_own_bit(struct seen *seen, uint32_t flag)
{
    if (seen->count == 1)
        set(seen->partition->pages[0].flags, flag);
}

static void a_callback_that_sets_its_own_bit_runs_again(void) /* 224 */
{
    struct partition p = partition_new(1, CHANNELS);
    struct vmb_worker w = worker_of(&p, 0);
    struct seen seen = {.inside = set_own_bit, .partition = &p};
    set(w.flags, 7);
    CHECK(vmb_drain(&w, remember, &seen) == 1 && seen.count == 1);
    CHECK(vmb_drain(&w, remember, &seen) == 1 && seen.count == 2);
    CHECK(vmb_drain(&w, remember, &seen) == 0 && seen.count == 2);
    partition_free(&p);
}

static void see_the_journal(struct seen *seen, uint32_t flag)
{
    const struct partition *p = seen->partition;
    CHECK(p->work[0].taken[flag / 64] & VMB_BIT(flag));
    CHECK(p->blocks[flag].claim == (VMB_CLAIM_RUN | 0));
    CHECK(!(p->pages[0].flags[flag / 64] & VMB_BIT(flag)));
}

static void claim_and_journal_cover_the_callback(void)
{
    struct partition p = partition_new(1, CHANNELS);
    struct vmb_worker w = worker_of(&p, 0);
    struct seen seen = {.inside = see_the_journal, .partition = &p};
    for (unsigned i = 0; i < EDGES; i++)
        set(w.flags, edges[i]);
    vmb_drain(&w, remember, &seen);
    CHECK(seen.count == EDGES);
    partition_free(&p);
}

/* ---- claims ------------------------------------------------------------------------------------------------ */

static void a_channel_that_another_vp_runs_gets_AGAIN(void) /* 154 */
{
    struct partition p = partition_new(2, CHANNELS);
    struct vmb_worker w = worker_of(&p, 1);
    struct seen seen = {0};
    for (unsigned turn = 0; turn < 2; turn++) { /* also when AGAIN is there already */
        p.blocks[9].claim = turn ? VMB_CLAIM_RUN | VMB_CLAIM_AGAIN : VMB_CLAIM_RUN;
        set(w.flags, 9);
        vmb_drain(&w, remember, &seen);
        CHECK(p.blocks[9].claim == (VMB_CLAIM_RUN | VMB_CLAIM_AGAIN));
        CHECK(!vmb_any_pending(w.flags)); /* never put back for oneself */
    }
    CHECK(seen.count == 0 && w.work->left_again == 2);
    partition_free(&p);
}

static void leave_again(struct seen *seen, uint32_t flag)
{
    if (seen->count == 1) {
        struct vmb_worker other = worker_of(seen->partition, 1);
        struct seen none = {0};
        set(other.flags, flag);
        vmb_drain(&other, remember, &none);
        CHECK(none.count == 0);
    }
}

static void AGAIN_requeues_on_the_owners_page(void)
{
    struct partition p = partition_new(2, CHANNELS);
    struct vmb_worker w = worker_of(&p, 0);
    struct seen seen = {.inside = leave_again, .partition = &p};
    set(w.flags, 100);
    CHECK(vmb_drain(&w, remember, &seen) == 1 && seen.count == 1);
    CHECK(p.blocks[100].claim == 0);
    CHECK(w.flags[100 / 64] == VMB_BIT(100));
    CHECK(vmb_drain(&w, remember, &seen) == 1 && seen.count == 2);
    CHECK(p.blocks[100].claim == 0 && !vmb_any_pending(w.flags));
    partition_free(&p);
}

static void slot_and_claim_words_keep_their_parts(void)
{
    for (uint32_t flag = 0; flag < VMB_FLAGS; flag++) {
        uint64_t slot = slot_of(flag, VMB_GENERATION_MAX) | VMB_SLOT_OPEN;
        CHECK(VMB_SLOT_GENERATION(slot) == VMB_GENERATION_MAX);
        CHECK(VMB_SLOT_RECORD(slot) == sizeof(struct vmb_table_header) + 8 * VMB_FLAGS + 128 * flag);
        CHECK(VMB_SLOT_RECORD(slot) <= sizeof(struct vmb_table) - sizeof(struct vmb_record));
        CHECK(VMB_SLOT_GENERATION(slot & ~VMB_SLOT_OPEN) == VMB_GENERATION_MAX);
    }
    CHECK(VMB_SLOT_GENERATION(slot_of(1, 1)) == 1 && !(slot_of(1, 1) & VMB_SLOT_OPEN));
    CHECK(VMB_CLAIM_VP(VMB_CLAIM_RUN | VMB_CLAIM_AGAIN | (VMB_MAX_VPS - 1)) == VMB_MAX_VPS - 1);
}

static const struct test tests[] = {
    {"take reports each flag once, ascending, and leaves the page empty", take_reports_each_flag_once_ascending},
    {"take of a full page reports flags 1 to 2047", take_of_a_full_page_reports_2047_flags},
    {"flag 0 is cleared and reported to nobody", flag_0_is_cleared_and_reported_to_nobody},
    {"a signal sets its bit of SINT 2 and nothing else", signals_set_only_the_bit_in_sint_2},
    {"a drain calls each channel once, ascending", drain_calls_each_channel_once_ascending},
    {"bits without an open channel are dropped and counted", bits_without_an_open_channel_are_dropped},
    {"a callback that sets its own bit runs again", a_callback_that_sets_its_own_bit_runs_again},
    {"claim and journal cover the whole callback", claim_and_journal_cover_the_callback},
    {"a channel that another VP runs gets AGAIN and is forgotten", a_channel_that_another_vp_runs_gets_AGAIN},
    {"AGAIN makes the owner run the channel once more", AGAIN_requeues_on_the_owners_page},
    {"slot and claim words keep their parts apart", slot_and_claim_words_keep_their_parts},
};

int main(void) { return check_all(tests, sizeof tests / sizeof *tests); }
