// SPDX-License-Identifier: MIT
/* What the C tests share: one named check at a time, counted, and a partition in memory. */
#ifndef NATIVE_CHECK_H
#define NATIVE_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#include "vmbus_daemon.h"

static unsigned check_failures;

#define CHECK(condition)                                                                                       \
    do {                                                                                                       \
        if (!(condition)) {                                                                                    \
            printf("%s:%d: %s: not true: %s\n", __FILE__, __LINE__, __func__, #condition);                     \
            check_failures++;                                                                                  \
        }                                                                                                      \
    } while (0)

struct test {
    const char *behaviour; /* in one sentence */
    void (*run)(void);
};

/* Runs each test; the last line is for run.py. Returns what main returns. */
__attribute__((unused)) static int check_all(const struct test *tests, unsigned count)
{
    unsigned failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0); /* a forked child must not print it again */
    for (unsigned i = 0; i < count; i++) {
        unsigned before = check_failures;
        tests[i].run();
        if (check_failures != before) {
            printf("FAIL %s\n", tests[i].behaviour);
            failed++;
        }
    }
    printf("%u passed, %u failed\n", count - failed, failed);
    return failed != 0;
}

/* Each object alone in memory of exactly its size: the address sanitizer sees the first byte beyond. */
struct partition {
    unsigned vps;
    struct vmb_table *table;
    struct vmb_event_page *pages;
    struct vmb_vpwork *work;
    struct vmb_block *blocks;
    struct vmb_host_page *host;
    sem_t *semaphores; /* one per VP, then the host's */
    struct vmb_doorbell *bells;
};

__attribute__((unused)) static void *zeroed(size_t size)
{
    void *memory = aligned_alloc(64, (size + 63) / 64 * 64);
    if (!memory)
        abort();
    return memset(memory, 0, size);
}

__attribute__((unused)) static uint64_t slot_of(uint32_t flag, uint32_t generation)
{
    return (uint64_t)generation << 33 | offsetof(struct vmb_table, record[flag]);
}

/* Channels 1..channels are open in generation 1 on VP 0. */
__attribute__((unused)) static struct partition partition_new(unsigned vps, uint32_t channels)
{
    struct partition p = {.vps = vps};
    p.table = zeroed(sizeof *p.table);
    p.pages = zeroed(vps * sizeof *p.pages);
    p.work = zeroed(vps * sizeof *p.work);
    p.blocks = zeroed(VMB_FLAGS * sizeof *p.blocks);
    p.host = zeroed(sizeof *p.host);
    p.semaphores = zeroed((vps + 1) * sizeof *p.semaphores);
    p.bells = zeroed((vps + 1) * sizeof *p.bells);
    for (unsigned i = 0; i <= vps; i++) {
        sem_init(&p.semaphores[i], 1, 0);
        p.bells[i] = (struct vmb_doorbell){.semaphore = &p.semaphores[i], .fd = -1};
    }
    for (uint32_t flag = 1; flag <= channels; flag++) {
        vmb_slot_fill(p.table, flag, slot_of(flag, 1));
        vmb_slot_open(p.table, flag, slot_of(flag, 1));
    }
    return p;
}

__attribute__((unused)) static void partition_free(struct partition *p)
{
    for (unsigned i = 0; i <= p->vps; i++)
        sem_destroy(&p->semaphores[i]);
    free(p->table);
    free(p->pages);
    free(p->work);
    free(p->blocks);
    free(p->host);
    free(p->semaphores);
    free(p->bells);
}

__attribute__((unused)) static struct vmb_sender sender_of(struct partition *p)
{
    return (struct vmb_sender){
        .table = p->table, .pages = p->pages, .work = p->work, .doorbells = p->bells, .vps = p->vps};
}

__attribute__((unused)) static struct vmb_worker worker_of(struct partition *p, uint32_t vp)
{
    struct vmb_worker w = {
        .table = p->table, .flags = p->pages[vp].flags, .work = &p->work[vp], .blocks = p->blocks, .vp = vp};
    vmb_worker_begin(&w);
    return w;
}

/* How often the doorbell was rung since the last look. */
__attribute__((unused)) static unsigned rings(struct vmb_doorbell *bell)
{
    unsigned n = 0;
    while (vmb_doorbell_try(bell))
        n++;
    return n;
}

#endif
