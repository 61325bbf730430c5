/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Inside of netlink.h and sockdiag.h: a netlink socket, and one request with all of its answer.
 */
#include <libmnl/libmnl.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "netlink.h"

/* Opens a socket of one protocol in the namespace of netns_fd, or in the caller's own for -1. */
int netlink_open_protocol(int protocol, int netns_fd, struct netlink **ret);

/* Requests are small: the longest one here is below 512 bytes. */
#define NETLINK_REQUEST_MAX 1024

struct netlink_request {
        union {
                struct nlmsghdr head;
                char buf[NETLINK_REQUEST_MAX];
        };
};

/* Begins a request; returns its zeroed family header of header_size bytes. */
void *netlink_request_init(struct netlink_request *req, uint16_t type, uint16_t flags,
                           size_t header_size);

/* An answer's message. A non-zero return becomes the request's result; no more is shown then. */
typedef int (*netlink_message)(const struct nlmsghdr *nlh, void *userdata);

/*
 * Sends a request and reads its answer to the end: an acknowledgement, or with NLM_F_DUMP the end
 * of the dump. 0 or the kernel's negative errno; -EINTR: what was dumped changed meanwhile, and
 * the messages do not fit together. on_message may be NULL.
 */
int netlink_request_run(struct netlink *nl, struct netlink_request *req, netlink_message on_message,
                        void *userdata);

/*
 * The same for a dump, taken again while it comes out inconsistent; reset makes userdata as it was
 * before each time. -EBUSY: it never came out well.
 */
int netlink_request_dump(struct netlink *nl, struct netlink_request *req,
                         netlink_message on_message, void (*reset)(void *userdata), void *userdata);

/*
 * Sorts attributes by type into table, which has max + 1 elements; unknown types are left out.
 * -EBADMSG: they are cut off.
 */
int netlink_attrs(const struct nlmsghdr *nlh, size_t header_size, const struct nlattr **table,
                  unsigned int max);
int netlink_attrs_nested(const struct nlattr *nest, const struct nlattr **table, unsigned int max);
/* The value of an attribute; `otherwise` where it is missing or of another size. */
uint32_t netlink_attr_u32(const struct nlattr *attr, uint32_t otherwise);
