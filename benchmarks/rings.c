// SPDX-License-Identifier: MIT
/*
 * Rings in C alone: the floor of what Python can reach, and beside it DPDK's library on the same memory.
 *
 *   rings WAY SIZE COUNT          one process puts and takes COUNT payloads of SIZE bytes:   ns per packet
 *   rings WAY SIZE COUNT CORE CORE  two processes, one puts, the other takes, both poll:     ns per packet
 *   rings trip SIZE COUNT CORE CORE  two processes and two rings, one asks, the other completes: ns per round trip
 *
 * WAY: `single` (a publication and a commit for each packet), `batch` (as many as BATCH packets in about
 * BATCH_BYTES), `copy` (memcpy in, memcpy out, nothing else), `dpdk` (rte_vmbus_chan_send and _recv; only in a
 * build with -DWITH_DPDK and the library). Prints one number; the process ends itself after LIMIT seconds whatever happens.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "vmbus_doorbell.h"
#include "vmbus_ring_map.h"
#include "vmbus_ring_reader.h"
#include "vmbus_ring_writer.h"
#ifdef WITH_DPDK
#include "../tests/dpdk/dpdk.h"
#endif

#define LIMIT 60u
#define LOOKS 256u /* in vain, before the processor is offered: on a crowded machine to the other end */
#define DATA (128u * VMB_PAGE) /* 512 KiB: what netvsc asks for, and half of a second-level cache */
#define BATCH 256u
#ifndef BATCH_BYTES
#define BATCH_BYTES 16384u /* half of a first-level cache: a larger batch is copied to farther memory */
#endif

static struct vmb_ring_mapping ring, back;
static uint8_t *payload, *taken, *middle;
/* Both begin together, and the other one says when it was done: neither its fork nor its end is measured. */
static struct {
    int ready, go;
    int64_t done;
} *notes;
static uint32_t size;
static uint32_t batch;

static void fail(const char *what)
{
    fprintf(stderr, "rings: %s\n", what);
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

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void *memory(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (at == MAP_FAILED)
        fail("mmap");
    return at;
}

static void make_ring(struct vmb_ring_mapping *made)
{
    uint64_t pfns[1 + DATA / VMB_PAGE];
    const int fd = memfd_create("ring", 0);
    for (unsigned i = 0; i < sizeof pfns / sizeof *pfns; i++)
        pfns[i] = i;
    if (fd < 0 || ftruncate(fd, sizeof pfns / sizeof *pfns * VMB_PAGE) ||
        vmb_ring_map(made, fd, pfns, sizeof pfns / sizeof *pfns))
        fail("ring");
    memset(made->base, 0, made->length);
    vmb_ring_format((struct vmb_ring_page *)made->base);
}

/* One end: moves as many packets as it can now, at most `most`. Returns how many. */
typedef unsigned (*end_turn)(unsigned most);
static struct vmb_ring_writer w;
static struct vmb_ring_reader r;

static unsigned put_batch(unsigned most)
{
    unsigned n = 0;
    while (n < most && vmb_writer_put(&w, VMB_PACKET_IN_BAND, 0, 0, NULL, 0, payload, size) == VMB_RING_OK)
        n++;
    (void)vmb_writer_publish(&w);
    return n;
}

static unsigned put_single(unsigned most)
{
    unsigned n = 0;
    while (n < most && vmb_writer_put(&w, VMB_PACKET_IN_BAND, 0, 0, NULL, 0, payload, size) == VMB_RING_OK) {
        (void)vmb_writer_publish(&w);
        n++;
    }
    return n;
}

static unsigned take_batch(unsigned most)
{
    static struct vmb_span spans[BATCH];
    uint32_t n;
    (void)vmb_reader_take(&r, taken, DATA, spans, most, &n);
    (void)vmb_reader_commit(&r);
    return n;
}

static unsigned take_single(unsigned most)
{
    struct vmb_packet packet;
    unsigned n = 0;
    while (n < most && vmb_reader_get(&r, taken, DATA, &packet) == VMB_RING_OK) {
        (void)vmb_reader_commit(&r);
        n++;
    }
    return n;
}

/* memcpy alone goes through the same amount of memory as a ring would, without an index. */
static uint32_t copy_in, copy_out;
static unsigned put_copy(unsigned most)
{
    for (unsigned n = 0; n < most; n++, copy_in = copy_in + 2 * size > DATA ? 0 : copy_in + size)
        memcpy(middle + copy_in, payload, size);
    return most;
}

static unsigned take_copy(unsigned most)
{
    for (unsigned n = 0; n < most; n++, copy_out = copy_out + 2 * size > DATA ? 0 : copy_out + size) {
        memcpy(taken, middle + copy_out, size);
        __asm__ volatile("" ::: "memory");
    }
    return most;
}

#ifdef WITH_DPDK
static struct dpdk_channel channel;
static struct dpdk_monitor monitor;

static unsigned put_dpdk(unsigned most)
{
    unsigned n = 0;
    bool signal;
    while (n < most && rte_vmbus_chan_send(&channel, DPDK_IN_BAND, payload, size, 0, 0, &signal) == 0)
        n++;
    return n;
}

static unsigned take_dpdk(unsigned most)
{
    unsigned n = 0;
    for (; n < most; n++) {
        uint32_t length = DATA;
        uint64_t id;
        if (rte_vmbus_chan_recv(&channel, taken, &length, &id))
            break;
    }
    return n;
}
#endif

struct way {
    const char *name;
    end_turn put, take;
};

static const struct way ways[] = {
    {"single", put_single, take_single}, {"batch", put_batch, take_batch}, {"copy", put_copy, take_copy},
#ifdef WITH_DPDK
    {"dpdk", put_dpdk, take_dpdk},
#endif
    {0}};

static void writes(struct vmb_ring_mapping *to)
{
    vmb_writer_begin(&w, (struct vmb_ring_page *)to->base, to->base + VMB_PAGE, to->size, 1);
}

static void reads(struct vmb_ring_mapping *from)
{
    vmb_reader_begin(&r, (struct vmb_ring_page *)from->base, from->base + VMB_PAGE, from->size, 1);
}

static void begin(void)
{
    writes(&ring);
    reads(&ring);
#ifdef WITH_DPDK
    dpdk_channel_init(&channel, ring.base, ring.base, DATA, &monitor);
#endif
}

static void in_vain(void)
{
    static unsigned looks;
    if (++looks % LOOKS)
        relax();
    else
        sched_yield();
}

static void move(end_turn turn, uint64_t count)
{
    while (count) {
        const unsigned n = turn(count < batch ? (unsigned)count : batch);
        count -= n;
        if (!n)
            in_vain();
    }
}

/* One process in turns: what the instructions cost, without the way from core to core. */
static double alone(const struct way *way, uint64_t count)
{
    const int64_t begun = vmb_now_ns();
    for (uint64_t done = 0; done < count; done += batch) {
        move(way->put, batch);
        move(way->take, batch);
    }
    return (double)(vmb_now_ns() - begun) / (double)count;
}

static void take_all(const struct way *way, uint64_t count) { move(way->take, count); }

static void put_all(const struct way *way, uint64_t count)
{
    writes(&ring);
    move(way->put, count);
}

/* One packet at a time, there and back. */
static void put_one(uint16_t type, uint16_t flags, uint64_t id)
{
    while (vmb_writer_put(&w, type, flags, id, NULL, 0, payload, size) != VMB_RING_OK)
        in_vain();
    (void)vmb_writer_publish(&w);
}

static struct vmb_packet take_one(void)
{
    struct vmb_packet packet;
    while (vmb_reader_get(&r, taken, DATA, &packet) != VMB_RING_OK)
        in_vain();
    (void)vmb_reader_commit(&r);
    return packet;
}

static void complete_all(const struct way *way, uint64_t count)
{
    (void)way;
    writes(&back);
    while (count--)
        put_one(VMB_PACKET_COMPLETION, 0, take_one().id);
}

static void ask_all(const struct way *way, uint64_t count)
{
    (void)way;
    reads(&back);
    while (count--) {
        put_one(VMB_PACKET_IN_BAND, 1, count + 1);
        (void)take_one();
    }
}

/* The first process does `one` on its core, the other `other`; until the other is done. */
static double together(const struct way *way, uint64_t count, const int *core,
                       void (*one)(const struct way *, uint64_t), void (*other)(const struct way *, uint64_t))
{
    int status;
    const pid_t child = fork();
    if (child == 0) {
        alarm(LIMIT);
        pin(core[1]);
        __atomic_store_n(&notes->ready, 1, __ATOMIC_SEQ_CST);
        while (!__atomic_load_n(&notes->go, __ATOMIC_SEQ_CST))
            in_vain();
        other(way, count);
        notes->done = vmb_now_ns();
        _exit(0);
    }
    pin(core[0]);
    while (child > 0 && !__atomic_load_n(&notes->ready, __ATOMIC_SEQ_CST))
        sched_yield();
    const int64_t begun = vmb_now_ns();
    __atomic_store_n(&notes->go, 1, __ATOMIC_SEQ_CST);
    one(way, count);
    const int64_t ended = vmb_now_ns();
    if (child < 0 || waitpid(child, &status, 0) != child || status)
        fail("the other process");
    return (double)((notes->done > ended ? notes->done : ended) - begun) / (double)count;
}

int main(int argc, char **argv)
{
    if (argc != 4 && argc != 6)
        fail("WAY SIZE COUNT [CORE CORE]");
    alarm(LIMIT);
    const int trip = argc == 6 && !strcmp(argv[1], "trip");
    const struct way *way = ways;
    while (way->name && strcmp(way->name, argv[1]))
        way++;
    size = (uint32_t)atoi(argv[2]);
    if ((!way->name && !trip) || !size || size > DATA / 4)
        fail("no such way or size");
    batch = BATCH_BYTES / (size + VMB_PACKET_LEAST);
    batch = batch > BATCH ? BATCH : batch ? batch : 1;
    const uint64_t count = (strtoull(argv[3], NULL, 10) + batch - 1) / batch * batch;
    payload = memory(DATA);
    taken = memory(DATA);
    middle = memory(DATA);
    notes = memory(VMB_PAGE);
    make_ring(&ring);
    make_ring(&back);
    begin();
    if (argc == 4) {
        alone(way, batch * 16);
        printf("%.2f\n", alone(way, count));
    } else {
        const int core[2] = {atoi(argv[4]), atoi(argv[5])};
        printf("%.2f\n", trip ? together(way, count, core, ask_all, complete_all)
                              : together(way, count, core, put_all, take_all));
    }
    return 0;
}
