// SPDX-License-Identifier: MIT
/* What the processes of a program do, and which words somebody writes in it. */
#ifndef INTERLEAVE_BODIES_H
#define INTERLEAVE_BODIES_H

#include "observe.h"

/* Where a process stands in a program that speaks of its death or of its leaving. */
enum place { WORKER_0, DAEMON, HOST };

/* set-ups */
void one_vp(void);
void two_vps(void);
void two_words(void);
void neighbours_apart(void);      /* two VPs, A on VP 0 and its neighbour on VP 1 */
void closing(void);
void closing_two_vps(void);
void left_behind(void);
void journal(void);
void journal_of_neighbours(void);
void host_page(void);
void asking(void);                /* two VPs, worker 0 with its journal, the daemon's request to it */
void asking_and_saving(void);     /* and what the daemon saves for its successor */
void vacant(void);                /* VP 0 has no worker any more: its last one left in its sleep */
void vacant_many(void);           /* both neighbours may be moved away from it */
void vacant_and_saving(void);
void journal_and_saving(void);
void leaving_and_saving(void);    /* worker 0 is asked already */
void adopting(void);              /* VP 0 vacant; worker 1 with its journal */
void closing_with_journal(void);  /* one VP */
void closing_and_saving(void);
void reusing(void);               /* two VPs, no journal */
void reusing_with_journal(void);

/* senders */
void host_once(void);
void host_twice(void);
void host_three_times(void);
void host_both_in_turn(void);
void host_both_neighbours(void);
void host_both_words(void);
void other_host_one_of_many(void);
void host_before_and_after_reopen(void);
void host_after_reopen(void);
void other_host_once(void);
void other_host_other_channel(void);
void other_host_neighbour(void);
void guest_twice(void);
void other_guest_once(void);
void other_guest_neighbour(void);
void host_waiter(void);
void napper(void);

/* workers */
void worker_0(void);
void worker_1(void);
void new_worker_0(void);
void worker_0_that_may_be_asked(void);
void successor_of_worker_0(void);
void successor_of_worker_1(void);

/* the daemon */
void retarget_once(void);
void retarget_there_and_back(void);
void close_once(void);
void retarget_and_close(void);
void close_and_reopen(void);
void retarget_close_and_reopen(void);
void retarget_and_recover_the_silent(void);
void recover_and_admit(void);
void retarget_recover_and_admit(void);

void take_offline(void);
void take_offline_and_online(void);
void retire_the_vacant(void);
void retire_the_vacant_many(void);
void let_leave_and_admit(void);
void recover_and_retire(void);
void retire_and_recover_the_adopter(void);
void mourn_a_host(void);
void retire_and_mourn_a_host(void);
void retire_many_and_mourn_a_host(void);
void mourn_a_host_and_close(void);
void close_over_a_death(void);
void reuse(void);
void reuse_over_a_death(void);

/* per-CPU lists, or the table in the same program */
void percpu(void);
void worker_0_by_lists(void);
void worker_1_by_lists(void);
void move_then_retarget(void);
void retarget_then_move(void);

/* an interrupt page of the guest's own */
void interrupt_page(void);
void interrupt_page_vacant(void); /* VP 0 has no worker any more */
void guest_on_vp_0(void);
void guest_on_vp_1(void);
void retarget_behind_the_page(void);
void retire_behind_the_page(void);

/* the next daemon */
void second_daemon_retires(void);
void second_daemon_retires_and_brings_back(void);
void second_daemon_retires_the_vacant(void);
void second_daemon_admits(void);
void second_daemon_recovers_and_retires(void);
void second_daemon_recovers_and_admits(void);
void second_daemon_goes_on_with_close(void);

#endif
