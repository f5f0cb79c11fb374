// SPDX-License-Identifier: MIT
/* The models that are searched, and the command: `model NAME MISTAKE`, or `model list`. */
#include <stdio.h>
#include <string.h>

#include "model.h"

#define S(r) {SIGNAL, (r), 0}
#define TO(r, vp) {RETARGET, (r), (vp)}
#define WORKER_0 {.name = "worker 0", .kind = WORKER, .vp = 0}
#define WORKER_1 {.name = "worker 1", .kind = WORKER, .vp = 1}

const struct model models[] = {
    {"sleep-wake", "one host signals four times, one worker sleeps and wakes", false, 0,
     {{.name = "host", .kind = SCRIPTED, .script = {S(0), S(0), S(0), S(0)}}, WORKER_0}},
    {"two-hosts", "two hosts signal one channel twice each, one of them may stop for ever", false, 0,
     {{.name = "host", .kind = SCRIPTED, .stoppable = true, .script = {S(0), S(0)}},
      {.name = "other host", .kind = SCRIPTED, .script = {S(0), S(0)}}, WORKER_0}},
    {"two-channels", "two hosts, a channel each on one VP, one host may stop for ever", false, 0,
     {{.name = "host", .kind = SCRIPTED, .stoppable = true, .script = {S(0), S(0)}},
      {.name = "other host", .kind = SCRIPTED, .script = {S(1), S(1)}}, WORKER_0}},
    {"begin", "a new worker begins on a page with a bit while two hosts signal", false, 1,
     {{.name = "host", .kind = SCRIPTED, .script = {S(0)}},
      {.name = "other host", .kind = SCRIPTED, .script = {S(1)}},
      {.name = "worker 0", .kind = WORKER, .begins = true}}},
    {"retarget", "two signals, a retarget to VP 1 and one back", false, 0,
     {{.name = "host", .kind = SCRIPTED, .script = {S(0), S(0)}},
      {.name = "daemon", .kind = SCRIPTED, .script = {TO(0, 1), TO(0, 0)}}, WORKER_0, WORKER_1}},
    {"retarget-stop", "two signals, a retarget, and worker 0 may stop for ever", false, 0,
     {{.name = "host", .kind = SCRIPTED, .script = {S(0), S(0)}},
      {.name = "daemon", .kind = SCRIPTED, .script = {TO(0, 1)}},
      {.name = "worker 0", .kind = WORKER, .stoppable = true}, WORKER_1}},
    {"two-channels-retarget", "two channels of one host, both retargeted", false, 0,
     {{.name = "host", .kind = SCRIPTED, .script = {S(0), S(1)}},
      {.name = "daemon", .kind = SCRIPTED, .script = {TO(0, 1), TO(1, 1)}}, WORKER_0, WORKER_1}},
    {"close", "a retarget, then a close, while two signals are sent and dispatched", false, 0,
     {{.name = "host", .kind = SCRIPTED, .script = {S(0), S(0)}},
      {.name = "daemon", .kind = SCRIPTED, .script = {TO(0, 1), {CLOSE, 0, 0}}}, WORKER_0, WORKER_1}},
    {"reopen", "a retarget, a close, an open with a new generation, a signal in each", false, 0,
     {{.name = "host", .kind = SCRIPTED, .script = {S(0), {AWAIT_REOPEN, 0, 0}, S(0)}},
      {.name = "daemon", .kind = SCRIPTED, .script = {TO(0, 1), {CLOSE, 0, 0}, {REOPEN, 0, 0}}},
      WORKER_0, WORKER_1}},
    {"silent", "a retarget while worker 0 is silent for long but lives", true, 0,
     {{.name = "host", .kind = SCRIPTED, .script = {S(0), S(0)}},
      {.name = "daemon", .kind = SCRIPTED, .script = {TO(0, 1)}}, WORKER_0, WORKER_1}},
    {0},
};

/* The daemon's own mistake: it recovers VP 0 though its worker lives. */
static struct model with_caller_mistake(struct model model)
{
    if (VMB_MUTANT(silent_treated_as_dead))
        model.role[1].script[1] = (struct item){RECOVER, 0, 0};
    return model;
}

int main(int argc, char **argv)
{
    static const char *const mutants[] = {
#define MUTANT_NAME(name) #name,
        MUTANTS(MUTANT_NAME)
#undef MUTANT_NAME
    };
    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        for (const struct model *m = models; m->name; m++)
            printf("%s\t%s\n", m->name, m->story);
        return 0;
    }
    const struct model *model = models;
    unsigned mutant = 0;
    while (argc == 3 && model->name && strcmp(model->name, argv[1]) != 0)
        model++;
    while (argc == 3 && mutant < MUTANT_COUNT && strcmp(mutants[mutant], argv[2]) != 0)
        mutant++;
    if (argc != 3 || !model->name || mutant == MUTANT_COUNT) {
        fprintf(stderr, "usage: model list | model NAME MISTAKE\n");
        return 2;
    }
    sched_mutant = (enum mutant)mutant;
    struct model changed = with_caller_mistake(*model);
    struct model_result result = model_search(&changed);
    printf("%s steps=%u searched=%llu seconds=%.2f\n", result.found ? "found" : "clean", result.steps,
           result.states, result.seconds);
    return 0;
}
