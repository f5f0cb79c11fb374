// SPDX-License-Identifier: MIT
/* A guest of 0.13 or 1.1: flag 0 says that there is something in the interrupt page that it named at contact. */
#include "daemon.h"

#define PAGE_AT VMB_PAGE /* guest physical address of the page, in a memory of two pages */

void interrupt_page(void)
{
    two_vps();
    sched_track(&arena.legacy.page.to_guest[0], "page");
    arena.legacy.page.to_guest[0] = 0;
    arena.table.header.interrupt_page = PAGE_AT;
    arena.table.record[A].target_vp = VMB_TARGET_PAGE ^ 0u;
    for (unsigned i = 0; i < 2; i++) {
        host[i].ram = (char *)&arena.legacy;
        host[i].ram_size = sizeof arena.legacy;
    }
}

void interrupt_page_vacant(void)
{
    interrupt_page();
    arena.work[0].idle = 1;
    arena.saved.seat = VACANT;
}

void retarget_behind_the_page(void) { vmb_retarget(&arena.table, A, VMB_TARGET_PAGE ^ 1u); }

/* Flag 0 of the VP that nobody plays goes to the one that somebody does. */
void retire_behind_the_page(void)
{
    save_seat(OFFLINE);
    retarget_behind_the_page();
    vmb_sweep(&arena.pages[0], &arena.pages[1], &bells[1]);
}

static void take_flag_0(struct vmb_worker *w) { VMB_AND("guest.flag", &w->flags[0], ~1ull); }

/* Tells that the channel's ring is looked at; who looks twice at nothing loses nothing. */
static void take_page(void)
{
    static uint16_t taken[PROCESSES][VMB_FLAGS];
    if (vmb_take(arena.legacy.page.to_guest, taken[sched_running()]))
        observe_taken(A);
}

static void look_into_the_page(struct vmb_worker *w)
{
    for (;;) {
        while (VMB_LOAD("guest.look", &w->flags[0], VMB_SEQ_CST)) {
            if (sched_mutant == MUTANT_page_before_flag)
                take_page();
            take_flag_0(w);
            if (sched_mutant != MUTANT_page_before_flag)
                take_page();
        }
        if (vmb_sleep_begin(&w->work->idle, &w->sleep, w->flags))
            sched_wait("sleep.wait", &bells[w->vp]);
        vmb_sleep_end(&w->work->idle, &w->sleep);
    }
}

void guest_on_vp_0(void) { look_into_the_page(&worker[0]); }
void guest_on_vp_1(void) { look_into_the_page(&worker[1]); }
