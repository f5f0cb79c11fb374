// SPDX-License-Identifier: MIT
/*
 * Who is rung, when, and what the daemon's hand-overs move: single-threaded. Numbers are conformance cases.
 */
#include "check.h"

static void count(void *context, uint32_t flag, uint64_t slot)
{
    (void)flag;
    (void)slot;
    ++*(unsigned *)context;
}

/* ---- sender ------------------------------------------------------------------------------------------------ */

static void a_target_out_of_range_is_no_interrupt(void)
{
    struct partition p = partition_new(2, 3);
    struct vmb_sender s = sender_of(&p);
    const uint32_t nowhere[] = {VMB_NO_TARGET, 2, VMB_MAX_VPS, 0x80000000u};
    const uint16_t many[] = {3, 3};
    p.work[0].idle = p.work[1].idle = 1;
    for (unsigned i = 0; i < sizeof nowhere / sizeof *nowhere; i++) {
        vmb_retarget(p.table, 3, nowhere[i]);
        CHECK(vmb_signal(&s, 3, 3) == 0);
        CHECK(vmb_signal_many(&s, many, many, 2) == 0);
    }
    CHECK(!vmb_any_pending(p.pages[0].flags) && !vmb_any_pending(p.pages[1].flags));
    CHECK(rings(&p.bells[0]) == 0 && rings(&p.bells[1]) == 0 && s.posts == 0);
    partition_free(&p);
}

static void only_the_targets_doorbell_is_rung(void) /* 233 */
{
    struct partition p = partition_new(3, 2);
    struct vmb_sender s = sender_of(&p);
    for (unsigned v = 0; v < 3; v++)
        p.work[v].idle = 1;
    vmb_retarget(p.table, 2, 2);
    vmb_signal(&s, 2, 2);
    CHECK(rings(&p.bells[0]) == 0 && rings(&p.bells[1]) == 0 && rings(&p.bells[2]) == 1);
    CHECK(p.pages[2].flags[0] == VMB_BIT(2));
    partition_free(&p);
}

static void a_sleep_is_rung_once_per_sender(void) /* 230 */
{
    struct partition p = partition_new(1, 3);
    struct vmb_sender one = sender_of(&p), two = sender_of(&p);
    for (unsigned i = 0; i < 10; i++)
        vmb_signal(&one, 1, 1);
    CHECK(rings(&p.bells[0]) == 0); /* awake */
    p.work[0].idle = 1;
    for (unsigned i = 0; i < 1000; i++) {
        vmb_signal(&one, 1, 1);
        vmb_signal(&two, 1, 1); /* also when the bit was set: the other sender may be stopped */
    }
    CHECK(rings(&p.bells[0]) == 2);
    p.work[0].idle = 3; /* the next sleep */
    vmb_signal(&one, 1, 1);
    CHECK(rings(&p.bells[0]) == 1 && one.posts == 2 && two.posts == 1);
    partition_free(&p);
}

static void a_batch_rings_and_sets_like_single_signals(void)
{
    struct partition p = partition_new(2, 2047);
    struct vmb_sender s = sender_of(&p);
    const uint16_t flags[] = {1, 2, 63, 64, 65, 2047, 2047, 7};
    const unsigned n = sizeof flags / sizeof *flags;
    vmb_retarget(p.table, 2, 1);
    vmb_retarget(p.table, 7, VMB_NO_TARGET);
    p.work[0].idle = p.work[1].idle = 1;
    CHECK(vmb_signal_many(&s, flags, flags, n) == 6);
    CHECK(p.pages[0].flags[0] == (VMB_BIT(1) | VMB_BIT(63)) && p.pages[1].flags[0] == VMB_BIT(2));
    CHECK(p.pages[0].flags[1] == (VMB_BIT(64) | VMB_BIT(65)) && p.pages[0].flags[31] == VMB_BIT(2047));
    CHECK(rings(&p.bells[0]) == 1 && rings(&p.bells[1]) == 1);
    CHECK(vmb_signal_many(&s, flags, flags, n) == 0 && vmb_signal_many(&s, flags, flags, 0) == 0);
    partition_free(&p);
}

static void the_host_page_is_rung_by_the_same_rule(void)
{
    struct partition p = partition_new(1, 0);
    struct vmb_doorbell *bell = &p.bells[1];
    uint64_t rung = 0, other = 0;
    CHECK(vmb_signal_host(p.host, bell, &rung, 2047) == 1 && rings(bell) == 0);
    p.host->idle = 1;
    CHECK(vmb_signal_host(p.host, bell, &rung, 2047) == 0 && rings(bell) == 1);
    CHECK(vmb_signal_host(p.host, bell, &rung, 1) == 1 && rings(bell) == 0);
    CHECK(vmb_signal_host(p.host, bell, &other, 1) == 0 && rings(bell) == 1);
    CHECK(p.host->flags[0] == VMB_BIT(1) && p.host->flags[31] == VMB_BIT(2047));
    partition_free(&p);
}

/* ---- sleep ------------------------------------------------------------------------------------------------- */

static void sleep_numbers_never_repeat(void)
{
    struct partition p = partition_new(1, 1);
    uint64_t last = 0;
    for (unsigned worker = 0; worker < 4; worker++) {
        struct vmb_worker w = worker_of(&p, 0);
        CHECK(!(w.sleep & 1) && p.work[0].idle == w.sleep);
        for (unsigned i = 0; i < 3; i++) {
            CHECK(vmb_sleep_begin(&w.work->idle, &w.sleep, w.flags) == 1);
            CHECK((w.sleep & 1) && w.sleep > last && p.work[0].idle == w.sleep);
            last = w.sleep;
            if (worker % 2 == 0 && i == 2)
                break; /* dies in its sleep: the number stays odd */
            vmb_sleep_end(&w.work->idle, &w.sleep);
            CHECK(!(p.work[0].idle & 1) && p.work[0].idle > last);
        }
    }
    partition_free(&p);
}

static void nobody_sleeps_on_a_set_bit(void)
{
    struct partition p = partition_new(1, 2047);
    struct vmb_worker w = worker_of(&p, 0);
    for (uint32_t flag = 0; flag < VMB_FLAGS; flag++) {
        w.flags[flag / 64] = VMB_BIT(flag);
        CHECK(vmb_any_pending(w.flags) && vmb_spin(w.flags, 0) == 1);
        CHECK(vmb_sleep_begin(&w.work->idle, &w.sleep, w.flags) == 0);
        vmb_sleep_end(&w.work->idle, &w.sleep);
        w.flags[flag / 64] = 0;
    }
    CHECK(vmb_spin(w.flags, 1000) == 0);
    partition_free(&p);
}

/* ---- hand-overs -------------------------------------------------------------------------------------------- */

static void recover_frees_claims_and_puts_bits_back(void)
{
    struct partition p = partition_new(3, 2047);
    uint64_t redelivered = 99;
    p.blocks[5].claim = VMB_CLAIM_RUN | 1;
    p.blocks[6].claim = VMB_CLAIM_RUN | VMB_CLAIM_AGAIN | 1;
    p.blocks[7].claim = VMB_CLAIM_RUN | 2;
    p.blocks[8].claim = VMB_CLAIM_RUN | VMB_CLAIM_AGAIN;
    p.work[1].taken[0] = VMB_BIT(5) | VMB_BIT(6);
    p.work[1].taken[31] = VMB_BIT(2047);
    p.work[2].taken[0] = VMB_BIT(7);
    p.pages[1].flags[0] = VMB_BIT(1);
    for (unsigned turn = 0; turn < 2; turn++) { /* begun again from the top it does nothing more */
        unsigned freed = vmb_recover(1, &p.pages[1], &p.work[1], p.blocks, p.table, &redelivered);
        CHECK(freed == (turn ? 0 : 2) && redelivered == (turn ? 0 : 3));
        CHECK(p.blocks[5].claim == 0 && p.blocks[6].claim == 0);
        CHECK(p.blocks[7].claim == (VMB_CLAIM_RUN | 2) && p.blocks[8].claim == (VMB_CLAIM_RUN | VMB_CLAIM_AGAIN));
        CHECK(p.pages[1].flags[0] == (VMB_BIT(1) | VMB_BIT(5) | VMB_BIT(6)));
        CHECK(p.pages[1].flags[31] == VMB_BIT(2047));
        CHECK(p.work[1].taken[0] == 0 && p.work[1].taken[31] == 0 && p.work[2].taken[0] == VMB_BIT(7));
    }
    partition_free(&p);
}

static void recover_looks_only_at_flags_that_were_used(void)
{
    struct partition p = partition_new(1, 4);
    uint64_t redelivered;
    p.blocks[4].claim = p.blocks[5].claim = VMB_CLAIM_RUN;
    CHECK(vmb_recover(0, p.pages, p.work, p.blocks, p.table, &redelivered) == 1);
    CHECK(p.blocks[4].claim == 0 && p.blocks[5].claim == VMB_CLAIM_RUN);
    CHECK(vmb_recover(0, p.pages, p.work, p.blocks, NULL, &redelivered) == 1);
    partition_free(&p);
}

static void sweep_moves_every_bit_and_rings(void)
{
    struct partition p = partition_new(2, 2047);
    p.pages[0].flags[0] = VMB_BIT(1) | VMB_BIT(63);
    p.pages[0].flags[31] = VMB_BIT(2047);
    p.pages[1].flags[0] = VMB_BIT(2);
    CHECK(vmb_sweep(&p.pages[0], &p.pages[1], &p.bells[1]) == 3);
    CHECK(!vmb_any_pending(p.pages[0].flags));
    CHECK(p.pages[1].flags[0] == (VMB_BIT(1) | VMB_BIT(2) | VMB_BIT(63)));
    CHECK(p.pages[1].flags[31] == VMB_BIT(2047) && rings(&p.bells[1]) == 1);
    CHECK(vmb_sweep(&p.pages[0], &p.pages[1], &p.bells[1]) == 0);
    CHECK(rings(&p.bells[1]) == 1); /* an older sweep may have died before its ring */
    partition_free(&p);
}

static void a_close_is_done_when_nobody_runs_the_channel(void) /* 136 */
{
    struct partition p = partition_new(1, 3);
    struct vmb_worker w = worker_of(&p, 0);
    unsigned calls = 0;
    p.blocks[3].claim = VMB_CLAIM_RUN | VMB_CLAIM_AGAIN | 63;
    vmb_slot_close(p.table, 3);
    CHECK(p.table->slot[3] == slot_of(3, 1));
    CHECK(!vmb_close_done(p.blocks, 3));
    p.blocks[3].claim = 0;
    CHECK(vmb_close_done(p.blocks, 3));
    vmb_slot_open(p.table, 3, slot_of(3, 2));
    w.flags[0] = VMB_BIT(3);
    vmb_drain(&w, count, &calls);
    CHECK(calls == 1);
    partition_free(&p);
}

static void clearing_a_block_leaves_claim_and_ring_line(void)
{
    struct vmb_block *block = zeroed(sizeof *block);
    memset(block, 0xa5, sizeof *block);
    vmb_block_clear(block);
    const unsigned char *bytes = (const unsigned char *)block;
    for (unsigned i = 0; i < sizeof *block; i++)
        CHECK(bytes[i] == (i < VMB_BLOCK_CLEARED_FROM ? 0xa5 : 0));
    free(block);
}

static const struct test tests[] = {
    {"a target out of range sets and rings nothing", a_target_out_of_range_is_no_interrupt},
    {"only the target's doorbell is rung", only_the_targets_doorbell_is_rung},
    {"one sleep is rung at most once by each sender", a_sleep_is_rung_once_per_sender},
    {"a batch sets and rings like single signals", a_batch_rings_and_sets_like_single_signals},
    {"a host page is rung by the same rule", the_host_page_is_rung_by_the_same_rule},
    {"numbers of sleeps never repeat, across workers", sleep_numbers_never_repeat},
    {"nobody goes to sleep on a set bit, whichever it is", nobody_sleeps_on_a_set_bit},
    {"recovery frees the dead VP's claims and puts its bits back", recover_frees_claims_and_puts_bits_back},
    {"recovery looks only at flags that were used", recover_looks_only_at_flags_that_were_used},
    {"a sweep moves every bit and always rings", sweep_moves_every_bit_and_rings},
    {"a close is done when nobody runs the channel", a_close_is_done_when_nobody_runs_the_channel},
    {"clearing a block leaves the claim and the ring's line alone", clearing_a_block_leaves_claim_and_ring_line},
};

int main(void) { return check_all(tests, sizeof tests / sizeof *tests); }
