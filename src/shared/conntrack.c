/* SPDX-License-Identifier: Apache-2.0 */
#include "conntrack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "../basic/alloc.h"
#include "netlink-request.h"

/* A flow's first tuple as the kernel wrote it, and its id: what it is deleted by. */
struct name {
        uint8_t family;
        uint16_t tuple_len;
        uint32_t id;
        char tuple[128];
};

struct search {
        bool (*match)(const struct conntrack_flow *flow, void *userdata);
        void *userdata;
        struct name *found;
        size_t n, size;
};

static void search_done(struct search *s)
{
        free(s->found);
}

static void search_reset(void *userdata)
{
        struct search *s = userdata;

        s->n = 0;
}

static int search_grow(struct search *s)
{
        size_t size = s->size ? s->size * 2 : 16;
        struct name *bigger;

        if (s->n < s->size)
                return 0;
        bigger = reallocarray(s->found, size, sizeof(*bigger));
        if (!bigger)
                return -ENOMEM;
        s->found = bigger;
        s->size = size;
        return 0;
}

static bool read_addr(const struct nlattr *v4, const struct nlattr *v6, union slim_addr *ret)
{
        if (v4 && mnl_attr_get_payload_len(v4) == 4) {
                *ret = inaddr_from_v4(mnl_attr_get_u32(v4));
                return true;
        }
        if (!v6 || mnl_attr_get_payload_len(v6) != sizeof(*ret))
                return false;
        memcpy(ret, mnl_attr_get_payload(v6), sizeof(*ret));
        return true;
}

static uint16_t read_port(const struct nlattr *attr)
{
        return attr && mnl_attr_get_payload_len(attr) == 2 ? ntohs(mnl_attr_get_u16(attr)) : 0;
}

/* Both ends of a tuple. false: it is none of addresses and ports. */
static bool read_tuple(const struct nlattr *nest, union slim_addr *ret_src, uint16_t *ret_src_port,
                       union slim_addr *ret_dst, uint16_t *ret_dst_port, uint8_t *ret_protocol)
{
        const struct nlattr *tuple[CTA_TUPLE_MAX + 1], *ip[CTA_IP_MAX + 1],
            *proto[CTA_PROTO_MAX + 1];

        if (!nest || netlink_attrs_nested(nest, tuple, CTA_TUPLE_MAX) < 0 || !tuple[CTA_TUPLE_IP] ||
            !tuple[CTA_TUPLE_PROTO] ||
            netlink_attrs_nested(tuple[CTA_TUPLE_IP], ip, CTA_IP_MAX) < 0 ||
            netlink_attrs_nested(tuple[CTA_TUPLE_PROTO], proto, CTA_PROTO_MAX) < 0)
                return false;
        if (!proto[CTA_PROTO_NUM] || mnl_attr_get_payload_len(proto[CTA_PROTO_NUM]) != 1 ||
            !read_addr(ip[CTA_IP_V4_SRC], ip[CTA_IP_V6_SRC], ret_src) ||
            !read_addr(ip[CTA_IP_V4_DST], ip[CTA_IP_V6_DST], ret_dst))
                return false;
        *ret_protocol = mnl_attr_get_u8(proto[CTA_PROTO_NUM]);
        *ret_src_port = read_port(proto[CTA_PROTO_SRC_PORT]);
        *ret_dst_port = read_port(proto[CTA_PROTO_DST_PORT]);
        return true;
}

static int on_flow(const struct nlmsghdr *nlh, void *userdata)
{
        const struct nlattr *attrs[CTA_MAX + 1], *orig;
        const struct nfgenmsg *head = mnl_nlmsg_get_payload(nlh);
        struct search *s = userdata;
        struct conntrack_flow flow = {};
        union slim_addr client;
        struct name *name;
        uint16_t client_port, len;
        uint8_t protocol;

        if (mnl_nlmsg_get_payload_len(nlh) < sizeof(*head) ||
            netlink_attrs(nlh, sizeof(*head), attrs, CTA_MAX) < 0)
                return -EBADMSG;
        orig = attrs[CTA_TUPLE_ORIG];
        if (attrs[CTA_ZONE] || !attrs[CTA_ID] || /* not in a zone that somebody else has made */
            !read_tuple(orig, &client, &client_port, &flow.dst, &flow.dst_port, &flow.protocol) ||
            !read_tuple(attrs[CTA_TUPLE_REPLY], &flow.answerer, &flow.answerer_port, &client,
                        &client_port, &protocol))
                return 0;
        flow.translated = ntohl(netlink_attr_u32(attrs[CTA_STATUS], 0)) & IPS_DST_NAT;
        len = mnl_attr_get_payload_len(orig);
        if (len > sizeof(s->found->tuple) || !s->match(&flow, s->userdata))
                return 0;
        if (search_grow(s) < 0)
                return -ENOMEM;
        name = &s->found[s->n++];
        name->family = head->nfgen_family;
        name->tuple_len = len;
        name->id = netlink_attr_u32(attrs[CTA_ID], 0);
        memcpy(name->tuple, mnl_attr_get_payload(orig), len);
        return 0;
}

static int forget(struct netlink *nl, const struct name *name)
{
        struct netlink_request req;
        struct nfgenmsg *head = netlink_request_init(
            &req, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, 0, sizeof(*head));
        int r;

        head->nfgen_family = name->family;
        head->version = NFNETLINK_V0;
        mnl_attr_put(&req.head, CTA_TUPLE_ORIG | NLA_F_NESTED, name->tuple_len, name->tuple);
        mnl_attr_put_u32(&req.head, CTA_ID, name->id); /* of no other flow, should it have ended */
        r = netlink_request_run(nl, &req, NULL, NULL);
        return r == -ENOENT ? 0 : r;
}

int conntrack_forget(bool (*match)(const struct conntrack_flow *flow, void *userdata),
                     void *userdata)
{
        _cleanup_(search_done) struct search s = {.match = match, .userdata = userdata};
        _cleanup_(netlink_freep) struct netlink *nl = NULL;
        struct netlink_request req;
        struct nfgenmsg *head;
        int r;

        r = netlink_open_protocol(NETLINK_NETFILTER, -1, &nl);
        if (r < 0)
                return r;
        head = netlink_request_init(&req, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET,
                                    NLM_F_DUMP, sizeof(*head));
        head->nfgen_family = AF_UNSPEC;
        head->version = NFNETLINK_V0;
        r = netlink_request_dump(nl, &req, on_flow, search_reset, &s);
        for (size_t i = 0; r == 0 && i < s.n; i++)
                r = forget(nl, &s.found[i]);
        return r;
}
