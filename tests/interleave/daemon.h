// SPDX-License-Identifier: MIT
/* The parts of a daemon that both the going and coming of VPs and the life of a channel need. */
#ifndef INTERLEAVE_DAEMON_H
#define INTERLEAVE_DAEMON_H

#include "bodies.h"

void save_seat(enum seat seat);
enum seat saved_seat(void);
bool worker_0_is_dead(void);
void worker_0_died(void);     /* recovery, what is known of the seat, the ring */
void recover_when_dead(void);
void ring_every_vp(void);
enum seat mourn_worker_0(void); /* the next daemon: the seat, once the deaths are done */

#endif
