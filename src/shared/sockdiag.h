/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * sock_diag(7): the TCP sockets of a network namespace, as the kernel knows them.
 */
#include <stdbool.h>
#include <stdint.h>

#include "../abi/slim-abi.h"

struct sockdiag_tcp {
        union slim_addr local_addr, peer_addr; /* IPv4 as v4-mapped */
        uint16_t local_port, peer_port;
        uint8_t state;   /* TCP_ESTABLISHED, … of <netinet/tcp.h> */
        uint8_t family;  /* AF_INET, AF_INET6: of the socket, not of the address */
        uint64_t cookie; /* SO_COOKIE */
        uint64_t inode;  /* 0 once no process holds it */
        uint64_t cgroup; /* cgroup2 id of the socket (INET_DIAG_CGROUP_ID), 0: unknown */
        uint64_t bytes_received, bytes_acked; /* tcpi_bytes_received, tcpi_bytes_acked */
        bool has_slim;                        /* it is a container's: */
        struct slim_socket slim;              /* its identity, from the map "sockets" */
        uint32_t uid;
        uint32_t ifindex; /* of the device that it is bound to, 0: none */
};

/*
 * Calls `each` for every TCP socket, of both families, whose state is in the mask (1 << state), in
 * the network namespace of netns_fd, or in the caller's own for -1. Stops at the first non-zero
 * answer and returns it. A dump that the kernel interrupted is taken again before `each` is called.
 * sockets_map: the SK_STORAGE map of struct slim_socket that says what is a container's, or -1.
 */
int sockdiag_tcp_each(int netns_fd, uint32_t states, int sockets_map,
                      int (*each)(const struct sockdiag_tcp *s, void *userdata), void *userdata);

/*
 * Ends a socket (SOCK_DESTROY): its peer sees a reset. -ENOENT: gone already, or, since the kernel
 * finds listeners by address, one of several that listen on the same one. -EOPNOTSUPP: the kernel
 * has no CONFIG_INET_DIAG_DESTROY.
 */
int sockdiag_tcp_destroy(int netns_fd, const struct sockdiag_tcp *s);
