// SPDX-License-Identifier: MIT
/*
 * The SIGBUS guard: a peer that truncates a shared object cannot kill the processes that map it.
 *
 * A fault inside a registered mapping gets a private zero page in its place and marks the mapping dead; the
 * owner notices and ends the link. Any other SIGBUS goes to the handler that was there before. The handler
 * uses only atomics and mmap, a bare system call on Linux.
 */
#ifndef VMBUS_GUARD_H
#define VMBUS_GUARD_H

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Mappings of one process: 64 VPs, 255 host links and 5 objects per partition leave room for a dozen of the
 * largest partitions in one daemon. */
#define VMB_GUARDS 8192

struct vmb_guard {
    uintptr_t start; /* 0 = free; written last when taken, first when released */
    uintptr_t end;
    int writable;
    int dead;
};

static struct vmb_guard vmb_guards[VMB_GUARDS];
static unsigned vmb_guards_used; /* entries ever taken: how far the handler looks */
static unsigned vmb_guard_faults; /* mappings marked dead so far: whoever sees it grow looks for his own */
static struct sigaction vmb_guard_previous;
static uintptr_t vmb_guard_page;

static void vmb_guard_chain(int number, siginfo_t *info, void *context)
{
    if (vmb_guard_previous.sa_flags & SA_SIGINFO) {
        vmb_guard_previous.sa_sigaction(number, info, context);
    } else if (vmb_guard_previous.sa_handler == SIG_DFL || vmb_guard_previous.sa_handler == SIG_IGN) {
        int was_sent = info->si_code <= 0; /* by kill or raise: nothing faults again when we return */
        if (was_sent && vmb_guard_previous.sa_handler == SIG_IGN)
            return;
        signal(number, SIG_DFL); /* the access faults again and ends the process as it would have */
        if (was_sent)
            raise(number);
    } else {
        vmb_guard_previous.sa_handler(number);
    }
}

static void vmb_guard_handler(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    uintptr_t at = (uintptr_t)info->si_addr;
    unsigned used = __atomic_load_n(&vmb_guards_used, __ATOMIC_ACQUIRE);

    for (unsigned i = 0; info->si_code > 0 && i < used; i++) { /* a signal that was sent has no address */
        struct vmb_guard *guard = &vmb_guards[i];
        uintptr_t start = __atomic_load_n(&guard->start, __ATOMIC_ACQUIRE);
        if (!start || at < start || at >= guard->end)
            continue;
        void *page = (void *)(at & ~(vmb_guard_page - 1));
        int protection = guard->writable ? PROT_READ | PROT_WRITE : PROT_READ;
        if (mmap(page, vmb_guard_page, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
            break;
        __atomic_store_n(&guard->dead, 1, __ATOMIC_RELEASE);
        __atomic_fetch_add(&vmb_guard_faults, 1, __ATOMIC_RELEASE);
        errno = saved;
        return;
    }
    errno = saved;
    vmb_guard_chain(number, info, context);
}

/* Install the handler once per process. Returns 0 or an errno. */
static inline int vmb_guard_install(void)
{
    static int installed;
    struct sigaction action;

    if (installed)
        return 0;
    vmb_guard_page = (uintptr_t)sysconf(_SC_PAGESIZE);
    memset(&action, 0, sizeof action);
    action.sa_sigaction = vmb_guard_handler;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGBUS, &action, &vmb_guard_previous))
        return errno;
    installed = 1;
    return 0;
}

static inline unsigned vmb_guard_fault_count(void)
{
    return __atomic_load_n(&vmb_guard_faults, __ATOMIC_ACQUIRE);
}

/* Returns the entry, or NULL when all are taken. Callers serialize (they hold the GIL, or a lock). */
static inline struct vmb_guard *vmb_guard_add(void *start, size_t size, int writable)
{
    for (unsigned i = 0; i < VMB_GUARDS; i++) {
        struct vmb_guard *guard = &vmb_guards[i];
        if (guard->start)
            continue;
        guard->end = (uintptr_t)start + size;
        guard->writable = writable;
        guard->dead = 0;
        __atomic_store_n(&guard->start, (uintptr_t)start, __ATOMIC_RELEASE);
        if (i >= vmb_guards_used)
            __atomic_store_n(&vmb_guards_used, i + 1, __ATOMIC_RELEASE);
        return guard;
    }
    return NULL;
}

static inline void vmb_guard_remove(struct vmb_guard *guard)
{
    __atomic_store_n(&guard->start, (uintptr_t)0, __ATOMIC_RELEASE);
}

#endif
