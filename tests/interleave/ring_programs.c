// SPDX-License-Identifier: MIT
/*
 * The real writer and reader of a ring of a few words, and what must hold: every packet is read, once and in order,
 * and nobody sleeps while there is something for him to do.
 *
 * A packet is one word of payload. Only the payload is a step: descriptor and trailer reach memory at once, which
 * hides no order that a payload would not show.
 */
#include "ring_programs.h"

#include "vmbus_ring_reader.h"
#include "vmbus_ring_writer.h"

#define PACKETS 3
#define PACKET 32u /* descriptor, payload, trailer */
#define SMALL (2 * PACKET + 8)

enum { READER_BELL, WRITER_BELL };

static struct vmb_ring_writer writer;
static struct vmb_ring_reader reader;
static unsigned received;
static bool all_sent;

static void begin(uint32_t size)
{
    struct vmb_ring_page *page = &arena.ring.page;
    /* While nothing is tracked yet, so that it is no step of anybody. */
    vmb_writer_begin(&writer, page, arena.ring.data, size, 0);
    vmb_reader_begin(&reader, page, arena.ring.data, size, 0);
    for (uint32_t at = 0; at < size; at += 8) {
        bool payload = at % PACKET == 16 || size == SMALL;
        if (payload)
            sched_track(&arena.ring.data[at / 8], "data");
        else
            sched_private(&arena.ring.data[at / 8]);
    }
    sched_track(&page->write_index, "write_index");
    sched_track(&page->read_index, "read_index");
    sched_track(&page->interrupt_mask, "interrupt_mask");
    sched_track(&page->pending_send_sz, "pending_send");
}

void ring_set_up(void) { begin((PACKETS + 1) * PACKET); }
void ring_set_up_small(void) { begin(SMALL); }

void ring_reset(void)
{
    memset(arena.ring.data, 0, sizeof arena.ring.data);
    vmb_ring_format(&arena.ring.page);
    received = 0;
    all_sent = false;
}

/* ---- the writer ---------------------------------------------------------------------------------------- */

static void put(uint64_t number)
{
    for (;;) {
        int done = vmb_writer_put(&writer, VMB_PACKET_IN_BAND, 0, 0, NULL, 0, &number, sizeof number);
        if (done == VMB_RING_NOT_NOW)
            done = vmb_writer_ask(&writer, PACKET);
        else if (done == VMB_RING_OK)
            return;
        if (done == VMB_RING_NOT_NOW) {
            sched_wait("room.wait", &bells[WRITER_BELL]);
            vmb_writer_withdraw(&writer);
        } else if (done != VMB_RING_OK) {
            sched_violation("I3: the writer finds the ring broken");
        }
    }
}

static void publish(void)
{
    if (vmb_writer_publish(&writer))
        VMB_POST("signal reader", &bells[READER_BELL]);
}

void ring_writer(void)
{
    for (uint64_t number = 1; number <= PACKETS; number++) {
        put(number);
        publish();
    }
    all_sent = true;
}

void ring_batch_writer(void)
{
    put(1);
    publish();
    put(2);
    put(3);
    publish();
    all_sent = true;
}

/* ---- the reader ---------------------------------------------------------------------------------------- */

static void give_back(int signal)
{
    if (signal)
        VMB_POST("signal writer", &bells[WRITER_BELL]);
}

static void take_all(bool eager)
{
    uint64_t number;
    struct vmb_packet packet;
    for (;;) {
        int done = vmb_reader_get(&reader, &number, sizeof number, &packet);
        if (done == VMB_RING_NOT_NOW)
            return;
        if (done != VMB_RING_OK)
            sched_violation("I3: the reader finds the ring broken");
        if (number != received + 1)
            sched_violation("I3: packet %u is read as %llu", received + 1, (unsigned long long)number);
        received++;
        if (eager)
            give_back(vmb_reader_commit(&reader));
    }
}

static void read_for_ever(bool eager)
{
    for (;;) {
        int signal;
        vmb_reader_mask(&reader);
        take_all(eager);
        int more = vmb_reader_rest(&reader, &signal);
        give_back(signal);
        if (more == VMB_RING_DEAD)
            sched_violation("I3: the reader finds the ring broken");
        if (more == VMB_RING_NOT_NOW)
            sched_wait("packet.wait", &bells[READER_BELL]);
    }
}

void ring_reader(void) { read_for_ever(false); }
void ring_eager_reader(void) { read_for_ever(true); }

/* ---- at rest ------------------------------------------------------------------------------------------- */

void ring_at_rest(void)
{
    if (arena.ring.page.write_index != reader.read)
        sched_violation("I1: the reader sleeps, %u packets read, and there is one more", received);
    if (!all_sent)
        sched_violation("I4: the writer waits for ever, %u packets read", received);
    if (received != PACKETS)
        sched_violation("I3: %u packets came", received);
}
