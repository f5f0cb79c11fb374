// SPDX-License-Identifier: MIT
/* Every schedule of a program within the bounds: what the search says. */
#ifndef INTERLEAVE_SEARCH_H
#define INTERLEAVE_SEARCH_H

#include "sched.h"

struct result {
    bool found;
    unsigned preemptions;         /* with how many the mistake showed, or the whole bound */
    unsigned steps;               /* of the shortest schedule that shows it, or of the longest searched */
    unsigned long long states;    /* met at that bound, which contains the lower ones */
    unsigned long long schedules; /* executed, each to its end or to a state that was met before */
    double seconds;
};

struct result search(const struct program *program, struct bounds most);

#endif
