// SPDX-License-Identifier: MIT
/*
 * What the two ends of a ring do when nobody disturbs them. Numbers in comments are conformance cases.
 */
#include "ring.h"

#define SIZE 4096u

static void fill(uint8_t *bytes, uint32_t n, uint8_t first)
{
    for (uint32_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(first + i);
}

/* ---- one packet -------------------------------------------------------------------------------------------- */

static void layout_of_a_packet(void) /* 243, 244 */
{
    struct test_ring t = ring_new(4 * SIZE, 0);
    const uint8_t payload[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    const uint8_t expected[40] = {6, 0, 2, 0, 4, 0, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4,
                                  5, 6, 7, 8, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64};
    ring_move(&t, 64);
    memset(t.data + 64, 0xff, 40); /* what stood there before */
    CHECK(vmb_writer_put(&t.w, 6, 1, 3, NULL, 0, payload, 9) == VMB_RING_OK);
    CHECK(t.page->write_index == 64); /* 248: nothing to see yet */
    CHECK(vmb_writer_publish(&t.w) == 1);
    CHECK(t.page->write_index == 104 && memcmp(t.data + 64, expected, 40) == 0);
    ring_free(&t);
}

static void every_payload_at_every_place(void) /* 247, 251 */
{
    uint8_t payload[64], out[72];
    struct vmb_packet packet = {0};
    fill(payload, sizeof payload, 1);
    for (int mirrored = 0; mirrored < 2; mirrored++) {
        struct test_ring t = ring_new(SIZE, mirrored);
        for (uint32_t at = SIZE - 96; at != 96; at = (at + 8) % SIZE)
            for (uint32_t n = 0; n <= 40; n++) {
                ring_move(&t, at);
                CHECK(vmb_writer_put(&t.w, 11, 1, at, NULL, 0, payload, n) == VMB_RING_OK);
                CHECK(vmb_writer_publish(&t.w) == 1);
                CHECK(t.page->write_index == (at + 24 + (n + 7) / 8 * 8) % SIZE);
                memset(out, 0xee, sizeof out);
                CHECK(vmb_reader_get(&t.r, out, sizeof out, &packet) == VMB_RING_OK);
                CHECK(packet.size == (n + 7) / 8 * 8 && packet.type == 11 && packet.flags == 1 && packet.id == at);
                CHECK(memcmp(out, payload, n) == 0 && out[packet.size] == 0xee);
                for (uint32_t i = n; i < packet.size; i++)
                    CHECK(out[i] == 0);
                CHECK(t.page->read_index == at); /* 249 */
                CHECK(vmb_reader_commit(&t.r) == 0 && t.page->read_index == t.page->write_index);
                CHECK(vmb_reader_get(&t.r, out, sizeof out, &packet) == VMB_RING_NOT_NOW); /* 246 */
            }
        ring_free(&t);
    }
}

static void type_headers_come_behind_the_payload(void)
{
    const uint32_t gpa[8] = {0, 1, 8, 16, 0x1234, 0}; /* one range: 8 bytes at 16 of page 0x1234 */
    uint8_t out[64];
    struct vmb_packet packet = {0};
    for (int mirrored = 0; mirrored < 2; mirrored++) {
        struct test_ring t = ring_new(SIZE, mirrored);
        ring_move(&t, SIZE - 24); /* the type header wraps */
        CHECK(vmb_writer_put(&t.w, 9, 1, 7, gpa, 24, "payload", 7) == VMB_RING_OK);
        vmb_writer_publish(&t.w);
        CHECK(vmb_reader_get(&t.r, out, 31, &packet) == VMB_RING_SMALL && t.r.need == 32); /* 267 */
        CHECK(vmb_reader_get(&t.r, out, 32, &packet) == VMB_RING_OK);
        CHECK(packet.size == 8 && packet.extra == 24);
        CHECK(memcmp(out, "payload", 8) == 0 && memcmp(out + 8, gpa, 24) == 0);
        ring_free(&t);
    }
}

static void what_never_fits_is_not_full(void) /* 245, 266 */
{
    struct test_ring t = ring_new(4 * SIZE, 0);
    uint8_t payload[4 * SIZE] = {0};
    for (unsigned i = 0; i < 4; i++)
        CHECK(ring_put(&t, payload, 4000) == VMB_RING_OK);
    CHECK(ring_put(&t, payload, 4000) == VMB_RING_NOT_NOW && t.w.full == 1);
    CHECK(t.w.write == 4 * 4024);
    CHECK(ring_put(&t, payload, 4 * SIZE - 24) == VMB_RING_NEVER);
    CHECK(ring_put(&t, payload, SIZE_MAX) == VMB_RING_NEVER);
    CHECK(vmb_writer_put(&t.w, 9, 0, 0, payload, 12, payload, 1) == VMB_RING_NEVER); /* no multiple of 8 */
    vmb_writer_revert(&t.w); /* 248 */
    CHECK(t.w.write == 0 && vmb_writer_publish(&t.w) == 0 && t.page->write_index == 0);
    CHECK(ring_put(&t, payload, 4 * SIZE - 32) == VMB_RING_OK); /* all but 8 bytes */
    CHECK(ring_put(&t, payload, 0) == VMB_RING_NOT_NOW);
    ring_free(&t);
}

/* ---- signals ----------------------------------------------------------------------------------------------- */

static void only_the_first_packet_of_an_empty_ring_signals(void) /* 278, 279, 280 */
{
    struct test_ring t = ring_new(SIZE, 0);
    ring_put(&t, "a", 1);
    CHECK(vmb_writer_publish(&t.w) == 1);
    ring_put(&t, "b", 1);
    CHECK(vmb_writer_publish(&t.w) == 0);
    CHECK(vmb_writer_publish(&t.w) == 0); /* nothing new */
    ring_move(&t, t.page->write_index);
    ring_put(&t, "a", 1);
    ring_put(&t, "b", 1);
    CHECK(vmb_writer_publish(&t.w) == 1);
    ring_move(&t, t.page->write_index);
    vmb_reader_mask(&t.r);
    ring_put(&t, "c", 1);
    CHECK(vmb_writer_publish(&t.w) == 0);
    int signal;
    CHECK(vmb_reader_rest(&t.r, &signal) == VMB_RING_OK && t.page->interrupt_mask == 1); /* 287 */
    ring_free(&t);
}

static void only_the_crossing_commit_signals_room(void) /* 281, 282, 284 */
{
    for (uint32_t features = 0; features < 2; features++) {
        struct test_ring t = ring_new(SIZE, 0);
        uint8_t payload[1000] = {0}, out[1000];
        struct vmb_packet packet = {0};
        for (unsigned i = 0; i < 3; i++)
            ring_put(&t, payload, 1000);
        vmb_writer_publish(&t.w);
        t.page->feature_bits = features;
        CHECK(vmb_writer_ask(&t.w, 2048) == VMB_RING_NOT_NOW && t.page->pending_send_sz == 2048);
        for (unsigned i = 0; i < 3; i++) {
            CHECK(vmb_reader_get(&t.r, out, sizeof out, &packet) == VMB_RING_OK);
            CHECK(vmb_reader_commit(&t.r) == (features && i == 1)); /* exactly as much is not enough */
        }
        ring_free(&t);
    }
}

static void asking_looks_again(void) /* 288, 289, 290 */
{
    struct test_ring t = ring_new(SIZE, 0);
    uint8_t payload[SIZE - 32] = {0}, out[SIZE];
    struct vmb_packet packet = {0};
    CHECK(vmb_writer_ask(&t.w, SIZE - 8) == VMB_RING_OK && t.page->pending_send_sz == 0);
    CHECK(vmb_writer_ask(&t.w, SIZE) == VMB_RING_NEVER && vmb_writer_ask(&t.w, 0) == VMB_RING_NEVER);
    ring_put(&t, payload, sizeof payload);
    vmb_writer_publish(&t.w);
    CHECK(vmb_writer_ask(&t.w, 24) == VMB_RING_NOT_NOW && t.page->pending_send_sz == SIZE / 4);
    CHECK(vmb_ring_stuck(&t.w.ring) == VMB_STUCK_READER);
    vmb_reader_get(&t.r, out, sizeof out, &packet);
    t.page->read_index = t.r.read; /* a wake that was lost */
    CHECK(vmb_ring_stuck(&t.w.ring) == VMB_STUCK_WRITER); /* 296 */
    CHECK(vmb_writer_ask(&t.w, 24) == VMB_RING_OK && t.page->pending_send_sz == 0);
    CHECK(vmb_ring_stuck(&t.w.ring) == 0);
    ring_free(&t);
}

/* ---- batches ----------------------------------------------------------------------------------------------- */

static void a_batch_is_what_single_reads_are(void)
{
    struct random random = {7};
    for (unsigned round = 0; round < 400; round++) {
        struct test_ring t = ring_new(2 * SIZE, round % 2);
        uint8_t payload[1200], one[1200], copy[2 * SIZE];
        struct vmb_span spans[64], viewed[64];
        struct vmb_packet packet = {0};
        uint32_t n, m, total;
        ring_move(&t, (uint32_t)random_next(&random) % (2 * SIZE) & ~7u);
        for (unsigned i = 0; i < 64; i++) {
            fill(payload, sizeof payload, (uint8_t)i);
            if (ring_put(&t, payload, random_next(&random) % (round % 4 ? 100 : 1200)))
                break;
        }
        vmb_writer_publish(&t.w);
        const uint32_t limit = 1 + (uint32_t)random_next(&random) % 64;
        const uint32_t room = 1300 + (uint32_t)random_next(&random) % (2 * SIZE - 1300);
        CHECK(vmb_reader_take(&t.r, copy, room, spans, limit, &n) == VMB_RING_OK && n >= 1 && n <= limit);
        const uint32_t after = t.r.read;
        vmb_reader_revert(&t.r); /* 250 */
        if (t.mirrored) {
            CHECK(vmb_reader_view(&t.r, room, viewed, limit, &m, &total) == VMB_RING_OK && m == n);
            CHECK(t.r.read == after && memcmp(viewed, spans, n * sizeof *spans) == 0);
            CHECK(memcmp(copy, t.data + t.page->read_index, spans[n - 1].end) == 0);
            vmb_reader_revert(&t.r);
        }
        for (uint32_t i = 0; i < n; i++) {
            CHECK(vmb_reader_get(&t.r, one, sizeof one, &packet) == VMB_RING_OK);
            CHECK(packet.size == spans[i].end - spans[i].payload && spans[i].end <= room);
            CHECK(memcmp(one, copy + spans[i].payload, packet.size) == 0);
        }
        CHECK(t.r.read == after && t.r.taken == n);
        ring_free(&t);
    }
}

static void a_batch_that_is_too_small_takes_nothing(void)
{
    struct test_ring t = ring_new(SIZE, 0);
    uint8_t payload[200] = {0}, copy[SIZE];
    struct vmb_span spans[2];
    uint32_t n;
    CHECK(vmb_reader_take(&t.r, copy, SIZE, spans, 2, &n) == VMB_RING_NOT_NOW);
    ring_put(&t, payload, 200);
    vmb_writer_publish(&t.w);
    CHECK(vmb_reader_take(&t.r, copy, 215, spans, 2, &n) == VMB_RING_SMALL && t.r.need == 216 && t.r.read == 0);
    CHECK(vmb_reader_take(&t.r, copy, 8, spans, 2, &n) == VMB_RING_SMALL && t.r.need == 16);
    CHECK(vmb_reader_take(&t.r, copy, 216, spans, 0, &n) == VMB_RING_NOT_NOW);
    CHECK(vmb_reader_take(&t.r, copy, 216, spans, 2, &n) == VMB_RING_OK && n == 1);
    ring_free(&t);
}

/* ---- corruption -------------------------------------------------------------------------------------------- */

struct wrong {
    uint16_t type, offset8, len8, flags;
    uint32_t there; /* bytes up to write_index */
    uint32_t field;
};

static const struct wrong wrongs[] = {
    {6, 2, 3, 0, 8, VMB_FIELD_AVAILABLE}, {6, 2, 2, 0, 16, VMB_FIELD_AVAILABLE}, /* 261 */
    {6, 1, 3, 0, 32, VMB_FIELD_OFFSET8},  {6, 4, 3, 0, 32, VMB_FIELD_OFFSET8},   /* 259 */
    {6, 2, 4, 0, 32, VMB_FIELD_LEN8},     {6, 2, 0xffff, 0, 32, VMB_FIELD_LEN8}, /* 259, 260 */
    {6, 2, 5, 0, 32, VMB_FIELD_LEN8},     {6, 2, 0, 0, 32, VMB_FIELD_OFFSET8},
    {0, 2, 3, 0, 32, VMB_FIELD_TYPE},     {8, 2, 3, 0, 32, VMB_FIELD_TYPE}, /* 262 */
    {38, 2, 3, 0, 32, VMB_FIELD_TYPE},    {0xffff, 2, 3, 0, 32, VMB_FIELD_TYPE},
    {6, 2, 3, 2, 32, VMB_FIELD_FLAGS},    {6, 2, 3, 0x8001, 32, VMB_FIELD_FLAGS},
    {7, 2, 3, 0, 32, VMB_FIELD_EXTRA},    {9, 2, 3, 1, 32, VMB_FIELD_EXTRA}, /* 263 */
    {9, 3, 3, 1, 32, VMB_FIELD_RANGE_COUNT},
};

static void each_wrong_field_kills_with_its_name(void)
{
    for (unsigned i = 0; i < sizeof wrongs / sizeof *wrongs; i++)
        for (unsigned way = 0; way < 3; way++) {
            const struct wrong *wrong = &wrongs[i];
            struct test_ring t = ring_new(SIZE, way == 2);
            const struct vmb_descriptor head = {wrong->type, wrong->offset8, wrong->len8, wrong->flags, 1};
            uint8_t out[SIZE];
            char text[200];
            struct vmb_packet packet = {0};
            struct vmb_span spans[4];
            uint32_t n, total;
            memcpy(t.data, &head, sizeof head);
            t.page->write_index = wrong->there;
            for (unsigned again = 0; again < 2; again++) { /* dead stays dead */
                const int result = way == 0   ? vmb_reader_get(&t.r, out, sizeof out, &packet)
                                   : way == 1 ? vmb_reader_take(&t.r, out, sizeof out, spans, 4, &n)
                                              : vmb_reader_view(&t.r, SIZE, spans, 4, &n, &total);
                CHECK(result == VMB_RING_DEAD && t.r.ring.fault.field == wrong->field);
            }
            CHECK(t.r.read == 0 && t.page->read_index == 0); /* 259 */
            CHECK(vmb_fault_text(&t.r.ring.fault, text, sizeof text) < (int)sizeof text);
            ring_free(&t);
        }
}

static void wild_indices_kill_whoever_loads_them(void) /* 258 */
{
    static const uint32_t wild[] = {SIZE, SIZE + 8, 4, 1, 0xfffffff8, 0xffffffff};
    uint8_t out[64];
    struct vmb_packet packet = {0};
    int signal;
    for (unsigned i = 0; i < sizeof wild / sizeof *wild; i++) {
        struct test_ring t = ring_new(SIZE, 0);
        t.page->write_index = wild[i];
        CHECK(vmb_reader_get(&t.r, out, sizeof out, &packet) == VMB_RING_DEAD);
        CHECK(t.r.ring.fault.field == VMB_FIELD_WRITE_INDEX && t.r.ring.fault.value == wild[i]);
        CHECK(vmb_reader_rest(&t.r, &signal) == VMB_RING_DEAD && vmb_reader_resync(&t.r) == VMB_RING_DEAD);
        CHECK(ring_begin(&t) == VMB_RING_DEAD && vmb_ring_stuck(&t.w.ring) == 0);
        t.page->write_index = 0;
        ring_begin(&t);
        ring_put(&t, "x", 1);
        t.page->read_index = wild[i];
        CHECK(vmb_writer_publish(&t.w) == 0 && t.w.ring.fault.field == VMB_FIELD_READ_INDEX);
        CHECK(ring_put(&t, "x", 1) == VMB_RING_DEAD && vmb_writer_ask(&t.w, 24) == VMB_RING_DEAD);
        ring_free(&t);
    }
}

static void sound_packets_before_a_bad_one_are_delivered(void)
{
    struct test_ring t = ring_new(SIZE, 0);
    uint8_t copy[SIZE];
    struct vmb_span spans[8];
    uint32_t n;
    for (unsigned i = 0; i < 3; i++)
        ring_put(&t, "12345678", 8);
    vmb_writer_publish(&t.w);
    t.data[2 * 32] = 99; /* the third packet's type */
    CHECK(vmb_reader_take(&t.r, copy, SIZE, spans, 8, &n) == VMB_RING_OK && n == 2);
    CHECK(vmb_reader_take(&t.r, copy, SIZE, spans, 8, &n) == VMB_RING_DEAD && n == 0);
    CHECK(t.r.ring.fault.field == VMB_FIELD_TYPE && t.r.ring.fault.at == 64 && t.r.ring.fault.value == 99);
    CHECK(vmb_reader_commit(&t.r) == 0 && t.page->read_index == 64); /* what was read can still be given back */
    ring_free(&t);
}

static const struct test tests[] = {
    {"a packet is descriptor, payload, padding and trailer, seen once published", layout_of_a_packet},
    {"every payload comes back from every place around the end", every_payload_at_every_place},
    {"a type header comes behind the payload; a small buffer takes nothing", type_headers_come_behind_the_payload},
    {"what never fits is an error, what does not fit now is full", what_never_fits_is_not_full},
    {"only the first packets of an empty unmasked ring signal", only_the_first_packet_of_an_empty_ring_signals},
    {"only the commit that crosses the writer's need signals room", only_the_crossing_commit_signals_room},
    {"asking for room looks again, for a quarter of the ring at least", asking_looks_again},
    {"a batch and a view are what single reads are", a_batch_is_what_single_reads_are},
    {"a batch without room for one packet says how much it needs", a_batch_that_is_too_small_takes_nothing},
    {"each wrong field kills the ring with its name", each_wrong_field_kills_with_its_name},
    {"wild indices kill the ring of whoever loads them", wild_indices_kill_whoever_loads_them},
    {"sound packets before a bad one are delivered", sound_packets_before_a_bad_one_are_delivered},
};

int main(void) { return check_all(tests, sizeof tests / sizeof *tests); }
