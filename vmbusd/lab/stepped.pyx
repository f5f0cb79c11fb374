# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True, binding=False
# SPDX-License-Identifier: MIT
"""Passes over an interrupt page that are held before each access to a shared word, for the replay's scheduler.

The functions are those of percpu.h and vmbus_core.h, compiled with the macros of stepped.h: the same drain, the
same dispatch of either design. The worker around them is `native.PassWorker`, whose sleep nobody holds.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint32_t, uint64_t

from vmbusd.abi.errors import UsageError

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include "stepped.h"
    #include "percpu.h"
    """

cdef extern from "stepped.h":
    ctypedef void (*lab_hook)(void *context, const char *step) noexcept
    void lab_hook_set(lab_hook hook, void *context)

cdef extern from "vmbus_core.h":
    struct vmb_worker:
        pass
    ctypedef void (*vmb_callback)(void *context, uint32_t flag, uint64_t slot) noexcept
    struct vmb_pass:
        unsigned (*drain)(void *own, vmb_worker *w, vmb_callback call, void *context) noexcept
        void *own
    const char *VMB_PASS_CAPSULE

cdef extern from "percpu.h":
    struct vmb_percpu:
        uint32_t design
    unsigned vmb_percpu_drain(vmb_percpu *p, vmb_worker *w, vmb_callback call, void *context)


cdef void _step(void *context, const char *step) noexcept:
    (<SteppedPasses>context).at_step((<bytes>step).decode())


cdef unsigned _drain(void *own, vmb_worker *w, vmb_callback call, void *context) noexcept:
    cdef unsigned seen
    lab_hook_set(_step, own)
    seen = vmb_percpu_drain((<SteppedPasses>own).lists, w, call, context)
    lab_hook_set(NULL, NULL)
    return seen


cdef class SteppedPasses:
    """Passes of the design that the lists in `buffer` name, each step of them announced to `at_step`."""

    cdef unsigned char[::1] buffer
    cdef vmb_percpu *lists
    cdef vmb_pass made
    cdef object at_step

    def __cinit__(self, buffer, at_step):
        self.buffer = buffer
        if <size_t>self.buffer.shape[0] < sizeof(vmb_percpu):
            raise UsageError(f"lists: {self.buffer.shape[0]} bytes, at least {sizeof(vmb_percpu)} are needed")
        self.lists = <vmb_percpu *>&self.buffer[0]
        self.at_step = at_step
        self.made.drain = _drain
        self.made.own = <void *>self

    def passes(self):
        """What `native.PassWorker.use` takes; to be kept alive as long as the worker."""
        return PyCapsule_New(&self.made, VMB_PASS_CAPSULE, NULL)
