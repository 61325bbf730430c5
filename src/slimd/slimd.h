/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The daemon's state, which its parts share. Each part lists its functions in a header of its own:
 *
 *     datapath.h  programs and maps in the kernel     host.h      devices, sysctls, NAT, cgroups
 *     model.h     what the cluster looks like         cluster.h   the store: opened and watched
 *     mirror.h    an entry of it → model, maps        registry.h  what slimd writes into it
 *     address.h   who gets which address              local.h     the containers of this host
 *     policy.h    network policies → maps             revoke.h    … → open connections
 *     supervise.h their brokers                       publish.h   their ports at the
 *     host's addresses            stack.h     the host's own endpoints
 *     limit.h     bandwidth limits of containers
 *     key.h       the cluster key             api.h       the socket that clients call
 *     event.h     an event, with names        monitor.h   … for whoever watches
 *     metrics.h   figures, by HTTP
 */
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include <time.h>

#include "../shared/netlink.h"
#include "../store/store.h"
#include "datapath.h"
#include "model.h"

struct slimd_options {
        const char *run_dir;
        const char *bpf_dir;
        const char *cgroup;
        const char *host_cgroup;
        const char *store;
        const char *host_name;
        const char *underlay;
        const char *broker;
        const char *metrics;                            /* ADDR:PORT; NULL: none */
        uint32_t max_sockets, max_ports, max_listeners; /* of a container */
        bool no_masquerade;
        bool notrack; /* swapped sockets' packets are left out of connection tracking */
};

struct local;
struct metrics;
struct monitor;
struct policy_engine;
struct policy_past;

struct slimd {
        struct slimd_options opt;
        sd_event *event;

        /* The broker's program, open: an upgrade that replaces the file while this slimd runs does
         * not make it start a broker that it does not know how to talk to. */
        int broker_fd;

        struct netlink *nl;
        struct netlink_link underlay;
        union slim_addr underlay_addr[SLIM_FAMILIES]; /* at least one */
        uint32_t vxlan_ifindex;
        uint32_t container_mtu;
        struct datapath *dp;

        struct store *store; /* NULL: it went away and is not open again yet */
        sd_event_source *store_source, *store_timer;
        int64_t after;     /* the store's revision that the model is at */
        int64_t lease;     /* 0: none */
        char *store_error; /* NULL: it answers */
        time_t store_down_since;
        struct model model;

        struct policy_engine *engine;
        struct policy_past *past; /* what an earlier slimd left in the policy maps; NULL: gone */
        sd_event_source *revoke_timer;
        unsigned int revoke_rounds; /* how often open connections are still to be looked at */
        int policy_error;           /* why the policy maps are not as they should be, or 0 */
        bool policy_moved;          /* open connections are to be looked at (revoke.h) */
        bool endpoints_pending;     /* of some, the entries in the maps are to be written */
        bool hosts_moved;           /* the rules of nft that know hosts are to be written anew */
        bool loaded;                /* the maps have nothing that the store does not have */

        bool key_rotating;  /* there is a next one */
        uint32_t key_epoch; /* of the cluster's key, as the store has it; 0: not known yet */

        uint32_t limiter_ifindex; /* 0: not there, as no container here has limits */

        int stack_error; /* why this host is no endpoint of some network; 0: it is of all */

        struct local *locals; /* by endpoint id */
        struct api *api;
        struct monitor *monitor;
        struct metrics *metrics; /* NULL: nobody asked for them */
        time_t since;

        int run_dir_fd; /* its lock says that this run directory is ours */
        /* How much of each path was there before this slimd made the rest. */
        size_t run_dir_found, bpf_dir_found, cgroup_found;
        bool endpoints_made;
        bool fresh; /* nothing of an earlier slimd was there */
};
