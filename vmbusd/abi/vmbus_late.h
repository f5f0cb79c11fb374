// SPDX-License-Identifier: MIT
/*
 * Doorbells that are rung later than they should: by a thread of their own, so that the sender never waits.
 *
 * For injected faults alone (vmbus_faults.h); an unarmed process never comes here. The threads are plain C, need
 * nothing that a sender holds, sleep for a millisecond at most and are waited for before the memory that they use goes.
 */
#ifndef VMBUS_LATE_H
#define VMBUS_LATE_H

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "vmbus_doorbell.h"

#define VMB_COLD __attribute__((noinline, cold, unused)) static

#define VMB_LATE_MOST 64u /* posts of one sender on their way late: one for each VP there can be */
#define VMB_LATE_LOOK 50000 /* ns between looks at posts under way: they take a millisecond at most */

/* The late posts of one sender: the process whose threads they are in the upper half, how many are under way in the
 * lower. One word, so that the first posts of two threads, also after a fork, count both. */
struct vmb_late_posts {
    uint64_t under_way;
};

/* A post that is made later: by its thread when it is due, or before by the sender's next post. */
struct vmb_late {
    struct vmb_doorbell bell;
    int64_t due;
    uint32_t made;
    uint32_t users; /* its thread, and the sender while it holds it back */
    struct vmb_late_posts *owner;
};

/* Whoever comes first posts:
 *
 * thread of the post, once it is due        sender, at its next post
 * 1  exchange made = 1                      a  take the held post, exchange made = 1
 * 2  it was 0: post                         b  it was 0: post
 *
 * Forbidden: no post, or two. One exchange reads 0. */
VMB_COLD void vmb_late_make(struct vmb_late *late)
{
    if (!__atomic_exchange_n(&late->made, 1u, __ATOMIC_SEQ_CST))
        (void)vmb_doorbell_ring(&late->bell);
    if (__atomic_fetch_sub(&late->users, 1u, __ATOMIC_SEQ_CST) == 1) {
        if (!late->bell.semaphore)
            close(late->bell.fd);
        free(late);
    }
}

VMB_COLD void *vmb_late_run(void *context)
{
    struct vmb_late *late = context;
    struct vmb_late_posts *owner = late->owner;
    const struct timespec due = {late->due / 1000000000, late->due % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR)
        ;
    vmb_late_make(late);
    __atomic_fetch_sub(&owner->under_way, 1ull, __ATOMIC_SEQ_CST); /* our last touch: vmb_late_end waits for it */
    return NULL;
}

/* Posts under way of this process. The threads of a parent are not there after a fork. */
VMB_COLD uint32_t vmb_late_under_way(uint64_t word)
{
    return word >> 32 == (uint32_t)getpid() ? (uint32_t)word : 0;
}

/* Count one more. Returns how many there were. */
VMB_COLD uint32_t vmb_late_add(struct vmb_late_posts *p)
{
    const uint64_t process = (uint64_t)(uint32_t)getpid() << 32;
    uint64_t seen = __atomic_load_n(&p->under_way, __ATOMIC_SEQ_CST);
    while (!__atomic_compare_exchange_n(&p->under_way, &seen, process | (vmb_late_under_way(seen) + 1), 0,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
    return vmb_late_under_way(seen);
}

/* Post `bell` after `delay` us from a thread of its own, so that the sender goes on at once. The answer is what
 * `users` - 1 others may still make sooner; NULL when there is no thread to be had. */
VMB_COLD struct vmb_late *vmb_late_start(struct vmb_late_posts *p, const struct vmb_doorbell *bell, uint32_t delay,
                                         uint32_t users)
{
    struct vmb_late *late = malloc(sizeof *late);
    sigset_t all, before;
    pthread_t thread;

    if (!late)
        return NULL;
    *late = (struct vmb_late){.bell = *bell, .due = vmb_now_ns() + (int64_t)delay * 1000, .users = users, .owner = p};
    if (!bell->semaphore) /* borrowed: it may be closed, and its number be another file's, before we are due */
        late->bell.fd = fcntl(bell->fd, F_DUPFD_CLOEXEC, 0);
    const uint32_t others = vmb_late_add(p);
    /* Signals are for threads that know Python; a fault of a truncated object is ours. */
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGSEGV);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = others >= VMB_LATE_MOST || (!bell->semaphore && late->bell.fd < 0) ||
                       pthread_create(&thread, NULL, vmb_late_run, late);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!failed) {
        pthread_detach(thread);
        return late;
    }
    __atomic_fetch_sub(&p->under_way, 1ull, __ATOMIC_SEQ_CST);
    if (!bell->semaphore && late->bell.fd >= 0)
        close(late->bell.fd);
    free(late);
    return NULL;
}

/* Wait until every post under way is made. */
static inline void vmb_late_end(struct vmb_late_posts *p)
{
    while (vmb_late_under_way(__atomic_load_n(&p->under_way, __ATOMIC_SEQ_CST)))
        vmb_pause_ns(VMB_LATE_LOOK);
}

#endif
