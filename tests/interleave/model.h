// SPDX-License-Identifier: MIT
/*
 * The model: the protocol as small machines, one step per atomic operation or system call, on x86 store buffers.
 *
 * It is written from docs/signal-protocol.md, not from the headers, so that a mistake in one shows in the other.
 * A state is a value: all words, all processes, and what the rules need to remember. New kinds of steps (a death,
 * a VP that goes offline) are more rows of `enum operation` and more bits in `struct model_state`.
 */
#ifndef INTERLEAVE_MODEL_H
#define INTERLEAVE_MODEL_H

#include <stdbool.h>

#include "steps.h"

#define PROCESSES 4
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
    WORDS = 16
};

#define RUN 0x80u
#define AGAIN 0x40u
#define OPEN 1u /* slot: generation << 1 | OPEN */

enum operation { END, SIGNAL, AWAIT_REOPEN, RETARGET, CLOSE, REOPEN, RECOVER };

struct item {
    uint8_t operation, channel, vp;
};

enum kind { NOBODY, SCRIPTED, WORKER };

struct role {
    const char *name;
    enum kind kind;
    uint8_t vp;     /* of a worker */
    bool begins;    /* a worker that takes a VP over */
    bool stoppable; /* may be stopped for ever */
    struct item script[SCRIPT];
};

struct model {
    const char *name, *story;
    bool journal;     /* with `taken`, which matters only where recovery reads it */
    uint8_t pending0; /* bits on the page of VP 0 at the start */
    struct role role[PROCESSES];
};
extern const struct model models[];

struct process_state {
    uint8_t pc, item;
    uint8_t a, b, r;  /* registers: VP or bits; idle number or slot; channel */
    uint8_t rung[2];
    uint8_t owed;     /* host: channels it set whose callback has not begun since */
    uint8_t serving;  /* worker: hosts whose set the running callback answers */
    uint8_t buffered; /* FIFO store buffer */
    uint8_t word[3], value[3];
};

struct model_state {
    uint8_t word[WORDS];
    uint8_t running[2], closed[2]; /* generation per channel */
    uint8_t stopped;               /* processes */
    uint8_t padding[3];
    struct process_state process[PROCESSES];
};

enum move { STEP, FLUSH, STOP, MOVES }; /* of one process */

extern const char *model_step;     /* name of the step made last */
extern char model_violation[160];  /* empty, or the rule that the last step broke */

void model_begin(const struct model *model, struct model_state *state);
/* Makes the move in place; false: not possible now. */
bool model_move(const struct model *model, struct model_state *state, unsigned process, enum move move);
/* Nobody can move: checks what must hold then. */
void model_at_rest(const struct model *model, const struct model_state *state);

struct model_result {
    bool found;
    unsigned long long states;
    unsigned steps; /* of the shortest schedule that shows the mistake, or of the deepest state */
    double seconds;
};
struct model_result model_search(const struct model *model);

#endif
