// SPDX-License-Identifier: MIT
/*
 * Shared memory as x86 shows it: each access of the real functions, and a FIFO store buffer per process.
 */
#include <stdio.h>
#include <stdlib.h>

#include "coroutine.h"
#include "observe.h"
#include "trace.h"

struct arena arena __attribute__((aligned(4096)));

/* 0 = nobody writes this word, so touching it is no step; PRIVATE = written, read by its writer alone. */
#define PRIVATE 255u
static uint8_t tracked[sizeof(struct arena) / 4];
static uint8_t *tracks[64]; /* those that are not 0, to begin anew in no time */
static unsigned track_count;

static uint8_t *track_of(const void *address)
{
    size_t offset = (size_t)((const char *)address - (const char *)&arena);
    if (offset >= sizeof arena)
        abort();
    return &tracked[offset / 4];
}

static void track(void *address, unsigned value)
{
    if (track_count == sizeof tracks / sizeof *tracks)
        abort();
    tracks[track_count++] = track_of(address);
    *track_of(address) = (uint8_t)value;
}

void sched_track(void *address, const char *name) { track(address, trace_name(name)); }
void sched_private(void *address) { track(address, PRIVATE); }
unsigned memory_name(const void *address) { return *track_of(address); }

void memory_clear(void)
{
    while (track_count)
        *tracks[--track_count] = 0;
}

static uint64_t peek(const void *address, unsigned size)
{
    return size == 8 ? *(const uint64_t *)address : *(const uint32_t *)address;
}

uint64_t memory_key(uint64_t key)
{
    for (unsigned i = 0; i < track_count; i++) {
        const size_t offset = (size_t)(tracks[i] - tracked) * 4;
        if (*tracks[i] && *tracks[i] != PRIVATE) /* a private word follows from its writer's history */
            key = mix(key, peek((const char *)&arena + offset, offset % 8 ? 4 : 8));
    }
    return key;
}

static void poke(void *address, unsigned size, uint64_t value)
{
    if (size == 8)
        *(uint64_t *)address = value;
    else
        *(uint32_t *)address = (uint32_t)value;
}

/* ---- store buffers ------------------------------------------------------------------------------------- */

static void commit_first(struct coroutine *c)
{
    struct entry *first = &c->buffer[0];
    poke(first->address, first->size, first->value);
    c->buffered--;
    memmove(c->buffer, c->buffer + 1, c->buffered * sizeof c->buffer[0]);
}

void memory_drain(struct coroutine *c)
{
    while (c->buffered)
        commit_first(c);
}

/* Somebody touches `address`: decide what of the other buffers it finds. Missing a store costs one `stale`. */
static void settle(const void *address)
{
    for (unsigned i = 0; i < sched_count; i++) {
        struct coroutine *c = &coroutines[i];
        unsigned after[BUFFER + 1], options = 0; /* how many stores reach memory now */
        if (c == current)
            continue;
        for (unsigned k = c->buffered; k > 0; k--)
            if (c->buffer[k - 1].address == address && (!options || bounds_left.stale))
                after[options++] = k;
        if (!options)
            continue;
        if (bounds_left.stale)
            after[options++] = 0;
        unsigned chosen = options > 1 ? search_choose(options) : 0;
        if (chosen)
            bounds_left.stale--;
        for (unsigned k = 0; k < after[chosen]; k++)
            commit_first(c);
    }
}

/* ---- the steps ----------------------------------------------------------------------------------------- */

static bool is_step(const void *address, bool changes)
{
    uint8_t track = *track_of(address);
    if (!track && changes) {
        fprintf(stderr, "a word is written that the program did not name, at arena + %zu\n",
                (size_t)((const char *)address - (const char *)&arena));
        abort();
    }
    return track && track != PRIVATE;
}

uint64_t sched_load(const char *step, const void *address, unsigned size)
{
    if (!is_step(address, false))
        return peek(address, size);
    sched_decide();
    for (unsigned k = current->buffered; k > 0; k--)
        if (current->buffer[k - 1].address == address) {
            sched_record(step, address, current->buffer[k - 1].value, current->buffer[k - 1].value);
            sched_saw(current->buffer[k - 1].value);
            return current->buffer[k - 1].value;
        }
    settle(address);
    uint64_t value = peek(address, size);
    sched_record(step, address, value, value);
    sched_saw(value);
    return value;
}

void sched_store(const char *step, void *address, unsigned size, uint64_t value, int seq_cst)
{
    uint64_t before = peek(address, size);
    if (!is_step(address, before != value)) {
        poke(address, size, value);
        return;
    }
    if (!seq_cst) { /* nobody can see it yet: no decision */
        sched_maybe_stop();
        if (current->buffered == BUFFER)
            abort();
        current->buffer[current->buffered++] = (struct entry){address, value, size};
        sched_record(step, address, before, value);
        trace_buffered();
        return;
    }
    sched_decide();
    memory_drain(current);
    settle(address);
    before = peek(address, size);
    poke(address, size, value);
    sched_record(step, address, before, value);
}

static bool rmw_begin(const void *address, bool changes)
{
    if (!is_step(address, changes))
        return false;
    sched_decide();
    memory_drain(current);
    settle(address);
    return true;
}

/* Tells the observers which channels' bits the running process sets. */
static void note_set(const void *address, uint64_t bits)
{
    size_t offset = (size_t)((const char *)address - (const char *)&arena), first;
    if (offset < offsetof(struct arena, work))
        first = (offset % VMB_PAGE - VMB_FLAGS_OFFSET) * 8;
    else if (offset - offsetof(struct arena, legacy.page) < sizeof arena.legacy.page)
        first = (offset - offsetof(struct arena, legacy.page)) * 8;
    else
        return;
    for (; bits; bits &= bits - 1)
        observe_set((uint32_t)first + (unsigned)__builtin_ctzll(bits));
}

uint64_t sched_rmw(const char *step, void *address, unsigned size, enum rmw operation, uint64_t operand)
{
    bool shared = rmw_begin(address, true);
    uint64_t before = peek(address, size);
    uint64_t after = operation == RMW_OR ? before | operand : operation == RMW_AND ? before & operand : operand;
    poke(address, size, after);
    if (shared)
        sched_record(step, address, before, after);
    if (operation != RMW_AND)
        sched_saw(before);
    if (operation == RMW_OR)
        note_set(address, operand);
    return before;
}

int sched_cas(const char *step, void *address, unsigned size, void *expected, uint64_t value)
{
    bool shared = rmw_begin(address, true);
    uint64_t before = peek(address, size);
    bool same = before == peek(expected, size);
    if (same)
        poke(address, size, value);
    else
        poke(expected, size, before);
    if (shared)
        sched_record(step, address, before, same ? value : before);
    sched_saw(before);
    return same;
}

/* Ring data goes word by word, as a machine may show it. */
void sched_copy_to(const char *step, void *to, const void *from, unsigned size)
{
    for (unsigned at = 0; at < size; at += 8) {
        uint64_t word;
        memcpy(&word, (const char *)from + at, 8);
        sched_store(step, (char *)to + at, 8, word, 0);
    }
}

void sched_copy_from(const char *step, void *to, const void *from, unsigned size)
{
    for (unsigned at = 0; at < size; at += 8) {
        uint64_t word = sched_load(step, (const char *)from + at, 8);
        memcpy((char *)to + at, &word, 8);
    }
}
