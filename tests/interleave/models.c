// SPDX-License-Identifier: MIT
/* The models that are searched, and the command: `model NAME MISTAKE [full]`, or `model list`. */
#include <stdio.h>
#include <string.h>

#include "model.h"

#define S(r) {SIGNAL, (r), 0}
#define TO(r, vp) {RETARGET, (r), (vp)}
#define SCRIPT_OF(...) .kind = SCRIPTED, .script = {__VA_ARGS__}
#define HOST(...) {.name = "host", SCRIPT_OF(__VA_ARGS__)}
#define OTHER_HOST(...) {.name = "other host", SCRIPT_OF(__VA_ARGS__)}
#define HOST_STOPS(...) {.name = "host", .stoppable = true, SCRIPT_OF(__VA_ARGS__)}
#define HOST_DIES(...) {.name = "host", .mortal = true, SCRIPT_OF(__VA_ARGS__)}
#define ASKED_FOR(...) {.name = "daemon", .kind = DAEMON, .script = {__VA_ARGS__}}
#define DAEMON_DIES(...) {.name = "daemon", .kind = DAEMON, .mortal = true, .script = {__VA_ARGS__}}
#define WORKER_0 {.name = "worker 0", .kind = WORKER, .vp = 0}
#define WORKER_1 {.name = "worker 1", .kind = WORKER, .vp = 1}
#define GUEST(...) {.name = "guest", SCRIPT_OF(__VA_ARGS__)}
#define HYPERVISOR {.name = "host", .kind = DAEMON, .script = {{MODIFY_TARGET, 0, 1}}}
#define CPU_A {.name = "CPU A", .kind = WORKER, .vp = 0}
#define CPU_B {.name = "CPU B", .kind = WORKER, .vp = 1}
#define WORKER_0_STOPS {.name = "worker 0", .kind = WORKER, .vp = 0, .stoppable = true}
#define WORKER_0_DIES {.name = "worker 0", .kind = WORKER, .vp = 0, .mortal = true}

const struct model models[] = {
    {"sleep-wake", "one host signals four times, one worker sleeps and wakes",
     .role = {HOST(S(0), S(0), S(0), S(0)), WORKER_0}},
    {"two-hosts", "two hosts signal one channel twice each, one of them may stop for ever",
     .role = {HOST_STOPS(S(0), S(0)), OTHER_HOST(S(0), S(0)), WORKER_0}},
    {"two-channels", "two hosts, a channel each on one VP, one host may stop for ever",
     .role = {HOST_STOPS(S(0), S(0)), OTHER_HOST(S(1), S(1)), WORKER_0}},
    {"begin", "a new worker begins on a page with a bit while two hosts signal", .pending0 = 1,
     .role = {HOST(S(0)), OTHER_HOST(S(1)), {.name = "worker 0", .kind = WORKER, .begins = true}}},
    {"retarget", "two signals, a retarget to VP 1 and one back",
     .role = {HOST(S(0), S(0)), ASKED_FOR(TO(0, 1), TO(0, 0)), WORKER_0, WORKER_1}},
    {"retarget-stop", "two signals, a retarget, and worker 0 may stop for ever", .journal = true,
     .role = {HOST(S(0), S(0)), ASKED_FOR(TO(0, 1)), WORKER_0_STOPS, WORKER_1}},
    {"two-channels-stop", "one of two channels moves to the other's VP, and worker 0 may stop for ever",
     .journal = true, .target1 = 1,
     .role = {HOST(S(0), S(1)), ASKED_FOR(TO(0, 1)), WORKER_0_STOPS, WORKER_1}},
    {"two-channels-retarget", "two channels of one host on one VP, one of them retargeted",
     .role = {HOST(S(0), S(1)), ASKED_FOR(TO(0, 1)), WORKER_0, WORKER_1}},
    {"two-hosts-retarget", "two hosts, one channel, a retarget",
     .role = {HOST(S(0)), OTHER_HOST(S(0)), ASKED_FOR(TO(0, 1)), WORKER_0, WORKER_1}},
    {"close", "a retarget, then a close, while two signals are sent and dispatched",
     .role = {HOST(S(0), S(0)), ASKED_FOR(TO(0, 1), {CLOSE, 0, 0}), WORKER_0, WORKER_1}},
    {"reopen", "a retarget, a close, an open with a new generation, a signal in each",
     .role = {HOST(S(0), {AWAIT_REOPEN, 0, 0}, S(0)), ASKED_FOR(TO(0, 1), {CLOSE, 0, 0}, {REOPEN, 0, 0}),
              WORKER_0, WORKER_1}},
    {"reuse", "a close, release, the relid reused on VP 1; the old host may be late, a new one signals",
     .role = {HOST(S(0)), OTHER_HOST({AWAIT_REOPEN, 0, 0}, S(0)), ASKED_FOR({CLOSE, 0, 0}, {REUSE, 0, 1}),
              WORKER_0, WORKER_1}},
    {"silent", "a retarget while worker 0 is silent for long but lives", .journal = true,
     .role = {HOST(S(0), S(0)), ASKED_FOR(TO(0, 1)), WORKER_0, WORKER_1}},

    {"death", "worker 0 may die, it is recovered and a new one admitted; two channels", .journal = true,
     .role = {HOST(S(0), S(1)), ASKED_FOR({END, 0, 0}), WORKER_0_DIES}},
    {"death-retarget", "the same with one channel, a retarget and a living worker 1", .journal = true,
     .role = {HOST(S(0), S(0)), ASKED_FOR(TO(0, 1)), WORKER_0_DIES, WORKER_1}},
    {"adoption", "worker 0 may die, its VP is retired and worker 1 takes its bits", .journal = true, .adopt = true,
     .role = {HOST(S(0), S(0)), ASKED_FOR({END, 0, 0}), WORKER_0_DIES, WORKER_1}},
    {"death-close", "worker 0 may die during a close", .journal = true,
     .role = {HOST(S(0), S(0)), ASKED_FOR({CLOSE, 0, 0}), WORKER_0_DIES}},
    {"death-reuse", "worker 0 may die; a close, release, the relid reused", .journal = true,
     .role = {HOST(S(0), {AWAIT_REOPEN, 0, 0}, S(0)), ASKED_FOR({CLOSE, 0, 0}, {REUSE, 0, 1}), WORKER_0_DIES,
              WORKER_1}},
    {"offline-online", "a signal while VP 0 goes offline and comes back and the channel with it",
     .role = {HOST(S(0)), ASKED_FOR({OFFLINE, 0, 0}, {ONLINE, 0, 0}, TO(0, 0)), WORKER_0, WORKER_1}},
    {"offline-death", "VP 0 goes offline while its worker may die", .journal = true,
     .role = {HOST(S(0)), ASKED_FOR({OFFLINE, 0, 0}), WORKER_0_DIES, WORKER_1}},
    {"host-death", "two channels of a host that may die; its channels end later",
     .role = {HOST_DIES(S(0), S(1)), OTHER_HOST(S(1)), ASKED_FOR({END, 0, 0}), WORKER_0}},
    {"host-death-offline", "two signals of a host that may die while VP 0 goes offline",
     .role = {HOST_DIES(S(0), S(0)), ASKED_FOR({OFFLINE, 0, 0}), WORKER_0, WORKER_1}},
    {"host-death-vacant", "the same, and VP 0 has no worker any more",
     .role = {HOST_DIES(S(0), S(0)), ASKED_FOR({OFFLINE, 0, 0}),
              {.name = "worker 0", .kind = WORKER, .vp = 0, .vacant = true}, WORKER_1}},
    {"neighbours-vacant", "the same with a signal of each of two channels",
     .role = {HOST_DIES(S(0), S(1)), ASKED_FOR({OFFLINE, 0, 0}),
              {.name = "worker 0", .kind = WORKER, .vp = 0, .vacant = true}, WORKER_1}},
    {"rescind", "a host's death closes its channel; the relid is reused for another host", .ends = true,
     .role = {HOST_DIES(S(0), S(0)), OTHER_HOST({AWAIT_REOPEN, 0, 0}, S(0)), ASKED_FOR({REUSE, 0, 1}), WORKER_0,
              WORKER_1}},
    {"two-hosts-death", "two hosts signal one channel, worker 0 may die and is replaced", .journal = true,
     .role = {HOST(S(0)), OTHER_HOST(S(0)), ASKED_FOR({END, 0, 0}), WORKER_0_DIES}},
    {"host-worker-death", "a host and worker 0 may die; the host's channel closes, the relid is reused",
     .journal = true, .ends = true,
     .role = {HOST_DIES(S(0), S(0)), OTHER_HOST({AWAIT_REOPEN, 0, 0}, S(0)), ASKED_FOR({REUSE, 0, 0}),
              WORKER_0_DIES}},
    {"daemon-rescind", "a host and the daemon may die; the host's channel closes, the relid is reused", .ends = true,
     .role = {HOST_DIES(S(0)), OTHER_HOST({AWAIT_REOPEN, 0, 0}, S(0)), DAEMON_DIES({REUSE, 0, 0}), WORKER_0}},
    {"daemon-retarget", "the daemon may die and start again during a retarget",
     .role = {HOST(S(0), S(0)), DAEMON_DIES(TO(0, 1)), WORKER_0, WORKER_1}},
    {"daemon-close", "the daemon may die and start again during a close, release and reuse",
     .role = {HOST(S(0), {AWAIT_REOPEN, 0, 0}, S(0)), DAEMON_DIES({CLOSE, 0, 0}, {REUSE, 0, 1}), WORKER_0,
              WORKER_1}},
    {"daemon-death", "worker 0 and the daemon may die; a new worker is admitted", .journal = true,
     .role = {HOST(S(0), S(0)), DAEMON_DIES({END, 0, 0}), WORKER_0_DIES}},
    {"daemon-adoption", "worker 0 and the daemon may die; worker 1 takes the bits", .journal = true, .adopt = true,
     .role = {HOST(S(0)), DAEMON_DIES({END, 0, 0}), WORKER_0_DIES, WORKER_1}},
    {"daemon-death-close", "worker 0 and the daemon may die during a close", .journal = true,
     .role = {HOST(S(0)), DAEMON_DIES({CLOSE, 0, 0}), WORKER_0_DIES}},
    {"daemon-host-death", "a host and the daemon may die",
     .role = {HOST_DIES(S(0)), OTHER_HOST(S(1)), DAEMON_DIES({END, 0, 0}), WORKER_0}},
    {"daemon-host-offline", "a host and the daemon may die while VP 0 goes offline",
     .role = {HOST_DIES(S(0)), DAEMON_DIES({OFFLINE, 0, 0}), WORKER_0, WORKER_1}},

    {"percpu-1", "the guest moves the channel between its lists, then asks the host for CPU B",
     .role = {HOST(S(0)), GUEST({MOVE_IN_LISTS, 0, 1}, {POST_MODIFY, 0, 0}), HYPERVISOR, CPU_A, CPU_B}},
    {"percpu-2", "the guest asks the host for CPU B, then moves the channel; the host signals on CPU B",
     .role = {HOST({AWAIT_MODIFIED, 0, 0}, S(0)), GUEST({POST_MODIFY, 0, 0}, {MOVE_IN_LISTS, 0, 1}), HYPERVISOR,
              CPU_A, CPU_B}},
    {"percpu-answer", "the same, the guest awaits the answer before it moves the channel; the host signals ever",
     .role = {HOST(S(0)), GUEST({POST_MODIFY, 0, 0}, {AWAIT_MODIFIED, 0, 0}, {MOVE_IN_LISTS, 0, 1}), HYPERVISOR,
              CPU_A, CPU_B}},
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
    const bool full = argc == 4 && strcmp(argv[3], "full") == 0, good = argc == 3 || full;
    while (good && model->name && strcmp(model->name, argv[1]) != 0)
        model++;
    while (good && mutant < MUTANT_COUNT && strcmp(mutants[mutant], argv[2]) != 0)
        mutant++;
    if (!good || !model->name || mutant == MUTANT_COUNT) {
        fprintf(stderr, "usage: model list | model NAME MISTAKE [full]\n");
        return 2;
    }
    sched_mutant = (enum mutant)mutant;
    struct model changed = with_caller_mistake(*model);
    struct model_result result = model_search(&changed, !full);
    printf("%s steps=%u searched=%llu seconds=%.2f\n", result.found ? "found" : "clean", result.steps,
           result.states, result.seconds);
    return 0;
}
