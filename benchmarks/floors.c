// SPDX-License-Identifier: MIT
/*
 * The floors: what C can do on this machine with the same headers, no Python anywhere.
 *
 *   floors semaphore CORE CORE MS  two processes, two sem_t, each waits for the other:   ns one way
 *   floors line CORE CORE MS       two processes spin on one cache line:                 ns one way
 *   floors take CORE FLAGS N       one fetch-or per word, then vmb_take:                 ns per id
 *   floors ids CORE FLAGS N        vmb_signal_many, then vmb_take:                       ns per id
 *   floors callbacks CORE FLAGS N  vmb_signal_many, then vmb_drain (taken, claim, slot,
 *                                  C callback, let go):                                  ns per callback
 *   floors one CORE FLAGS N        the same with vmb_signal for each:                    ns per callback
 *
 * Prints one number. All memory is anonymous and shared, as the benchmarks' own, so that both meet the same
 * pages; the process ends itself after LIMIT seconds whatever happens.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "vmbus_core.h"

#define LIMIT 30u
#define CACHE_LINE 64u

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void pin(int core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    if (sched_setaffinity(0, sizeof set, &set))
        fail("sched_setaffinity");
}

static void *shared(size_t size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        fail("mmap");
    return at;
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Two processes, a cache line for each thing they share. */
struct table_tennis {
    _Alignas(CACHE_LINE) uint64_t word;
    _Alignas(CACHE_LINE) sem_t semaphore[2][CACHE_LINE / sizeof(sem_t)];
    _Alignas(CACHE_LINE) int over; /* set before the last ball */
};

static void by_semaphore(struct table_tennis *t, int second, uint64_t trip)
{
    if (!second)
        sem_post(t->semaphore[1]);
    while (sem_wait(t->semaphore[second]))
        ;
    if (second)
        sem_post(t->semaphore[0]);
    (void)trip;
}

static void by_line(struct table_tennis *t, int second, uint64_t trip)
{
    if (!second)
        __atomic_store_n(&t->word, 2 * trip + 1, __ATOMIC_RELEASE);
    while (__atomic_load_n(&t->word, __ATOMIC_ACQUIRE) != 2 * trip + (second ? 1 : 2))
        relax();
    if (second)
        __atomic_store_n(&t->word, 2 * trip + 2, __ATOMIC_RELEASE);
}

#define WARM_UP 100u   /* unmeasured round trips, after which both sides surely run */
#define CLOCK_EVERY 32u /* round trips between two readings of the clock */

/* Measured for a time, not for a number of trips: what other processes take away then weighs the same here and
 * in the measurements that are compared with it. Returns ns one way, half a round trip. */
static double ping_pong(void (*trip)(struct table_tennis *, int, uint64_t), int first, int second, long ms)
{
    struct table_tennis *t = shared(sizeof *t);
    for (unsigned i = 0; i < 2; i++)
        if (sem_init(t->semaphore[i], 1, 0))
            fail("sem_init");
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    pin(child ? first : second);
    if (!child) {
        alarm(LIMIT); /* a fork inherits no alarm */
        for (uint64_t n = 0; !__atomic_load_n(&t->over, __ATOMIC_ACQUIRE); n++)
            trip(t, 1, n);
        _exit(0);
    }
    uint64_t n = 0;
    while (n < WARM_UP)
        trip(t, 0, n++);
    int64_t begun = vmb_now_ns(), now = begun;
    do {
        for (unsigned i = 0; i < CLOCK_EVERY; i++)
            trip(t, 0, n++);
        now = vmb_now_ns();
    } while (now - begun < ms * 1000000);
    double spent = (double)(now - begun) / (double)(n - WARM_UP) / 2;
    __atomic_store_n(&t->over, 1, __ATOMIC_RELEASE);
    /* The other side has seen the end already, or waits for this last ball, of either kind. */
    sem_post(t->semaphore[1]);
    __atomic_store_n(&t->word, 2 * n + 1, __ATOMIC_RELEASE);
    int status;
    if (waitpid(child, &status, 0) < 0 || status)
        fail("the other side");
    return spent;
}

/* As the core has them: functions of their own, whatever the loop around them looks like. */
__attribute__((noinline)) static void signal_one(struct vmb_sender *s, uint32_t relid) { vmb_signal(s, relid, relid); }

__attribute__((noinline)) static void signal_all(struct vmb_sender *s, const uint16_t *relids, unsigned n)
{
    vmb_signal_many(s, relids, relids, n);
}

__attribute__((noinline)) static void pass(struct vmb_worker *w, vmb_callback call, uint64_t *context)
{
    vmb_drain(w, call, context);
}

static uint64_t delivered;

__attribute__((noinline)) static void callback(void *context, uint32_t flag, uint64_t slot)
{
    (void)flag, (void)slot;
    ++*(uint64_t *)context;
}

enum how { TAKE, IDS, CALLBACKS, ONE };

/* A partition of one VP with `flags` open channels, relids from 1, all of them signalled and served n times. */
static double drain(enum how how, unsigned flags, long n)
{
    struct vmb_table *table = shared(sizeof *table);
    struct vmb_event_page *page = shared(sizeof *page);
    struct vmb_vpwork *work = shared(sizeof *work);
    struct vmb_block *blocks = shared(sizeof *blocks * VMB_FLAGS);
    sem_t *semaphore = shared(VMB_PAGE);
    if (sem_init(semaphore, 1, 0))
        fail("sem_init");
    struct vmb_doorbell bell = {.semaphore = semaphore, .fd = -1};
    static struct vmb_sender sender;
    struct vmb_worker worker = {.table = table, .flags = page->flags, .work = work, .blocks = blocks};
    static uint16_t relids[VMB_FLAGS], out[VMB_FLAGS];
    uint64_t words[VMB_WORDS] = {0};

    sender = (struct vmb_sender){.table = table, .pages = page, .work = work, .doorbells = &bell, .vps = 1};
    for (unsigned i = 0; i < flags; i++) {
        unsigned relid = i + 1;
        relids[i] = (uint16_t)relid;
        words[relid / 64] |= VMB_BIT(relid);
        table->slot[relid] = 1ull << 33 | VMB_SLOT_OPEN | offsetof(struct vmb_table, record[relid]);
    }
    vmb_worker_begin(&worker);
    int64_t begun = 0;
    for (long i = -(n / 10 + 1); i < n; i++) {
        if (i == 0) {
            delivered = 0;
            begun = vmb_now_ns();
        }
        if (how == TAKE) {
            for (unsigned k = 0; k < VMB_WORDS; k++)
                if (words[k])
                    (void)VMB_OR("set", &page->flags[k], words[k]);
        } else if (how == ONE) {
            for (unsigned k = 0; k < flags; k++)
                signal_one(&sender, relids[k]);
        } else {
            signal_all(&sender, relids, flags);
        }
        if (how == CALLBACKS || how == ONE)
            pass(&worker, callback, &delivered);
        else
            delivered += vmb_take(page->flags, out);
    }
    int64_t spent = vmb_now_ns() - begun;
    if (delivered != (uint64_t)n * flags) {
        fprintf(stderr, "floors: %llu delivered of %llu\n", (unsigned long long)delivered,
                (unsigned long long)n * flags);
        exit(1);
    }
    return (double)spent / (double)delivered;
}

int main(int argc, char **argv)
{
    static const char *const modes[] = {"take", "ids", "callbacks", "one"};
    if (argc != 5) {
        fprintf(stderr, "usage: floors semaphore|line CORE CORE MS | take|ids|callbacks|one CORE FLAGS N\n");
        return 2;
    }
    int first = atoi(argv[2]), second = atoi(argv[3]);
    long n = atol(argv[4]);
    alarm(LIMIT);
    if (!strcmp(argv[1], "semaphore"))
        return printf("%.3f\n", ping_pong(by_semaphore, first, second, n)) < 0;
    if (!strcmp(argv[1], "line"))
        return printf("%.3f\n", ping_pong(by_line, first, second, n)) < 0;
    pin(first);
    for (enum how how = TAKE; how <= ONE; how++)
        if (!strcmp(argv[1], modes[how]) && second >= 1 && second < (int)VMB_FLAGS)
            return printf("%.3f\n", drain(how, (unsigned)second, n)) < 0;
    fprintf(stderr, "floors: no mode %s with these numbers\n", argv[1]);
    return 2;
}
