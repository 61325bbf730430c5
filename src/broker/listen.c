/* SPDX-License-Identifier: Apache-2.0 */
#include "listen.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <bpf/bpf.h>

#include "../basic/fd.h"

int listen_check(const struct slim_socket *s, const struct slim_port *p, uint32_t uid)
{
        const struct slim_binding *own;

        if (s->binding >= SLIM_BINDINGS)
                return -EADDRINUSE;
        own = &p->binding[s->binding];
        for (unsigned int i = 0; i < SLIM_BINDINGS; i++) {
                const struct slim_binding *b = &p->binding[i];

                if (b == own ? b->owners <= 1 : !b->owners || !slim_bindings_overlap(b, own))
                        continue;
                if (!slim_binding_shares(b, s->bind_flags, uid))
                        return -EADDRINUSE;
        }
        return ~own->listeners ? 0 : -ENOMEM;
}

/* listen() without bind(): a port out of the container's own table, not the host's choice, which
 * somebody in the container may have. */
static int bind_automatically(int fd)
{
        struct sockaddr_in6 addr = {}; /* in both families the port is at one place */
        socklen_t len = sizeof(addr);

        if (getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
                return -errno;
        if (addr.sin6_port)
                return 0;
        return bind(fd, (struct sockaddr *)&addr, len) < 0 ? -errno : 0;
}

static int check_ports(const struct listen_maps *maps, int fd, struct slim_socket *s)
{
        struct slim_port_key key = {.endpoint = s->endpoint, .port = s->bound_port};
        struct slim_port port;
        struct stat st;

        if (s->slot != SLIM_NO_SLOT)
                return 0; /* it listens, or did before a shutdown(): its place is its own */
        if (fstat(fd, &st) < 0)
                return -errno;
        if (bpf_map_lookup_elem_flags(maps->ports, &key, &port, BPF_F_LOCK) < 0)
                return -errno;
        return listen_check(s, &port, st.st_uid);
}

static bool is_closed(int fd)
{
        struct sockaddr_in6 peer;
        socklen_t len = sizeof(peer);
        int listens = 0;
        socklen_t size = sizeof(listens);

        return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && !listens &&
               getpeername(fd, (struct sockaddr *)&peer, &len) < 0 && errno == ENOTCONN;
}

static int listen_ours(const struct listen_maps *maps, int fd, int backlog, struct slim_socket *s)
{
        int r;

        /* A connection says EINVAL, and is not to be bound to anything before. */
        if (!is_closed(fd))
                return listen(fd, backlog) < 0 ? -errno : 0;
        /* (One that bind() gave an address alone gets its port as it begins to listen.) */
        if (!s->owner && !(s->bind_flags & SLIM_BIND_NO_PORT)) {
                r = bind_automatically(fd);
                if (r < 0)
                        return r;
                if (bpf_map_lookup_elem(maps->sockets, &fd, s) < 0)
                        return -errno;
        }
        r = s->owner ? check_ports(maps, fd, s) : 0;
        if (r < 0)
                return r;
        if (listen(fd, backlog) < 0)
                return -errno;
        /* Not in the table after all: a bind() came between, or the container has all the listeners
         * that it may have. Then it must not seem to listen. */
        if (bpf_map_lookup_elem(maps->sockets, &fd, s) == 0 && s->slot == SLIM_NO_SLOT) {
                (void)shutdown(fd, SHUT_RDWR);
                return s->bind_flags & SLIM_BIND_NO_ROOM ? -ENOBUFS : -EADDRINUSE;
        }
        return 0;
}

/*
 * What is no socket of ours is left to the kernel, to which the caller is then the one who listens
 * (a Unix socket remembers that). Should the descriptor be another one by then, a listen() has
 * merely gone unchecked here, and sockops.bpf.c keeps it out of the table.
 */
int listen_run(const struct caller *c, const struct listen_maps *maps, const struct inside *in,
               int fd, int backlog)
{
        _cleanup_close_ int copy = -1;
        struct slim_socket s;
        int r;

        r = caller_fd(c, fd, &copy);
        if (r < 0 || !caller_waits(c) || bpf_map_lookup_elem(maps->sockets, &copy, &s) < 0)
                return LISTEN_NATIVE;
        return listen_ours(maps, copy, inside_backlog(in, backlog), &s);
}
