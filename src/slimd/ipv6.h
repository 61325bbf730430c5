/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The kernel's settings of IPv6 (/proc/sys/net/ipv6). On a kernel without IPv6 there is nothing to
 * set, and all of these succeed.
 */
#include <stdbool.h>

/* The default route of containers, and the address of the host's side of their veths, so that
 * ICMPv6 errors have a source. */
#define IPV6_GATEWAY "fe80::1"

/* What an overlay's device is to IPv6. */
enum ipv6_device {
        IPV6_OFF,    /* it has none */
        IPV6_HOST,   /* the host's: it has the addresses that slimd gives it, */
        IPV6_INSIDE, /* a container's: and a link-local one of its own; no address is searched for
                      * duplicates, and nobody is asked for routes */
};

/*
 * Sets a device of a network namespace (-1: the caller's) to that, before it is up. The thread is
 * in its own namespace again afterwards, or the process is aborted.
 */
int ipv6_set_device(int netns_fd, const char *device, enum ipv6_device kind);

/*
 * Makes this host forward IPv6. A forwarding host forgets the default routes that routers have
 * advertised to it, and takes no more of them; where it has taken them so far, it goes on.
 */
int ipv6_forward(void);
