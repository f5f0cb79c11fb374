// SPDX-License-Identifier: MIT
/* What the ring's C tests share: a ring in memory of exactly its size, or mapped twice from a memory file. */
#ifndef NATIVE_RING_H
#define NATIVE_RING_H

#include "check.h"

#include "vmbus_ring_map.h"
#include "vmbus_ring_reader.h"
#include "vmbus_ring_writer.h"

struct test_ring {
    struct vmb_ring_page *page;
    uint8_t *data;
    uint32_t size;
    int mirrored;
    struct vmb_ring_mapping mapping;
    struct vmb_ring_writer w;
    struct vmb_ring_reader r;
};

/* Both ends begin where the indices stand. */
__attribute__((unused)) static int ring_begin(struct test_ring *t)
{
    const int w = vmb_writer_begin(&t->w, t->page, t->data, t->size, t->mirrored);
    const int r = vmb_reader_begin(&t->r, t->page, t->data, t->size, t->mirrored);
    return w | r;
}

__attribute__((unused)) static struct test_ring ring_new(uint32_t size, int mirrored)
{
    struct test_ring t = {.size = size, .mirrored = mirrored};
    if (mirrored) {
        const uint32_t pages = 1 + size / VMB_PAGE;
        const int fd = memfd_create("ring", 0);
        uint64_t *pfns = calloc(pages, sizeof *pfns);
        for (uint32_t i = 0; i < pages; i++)
            pfns[i] = pages - 1 - i; /* backwards: no two pages in one run */
        if (fd < 0 || ftruncate(fd, (off_t)pages * VMB_PAGE) || vmb_ring_map(&t.mapping, fd, pfns, pages))
            abort();
        close(fd);
        free(pfns);
        t.page = (struct vmb_ring_page *)t.mapping.base;
        t.data = t.mapping.base + VMB_PAGE;
    } else {
        t.page = zeroed(sizeof *t.page);
        t.data = zeroed(size);
    }
    vmb_ring_format(t.page);
    if (ring_begin(&t))
        abort();
    return t;
}

__attribute__((unused)) static void ring_free(struct test_ring *t)
{
    if (t->mirrored) {
        vmb_ring_unmap(&t->mapping);
    } else {
        free(t->page);
        free(t->data);
    }
}

/* Both ends move to `at`, the ring stays empty. */
__attribute__((unused)) static void ring_move(struct test_ring *t, uint32_t at)
{
    t->page->write_index = t->page->read_index = at;
    if (ring_begin(t))
        abort();
}

__attribute__((unused)) static int ring_put(struct test_ring *t, const void *payload, size_t size)
{
    return vmb_writer_put(&t->w, VMB_PACKET_IN_BAND, 0, 0, NULL, 0, payload, size);
}

struct random {
    uint64_t state;
};

__attribute__((unused)) static uint64_t random_next(struct random *r)
{
    r->state ^= r->state << 13;
    r->state ^= r->state >> 7;
    return r->state ^= r->state << 17;
}

#endif
