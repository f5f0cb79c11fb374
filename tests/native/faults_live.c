// SPDX-License-Identifier: MIT
/*
 * Injected faults with processes that end themselves and threads that meet: every named step is passed, no reader
 * of a rule sees half of one, late doorbells lose nothing.
 */
#include "faults.h"

#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>

#include "vmbus_ring_reader.h"
#include "vmbus_ring_writer.h"

/* ---- kills --------------------------------------------------------------------------------------------------- */

static void signal_and_serve(struct partition *p)
{
    struct vmb_sender s = faulty_sender(p);
    struct vmb_worker w = faulty_worker(p, 0);
    struct vmb_faults guest = {.table = p->table, .who = VMB_FAULT_GUESTS, .fired = p->host->fired_in_guest};
    uint64_t rung = 0, sleep = 0;
    unsigned called = 0;

    p->work[0].idle = 1;
    vmb_signal(&s, 1, 1);
    vmb_drain(&w, count, &called);
    vmb_worker_sleep(&w);
    vmb_signal_host_armed(&guest, p->host, &p->bells[1], &rung, 1);
    vmb_host_sleep_armed(&s.faults, p->host, &sleep);
    vmb_host_take_faults(&s.faults, 1);
    static struct vmb_ring_page page;
    static uint64_t data[512];
    struct vmb_ring_writer writer;
    struct vmb_ring_reader reader;
    struct vmb_packet packet;
    uint32_t kept_write = 0, kept_read = 0;
    vmb_writer_begin(&writer, &page, data, sizeof data, 0);
    vmb_reader_begin(&reader, &page, data, sizeof data, 0);
    writer.kept = &kept_write;
    reader.kept = &kept_read;
    writer.ring.armed = reader.ring.armed = &p->table->header.fault_armed;
    writer.ring.faults = reader.ring.faults = &guest;
    writer.ring.relid = reader.ring.relid = 1;
    vmb_writer_put(&writer, 6, 0, 0, NULL, 0, "ping", 4);
    if (vmb_writer_publish(&writer))
        vmb_ring_step(&writer.ring, VMB_STEP_RING_PUBLISH_SIGNAL);
    uint64_t buffer[8];
    vmb_reader_get(&reader, buffer, sizeof buffer, &packet);
    vmb_reader_commit(&reader);
}

/* Signal, serve, sleep, write and read in a process that has to end itself at `step`; 0: nowhere. */
static int dies_at(uint32_t step)
{
    struct partition p = partition_new(1, 1);
    struct vmb_fault_rule rule = rule_of(VMB_FAULT_KILL);
    int status = -1;
    rule.step = step;
    put(p.table, 0, rule);
    pid_t child = fork();
    if (!child) {
        signal_and_serve(&p);
        _exit(0);
    }
    waitpid(child, &status, 0);
    partition_free(&p);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? 1 : WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -1;
}

static void a_process_dies_at_every_named_step(void)
{
    for (uint32_t step = VMB_STEP_SIGNAL_BIT_POST; step <= VMB_STEP_RING_KEEP_COMMIT; step++)
        CHECK(dies_at(step) == 1);
    CHECK(dies_at(VMB_STEP_RING_KEEP_COMMIT + 1) == 0);
}

/* ---- threads ------------------------------------------------------------------------------------------------- */

static struct partition shared;
static int over;

static void *rewrite(void *context)
{
    struct vmb_fault_rule one = rule_of(VMB_FAULT_DROP_DOORBELL), two = rule_of(VMB_FAULT_DELAY_READ);
    one.seed = one.delay = one.after = 1;
    two.seed = two.delay = two.after = 2;
    for (unsigned i = 0; !__atomic_load_n(&over, __ATOMIC_RELAXED); i++)
        put(shared.table, 0, i & 1 ? one : two);
    return context;
}

static void no_reader_sees_half_a_rule(void)
{
    struct vmb_fault_rule rule;
    pthread_t writer;
    unsigned whole = 0, torn = 0;
    shared = partition_new(1, 1);
    pthread_create(&writer, NULL, rewrite, NULL);
    for (unsigned i = 0; i < 2000000 && whole < 50000; i++) {
        if (!vmb_fault_read(shared.table, 0, &rule))
            continue;
        whole++;
        const uint32_t expected = rule.kind == VMB_FAULT_DROP_DOORBELL ? 1 : 2;
        torn += rule.seed != expected || rule.delay != expected || rule.after != expected;
    }
    __atomic_store_n(&over, 1, __ATOMIC_RELAXED);
    pthread_join(writer, NULL);
    CHECK(whole && !torn);
    partition_free(&shared);
}

#define SIGNALS 300u

static void *serve(void *context)
{
    struct vmb_worker w = faulty_worker(&shared, 0);
    unsigned called = 0;
    while (__atomic_load_n(&shared.blocks[1].interrupts, __ATOMIC_RELAXED) < SIGNALS) {
        if (vmb_drain(&w, count, &called))
            continue;
        if (vmb_worker_sleep(&w))
            vmb_doorbell_wait(&shared.bells[0], vmb_now_ns() + 10000000000);
        vmb_sleep_end(&w.work->idle, &w.sleep);
    }
    vmb_faults_end(&w.faults);
    return context;
}

/* One signal at a time, each awaited: a doorbell that never comes ends the test by its time limit. */
static void late_and_doubled_doorbells_lose_nothing(void)
{
    struct vmb_fault_rule rule = rule_of(VMB_FAULT_DELAY_DOORBELL);
    pthread_t worker;
    shared = partition_new(1, 1);
    struct vmb_sender s = faulty_sender(&shared);
    rule.delay = 300;
    rule.probability = VMB_FAULT_ALWAYS / 3;
    put(shared.table, 0, rule);
    rule.kind = VMB_FAULT_REORDER_DOORBELL;
    put(shared.table, 1, rule);
    rule.kind = VMB_FAULT_DUPLICATE_DOORBELL;
    put(shared.table, 2, rule);
    pthread_create(&worker, NULL, serve, NULL);
    const int64_t limit = vmb_now_ns() + 60000000000;
    for (unsigned i = 0; i < SIGNALS && vmb_now_ns() < limit; i++) {
        vmb_signal(&s, 1, 1);
        while (__atomic_load_n(&shared.blocks[1].interrupts, __ATOMIC_RELAXED) <= i && vmb_now_ns() < limit)
            vmb_pause_ns(20000);
    }
    CHECK(__atomic_load_n(&shared.blocks[1].interrupts, __ATOMIC_RELAXED) >= SIGNALS);
    vmb_doorbell_ring(&shared.bells[0]);
    pthread_join(worker, NULL);
    vmb_faults_end(&s.faults);
    CHECK(shared.host->fired[0] + shared.host->fired[1] + shared.host->fired[2] > 0);
    partition_free(&shared);
}

/* ---- threads that come at the same moment --------------------------------------------------------------------- */

#define ROUNDS 20000u

static struct vmb_fault_rule once;
static struct vmb_late_posts posts_of_two;
static unsigned hits, arrived;

/* Until both are here. They spin, so as to go on at the same moment; 1 for who came last. */
static int meet(void)
{
    const unsigned before = __atomic_fetch_add(&arrived, 1u, __ATOMIC_SEQ_CST);
    for (unsigned turns = 1; __atomic_load_n(&arrived, __ATOMIC_SEQ_CST) <= (before | 1); turns++)
        if (turns % 4096 == 0)
            sched_yield();
    return before & 1;
}

/* As two processes of a guest that signal the same host. */
static void *meet_a_rule(void *context)
{
    struct vmb_faults f = {.table = shared.table, .who = VMB_FAULT_GUESTS, .fired = shared.host->fired_in_guest};
    struct vmb_fault_rule hit;
    for (unsigned i = 0; i < ROUNDS; i++) {
        (void)meet();
        if (vmb_fault_at(&f, VMB_KIND(once.kind), 0, 1, VMB_FAULT_ANY, &hit))
            __atomic_fetch_add(&hits, 1u, __ATOMIC_SEQ_CST);
        if (meet())
            __atomic_store_n(&f.fired[0], 0u, __ATOMIC_SEQ_CST);
    }
    vmb_faults_end(&f);
    return context;
}

static void *post_late(void *context)
{
    for (unsigned i = 0; i < ROUNDS / 20; i++) {
        if (meet())
            memset(&posts_of_two, 0, sizeof posts_of_two);
        (void)meet();
        (void)vmb_late_start(&posts_of_two, &shared.bells[0], 1, 1);
        (void)meet();
        vmb_late_end(&posts_of_two);
    }
    return context;
}

static void in_two_threads(void *(*run)(void *))
{
    pthread_t one, two;
    pthread_create(&one, NULL, run, NULL);
    pthread_create(&two, NULL, run, NULL);
    pthread_join(one, NULL);
    pthread_join(two, NULL);
}

static void several_processes_share_the_limit_of_a_rule(void)
{
    shared = partition_new(1, 1);
    once = rule_of(VMB_FAULT_DROP_DOORBELL);
    once.times = 1;
    put(shared.table, 0, once);
    in_two_threads(meet_a_rule);
    CHECK(hits == ROUNDS);
    partition_free(&shared);
}

/* A post that is counted wrong is waited for without end: the program's time limit ends it. */
static void threads_make_their_first_late_posts_together(void)
{
    shared = partition_new(1, 1);
    in_two_threads(post_late);
    CHECK(rings(&shared.bells[0]) == 2 * (ROUNDS / 20));
    partition_free(&shared);
}

int main(void)
{
    static const struct test tests[] = {
        {"a process dies at every named step", a_process_dies_at_every_named_step},
        {"no reader sees half a rule", no_reader_sees_half_a_rule},
        {"late and doubled doorbells lose nothing", late_and_doubled_doorbells_lose_nothing},
        {"several processes share the limit of a rule", several_processes_share_the_limit_of_a_rule},
        {"threads make their first late posts together", threads_make_their_first_late_posts_together},
    };
    return check_all(tests, sizeof tests / sizeof *tests);
}
