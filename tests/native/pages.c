// SPDX-License-Identifier: MIT
/*
 * Signals through the pages that a guest names, with threads: legacy interrupt page and monitor page.
 *
 * A sender signals a channel again only when its last signal was seen, so one that is lost stops its channel for
 * ever, and the end notices. Targets move all the time between the two VPs that look into the page. Broken on
 * purpose (-DPAGE_BEFORE_FLAG: the page is taken before flag 0 is cleared) it must fail.
 */
#include <pthread.h>
#include <sched.h>

#include "check.h"

#define VPS 2u
#define SENDERS 2u
#define CHANNELS 64u /* the first half behind the interrupt page, the others behind the monitor page */
#define GPA 4096u
#define PATIENCE 5 /* seconds until what was signalled last must have been seen */

#define GET(word) __atomic_load_n(&(word), __ATOMIC_RELAXED)
#define PUT(word, value) __atomic_store_n(&(word), (value), __ATOMIC_RELAXED)

static struct partition partition;
static char *ram;
static struct {
    uint64_t payload; /* plain: ordered by the signal alone */
    uint64_t produced, seen;
} channels[CHANNELS];
static int senders_stop, guests_stop;

static uint32_t relid_of(unsigned number) { return 1 + number * 37; }

static struct vmb_interrupt_page *interrupt_page(void) { return (struct vmb_interrupt_page *)(ram + GPA); }

static struct vmb_monitor_page *monitor_page(void) { return (struct vmb_monitor_page *)(ram + 2 * GPA); }

static void see(unsigned number)
{
    __atomic_store_n(&channels[number].seen, channels[number].payload, __ATOMIC_RELEASE);
}

static void *sender_main(void *me)
{
    struct vmb_sender s = sender_of(&partition);
    s.ram = ram;
    s.ram_size = 3 * GPA;
    while (!GET(senders_stop)) {
        for (unsigned i = (unsigned)(uintptr_t)me; i < CHANNELS; i += SENDERS) {
            const uint16_t relid = (uint16_t)relid_of(i);
            if (__atomic_load_n(&channels[i].seen, __ATOMIC_ACQUIRE) != channels[i].produced)
                continue;
            channels[i].payload++;
            PUT(channels[i].produced, channels[i].produced + 1);
            if (i >= CHANNELS / 2)
                vmb_monitor_trigger(monitor_page(), i);
            else if (i % 4 < 2)
                vmb_signal(&s, relid, relid);
            else
                vmb_signal_many(&s, &relid, &relid, 1);
        }
        sched_yield();
    }
    return NULL;
}

static void take_page(void)
{
    uint16_t out[VMB_FLAGS];
    const unsigned n = vmb_take(interrupt_page()->to_guest, out);
    for (unsigned i = 0; i < n; i++)
        see((out[i] - 1u) / 37u);
}

static void look(uint64_t *flags)
{
#ifdef PAGE_BEFORE_FLAG
    take_page();
    sched_yield();
    __atomic_fetch_and(&flags[0], ~1ull, __ATOMIC_SEQ_CST);
#else
    __atomic_fetch_and(&flags[0], ~1ull, __ATOMIC_SEQ_CST);
    take_page();
#endif
}

/* A VP: as a worker, with flag 0 for its only interrupt. */
static void *guest_main(void *me)
{
    const uintptr_t vp = (uintptr_t)me;
    uint64_t *flags = partition.pages[vp].flags, sleep = 0;
    while (!GET(guests_stop)) {
        if (vmb_any_pending(flags)) {
            look(flags);
            continue;
        }
        if (vmb_sleep_begin(&partition.work[vp].idle, &sleep, flags))
            while (!GET(guests_stop) &&
                   vmb_doorbell_wait(&partition.bells[vp], vmb_now_ns() + 50000000) != VMB_WAIT_RUNG)
                ;
        vmb_sleep_end(&partition.work[vp].idle, &sleep);
    }
    return NULL;
}

/* The daemon: scans, and moves what is behind the interrupt page. */
static void *daemon_main(void *nothing)
{
    for (uint32_t turn = 0; !GET(guests_stop); turn++) {
        uint32_t taken[VMB_MONITOR_GROUPS];
        if (vmb_monitor_take(monitor_page(), taken))
            for (unsigned i = CHANNELS / 2; i < CHANNELS; i++)
                if (taken[i / 32] >> i % 32 & 1)
                    see(i);
        for (unsigned i = 0; i < CHANNELS / 2; i++)
            vmb_retarget(partition.table, relid_of(i), VMB_TARGET_PAGE ^ ((turn / 4 + i) % VPS));
        sched_yield();
    }
    return nothing;
}

static unsigned missing(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < CHANNELS; i++)
        n += __atomic_load_n(&channels[i].seen, __ATOMIC_ACQUIRE) != GET(channels[i].produced);
    return n;
}

static int seconds = 3;

static void nothing_is_lost_behind_a_page(void) /* 234, 303 */
{
    pthread_t senders[SENDERS], guests[VPS], scanner;
    uint64_t total = 0;

    partition = partition_new(VPS, 0);
    ram = aligned_alloc(GPA, 3 * GPA);
    memset(ram, 0, 3 * GPA);
    partition.table->header.interrupt_page = GPA;
    for (unsigned i = 0; i < CHANNELS / 2; i++)
        vmb_retarget(partition.table, relid_of(i), VMB_TARGET_PAGE);
    for (uintptr_t i = 0; i < VPS; i++)
        pthread_create(&guests[i], NULL, guest_main, (void *)i);
    pthread_create(&scanner, NULL, daemon_main, NULL);
    for (uintptr_t i = 0; i < SENDERS; i++)
        pthread_create(&senders[i], NULL, sender_main, (void *)i);
    vmb_pause_ns(seconds * 1000000000ll);
    PUT(senders_stop, 1);
    for (unsigned i = 0; i < SENDERS; i++)
        pthread_join(senders[i], NULL);
    for (int64_t end = vmb_now_ns() + PATIENCE * 1000000000ll; missing() && vmb_now_ns() < end;)
        vmb_pause_ns(1000000);
    CHECK(missing() == 0);
    PUT(guests_stop, 1);
    for (unsigned i = 0; i < VPS; i++)
        pthread_join(guests[i], NULL);
    pthread_join(scanner, NULL);
    for (unsigned i = 0; i < CHANNELS; i++) {
        CHECK(channels[i].produced > 0);
        total += channels[i].produced;
    }
    printf("lost %u of %llu signals\n", missing(), (unsigned long long)total);
    free(ram);
    partition_free(&partition);
}

int main(int count, char **words)
{
    const struct test tests[] = {{"nothing is lost behind a page", nothing_is_lost_behind_a_page}};
    if (count > 1)
        seconds = atoi(words[1]);
    return check_all(tests, 1);
}
