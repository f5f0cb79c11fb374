// SPDX-License-Identifier: MIT
/*
 * Both ends of a ring against somebody who writes anything anywhere, also between check and copy: for the address
 * sanitizer. `ring_hostile SECONDS`.
 *
 * A writer and a reader use their end as the library does; a scribbler owns the same memory and spoils indices,
 * descriptors and type headers with values that mean something. Whatever it does: no end touches a byte outside the
 * ring or its own buffers, each answer is one of those promised, a dead ring stays dead until it is begun anew.
 */
#include <pthread.h>

#include "ring.h"

#define SIZE 4096u
#define ROOM 600u

enum role { WRITER, READER, SCRIBBLER, ROLES };
static const char *const role_names[] = {"writer", "reader", "scribbler"};

static struct test_ring ring;
static uint64_t turns[ROLES], deaths[ROLES], packets;
static int stop;

static int go_on(enum role role)
{
    __atomic_store_n(&turns[role], turns[role] + 1, __ATOMIC_RELAXED);
    return !__atomic_load_n(&stop, __ATOMIC_RELAXED);
}

static void must(int condition, const char *what)
{
    if (!condition) {
        printf("lost: %s\n", what);
        abort();
    }
}

/* Indices that a new open accepts, with much to read between them; the scribbler may spoil them at once. */
static void heal(void)
{
    __atomic_store_n(&ring.page->read_index, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&ring.page->write_index, SIZE - 8u, __ATOMIC_RELAXED);
}

static void *writer_main(void *nothing)
{
    struct random r = {11};
    struct vmb_ring_writer w;
    uint8_t *payload = zeroed(ROOM);
    while (vmb_writer_begin(&w, ring.page, ring.data, SIZE, ring.mirrored))
        heal();
    while (go_on(WRITER)) {
        const uint64_t choice = random_next(&r);
        const int result = vmb_writer_put(&w, choice & 1 ? 6 : 9, 0, choice, payload, choice & 1 ? 0 : 24, payload,
                                          choice >> 8 & 511);
        must(result == VMB_RING_OK || result == VMB_RING_NOT_NOW || result == VMB_RING_DEAD, "an answer of put");
        must(w.write < SIZE && w.write % 8 == 0 && w.read_seen < SIZE && w.read_seen % 8 == 0, "a sound index");
        if (choice % 4 == 0)
            (void)vmb_writer_publish(&w);
        if (result == VMB_RING_NOT_NOW && vmb_writer_ask(&w, 24 + (uint32_t)(choice >> 8 & 511)) == VMB_RING_NOT_NOW)
            vmb_writer_withdraw(&w);
        if (!w.ring.fault.field)
            continue;
        must(ring_put(&(struct test_ring){.w = w}, payload, 1) == VMB_RING_DEAD, "a dead ring stays dead");
        deaths[WRITER]++;
        while (vmb_writer_begin(&w, ring.page, ring.data, SIZE, ring.mirrored))
            heal();
    }
    free(payload);
    return nothing;
}

static int read_somehow(struct vmb_ring_reader *r, uint64_t choice)
{
    const uint32_t room = 1 + (uint32_t)(choice >> 16) % ROOM;
    uint8_t *out = malloc(room); /* alone: one byte beyond is a finding */
    struct vmb_span spans[16];
    struct vmb_packet packet = {0};
    uint32_t n = 0, total;
    int result;
    if (choice % 3 == 0) {
        result = vmb_reader_get(r, out, room, &packet);
        must(result != VMB_RING_OK || packet.size + packet.extra <= room, "a payload fits the buffer");
        n = result == VMB_RING_OK;
    } else if (choice % 3 == 1) {
        result = vmb_reader_take(r, out, room, spans, 16, &n);
        for (uint32_t i = 0; i < n; i++)
            must(spans[i].payload <= spans[i].end && spans[i].end <= room, "a span lies in the buffer");
    } else {
        result = vmb_reader_view(r, SIZE, spans, 16, &n, &total);
        for (uint32_t i = 0; i < n; i++)
            must(spans[i].payload <= spans[i].end && spans[i].end < SIZE, "a span lies in the ring");
    }
    packets += n;
    if (result == VMB_RING_SMALL && choice % 3 < 2)
        must(r->need > room, "what is too small says so");
    free(out);
    return result;
}

static void *reader_main(void *nothing)
{
    struct random random = {13};
    struct vmb_ring_reader r;
    int signal;
    while (vmb_reader_begin(&r, ring.page, ring.data, SIZE, ring.mirrored))
        heal();
    while (go_on(READER)) {
        const uint64_t choice = random_next(&random);
        const int result = read_somehow(&r, choice);
        must(result >= VMB_RING_OK && result <= VMB_RING_DEAD && result != VMB_RING_NEVER, "an answer of a read");
        must(r.read < SIZE && r.read % 8 == 0 && r.committed < SIZE, "a sound index");
        if (choice >> 40 & 1)
            (void)vmb_reader_commit(&r);
        if (result == VMB_RING_NOT_NOW)
            (void)vmb_reader_rest(&r, &signal);
        (void)vmb_ring_stuck(&(struct vmb_ring){.page = ring.page, .data = ring.data, .size = SIZE});
        if (!r.ring.fault.field && result != VMB_RING_SMALL)
            continue;
        deaths[READER] += r.ring.fault.field != 0;
        while (vmb_reader_begin(&r, ring.page, ring.data, SIZE, ring.mirrored))
            heal();
    }
    return nothing;
}

/* Sound lengths for the most part, so that a reader gets past the check and meets the next change inside. */
static uint16_t spoilt_length(uint64_t v)
{
    static const uint16_t odd[] = {0, 1, 0xffff, 511, 512, 0x8000};
    return v % 16 ? (uint16_t)(2 + (v >> 4) % 70) : odd[(v >> 4) % 6];
}

static void spoil_header(uint64_t v)
{
    const uint32_t at = (uint32_t)(v >> 20) % SIZE & ~7u;
    switch (v % 8) {
    case 0: *(volatile uint32_t *)&ring.page->write_index = v & 64 ? at : (uint32_t)(v >> 30); break;
    case 1: *(volatile uint32_t *)&ring.page->read_index = v & 64 ? at : (uint32_t)(v >> 30); break;
    case 2: *(volatile uint32_t *)&ring.page->pending_send_sz = (uint32_t)(v >> 30) & 8191; break;
    case 3: *(volatile uint32_t *)&ring.page->interrupt_mask = v >> 30 & 1; break;
    case 4: *(volatile uint32_t *)&ring.page->feature_bits = v >> 30 & 1; break;
    default: *(volatile uint32_t *)&ring.page->write_index = at; break;
    }
}

/* A descriptor and the count of a type header, half of them just where the reader is. */
static void spoil_packet(uint64_t v, struct random *r)
{
    static const uint16_t types[] = {6, 6, 6, 6, 11, 11, 7, 9, 9, 8, 0xffff, 6, 6, 6, 6, 6};
    const uint32_t read = __atomic_load_n(&ring.page->read_index, __ATOMIC_RELAXED);
    const uint32_t at = v & 1 && read < SIZE ? read & ~7u : (uint32_t)(v >> 20) % SIZE & ~7u;
    volatile uint16_t *head = (volatile uint16_t *)(ring.data + at);
    head[0] = types[v >> 8 & 15];
    head[1] = v & 14 ? (uint16_t)(2 + (head[0] == 9 || head[0] == 7)) : spoilt_length(random_next(r));
    head[3] = v >> 12 & 1;
    for (unsigned i = 0; i < 8; i++) /* the length again and again: between check and copy */
        head[2] = spoilt_length(random_next(r));
    *(volatile uint64_t *)(ring.data + (at + 16) % SIZE) = v >> 13 & 3 ? v : 0;
}

static void *scribbler_main(void *nothing)
{
    struct random r = {17};
    while (go_on(SCRIBBLER))
        for (unsigned i = 0; i < 64; i++) {
            const uint64_t v = random_next(&r);
            if (i % 32 == 0)
                spoil_header(v);
            else
                spoil_packet(v, &r);
        }
    return nothing;
}

static void attack(int mirrored, int64_t seconds)
{
    void *(*const mains[ROLES])(void *) = {writer_main, reader_main, scribbler_main};
    pthread_t threads[ROLES];
    uint64_t before[ROLES];
    ring = ring_new(SIZE, mirrored);
    __atomic_store_n(&stop, 0, __ATOMIC_RELAXED);
    memcpy(before, turns, sizeof before);
    for (unsigned role = 0; role < ROLES; role++)
        pthread_create(&threads[role], NULL, mains[role], NULL);
    vmb_pause_ns(seconds * 1000000000);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (unsigned role = 0; role < ROLES; role++)
        pthread_join(threads[role], NULL);
    for (unsigned role = 0; role < ROLES; role++)
        if (turns[role] - before[role] < 100) {
            printf("hangs: %s\n", role_names[role]);
            abort();
        }
    ring_free(&ring);
}

int main(int argc, char **argv)
{
    const int64_t seconds = argc > 1 ? atoi(argv[1]) : 4;
    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm((unsigned)seconds + 60);
    attack(0, (seconds + 1) / 2);
    attack(1, (seconds + 1) / 2);
    printf("writer %llu turns %llu deaths, reader %llu turns %llu deaths, %llu packets\n",
           (unsigned long long)turns[WRITER], (unsigned long long)deaths[WRITER], (unsigned long long)turns[READER],
           (unsigned long long)deaths[READER], (unsigned long long)packets);
    return packets == 0 || deaths[WRITER] == 0 || deaths[READER] == 0;
}
