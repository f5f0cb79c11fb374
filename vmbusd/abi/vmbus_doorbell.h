// SPDX-License-Identifier: MIT
/*
 * Wake: a POSIX semaphore in a shared mapping, or an eventfd. Never says which channel.
 *
 * A post that overflows counts as posted: the waiter has billions of wakes to take already. Waiting uses
 * CLOCK_MONOTONIC, so that a clock set back or forth neither hangs nor wakes anybody.
 */
#ifndef VMBUS_DOORBELL_H
#define VMBUS_DOORBELL_H

#include <errno.h>
#include <poll.h>
#include <semaphore.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

struct vmb_doorbell {
    sem_t *semaphore; /* NULL: an eventfd */
    int fd;
};

#define VMB_WAIT_RUNG 1
#define VMB_WAIT_TIMEOUT 0
#define VMB_WAIT_INTERRUPTED (-1)

/* Returns 0, or the errno of a doorbell that is none (a descriptor closed under us). */
static inline int vmb_doorbell_ring(struct vmb_doorbell *bell)
{
    if (bell->semaphore)
        return sem_post(bell->semaphore) == 0 || errno == EOVERFLOW ? 0 : errno;
    uint64_t one = 1;
    return write(bell->fd, &one, sizeof one) == sizeof one || errno == EAGAIN ? 0 : errno;
}

/* Take one wake without waiting: for an eventfd that is all of them. Returns 1 if there was one. */
static inline int vmb_doorbell_try(struct vmb_doorbell *bell)
{
    if (bell->semaphore)
        return sem_trywait(bell->semaphore) == 0;
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
        if (sem_clockwait(bell->semaphore, CLOCK_MONOTONIC, &until) == 0)
            return VMB_WAIT_RUNG;
        return errno == ETIMEDOUT ? VMB_WAIT_TIMEOUT : VMB_WAIT_INTERRUPTED;
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
    return n > 0 && vmb_doorbell_try(bell) ? VMB_WAIT_RUNG : VMB_WAIT_TIMEOUT;
}

#endif
