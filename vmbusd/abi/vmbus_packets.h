// SPDX-License-Identifier: MIT
/*
 * Packets of a SEQPACKET socket, several for one system call. Nothing here waits.
 *
 * No room is offered for descriptors: the kernel closes what a peer attaches and says MSG_CTRUNC.
 * Source: sendmmsg(2), recvmmsg(2), unix(7).
 */
#ifndef VMBUS_PACKETS_H
#define VMBUS_PACKETS_H

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Packets of one system call: more than one peer says in a turn, and the kernel looks no further than
 * what is there. */
#define VMB_BURST 64
/* Packets taken at once: whoever takes them keeps those that have to wait. */
#define VMB_TAKE 16

struct vmb_datagram {
    void *at;
    size_t size;
};

/* Returns how many packets the kernel took, 0 if it has no room now, or -errno. */
static inline int vmb_send_packets(int fd, const struct vmb_datagram *packets, unsigned count)
{
    struct mmsghdr headers[VMB_BURST];
    struct iovec parts[VMB_BURST];
    ssize_t done;

    if (count == 1) {
        done = send(fd, packets[0].at, packets[0].size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (done >= 0)
            return 1;
    } else {
        memset(headers, 0, count * sizeof *headers);
        for (unsigned i = 0; i < count; i++) {
            parts[i].iov_base = packets[i].at;
            parts[i].iov_len = packets[i].size;
            headers[i].msg_hdr.msg_iov = &parts[i];
            headers[i].msg_hdr.msg_iovlen = 1;
        }
        done = sendmmsg(fd, headers, count, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (done > 0)
            return (int)done;
    }
    return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

/* Takes packets into `room` bytes each; sizes[i] and flags[i] say what came. Returns how many came, 0 if
 * none is there, or -errno. The end of a link is a packet of 0 bytes, and the last; what the peer had said
 * before comes first, however it ended. */
static inline int vmb_take_packets(int fd, char *buffer, size_t room, size_t *sizes, int *flags)
{
    struct mmsghdr headers[VMB_TAKE];
    struct iovec parts[VMB_TAKE];
    int came;

    memset(headers, 0, sizeof headers);
    for (unsigned i = 0; i < VMB_TAKE; i++) {
        parts[i].iov_base = buffer + i * room;
        parts[i].iov_len = room;
        headers[i].msg_hdr.msg_iov = &parts[i];
        headers[i].msg_hdr.msg_iovlen = 1;
    }
    came = recvmmsg(fd, headers, VMB_TAKE, MSG_DONTWAIT, NULL);
    /* A peer that closed before it had read all of ours is told of before what it had said, and once. */
    if (came < 0 && errno == ECONNRESET)
        came = recvmmsg(fd, headers, VMB_TAKE, MSG_DONTWAIT, NULL);
    if (came < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    for (int i = 0; i < came; i++) {
        sizes[i] = headers[i].msg_len;
        flags[i] = headers[i].msg_hdr.msg_flags;
        if (!sizes[i]) /* after the end the kernel says so once for each that is asked for */
            return i + 1;
    }
    return came;
}

#endif
