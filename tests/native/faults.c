// SPDX-License-Identifier: MIT
/*
 * Injected faults, single-threaded: what each kind does to signals and passes, and when a rule hits. Numbers are
 * conformance cases.
 */
#include "faults.h"

/* The doorbells of `n` sleeps of VP 0 that channel `relid` ends, one bit each. */
static unsigned posts_of(struct partition *p, struct vmb_sender *s, uint32_t relid, unsigned n)
{
    unsigned bits = 0;
    for (unsigned i = 0; i < n; i++) {
        p->work[0].idle += p->work[0].idle & 1 ? 2 : 1;
        vmb_signal(s, relid, relid);
        bits |= rings(&p->bells[0]) << i;
    }
    return bits;
}

static void nothing_happens_unarmed(void)
{
    struct partition p = partition_new(1, 1);
    struct vmb_sender s = faulty_sender(&p);
    put(p.table, 0, rule_of(VMB_FAULT_DROP_DOORBELL));
    p.table->header.fault_armed = 0;
    CHECK(posts_of(&p, &s, 1, 8) == 0xff && p.host->fired[0] == 0 && !s.faults.memory);
    partition_free(&p);
}

static void a_dropped_doorbell_is_not_rung_again_for_this_sleep(void)
{
    struct partition p = partition_new(1, 1);
    struct vmb_sender s = faulty_sender(&p);
    struct vmb_fault_rule rule = rule_of(VMB_FAULT_DROP_DOORBELL);
    rule.times = 1;
    put(p.table, 3, rule);
    p.work[0].idle = 1;
    CHECK(vmb_signal(&s, 1, 1) == 1 && vmb_signal(&s, 1, 1) == 0);
    CHECK(rings(&p.bells[0]) == 0 && s.posts == 0 && p.host->fired[3] == 1 && s.faults.injected == 1);
    CHECK(p.pages[0].flags[0] == VMB_BIT(1));
    p.work[0].idle = 3; /* the next sleep; the rule has had its times */
    vmb_signal(&s, 1, 1);
    CHECK(rings(&p.bells[0]) == 1 && p.host->fired[3] == 1);
    vmb_faults_end(&s.faults);
    partition_free(&p);
}

static void a_doubled_doorbell_is_rung_twice(void)
{
    struct partition p = partition_new(1, 1);
    struct vmb_sender s = faulty_sender(&p);
    put(p.table, 0, rule_of(VMB_FAULT_DUPLICATE_DOORBELL));
    p.work[0].idle = 1;
    vmb_signal(&s, 1, 1);
    CHECK(rings(&p.bells[0]) == 2 && s.posts == 2);
    vmb_faults_end(&s.faults);
    partition_free(&p);
}

static void a_delayed_doorbell_comes_once_and_late(void)
{
    struct partition p = partition_new(1, 1);
    struct vmb_sender s = faulty_sender(&p);
    struct vmb_fault_rule rule = rule_of(VMB_FAULT_DELAY_DOORBELL);
    rule.delay = 1000;
    put(p.table, 0, rule);
    p.work[0].idle = 1;
    const int64_t begun = vmb_now_ns();
    vmb_signal(&s, 1, 1);
    CHECK(vmb_doorbell_wait(&p.bells[0], begun + 10000000000) == VMB_WAIT_RUNG);
    CHECK(vmb_now_ns() - begun >= 1000000);
    vmb_faults_end(&s.faults);
    CHECK(rings(&p.bells[0]) == 0 && p.host->fired[0] == 1);
    partition_free(&p);
}

static void a_late_doorbell_is_made_before_its_sender_goes(void)
{
    struct partition p = partition_new(1, 1);
    struct vmb_sender s = faulty_sender(&p);
    struct vmb_fault_rule rule = rule_of(VMB_FAULT_DELAY_DOORBELL);
    rule.delay = 1000;
    put(p.table, 0, rule);
    for (unsigned i = 0; i < 20; i++) {
        p.work[0].idle = 2 * i + 1;
        vmb_signal(&s, 1, 1);
    }
    vmb_faults_end(&s.faults);
    CHECK(rings(&p.bells[0]) == 20 && !vmb_late_under_way(s.faults.late.under_way));
    partition_free(&p);
}

static void a_held_doorbell_comes_after_the_next_or_in_time(void)
{
    struct partition p = partition_new(2, 2);
    struct vmb_sender s = faulty_sender(&p);
    struct vmb_fault_rule rule = rule_of(VMB_FAULT_REORDER_DOORBELL);
    rule.delay = 1000;
    rule.relid = 1;
    put(p.table, 0, rule);
    vmb_retarget(p.table, 2, 1);
    p.work[0].idle = p.work[1].idle = 1;
    vmb_signal(&s, 1, 1);
    vmb_signal(&s, 2, 2);
    CHECK(rings(&p.bells[1]) == 1);
    CHECK(vmb_doorbell_wait(&p.bells[0], vmb_now_ns() + 10000000000) == VMB_WAIT_RUNG);
    p.work[0].idle = 3; /* nothing follows: the bound */
    vmb_signal(&s, 1, 1);
    CHECK(vmb_doorbell_wait(&p.bells[0], vmb_now_ns() + 10000000000) == VMB_WAIT_RUNG);
    vmb_faults_end(&s.faults);
    CHECK(rings(&p.bells[0]) == 0 && rings(&p.bells[1]) == 0 && s.posts == 3);
    partition_free(&p);
}

static void the_same_seed_decides_the_same(void)
{
    struct partition p = partition_new(1, 2);
    struct vmb_fault_rule rule = rule_of(VMB_FAULT_DROP_DOORBELL);
    unsigned seen[4];
    rule.probability = VMB_FAULT_ALWAYS / 2;
    for (unsigned i = 0; i < 4; i++) {
        struct vmb_sender s = faulty_sender(&p);
        rule.seed = i == 3 ? 8 : 7;
        p.table->header.fault[i].kind = 0;
        put(p.table, i + 1, rule); /* where in the table it stands changes nothing either */
        /* What happens on another channel in between, and when, changes nothing. */
        seen[i] = posts_of(&p, &s, 1, 10);
        if (i == 1)
            posts_of(&p, &s, 2, 5);
        seen[i] |= posts_of(&p, &s, 1, 20) << 10;
        vmb_faults_end(&s.faults);
    }
    CHECK(seen[0] == seen[1] && seen[1] == seen[2] && seen[2] != seen[3]);
    CHECK(seen[0] && seen[0] != 0x3fffffff);
    partition_free(&p);
}

static void the_decision_is_the_documented_hash(void)
{
    /* vmbusd.abi.faults.decision(7, 8, 3, 12, 0..3); tests/unit/abi/test_faults.py has the same numbers. */
    static const uint64_t drawn[] = {1971796362, 275497251, 1714312879, 981368052};
    struct vmb_fault_rule rule = rule_of(VMB_FAULT_KILL);
    rule.seed = 7;
    rule.step = VMB_STEP_SIGNAL_HOST_BIT_POST;
    for (unsigned n = 0; n < 4; n++)
        CHECK(vmb_fault_draw(&rule, 12, n) == drawn[n]);
}

static void occasions_are_left_alone_and_taken_in_turn(void)
{
    struct partition p = partition_new(1, 1);
    struct vmb_sender s = faulty_sender(&p);
    struct vmb_fault_rule rule = rule_of(VMB_FAULT_DROP_DOORBELL);
    rule.after = 2;
    rule.every = 3;
    rule.times = 2;
    put(p.table, 0, rule);
    CHECK((~posts_of(&p, &s, 1, 12) & 0xfff) == (1u << 2 | 1u << 5));
    put(p.table, 0, rule); /* written again: occasions begin again, the count in shared memory is the daemon's */
    p.host->fired[0] = 0;
    CHECK((~posts_of(&p, &s, 1, 12) & 0xfff) == (1u << 2 | 1u << 5));
    vmb_faults_end(&s.faults);
    partition_free(&p);
}

static void a_rule_selects_channel_vp_host_and_side(void)
{
    struct partition p = partition_new(2, 6);
    struct vmb_sender s = faulty_sender(&p);
    struct vmb_worker w = faulty_worker(&p, 1);
    struct vmb_fault_rule hit, rule = rule_of(VMB_FAULT_DELAY_DISPATCH);
    for (uint32_t r = 1; r <= 6; r++) {
        p.table->record[r].relid = r;
        p.table->record[r].host_link = r % 2;
        p.table->record[r].instance_id[0] = (uint8_t)(r / 3);
    }
    const uint32_t kinds = VMB_KIND(VMB_FAULT_DELAY_DISPATCH);
#define HITS(f, relid, vp) (put(p.table, 0, rule), vmb_fault_at(f, kinds, 0, relid, vp, &hit) != 0)
    rule.relid = 3;
    CHECK(HITS(&w.faults, 3, 1) && !HITS(&w.faults, 4, 1) && !HITS(&w.faults, 1, 1));
    rule.device = 1; /* 3, 4 and 5 are one device (295) */
    CHECK(HITS(&w.faults, 3, 1) && HITS(&w.faults, 4, 1) && HITS(&w.faults, 5, 1) && !HITS(&w.faults, 6, 1));
    rule.relid = rule.device = 0;
    rule.vp = 0;
    CHECK(!HITS(&w.faults, 3, 1) && HITS(&w.faults, 3, 0) && !HITS(&w.faults, 3, VMB_FAULT_ANY));
    rule.vp = VMB_FAULT_ANY;
    rule.host_link = 1;
    CHECK(HITS(&w.faults, 3, 1) && !HITS(&w.faults, 4, 1) && !HITS(&w.faults, 0, 1));
    rule.host_link = VMB_FAULT_ANY;
    rule.who = VMB_FAULT_HOSTS;
    CHECK(!HITS(&w.faults, 3, 1) && HITS(&s.faults, 3, 1));
    vmb_faults_end(&s.faults);
    vmb_faults_end(&w.faults);
    partition_free(&p);
}

static void a_dispatch_is_late_and_a_pass_is_stuck(void) /* 295 */
{
    struct partition p = partition_new(1, 1);
    struct vmb_sender s = faulty_sender(&p);
    struct vmb_worker w = faulty_worker(&p, 0);
    struct vmb_fault_rule rule = rule_of(VMB_FAULT_DELAY_DISPATCH);
    unsigned called = 0;
    rule.delay = 1000;
    put(p.table, 0, rule);
    rule.kind = VMB_FAULT_STUCK_VP;
    rule.delay = 30000;
    rule.times = 1;
    put(p.table, 1, rule);
    int64_t begun = vmb_now_ns();
    vmb_signal(&s, 1, 1);
    CHECK(vmb_drain(&w, count, &called) == 1 && called == 1 && vmb_now_ns() - begun >= 31000000);
    CHECK(p.work[0].fired[0] == 1 && p.work[0].fired[1] == 1 && p.blocks[1].claim == 0);
    vmb_faults_end(&s.faults);
    vmb_faults_end(&w.faults);
    partition_free(&p);
}

int main(void)
{
    static const struct test tests[] = {
        {"unarmed rules do nothing", nothing_happens_unarmed},
        {"a dropped doorbell is not rung again for this sleep", a_dropped_doorbell_is_not_rung_again_for_this_sleep},
        {"a doubled doorbell is rung twice", a_doubled_doorbell_is_rung_twice},
        {"a delayed doorbell comes once, and late", a_delayed_doorbell_comes_once_and_late},
        {"a late doorbell is made before its sender goes", a_late_doorbell_is_made_before_its_sender_goes},
        {"a held doorbell comes after the next one, or in time", a_held_doorbell_comes_after_the_next_or_in_time},
        {"the same seed decides the same", the_same_seed_decides_the_same},
        {"the decision is the documented hash", the_decision_is_the_documented_hash},
        {"occasions are left alone and taken in turn", occasions_are_left_alone_and_taken_in_turn},
        {"a rule selects channel, device, VP, host and side", a_rule_selects_channel_vp_host_and_side},
        {"a dispatch is late, a pass is stuck", a_dispatch_is_late_and_a_pass_is_stuck},
    };
    return check_all(tests, sizeof tests / sizeof *tests);
}
