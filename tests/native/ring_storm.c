// SPDX-License-Identifier: MIT
/*
 * Two threads, one ring, signals only when the ring says so: for the thread sanitizer. `ring_storm SECONDS`.
 *
 * The payloads are plain memory that the indices alone may order. Each packet carries its number and as many bytes
 * made from it; the reader wants them all, in order, whole. Both ends sleep whenever the rules let them: a wake-up
 * that is missing shows as a wait that ends by its clock, and that is told as lost.
 */
#include <pthread.h>

#include "ring.h"

#define SIZE 4096u
#define LARGEST 900u
#define PATIENCE 5000000000ll /* ns: a wait that is not ended by a signal in this time never is */

static struct test_ring ring;
static sem_t semaphores[2];
static struct vmb_doorbell readers_bell = {.semaphore = &semaphores[0], .fd = -1};
static struct vmb_doorbell writers_bell = {.semaphore = &semaphores[1], .fd = -1};
static int64_t deadline;
static uint64_t last = UINT64_MAX; /* how many packets there are, once the writer knows */

static void lost(const char *what, uint64_t number)
{
    printf("lost: %s at packet %llu\n", what, (unsigned long long)number);
    exit(1);
}

static uint32_t size_of(uint64_t number) { return 8 + (uint32_t)(number * 2654435761u >> 7) % (LARGEST - 7); }

static void fill(uint8_t *payload, uint64_t number)
{
    memcpy(payload, &number, 8);
    memset(payload + 8, (int)(number * 31), size_of(number) - 8);
}

static void wait_for(struct vmb_doorbell *bell, const char *what, uint64_t number)
{
    if (vmb_doorbell_wait(bell, vmb_now_ns() + PATIENCE) != VMB_WAIT_RUNG)
        lost(what, number);
}

static void publish(void)
{
    if (vmb_writer_publish(&ring.w))
        vmb_doorbell_ring(&readers_bell);
}

static void *writer_main(void *nothing)
{
    uint8_t payload[LARGEST + 8];
    uint64_t number = 0;
    while (number % 64 || vmb_now_ns() < deadline) {
        fill(payload, number);
        while (ring_put(&ring, payload, size_of(number)) == VMB_RING_NOT_NOW) {
            publish();
            if (vmb_writer_ask(&ring.w, vmb_packet_total(0, size_of(number))) == VMB_RING_OK)
                continue;
            wait_for(&writers_bell, "the signal for room", number);
            vmb_writer_withdraw(&ring.w);
        }
        if (number++ % 3 == 0)
            publish();
    }
    publish();
    __atomic_store_n(&last, number, __ATOMIC_RELEASE);
    vmb_doorbell_ring(&readers_bell); /* the only ring that no rule asks for: there is an end to read up to */
    return nothing;
}

static void expect(uint64_t number, const uint8_t *payload, uint32_t size)
{
    uint8_t expected[LARGEST + 8];
    if (size != (size_of(number) + 7) / 8 * 8)
        lost("the length", number);
    fill(expected, number);
    if (memcmp(payload, expected, size_of(number)))
        lost("the payload", number);
}

static void commit(void)
{
    if (vmb_reader_commit(&ring.r))
        vmb_doorbell_ring(&writers_bell);
}

static uint64_t read_some(uint64_t number)
{
    static uint8_t copy[SIZE];
    struct vmb_span spans[32];
    struct vmb_packet packet = {0};
    uint32_t n = 0;
    int result;
    if (number % 5 < 3) {
        result = vmb_reader_get(&ring.r, copy, sizeof copy, &packet);
        if (result == VMB_RING_OK) {
            expect(number, copy, packet.size);
            n = 1;
        }
    } else {
        result = vmb_reader_take(&ring.r, copy, sizeof copy, spans, 32, &n);
        for (uint32_t i = 0; i < n; i++)
            expect(number + i, copy + spans[i].payload, spans[i].end - spans[i].payload);
    }
    if (result == VMB_RING_DEAD)
        lost("the ring", number);
    return n;
}

static uint64_t number_read, sleeps;

static void *reader_main(void *nothing)
{
    int signal;
    vmb_reader_mask(&ring.r);
    while (number_read < __atomic_load_n(&last, __ATOMIC_ACQUIRE)) {
        const uint64_t n = read_some(number_read);
        number_read += n;
        if (n) {
            if (number_read % 2)
                commit();
            continue;
        }
        const int rest = vmb_reader_rest(&ring.r, &signal);
        if (signal)
            vmb_doorbell_ring(&writers_bell);
        if (rest == VMB_RING_DEAD)
            lost("the ring", number_read);
        if (rest == VMB_RING_NOT_NOW && number_read < __atomic_load_n(&last, __ATOMIC_ACQUIRE)) {
            sleeps++;
            wait_for(&readers_bell, "the signal for a packet", number_read);
            vmb_reader_mask(&ring.r);
        }
    }
    return nothing;
}

int main(int argc, char **argv)
{
    const int64_t seconds = argc > 1 ? atoi(argv[1]) : 3;
    pthread_t writer, reader;

    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm((unsigned)seconds + 60);
    sem_init(&semaphores[0], 1, 0);
    sem_init(&semaphores[1], 1, 0);
    ring = ring_new(SIZE, 0);
    deadline = vmb_now_ns() + seconds * 1000000000;
    pthread_create(&writer, NULL, writer_main, NULL);
    pthread_create(&reader, NULL, reader_main, NULL);
    pthread_join(writer, NULL);
    pthread_join(reader, NULL);
    printf("%llu packets, %llu sleeps, %llu + %llu signals\n", (unsigned long long)number_read, (unsigned long long)sleeps,
           (unsigned long long)ring.w.signals, (unsigned long long)ring.r.signals);
    ring_free(&ring);
    return number_read == 0;
}
