// SPDX-License-Identifier: MIT
/*
 * The reader of a ring under libFuzzer: any bytes in the ring, any indices, and a peer that changes both between the
 * reader's steps. With -DALONE a program that runs the files it is given, for machines without libFuzzer.
 *
 * An input is what `tests/fuzz/targets.py` (ring) says: write_index, read_index, the number of steps, the steps of
 * four bytes each, and the data area from read_index on. Invariants: no byte outside of ring and buffers is touched
 * (the address sanitizer sees to it), each answer is one of those promised, a batch is what single reads are, and a dead
 * ring stays dead with its indices where they were.
 */
#include <stdio.h>
#include <stdlib.h>

#include "vmbus_ring_reader.h"
#include "vmbus_ring_writer.h"

#define SIZE 4096u
#define SPANS 8u

static void must(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "not true: %s\n", what);
        abort();
    }
}

/* Memory of exactly this size, so that one byte beyond is a finding. */
static void *exactly(size_t size)
{
    void *memory = aligned_alloc(8, (size + 7) & ~(size_t)7);
    if (!memory)
        abort();
    return memory;
}

static int get(struct vmb_ring_reader *r, uint32_t room)
{
    struct vmb_packet packet = {0};
    uint8_t *out = malloc(room + !room);
    const int result = vmb_reader_get(r, out, room, &packet);
    if (result == VMB_RING_OK)
        must(packet.size + packet.extra <= room, "a packet fits its buffer");
    if (result == VMB_RING_SMALL)
        must(r->need > room && r->need < SIZE, "what is too small says how much is enough");
    free(out);
    return result;
}

/* Takes a batch, goes back and reads the same packets one by one. */
static int take(struct vmb_ring_reader *r, uint32_t room, uint32_t limit)
{
    struct vmb_span spans[SPANS];
    struct vmb_packet packet = {0};
    uint32_t n = 0;
    uint8_t *batch = malloc(room + !room), *one = malloc(SIZE);
    const uint32_t begin = r->read;
    const uint64_t taken = r->taken;
    const int result = vmb_reader_take(r, batch, room, spans, limit, &n);
    const uint32_t after = r->read;
    must((result == VMB_RING_OK) == (n > 0) && n <= limit, "a batch has packets, and not too many");
    if (n) {
        r->read = begin;
        r->taken = taken;
        for (uint32_t i = 0; i < n; i++) {
            must(spans[i].payload <= spans[i].end && spans[i].end <= room, "a span lies in the buffer");
            must(vmb_reader_get(r, one, SIZE, &packet) == VMB_RING_OK, "a packet of a batch can be read alone");
            must(packet.size == spans[i].end - spans[i].payload, "with the same length");
            must(!memcmp(one, batch + spans[i].payload, packet.size), "and the same payload");
        }
        must(r->read == after, "and ends at the same place");
    }
    free(batch);
    free(one);
    return result;
}

static int view(struct vmb_ring_reader *r, uint32_t bytes, uint32_t limit)
{
    struct vmb_span spans[SPANS];
    uint32_t n, total;
    const uint32_t begin = r->read;
    const int result = vmb_reader_view(r, bytes, spans, limit, &n, &total);
    for (uint32_t i = 0; i < n; i++)
        must(spans[i].payload <= spans[i].end && spans[i].end <= SIZE - begin, "a span lies in the ring");
    return result;
}

static int step(struct vmb_ring_reader *r, const uint8_t *s)
{
    const uint32_t number = s[1] | (uint32_t)s[2] << 8;
    int signal;
    switch (s[0] % 8) {
    case 0: return get(r, number % SIZE);
    case 1: return take(r, number % (2 * SIZE), s[3] % (SPANS + 1));
    case 2: return view(r, number % (2 * SIZE), s[3] % (SPANS + 1));
    case 3: (void)vmb_reader_commit(r); break;
    case 4: vmb_reader_revert(r); break;
    case 5: return vmb_reader_rest(r, &signal);
    case 6: memset(r->ring.data + number % (SIZE / 8) * 8, s[3], 8); break; /* the peer */
    default: r->ring.page->write_index = s[3] & 1 ? number : number % (SIZE / 8) * 8;
    }
    return VMB_RING_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    struct vmb_ring_reader r;
    uint32_t indices[2];
    if (size < sizeof indices + 1)
        return 0;
    memcpy(indices, input, sizeof indices);
    const size_t steps = input[8], data = sizeof indices + 1 + 4 * steps;
    if (size < data)
        return 0;
    struct vmb_ring_page *page = exactly(sizeof *page);
    uint8_t *area = exactly(SIZE);
    vmb_ring_format(page);
    memset(area, 0, SIZE);
    page->write_index = indices[0];
    page->read_index = indices[1];
    for (size_t i = 0; i < size - data && i < SIZE; i++)
        area[(indices[1] % SIZE + i) % SIZE] = input[data + i];
    if (vmb_reader_begin(&r, page, area, SIZE, 0) == VMB_RING_OK)
        for (size_t i = 0; i < steps; i++) {
            const int was_dead = r.ring.fault.field != VMB_RING_SOUND;
            const uint8_t *s = input + sizeof indices + 1 + 4 * i;
            const int result = step(&r, s);
            must(result >= VMB_RING_OK && result <= VMB_RING_DEAD && result != VMB_RING_NEVER, "a promised answer");
            must(r.read < SIZE && r.read % 8 == 0 && page->read_index < SIZE, "sound indices of our own");
            must(!was_dead || r.ring.fault.field, "dead for ever");
            must(!was_dead || s[0] % 8 > 2 || result == VMB_RING_DEAD, "dead rings are not read");
        }
    char text[200];
    must(vmb_fault_text(&r.ring.fault, text, sizeof text) < (int)sizeof text, "a reason that fits");
    free(page);
    free(area);
    return 0;
}

#ifdef ALONE
int main(int argc, char **argv)
{
    static uint8_t input[1 << 16];
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (!file)
            return 2;
        const size_t size = fread(input, 1, sizeof input, file);
        fclose(file);
        LLVMFuzzerTestOneInput(input, size);
    }
    printf("%d inputs\n", argc - 1);
    return 0;
}
#endif
