// SPDX-License-Identifier: MIT
/*
 * The real functions while somebody writes anything into everything that a peer may write: `hostile SECONDS`.
 *
 * Nothing may crash, read or write out of bounds, or fail to come back; what is delivered does not matter. The
 * table, which peers cannot write, is left to the daemon, but for the targets: a sender must survive those too.
 */
#include <pthread.h>
#include <signal.h>

#include "check.h"

#define VPS 3u /* two are played; the daemon recovers and sweeps the third */
#define CHANNELS 2047u

static struct partition partition;
static int stop;

enum role { HOST, GUEST, HOST_WAITER, WORKER_0, WORKER_1, DAEMON, SCRIBBLER, ROLES };
static const char *const role_names[ROLES] = {"host", "guest", "host waiter", "worker 0", "worker 1", "daemon",
                                              "scribbler"};
static uint64_t turns[ROLES];
static uint64_t callbacks;

struct random {
    uint64_t state;
};

static uint64_t next(struct random *r)
{
    r->state ^= r->state << 13;
    r->state ^= r->state >> 7;
    r->state ^= r->state << 17;
    return r->state * 0x2545f4914f6cdd1dull;
}

static int go_on(enum role role)
{
    __atomic_fetch_add(&turns[role], 1, __ATOMIC_RELAXED);
    return !__atomic_load_n(&stop, __ATOMIC_RELAXED);
}

static void callback(void *context, uint32_t flag, uint64_t slot)
{
    (void)context;
    if (flag == 0 || flag >= VMB_FLAGS || !(slot & VMB_SLOT_OPEN) ||
        VMB_SLOT_RECORD(slot) > sizeof(struct vmb_table) - sizeof(struct vmb_record))
        abort();
    __atomic_fetch_add(&callbacks, 1, __ATOMIC_RELAXED);
}

static void *host_main(void *nothing)
{
    struct vmb_sender s = sender_of(&partition);
    struct random r = {1};
    while (go_on(HOST)) {
        uint16_t relids[64], flags[64];
        for (unsigned i = 0; i < 64; i++) {
            relids[i] = (uint16_t)(next(&r) % VMB_FLAGS);
            flags[i] = (uint16_t)(next(&r) % VMB_FLAGS);
        }
        vmb_signal(&s, relids[0], flags[0]);
        vmb_signal_many(&s, relids, flags, 64);
    }
    return nothing;
}

static void *guest_main(void *nothing)
{
    uint64_t rung = 0;
    struct random r = {2};
    while (go_on(GUEST))
        vmb_signal_host(partition.host, &partition.bells[VPS], &rung, (uint32_t)(next(&r) % VMB_FLAGS));
    return nothing;
}

static void *host_waiter_main(void *nothing)
{
    uint16_t *taken = malloc(VMB_FLAGS * sizeof *taken);
    uint64_t sleep = 0;
    while (go_on(HOST_WAITER)) {
        for (unsigned n = vmb_take(partition.host->flags, taken); n-- > 0;)
            if (taken[n] == 0 || taken[n] >= VMB_FLAGS)
                abort();
        if (vmb_sleep_begin(&partition.host->idle, &sleep, partition.host->flags))
            vmb_doorbell_wait(&partition.bells[VPS], vmb_now_ns() + 100000);
        vmb_sleep_end(&partition.host->idle, &sleep);
    }
    free(taken);
    return nothing;
}

static void *worker_main(void *number)
{
    const uint32_t vp = (uint32_t)(uintptr_t)number;
    while (go_on(WORKER_0 + vp)) {
        struct vmb_worker w = worker_of(&partition, vp); /* on whatever idle number it finds */
        for (unsigned i = 0; i < 8; i++) {
            vmb_drain(&w, callback, NULL);
            if (vmb_sleep_begin(&w.work->idle, &w.sleep, w.flags))
                vmb_doorbell_wait(&partition.bells[vp], vmb_now_ns() + 100000);
            vmb_sleep_end(&w.work->idle, &w.sleep);
            vmb_spin(w.flags, 1000);
        }
    }
    return NULL;
}

static void *daemon_main(void *nothing)
{
    struct random r = {3};
    uint32_t generation = 1;
    while (go_on(DAEMON)) {
        uint32_t flag = 1 + (uint32_t)(next(&r) % CHANNELS);
        uint64_t redelivered;
        vmb_retarget(partition.table, flag, (uint32_t)(next(&r) % (VPS + 1)));
        vmb_slot_close(partition.table, flag);
        for (unsigned i = 0; i < 100 && !vmb_close_done(partition.blocks, flag); i++)
            ; /* a guest that spoils its own claims never sees this close completed */
        vmb_block_clear(&partition.blocks[flag]);
        generation = generation % VMB_GENERATION_MAX + 1;
        vmb_slot_open(partition.table, flag, slot_of(flag, generation));
        if (next(&r) % 64 == 0) {
            vmb_recover(2, &partition.pages[2], &partition.work[2], partition.blocks, partition.table, &redelivered);
            if (redelivered > VMB_FLAGS)
                abort();
            if (vmb_sweep(&partition.pages[2], &partition.pages[next(&r) % 2], &partition.bells[0]) > VMB_FLAGS)
                abort();
        }
    }
    return nothing;
}

/* Values that mean something, so that the interesting turns are taken, among any others. */
static uint64_t spoilt(struct random *r)
{
    const uint64_t v = next(r);
    switch (v % 8) {
    case 0: return 0;
    case 1: return UINT64_MAX;
    case 2: return VMB_CLAIM_RUN | (v >> 8) % 4;
    case 3: return VMB_CLAIM_RUN | VMB_CLAIM_AGAIN | (v >> 8) % 4;
    case 4: return VMB_CLAIM_AGAIN | (v >> 8) % 4;
    case 5: return (v >> 8 & 0xff) | 1;
    default: return next(r);
    }
}

static void *scribbler_main(void *nothing)
{
    struct random r = {4};
    while (go_on(SCRIBBLER)) {
        volatile uint64_t *at;
        for (unsigned i = 0; i < 256; i++) {
            switch (next(&r) % 8) {
            case 0: at = (uint64_t *)partition.pages + next(&r) % (VPS * sizeof *partition.pages / 8); break;
            case 1: at = &partition.pages[next(&r) % VPS].flags[next(&r) % VMB_WORDS]; break;
            case 2: at = (uint64_t *)partition.work + next(&r) % (VPS * sizeof *partition.work / 8); break;
            case 3: at = &partition.work[next(&r) % VPS].idle; break;
            case 4: at = (uint64_t *)&partition.blocks[next(&r) % VMB_FLAGS]; break; /* claims */
            case 5: at = (uint64_t *)partition.host + next(&r) % (sizeof *partition.host / 8); break;
            case 6: at = (uint64_t *)partition.semaphores + next(&r) % ((VPS + 1) * sizeof(sem_t) / 8); break;
            default:
                *(volatile uint32_t *)&partition.table->record[next(&r) % VMB_FLAGS].target_vp = (uint32_t)spoilt(&r);
                continue;
            }
            *at = spoilt(&r);
        }
    }
    return nothing;
}

/* Each role must come round again and again. */
static void watch(int64_t until)
{
    uint64_t before[ROLES] = {0};
    while (vmb_now_ns() < until) {
        for (unsigned i = 0; i < 100 && vmb_now_ns() < until; i++)
            vmb_pause_ns(50000000);
        for (unsigned role = 0; role < ROLES; role++) {
            uint64_t now = __atomic_load_n(&turns[role], __ATOMIC_RELAXED);
            if (now == before[role]) {
                printf("hangs: %s after %llu turns\n", role_names[role], (unsigned long long)now);
                abort();
            }
            before[role] = now;
        }
    }
}

int main(int argc, char **argv)
{
    int64_t seconds = argc > 1 ? atoi(argv[1]) : 3;
    pthread_t threads[ROLES];
    void *(*const mains[ROLES])(void *) = {host_main,   guest_main,  host_waiter_main, worker_main,
                                           worker_main, daemon_main, scribbler_main};
    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm((unsigned)seconds + 60);
    partition = partition_new(VPS, CHANNELS);
    for (unsigned role = 0; role < ROLES; role++)
        pthread_create(&threads[role], NULL, mains[role], (void *)(uintptr_t)(role == WORKER_1));
    watch(vmb_now_ns() + seconds * 1000000000);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (unsigned role = 0; role < ROLES; role++)
        pthread_join(threads[role], NULL);
    for (unsigned role = 0; role < ROLES; role++)
        printf("%s %llu ", role_names[role], (unsigned long long)turns[role]);
    printf("callbacks %llu\n", (unsigned long long)callbacks);
    partition_free(&partition);
    return callbacks == 0;
}
