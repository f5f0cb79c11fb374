// SPDX-License-Identifier: MIT
/*
 * Every byte that two processes share, with its size asserted. docs/abi.md is this file in prose and
 * vmbusd/abi/layout.py the same numbers for Python; a test compares all three.
 * Sources: SIEFP layout, TLFS 11 and Linux 6.1 hyperv-tlfs.h; ring page, Linux 6.1 include/linux/hyperv.h; the rest is
 * this project's own ABI, version 1.
 */
#ifndef VMBUS_ABI_H
#define VMBUS_ABI_H

#include <stddef.h>
#include <stdint.h>

#define VMB_ABI_VERSION 1u
#define VMB_TABLE_MAGIC 0x4c42545355424d56ull /* "VMBUSTBL", little-endian */

#define VMB_PAGE 4096u
#define VMB_FLAGS 2048u /* flags of one SINT; flag 0 is never a channel */
#define VMB_WORDS 32u   /* 2048 flags as 64-bit words */
#define VMB_MAX_VPS 64u
#define VMB_SINT 2u /* VMBus is SINT 2, so its flags start at byte 512 of a page */
#define VMB_FLAGS_OFFSET (VMB_SINT * 256u)
#define VMB_HOST_IDLE_OFFSET 1024u /* in a -host<j> page */
#define VMB_NO_TARGET 0xffffffffu  /* OPENCHANNEL.target_vp: never interrupt */
/* Set in a record's target: its guest speaks 0.13 or 1.1 and looks into its interrupt page when flag 0 of this
 * VP is set. Such a target lies outside every partition, so whoever knows only VPs signals nobody. */
#define VMB_TARGET_PAGE 0x40000000u

/* A slot: generation << 33 | open << 32 | byte offset of the record in the table object; 0 = no channel. */
#define VMB_SLOT_OPEN (1ull << 32)
#define VMB_SLOT_GENERATION(slot) ((uint32_t)((slot) >> 33))
#define VMB_SLOT_RECORD(slot) ((uint32_t)(slot))
#define VMB_GENERATION_MAX 0x7fffffffu /* 31 bits; after it comes 1 again, 0 is never used */

/* A claim word: 0, RUN|vp or RUN|AGAIN|vp. AGAIN never stands without RUN. */
#define VMB_CLAIM_RUN 0x80000000u
#define VMB_CLAIM_AGAIN 0x40000000u
#define VMB_CLAIM_VP(claim) ((claim) & 0xffffu)

/* One interrupt page: page i of -events belongs to VP i. Only SINT 2's flags are used here. */
struct vmb_event_page {
    uint64_t other_sints_low[2 * 32];
    uint64_t flags[VMB_WORDS];
    uint64_t other_sints_high[13 * 32];
};

/* Who plays a VP: written by the daemon before it admits the worker. */
struct vmb_owner {
    uint32_t pid;
    uint32_t state; /* enum vmb_vp_state */
    uint64_t start_time; /* field 22 of /proc/<pid>/stat: with the pid it names a process for ever */
    uint64_t incarnation; /* counts admissions, across daemons */
    uint64_t reserved;
};

enum vmb_vp_state { VMB_VP_VACANT = 0, VMB_VP_ONLINE = 1, VMB_VP_OFFLINE = 2, VMB_VP_LEAVING = 3 };

#define VMB_FAULT_RULES 16u      /* all that fit behind the owners */
#define VMB_FAULT_ALWAYS 0x80000000u /* probability: of 2^31, so that this is certain */
#define VMB_FAULT_ANY 0xffffffffu    /* vp, host_link: whichever */

enum vmb_fault_kind {
    VMB_FAULT_NONE = 0,
    VMB_FAULT_DROP_DOORBELL = 1,
    VMB_FAULT_DELAY_DOORBELL = 2,
    VMB_FAULT_DUPLICATE_DOORBELL = 3,
    VMB_FAULT_REORDER_DOORBELL = 4,
    VMB_FAULT_DELAY_DISPATCH = 5,
    VMB_FAULT_DELAY_READ = 6,
    VMB_FAULT_STUCK_VP = 7,
    VMB_FAULT_KILL = 8,
};

enum vmb_fault_who { VMB_FAULT_HOSTS = 1, VMB_FAULT_GUESTS = 2 };

/* Where a process may be made to end itself; docs/faults.md says what a death there leaves behind. */
enum vmb_fault_step {
    VMB_STEP_SIGNAL_BIT_POST = 1,
    VMB_STEP_SIGNAL_POST_RELOAD = 2,
    VMB_STEP_SIGNAL_HOST_BIT_POST = 3,
    VMB_STEP_DRAIN_TAKEN_CLEAR = 4,
    VMB_STEP_DISPATCH_CLAIM_CALLBACK = 5,
    VMB_STEP_DISPATCH_LET_GO = 6,
    VMB_STEP_DRAIN_DONE = 7,
    VMB_STEP_SLEEP_ANNOUNCE_LOOK = 8,
    VMB_STEP_RING_COPY_PUBLISH = 9,
    VMB_STEP_RING_PUBLISH_SIGNAL = 10,
    VMB_STEP_RING_COPY_COMMIT = 11,
    VMB_STEP_HOST_SLEEP_ANNOUNCE_LOOK = 12,
    VMB_STEP_HOST_TAKE_DISPATCH = 13,
    VMB_STEP_RING_KEEP_PUBLISH = 14,
    VMB_STEP_RING_KEEP_COMMIT = 15,
};

/* One injected fault, eight words. The first is stored with an odd sequence and no kind before the others change,
 * and whole after them: a reader that finds it the same before and after has read one rule. */
struct vmb_fault_rule {
    uint32_t sequence;
    uint32_t kind;        /* enum vmb_fault_kind */
    uint32_t who;         /* enum vmb_fault_who, or of both */
    uint32_t step;        /* enum vmb_fault_step of a kill, else 0 */
    uint32_t relid;       /* 0: every channel */
    uint32_t device;      /* not 0: every channel of that channel's device */
    uint32_t vp;          /* VMB_FAULT_ANY: whichever */
    uint32_t host_link;   /* the same */
    uint32_t probability; /* of 2^31 */
    uint32_t every;       /* the first, then each so-manieth occasion; 1: each */
    uint32_t after;       /* occasions left alone first */
    uint32_t times;       /* 0: without end */
    uint64_t seed;
    uint32_t delay; /* us */
    uint32_t reserved;
};

struct vmb_table_header {
    uint64_t magic;
    uint32_t abi_version;
    uint32_t header_size;
    uint32_t slot_count;
    uint32_t slot_size;
    uint32_t record_size;
    uint32_t vp_count;
    uint64_t epoch; /* one more at each start of a daemon on this set */
    uint64_t ram_size;
    char partition[32];
    uint8_t fault_armed; /* non-zero: some fault injection is armed */
    uint8_t reserved1[7];
    uint64_t interrupt_page; /* guest physical address of the legacy interrupt page in use; 0: none */
    uint64_t monitor_page;   /* the same of the child-to-parent monitor page */
    uint8_t reserved2[920];
    struct vmb_owner owner[VMB_MAX_VPS];
    struct vmb_fault_rule fault[VMB_FAULT_RULES];
};

struct vmb_record {
    uint32_t state; /* for display; the slot decides */
    uint32_t target_vp;
    uint32_t relid;
    uint32_t event_flag;
    uint32_t host_link;
    uint32_t connection_id;
    uint32_t monitor_id; /* 0xff: none */
    uint32_t flags;
    uint64_t generation;
    uint8_t interface_id[16];
    uint8_t instance_id[16];
    uint32_t subchannel_index;
    uint8_t reserved[48];
    uint32_t flag_used; /* event flag = this record's index has been filled once; survives the release */
};

struct vmb_table {
    struct vmb_table_header header;
    uint64_t slot[VMB_FLAGS];
    struct vmb_record record[VMB_FLAGS]; /* indexed by relid */
};

/* What one worker writes about itself. `idle` has its cache line alone: every sender loads it at every signal. */
struct vmb_vpwork {
    uint64_t idle; /* number of the sleep; odd = asleep or about to be */
    uint64_t reserved1[7];
    uint64_t passes; /* heartbeat: one more at each look at the page */
    uint64_t callbacks;
    uint64_t spurious;   /* bits that led to no callback */
    uint64_t left_again; /* bits of a channel that another VP was running */
    uint64_t sleeps;     /* waits that blocked */
    uint64_t empty_wakes;
    uint64_t rescued; /* bits found by a look that the protocol does not need */
    uint64_t storms;  /* times a doorbell rung for nothing was drained */
    uint64_t off_target;
    uint64_t exceptions;
    uint64_t spins_won;
    uint64_t spins_lost;
    uint64_t reserved2[4];
    uint32_t fired[VMB_FAULT_RULES]; /* faults injected, by rule */
    uint64_t taken[VMB_WORDS];
};

#define VMB_REQUESTS 256u /* outstanding requests of one channel: NetVSC, the busiest user, asks for 256 at most by default */

/* What a channel remembers when its callbacks move between processes. The host has no access to it. */
struct vmb_block {
    uint32_t claim; /* a cache line of its own */
    uint32_t reserved1[15];
    uint32_t ring_pfn; /* first page of the ring GPADL; this line belongs to the guest's library */
    uint32_t ring_pages;
    uint32_t ring_downstream;
    uint32_t ring_gpadl;
    uint32_t ring_lock;   /* who writes the outgoing ring: 0, VP + 1, or VMB_LOCK_CONTROL */
    uint32_t ring_writer; /* who wrote it last, the same numbers */
    uint32_t ring_write;  /* our own indices of both rings: the pages the host can write are never asked for them */
    uint32_t ring_read;
    uint32_t home; /* VP + 1 whose process keeps the channel's state; 0: no process does */
    uint32_t reserved2[7];
    uint64_t interrupts; /* from here on cleared by the daemon once a close has completed */
    uint64_t off_target;
    uint64_t reserved3[14];
    uint8_t driver_state[256];
    uint64_t requests[VMB_REQUESTS];
    uint64_t request_head; /* where the search for a free request begins */
    uint8_t reserved4[1528];
};
#define VMB_BLOCK_CLEARED_FROM 128u
#define VMB_LOCK_CONTROL 0xffffu /* the guest's control process, which plays no VP */

/* Guest-to-host event page of one host link. */
struct vmb_host_page {
    uint64_t other_sints_low[2 * 32];
    uint64_t flags[VMB_WORDS];
    uint64_t other_sints_high[32];
    uint64_t idle;
    uint64_t reserved1[7];
    uint32_t fired[VMB_FAULT_RULES]; /* faults injected into the host, by rule */
    uint32_t fired_in_guest[VMB_FAULT_RULES]; /* the same into whoever signals it */
    uint64_t reserved2[360];
};

/* The first page of a ring, in `-ram`; the data area follows it. The layout is VMBus's own. */
struct vmb_ring_page {
    uint32_t write_index;     /* byte offset into the data area, a multiple of 8, below its size */
    uint32_t read_index;      /* the same */
    uint32_t interrupt_mask;  /* not 0: the reader wants no "became non-empty" interrupt */
    uint32_t pending_send_sz; /* not 0: the writer waits for more than so many free bytes */
    uint32_t reserved1[12];
    uint32_t feature_bits; /* VMB_RING_FEATURE_PENDING */
    uint32_t reserved2[1007];
};
#define VMB_RING_FEATURE_PENDING 1u

_Static_assert(sizeof(struct vmb_event_page) == VMB_PAGE, "one page per VP");
_Static_assert(offsetof(struct vmb_event_page, flags) == VMB_FLAGS_OFFSET, "SINT 2");
_Static_assert(sizeof(struct vmb_owner) == 32, "owner");
_Static_assert(sizeof(struct vmb_table_header) == VMB_PAGE, "table header");
_Static_assert(offsetof(struct vmb_table_header, owner) == 1024, "owners");
_Static_assert(sizeof(struct vmb_fault_rule) == 64, "fault rule");
_Static_assert(offsetof(struct vmb_table_header, fault) == 3072, "fault rules");
_Static_assert(sizeof(struct vmb_record) == 128, "record");
_Static_assert(offsetof(struct vmb_table, slot) == VMB_PAGE, "slots");
_Static_assert(offsetof(struct vmb_table, record) == VMB_PAGE + 8u * VMB_FLAGS, "records");
_Static_assert(sizeof(struct vmb_table) == VMB_PAGE + 16384u + 128u * VMB_FLAGS, "table");
_Static_assert(sizeof(struct vmb_vpwork) == 512, "vpwork");
_Static_assert(offsetof(struct vmb_vpwork, passes) == 64, "idle has a cache line of its own");
_Static_assert(offsetof(struct vmb_vpwork, taken) == 256, "taken has cache lines of its own");
_Static_assert(offsetof(struct vmb_vpwork, fired) == 192, "fired has a cache line of its own");
_Static_assert(sizeof(struct vmb_block) == VMB_PAGE, "block");
_Static_assert(offsetof(struct vmb_block, ring_pfn) == 64, "claim has a cache line of its own");
_Static_assert(offsetof(struct vmb_block, interrupts) == VMB_BLOCK_CLEARED_FROM, "cleared part");
_Static_assert(offsetof(struct vmb_block, driver_state) == 256, "driver state");
_Static_assert(offsetof(struct vmb_block, requests) == 512, "requestor table");
_Static_assert(sizeof(struct vmb_host_page) == VMB_PAGE, "host page");
_Static_assert(offsetof(struct vmb_host_page, idle) == VMB_HOST_IDLE_OFFSET, "host idle word");
_Static_assert(offsetof(struct vmb_host_page, fired) == 1088, "the host's idle word has a cache line of its own");
_Static_assert(sizeof(struct vmb_ring_page) == VMB_PAGE, "ring page");
_Static_assert(offsetof(struct vmb_ring_page, feature_bits) == 64, "feature bits");

#endif
