/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The data path in the kernel: the BPF programs, their maps and links, pinned below one directory
 * of bpffs so that they outlive slimd.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../abi/slim-abi.h"
#include "../basic/inaddr.h"
#include "../basic/macro.h"

#define SLIM_PORT_BASE  61440 /* above the default ephemeral range, which ends at 60999 */
#define SLIM_PORT_COUNT 256

struct datapath;

struct datapath_options {
        const char *bpf_dir;               /* below a bpffs; made */
        const char *cgroup;                /* cgroup2 directory above the brokers, */
        const char *host_cgroup;           /* and of all of the host, them among it */
        uint32_t vxlan_ifindex;            /* the device that takes what is encapsulated, */
        uint32_t underlay_ifindex;         /* and the one that it leaves by */
        uint32_t max_ports, max_listeners; /* of a container */
};

/*
 * Loads the programs, onto the maps that an earlier slimd pinned where there are some, and attaches
 * them to the cgroups and to the caller's network namespace; a link that is pinned already gets the
 * new program in the place of the old one, with no moment in between without one (unless it is
 * attached elsewhere). Says in one line what is wrong when it fails.
 */
int datapath_open(const struct datapath_options *options, struct datapath **ret);
/* Closes slimd's descriptors. What is pinned stays in force. */
void datapath_free(struct datapath *dp);
DEFINE_CLEANUP(struct datapath *, datapath_free)

/*
 * The next two need no data path that is open, and nothing that the kernel would have to load.
 *
 * Each overlay network that the pinned maps know, whoever put it there. None if there are no maps.
 */
int datapath_each_prefix(const char *bpf_dir,
                         void (*visit)(const struct inaddr_prefix *prefix, void *userdata),
                         void *userdata);
/* Removes the pins, and with them all programs and maps. */
int datapath_remove(const char *bpf_dir);

/* Which programs a device gets. */
enum datapath_device {
        DATAPATH_UNDERLAY, /* the underlay device and lo */
        DATAPATH_VXLAN,
        DATAPATH_CONTAINER, /* the host's side of a container's veth */
        DATAPATH_LIMITED,   /* the underlay device and lo too, while there are limits (limit.h) */
        DATAPATH_LIMITER,   /* the limiter's far end */
};

/* Attaches (or replaces) them: at the ingress of a device, and a container's at its egress too. */
int datapath_attach(struct datapath *dp, uint32_t ifindex, enum datapath_device kind);
/* Takes DATAPATH_LIMITED, or all that there is, off the underlay device or lo again. A device
 * without them is fine. */
int datapath_detach_limited(uint32_t ifindex);
int datapath_detach(uint32_t ifindex);

/* The maps, by what they are. The descriptors stay the data path's. */
enum datapath_map {
        DATAPATH_ENDPOINTS,
        DATAPATH_IDENTITIES,
        DATAPATH_PREFIXES,
        DATAPATH_HOSTS,
        DATAPATH_DEVICES,
        DATAPATH_HOST_ENDPOINTS,
        DATAPATH_KEYS,
        DATAPATH_SOCKETS,
        DATAPATH_PORTS,
        DATAPATH_LISTENERS,
        DATAPATH_USAGE,
        DATAPATH_SYNS,
        DATAPATH_PUBLISHED,
        DATAPATH_POLICY_RULES,
        DATAPATH_POLICY_CIDRS,
        DATAPATH_POLICY_SUBJECTS,
        DATAPATH_EVENTS, /* a ring: no entries to be counted */
        DATAPATH_WATCH,
        DATAPATH_LIMITS,
        DATAPATH_LIMIT_CLASSES,
        DATAPATH_MAP_MAX,
};
int datapath_map_fd(const struct datapath *dp, enum datapath_map map);
const char *datapath_map_name(enum datapath_map map);

/* How many entries a map has, by walking it. */
int datapath_map_count(const struct datapath *dp, enum datapath_map map, uint64_t *ret);
/* … and how many it can have. */
uint32_t datapath_map_capacity(const struct datapath *dp, enum datapath_map map);

/*
 * Deletes every key of a map for which keep() says false. key_size bytes at most 64.
 */
int datapath_map_prune(const struct datapath *dp, enum datapath_map map, size_t key_size,
                       bool (*keep)(const void *key, void *userdata), void *userdata);

/* What the kernel says of a flow, by the maps as they are. */
int datapath_policy_check(const struct datapath *dp, const struct slim_policy_check *check,
                          enum slim_policy_verdict *ret);

/* What was counted since the programs were first loaded, over all processors: all of it, or one. */
int datapath_counters(const struct datapath *dp, uint64_t ret[SLIM_REASON_MAX]);
int datapath_counter(const struct datapath *dp, enum slim_reason reason, uint64_t *ret);
/* One more of a reason that no program counts. */
int datapath_count(const struct datapath *dp, enum slim_reason reason);
