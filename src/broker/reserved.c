/* SPDX-License-Identifier: Apache-2.0 */
#include "reserved.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "../basic/inaddr.h"
#include "../basic/log.h"

static void end_entry(int map_fd, const struct slim_published_key *key, uint32_t endpoint)
{
        struct slim_published p;

        if (bpf_map_lookup_elem(map_fd, key, &p) < 0 || p.endpoint != endpoint)
                return;
        if (bpf_map_delete_elem(map_fd, key) < 0 && errno != ENOENT)
                log_warning_errno(-errno, "endpoint %u: cannot end its published port %u: %m",
                                  endpoint, key->port);
}

/* What a socket reserves, as slimd has entered it: one that takes both families is two entries. */
static void end_socket(int map_fd, int fd, uint32_t endpoint)
{
        static const union slim_addr any6;
        struct sockaddr_in6 name = {};
        const struct sockaddr_in *name4 = (const struct sockaddr_in *)&name;
        socklen_t len = sizeof(name), type_len = sizeof(int);
        struct slim_published_key key = {};
        int type;

        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) < 0 || type != SOCK_STREAM ||
            getsockname(fd, (struct sockaddr *)&name, &len) < 0)
                return;
        key.port = ntohs(name.sin6_port); /* where sin_port is, too */
        if (name.sin6_family == AF_INET)
                key.addr = inaddr_from_v4(name4->sin_addr.s_addr);
        else
                memcpy(&key.addr, &name.sin6_addr, sizeof(key.addr));
        end_entry(map_fd, &key, endpoint);
        if (inaddr_equal(&key.addr, &any6)) {
                key.addr = inaddr_from_v4(0);
                end_entry(map_fd, &key, endpoint);
        }
}

void reserved_end(int map_fd, int first_fd, unsigned int n, uint32_t endpoint)
{
        for (unsigned int i = 0; i < n; i++)
                end_socket(map_fd, first_fd + (int)i, endpoint);
}
