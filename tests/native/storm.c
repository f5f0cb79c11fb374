// SPDX-License-Identifier: MIT
/*
 * Well-behaved peers at full speed on the real functions, for the thread sanitizer: `storm SECONDS`.
 *
 * The payload of every channel is plain memory, so an order that the protocol owes and does not give is a race
 * that the sanitizer reports. Three kinds of channels:
 *
 *   credit   its sender signals only when the last signal was seen, after writing plain memory; it also moves the
 *            channel itself, in between. One callback for each signal, no more and no fewer.
 *   burst    many senders count and signal as fast as they can while a retargeter moves the channel, also to a
 *            VP without worker, which is then retired. At rest everything counted has been seen.
 *   closing  a burst channel that is closed and opened again all the time, with plain memory that exists for one
 *            generation: the closer writes it as soon as the close has completed.
 */
#include <pthread.h>
#include <sched.h>

#include "check.h"

#define VPS 2u
#define VACANT VPS /* a VP without worker: what targets it is retired again and again while others signal */
#define SENDERS 2u
#define PER_KIND 8u
#define CHANNELS (3 * PER_KIND)

enum kind { CREDIT, BURST, CLOSING };

/* Everything atomic here is relaxed unless said: what orders is the protocol under test. */
struct channel {
    uint64_t produced, seen, callbacks, signals, inside, closed; /* closed: generation whose close has completed */
    uint64_t payload;                                            /* plain */
    char separate[128];
};

static struct partition partition;
static struct channel channels[CHANNELS + 1];
static uint64_t overlaps, stale, wrong, closes, retargets, moved;
static int senders_stop, workers_stop;

#define GET(word) __atomic_load_n(&(word), __ATOMIC_RELAXED)
#define PUT(word, value) __atomic_store_n(&(word), (value), __ATOMIC_RELAXED)
#define ADD(word, value) __atomic_fetch_add(&(word), (value), __ATOMIC_RELAXED)

/* Flags of one kind stand in different words of the page and next to other kinds. */
static uint32_t flag_of(unsigned number) { return 1 + number * 37 % 2047; }
static enum kind kind_of(unsigned number) { return (enum kind)(number % 3); }

static unsigned number_of[VMB_FLAGS];

static void callback(void *context, uint32_t flag, uint64_t slot)
{
    struct channel *c = &channels[number_of[flag]];
    uint64_t generation = VMB_SLOT_GENERATION(slot), signal;
    (void)context;
    if (ADD(c->inside, 1))
        ADD(overlaps, 1);
    if (GET(c->closed) >= generation)
        ADD(stale, 1);
    PUT(c->callbacks, GET(c->callbacks) + 1);
    switch (kind_of(number_of[flag])) {
    case CREDIT:
        signal = c->payload;
        if (signal != GET(c->seen) + 1)
            ADD(wrong, 1);
        __atomic_store_n(&c->seen, signal, __ATOMIC_RELEASE); /* the credit: the sender may write again */
        if (signal % 8 == 0)
            sched_yield(); /* so that the next signal finds the channel claimed */
        break;
    case CLOSING:
        if (c->payload != generation)
            ADD(wrong, 1);
        PUT(c->seen, GET(c->produced));
        break;
    case BURST: PUT(c->seen, GET(c->produced)); break;
    }
    if (GET(c->closed) >= generation)
        ADD(stale, 1);
    ADD(c->inside, -1ull);
}

static void *worker_main(void *number)
{
    struct vmb_worker w = worker_of(&partition, (uint32_t)(uintptr_t)number);
    struct vmb_doorbell *bell = &partition.bells[w.vp];
    while (!__atomic_load_n(&workers_stop, __ATOMIC_ACQUIRE)) {
        while (vmb_drain(&w, callback, NULL))
            ;
        if (vmb_sleep_begin(&w.work->idle, &w.sleep, w.flags))
            while (vmb_doorbell_wait(bell, vmb_now_ns() + 1000000000) != VMB_WAIT_RUNG)
                ; /* no look: nothing here needs one */
        vmb_sleep_end(&w.work->idle, &w.sleep);
    }
    return NULL;
}

static void credit(struct vmb_sender *s, unsigned number)
{
    struct channel *c = &channels[number];
    if (__atomic_load_n(&c->seen, __ATOMIC_ACQUIRE) != c->signals)
        return;
    if (c->signals % 3 == 0) { /* between signals: no second bit is ever set */
        vmb_retarget(partition.table, flag_of(number), (uint32_t)(c->signals / 3 % VPS));
        ADD(retargets, 1);
    }
    c->payload = ++c->signals;
    PUT(c->produced, c->signals);
    vmb_signal(s, flag_of(number), flag_of(number));
}

static void *sender_main(void *me)
{
    struct vmb_sender s = sender_of(&partition);
    const uintptr_t self = (uintptr_t)me;
    while (!GET(senders_stop)) {
        uint16_t batch[CHANNELS];
        unsigned n = 0;
        for (unsigned i = 1; i <= CHANNELS; i++) {
            if (kind_of(i) == CREDIT) {
                if (i / 3 % SENDERS == self)
                    credit(&s, i);
                continue;
            }
            ADD(channels[i].produced, 1);
            if (i % 2) {
                vmb_signal(&s, flag_of(i), flag_of(i));
            } else {
                batch[n++] = (uint16_t)flag_of(i);
            }
        }
        vmb_signal_many(&s, batch, batch, n);
    }
    return NULL;
}

static void retarget_all(uint32_t turn, uint32_t vps)
{
    for (unsigned i = 1; i <= CHANNELS; i++)
        if (kind_of(i) != CREDIT) {
            vmb_retarget(partition.table, flag_of(i), (turn + i) % vps);
            ADD(retargets, 1);
        }
}

/* Each turn ends with a retire: no channel targets the vacant VP any more, then its bits are handed over. */
static void *retargeter_main(void *nothing)
{
    for (uint32_t turn = 0; !GET(senders_stop); turn++) {
        const uint32_t live = turn % VPS;
        retarget_all(turn, VPS + 1);
        sched_yield();
        retarget_all(turn, VPS);
        ADD(moved, vmb_sweep(&partition.pages[VACANT], &partition.pages[live], &partition.bells[live]));
        sched_yield();
    }
    return nothing;
}

static void *closer_main(void *nothing)
{
    uint32_t generation[CHANNELS + 1];
    for (unsigned i = 1; i <= CHANNELS; i++)
        generation[i] = 1;
    while (!GET(senders_stop))
        for (unsigned i = 1; i <= CHANNELS; i++) {
            const uint32_t flag = flag_of(i);
            if (kind_of(i) != CLOSING)
                continue;
            vmb_slot_close(partition.table, flag);
            while (!vmb_close_done(partition.blocks, flag))
                sched_yield();
            PUT(channels[i].closed, generation[i]);
            channels[i].payload = ++generation[i]; /* plain: the last callback is over, the next has not begun */
            vmb_block_clear(&partition.blocks[flag]);
            vmb_slot_open(partition.table, flag, slot_of(flag, generation[i]));
            ADD(closes, 1);
            sched_yield();
        }
    return nothing;
}

/* Whether everything that was signalled last has been seen; closing channels get one more signal first. */
static unsigned unseen(void)
{
    unsigned n = 0;
    for (unsigned i = 1; i <= CHANNELS; i++)
        n += GET(channels[i].seen) != GET(channels[i].produced);
    return n;
}

int main(int argc, char **argv)
{
    pthread_t workers[VPS], senders[SENDERS], retargeter, closer;
    int64_t end = vmb_now_ns() + (argc > 1 ? atoi(argv[1]) : 3) * 1000000000ll;
    uint64_t signals = 0, callbacks = 0, again = 0, sleeps_rung = 0, bad_credit = 0;

    partition = partition_new(VPS + 1, 0);
    for (unsigned i = 1; i <= CHANNELS; i++) {
        number_of[flag_of(i)] = i;
        channels[i].payload = kind_of(i) == CLOSING;
        vmb_slot_fill(partition.table, flag_of(i), slot_of(flag_of(i), 1));
        vmb_slot_open(partition.table, flag_of(i), slot_of(flag_of(i), 1));
    }
    for (uintptr_t v = 0; v < VPS; v++)
        pthread_create(&workers[v], NULL, worker_main, (void *)v);
    for (uintptr_t s = 0; s < SENDERS; s++)
        pthread_create(&senders[s], NULL, sender_main, (void *)s);
    pthread_create(&retargeter, NULL, retargeter_main, NULL);
    pthread_create(&closer, NULL, closer_main, NULL);
    while (vmb_now_ns() < end)
        vmb_pause_ns(10000000);
    PUT(senders_stop, 1);
    for (unsigned s = 0; s < SENDERS; s++)
        pthread_join(senders[s], NULL);
    pthread_join(retargeter, NULL);
    pthread_join(closer, NULL);

    /* What was set while a channel was closed obliges nobody: one signal each in the last generation. */
    struct vmb_sender last = sender_of(&partition);
    for (unsigned i = 1; i <= CHANNELS; i++)
        if (kind_of(i) == CLOSING)
            vmb_signal(&last, flag_of(i), flag_of(i));
    for (end = vmb_now_ns() + 10000000000ll; unseen() && vmb_now_ns() < end;)
        vmb_pause_ns(1000000);
    vmb_pause_ns(50000000);

    unsigned lost = unseen();
    __atomic_store_n(&workers_stop, 1, __ATOMIC_RELEASE);
    for (unsigned v = 0; v < VPS; v++) {
        vmb_doorbell_ring(&partition.bells[v]);
        pthread_join(workers[v], NULL);
        again += partition.work[v].left_again;
        sleeps_rung += partition.work[v].idle / 2;
    }
    for (unsigned i = 1; i <= CHANNELS; i++) {
        signals += channels[i].produced;
        callbacks += channels[i].callbacks;
        if (kind_of(i) == CREDIT)
            bad_credit += channels[i].callbacks != channels[i].signals;
    }
    printf("signals %llu callbacks %llu again %llu sleeps %llu retargets %llu closes %llu moved %llu\n",
           (unsigned long long)signals, (unsigned long long)callbacks, (unsigned long long)again,
           (unsigned long long)sleeps_rung, (unsigned long long)retargets, (unsigned long long)closes,
           (unsigned long long)moved);
    printf("lost %u overlaps %llu stale %llu wrong %llu uneven %llu\n", lost, (unsigned long long)overlaps,
           (unsigned long long)stale, (unsigned long long)wrong, (unsigned long long)bad_credit);
    int bad = lost || overlaps || stale || wrong || bad_credit || !signals || !closes || !retargets || !moved;
    partition_free(&partition);
    return bad;
}
