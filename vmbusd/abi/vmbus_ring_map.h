// SPDX-License-Identifier: MIT
/*
 * A ring of a partition's memory as one piece of virtual memory, its data area mapped twice in a row.
 *
 *      base                +1 page                     + pages                       + 2 * pages - 1
 *      | header page       | data pages 1..n-1         | the same data pages again   |
 *
 * So no packet is ever split, wherever it begins. Pages that follow each other in guest memory are mapped
 * together. The whole place is reserved first and then filled, so that nothing else can get in between.
 */
#ifndef VMBUS_RING_MAP_H
#define VMBUS_RING_MAP_H

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmbus_ring.h"

/* Runs of pages that follow each other. Each costs two of the 65530 mappings that Linux gives a process
 * (vm.max_map_count): at this bound 255 channels with two rings each still fit. A guest that asks its own kernel
 * for the memory of a ring gets one run, or a few. */
#define VMB_RING_EXTENTS 64u

struct vmb_ring_mapping {
    uint8_t *base;
    size_t length;
    uint32_t size;    /* of the data area */
    uint32_t extents; /* runs found; also after E2BIG */
    uint32_t bad;     /* after ERANGE: index of the page number that is outside */
};

static inline uint32_t vmb_ring_run(const uint64_t *pfns, uint32_t from, uint32_t pages)
{
    uint32_t end = from + 1;
    while (end < pages && pfns[end] == pfns[end - 1] + 1)
        end++;
    return end - from;
}

/* Map the pages [from, pages) of the list at `to`. 0 or an errno. */
static inline int vmb_ring_fill(uint8_t *to, int fd, const uint64_t *pfns, uint32_t from, uint32_t pages)
{
    while (from < pages) {
        const uint32_t run = vmb_ring_run(pfns, from, pages);
        const size_t length = (size_t)run * VMB_PAGE;
        if (mmap(to, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, (off_t)(pfns[from] * VMB_PAGE)) ==
            MAP_FAILED)
            return errno;
        to += length;
        from += run;
    }
    return 0;
}

static inline void vmb_ring_unmap(struct vmb_ring_mapping *m)
{
    if (m->base)
        munmap(m->base, m->length);
    m->base = NULL;
}

/* Map a ring of `pages` pages, header first, from a file of guest memory. 0, or an errno: EINVAL for less than
 * two pages, more than a ring can have, or a machine with other pages; ERANGE for a page outside the file; E2BIG
 * for too many runs; and what mmap says. Nothing stays mapped after an error. */
static inline int vmb_ring_map(struct vmb_ring_mapping *m, int fd, const uint64_t *pfns, uint32_t pages)
{
    struct stat file;
    int failed = 0;

    memset(m, 0, sizeof *m);
    if (pages < 2 || pages - 1 > VMB_RING_SIZE_MOST / VMB_PAGE || sysconf(_SC_PAGESIZE) != VMB_PAGE)
        return EINVAL;
    if (fstat(fd, &file))
        return errno;
    for (m->bad = 0; m->bad < pages; m->bad++)
        if (pfns[m->bad] >= (uint64_t)file.st_size / VMB_PAGE)
            return ERANGE;
    for (uint32_t at = 0; at < pages; at += vmb_ring_run(pfns, at, pages))
        m->extents++;
    if (m->extents > VMB_RING_EXTENTS)
        return E2BIG;
    m->size = (pages - 1) * VMB_PAGE;
    m->length = VMB_PAGE + 2 * (size_t)m->size;
    void *base = mmap(NULL, m->length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return errno;
    m->base = base;
    failed = vmb_ring_fill(m->base, fd, pfns, 0, pages);
    if (!failed)
        failed = vmb_ring_fill(m->base + VMB_PAGE + m->size, fd, pfns, 1, pages);
    if (failed)
        vmb_ring_unmap(m);
    return failed;
}

#endif
