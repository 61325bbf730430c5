/* SPDX-License-Identifier: Apache-2.0 */
/* Queueing disciplines and their classes. */
#include <errno.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "netlink-request.h"
#include "netlink.h"

#define NSEC_PER_SEC 1000000000ULL

/* The unit of struct tc_htb_opt's times: PSCHED_SHIFT in the kernel's net/pkt_sched.h. */
#define PSCHED_TICK_NSEC 64

/* What may go at once: the longest packet that there is usually, and what comes due while the
 * qdisc's timer is late on a busy machine. With 1 ms instead of 10, flows got 0.58 to 0.99 of their
 * limits on one where twice as many threads were ready to run as it had processors; with 10, 0.93
 * to 1.01 (bench/bench limits). */
#define BURST_BYTES (64U << 10)
#define BURST_NSEC  10000000ULL

/* How much of one class goes before another's turn. Of classes with a limit of their own, none
 * borrows, so it decides nothing; without it the kernel warns. */
#define QUANTUM 65536

static struct tcmsg *tc_request(struct netlink_request *req, uint16_t type, uint16_t flags,
                                uint32_t ifindex, uint32_t handle, uint32_t parent)
{
        struct tcmsg *tcm = netlink_request_init(req, type, flags, sizeof(*tcm));

        tcm->tcm_ifindex = (int)ifindex;
        tcm->tcm_handle = handle;
        tcm->tcm_parent = parent;
        return tcm;
}

int netlink_htb_add(struct netlink *nl, uint32_t ifindex, uint32_t handle)
{
        struct tc_htb_glob init = {.version = 3, .rate2quantum = 10};
        struct netlink_request req;
        struct nlattr *options;
        int r;

        tc_request(&req, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, ifindex, handle, TC_H_ROOT);
        mnl_attr_put_strz(&req.head, TCA_KIND, "htb");
        options = mnl_attr_nest_start(&req.head, TCA_OPTIONS);
        mnl_attr_put(&req.head, TCA_HTB_INIT, sizeof(init), &init);
        mnl_attr_nest_end(&req.head, options);
        r = netlink_request_run(nl, &req, NULL, NULL);
        return r == -EEXIST ? 0 : r;
}

/* How long this many bytes take, in ticks. */
static uint32_t ticks(uint64_t bytes, uint64_t rate)
{
        /* 128 bits: bytes and nanoseconds of an hour at the lowest rate do not fit into 64. */
        unsigned __int128 t = (unsigned __int128)bytes * NSEC_PER_SEC / rate / PSCHED_TICK_NSEC;

        return t > UINT32_MAX ? UINT32_MAX : (uint32_t)t;
}

static int put_class(struct netlink *nl, uint32_t ifindex, uint32_t handle, uint32_t class,
                     uint64_t rate)
{
        uint64_t burst = BURST_BYTES + rate / (NSEC_PER_SEC / BURST_NSEC);
        struct tc_ratespec spec = {
            /* Without a table of rates, which none but the oldest kernels want. */
            .linklayer = TC_LINKLAYER_ETHERNET,
            .rate = rate > UINT32_MAX ? UINT32_MAX : (uint32_t)rate,
        };
        struct tc_htb_opt opt = {
            .rate = spec,
            .ceil = spec,
            .buffer = ticks(burst, rate),
            .cbuffer = ticks(burst, rate),
            .quantum = QUANTUM,
        };
        struct netlink_request req;
        struct nlattr *options;

        tc_request(&req, RTM_NEWTCLASS, NLM_F_CREATE, ifindex, class, handle);
        mnl_attr_put_strz(&req.head, TCA_KIND, "htb");
        options = mnl_attr_nest_start(&req.head, TCA_OPTIONS);
        mnl_attr_put(&req.head, TCA_HTB_PARMS, sizeof(opt), &opt);
        mnl_attr_put_u64(&req.head, TCA_HTB_RATE64, rate);
        mnl_attr_put_u64(&req.head, TCA_HTB_CEIL64, rate);
        mnl_attr_nest_end(&req.head, options);
        return netlink_request_run(nl, &req, NULL, NULL);
}

/* What waits in a class: first in, first out, bounded in bytes (tc-bfifo(8)). */
static int put_queue(struct netlink *nl, uint32_t ifindex, uint32_t class, uint32_t bytes)
{
        struct tc_fifo_qopt opt = {.limit = bytes};
        struct netlink_request req;

        /* Changed where it is one; replaced, with the loss of what waits, where it is not yet. */
        tc_request(&req, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, ifindex, 0, class);
        mnl_attr_put_strz(&req.head, TCA_KIND, "bfifo");
        mnl_attr_put(&req.head, TCA_OPTIONS, sizeof(opt), &opt);
        return netlink_request_run(nl, &req, NULL, NULL);
}

int netlink_htb_class_put(struct netlink *nl, uint32_t ifindex, uint32_t handle, uint16_t minor,
                          uint64_t rate, uint32_t queue)
{
        uint32_t class = handle | minor;
        int r;

        if (rate == 0 || minor == 0)
                return -EINVAL;
        r = put_class(nl, ifindex, handle, class, rate);
        return r < 0 ? r : put_queue(nl, ifindex, class, queue);
}

int netlink_htb_class_del(struct netlink *nl, uint32_t ifindex, uint32_t handle, uint16_t minor)
{
        struct netlink_request req;

        tc_request(&req, RTM_DELTCLASS, 0, ifindex, handle | minor, handle);
        return netlink_request_run(nl, &req, NULL, NULL);
}
