// SPDX-License-Identifier: MIT
/*
 * A ring that the processes of two VPs write, in the order of vmbusd/abi/native_port.pxi: lock, slot, go on from the
 * last writer, put, publish, let go, signal. Every packet that was published is read once, and nobody sleeps on one.
 */
#include "ring_programs.h"

#include "observe.h"
#include "vmbus_requests.h"
#include "vmbus_ring_reader.h"
#include "vmbus_ring_writer.h"

#define PACKET 32u /* descriptor, payload, trailer */
#define ROOM (3 * PACKET)
#define BELL 2

static struct vmb_ring_writer writers[2];
static struct vmb_ring_reader reader;
static bool sent[2];
static unsigned received[2];

#define BLOCK (&arena.blocks[A])

void shared_ring(void)
{
    struct vmb_ring_page *page = &arena.ring.page;
    BLOCK->ring_writer = BLOCK->ring_write = BLOCK->ring_read = BLOCK->ring_lock = 0;
    memset(sent, 0, sizeof sent);
    memset(received, 0, sizeof received);
    for (unsigned i = 0; i < 2; i++) {
        vmb_writer_begin(&writers[i], page, arena.ring.data, ROOM, 0);
        writers[i].kept = &BLOCK->ring_write;
    }
    vmb_reader_begin(&reader, page, arena.ring.data, ROOM, 0);
    for (uint32_t at = 0; at < ROOM; at += 8)
        if (at % PACKET == 16)
            sched_track(&arena.ring.data[at / 8], "data");
        else
            sched_private(&arena.ring.data[at / 8]);
    sched_track(&page->write_index, "write_index");
    sched_track(&page->read_index, "read_index");
    sched_track(&page->interrupt_mask, "interrupt_mask");
    sched_private(&page->pending_send_sz);
    sched_track(&BLOCK->ring_lock, "ring lock");
    sched_track(&BLOCK->ring_writer, "last writer");
    sched_track(&BLOCK->ring_write, "kept index");
    sched_private(&BLOCK->claim);
    for (unsigned i = 0; i < 2; i++)
        sched_private(&arena.work[0].taken[i]);
}

static bool lock_is_free(void) { return !BLOCK->ring_lock; }

static void go_on_from_the_last(struct vmb_ring_writer *w, uint32_t owner)
{
    const uint32_t kept = VMB_LOAD("take_over.kept", &BLOCK->ring_write, VMB_RELAXED);
    if (VMB_LOAD("take_over.writer", &BLOCK->ring_writer, VMB_RELAXED) == owner && kept == w->published)
        return;
    const bool unsaid = VMB_LOAD("take_over.index", &arena.ring.page.write_index, VMB_RELAXED) != kept;
    if (vmb_writer_resync(w))
        sched_violation("I3: the writer finds the ring broken");
    VMB_STORE("take_over.done", &BLOCK->ring_writer, owner, VMB_RELAXED);
    if (unsaid)
        VMB_POST("signal reader", &bells[BELL]);
}

static void send_from(uint32_t vp)
{
    struct vmb_ring_writer *w = &writers[vp];
    const uint64_t number = vp + 1;
    while (!vmb_ring_lock(&BLOCK->ring_lock, vp + 1))
        sched_until("waits for the lock", lock_is_free);
    if (!vmb_ring_goes_on(&arena.table.slot[A], 1))
        sched_violation("I3: the channel is closed");
    go_on_from_the_last(w, vp + 1);
    if (vmb_writer_put(w, VMB_PACKET_IN_BAND, 0, 0, NULL, 0, &number, sizeof number))
        sched_violation("I3: there is room, and no packet fits");
    const int signal = vmb_writer_publish(w);
    vmb_ring_unlock(&BLOCK->ring_lock);
    if (signal)
        VMB_POST("signal reader", &bells[BELL]);
    sent[vp] = true;
}

void shared_writer_0(void) { send_from(0); }
void shared_writer_1(void) { send_from(1); }

void shared_reader(void)
{
    for (;;) {
        uint64_t number;
        struct vmb_packet packet;
        int signal, done;
        vmb_reader_mask(&reader);
        while ((done = vmb_reader_get(&reader, &number, sizeof number, &packet)) == VMB_RING_OK) {
            if (number - 1 > 1 || received[number - 1]++)
                sched_violation("I3: a packet is read as %llu", (unsigned long long)number);
        }
        if (done != VMB_RING_NOT_NOW || (done = vmb_reader_rest(&reader, &signal)) == VMB_RING_DEAD)
            sched_violation("I3: the reader finds the ring broken");
        if (done == VMB_RING_NOT_NOW)
            sched_wait("packet.wait", &bells[BELL]);
    }
}

static bool writer_0_is_dead(void) { return sched_dead(0); }

/* Of what recovery does only the lock matters here. Then the control process of the guest looks at the ring: what the
 * dead writer published it may not have signalled, and whoever writes after it finds the ring not empty. */
void recover_writer_0(void)
{
    struct vmb_ring ring = {.page = &arena.ring.page, .size = ROOM};
    sched_until_maybe("waits for a death", writer_0_is_dead);
    (void)vmb_recover_claims(0, arena.blocks, &arena.table);
    if (sched_mutant != MUTANT_ring_no_unstick && vmb_ring_stuck(&ring) & VMB_STUCK_READER)
        VMB_POST("unstick", &bells[BELL]);
}

void shared_ring_at_rest(void)
{
    if (arena.ring.page.write_index != reader.read)
        sched_violation("I1: the reader sleeps, %u packets read, and there is one more", received[0] + received[1]);
    for (unsigned i = 0; i < 2; i++)
        if (sent[i] && received[i] != 1)
            sched_violation("I1: packet %u was sent and is never read", i + 1);
    if (BLOCK->ring_lock)
        sched_violation("I4: the lock is held for ever");
}
