// SPDX-License-Identifier: MIT
/*
 * Wake: a POSIX semaphore in a shared mapping, or an eventfd. Never says which channel.
 *
 * A post that overflows counts as posted: the waiter has billions of wakes to take already. Waiting uses
 * CLOCK_MONOTONIC, so that a clock set back or forth neither hangs nor wakes anybody.
 *
 * Peers may write anything into the semaphore, and glibc ends the process when a `private` field that is
 * neither of its two values makes the futex call fail. So on glibc this file reads only the one word that
 * has no wrong value, {u32 count, u32 waiters} (glibc nptl/sem_post.c, unchanged since 2.21), and does the
 * three steps of post and wait itself. Whoever uses sem_post or posix_ipc on the same semaphore fits in.
 * Elsewhere the library's functions are used.
 */
#ifndef VMBUS_DOORBELL_H
#define VMBUS_DOORBELL_H

#include <errno.h>
#include <poll.h>
#include <semaphore.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#if defined(__GLIBC__) && defined(__LP64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define VMB_OWN_SEMAPHORE 1
#include <linux/futex.h>
#include <sys/syscall.h>
#endif

struct vmb_doorbell {
    sem_t *semaphore; /* NULL: an eventfd */
    int fd;
};

#define VMB_WAIT_RUNG 1
#define VMB_WAIT_TIMEOUT 0
#define VMB_WAIT_INTERRUPTED (-1)
#define VMB_WAIT_BROKEN (-2) /* a descriptor that was closed under us */

#ifdef VMB_OWN_SEMAPHORE
#define VMB_SEM_COUNT 0xffffffffull
#define VMB_SEM_COUNT_MAX 0x7fffffffull
#define VMB_SEM_WAITER (1ull << 32)

static inline void vmb_sem_post(sem_t *semaphore)
{
    uint64_t *word = (uint64_t *)semaphore;
    uint64_t seen = __atomic_load_n(word, __ATOMIC_RELAXED);
    do {
        if ((seen & VMB_SEM_COUNT) >= VMB_SEM_COUNT_MAX)
            return;
    } while (!__atomic_compare_exchange_n(word, &seen, seen + 1, 1, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    if (seen / VMB_SEM_WAITER)
        syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* Take one wake; `leaving` is VMB_SEM_WAITER for somebody who counted himself as waiting. */
static inline int vmb_sem_take(uint64_t *word, uint64_t leaving)
{
    uint64_t seen = __atomic_load_n(word, __ATOMIC_RELAXED);
    while (seen & VMB_SEM_COUNT)
        if (__atomic_compare_exchange_n(word, &seen, seen - 1 - leaving, 1, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
            return 1;
    return 0;
}

static inline int vmb_sem_wait(sem_t *semaphore, const struct timespec *until)
{
    uint64_t *word = (uint64_t *)semaphore;

    if (vmb_sem_take(word, 0))
        return VMB_WAIT_RUNG;
    __atomic_fetch_add(word, VMB_SEM_WAITER, __ATOMIC_SEQ_CST);
    while (!vmb_sem_take(word, VMB_SEM_WAITER)) {
        /* Sleeps only while the count, the low half of the word, is 0; the time is CLOCK_MONOTONIC. */
        if (!syscall(SYS_futex, word, FUTEX_WAIT_BITSET, 0, until, NULL, FUTEX_BITSET_MATCH_ANY) || errno == EAGAIN)
            continue;
        int why = errno;
        __atomic_fetch_sub(word, VMB_SEM_WAITER, __ATOMIC_SEQ_CST);
        return why == ETIMEDOUT ? VMB_WAIT_TIMEOUT : VMB_WAIT_INTERRUPTED;
    }
    return VMB_WAIT_RUNG;
}
#else
static inline void vmb_sem_post(sem_t *semaphore)
{
    (void)sem_post(semaphore); /* fails only by overflow */
}

static inline int vmb_sem_take(sem_t *semaphore, uint64_t leaving)
{
    (void)leaving;
    return sem_trywait(semaphore) == 0;
}

static inline int vmb_sem_wait(sem_t *semaphore, const struct timespec *until)
{
    if (sem_clockwait(semaphore, CLOCK_MONOTONIC, until) == 0)
        return VMB_WAIT_RUNG;
    return errno == ETIMEDOUT ? VMB_WAIT_TIMEOUT : VMB_WAIT_INTERRUPTED;
}
#endif

/* Returns 0, or the errno of a doorbell that is none (a descriptor closed under us). */
static inline int vmb_doorbell_ring(struct vmb_doorbell *bell)
{
    if (bell->semaphore) {
        vmb_sem_post(bell->semaphore);
        return 0;
    }
    uint64_t one = 1;
    return write(bell->fd, &one, sizeof one) == sizeof one || errno == EAGAIN ? 0 : errno;
}

/* Take one wake without waiting: for an eventfd that is all of them. Returns 1 if there was one. */
static inline int vmb_doorbell_try(struct vmb_doorbell *bell)
{
    if (bell->semaphore)
        return vmb_sem_take((void *)bell->semaphore, 0);
    uint64_t count;
    return read(bell->fd, &count, sizeof count) == sizeof count;
}

static inline int64_t vmb_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Let time pass without a doorbell: what a waiter does while a peer rings without end. */
static inline void vmb_pause_ns(int64_t span)
{
    struct timespec ts = {span / 1000000000, span % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
}

/* Wait until rung or until CLOCK_MONOTONIC passes `deadline` (ns). */
static inline int vmb_doorbell_wait(struct vmb_doorbell *bell, int64_t deadline)
{
    if (bell->semaphore) {
        struct timespec until = {deadline / 1000000000, deadline % 1000000000};
        return vmb_sem_wait(bell->semaphore, &until);
    }
    if (vmb_doorbell_try(bell))
        return VMB_WAIT_RUNG;
    int64_t left = deadline - vmb_now_ns();
    if (left < 0)
        return VMB_WAIT_TIMEOUT;
    struct timespec span = {left / 1000000000, left % 1000000000};
    struct pollfd poll_fd = {.fd = bell->fd, .events = POLLIN};
    int n = ppoll(&poll_fd, 1, &span, NULL);
    if (n < 0)
        return VMB_WAIT_INTERRUPTED;
    if (n > 0 && poll_fd.revents & POLLNVAL)
        return VMB_WAIT_BROKEN;
    return n > 0 && vmb_doorbell_try(bell) ? VMB_WAIT_RUNG : VMB_WAIT_TIMEOUT;
}

#endif
