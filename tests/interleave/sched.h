// SPDX-License-Identifier: MIT
/*
 * What a program, the search and main know of the scheduler: processes, bounds, one execution, its trace.
 *
 * A process runs until its next step on a word that somebody writes; there the scheduler decides who goes on.
 * A store that is not seq_cst goes to the process's own FIFO buffer, as on x86. How much of a buffer has reached
 * memory is decided only when somebody else touches a word that is in it: until then nobody can tell.
 */
#ifndef INTERLEAVE_SCHED_H
#define INTERLEAVE_SCHED_H

#include <stdbool.h>
#include <stddef.h>

#include "steps.h"

#include "percpu.h"
#include "vmbus_daemon.h"

#define PROCESSES 6
#define RING_WORDS 20
#define CHANNELS 66 /* flags 1 and 65 stand in different words of a page */
#define TRACE_LIMIT 400 /* correct programs come to rest within 150 steps; who takes 400 never does */

/* How the daemon knows VP 0, and how far it is with closing a channel and opening it again. */
enum seat { ONLINE, VACANT, OFFLINE, SUCCEEDED };
enum stage { UNTOUCHED, CLOSING, CLOSED, REOPENED };

/* Everything that processes share. */
struct arena {
    struct vmb_event_page pages[2];
    struct vmb_host_page host; /* flags at the same place of a page */
    struct vmb_vpwork work[2];
    struct vmb_block blocks[CHANNELS];
    struct vmb_table table;
    struct {
        struct vmb_ring_page page;
        uint64_t data[RING_WORDS];
    } ring;
    struct {
        uint32_t seat, stage;
    } saved;        /* what outlives a daemon */
    uint32_t asked; /* worker 0 is asked to leave */
    struct {
        char other[VMB_PAGE];
        struct vmb_interrupt_page page;
    } legacy; /* guest memory with an interrupt page */
    struct vmb_percpu lists;
};
extern struct arena arena;
extern struct vmb_doorbell bells[3]; /* VP 0, VP 1, the host; `fd` holds the count of the semaphore */

struct process {
    const char *name;
    void (*body)(void);
    bool stoppable; /* may be stopped for ever at any of its steps */
};

struct program {
    const char *name;
    const char *story;
    void (*setup)(void);
    struct process process[PROCESSES];
    enum rules {
        SIGNALS,
        DEATHS, /* what is stopped is dead and is recovered: a worker's stop excuses nothing at rest */
        RINGS,
        SHARED_RINGS,
    } rules;
};
extern const struct program programs[];

struct bounds {
    unsigned preemptions; /* switches away from a process that could have gone on */
    unsigned stale;       /* times an access misses a store that waits in another process's buffer */
    unsigned stops;
};

/* For programs. */
void sched_track(void *address, const char *name); /* somebody writes this word: accesses to it are steps */
void sched_private(void *address);                 /* written, but nobody else reads it in this program */
void sched_step(const char *what);                 /* a step that touches nothing shared */
void sched_note(const char *what);                 /* a line of the trace, glued to the step before it */
void sched_wait(const char *step, struct vmb_doorbell *bell);
void sched_until(const char *what, bool (*condition)(void)); /* waits for others without polling */
/* The same for something that need not happen. */
void sched_until_maybe(const char *what, bool (*condition)(void));
bool sched_learn(bool fact); /* the running process now knows it: all that its way depends on passes through here */
unsigned sched_now(void);
unsigned sched_running(void); /* the process, by its place in the program */
bool sched_dead(unsigned process); /* stopped; its stores have reached memory, as at the end of a process */
bool sched_gone(unsigned process); /* dead, or its body is over */
bool sched_waits(unsigned process); /* in sched_until */
_Noreturn void sched_violation(const char *format, ...) __attribute__((format(printf, 1, 2)));
void program_reset(void);
void program_at_rest(const struct program *program);

/* For the search. */
enum outcome { RESTED, VIOLATED, CUT };
enum outcome sched_execute(const struct program *program, struct bounds bounds, unsigned longest);
unsigned sched_steps(void);
void sched_print_trace(void);
void sched_keep_trace(void); /* what sched_print_trace prints from now on */
unsigned search_choose(unsigned options);
bool search_seen(uint64_t key, struct bounds left);

#endif
