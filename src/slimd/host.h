/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What slimd sets up on the host itself: cgroups, bpffs, the VXLAN device, sysctls, routes, NAT.
 */
#include "slimd.h"

#define VXLAN_DEVICE    "slim-vxlan"
#define VXLAN_OVERHEAD  50 /* outer IPv4 20, UDP 8, VXLAN 8, inner Ethernet 14 */
#define VXLAN_OVERHEAD6 70 /* outer IPv6 40 */

/* Where a container's IPv4 default route points: a link-local address that nobody has. (IPv6's is
 * in ipv6.h.) */
#define GATEWAY_ADDRESS "169.254.1.1"

/* Looks at everything that host_prepare() needs and changes nothing. Says what is wrong. */
int host_check(struct slimd *d);
/* The underlay device and its addresses, as far as they are there; for a teardown. */
void host_find(struct slimd *d);
/* Makes the run directory (make; else -ENOENT) and takes it for this process. Says what is wrong:
 * another slimd has it. */
int host_claim(struct slimd *d, bool make);
/* All of the host's set-up before programs can be loaded. Says in one line what is wrong. */
int host_prepare(struct slimd *d);
/* Programs onto the underlay device, lo and the VXLAN device. */
int host_attach(struct slimd *d);

/* A network's own: overlay addresses that nobody has are unreachable, not the default route's. */
int host_network_up(struct slimd *d, const struct network *n);
void host_network_down(struct slimd *d, const struct network *n);

/* Rewrites all address translation: the masquerading of what leaves the overlays, from the model,
 * and published ports, from the containers that are here. */
int host_nat_write(struct slimd *d);
/* The same; a failure is said, and survived. */
int host_nat_update(struct slimd *d);

/* After a start that failed: removes what this slimd made, and nothing that was there before. */
void host_undo(struct slimd *d);
/* Removes all that any slimd made of this host (slimd --teardown), as far as it is there. */
void host_remove(struct slimd *d);

/* Writes a setting of a cgroup that not every kernel has, and that nothing depends on. */
void host_tune_cgroup(const char *cgroup, const char *setting, const char *value);

/* Ends what is left in a cgroup and below it, and removes it (cgroup.kill is of Linux 5.14). */
void host_remove_cgroup(const char *path);

/*
 * The cgroups of a container: ID below d->opt.cgroup, and two in it. The broker's is the
 * container's too, as the kernel charges the memory of a socket to who makes it.
 */
#define CGROUP_PROGRAM "program"
#define CGROUP_BROKER  "broker"
