// SPDX-License-Identifier: MIT
/*
 * One execution of one program under chosen schedules: coroutines, store buffers, semaphores, the decisions.
 */
#include "sched.h"

#include <stdarg.h>
#include <stdlib.h>

#include "coroutine.h"
#include "observe.h"
#include "trace.h"

struct vmb_doorbell bells[3];
enum mutant sched_mutant;

struct coroutine coroutines[PROCESSES];
unsigned sched_count;
struct coroutine *current;
struct bounds bounds_left;
static jmp_buf finish;
static ucontext_t making;
static unsigned longest_allowed;
static enum outcome outcome;

unsigned sched_now(void) { return trace_length(); }
unsigned sched_steps(void) { return trace_length(); }
unsigned sched_running(void) { return (unsigned)(current - coroutines); }

_Noreturn static void end(enum outcome how)
{
    outcome = how;
    _longjmp(finish, 1);
}

_Noreturn void sched_violation(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    trace_verdict(format, arguments);
    va_end(arguments);
    end(VIOLATED);
}

void sched_saw(uint64_t value) { current->history = mix(current->history, value); }

void sched_record(const char *step, const void *address, uint64_t before, uint64_t after)
{
    current->history++;
    unsigned n = trace_add((unsigned)(current - coroutines), step, address ? memory_name(address) : 0, before, after);
    if (n >= TRACE_LIMIT)
        sched_violation("I4: no rest after %d steps", TRACE_LIMIT);
    if (n > longest_allowed)
        end(CUT);
}

/* ---- who goes on --------------------------------------------------------------------------------------- */

static bool enabled(const struct coroutine *c)
{
    switch (c->state) {
    case READY: return true;
    case WAITING: return c->bell->fd > 0;
    case UNTIL: return c->condition();
    default: return false;
    }
}

/* Everything that what comes next depends on, but for the bounds: the words, the semaphores, what each process has
 * seen and done, what the observers remember. Schedules that differ in the order of independent steps end in one
 * state, and what can come of it is searched once. */
static uint64_t state_key(void)
{
    uint64_t key = mix(KEY_SEED, enabled(current) ? sched_running() : PROCESSES); /* it goes on at no cost */
    key = observe_key(memory_key(key));
    for (unsigned i = 0; i < sizeof bells / sizeof *bells; i++)
        key = mix(key, (uint64_t)bells[i].fd);
    for (unsigned i = 0; i < sched_count; i++)
        key = mix(key, coroutines[i].history ^ (coroutines[i].state << 4 | coroutines[i].buffered) * 1ull << 56);
    return key;
}

static void switch_to(struct coroutine *next)
{
    struct coroutine *me = current;
    if (next == me)
        return;
    current = next;
    if (_setjmp(me->resume))
        return;
    if (next->started)
        _longjmp(next->resume, 1);
    next->started = true;
    _longjmp(next->top, 1);
}

static bool can_stop(void) { return bounds_left.stops && current->process->stoppable; }

static void stop(void)
{
    bounds_left.stops--;
    current->state = STOPPED;
    sched_record("stopped for ever", NULL, 0, 0);
}

/* Called by the running process before its next step, or because it cannot go on. Returns when it may. */
void sched_decide(void)
{
    if (current->process && search_seen(state_key(), bounds_left))
        end(CUT);
    for (;;) {
        struct coroutine *option[PROCESSES + 1];
        unsigned options = 0;
        bool mine = enabled(current);
        if (mine)
            option[options++] = current;
        if (!mine || bounds_left.preemptions)
            for (unsigned i = 0; i < sched_count; i++)
                if (&coroutines[i] != current && enabled(&coroutines[i]))
                    option[options++] = &coroutines[i];
        bool may_stop = mine && can_stop();
        if (!options) {
            /* Every store reaches memory in the end, also that of a stopped process. */
            bool moved = false;
            for (unsigned i = 0; i < sched_count; i++) {
                moved |= coroutines[i].buffered > 0;
                memory_drain(&coroutines[i]);
            }
            if (moved)
                continue;
            end(RESTED);
        }
        unsigned all = options + may_stop;
        unsigned chosen = all > 1 ? search_choose(all) : 0;
        if (chosen == options) {
            stop();
            continue;
        }
        if (mine && chosen)
            bounds_left.preemptions--;
        switch_to(option[chosen]);
        return;
    }
}

/* Before a step that nobody can see yet: what is left in the buffer of a dead process reaches memory, so it
 * matters on which side of the store it dies. */
void sched_maybe_stop(void)
{
    if (can_stop() && search_choose(2)) {
        stop();
        sched_decide();
    }
}

void sched_note(const char *what) { sched_record(what, NULL, 0, 0); }

void sched_step(const char *what)
{
    sched_decide();
    sched_record(what, NULL, 0, 0);
}

bool sched_waits(unsigned process) { return coroutines[process].state == UNTIL && coroutines[process].must; }

bool sched_dead(unsigned process) { return coroutines[process].state == STOPPED && sched_gone(process); }

bool sched_gone(unsigned process)
{
    if (coroutines[process].state != STOPPED && coroutines[process].state != DONE)
        return false;
    memory_drain(&coroutines[process]);
    return true;
}

bool sched_learn(bool fact)
{
    sched_saw(fact);
    return fact;
}

void sched_post(const char *step, struct vmb_doorbell *bell)
{
    sched_decide();
    memory_drain(current);
    bell->fd++;
    sched_record(step, NULL, (uint64_t)(bell - bells), 0);
}

void sched_wait(const char *step, struct vmb_doorbell *bell)
{
    sched_decide();
    memory_drain(current);
    sched_record(step, NULL, (uint64_t)(bell - bells), 0);
    if (bell->fd == 0) {
        current->bell = bell;
        current->state = WAITING;
        sched_decide();
        current->state = READY;
        sched_record("woken", NULL, (uint64_t)(bell - bells), 0);
    }
    bell->fd--;
}

static void wait_for(const char *what, bool (*condition)(void), bool must)
{
    if (sched_learn(condition()))
        return;
    sched_note(what);
    current->must = must;
    current->condition = condition;
    current->state = UNTIL;
    sched_decide();
    current->state = READY;
}

void sched_until(const char *what, bool (*condition)(void)) { wait_for(what, condition, true); }
void sched_until_maybe(const char *what, bool (*condition)(void)) { wait_for(what, condition, false); }

/* ---- one execution ------------------------------------------------------------------------------------- */

/* A coroutine is made once; each execution begins it anew by jumping to the top of its stack. */
static void coroutine_main(void)
{
    struct coroutine *me = current;
    if (_setjmp(me->top) == 0)
        setcontext(&making);
    current->process->body();
    current->state = DONE;
    sched_decide();
    abort();
}

static void make(struct coroutine *c)
{
    if (c->made)
        return;
    getcontext(&c->context);
    c->context.uc_stack.ss_sp = c->stack;
    c->context.uc_stack.ss_size = STACK;
    makecontext(&c->context, coroutine_main, 0);
    current = c;
    swapcontext(&making, &c->context);
    c->made = true;
}

static void begin(void)
{
    static struct coroutine nobody; /* the first decision is free */
    nobody.state = DONE;
    current = &nobody;
    if (_setjmp(finish) == 0)
        sched_decide();
}

static void check(const struct program *program)
{
    if (_setjmp(finish) == 0)
        program_at_rest(program);
}

enum outcome sched_execute(const struct program *program, struct bounds bounds, unsigned longest)
{
    memory_clear();
    trace_clear(program);
    memset(bells, 0, sizeof bells);
    bounds_left = bounds;
    longest_allowed = longest;
    program_reset();
    program->setup();
    for (unsigned i = sched_count = 0; i < PROCESSES && program->process[i].body; i++) {
        struct coroutine *c = &coroutines[i];
        sched_count++;
        make(c);
        c->process = &program->process[i];
        c->state = READY;
        c->started = false;
        c->buffered = 0;
        c->history = KEY_SEED;
    }
    begin();
    if (outcome == RESTED)
        check(program);
    return outcome;
}
