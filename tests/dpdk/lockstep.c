// SPDX-License-Identifier: MIT
/*
 * One random program on two rings: on one every call goes to DPDK's library, on the other to vmbus_ring.h.
 *
 *     lockstep STEPS SEED SIZE
 *
 * After each step the answers, the signal decisions, what was read and every byte of both rings must be the same.
 * Prints one line `steps N written N full N read N signals N room N`; exit status 1 and a line on standard error
 * at the first difference.
 */
#include "dpdk.h"
#include "payload.h"

#include "vmbus_ring_reader.h"
#include "vmbus_ring_writer.h"

#define EAGAIN_DPDK (-11)
#define ENOBUFS_DPDK (-105)

static uint64_t seed, step;
static struct dpdk_monitor monitor;
static struct dpdk_channel theirs;
static struct vmb_ring_writer writer;
static struct vmb_ring_reader reader;
static unsigned char *ring[2]; /* theirs, ours */
static uint32_t size;
static unsigned long long written, full, taken, signals, room;


#define DIFFER(...)                                                                                             \
    do {                                                                                                        \
        fprintf(stderr, "step %llu, seed %llu: ", (unsigned long long)step, (unsigned long long)seed);          \
        fprintf(stderr, __VA_ARGS__);                                                                           \
        fputc('\n', stderr);                                                                                    \
        exit(1);                                                                                                \
    } while (0)

static uint64_t draw(uint64_t below)
{
    static uint64_t count;
    return payload_mix(seed ^ payload_mix(++count)) % below;
}

static void compare_memory(void)
{
    if (!memcmp(ring[0], ring[1], DPDK_HEADER + size))
        return;
    for (uint32_t at = 0; at < DPDK_HEADER + size; at++)
        if (ring[0][at] != ring[1][at])
            DIFFER("byte %u is %#x by DPDK, %#x by us", at, ring[0][at], ring[1][at]);
}

static void set(uint32_t at, uint32_t value)
{
    for (unsigned i = 0; i < 2; i++)
        memcpy(ring[i] + at, &value, 4);
}

static void judge_write(int their_error, bool their_signal, int ours)
{
    bool their_room = their_error == 0, our_room = ours == VMB_RING_OK;
    if (their_error && their_error != EAGAIN_DPDK)
        DIFFER("DPDK says %d", their_error);
    if (their_room != our_room)
        DIFFER("a write ends with %d by DPDK, %d by us", their_error, ours);
    bool our_signal = our_room && vmb_writer_publish(&writer);
    if (their_signal != our_signal)
        DIFFER("a write signals %d by DPDK, %d by us", their_signal, our_signal);
    written += our_room;
    full += !our_room;
    signals += our_signal;
}

static void write_plain(void)
{
    static uint8_t data[PAYLOAD_LARGEST];
    uint32_t length = (uint32_t)(draw(8) ? draw(200) : draw(size < PAYLOAD_LARGEST ? size : PAYLOAD_LARGEST));
    uint16_t type = draw(2) ? DPDK_IN_BAND : DPDK_COMPLETION, flags = (uint16_t)draw(2);
    uint64_t id = draw(UINT64_MAX);
    bool signal = false;
    for (uint32_t at = 0; at < length; at++)
        data[at] = (uint8_t)(id >> at % 57);
    int error = rte_vmbus_chan_send(&theirs, type, data, length, id, flags, &signal);
    judge_write(error, signal, vmb_writer_put(&writer, type, flags, id, NULL, 0, data, length));
}

/* DPDK writes one page to a range. */
static void write_ranges(void)
{
    struct {
        uint32_t reserved, count;
        struct dpdk_gpa range[8];
    } extra = {0};
    uint8_t data[64] = {1, 2, 3};
    uint32_t length = (uint32_t)draw(sizeof data);
    uint64_t id = draw(UINT64_MAX);
    bool signal = false;
    extra.count = 1 + (uint32_t)draw(8);
    for (uint32_t i = 0; i < extra.count; i++)
        extra.range[i] = (struct dpdk_gpa){1 + (uint32_t)draw(4096), 0, draw(1 << 20)};
    int error = rte_vmbus_chan_send_sglist(&theirs, extra.range, extra.count, data, length, id, &signal);
    judge_write(error, signal,
                vmb_writer_put(&writer, VMB_PACKET_GPA_DIRECT, VMB_PACKET_COMPLETE, id, &extra,
                               8 + extra.count * sizeof extra.range[0], data, length));
}

static void read_one(void)
{
    static uint8_t data[2][PAYLOAD_LARGEST];
    struct vmb_packet packet = {0};
    uint32_t length = draw(16) ? PAYLOAD_LARGEST : (uint32_t)draw(64);
    uint32_t room_here = length;
    uint64_t id = 0;
    int error = rte_vmbus_chan_recv(&theirs, data[0], &length, &id);
    bool rang = dpdk_rang(&monitor);
    /* Our reader also wants room for the type header, which DPDK's leaves out. */
    int ours = vmb_reader_get(&reader, data[1], room_here < PAYLOAD_LARGEST ? room_here : sizeof data[1], &packet);
    if (ours == VMB_RING_SMALL && error == 0 && packet.extra)
        ours = vmb_reader_get(&reader, data[1], sizeof data[1], &packet);
    int expected = error == EAGAIN_DPDK ? VMB_RING_NOT_NOW : error == ENOBUFS_DPDK ? VMB_RING_SMALL : VMB_RING_OK;
    if (error && expected == VMB_RING_OK)
        DIFFER("DPDK says %d", error);
    if (ours != expected)
        DIFFER("a read ends with %d by DPDK, %d by us", error, ours);
    if (ours != VMB_RING_OK)
        return;
    if (packet.size != length || memcmp(data[0], data[1], length))
        DIFFER("%u bytes read by DPDK, %u others by us", length, packet.size);
    if (packet.id != id)
        DIFFER("transaction id %llu by DPDK, %llu by us", (unsigned long long)id, (unsigned long long)packet.id);
    bool wakes = vmb_reader_commit(&reader);
    if (wakes != rang)
        DIFFER("a read signals %d by DPDK, %d by us", rang, wakes);
    taken++;
    room += wakes;
}

static void change_header(void)
{
    switch (draw(4)) {
    case 0: set(8, (uint32_t)draw(2)); break;
    case 1: set(12, draw(2) ? (uint32_t)draw(size) : 0); break;
    case 2: set(12, size - 1); break;
    default: set(64, draw(4) ? 1 : 0); break;
    }
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: lockstep STEPS SEED SIZE\n");
        return 2;
    }
    uint64_t steps = strtoull(argv[1], NULL, 0);
    seed = strtoull(argv[2], NULL, 0);
    size = (uint32_t)strtoul(argv[3], NULL, 0);
    for (unsigned i = 0; i < 2; i++) {
        ring[i] = aligned_alloc(4096, DPDK_HEADER + size);
        memset(ring[i], 0, DPDK_HEADER + size);
        ring[i][64] = 1;
    }
    dpdk_channel_init(&theirs, ring[0], ring[0], size, &monitor);
    struct vmb_ring_page *page = (struct vmb_ring_page *)ring[1];
    vmb_writer_begin(&writer, page, ring[1] + DPDK_HEADER, size, 0);
    vmb_reader_begin(&reader, page, ring[1] + DPDK_HEADER, size, 0);
    for (step = 0; step < steps; step++) {
        /* Tides: for a while there is more to write, then more to read. */
        bool flood = step / 64 % 2;
        uint64_t what = draw(16);
        if (what < 2)
            change_header();
        else if (what < (flood ? 12 : 6))
            draw(8) ? write_plain() : write_ranges();
        else
            read_one();
        compare_memory();
    }
    printf("steps %llu written %llu full %llu read %llu signals %llu room %llu\n", (unsigned long long)steps, written,
           full, taken, signals, room);
    return 0;
}
