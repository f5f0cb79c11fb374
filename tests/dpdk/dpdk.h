// SPDX-License-Identifier: MIT
/*
 * What a program needs to know of DPDK's VMBus library to put its ring code on memory of ours: librte-bus-vmbus23
 * of Debian 12, which is DPDK 22.11. Its channel is opaque outside of the library, so the layout is said here and
 * checked before use: a ring that it was told of must come out where it was put.
 * Source: DPDK 22.11 drivers/bus/vmbus/{rte_bus_vmbus.h,private.h,vmbus_bufring.c}.
 */
#ifndef TESTS_DPDK_H
#define TESTS_DPDK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DPDK_HEADER 4096u
#define DPDK_IN_BAND 6
#define DPDK_COMPLETION 11

struct dpdk_ring {
    void *memory;
    uint32_t data_size;
    uint32_t write_index; /* of its own: writers reserve here before they publish */
};

struct dpdk_channel {
    void *lists[3];
    const void *device;
    struct dpdk_ring in, out;
    uint16_t relid, subchannel;
    uint8_t monitor_id;
    void *monitor_page;
};
_Static_assert(offsetof(struct dpdk_channel, in) == 0x20, "rxbr");
_Static_assert(offsetof(struct dpdk_channel, out) == 0x30, "txbr");
_Static_assert(offsetof(struct dpdk_channel, monitor_id) == 0x44, "monitor id");
_Static_assert(offsetof(struct dpdk_channel, monitor_page) == 0x48, "monitor page");

/* A monitor page is where this library rings: bit 0 of group 0, when it was told of monitor id 0. */
struct dpdk_monitor {
    uint64_t head;
    struct {
        uint32_t pending, armed;
    } group[4];
    uint8_t rest[4096 - 40];
};

struct dpdk_gpa {
    uint32_t length, offset;
    uint64_t page;
};

int rte_vmbus_chan_send(struct dpdk_channel *, uint16_t type, void *data, uint32_t length, uint64_t id,
                        uint32_t flags, bool *need_signal);
int rte_vmbus_chan_send_sglist(struct dpdk_channel *, struct dpdk_gpa *, uint32_t count, void *data,
                               uint32_t length, uint64_t id, bool *need_signal);
int rte_vmbus_chan_recv(struct dpdk_channel *, void *data, uint32_t *length, uint64_t *id);
int rte_vmbus_chan_recv_raw(struct dpdk_channel *, void *data, uint32_t *length);
bool rte_vmbus_chan_rx_empty(const struct dpdk_channel *);
void rte_vmbus_chan_signal_read(struct dpdk_channel *, uint32_t bytes);

/* `out` is what this side writes, `in` what it reads; each is a header page and `size` bytes of data. */
static inline void dpdk_channel_init(struct dpdk_channel *channel, void *out, void *in, uint32_t size,
                                     struct dpdk_monitor *monitor)
{
    memset(channel, 0, sizeof *channel);
    channel->out = (struct dpdk_ring){out, size, *(volatile uint32_t *)out};
    channel->in = (struct dpdk_ring){in, size, *(volatile uint32_t *)in};
    channel->monitor_page = monitor;
}

/* Whether its last read rang, and from then on it has not. */
static inline bool dpdk_rang(struct dpdk_monitor *monitor)
{
    return __atomic_exchange_n(&monitor->group[0].pending, 0, __ATOMIC_SEQ_CST) != 0;
}

#endif
