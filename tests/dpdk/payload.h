// SPDX-License-Identifier: MIT
/*
 * Payloads that both ends can make: number and length, then a piece of a pool of random bytes; all follows from the
 * seed. They are compared byte by byte, which is stronger than a checksum. tests/dpdk/payload.py is the same again.
 */
#ifndef TESTS_PAYLOAD_H
#define TESTS_PAYLOAD_H

#include <stdint.h>
#include <string.h>

#define PAYLOAD_HEAD 16u /* number u64, length u64: a ring gives back a multiple of 8 only */
#define PAYLOAD_POOL (1u << 17)
#define PAYLOAD_LARGEST (1u << 16)

static uint8_t payload_pool[PAYLOAD_POOL];

static inline uint64_t payload_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static inline void payload_begin(uint64_t seed)
{
    for (uint64_t at = 0; at < PAYLOAD_POOL; at += 8) {
        uint64_t word = payload_mix(seed + at);
        memcpy(payload_pool + at, &word, 8);
    }
}

/* Bytes of packet `number`, at least the head, at most `largest`; three of four are short. */
static inline uint32_t payload_make(uint8_t *to, uint64_t seed, uint64_t number, uint32_t largest)
{
    uint64_t random = payload_mix(seed ^ number);
    uint32_t span = largest - PAYLOAD_HEAD;
    if (random % 4 && span > 256)
        span = 256;
    uint64_t length = PAYLOAD_HEAD + (random >> 8) % (span + 1);
    memcpy(to, &number, 8);
    memcpy(to + 8, &length, 8);
    memcpy(to + PAYLOAD_HEAD, payload_pool + (random >> 40) % PAYLOAD_LARGEST, length - PAYLOAD_HEAD);
    return (uint32_t)length;
}

/* NULL, or what is wrong with `size` bytes that came as packet `number`. */
static inline const char *payload_check(const uint8_t *data, uint32_t size, uint64_t seed, uint64_t number,
                                        uint32_t largest)
{
    static uint8_t expected[PAYLOAD_LARGEST];
    uint32_t length = payload_make(expected, seed, number, largest);
    if (size != ((length + 7) & ~7u))
        return "another length";
    if (memcmp(data, expected, 8))
        return "another packet";
    return memcmp(data, expected, length) ? "other bytes" : NULL;
}

#endif
