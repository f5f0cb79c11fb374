// SPDX-License-Identifier: MIT
/*
 * Every state of a model, breadth first, so that the first broken rule has a shortest schedule; then, if none is
 * broken, depth first over the same graph for a cycle (I4: nothing may go on for ever).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "model.h"

#define NONE UINT32_MAX
#define NAME(process) (model->role[process].name)

struct node {
    struct model_state state;
    uint32_t parent;
    uint8_t process, move; /* the way here */
    uint8_t next, end;     /* moves worth trying that the depth-first pass has not tried */
    uint8_t colour;
};

static struct node *nodes;
static uint32_t count, room, *table, mask;
static bool reduce;

static uint32_t hash(const struct model_state *state)
{
    uint64_t h = 0, word;
    _Static_assert(sizeof *state % 8 == 0, "hashed by words");
    for (size_t i = 0; i < sizeof *state; i += 8) {
        memcpy(&word, (const char *)state + i, 8);
        h = (h ^ word) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    return (uint32_t)(h >> 16);
}

static void *checked(void *memory)
{
    if (!memory) {
        fprintf(stderr, "out of memory after %u states\n", count);
        exit(2);
    }
    return memory;
}

static void grow_table(void)
{
    mask = mask * 2 + 1;
    table = checked(realloc(table, ((size_t)mask + 1) * sizeof *table));
    memset(table, 0xff, ((size_t)mask + 1) * sizeof *table);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = hash(&nodes[i].state) & mask;
        while (table[at] != NONE)
            at = (at + 1) & mask;
        table[at] = i;
    }
}

/* The number of a state; a new one is added with the way to it and the moves worth trying: one alone, or all. */
static uint32_t intern(const struct model *model, struct model_state *state, uint32_t parent, unsigned m)
{
    if (reduce)
        model_normalise(model, state);
    uint32_t at = hash(state) & mask;
    for (; table[at] != NONE; at = (at + 1) & mask)
        if (memcmp(&nodes[table[at]].state, state, sizeof *state) == 0)
            return table[at];
    if (count == room) {
        room *= 2;
        nodes = checked(realloc(nodes, room * sizeof *nodes));
    }
    unsigned alone = reduce ? model_alone(model, state) : PROCESSES;
    bool all = alone == PROCESSES;
    nodes[count] = (struct node){.state = *state, .parent = parent, .process = (uint8_t)(m / MOVES),
                                 .move = (uint8_t)(m % MOVES), .next = (uint8_t)(all ? 0 : alone * MOVES),
                                 .end = (uint8_t)(all ? PROCESSES * MOVES : alone * MOVES + 1)};
    table[at] = count++;
    if (count > mask / 2)
        grow_table();
    return count - 1;
}

static void print_step(const struct model *model, unsigned number, struct model_state *state, unsigned process,
                       unsigned move)
{
    struct model_state before = *state;
    model_move(model, state, process, (enum move)move);
    static const char *const words[] = {"pending", "idle", "mark", "claim", "slot", "target", "taken", "semaphore",
                                        "asked", "list", "modify"};
    printf("      %3u  %-11s %-30s", number, NAME(process), model_step);
    for (unsigned w = 0; w < WORDS; w++)
        if (before.word[w] != state->word[w])
            printf(" %s[%u] %#x -> %#x", words[w / 2], w % 2, before.word[w], state->word[w]);
    putchar('\n');
}

static unsigned print_path(const struct model *model, uint32_t node, struct model_state *state)
{
    if (nodes[node].parent == NONE) {
        model_begin(model, state);
        return 0;
    }
    unsigned number = print_path(model, nodes[node].parent, state) + 1;
    print_step(model, number, state, nodes[node].process, nodes[node].move);
    return number;
}

static unsigned depth(uint32_t node)
{
    unsigned n = 0;
    while ((node = nodes[node].parent) != NONE)
        n++;
    return n;
}

/* Not what comes to pass by itself. */
static bool is_misfortune(unsigned move)
{
    return move == STOP || move == KILL || move == RESTART;
}

static bool breadth_first(const struct model *model, struct model_result *result)
{
    struct model_state state;
    model_violation[0] = 0;
    for (uint32_t i = 0; i < count; i++) {
        bool moved = false;
        for (unsigned m = nodes[i].next; m < nodes[i].end; m++) {
            state = nodes[i].state;
            if (!model_move(model, &state, m / MOVES, (enum move)(m % MOVES)))
                continue;
            moved |= !is_misfortune(m % MOVES);
            intern(model, &state, i, m);
            if (model_violation[0]) {
                unsigned steps = print_path(model, i, &state);
                print_step(model, steps + 1, &state, m / MOVES, m % MOVES);
                result->steps = steps + 1;
                return true;
            }
        }
        if (!moved)
            model_at_rest(model, &nodes[i].state);
        if (model_violation[0]) {
            result->steps = print_path(model, i, &state);
            return true;
        }
    }
    result->steps = depth(count - 1);
    return false;
}

/* Follows every edge once; an edge back into the path that leads here closes a cycle. */
static bool has_cycle(const struct model *model, struct model_result *result)
{
    enum { NEW, ON_PATH, FINISHED };
    struct model_state state;
    uint32_t *path = checked(malloc(count * sizeof *path)), length = 0;
    path[length++] = 0;
    nodes[0].colour = ON_PATH;
    while (length) {
        uint32_t at = path[length - 1];
        if (nodes[at].next == nodes[at].end) {
            nodes[at].colour = FINISHED;
            length--;
            continue;
        }
        unsigned m = nodes[at].next++;
        state = nodes[at].state;
        if (!model_move(model, &state, m / MOVES, (enum move)(m % MOVES)))
            continue;
        uint32_t next = intern(model, &state, at, m);
        if (nodes[next].colour == ON_PATH) {
            unsigned steps = print_path(model, next, &state);
            printf("           from here for ever:\n");
            while (path[length - 1] != next)
                length--;
            for (;;) {
                uint32_t from = path[length++];
                m = nodes[from].next - 1u;
                print_step(model, ++steps, &state, m / MOVES, m % MOVES);
                if (from == at)
                    break;
            }
            snprintf(model_violation, sizeof model_violation, "I4: the last steps repeat for ever");
            result->steps = steps;
            free(path);
            return true;
        }
        if (nodes[next].colour == NEW) {
            nodes[next].colour = ON_PATH;
            path[length++] = next;
        }
    }
    free(path);
    return false;
}

struct model_result model_search(const struct model *model, bool reduced)
{
    struct timespec begun, ended;
    struct model_result result = {0};
    struct model_state first;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begun);
    reduce = reduced;
    count = 0;
    room = 1u << 16;
    mask = (1u << 17) - 1;
    nodes = checked(realloc(nodes, room * sizeof *nodes));
    grow_table();
    model_begin(model, &first);
    intern(model, &first, NONE, 0);
    result.found = breadth_first(model, &result) || has_cycle(model, &result);
    if (result.found)
        printf("      %s\n", model_violation);
    result.states = count;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ended);
    result.seconds = (double)(ended.tv_sec - begun.tv_sec) + 1e-9 * (double)(ended.tv_nsec - begun.tv_nsec);
    return result;
}
