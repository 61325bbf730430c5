/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * ioctl() on sockets by which a program looks at network interfaces, addresses and routes, or sets
 * them: answered from the container's own namespace, whose the socket would be without Slim.
 *
 * A socket of the host's namespace is replaced by one of the container's; any other socket is
 * asked itself. Either way it is the broker that asks, on a copy of the descriptor: were the call
 * left to the kernel, the descriptor could be exchanged before the kernel looks at it, and the
 * answer would be the host's. So only commands whose memory is known are supported (interface.c has
 * the table), and the caller's rights are checked here.
 */
#include "caller.h"
#include "inside.h"

/* Gives up what no call may have. Once, before the first. */
int interface_setup(void);

struct interface_call {
        int fd;
        uint32_t command;
        uint64_t argument; /* an address of the caller's */
        bool compat;       /* by a 32-bit ABI, hence with 32-bit structures */
};

/*
 * Answers a call: 0, or what it fails with. *ret_fd is set where the answer is a descriptor, which
 * is then the broker's until it is passed on (SIOCGSKNS); -1 otherwise.
 */
int interface_run(const struct caller *c, const struct inside *in, int sockets_map,
                  const struct interface_call *call, int *ret_fd);
