// SPDX-License-Identifier: MIT
/*
 * The states that a search has met: one entry each, with the bounds that were left when it was searched.
 *
 * What can come of a state depends on it and on what is left of the bounds alone, and with more left nothing less
 * can come. The search is depth first: what was met before was searched to its end, or is being searched now, and
 * no schedule comes back to a state that it has passed, since every step is part of its process's history.
 *
 * A key is 64 bits of a good mix: among ten million states two share one with a chance of 1 to 300 000.
 */
#include "visited.h"

#include <stdlib.h>

#define FIRST_SIZE (1u << 16)

struct entry {
    uint64_t key; /* 0: free */
    uint64_t searched; /* a bit for each triple of bounds left */
    unsigned depth;
};

static struct entry *entries;
static size_t size, used;
static struct bounds dims; /* one more than the largest */
static uint64_t below[64]; /* triples that a triple contains */

static unsigned triple(struct bounds b) { return (b.preemptions * dims.stale + b.stale) * dims.stops + b.stops; }

void visited_begin(struct bounds most)
{
    dims = (struct bounds){most.preemptions + 1, most.stale + 1, most.stops + 1};
    if (dims.preemptions * dims.stale * dims.stops > 64)
        abort();
    for (struct bounds b = {0}; b.preemptions < dims.preemptions; b.preemptions++)
        for (b.stale = 0; b.stale < dims.stale; b.stale++)
            for (b.stops = 0; b.stops < dims.stops; b.stops++) {
                uint64_t *mask = &below[triple(b)];
                *mask = 0;
                for (struct bounds c = {0}; c.preemptions <= b.preemptions; c.preemptions++)
                    for (c.stale = 0; c.stale <= b.stale; c.stale++)
                        for (c.stops = 0; c.stops <= b.stops; c.stops++)
                            *mask |= 1ull << triple(c);
            }
    free(entries);
    size = FIRST_SIZE;
    used = 0;
    entries = calloc(size, sizeof *entries);
    if (!entries)
        abort();
}

static struct entry *place(uint64_t key)
{
    size_t at = key & (size - 1);
    while (entries[at].key && entries[at].key != key)
        at = (at + 1) & (size - 1);
    return &entries[at];
}

static void grow(void)
{
    struct entry *old = entries;
    size_t old_size = size;
    size *= 2;
    entries = calloc(size, sizeof *entries);
    if (!entries)
        abort();
    for (size_t i = 0; i < old_size; i++)
        if (old[i].key)
            *place(old[i].key) = old[i];
    free(old);
}

bool visited_before(uint64_t key, struct bounds left, unsigned depth, bool found)
{
    key += !key;
    struct entry *e = place(key);
    unsigned me = triple(left);
    if (!e->key) {
        if (2 * used > size) {
            grow();
            e = place(key);
        }
        used++;
        *e = (struct entry){key, below[me], depth};
        return false;
    }
    if ((e->searched >> me & 1) && (!found || depth >= e->depth))
        return true;
    if (found && depth < e->depth)
        e->searched = 0; /* what was seen from farther away says nothing about schedules as short as this one */
    e->searched |= below[me];
    e->depth = depth;
    return false;
}

unsigned long long visited_states(void) { return used; }
