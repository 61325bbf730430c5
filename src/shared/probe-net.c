/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Probes of devices, queueing disciplines, NAT and sock_diag, in a network namespace that ends with
 * the child process that made it.
 */
#include <netinet/in.h> /* before the kernel's headers, which take it into account */

#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../basic/fd.h"
#include "netlink.h"
#include "probe-parts.h"
#include "sockdiag.h"

static const uint8_t mac_a[6] = {0x02, 0, 0, 0, 0, 1}, mac_b[6] = {0x02, 0, 0, 0, 0, 2};

static int try_veth(char *detail, size_t size)
{
        _cleanup_(netlink_freep) struct netlink *nl = NULL;
        _cleanup_close_ int netns = -1;
        int r;

        netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        if (netns < 0)
                return probe_say(detail, size, -errno, "cannot open the namespace: %m");
        r = netlink_open(-1, &nl);
        if (r >= 0)
                r = netlink_veth_add(nl, "probe0", mac_a, "probe1", mac_b, netns, 1500);
        return r < 0 ? probe_say(detail, size, r, "cannot make one: %m") : 0;
}

static int try_vxlan(char *detail, size_t size)
{
        _cleanup_(netlink_freep) struct netlink *nl = NULL;
        int r;

        r = netlink_open(-1, &nl);
        if (r >= 0)
                r = netlink_vxlan_add(nl, "probe0", 4789, 1450, mac_a);
        return r < 0 ? probe_say(detail, size, r, "cannot make one: %m") : 0;
}

static int try_htb(char *detail, size_t size)
{
        _cleanup_(netlink_freep) struct netlink *nl = NULL;
        struct netlink_link lo;
        int r;

        r = netlink_open(-1, &nl);
        if (r >= 0)
                r = netlink_link_get(nl, "lo", &lo);
        if (r >= 0)
                r = netlink_htb_add(nl, lo.ifindex, 0x10000);
        if (r >= 0)
                r = netlink_htb_class_put(nl, lo.ifindex, 0x10000, 1, 1000, 65536);
        return r < 0 ? probe_say(detail, size, r, "cannot make a class of it: %m") : 0;
}

static int each_socket(const struct sockdiag_tcp *s, void *userdata)
{
        *(int *)userdata += 1;
        return 0;
}

/* The namespace has one socket, the listener of this function: the list has to show it. */
static int try_sock_diag(char *detail, size_t size)
{
        _cleanup_close_ int fd = -1;
        int r, seen = 0;

        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || listen(fd, 1) < 0)
                return probe_say(detail, size, -errno, "cannot make a listener: %m");
        r = sockdiag_tcp_each(-1, 1U << TCP_LISTEN, -1, each_socket, &seen);
        if (r < 0)
                return probe_say(detail, size, r, "the kernel does not list sockets: %m");
        return seen == 1 ? 0 : probe_say(detail, size, -EIO, "%d sockets listed, not 1", seen);
}

/* --- masquerade ------------------------------------------------------------------------------- */

#define TABLE "slim_probe"
#define CHAIN "post"

struct nft_batch {
        struct mnl_nlmsg_batch *batch;
        uint32_t seq;
};

static struct nlmsghdr *batch_put(struct nft_batch *b, uint16_t type, uint16_t flags)
{
        struct nlmsghdr *h = mnl_nlmsg_put_header(mnl_nlmsg_batch_current(b->batch));
        struct nfgenmsg *g = mnl_nlmsg_put_extra_header(h, sizeof(*g));
        bool edge = type == NFNL_MSG_BATCH_BEGIN || type == NFNL_MSG_BATCH_END;

        h->nlmsg_type = edge ? type : (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type);
        h->nlmsg_flags = NLM_F_REQUEST | flags;
        h->nlmsg_seq = ++b->seq;
        g->nfgen_family = edge ? AF_UNSPEC : NFPROTO_IPV4;
        g->version = NFNETLINK_V0;
        g->res_id = edge ? htons(NFNL_SUBSYS_NFTABLES) : 0;
        return h;
}

/* table ip slim_probe { chain post { type nat hook postrouting priority srcnat; masquerade; } } */
static void batch_fill(struct nft_batch *b)
{
        struct nlattr *expressions, *element, *hook;
        struct nlmsghdr *h;

        batch_put(b, NFNL_MSG_BATCH_BEGIN, 0);
        mnl_nlmsg_batch_next(b->batch);

        h = batch_put(b, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_ACK);
        mnl_attr_put_strz(h, NFTA_TABLE_NAME, TABLE);
        mnl_nlmsg_batch_next(b->batch);

        h = batch_put(b, NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_ACK);
        mnl_attr_put_strz(h, NFTA_CHAIN_TABLE, TABLE);
        mnl_attr_put_strz(h, NFTA_CHAIN_NAME, CHAIN);
        mnl_attr_put_strz(h, NFTA_CHAIN_TYPE, "nat");
        hook = mnl_attr_nest_start(h, NFTA_CHAIN_HOOK);
        mnl_attr_put_u32(h, NFTA_HOOK_HOOKNUM, htonl(NF_INET_POST_ROUTING));
        mnl_attr_put_u32(h, NFTA_HOOK_PRIORITY, htonl(100));
        mnl_attr_nest_end(h, hook);
        mnl_nlmsg_batch_next(b->batch);

        h = batch_put(b, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK);
        mnl_attr_put_strz(h, NFTA_RULE_TABLE, TABLE);
        mnl_attr_put_strz(h, NFTA_RULE_CHAIN, CHAIN);
        expressions = mnl_attr_nest_start(h, NFTA_RULE_EXPRESSIONS);
        element = mnl_attr_nest_start(h, NFTA_LIST_ELEM);
        mnl_attr_put_strz(h, NFTA_EXPR_NAME, "masq");
        mnl_attr_nest_end(h, mnl_attr_nest_start(h, NFTA_EXPR_DATA));
        mnl_attr_nest_end(h, element);
        mnl_attr_nest_end(h, expressions);
        mnl_nlmsg_batch_next(b->batch);

        batch_put(b, NFNL_MSG_BATCH_END, 0);
        mnl_nlmsg_batch_next(b->batch);
}

/* The kernel has answered all of a batch by the time that send() returns: three messages. */
static int batch_answers(int fd)
{
        char buf[8192] __attribute__((aligned(NLMSG_ALIGNTO)));

        for (int acks = 0; acks < 3;) {
                ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
                struct nlmsghdr *h = (struct nlmsghdr *)buf;
                int left = (int)n;

                if (n < 0)
                        return errno == EAGAIN ? -EPROTO : -errno;
                for (; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left)) {
                        const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);

                        if (h->nlmsg_type != NLMSG_ERROR)
                                continue;
                        if (e->error < 0)
                                return e->error;
                        acks++;
                }
        }
        return 0;
}

static int try_masquerade(char *detail, size_t size)
{
        char buf[8192] __attribute__((aligned(NLMSG_ALIGNTO)));
        struct nft_batch b = {};
        _cleanup_close_ int fd = -1;
        int r;

        fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
        if (fd < 0)
                return probe_say(detail, size, -errno, "cannot talk to netfilter: %m");
        b.batch = mnl_nlmsg_batch_start(buf, sizeof(buf));
        if (!b.batch)
                return probe_say(detail, size, -ENOMEM, "%m");
        batch_fill(&b);
        r = send(fd, mnl_nlmsg_batch_head(b.batch), mnl_nlmsg_batch_size(b.batch), 0) < 0 ? -errno
                                                                                          : 0;
        mnl_nlmsg_batch_stop(b.batch);
        if (r >= 0)
                r = batch_answers(fd);
        return r < 0 ? probe_say(detail, size, r, "the kernel does not take the rule: %m") : 0;
}

/* ---------------------------------------------------------------------------------------------- */

int probe_veth(char *detail, size_t size)
{
        return probe_in_child(try_veth, CLONE_NEWNET, detail, size);
}

int probe_vxlan(char *detail, size_t size)
{
        return probe_in_child(try_vxlan, CLONE_NEWNET, detail, size);
}

int probe_masquerade(char *detail, size_t size)
{
        return probe_in_child(try_masquerade, CLONE_NEWNET, detail, size);
}

int probe_htb(char *detail, size_t size)
{
        return probe_in_child(try_htb, CLONE_NEWNET, detail, size);
}

int probe_sock_diag(char *detail, size_t size)
{
        return probe_in_child(try_sock_diag, CLONE_NEWNET, detail, size);
}
