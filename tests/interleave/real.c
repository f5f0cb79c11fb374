// SPDX-License-Identifier: MIT
/*
 * The real functions under every schedule: `real PROGRAM MISTAKE PREEMPTIONS STALE STOPS`, or `real list`.
 *
 * The last line is for run.py: found or clean, and the figures. A mistake's shortest schedule stands before it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "search.h"

static const char *const mutant_names[] = {
#define MUTANT_NAME(name) #name,
    MUTANTS(MUTANT_NAME)
#undef MUTANT_NAME
};

static int usage(void)
{
    fprintf(stderr, "usage: real list | real PROGRAM MISTAKE PREEMPTIONS STALE STOPS\n");
    return 2;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        for (const struct program *p = programs; p->name; p++)
            printf("%s\t%s\n", p->name, p->story);
        return 0;
    }
    if (argc != 6)
        return usage();
    const struct program *program = programs;
    while (program->name && strcmp(program->name, argv[1]) != 0)
        program++;
    unsigned mutant = 0;
    while (mutant < MUTANT_COUNT && strcmp(mutant_names[mutant], argv[2]) != 0)
        mutant++;
    if (!program->name || mutant == MUTANT_COUNT)
        return usage();
    sched_mutant = (enum mutant)mutant;
    struct bounds bounds = {(unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]), (unsigned)atoi(argv[5])};
    struct result result = search(program, bounds);
    if (result.found)
        sched_print_trace();
    printf("%s preemptions=%u steps=%u searched=%llu schedules=%llu seconds=%.2f\n", result.found ? "found" : "clean",
           result.preemptions, result.steps, result.states, result.schedules, result.seconds);
    return 0;
}
