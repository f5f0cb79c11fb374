// SPDX-License-Identifier: MIT
/*
 * The floors: what C can do on this machine with the same headers, no Python anywhere.
 *
 *   floors semaphore CORE CORE N   two processes, two sem_t, each waits for the other:   ns one way
 *   floors line CORE CORE N        two processes spin on one cache line:                 ns one way
 *   floors take CORE FLAGS N       one fetch-or per word, then vmb_take:                 ns per id
 *   floors ids CORE FLAGS N        vmb_signal_many, then vmb_take:                       ns per id
 *   floors callbacks CORE FLAGS N  vmb_signal_many, then vmb_drain (taken, claim, slot,
 *                                  C callback, let go):                                  ns per callback
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

/* The first side starts, the second answers; one way is half a round trip. */
static void semaphores(char *words, int second, long n)
{
    sem_t *mine = (sem_t *)(words + second * CACHE_LINE), *theirs = (sem_t *)(words + !second * CACHE_LINE);
    for (long i = 0; i < n; i++) {
        if (!second)
            sem_post(theirs);
        while (sem_wait(mine))
            ;
        if (second)
            sem_post(theirs);
    }
}

static void line(char *words, int second, long n)
{
    uint64_t *word = (uint64_t *)words;
    for (uint64_t i = 0; i < (uint64_t)n; i++) {
        if (!second)
            __atomic_store_n(word, 2 * i + 1, __ATOMIC_RELEASE);
        while (__atomic_load_n(word, __ATOMIC_ACQUIRE) != 2 * i + (second ? 1 : 2))
            relax();
        if (second)
            __atomic_store_n(word, 2 * i + 2, __ATOMIC_RELEASE);
    }
}

/* Two processes on their cores; a tenth of the round trips first, unmeasured, so that both surely run. */
static double ping_pong(void (*side)(char *, int, long), int first_core, int second_core, long n)
{
    char *words = shared(VMB_PAGE);
    for (unsigned i = 0; i < 2; i++)
        if (side == semaphores && sem_init((sem_t *)(words + i * CACHE_LINE), 1, 0))
            fail("sem_init");
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    pin(child ? first_core : second_core);
    if (!child)
        alarm(LIMIT); /* a fork inherits no alarm */
    side(words, !child, n / 10 + 1);
    if (side == line)
        words += 2 * CACHE_LINE; /* its numbers begin again: a fresh line */
    int64_t begun = vmb_now_ns();
    side(words, !child, n);
    int64_t spent = vmb_now_ns() - begun;
    if (!child)
        _exit(0);
    int status;
    if (waitpid(child, &status, 0) < 0 || status)
        fail("the other side");
    return (double)spent / (double)n / 2;
}

static uint64_t delivered;

__attribute__((noinline)) static void callback(void *context, uint32_t flag, uint64_t slot)
{
    (void)flag, (void)slot;
    ++*(uint64_t *)context;
}

enum how { TAKE, IDS, CALLBACKS };

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
        } else {
            vmb_signal_many(&sender, relids, relids, flags);
        }
        if (how == CALLBACKS)
            vmb_drain(&worker, callback, &delivered);
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
    static const char *const modes[] = {"take", "ids", "callbacks"};
    if (argc != 5) {
        fprintf(stderr, "usage: floors semaphore|line CORE CORE N | take|ids|callbacks CORE FLAGS N\n");
        return 2;
    }
    int first = atoi(argv[2]), second = atoi(argv[3]);
    long n = atol(argv[4]);
    alarm(LIMIT);
    if (!strcmp(argv[1], "semaphore"))
        return printf("%.3f\n", ping_pong(semaphores, first, second, n)) < 0;
    if (!strcmp(argv[1], "line"))
        return printf("%.3f\n", ping_pong(line, first, second, n)) < 0;
    pin(first);
    for (enum how how = TAKE; how <= CALLBACKS; how++)
        if (!strcmp(argv[1], modes[how]) && second >= 1 && second < (int)VMB_FLAGS)
            return printf("%.3f\n", drain(how, (unsigned)second, n)) < 0;
    fprintf(stderr, "floors: no mode %s with these numbers\n", argv[1]);
    return 2;
}
