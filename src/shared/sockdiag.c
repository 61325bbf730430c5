/* SPDX-License-Identifier: Apache-2.0 */
#include "sockdiag.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "../basic/alloc.h"
#include "../basic/inaddr.h"
#include "netlink-request.h"

/* Both dumps are taken in full before a caller sees the first socket. */
struct dump {
        struct sockdiag_tcp *socket;
        size_t n, size;
        size_t keep; /* those of the family that was dumped before */
};

static void dump_done(struct dump *d)
{
        free(d->socket);
}

static void dump_reset(void *userdata)
{
        struct dump *d = userdata;

        d->n = d->keep;
}

static int dump_grow(struct dump *d)
{
        size_t size = d->size ? d->size * 2 : 64;
        struct sockdiag_tcp *bigger;

        if (d->n < d->size)
                return 0;
        bigger = reallocarray(d->socket, size, sizeof(*bigger));
        if (!bigger)
                return -ENOMEM;
        d->socket = bigger;
        d->size = size;
        return 0;
}

static union slim_addr read_addr(uint8_t family, const __be32 words[4])
{
        union slim_addr a;

        if (family == AF_INET)
                return inaddr_from_v4(words[0]);
        memcpy(a.b, words, sizeof(a.b));
        return a;
}

static void read_tcp_info(const struct nlattr *attr, struct sockdiag_tcp *s)
{
        struct tcp_info info = {0};
        size_t len = mnl_attr_get_payload_len(attr);

        /* It grows with kernels, at its end. */
        memcpy(&info, mnl_attr_get_payload(attr), len < sizeof(info) ? len : sizeof(info));
        s->bytes_acked = info.tcpi_bytes_acked;
        s->bytes_received = info.tcpi_bytes_received;
}

/* One map was asked for, so there is one value at most. */
static void read_storage(const struct nlattr *nest, struct sockdiag_tcp *s)
{
        const struct nlattr *storages[SK_DIAB_BPF_STORAGE_REP_MAX + 1];
        const struct nlattr *attrs[SK_DIAG_BPF_STORAGE_MAX + 1], *value;

        if (netlink_attrs_nested(nest, storages, SK_DIAB_BPF_STORAGE_REP_MAX) < 0 ||
            !storages[SK_DIAG_BPF_STORAGE] ||
            netlink_attrs_nested(storages[SK_DIAG_BPF_STORAGE], attrs, SK_DIAG_BPF_STORAGE_MAX) < 0)
                return;
        value = attrs[SK_DIAG_BPF_STORAGE_MAP_VALUE];
        if (!value || mnl_attr_get_payload_len(value) < sizeof(s->slim))
                return;
        memcpy(&s->slim, mnl_attr_get_payload(value), sizeof(s->slim));
        s->has_slim = true;
}

static int read_socket(const struct nlmsghdr *nlh, void *userdata)
{
        const struct inet_diag_msg *m = mnl_nlmsg_get_payload(nlh);
        const struct nlattr *attrs[INET_DIAG_MAX + 1], *cgroup;
        struct dump *d = userdata;
        struct sockdiag_tcp s = {0};
        int r;

        if (nlh->nlmsg_type != SOCK_DIAG_BY_FAMILY)
                return 0;
        r = netlink_attrs(nlh, sizeof(*m), attrs, INET_DIAG_MAX);
        if (r < 0)
                return r;
        if (m->idiag_family != AF_INET && m->idiag_family != AF_INET6)
                return 0;
        s.family = m->idiag_family;
        s.state = m->idiag_state;
        s.local_addr = read_addr(s.family, m->id.idiag_src);
        s.peer_addr = read_addr(s.family, m->id.idiag_dst);
        s.local_port = ntohs(m->id.idiag_sport);
        s.peer_port = ntohs(m->id.idiag_dport);
        s.cookie = (uint64_t)m->id.idiag_cookie[1] << 32 | m->id.idiag_cookie[0];
        s.ifindex = m->id.idiag_if;
        s.inode = m->idiag_inode;
        s.uid = m->idiag_uid;
        cgroup = attrs[INET_DIAG_CGROUP_ID];
        if (cgroup && mnl_attr_get_payload_len(cgroup) == sizeof(s.cgroup))
                s.cgroup = mnl_attr_get_u64(cgroup);
        if (attrs[INET_DIAG_INFO])
                read_tcp_info(attrs[INET_DIAG_INFO], &s);

        if (attrs[INET_DIAG_SK_BPF_STORAGES])
                read_storage(attrs[INET_DIAG_SK_BPF_STORAGES], &s);

        r = dump_grow(d);
        if (r < 0)
                return r;
        d->socket[d->n++] = s;
        return 0;
}

static int dump_family(struct netlink *nl, uint8_t family, uint32_t states, int sockets_map,
                       struct dump *d)
{
        struct inet_diag_req_v2 *diag;
        struct netlink_request req;

        diag = netlink_request_init(&req, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, sizeof(*diag));
        diag->sdiag_family = family;
        diag->sdiag_protocol = IPPROTO_TCP;
        diag->idiag_ext = 1 << (INET_DIAG_INFO - 1);
        diag->idiag_states = states;
        if (sockets_map >= 0) {
                struct nlattr *nest = mnl_attr_nest_start(&req.head, INET_DIAG_REQ_SK_BPF_STORAGES);

                mnl_attr_put_u32(&req.head, SK_DIAG_BPF_STORAGE_REQ_MAP_FD, (uint32_t)sockets_map);
                mnl_attr_nest_end(&req.head, nest);
        }
        d->keep = d->n;
        return netlink_request_dump(nl, &req, read_socket, dump_reset, d);
}

int sockdiag_tcp_each(int netns_fd, uint32_t states, int sockets_map,
                      int (*each)(const struct sockdiag_tcp *s, void *userdata), void *userdata)
{
        _cleanup_(netlink_freep) struct netlink *nl = NULL;
        _cleanup_(dump_done) struct dump d = {0};
        int r;

        r = netlink_open_protocol(NETLINK_SOCK_DIAG, netns_fd, &nl);
        if (r < 0)
                return r;
        r = dump_family(nl, AF_INET, states, sockets_map, &d);
        if (r < 0)
                return r;
        r = dump_family(nl, AF_INET6, states, sockets_map, &d);
        if (r < 0 && r != -ENOENT) /* a kernel without IPv6 */
                return r;
        for (size_t i = 0; i < d.n; i++) {
                r = each(&d.socket[i], userdata);
                if (r != 0)
                        return r;
        }
        return 0;
}

static void write_addr(uint8_t family, const union slim_addr *a, __be32 words[4])
{
        if (family == AF_INET)
                words[0] = inaddr_to_v4(a);
        else
                memcpy(words, a->b, sizeof(a->b));
}

int sockdiag_tcp_destroy(int netns_fd, const struct sockdiag_tcp *s)
{
        _cleanup_(netlink_freep) struct netlink *nl = NULL;
        struct inet_diag_req_v2 *diag;
        struct netlink_request req;
        int r;

        if (s->family != AF_INET && s->family != AF_INET6)
                return -EAFNOSUPPORT;
        r = netlink_open_protocol(NETLINK_SOCK_DIAG, netns_fd, &nl);
        if (r < 0)
                return r;
        diag = netlink_request_init(&req, SOCK_DESTROY, 0, sizeof(*diag));
        diag->sdiag_family = s->family;
        diag->sdiag_protocol = IPPROTO_TCP;
        diag->idiag_states = 1U << s->state;
        diag->id.idiag_sport = htons(s->local_port);
        diag->id.idiag_dport = htons(s->peer_port);
        write_addr(s->family, &s->local_addr, diag->id.idiag_src);
        write_addr(s->family, &s->peer_addr, diag->id.idiag_dst);
        diag->id.idiag_if = s->ifindex;
        diag->id.idiag_cookie[0] = (uint32_t)s->cookie;
        diag->id.idiag_cookie[1] = (uint32_t)(s->cookie >> 32);
        /* By the cookie the kernel tells another socket that has the addresses by now: -ENOENT. */
        return netlink_request_run(nl, &req, NULL, NULL);
}
