// SPDX-License-Identifier: MIT
/* What the scheduler and the memory know of each other: coroutines with their store buffers. */
#ifndef INTERLEAVE_COROUTINE_H
#define INTERLEAVE_COROUTINE_H

#include <setjmp.h>
#include <ucontext.h>

#include "sched.h"

#define BUFFER 8
#define STACK 65536

enum state { READY, WAITING, UNTIL, DONE, STOPPED };

struct entry {
    void *address;
    uint64_t value;
    unsigned size;
};

struct coroutine {
    const struct process *process;
    enum state state;
    bool started, made;
    bool must; /* what it waits for has to happen */
    jmp_buf top, resume;
    ucontext_t context;
    struct vmb_doorbell *bell;
    bool (*condition)(void);
    struct entry buffer[BUFFER];
    unsigned buffered;
    uint64_t history; /* of all that it has seen: with the number of its steps this is where it stands */
    char stack[STACK] __attribute__((aligned(64)));
};

extern struct coroutine coroutines[PROCESSES];
extern unsigned sched_count;
extern struct coroutine *current;
extern struct bounds bounds_left;

void sched_decide(void); /* before a step: returns when the running process may do it */
void sched_maybe_stop(void);
void sched_saw(uint64_t value); /* the running process's next steps may depend on it */
void sched_record(const char *step, const void *address, uint64_t before, uint64_t after);

void memory_clear(void);
void memory_drain(struct coroutine *c);
unsigned memory_name(const void *address);
uint64_t memory_key(uint64_t key); /* mixes in every word that somebody writes */

/* What every key begins with: two equal numbers mix to 0, and a small one may be equal to what comes next. */
#define KEY_SEED 0x2545f4914f6cdd1dull

static inline uint64_t mix(uint64_t key, uint64_t value)
{
    key = (key ^ value) * 0x9e3779b97f4a7c15ull;
    key = (key ^ key >> 29) * 0xbf58476d1ce4e5b9ull;
    return key ^ key >> 32;
}

#endif
