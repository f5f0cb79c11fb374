// SPDX-License-Identifier: MIT
/*
 * The model: the protocol as small machines, one step per atomic operation or system call, on x86 store buffers.
 *
 * It is written from docs/signal-protocol.md, not from the headers, so that a mistake in one shows in the other.
 * A state is a value: all words, all processes, what the daemon saves for its successor, and what the rules need
 * to remember. Whoever is named `mortal` may be killed once, at any step; the daemon then learns of it, at any
 * later step where it looks at its descriptors. A killed daemon is followed by one that begins with its start.
 */
#ifndef INTERLEAVE_MODEL_H
#define INTERLEAVE_MODEL_H

#include <stdbool.h>

#include "steps.h"

#define PROCESSES 5
#define SCRIPT 6

/* Two VPs, two channels; every array of two stands together. */
enum word {
    PENDING,
    IDLE = 2,
    MARK = 4,
    CLAIM = 6,
    SLOT = 8,
    TARGET = 10,
    TAKEN = 12,
    SEMAPHORE = 14,
    ASKED = 16,  /* the worker of a VP is asked to detach; a message of its link */
    LIST = 18,   /* channels of a VP in the per-CPU design */
    MODIFY = 20, /* MODIFYCHANNEL posted; its answer */
    WORDS = 22
};
#define BIT_OF(word) (1u << (word))
#define BOTH(word) (3u << (word))

#define RUN 0x80u
#define AGAIN 0x40u
#define OPEN 1u /* slot: generation << 1 | OPEN; 0: empty */

enum operation {
    END,
    SIGNAL, AWAIT_REOPEN,                         /* hosts */
    POST_MODIFY, AWAIT_MODIFIED, MOVE_IN_LISTS,   /* the guest of the per-CPU design */
    RETARGET, MODIFY_TARGET, CLOSE, REOPEN, REUSE, OFFLINE, ONLINE, RECOVER /* the daemon */
};

struct item {
    uint8_t operation, channel, vp;
};

enum kind { NOBODY, SCRIPTED, DAEMON, WORKER };

struct role {
    const char *name;
    enum kind kind;
    uint8_t vp;     /* of a worker */
    bool begins;    /* a worker that takes a VP over */
    bool vacant;    /* a VP whose last worker has left in its sleep */
    bool stoppable; /* may be stopped for ever */
    bool mortal;    /* may be killed once */
    struct item script[SCRIPT];
};

struct model {
    const char *name, *story;
    bool journal;     /* with `taken`, which matters only where recovery reads it */
    uint8_t pending0; /* bits on the page of VP 0 at the start */
    uint8_t target1;  /* VP of channel 1 at the start; channel 0 is on VP 0 */
    bool adopt;       /* a VP whose worker died is retired; otherwise it gets a new worker */
    bool ends;        /* a host's death closes channel 0; otherwise that comes later than anything here */
    struct role role[PROCESSES];
};
extern const struct model models[];

struct process_state {
    uint8_t pc, item;
    uint8_t a, b, r;  /* registers: VP or bits; idle number, slot or bits; channel */
    uint8_t rung[2];
    uint8_t owed;     /* host: channels it set whose callback has not begun since */
    uint8_t serving;  /* worker: hosts whose set the running callback answers */
    uint8_t buffered; /* FIFO store buffer */
    uint8_t word[3], value[3];
};

struct model_state {
    uint8_t word[WORDS];
    uint8_t running[2], closed[2]; /* generation per channel */
    uint8_t stopped, died;         /* processes that were */
    uint8_t dead;                  /* processes that are, and nobody has done yet what that asks for */
    uint8_t playing, offline;      /* VPs: with a worker; retired, as the daemon saved it */
    uint8_t todo, duty;            /* of the daemon's procedures: due, in hand; not saved */
    uint8_t padding[7];
    struct process_state process[PROCESSES];
};

enum move { STEP, FLUSH, STOP, KILL, LEARN, RESTART, MOVES }; /* of one process */

extern const char *model_step;     /* name of the step made last */
extern char model_violation[160];  /* empty, or the rule that the last step broke */

void model_begin(const struct model *model, struct model_state *state);
/* Makes the move in place; false: not possible now. */
bool model_move(const struct model *model, struct model_state *state, unsigned process, enum move move);
/* Nobody has to move: checks what must hold then. */
void model_at_rest(const struct model *model, const struct model_state *state);

/* Reductions: the state that stands for all that behave like it, and a process whose next step nobody can see
 * or prevent, so that only that step need be tried; PROCESSES: there is none. */
void model_normalise(const struct model *model, struct model_state *state);
unsigned model_alone(const struct model *model, const struct model_state *state);

struct model_result {
    bool found;
    unsigned long long states;
    unsigned steps; /* of the shortest schedule that shows the mistake, or of the deepest state */
    double seconds;
};
/* `reduced`: as above. Otherwise every state by itself and every move of it. */
struct model_result model_search(const struct model *model, bool reduced);

#endif
