// SPDX-License-Identifier: MIT
/*
 * Doorbells alone: counting, overflow, time-outs, signals; and a semaphore whose words a peer has spoilt.
 */
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "check.h"

#define MS 1000000ll

static sem_t *shared_semaphore(void)
{
    sem_t *semaphore = mmap(NULL, VMB_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (semaphore == MAP_FAILED || sem_init(semaphore, 1, 0))
        abort();
    return semaphore;
}

static struct vmb_doorbell bell_new(int kind)
{
    if (kind == 0)
        return (struct vmb_doorbell){.semaphore = shared_semaphore(), .fd = -1};
    return (struct vmb_doorbell){.semaphore = NULL, .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
}

static void bell_free(struct vmb_doorbell *bell)
{
    if (bell->semaphore)
        munmap(bell->semaphore, VMB_PAGE);
    else
        close(bell->fd);
}

static void a_ring_before_the_wait_is_taken_at_once(void) /* 231 */
{
    for (int kind = 0; kind < 2; kind++) {
        struct vmb_doorbell bell = bell_new(kind);
        CHECK(vmb_doorbell_ring(&bell) == 0);
        CHECK(vmb_doorbell_wait(&bell, vmb_now_ns() + 10000 * MS) == VMB_WAIT_RUNG);
        CHECK(vmb_doorbell_try(&bell) == 0);
        CHECK(vmb_doorbell_ring(&bell) == 0);
        CHECK(vmb_doorbell_wait(&bell, 0) == VMB_WAIT_RUNG); /* a deadline long past still takes what is there */
        bell_free(&bell);
    }
}

static void rings_are_counted_or_collected(void) /* 230 */
{
    struct vmb_doorbell semaphore = bell_new(0), event = bell_new(1);
    for (unsigned i = 0; i < 1000; i++) {
        vmb_doorbell_ring(&semaphore);
        vmb_doorbell_ring(&event);
    }
    CHECK(rings(&semaphore) == 1000);
    CHECK(rings(&event) == 1);
    bell_free(&semaphore);
    bell_free(&event);
}

static void a_wait_ends_at_its_deadline(void)
{
    for (int kind = 0; kind < 2; kind++) {
        struct vmb_doorbell bell = bell_new(kind);
        int64_t deadline = vmb_now_ns() + 20 * MS;
        CHECK(vmb_doorbell_wait(&bell, deadline) == VMB_WAIT_TIMEOUT);
        CHECK(vmb_now_ns() >= deadline);
        CHECK(vmb_doorbell_wait(&bell, vmb_now_ns() - MS) == VMB_WAIT_TIMEOUT);
        bell_free(&bell);
    }
}

static void an_overflow_counts_as_rung(void)
{
    struct vmb_doorbell semaphore = bell_new(0), event = bell_new(1);
    uint64_t full = UINT64_MAX - 1;
    sem_init(semaphore.semaphore, 1, SEM_VALUE_MAX);
    CHECK(vmb_doorbell_ring(&semaphore) == 0);
    CHECK(vmb_doorbell_try(&semaphore) == 1);
    CHECK(write(event.fd, &full, sizeof full) == sizeof full);
    CHECK(vmb_doorbell_ring(&event) == 0);
    CHECK(vmb_doorbell_try(&event) == 1 && vmb_doorbell_try(&event) == 0);
    bell_free(&semaphore);
    bell_free(&event);
}

static void a_closed_eventfd_is_an_error(void)
{
    struct vmb_doorbell bell = bell_new(1);
    bell_free(&bell);
    CHECK(vmb_doorbell_ring(&bell) == EBADF);
    CHECK(vmb_doorbell_try(&bell) == 0);
    CHECK(vmb_doorbell_wait(&bell, vmb_now_ns() + 10000 * MS) == VMB_WAIT_BROKEN);
}

static volatile sig_atomic_t signalled;
static volatile int done;

static void on_signal(int number)
{
    (void)number;
    signalled = 1;
}

/* Again and again: the first may come before the other thread waits. */
static void *interrupt(void *thread)
{
    while (!__atomic_load_n(&done, __ATOMIC_RELAXED)) {
        pthread_kill(*(pthread_t *)thread, SIGUSR1);
        vmb_pause_ns(MS);
    }
    return NULL;
}

static void a_signal_interrupts_a_wait(void)
{
    struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART */
    sigaction(SIGUSR1, &action, NULL);
    for (int kind = 0; kind < 2; kind++) {
        struct vmb_doorbell bell = bell_new(kind);
        pthread_t self = pthread_self(), other;
        done = signalled = 0;
        pthread_create(&other, NULL, interrupt, &self);
        CHECK(vmb_doorbell_wait(&bell, vmb_now_ns() + 30000 * MS) == VMB_WAIT_INTERRUPTED);
        __atomic_store_n(&done, 1, __ATOMIC_RELAXED);
        pthread_join(other, NULL);
        CHECK(signalled);
        CHECK(vmb_doorbell_ring(&bell) == 0 && vmb_doorbell_wait(&bell, 0) == VMB_WAIT_RUNG); /* nothing is off */
        bell_free(&bell);
    }
}

static void ring_and_wait_pass_between_processes(void)
{
    for (int kind = 0; kind < 2; kind++) {
        struct vmb_doorbell here = bell_new(kind), there = bell_new(kind);
        pid_t child = fork();
        if (child == 0) {
            for (unsigned i = 0; i < 100; i++)
                if (vmb_doorbell_wait(&there, vmb_now_ns() + 10000 * MS) != VMB_WAIT_RUNG || vmb_doorbell_ring(&here))
                    _exit(1);
            _exit(0);
        }
        for (unsigned i = 0; i < 100; i++) {
            CHECK(vmb_doorbell_ring(&there) == 0);
            CHECK(vmb_doorbell_wait(&here, vmb_now_ns() + 10000 * MS) == VMB_WAIT_RUNG);
        }
        int status = -1;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        bell_free(&here);
        bell_free(&there);
    }
}

/* What posix_ipc or any other program does with the same semaphore. */
static void sem_post_and_sem_wait_see_the_same_semaphore(void)
{
    struct vmb_doorbell here = bell_new(0), there = bell_new(0);
    pid_t child = fork();
    if (child == 0) {
        for (unsigned i = 0; i < 100; i++)
            if (sem_wait(there.semaphore) || sem_post(here.semaphore))
                _exit(1);
        _exit(0);
    }
    for (unsigned i = 0; i < 100; i++) {
        CHECK(vmb_doorbell_ring(&there) == 0);
        CHECK(vmb_doorbell_wait(&here, vmb_now_ns() + 10000 * MS) == VMB_WAIT_RUNG);
    }
    int status = -1, value = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    for (unsigned i = 0; i < 3; i++)
        vmb_doorbell_ring(&here);
    CHECK(sem_getvalue(here.semaphore, &value) == 0 && value == 3);
    bell_free(&here);
    bell_free(&there);
}

/* A peer that may post may write every word of the semaphore; nobody hangs or dies by it. */
static void spoilt_words_neither_hang_nor_crash(void)
{
    static const uint32_t spoilt[] = {0, 1, 2, 9, 127, 128, 255, 0x7fffffff, 0x80000000, 0xffffffff};
    const unsigned n = sizeof spoilt / sizeof *spoilt;
    struct vmb_doorbell bell = bell_new(0);
    uint32_t *word = (uint32_t *)bell.semaphore;
    alarm(60);
    for (unsigned i = 0; i < n * n * n; i++) {
        word[0] = spoilt[i % n];
        word[1] = spoilt[i / n % n];
        word[2] = word[3] = spoilt[i / n / n];
        CHECK(vmb_doorbell_ring(&bell) == 0);
        int rung = vmb_doorbell_wait(&bell, vmb_now_ns());
        CHECK(rung == VMB_WAIT_RUNG || rung == VMB_WAIT_TIMEOUT);
        vmb_doorbell_try(&bell);
        word[0] = 0;
        CHECK(vmb_doorbell_wait(&bell, vmb_now_ns() + 1000) == VMB_WAIT_TIMEOUT);
    }
    alarm(0);
    bell_free(&bell);
}

static const struct test tests[] = {
    {"a ring before the wait is taken at once", a_ring_before_the_wait_is_taken_at_once},
    {"a semaphore counts rings, an eventfd collects them", rings_are_counted_or_collected},
    {"a wait ends at its deadline", a_wait_ends_at_its_deadline},
    {"a ring that overflows counts as rung", an_overflow_counts_as_rung},
    {"a closed eventfd is an error, not a crash", a_closed_eventfd_is_an_error},
    {"a signal interrupts a wait and spoils nothing", a_signal_interrupts_a_wait},
    {"rings and waits pass between processes", ring_and_wait_pass_between_processes},
    {"sem_post and sem_wait see the same semaphore", sem_post_and_sem_wait_see_the_same_semaphore},
    {"spoilt words of a semaphore neither hang nor crash", spoilt_words_neither_hang_nor_crash},
};

int main(void) { return check_all(tests, sizeof tests / sizeof *tests); }
