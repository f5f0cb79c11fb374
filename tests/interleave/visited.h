// SPDX-License-Identifier: MIT
/* The states that a search has met, and with how much of its bounds left. */
#ifndef INTERLEAVE_VISITED_H
#define INTERLEAVE_VISITED_H

#include "sched.h"

/* Forgets everything; later bounds are at most these. */
void visited_begin(struct bounds most);
/* True: nothing new can come of this state. `depth` counts only once a mistake was `found`: then a state that is
 * reached in fewer steps is searched again, for a shorter schedule. Otherwise notes that it is searched now. */
bool visited_before(uint64_t key, struct bounds left, unsigned depth, bool found);
unsigned long long visited_states(void);

#endif
