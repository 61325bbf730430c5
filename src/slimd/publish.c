/* SPDX-License-Identifier: Apache-2.0 */
#include "publish.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "../basic/log.h"
#include "../shared/conntrack.h"
#include "../shared/publication.h"
#include "host.h"
#include "local.h"

static int _printf_(3, 4) fail(char **ret_error, int r, const char *format, ...)
{
        va_list ap;

        va_start(ap, format);
        if (vasprintf(ret_error, format, ap) < 0)
                *ret_error = NULL;
        va_end(ap);
        return r;
}

/* By sk_lookup; otherwise by address translation. */
static bool is_steered(const struct endpoint *e, const struct publication *p)
{
        return e->slim && p->protocol == IPPROTO_TCP;
}

static bool is_loopback(const union slim_addr *a)
{
        static const union slim_addr one = {.b = {[15] = 1}};

        return inaddr_is_v4(a) ? a->b[12] == 127 : inaddr_equal(a, &one);
}

/* --- the reservation -------------------------------------------------------------------------- */

void reservation_done(struct reservation *r)
{
        for (size_t i = 0; i < r->n; i++)
                safe_close(r->fd[i]);
        free(r->fd);
        *r = (struct reservation){};
}

int reservation_new(const struct endpoint *e, struct reservation *ret)
{
        size_t n = publications_ports(&e->publish);
        int *fd = NULL;

        if (n > 0) {
                fd = malloc(n * sizeof(*fd));
                if (!fd)
                        return -ENOMEM;
        }
        for (size_t i = 0; i < n; i++)
                fd[i] = -1;
        *ret = (struct reservation){.fd = fd, .n = n};
        return 0;
}

static int bind_to(int fd, int family, const union slim_addr *addr, uint16_t port)
{
        struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(port)};
        struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
        int r;

        sin.sin_addr.s_addr = addr->w[3];
        memcpy(&sin6.sin6_addr, addr, sizeof(*addr));
        r = family == AF_INET ? bind(fd, (struct sockaddr *)&sin, sizeof(sin))
                              : bind(fd, (struct sockaddr *)&sin6, sizeof(sin6));
        return r < 0 ? -errno : 0;
}

/* Nobody reads from it: nothing is kept that comes to it. */
static int refuse_all(int fd)
{
        struct sock_filter none = BPF_STMT(BPF_RET | BPF_K, 0);
        const struct sock_fprog prog = {.len = 1, .filter = &none};

        return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) < 0 ? -errno : 0;
}

/*
 * A socket that is bound and never listens, without SO_REUSEADDR, so that nobody else can listen.
 *
 * Connections that came by this port before, of a container that has ended, may still be there, in
 * TIME_WAIT for the most part. They give way to a socket that has SO_REUSEADDR while it binds (a
 * listener does not).
 */
static int reserve(const struct publication *p, uint16_t port, int *ret)
{
        const int on = 1, off = 0, v6only = !p->any;
        int family = inaddr_is_v4(&p->addr) ? AF_INET : AF_INET6, r;
        int type = (p->protocol == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC;
        union slim_addr addr = p->addr;
        _cleanup_close_ int fd = socket(family, type, 0);

        if (fd < 0 && errno == EAFNOSUPPORT && p->any) { /* a kernel without IPv6 */
                family = AF_INET;
                addr = inaddr_from_v4(0);
                fd = socket(family, type, 0);
        }
        if (fd < 0)
                return -errno;
        if (family == AF_INET6 &&
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only)) < 0)
                return -errno;
        r = refuse_all(fd);
        if (r < 0)
                return r;
        r = bind_to(fd, family, &addr, port);
        if (r == -EADDRINUSE && p->protocol == IPPROTO_TCP) {
                if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
                        return -errno;
                r = bind_to(fd, family, &addr, port);
                if (r == 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &off, sizeof(off)) < 0)
                        r = -errno;
        }
        if (r < 0)
                return r;
        *ret = TAKE_FD(fd);
        return 0;
}

int reservation_bind(const struct endpoint *e, struct reservation *r, char **ret_error)
{
        size_t at = 0;

        for (unsigned int i = 0; i < e->publish.n; i++) {
                const struct publication *p = &e->publish.v[i];

                for (unsigned int k = 0; k < p->count; k++, at++) {
                        uint16_t port = (uint16_t)(p->host_port + k);
                        char text[PUBLICATION_TEXT_MAX];
                        int err;

                        if (r->fd[at] >= 0)
                                continue;
                        err = reserve(p, port, &r->fd[at]);
                        if (err == 0)
                                continue;
                        publication_format_host(p, port, text);
                        if (err == -EADDRINUSE)
                                return fail(ret_error, err,
                                            "publish %s: the port is taken on this host", text);
                        if (err == -EADDRNOTAVAIL)
                                return fail(ret_error, err,
                                            "publish %s: this host has no such address", text);
                        return fail(ret_error, err, "publish %s: %s", text, strerror(-err));
                }
        }
        return 0;
}

/* --- what can be published -------------------------------------------------------------------- */

static int check_one(const struct endpoint *e, const struct network *n, const struct publication *p,
                     char **ret_error)
{
        char text[PUBLICATION_TEXT_MAX];

        publication_format_host(p, p->host_port, text);
        if (p->host_port + (p->count - 1) >= SLIM_PORT_BASE &&
            p->host_port < SLIM_PORT_BASE + SLIM_PORT_COUNT)
                return fail(ret_error, -EINVAL,
                            "publish %s: the ports %d-%d are Slim's own, choose another", text,
                            SLIM_PORT_BASE, SLIM_PORT_BASE + SLIM_PORT_COUNT - 1);
        if (is_steered(e, p))
                return 0;
        if (!p->any && is_loopback(&p->addr))
                return fail(ret_error, -EINVAL,
                            "publish %s: at a loopback address only TCP ports of Slim containers "
                            "can be published",
                            text);
        if (!(n->prefix[SLIM_V4].bits && publication_takes(p, false)) &&
            !(n->prefix[SLIM_V6].bits && publication_takes(p, true)))
                return fail(ret_error, -EINVAL,
                            "publish %s: the container has no %s address, which this port needs",
                            text, inaddr_is_v4(&p->addr) ? "IPv4" : "IPv6");
        return 0;
}

int publish_check(const struct slimd *d, const struct endpoint *e, const struct network *n,
                  char **ret_error)
{
        for (unsigned int i = 0; i < e->publish.n; i++) {
                const struct publication *p = &e->publish.v[i];
                int r = check_one(e, n, p, ret_error);

                if (r < 0)
                        return r;
                for (const struct local *l = local_next(d, NULL); l; l = local_next(d, l)) {
                        const struct endpoint *other = local_endpoint(l);
                        char text[PUBLICATION_TEXT_MAX];
                        uint16_t port;

                        for (unsigned int k = 0; k < other->publish.n; k++)
                                if (publication_overlaps(p, &other->publish.v[k], &port))
                                        return fail(ret_error, -EADDRINUSE,
                                                    "publish %s: the port is taken on this host, "
                                                    "by the container %s of network %s",
                                                    publication_format_host(p, port, text),
                                                    other->name, other->network);
                }
        }
        return 0;
}

/* --- the map ---------------------------------------------------------------------------------- */

/* The addresses that a publication stands for in the map; how many. */
static unsigned int key_addresses(const struct publication *p, union slim_addr ret[2])
{
        ret[0] = p->addr;
        if (!p->any)
                return 1;
        ret[1] = inaddr_from_v4(0);
        return 2;
}

/* Each entry that an endpoint has: until visit() says other than 0, which is returned. */
static int each_entry(const struct endpoint *e,
                      int (*visit)(const struct slim_published_key *key,
                                   const struct slim_published *value, void *userdata),
                      void *userdata)
{
        for (unsigned int i = 0; i < e->publish.n; i++) {
                const struct publication *p = &e->publish.v[i];
                union slim_addr addr[2];
                unsigned int n = key_addresses(p, addr);

                if (!is_steered(e, p))
                        continue;
                for (unsigned int k = 0; k < n * p->count; k++) {
                        struct slim_published_key key = {.addr = addr[k % n],
                                                         .port = (uint16_t)(p->host_port + k / n)};
                        struct slim_published value = {.endpoint = e->id,
                                                       .port = (uint16_t)(p->port + k / n)};
                        int r = visit(&key, &value, userdata);

                        if (r != 0)
                                return r;
                }
        }
        return 0;
}

static int put_entry(const struct slim_published_key *key, const struct slim_published *value,
                     void *userdata)
{
        const struct slimd *d = userdata;

        return bpf_map_update_elem(datapath_map_fd(d->dp, DATAPATH_PUBLISHED), key, value,
                                   BPF_ANY) < 0
                   ? -errno
                   : 0;
}

static int delete_entry(const struct slim_published_key *key, const struct slim_published *value,
                        void *userdata)
{
        const struct slimd *d = userdata;

        (void)value;
        if (bpf_map_delete_elem(datapath_map_fd(d->dp, DATAPATH_PUBLISHED), key) < 0 &&
            errno != ENOENT)
                log_error_errno(-errno, "cannot delete from the map published: %m, ignoring");
        return 0;
}

static int is_entry(const struct slim_published_key *key, const struct slim_published *value,
                    void *userdata)
{
        (void)value;
        return memcmp(key, userdata, sizeof(*key)) == 0;
}

bool publish_keeps(const void *key, void *userdata)
{
        struct slim_published_key k = *(const struct slim_published_key *)key;
        const struct slimd *d = userdata;

        for (const struct local *l = local_next(d, NULL); l; l = local_next(d, l))
                if (each_entry(local_endpoint(l), is_entry, &k))
                        return true;
        return false;
}

/* --- address translation ---------------------------------------------------------------------- */

static bool has_translations(const struct endpoint *e)
{
        for (unsigned int i = 0; i < e->publish.n; i++)
                if (!is_steered(e, &e->publish.v[i]))
                        return true;
        return false;
}

/* The packets of one port: an address of the host's own that is in no overlay, and no loopback one,
 * from which a packet cannot be sent on. */
static void write_match(const struct publication *p, uint16_t port, bool v6, FILE *f)
{
        char addr[INADDR_TEXT_MAX];

        if (publication_is_wildcard(p))
                fprintf(f, "  fib daddr type local %s daddr != %s %s daddr != @overlays",
                        v6 ? "ip6" : "ip", v6 ? "::1" : "127.0.0.0/8", v6 ? "ip6" : "ip");
        else
                fprintf(f, "  %s daddr %s", v6 ? "ip6" : "ip", inaddr_format(&p->addr, addr));
        fprintf(f, " %s dport %u", p->protocol == IPPROTO_UDP ? "udp" : "tcp", port);
}

/* The container's address of a family, or NULL. */
static const union slim_addr *address_of(const struct endpoint *e, bool v6)
{
        const union slim_addr *a = &e->addr[v6 ? SLIM_V6 : SLIM_V4];

        return inaddr_is_none(a) ? NULL : a;
}

static void write_translations(const struct slimd *d, bool v6, FILE *f)
{
        for (const struct local *l = local_next(d, NULL); l; l = local_next(d, l)) {
                const struct endpoint *e = local_endpoint(l);
                const union slim_addr *to = address_of(e, v6);
                char addr[INADDR_TEXT_MAX];

                if (!to || !local_is_published(l))
                        continue;
                inaddr_format(to, addr);
                for (unsigned int i = 0; i < e->publish.n; i++) {
                        const struct publication *p = &e->publish.v[i];

                        for (unsigned int k = 0; k < p->count; k++) {
                                if (is_steered(e, p) || !publication_takes(p, v6))
                                        continue;
                                write_match(p, (uint16_t)(p->host_port + k), v6, f);
                                fprintf(f, v6 ? " dnat to [%s]:%u\n" : " dnat to %s:%u\n", addr,
                                        p->port + k);
                        }
                }
        }
}

/* What comes up to the socket of a reservation of UDP, such as what a loopback address was asked
 * for: refused, as a port without a socket would refuse it. (One of TCP that does not listen is as
 * good as none.) */
static void write_refusals(const struct slimd *d, bool v6, FILE *f)
{
        for (const struct local *l = local_next(d, NULL); l; l = local_next(d, l)) {
                const struct endpoint *e = local_endpoint(l);

                for (unsigned int i = 0; i < e->publish.n; i++) {
                        const struct publication *p = &e->publish.v[i];
                        char addr[INADDR_TEXT_MAX];

                        if (p->protocol != IPPROTO_UDP || !publication_takes(p, v6) ||
                            !local_is_published(l))
                                continue;
                        if (!publication_is_wildcard(p))
                                fprintf(f, "  %s daddr %s", v6 ? "ip6" : "ip",
                                        inaddr_format(&p->addr, addr));
                        fprintf(f, "  udp dport %u-%u reject\n", p->host_port,
                                p->host_port + p->count - 1);
                }
        }
}

/* Without any rule the chains are left out: each is one more that packets go through. */
bool publish_write_chains(const struct slimd *d, bool v6, FILE *f)
{
        bool any = false;

        for (const struct local *l = local_next(d, NULL); l; l = local_next(d, l))
                any |= local_is_published(l) && has_translations(local_endpoint(l));
        if (!any)
                return false;
        fputs(" chain prerouting {\n  type nat hook prerouting priority dstnat; policy accept;\n",
              f);
        write_translations(d, v6, f);
        fputs(" }\n chain output {\n  type nat hook output priority -100; policy accept;\n", f);
        write_translations(d, v6, f);
        fputs(" }\n chain input {\n  type filter hook input priority filter; policy accept;\n", f);
        write_refusals(d, v6, f);
        fputs(" }\n", f);
        return true;
}

/* --- flows that began before ------------------------------------------------------------------ */

/* Flows to the host itself, at a port that is a container's from now on: a client that goes on
 * sending from one port would not reach it otherwise. */
static bool began_before(const struct conntrack_flow *f, void *userdata)
{
        const struct endpoint *e = userdata;
        bool v6 = !inaddr_is_v4(&f->dst);

        if (f->translated)
                return false;
        for (unsigned int i = 0; i < e->publish.n; i++) {
                const struct publication *p = &e->publish.v[i];

                if (f->protocol == p->protocol && publication_takes(p, v6) && !is_steered(e, p) &&
                    f->dst_port >= p->host_port && f->dst_port - p->host_port < p->count &&
                    (publication_is_wildcard(p) || inaddr_equal(&p->addr, &f->dst)))
                        return true;
        }
        return false;
}

/* Flows to a container that has ended: they would go on to whoever gets its address next, and never
 * to who publishes the port next. */
static bool went_to_it(const struct conntrack_flow *f, void *userdata)
{
        const struct endpoint *e = userdata;
        const union slim_addr *addr = address_of(e, !inaddr_is_v4(&f->answerer));

        return f->translated && addr && inaddr_equal(addr, &f->answerer);
}

static void forget_flows(const struct endpoint *e,
                         bool (*which)(const struct conntrack_flow *f, void *userdata))
{
        struct endpoint copy = *e;
        int r = conntrack_forget(which, &copy);

        if (r < 0)
                log_warning_errno(r, "endpoint %s: cannot end old flows to its ports: %m, ignoring",
                                  e->name);
}

/* --- begin and end ---------------------------------------------------------------------------- */

int publish_begin(struct slimd *d, const struct endpoint *e)
{
        int r = each_entry(e, put_entry, d);

        if (r < 0 || !has_translations(e))
                return r;
        r = host_nat_write(d);
        if (r == 0)
                forget_flows(e, began_before);
        return r;
}

void publish_end(struct slimd *d, const struct endpoint *e)
{
        if (!d->dp)
                return; /* a teardown, which removes the map and the table as a whole */
        (void)each_entry(e, delete_entry, d);
        if (!has_translations(e))
                return;
        (void)host_nat_update(d);
        forget_flows(e, went_to_it);
}
