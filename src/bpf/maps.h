/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once
/*
 * Every map of the data path, and the load-time constants. maps.bpf.c defines them (it sets
 * SLIM_DEFINE_MAPS); every other program declares them, and the BPF linker joins the two.
 *
 *   written by slimd      endpoints, identities, prefixes, hosts, devices, host_endpoints, keys,
 *                         published, policy_rules, policy_cidrs, policy_subjects, limits,
 *                         limit_classes, watch; usage, as zeros
 *   written by brokers    sockets (a new socket's identity), published (at their end)
 *   written by programs   sockets, ports, listeners, usage, hidden_ports, syns, flows, counters,
 * events, event_windows
 */
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "../abi/slim-abi.h"

#ifdef SLIM_DEFINE_MAPS
#define SLIM_MAP(type, name) struct type name SEC(".maps")
#else
#define SLIM_MAP(type, name) extern struct type name SEC(".maps")
#endif

/* (network, overlay address) → endpoint. */
struct endpoints_map {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, 262144);
        __type(key, struct slim_endpoint_key);
        __type(value, struct slim_endpoint);
};

/* Endpoint id → the same endpoint. */
struct identities_map {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, 262144);
        __type(key, __u32);
        __type(value, struct slim_endpoint);
};

/* Overlay prefix → network id: tells "nobody has this address" from "not ours". */
struct prefixes_map {
        __uint(type, BPF_MAP_TYPE_LPM_TRIE);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, 4096);
        __type(key, struct slim_prefix_key);
        __type(value, __u32);
};

/* Underlay addresses of the cluster's hosts: who may send VXLAN. */
struct hosts_map {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, 16384);
        __type(key, union slim_addr);
        __type(value, __u32);
};

/* ifindex of a veth's host side → who is behind it. */
struct devices_map {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, 16384);
        __type(key, __u32);
        __type(value, struct slim_device);
};

/* Network id → the endpoint that this host itself is there. */
struct host_endpoints_map {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, 4096);
        __type(key, __u32);
        __type(value, struct slim_device);
};

struct keys_map {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(max_entries, SLIM_KEYS);
        __type(key, __u32);
        __type(value, struct slim_key);
};

/* The identity of a socket. BPF_F_CLONE: accepted sockets start with their listener's. */
struct sockets_map {
        __uint(type, BPF_MAP_TYPE_SK_STORAGE);
        __uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
        __type(key, int);
        __type(value, struct slim_socket);
};

/* (endpoint, virtual port) → what is bound. Eight containers that have all that they may have by
 * default fill it, and the next one. */
struct ports_map {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, 262144);
        __type(key, struct slim_port_key);
        __type(value, struct slim_port);
};

/* The listening sockets. The kernel takes one out when it is closed. */
struct listeners_map {
        __uint(type, BPF_MAP_TYPE_SOCKHASH);
        __uint(max_entries, 65536);
        __type(key, struct slim_listener_key);
        __type(value, __u64);
};

/* Endpoint id of a container here → what it has of the two maps above. */
struct usage_map {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, 16384);
        __type(key, __u32);
        __type(value, struct slim_usage);
};

/* How many container listeners hide behind a host port. */
struct hidden_ports_map {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(max_entries, 65536);
        __type(key, __u32);
        __type(value, __u32);
};

/* Connections between their SYN and the end of their handshake. An LRU: floods push out the
 * oldest half-open connection and no memory grows. */
struct syns_map {
        __uint(type, BPF_MAP_TYPE_LRU_HASH);
        __uint(max_entries, 65536);
        __type(key, struct slim_tuple);
        __type(value, struct slim_syn);
};

/* Published TCP ports: (an address of the host or a wildcard, port) → whose virtual port it is. */
struct published_map {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, 65536);
        __type(key, struct slim_published_key);
        __type(value, struct slim_published);
};

/* What policies allow: a subject, its peer, direction, protocol and port. An entry that is in use
 * takes 64 bytes, and up to 64 more where its way parts from others'. A hundred subjects whose
 * policies have 100 rules for 100 identities each are a million. */
struct policy_rules_map {
        __uint(type, BPF_MAP_TYPE_LPM_TRIE);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, 1048576);
        __type(key, struct slim_policy_key);
        __type(value, __u32); /* 1 */
};

/* Prefix of addresses that a policy names → its id, which stands for a peer. */
struct policy_cidrs_map {
        __uint(type, BPF_MAP_TYPE_LPM_TRIE);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, 65536);
        __type(key, struct slim_prefix_key);
        __type(value, __u32);
};

/* Identity of an endpoint here → what there are policies for. As many as there are devices and
 * hosts' endpoints, even if no two have one identity. */
struct policy_subjects_map {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, 32768);
        __type(key, __u32);
        __type(value, struct slim_policy_subject);
};

struct counters_map {
        __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
        __uint(max_entries, SLIM_REASON_MAX);
        __type(key, __u32);
        __type(value, __u64);
};

/* Denials, drops and revocations for who watches (event.h): 3,276 of them. */
struct events_map {
        __uint(type, BPF_MAP_TYPE_RINGBUF);
        __uint(max_entries, 256 * 1024); /* bytes: a power of two, and whole pages */
};

/* Until when slimd reads the events. */
struct watch_map {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(max_entries, 1);
        __type(key, __u32);
        __type(value, __u64);
};

/* Reason → how many events of it there were lately. */
struct event_windows_map {
        __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
        __uint(max_entries, SLIM_REASON_MAX);
        __type(key, __u32);
        __type(value, struct slim_event_window);
};

/* Flows of the encapsulated path whose answers a policy might deny → when a packet of it was seen
 * last (bpf_ktime_get_ns()). An LRU: a flood pushes out the oldest. */
struct flows_map {
        __uint(type, BPF_MAP_TYPE_LRU_HASH);
        __uint(max_entries, 65536);
        __type(key, struct slim_flow_key);
        __type(value, __u64);
};

/* Id of an endpoint here → what its packets are limited to, and their class. */
struct limits_map {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, 16384);
        __type(key, __u32);
        __type(value, struct slim_limit);
};

/* Minor number of an HTB class → the id of the endpoint that it limits. */
struct limit_classes_map {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, 32768);
        __type(key, __u32);
        __type(value, __u32);
};

SLIM_MAP(endpoints_map, endpoints);
SLIM_MAP(identities_map, identities);
SLIM_MAP(prefixes_map, prefixes);
SLIM_MAP(hosts_map, hosts);
SLIM_MAP(devices_map, devices);
SLIM_MAP(host_endpoints_map, host_endpoints);
SLIM_MAP(keys_map, keys);
SLIM_MAP(sockets_map, sockets);
SLIM_MAP(ports_map, ports);
SLIM_MAP(listeners_map, listeners);
SLIM_MAP(usage_map, usage);
SLIM_MAP(hidden_ports_map, hidden_ports);
SLIM_MAP(syns_map, syns);
SLIM_MAP(published_map, published);
SLIM_MAP(policy_rules_map, policy_rules);
SLIM_MAP(policy_cidrs_map, policy_cidrs);
SLIM_MAP(policy_subjects_map, policy_subjects);
SLIM_MAP(flows_map, flows);
SLIM_MAP(limits_map, limits);
SLIM_MAP(limit_classes_map, limit_classes);
SLIM_MAP(counters_map, counters);
SLIM_MAP(events_map, events);
SLIM_MAP(watch_map, watch);
SLIM_MAP(event_windows_map, event_windows);

#ifndef SLIM_DEFINE_MAPS
extern const volatile struct slim_config config;
#endif

static __always_inline void count(enum slim_reason reason)
{
        __u32 key = reason;
        __u64 *n = bpf_map_lookup_elem(&counters, &key);

        if (n)
                *n += 1; /* per CPU, and these programs do not interrupt one another */
}

/* What a cgroup program returns to refuse a call with this (positive) errno. */
static __always_inline int refuse(int error, enum slim_reason reason)
{
        count(reason);
        bpf_set_retval(-error);
        return 0;
}
