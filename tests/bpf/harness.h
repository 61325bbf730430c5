/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What the tests of BPF programs share: an instance of the data path that is theirs alone (nothing
 * pinned, nothing attached, in a network namespace without a name), packets, and single runs of a
 * program with what each of them counted.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abi/slim-abi.h"
#include "slim.skel.h"

#define PORT_BASE  61440
#define PORT_COUNT 256

/* What slim_from_container takes for the VXLAN device; the test of it makes one with this number.
 */
#define VXLAN_IFINDEX 100

/* The skeleton, not loaded, with its load-time constants set: without them the verifier would see
 * programs in which most of the code is dead. NULL and errno. */
struct slim_bpf *harness_open(void);

/*
 * A process's group of tests, with the skeleton loaded in a new network namespace. Says in TAP that
 * all is skipped, and returns NULL, where there are no rights to do so.
 */
struct slim_bpf *harness_start(void);

/* The maps, empty, and all counters 0: how each test begins. */
void harness_reset(struct slim_bpf *skel);

/* For reproducible noise: xorshift64*, the same in every run. */
uint32_t harness_random(void);

union slim_addr harness_addr(const char *text);

/* "10.1.0.5", "fd00::5", "10.1.0.5 fd00::5": into an array that has one for each family. */
void harness_addrs(union slim_addr ret[SLIM_FAMILIES], const char *texts);

void harness_put(const struct bpf_map *map, const void *key, const void *value);
bool harness_get(const struct bpf_map *map, const void *key, void *ret_value);
/* How many entries a map has. */
unsigned int harness_entries(const struct bpf_map *map);

/* Makes a veth in this network namespace, with both ends in it: devices for test runs, named a and
 * b and down. Their numbers; -1. */
int harness_veth(uint32_t *ret_a, uint32_t *ret_b);

/* An endpoint in both maps that have it. */
void harness_endpoint(struct slim_bpf *skel, const struct slim_endpoint *e);

/* Since harness_reset() or the last harness_counted(), exactly one drop or accept was counted, for
 * this reason; for SLIM_REASON_NONE: nothing was. */
void harness_counted(struct slim_bpf *skel, enum slim_reason reason);
void harness_counted_times(struct slim_bpf *skel, enum slim_reason reason, uint64_t times);

/* --- packets ---------------------------------------------------------------------------------- */

#define PACKET_MAX 2048

enum {
        TCP_FIN = 0x01,
        TCP_SYN = 0x02,
        TCP_RST = 0x04,
        TCP_PSH = 0x08,
        TCP_ACK = 0x10,
};

/* All numbers in host byte order. What is 0 gets its usual value where 0 makes no sense. */
struct packet {
        union slim_addr from, to; /* IPv4 or IPv6 */
        uint16_t ethertype;       /* otherwise: by the addresses */
        uint16_t from_port, to_port;
        uint32_t sequence;
        uint16_t fragment;   /* flags and offset of IPv4 */
        uint8_t ip_words;    /* ihl; 5 */
        uint8_t protocol;    /* TCP; of IPv6: next header */
        uint8_t flags;       /* of TCP */
        uint8_t doff;        /* otherwise: by options_len, which is rounded up */
        uint8_t options[40]; /* of TCP */
        size_t options_len;
        uint8_t first;           /* of IPv6: the next header, where there are … */
        uint8_t extensions[512]; /* … extension headers, a chain that ends in `protocol` */
        size_t extensions_len;
        size_t payload; /* bytes of data */
};

/* A datagram of 32 bytes. */
struct packet packet_between(const char *from, const char *to);
/* Ethernet, IP and TCP headers and the payload, into PACKET_MAX bytes; returns their length. */
size_t packet_build(const struct packet *p, uint8_t *ret);
/* Where the TCP header begins in it. */
size_t packet_tcp(const struct packet *p);

/*
 * One run of a tc program, as if the packet had come in on a device (0: lo). The program's verdict.
 */
int harness_run_tc(const struct bpf_program *prog, const uint8_t *data, size_t len,
                   uint32_t ifindex);
/* The same, and the packet as the program has left it, in PACKET_MAX bytes. */
int harness_run_tc_out(const struct bpf_program *prog, const uint8_t *data, size_t len,
                       uint32_t ifindex, uint8_t *out, size_t *out_len);
