// SPDX-License-Identifier: MIT
/* The steps of one execution, as recorded and as printed. */
#include "trace.h"

#include <stdio.h>
#include <stdlib.h>

#define NAMES 64
#define SHOWN 60u /* an endless run is told by its beginning */

struct line {
    const char *step;
    uint64_t before, after;
    uint8_t process, name;
    bool buffered;
};

struct trace {
    const struct program *program;
    unsigned length;
    char verdict[160];
    const char *names[NAMES];
    unsigned name_count;
    struct line line[TRACE_LIMIT + 1];
};

static struct trace now, kept;

void trace_clear(const struct program *program)
{
    now.program = program;
    now.length = 0;
    now.name_count = 1;
    now.verdict[0] = 0;
}

unsigned trace_name(const char *name)
{
    if (now.name_count == NAMES)
        abort();
    now.names[now.name_count] = name;
    return now.name_count++;
}

unsigned trace_add(unsigned process, const char *step, unsigned name, uint64_t before, uint64_t after)
{
    now.line[now.length] = (struct line){step, before, after, (uint8_t)process, (uint8_t)name, false};
    return ++now.length;
}

void trace_buffered(void) { now.line[now.length - 1].buffered = true; }

unsigned trace_length(void) { return now.length; }

void trace_verdict(const char *format, va_list arguments)
{
    vsnprintf(now.verdict, sizeof now.verdict, format, arguments);
}

void sched_keep_trace(void) { kept = now; }

void sched_print_trace(void)
{
    for (unsigned i = 0; i < kept.length && i < SHOWN; i++) {
        const struct line *l = &kept.line[i];
        printf("      %3u  %-10s %-22s", i + 1, kept.program->process[l->process].name, l->step);
        if (l->name && l->before != l->after)
            printf(" %-13s %#llx -> %#llx%s", kept.names[l->name], (unsigned long long)l->before,
                   (unsigned long long)l->after, l->buffered ? " (in its store buffer)" : "");
        else if (l->name)
            printf(" %-13s is %#llx", kept.names[l->name], (unsigned long long)l->after);
        putchar('\n');
    }
    if (kept.length > SHOWN)
        printf("      ...  and so on, %u steps in all\n", kept.length);
    printf("      %s\n", kept.verdict);
}
