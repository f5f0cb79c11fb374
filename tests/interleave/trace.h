// SPDX-License-Identifier: MIT
/* The steps of one execution, as recorded and as printed. */
#ifndef INTERLEAVE_TRACE_H
#define INTERLEAVE_TRACE_H

#include <stdarg.h>
#include <stdint.h>

#include "sched.h"

void trace_clear(const struct program *program);
unsigned trace_name(const char *name); /* a number that stands for the name of a word, never 0 */
unsigned trace_add(unsigned process, const char *step, unsigned name, uint64_t before, uint64_t after);
void trace_buffered(void); /* the last line is a store that waits in its process's buffer */
unsigned trace_length(void);
void trace_verdict(const char *format, va_list arguments);

#endif
