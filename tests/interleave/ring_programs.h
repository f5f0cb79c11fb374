// SPDX-License-Identifier: MIT
/* The two ends of one ring: what the list of programs needs to know of them. */
#ifndef INTERLEAVE_RING_PROGRAMS_H
#define INTERLEAVE_RING_PROGRAMS_H

#include "sched.h"

void ring_reset(void);
void ring_set_up(void);      /* room for every packet of the program */
void ring_set_up_small(void); /* room for two packets */
void ring_writer(void);      /* three packets, each published on its own */
void ring_batch_writer(void); /* the same, the last two published together */
void ring_reader(void);      /* commits when it finds nothing more */
void ring_eager_reader(void); /* commits every packet */
void ring_at_rest(void);

/* the same between one reader and the processes of two VPs, a packet each */
void shared_ring(void);
void shared_writer_0(void);
void shared_writer_1(void);
void shared_reader(void);
void recover_writer_0(void);
void shared_ring_at_rest(void);

#endif
