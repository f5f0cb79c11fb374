# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True, binding=False
# SPDX-License-Identifier: MIT
"""The native core for Python: a thin face over the vmbus_*.h headers.

Rules: a buffer is checked for size, alignment and writability once, at construction; afterwards no call
checks or allocates more than its result. Waiting releases the GIL; signalling and dispatching hold it, so
whoever holds the GIL knows that no signal call of this process is in the middle. The protocol itself stands
in the headers (docs/signal-protocol.md), testable without Python.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_FillInfo,
    PyBuffer_Release,
    PyObject_CheckBuffer,
    PyObject_GetBuffer,
)
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_CheckExact, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.list cimport PyList_CheckExact, PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_RawFree, PyMem_RawMalloc
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid
from cpython.ref cimport PyObject
from libc.errno cimport E2BIG, EINTR, ERANGE, errno
from libc.stdint cimport INT64_MAX, UINT64_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy, memset, strerror

import os as _os
from itertools import islice as _islice

from vmbusd.abi.errors import ObjectDead, ResourceError, RingDead, UsageError

include "native_headers.pxi"
include "native_buffers.pxi"
include "native_doorbell.pxi"
include "native_faults.pxi"
include "native_table.pxi"
include "native_sender.pxi"
include "native_pages.pxi"
include "native_worker.pxi"
include "native_worker_pass.pxi"
include "native_daemon.pxi"
include "native_packets.pxi"
include "native_ring_headers.pxi"
include "native_ring.pxi"
include "native_ring_writer.pxi"
include "native_ring_batch.pxi"
include "native_ring_reader.pxi"
include "native_requests.pxi"
include "native_port.pxi"
