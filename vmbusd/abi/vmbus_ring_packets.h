// SPDX-License-Identifier: MIT
/*
 * A packet's descriptor and type header: built for the writer, checked for the reader, always on private copies.
 *
 * Nothing here touches shared memory. Sources: Linux 6.1 include/linux/hyperv.h, OpenVMM vmbus_ring/src/lib.rs.
 */
#ifndef VMBUS_RING_PACKETS_H
#define VMBUS_RING_PACKETS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "descriptors and indices are little-endian"
#endif

#define VMB_DESCRIPTOR 16u
#define VMB_TRAILER 8u
#define VMB_PACKET_LEAST (VMB_DESCRIPTOR + VMB_TRAILER) /* a packet without payload */
#define VMB_LEN8_MOST 0xffffu                           /* len8 is a u16 */

enum vmb_packet_type {
    VMB_PACKET_IN_BAND = 6,
    VMB_PACKET_TRANSFER_PAGES = 7,
    VMB_PACKET_GPA_DIRECT = 9,
    VMB_PACKET_COMPLETION = 11,
};
#define VMB_PACKET_TYPES (1u << 6 | 1u << 7 | 1u << 9 | 1u << 11) /* what anybody still sends */
#define VMB_PACKET_COMPLETE 1u /* flag 0, the only one: the sender wants a completion */

/* As it stands on the ring. */
struct vmb_descriptor {
    uint16_t type;
    uint16_t offset8; /* where the payload begins, in 8 bytes from the descriptor */
    uint16_t len8;    /* the packet without its trailer, in 8 bytes */
    uint16_t flags;
    uint64_t id;
};
_Static_assert(sizeof(struct vmb_descriptor) == VMB_DESCRIPTOR, "descriptor");

/* Its first word, and back. Built and taken apart in registers: a wide load from narrow stores waits for them. */
static inline uint64_t vmb_descriptor_word(const struct vmb_descriptor *d)
{
    return d->type | (uint64_t)d->offset8 << 16 | (uint64_t)d->len8 << 32 | (uint64_t)d->flags << 48;
}

static inline struct vmb_descriptor vmb_descriptor_of(uint64_t word, uint64_t id)
{
    return (struct vmb_descriptor){(uint16_t)word, (uint16_t)(word >> 16), (uint16_t)(word >> 32),
                                   (uint16_t)(word >> 48), id};
}

/* A checked packet: the type header has `extra` bytes behind the descriptor, the payload `size` behind that. */
struct vmb_packet {
    uint64_t id;
    uint32_t extra;
    uint32_t size;
    uint16_t type;
    uint16_t flags;
};

/* Why a ring is dead: the field, its value, and what would have been right. */
enum vmb_ring_field {
    VMB_RING_SOUND = 0,
    VMB_FIELD_WRITE_INDEX,
    VMB_FIELD_READ_INDEX,
    VMB_FIELD_AVAILABLE,
    VMB_FIELD_LEN8,
    VMB_FIELD_OFFSET8,
    VMB_FIELD_TYPE,
    VMB_FIELD_FLAGS,
    VMB_FIELD_EXTRA,
    VMB_FIELD_RANGE_COUNT,
    VMB_FIELD_INTERRUPT_MASK,
    VMB_FIELD_PENDING_SEND_SZ,
};

struct vmb_ring_fault {
    uint32_t field; /* enum vmb_ring_field */
    uint32_t at;    /* byte of the data area where the packet begins; 0 for a field of the header page */
    uint64_t value;
    uint64_t limit;
};

static inline struct vmb_ring_fault vmb_fault(uint32_t field, uint32_t at, uint64_t value, uint64_t limit)
{
    return (struct vmb_ring_fault){field, at, value, limit};
}

/* Type 7 and 9 begin with 8 bytes of their own; the last four of them count the ranges. */
static inline uint32_t vmb_packet_least_extra(uint32_t type)
{
    return type == VMB_PACKET_TRANSFER_PAGES || type == VMB_PACKET_GPA_DIRECT ? 8u : 0u;
}

/* What is wrong with a descriptor at `at`, of which `there` bytes are on the ring with all that follows. */
__attribute__((cold, noinline, unused)) static struct vmb_ring_fault
vmb_descriptor_fault(const struct vmb_descriptor *d, uint32_t at, uint32_t there)
{
    if (d->len8 * 8u + VMB_TRAILER > there)
        return vmb_fault(VMB_FIELD_LEN8, at, d->len8, (there - VMB_TRAILER) / 8u);
    if (d->offset8 < 2 || d->offset8 > d->len8)
        return vmb_fault(VMB_FIELD_OFFSET8, at, d->offset8, d->len8);
    if (d->type > 31 || !(VMB_PACKET_TYPES >> d->type & 1u))
        return vmb_fault(VMB_FIELD_TYPE, at, d->type, 0);
    if (d->flags & ~VMB_PACKET_COMPLETE)
        return vmb_fault(VMB_FIELD_FLAGS, at, d->flags, VMB_PACKET_COMPLETE);
    return vmb_fault(VMB_FIELD_EXTRA, at, d->offset8 * 8u - VMB_DESCRIPTOR, vmb_packet_least_extra(d->type));
}

#define VMB_WORD_LEN8(word) ((uint32_t)((word) >> 32) & 0xffffu)
#define VMB_WORD_OFFSET8(word) ((uint32_t)((word) >> 16) & 0xffffu)
/* All of the first word but len8 and the one flag, and what most packets have there. */
#define VMB_WORD_FIXED (~(0xffffull << 32 | (uint64_t)VMB_PACKET_COMPLETE << 48))
#define VMB_WORD_PLAIN (VMB_PACKET_IN_BAND | 2ull << 16)

/* 1 when a reader may go by this first word. Also the trailer must be there (case 260). */
static inline int vmb_descriptor_sound(uint64_t word, uint32_t there)
{
    const struct vmb_descriptor d = vmb_descriptor_of(word, 0);
    if (__builtin_expect((word & VMB_WORD_FIXED) == VMB_WORD_PLAIN, 1))
        return (d.len8 * 8u + VMB_TRAILER <= there) & (d.len8 >= 2);
    return d.len8 * 8u + VMB_TRAILER <= there && d.offset8 >= 2 && d.offset8 <= d.len8 && d.type < 32 &&
           VMB_PACKET_TYPES >> d.type & 1u && !(d.flags & ~VMB_PACKET_COMPLETE) &&
           d.offset8 * 8u >= VMB_DESCRIPTOR + vmb_packet_least_extra(d.type);
}

/* GPA direct must name memory. `extra` is the copied type header, at least vmb_packet_least_extra() long. */
static inline int vmb_extra_sound(uint32_t type, const void *extra)
{
    uint32_t count = 1;
    if (type == VMB_PACKET_GPA_DIRECT)
        memcpy(&count, (const char *)extra + 4, sizeof count);
    return count != 0;
}

static inline struct vmb_packet vmb_packet_of(const struct vmb_descriptor *d)
{
    return (struct vmb_packet){
        .id = d->id,
        .extra = d->offset8 * 8u - VMB_DESCRIPTOR,
        .size = (uint32_t)(d->len8 - d->offset8) * 8u,
        .type = d->type,
        .flags = d->flags,
    };
}

/* Bytes of a packet on the ring, trailer included; 0 when no descriptor can say it. */
static inline uint32_t vmb_packet_total(size_t extra, size_t payload)
{
    const size_t most = VMB_LEN8_MOST * (size_t)8u;
    if (extra > most || payload > most || extra % 8u)
        return 0;
    const size_t whole = VMB_DESCRIPTOR + extra + ((payload + 7u) & ~(size_t)7u);
    return whole > most ? 0 : (uint32_t)(whole + VMB_TRAILER);
}

/* One sentence about a fault: which field, which value, what would be right. Returns what snprintf returns. */
__attribute__((cold, unused)) static int vmb_fault_text(const struct vmb_ring_fault *f, char *text, size_t room)
{
    const unsigned long long value = f->value, limit = f->limit;
    switch (f->field) {
    case VMB_FIELD_WRITE_INDEX:
    case VMB_FIELD_READ_INDEX:
        return snprintf(text, room, "%s is 0x%llx, not a multiple of 8 below 0x%llx",
                        f->field == VMB_FIELD_WRITE_INDEX ? "write_index" : "read_index", value, limit);
    case VMB_FIELD_AVAILABLE:
        return snprintf(text, room, "%llu bytes are available at 0x%x, a packet has at least %llu", value, f->at,
                        limit);
    case VMB_FIELD_LEN8:
        return snprintf(text, room, "len8 of the packet at 0x%x is %llu, at most %llu can be there", f->at, value,
                        limit);
    case VMB_FIELD_OFFSET8:
        return snprintf(text, room, "offset8 of the packet at 0x%x is %llu, not in 2..%llu", f->at, value, limit);
    case VMB_FIELD_TYPE:
        return snprintf(text, room, "type of the packet at 0x%x is %llu, not 6, 7, 9 or 11", f->at, value);
    case VMB_FIELD_FLAGS:
        return snprintf(text, room, "flags of the packet at 0x%x are 0x%llx, only bit 0 is known", f->at, value);
    case VMB_FIELD_EXTRA:
        return snprintf(text, room, "type header of the packet at 0x%x has %llu bytes, at least %llu are needed",
                        f->at, value, limit);
    case VMB_FIELD_RANGE_COUNT:
        return snprintf(text, room, "range count of the packet at 0x%x is %llu, at least %llu is needed", f->at,
                        value, limit);
    case VMB_FIELD_INTERRUPT_MASK:
        return snprintf(text, room, "interrupt_mask is 0x%llx though its reader stored %llu", value, limit);
    case VMB_FIELD_PENDING_SEND_SZ:
        return snprintf(text, room, "pending_send_sz is 0x%llx though its writer stored 0x%llx", value, limit);
    default:
        return snprintf(text, room, "sound");
    }
}

#endif
