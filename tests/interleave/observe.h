// SPDX-License-Identifier: MIT
/* The cast of a program and what is observed of it. */
#ifndef INTERLEAVE_OBSERVE_H
#define INTERLEAVE_OBSERVE_H

#include "sched.h"

#define A 1u  /* a channel in the first word of the page */
#define B 65u /* one in the second */
#define C 2u  /* a neighbour of A */

extern struct vmb_sender host[2];
extern struct vmb_worker worker[2];
extern uint64_t rung[2]; /* of the two guest threads that signal the host */
extern bool device_may_signal;

uint64_t slot_of(uint32_t flag, uint32_t generation);

/* From now on what the running process sets is a signal that somebody must answer. */
void observe_sender(void);
/* The running process sets a channel's bit on a page. */
void observe_set(uint32_t flag);
/* The callback of every channel. */
void observe_callback(void *context, uint32_t flag, uint64_t slot);
/* The running process's signal returned. */
void observe_signal(uint32_t flag);
/* The host took the bit and looks at its ring. */
void observe_taken(uint32_t flag);
void observe_close_completed(uint32_t flag, uint32_t generation);
void observe_open(uint32_t flag);
/* This process is dead: its callback runs no more and is still owed, and so is what it signalled without ringing. */
void observe_death(unsigned process);
/* Mixes in everything that a verdict depends on. */
uint64_t observe_key(uint64_t key);

#endif
