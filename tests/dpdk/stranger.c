// SPDX-License-Identifier: MIT
/*
 * The other end of a ring, played by DPDK's library in a process of its own, at full speed.
 *
 *     stranger send|receive FILE SIZE COUNT SEED LARGEST
 *
 * FILE holds one ring, a header page and SIZE bytes of data. `send` writes COUNT packets of random sizes up to LARGEST, `receive` takes COUNT packets and checks them: a
 * packet's bytes follow from its number and SEED. DPDK rings nobody here: its signal decisions are counted and printed,
 * the peer polls.
 * Prints one line `packets N bytes N signals N seconds S`; exit status 1 and a line on standard error if a packet is
 * not what it must be.
 */
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "dpdk.h"
#include "payload.h"

static struct dpdk_monitor monitor;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void give_way(unsigned turns)
{
    if (turns % 64 == 0)
        sched_yield();
    else
        __builtin_ia32_pause();
}

static unsigned long long send_all(struct dpdk_channel *channel, uint64_t count, uint64_t seed, uint32_t largest,
                                   unsigned long long *bytes)
{
    static uint8_t packet[PAYLOAD_LARGEST];
    unsigned long long signals = 0;
    for (uint64_t number = 0; number < count; number++) {
        uint32_t size = payload_make(packet, seed, number, largest);
        for (unsigned turns = 1;; turns++) {
            bool signal = false;
            if (rte_vmbus_chan_send(channel, DPDK_IN_BAND, packet, size, number, 0, &signal) == 0) {
                signals += signal;
                break;
            }
            give_way(turns);
        }
        *bytes += size;
    }
    return signals;
}

static unsigned long long receive_all(struct dpdk_channel *channel, uint64_t count, uint64_t seed, uint32_t largest,
                                      unsigned long long *bytes)
{
    static uint8_t packet[PAYLOAD_LARGEST];
    unsigned long long signals = 0;
    for (uint64_t number = 0; number < count; number++) {
        uint32_t length;
        uint64_t id = 0;
        for (unsigned turns = 1;; turns++) {
            length = sizeof packet;
            int error = rte_vmbus_chan_recv(channel, packet, &length, &id);
            if (!error)
                break;
            if (error != -11) {
                fprintf(stderr, "packet %llu: error %d\n", (unsigned long long)number, error);
                exit(1);
            }
            give_way(turns);
        }
        signals += dpdk_rang(&monitor);
        const char *wrong = payload_check(packet, length, seed, number, largest);
        if (wrong || id != number) {
            fprintf(stderr, "packet %llu of %u bytes, id %llu: %s\n", (unsigned long long)number, length,
                    (unsigned long long)id, wrong ? wrong : "another id");
            exit(1);
        }
        *bytes += length;
    }
    return signals;
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "usage: stranger send|receive FILE SIZE COUNT SEED LARGEST\n");
        return 2;
    }
    uint32_t size = (uint32_t)strtoul(argv[3], NULL, 0), largest = (uint32_t)strtoul(argv[6], NULL, 0);
    uint64_t count = strtoull(argv[4], NULL, 0), seed = strtoull(argv[5], NULL, 0);
    size_t whole = (size_t)size + DPDK_HEADER;
    int file = open(argv[2], O_RDWR | O_CLOEXEC);
    char *memory = file < 0 ? MAP_FAILED : mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) {
        perror(argv[2]);
        return 2;
    }
    payload_begin(seed);
    struct dpdk_channel channel;
    dpdk_channel_init(&channel, memory, memory, size, &monitor);
    unsigned long long bytes = 0, signals;
    double begun = now();
    if (!strcmp(argv[1], "send"))
        signals = send_all(&channel, count, seed, largest, &bytes);
    else
        signals = receive_all(&channel, count, seed, largest, &bytes);
    printf("packets %llu bytes %llu signals %llu seconds %.3f\n", (unsigned long long)count, bytes, signals,
           now() - begun);
    return 0;
}
