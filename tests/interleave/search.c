// SPDX-License-Identifier: MIT
/*
 * Every schedule of a program within the bounds, by running it again for each sequence of choices, but for those
 * that lead to a state that was met before.
 *
 * Bounds grow from no preemption up, so the first schedule that breaks a rule needs the fewest; among those
 * with as few, the search goes on for the shortest.
 */
#include "search.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "visited.h"

#define DEPTH (8 * TRACE_LIMIT)

static struct {
    uint8_t taken, options;
} path[DEPTH];
static unsigned known, position;
static bool found;

unsigned search_choose(unsigned options)
{
    if (position == DEPTH)
        abort();
    if (position == known) {
        path[known].taken = 0;
        path[known++].options = (uint8_t)options;
    } else if (path[position].options != options) {
        fprintf(stderr, "the program is not deterministic\n");
        abort();
    }
    return path[position++].taken;
}

bool search_seen(uint64_t key, struct bounds left)
{
    /* On the way to the choice that is new this time every state was met before: that is no reason to turn back. */
    return position == known && visited_before(key, left, sched_now(), found);
}

static bool next_path(void)
{
    while (known && path[known - 1].taken + 1 == path[known - 1].options)
        known--;
    if (!known)
        return false;
    path[known - 1].taken++;
    return true;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static bool search_once(const struct program *program, struct bounds bounds, struct result *result)
{
    unsigned longest = TRACE_LIMIT;
    known = 0;
    found = false;
    visited_begin(bounds);
    do {
        position = 0;
        enum outcome outcome = sched_execute(program, bounds, longest);
        known = position; /* a cut execution stops short of the choices that an older one made */
        result->schedules++;
        if (outcome == VIOLATED) {
            sched_keep_trace();
            result->found = found = true;
            result->steps = sched_steps();
            longest = sched_steps() - 1;
        } else if (!result->found && sched_steps() > result->steps) {
            result->steps = sched_steps();
        }
    } while (next_path());
    result->states = visited_states();
    return found;
}

struct result search(const struct program *program, struct bounds most)
{
    struct result result = {0};
    double begun = seconds();
    for (unsigned p = 0; p <= most.preemptions; p++) {
        struct bounds bounds = most;
        bounds.preemptions = result.preemptions = p;
        result.schedules = 0;
        if (search_once(program, bounds, &result))
            break;
    }
    result.seconds = seconds() - begun;
    return result;
}
