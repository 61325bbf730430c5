/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In two network namespaces of its own: `here`, which the test stays in, and `there`. Both have no
 * name and go with the process.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "basic/fd.h"
#include "basic/inaddr.h"
#include "shared/netlink-request.h"
#include "shared/netlink.h"

static int here = -1, there = -1;
static struct netlink *nl, *nl_there;

static const uint8_t mac_a[6] = {2, 0, 0, 0, 0, 0xa}, mac_b[6] = {2, 0, 0, 0, 0, 0xb};

static union slim_addr addr(const char *text)
{
        union slim_addr a;

        assert_int_equal(inaddr_parse(text, &a), 0);
        return a;
}

static int own_netns(void)
{
        return open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
}

static ino_t own_netns_inode(void)
{
        struct stat st;

        assert_int_equal(stat("/proc/thread-self/ns/net", &st), 0);
        return st.st_ino;
}

/* Each test starts with two empty namespaces. */
static int setup(void **state)
{
        if (unshare(CLONE_NEWNET) < 0)
                return -1;
        there = own_netns();
        if (unshare(CLONE_NEWNET) < 0)
                return -1;
        here = own_netns();
        return netlink_open(-1, &nl) < 0 || netlink_open(there, &nl_there) < 0 ? -1 : 0;
}

static int teardown(void **state)
{
        netlink_free(nl);
        netlink_free(nl_there);
        nl = nl_there = NULL;
        here = safe_close(here);
        there = safe_close(there);
        return 0;
}

static struct netlink_link get(struct netlink *n, const char *name)
{
        struct netlink_link l;

        assert_int_equal(netlink_link_get(n, name, &l), 0);
        return l;
}

static int socket_there(int family, int type)
{
        int fd;

        assert_int_equal(setns(there, CLONE_NEWNET), 0);
        fd = socket(family, type | SOCK_CLOEXEC, 0);
        assert_int_equal(setns(here, CLONE_NEWNET), 0);
        assert_true(fd >= 0);
        return fd;
}

/* A pair a (here) and b (there), both up, and the links. */
static void make_veth(struct netlink_link *ret_a, struct netlink_link *ret_b)
{
        assert_int_equal(netlink_veth_add(nl, "a", mac_a, "b", mac_b, there, 1400), 0);
        *ret_a = get(nl, "a");
        *ret_b = get(nl_there, "b");
        assert_int_equal(netlink_link_up(nl, ret_a->ifindex), 0);
        assert_int_equal(netlink_link_up(nl_there, ret_b->ifindex), 0);
}

/* --- opening ---------------------------------------------------------------------------------- */

static void test_open(void **state)
{
        ino_t before = own_netns_inode();
        struct netlink *n = NULL;
        sigset_t old, now;
        int fd;

        sigemptyset(&now);
        sigaddset(&now, SIGUSR2);
        sigprocmask(SIG_BLOCK, &now, &old);
        assert_int_equal(netlink_open(there, &n), 0);
        assert_int_equal(own_netns_inode(), before);
        sigprocmask(SIG_SETMASK, &old, &now);
        assert_true(sigismember(&now, SIGUSR2));
        assert_false(sigismember(&now, SIGUSR1));

        /* It is there: a device that is made over it is there and not here. */
        assert_int_equal(netlink_vxlan_add(n, "v", 4789, 1400, mac_a), 0);
        assert_string_equal(get(nl_there, "v").name, "v");
        assert_int_equal(netlink_link_get(nl, "v", &(struct netlink_link){0}), -ENODEV);
        netlink_free(n);

        n = NULL;
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        assert_int_equal(netlink_open(fd, &n), -EINVAL);
        close(fd);
        assert_int_equal(netlink_open(9999, &n), -EBADF);
        fd = open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC);
        assert_int_equal(netlink_open(fd, &n), -EINVAL);
        close(fd);
        assert_null(n);
        assert_int_equal(own_netns_inode(), before);
        sigprocmask(SIG_SETMASK, NULL, &now);
        assert_false(sigismember(&now, SIGUSR1));
        netlink_free(NULL);
}

static void test_unprivileged(void **state)
{
        pid_t pid = fork();
        int status;

        assert_true(pid >= 0);
        if (pid == 0) {
                struct netlink *n;
                bool ok;

                if (setgid(65534) < 0 || setuid(65534) < 0)
                        _exit(2);
                ok = netlink_open(there, &n) == -EPERM && netlink_open(-1, &n) == 0 &&
                     netlink_vxlan_add(n, "v", 1, 1400, mac_a) == -EPERM &&
                     netlink_link_up(n, 1) == -EPERM && netlink_link_del(n, "lo") == -EPERM &&
                     netlink_link_get(n, "lo", &(struct netlink_link){0}) == 0;
                _exit(ok ? 0 : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

/* --- devices ---------------------------------------------------------------------------------- */

static void test_link(void **state)
{
        struct netlink_link l = get(nl, "lo");

        assert_int_equal(l.ifindex, 1);
        assert_string_equal(l.name, "lo");
        assert_string_equal(l.kind, "");
        assert_int_equal(l.mtu, 65536);
        assert_false(l.up);
        assert_int_equal(l.tx_packets, 0);
        assert_int_equal(netlink_link_up(nl, 1), 0);
        assert_true(get(nl, "lo").up);

        assert_int_equal(netlink_link_up(nl, 0), -ENODEV);
        assert_int_equal(netlink_link_up(nl, 999), -ENODEV);
        assert_int_equal(netlink_link_get(nl, "", &l), -ENODEV);
        assert_int_equal(netlink_link_get(nl, "nope", &l), -ENODEV);
        assert_int_equal(netlink_link_get(nl, "lolololololololo", &l), -ENODEV);
        assert_int_equal(netlink_link_del(nl, ""), -ENODEV);
        assert_int_equal(netlink_link_del(nl, "nope"), -ENODEV);
        assert_int_equal(netlink_link_del(nl, "lolololololololo"), -ENODEV);
        assert_int_equal(netlink_link_del(nl, "lo"), -EOPNOTSUPP);
        assert_int_equal(l.ifindex, 1); /* untouched by what failed */
}

struct vxlan {
        int metadata, learning, port, flags;
};

static int read_vxlan(const struct nlmsghdr *nlh, void *userdata)
{
        const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(nlh);
        const struct nlattr *attrs[IFLA_MAX + 1], *info[IFLA_INFO_MAX + 1],
            *data[IFLA_VXLAN_MAX + 1];
        struct vxlan *v = userdata;

        assert_int_equal(netlink_attrs(nlh, sizeof(*ifi), attrs, IFLA_MAX), 0);
        assert_int_equal(netlink_attrs_nested(attrs[IFLA_LINKINFO], info, IFLA_INFO_MAX), 0);
        assert_int_equal(netlink_attrs_nested(info[IFLA_INFO_DATA], data, IFLA_VXLAN_MAX), 0);
        v->metadata = mnl_attr_get_u8(data[IFLA_VXLAN_COLLECT_METADATA]);
        v->learning = mnl_attr_get_u8(data[IFLA_VXLAN_LEARNING]);
        v->port = ntohs(mnl_attr_get_u16(data[IFLA_VXLAN_PORT]));
        v->flags = (int)ifi->ifi_flags;
        return 0;
}

static void test_vxlan(void **state)
{
        struct netlink_request req;
        struct netlink_link l;
        struct vxlan v = {0};

        assert_int_equal(netlink_vxlan_add(nl, "slim-vxlan", 4790, 1450, mac_a), 0);
        l = get(nl, "slim-vxlan");
        assert_string_equal(l.kind, "vxlan");
        assert_string_equal(l.name, "slim-vxlan");
        assert_int_equal(l.mtu, 1450);
        assert_memory_equal(l.mac, mac_a, 6);
        assert_false(l.up);

        netlink_request_init(&req, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
        mnl_attr_put_strz(&req.head, IFLA_IFNAME, "slim-vxlan");
        assert_int_equal(netlink_request_run(nl, &req, read_vxlan, &v), 0);
        assert_int_equal(v.metadata, 1);
        assert_int_equal(v.learning, 0);
        assert_int_equal(v.port, 4790);
        assert_true(v.flags & IFF_NOARP);
        assert_int_equal(netlink_link_up(nl, l.ifindex), 0);
        assert_true(get(nl, "slim-vxlan").up);

        assert_int_equal(netlink_vxlan_add(nl, "slim-vxlan", 4791, 1450, mac_a), -EEXIST);
        assert_int_equal(netlink_vxlan_add(nl, "other", 4790, 1450, mac_a), -EEXIST);
        assert_int_equal(netlink_vxlan_add(nl, "", 4791, 1450, mac_a), -EINVAL);
        assert_int_equal(netlink_vxlan_add(nl, "sixteen-is-a-lot", 4791, 1450, mac_a), -EINVAL);
        assert_int_equal(netlink_vxlan_add(nl, "a/b", 4791, 1450, mac_a), -EINVAL);
        assert_int_equal(netlink_vxlan_add(nl, "mtu", 4791, 1U << 30, mac_a), -EINVAL);
        assert_int_equal(netlink_vxlan_add(nl, "mac", 4791, 1450, (uint8_t[6]){1}), -EADDRNOTAVAIL);
        assert_int_equal(netlink_link_get(nl, "mtu", &l), -ENODEV);
        assert_int_equal(netlink_link_del(nl, "slim-vxlan"), 0);
        assert_int_equal(netlink_link_get(nl, "slim-vxlan", &l), -ENODEV);
}

static void test_veth(void **state)
{
        struct netlink_link a, b;
        int fd;

        /* The same name on both ends: neither was ever in the other's namespace. */
        assert_int_equal(netlink_veth_add(nl, "eth0", mac_a, "eth0", mac_b, there, 1300), 0);
        a = get(nl, "eth0");
        b = get(nl_there, "eth0");
        assert_string_equal(a.kind, "veth");
        assert_string_equal(b.kind, "veth");
        assert_memory_equal(a.mac, mac_a, 6);
        assert_memory_equal(b.mac, mac_b, 6);
        assert_int_equal(a.mtu, 1300);
        assert_int_equal(b.mtu, 1300);

        assert_int_equal(netlink_veth_add(nl, "eth0", mac_a, "x", mac_b, there, 1300), -EEXIST);
        assert_int_equal(netlink_veth_add(nl, "x", mac_a, "eth0", mac_b, there, 1300), -EEXIST);
        assert_int_equal(netlink_veth_add(nl, "x", mac_a, "", mac_b, there, 1300), -EINVAL);
        assert_int_equal(netlink_veth_add(nl, "", mac_a, "x", mac_b, there, 1300), -EINVAL);
        assert_int_equal(netlink_veth_add(nl, "x", mac_a, "y", mac_b, there, 1), -EINVAL);
        assert_int_equal(netlink_veth_add(nl, "x", mac_a, "y", mac_b, -1, 1300), -EBADF);
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        assert_int_equal(netlink_veth_add(nl, "x", mac_a, "y", mac_b, fd, 1300), -EINVAL);
        close(fd);
        assert_int_equal(netlink_link_get(nl, "x", &a), -ENODEV);
        assert_int_equal(netlink_link_get(nl_there, "x", &a), -ENODEV);

        /* One end takes the other along. */
        assert_int_equal(netlink_link_del(nl, "eth0"), 0);
        assert_int_equal(netlink_link_get(nl_there, "eth0", &b), -ENODEV);
}

/* Addresses, routes and neighbours as Slim sets them, and a datagram over them. */
static void exchange(const char *a_text, const char *b_text, uint8_t bits)
{
        union slim_addr a_addr = addr(a_text), b_addr = addr(b_text);
        struct netlink_route to_b = {.dst = b_addr, .dst_bits = bits, .source = &a_addr};
        struct netlink_route back = {
            .dst = a_addr, .dst_bits = bits, .gateway = &a_addr, .onlink = true};
        int family = bits == 32 ? AF_INET : AF_INET6, server, client;
        struct sockaddr_storage at = {.ss_family = (sa_family_t)family}, from;
        struct timeval give_up = {.tv_usec = 100000};
        socklen_t len = sizeof(at), from_len = sizeof(from);
        struct netlink_link a, b;
        ssize_t n = -1;
        char got[8];

        make_veth(&a, &b);
        to_b.ifindex = a.ifindex;
        back.ifindex = b.ifindex;
        assert_int_equal(netlink_addr_add(nl, a.ifindex, &a_addr, bits), 0);
        assert_int_equal(netlink_addr_add(nl_there, b.ifindex, &b_addr, bits), 0);
        assert_int_equal(netlink_route_add(nl, &to_b), 0);
        assert_int_equal(netlink_route_add(nl_there, &back), 0);
        assert_int_equal(netlink_neigh_add(nl, a.ifindex, &b_addr, mac_b), 0);
        assert_int_equal(netlink_neigh_add(nl_there, b.ifindex, &a_addr, mac_a), 0);

        /* An IPv6 address can be used at once. */
        server = socket_there(family, SOCK_DGRAM);
        if (family == AF_INET)
                ((struct sockaddr_in *)&at)->sin_addr.s_addr = inaddr_to_v4(&b_addr);
        else
                memcpy(&((struct sockaddr_in6 *)&at)->sin6_addr, b_addr.b, 16);
        len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
        assert_int_equal(bind(server, (struct sockaddr *)&at, len), 0);
        assert_int_equal(getsockname(server, (struct sockaddr *)&at, &len), 0);
        assert_int_equal(setsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &give_up, sizeof(give_up)), 0);
        client = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        /* The kernel tells IPv6 of the carrier a moment late, and drops what comes until then. */
        for (int tries = 0; n < 0 && tries < 100; tries++) {
                assert_int_equal(sendto(client, "hello", 5, 0, (struct sockaddr *)&at, len), 5);
                n = recvfrom(server, got, sizeof(got), 0, (struct sockaddr *)&from, &from_len);
        }
        assert_int_equal(n, 5);
        assert_memory_equal(family == AF_INET ? (void *)&((struct sockaddr_in *)&from)->sin_addr
                                              : (void *)&((struct sockaddr_in6 *)&from)->sin6_addr,
                            family == AF_INET ? &a_addr.b[12] : a_addr.b, bits / 8);
        assert_true(get(nl, "a").tx_packets >= 1);
        assert_true(get(nl, "a").tx_bytes >= 5 + 8 + 20 + 14);
        assert_true(get(nl_there, "b").rx_packets >= 1);
        assert_true(get(nl_there, "b").rx_bytes >= 5 + 8 + 20 + 14);
        close(client);
        close(server);
}

static void test_exchange_v4(void **state)
{
        exchange("10.77.0.1", "10.77.0.2", 32);
}

static void test_exchange_v6(void **state)
{
        exchange("fd77::1", "fd77::2", 128);
}

/* --- addresses -------------------------------------------------------------------------------- */

static void test_addr(void **state)
{
        union slim_addr v4 = addr("10.1.2.3"), second = addr("10.1.2.4"), v6 = addr("fd00::5"), got;
        struct netlink_link a, b;
        uint8_t bits;

        make_veth(&a, &b);
        assert_int_equal(netlink_link_up(nl, 1), 0);
        assert_int_equal(netlink_addr_get(nl, a.ifindex, AF_INET, &got, &bits), -EADDRNOTAVAIL);
        /* The device has a link-local one by now, or soon; loopback addresses are no use either. */
        assert_int_equal(netlink_addr_get(nl, a.ifindex, AF_INET6, &got, &bits), -EADDRNOTAVAIL);
        assert_int_equal(netlink_addr_get(nl, 1, AF_INET, &got, &bits), -EADDRNOTAVAIL);
        assert_int_equal(netlink_addr_get(nl, 1, AF_INET6, &got, &bits), -EADDRNOTAVAIL);
        assert_int_equal(netlink_addr_get(nl, a.ifindex, AF_UNIX, &got, &bits), -EAFNOSUPPORT);
        assert_int_equal(netlink_addr_get(nl, 999, AF_INET, &got, &bits), -ENODEV);

        assert_int_equal(netlink_addr_add(nl, a.ifindex, &v4, 24), 0);
        assert_int_equal(netlink_addr_add(nl, a.ifindex, &second, 24), 0);
        assert_int_equal(netlink_addr_add(nl, a.ifindex, &v6, 64), 0);
        assert_int_equal(netlink_addr_get(nl, a.ifindex, AF_INET, &got, &bits), 0);
        assert_true(inaddr_equal(&got, &v4));
        assert_int_equal(bits, 24);
        assert_int_equal(netlink_addr_get(nl, a.ifindex, AF_INET6, &got, &bits), 0);
        assert_true(inaddr_equal(&got, &v6));
        assert_int_equal(bits, 64);
        /* Those of another device are not taken for this one's. */
        assert_int_equal(netlink_addr_get(nl, 1, AF_INET, &got, &bits), -EADDRNOTAVAIL);

        assert_int_equal(netlink_addr_add(nl, a.ifindex, &v4, 24), -EEXIST);
        assert_int_equal(netlink_addr_add(nl, a.ifindex, &v6, 64), -EEXIST);
        assert_int_equal(netlink_addr_add(nl, a.ifindex, &v4, 33), -EINVAL);
        assert_int_equal(netlink_addr_add(nl, a.ifindex, &v6, 129), -EINVAL);
        assert_int_equal(netlink_addr_add(nl, 999, &v4, 24), -ENODEV);
        assert_int_equal(netlink_addr_add(nl, 999, &v6, 64), -ENODEV);
}

/* --- routes ----------------------------------------------------------------------------------- */

/* connect() of a datagram socket looks the route up; *ret_source is what it chose. */
static int try_route(const char *to, char *ret_source)
{
        union slim_addr a = addr(to);
        bool v4 = inaddr_is_v4(&a);
        struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(9)};
        struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
        struct sockaddr *sa = v4 ? (struct sockaddr *)&sin : (struct sockaddr *)&sin6;
        socklen_t len = v4 ? sizeof(sin) : sizeof(sin6);
        _cleanup_close_ int fd = socket(sa->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        sin.sin_addr.s_addr = inaddr_to_v4(&a);
        memcpy(&sin6.sin6_addr, a.b, 16);
        if (connect(fd, sa, len) < 0)
                return -errno;
        assert_int_equal(getsockname(fd, sa, &len), 0);
        inet_ntop(sa->sa_family, v4 ? (void *)&sin.sin_addr : (void *)&sin6.sin6_addr, ret_source,
                  INADDR_TEXT_MAX);
        return 0;
}

static void routes(const char *local, const char *other_local, const char *gateway, const char *net,
                   uint8_t net_bits, const char *inside, const char *outside, const char *any)
{
        union slim_addr l = addr(local), o = addr(other_local), g = addr(gateway);
        uint8_t host = inaddr_is_v4(&l) ? 32 : 128;
        char source[INADDR_TEXT_MAX];
        struct netlink_link a, b;
        struct netlink_route r;

        make_veth(&a, &b);
        assert_int_equal(netlink_addr_add(nl, a.ifindex, &l, host), 0);
        assert_int_equal(netlink_addr_add(nl, a.ifindex, &o, host), 0);
        assert_int_equal(try_route(inside, source), -ENETUNREACH);

        /* A default route by a gateway that no route leads to. */
        r = (struct netlink_route){.dst = addr(any), .gateway = &g, .ifindex = a.ifindex};
        assert_true(netlink_route_add(nl, &r) < 0);
        r.onlink = true;
        r.source = &o;
        assert_int_equal(netlink_route_add(nl, &r), 0);
        assert_int_equal(try_route(inside, source), 0);
        assert_string_equal(source, other_local);
        r.source = &l; /* replaces */
        assert_int_equal(netlink_route_add(nl, &r), 0);
        assert_int_equal(try_route(inside, source), 0);
        assert_string_equal(source, local);

        /* A part of it is closed off, again, and opened by a route of the same prefix. */
        r = (struct netlink_route){
            .kind = NETLINK_ROUTE_UNREACHABLE, .dst = addr(net), .dst_bits = net_bits};
        assert_int_equal(netlink_route_add(nl, &r), 0);
        assert_int_equal(netlink_route_add(nl, &r), 0);
        assert_int_equal(try_route(inside, source), -EHOSTUNREACH);
        assert_int_equal(try_route(outside, source), 0);
        assert_int_equal(netlink_route_del(nl, &r), 0);
        assert_int_equal(netlink_route_del(nl, &r), -ESRCH);
        assert_int_equal(try_route(inside, source), 0);

        r = (struct netlink_route){
            .dst = addr(net), .dst_bits = net_bits, .ifindex = a.ifindex, .source = &o};
        assert_int_equal(netlink_route_add(nl, &r), 0);
        assert_int_equal(try_route(inside, source), 0);
        assert_string_equal(source, other_local);
        assert_int_equal(netlink_route_del(nl, &r), 0);
        r = (struct netlink_route){.dst = addr(any), .gateway = &g, .ifindex = a.ifindex};
        assert_int_equal(netlink_route_del(nl, &r), 0);
        assert_int_equal(try_route(outside, source), -ENETUNREACH);

        r = (struct netlink_route){
            .dst = addr(net), .dst_bits = (uint8_t)(host + 1), .ifindex = a.ifindex};
        assert_int_equal(netlink_route_add(nl, &r), -EINVAL);
        r = (struct netlink_route){.dst = addr(net), .dst_bits = net_bits};
        assert_int_equal(netlink_route_add(nl, &r), -EINVAL);
        r.ifindex = 999;
        assert_int_equal(netlink_route_add(nl, &r), -ENODEV);
}

static void test_routes_v4(void **state)
{
        routes("10.77.0.2", "10.77.0.3", "169.254.1.1", "10.9.0.0", 16, "10.9.1.1", "10.8.1.1",
               "0.0.0.0");
}

static void test_routes_v6(void **state)
{
        routes("fd77::2", "fd77::3", "fd99::1", "fd09::", 16, "fd09::1", "fd08::1", "::");
}

static void test_route_families(void **state)
{
        union slim_addr v4 = addr("10.0.0.1"), v6 = addr("fd00::1");
        struct netlink_route r = {.dst = addr("10.1.0.0"), .dst_bits = 16, .ifindex = 1};

        r.gateway = &v6;
        assert_int_equal(netlink_route_add(nl, &r), -EAFNOSUPPORT);
        r.gateway = NULL;
        r.source = &v6;
        assert_int_equal(netlink_route_add(nl, &r), -EAFNOSUPPORT);
        r.dst = addr("fd01::");
        r.source = &v4;
        assert_int_equal(netlink_route_add(nl, &r), -EAFNOSUPPORT);
        assert_int_equal(netlink_route_del(nl, &r), -EAFNOSUPPORT);
}

/* A route in a table of its own, which only this host's packets, then only marked ones, see. */
static void rules(const char *local, const char *away, const char *any, int family)
{
        struct netlink_rule own = {.family = family, .priority = 100, .table = 500, .own = true};
        struct netlink_rule marked = {.family = family, .priority = 90, .table = 501, .mark = 7};
        union slim_addr l = addr(local);
        uint8_t host = inaddr_is_v4(&l) ? 32 : 128;
        const uint32_t mark = 7;
        char source[INADDR_TEXT_MAX];
        struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(9)};
        struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
        struct sockaddr *sa = host == 32 ? (struct sockaddr *)&sin : (struct sockaddr *)&sin6;
        socklen_t len = host == 32 ? sizeof(sin) : sizeof(sin6);
        struct netlink_link a, b;
        struct netlink_route r;
        _cleanup_close_ int fd = -1;

        make_veth(&a, &b);
        assert_int_equal(netlink_link_up(nl, 1), 0);
        assert_int_equal(netlink_addr_add(nl, a.ifindex, &l, host), 0);
        r = (struct netlink_route){
            .dst = addr(away), .dst_bits = host, .ifindex = a.ifindex, .table = 500};
        assert_int_equal(netlink_route_add(nl, &r), 0);
        assert_int_equal(try_route(away, source), -ENETUNREACH);
        assert_int_equal(netlink_rule_add(nl, &own), 0);
        assert_int_equal(netlink_rule_add(nl, &own), -EEXIST);
        assert_int_equal(try_route(away, source), 0);
        assert_string_equal(source, local);

        /* Another way for packets with a mark. */
        r = (struct netlink_route){
            .kind = NETLINK_ROUTE_UNREACHABLE, .dst = addr(away), .dst_bits = host, .table = 501};
        assert_int_equal(netlink_route_add(nl, &r), 0);
        assert_int_equal(netlink_rule_add(nl, &marked), 0);
        assert_int_equal(try_route(away, source), 0);
        fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)), 0);
        inet_pton(AF_INET, away, &sin.sin_addr);
        inet_pton(AF_INET6, away, &sin6.sin6_addr);
        assert_int_equal(connect(fd, sa, len), -1);
        assert_int_equal(errno, EHOSTUNREACH);
        assert_int_equal(netlink_route_del(nl, &r), 0);

        /* A local route: what comes in for any address is this host's. */
        r = (struct netlink_route){
            .kind = NETLINK_ROUTE_LOCAL, .dst = addr(any), .ifindex = 1, .table = 501};
        assert_int_equal(netlink_route_add(nl, &r), 0);
        assert_int_equal(netlink_route_del(nl, &r), 0);
        assert_int_equal(netlink_rule_del(nl, &marked), 0);
        assert_int_equal(netlink_rule_del(nl, &marked), -ENOENT);
        assert_int_equal(netlink_rule_del(nl, &own), 0);
        assert_int_equal(try_route(away, source), -ENETUNREACH);
        own.table = 0;
        assert_int_equal(netlink_rule_add(nl, &own), -EINVAL);
        own.table = 500;
        own.family = AF_UNIX;
        assert_int_equal(netlink_rule_add(nl, &own), -EINVAL);

        assert_int_equal(netlink_addr_del(nl, a.ifindex, &l, host), 0);
        assert_int_equal(netlink_addr_del(nl, a.ifindex, &l, host), -EADDRNOTAVAIL);
}

static void test_rules_v4(void **state)
{
        rules("10.77.0.2", "10.9.1.1", "0.0.0.0", AF_INET);
}

static void test_rules_v6(void **state)
{
        rules("fd77::2", "fd09::1", "::", AF_INET6);
}

/* Which of two ways a packet takes, by its source address. */
static void find(const char *first, const char *second, const char *gateway, const char *net,
                 uint8_t net_bits, const char *inside, const char *any, int family)
{
        union slim_addr one = addr(first), two = addr(second), g = addr(gateway),
                        strange = addr(inside);
        uint8_t host = family == AF_INET ? 32 : 128;
        struct netlink_rule rule = {.family = family, .priority = 900, .table = 700, .from = &two};
        struct netlink_route r = {.dst = addr(any), .gateway = &g, .onlink = true};
        char source[INADDR_TEXT_MAX];
        struct netlink_link a, b;

        make_veth(&a, &b);
        r.ifindex = a.ifindex;
        assert_int_equal(netlink_addr_add(nl, a.ifindex, &one, host), 0);
        assert_int_equal(netlink_addr_add(nl, a.ifindex, &two, host), 0);
        assert_int_equal(netlink_addr_find(nl, a.ifindex, &one), 0);
        assert_int_equal(netlink_addr_find(nl, a.ifindex, &two), 0);
        assert_int_equal(netlink_addr_find(nl, a.ifindex, &strange), -EADDRNOTAVAIL);
        assert_int_equal(netlink_addr_find(nl, 1, &one), -EADDRNOTAVAIL);

        assert_int_equal(netlink_route_find(nl, &r), -ESRCH);
        assert_int_equal(netlink_route_add_new(nl, &r), 0);
        assert_int_equal(netlink_route_add_new(nl, &r), -EEXIST);
        assert_int_equal(netlink_route_find(nl, &r), 0);
        r.ifindex = 1;
        assert_int_equal(netlink_route_find(nl, &r), -ESRCH);
        r.ifindex = a.ifindex;
        r.gateway = &strange;
        assert_int_equal(netlink_route_find(nl, &r), -ESRCH);
        assert_int_equal(netlink_route_add_new(nl, &r), -EEXIST);
        r.gateway = &g;
        r.dst = addr(net);
        r.dst_bits = net_bits;
        assert_int_equal(netlink_route_find(nl, &r), -ESRCH);
        assert_int_equal(netlink_route_add_new(nl, &r), 0);
        assert_int_equal(netlink_route_find(nl, &r), 0);
        r.dst_bits++;
        assert_int_equal(netlink_route_find(nl, &r), -ESRCH);

        /* In another table there is none, until a rule leads there. */
        r = (struct netlink_route){
            .kind = NETLINK_ROUTE_UNREACHABLE, .dst = addr(any), .table = 700};
        assert_int_equal(netlink_route_add(nl, &r), 0);
        assert_int_equal(try_route(inside, source), 0);
        assert_int_equal(netlink_rule_add(nl, &rule), 0);
        assert_int_equal(netlink_rule_add(nl, &rule), -EEXIST);
        assert_int_equal(try_route(inside, source), 0);
        rule.from = &one;
        assert_int_equal(netlink_rule_del(nl, &rule), -ENOENT);
        rule.from = &two;
        assert_int_equal(netlink_rule_del(nl, &rule), 0);
        assert_int_equal(netlink_rule_del(nl, &rule), -ENOENT);
}

static void test_find_v4(void **state)
{
        find("10.77.0.2", "10.77.0.3", "169.254.1.1", "10.9.0.0", 16, "10.9.1.1", "0.0.0.0",
             AF_INET);
}

static void test_find_v6(void **state)
{
        find("fd77::2", "fd77::3", "fd99::1", "fd09::", 16, "fd09::1", "::", AF_INET6);
}

/* A namespace has an id as soon as a device's other end is there; another one does not have it. */
static void test_netns_id(void **state)
{
        struct netlink_link a, b;
        int32_t id = 7, own = 7;
        int fd;

        make_veth(&a, &b);
        assert_true(a.peer_netns >= 0);
        assert_int_equal(netlink_netns_id(nl, there, &id), 0);
        assert_int_equal(id, a.peer_netns);
        assert_int_equal(netlink_netns_id(nl, here, &own), 0);
        assert_int_not_equal(own, a.peer_netns);
        a = get(nl, "lo");
        assert_int_equal(a.peer_netns, -1);
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        assert_true(netlink_netns_id(nl, fd, &id) < 0);
        close(fd);
}

static void add_default(int family, uint32_t ifindex, uint32_t metric, uint32_t table)
{
        struct netlink_request req;
        struct rtmsg *rtm = netlink_request_init(&req, RTM_NEWROUTE, NLM_F_CREATE, sizeof(*rtm));

        rtm->rtm_family = (uint8_t)family;
        rtm->rtm_table = (uint8_t)table;
        rtm->rtm_type = RTN_UNICAST;
        rtm->rtm_scope = RT_SCOPE_LINK;
        mnl_attr_put_u32(&req.head, RTA_OIF, ifindex);
        mnl_attr_put_u32(&req.head, RTA_PRIORITY, metric);
        assert_int_equal(netlink_request_run(nl, &req, NULL, NULL), 0);
}

static void add_default_multipath(uint32_t first, uint32_t second)
{
        struct rtnexthop hop = {.rtnh_len = sizeof(hop)};
        struct netlink_request req;
        struct rtmsg *rtm = netlink_request_init(&req, RTM_NEWROUTE, NLM_F_CREATE, sizeof(*rtm));
        struct nlattr *nest;

        rtm->rtm_family = AF_INET;
        rtm->rtm_table = RT_TABLE_MAIN;
        rtm->rtm_type = RTN_UNICAST;
        nest = mnl_attr_nest_start(&req.head, RTA_MULTIPATH);
        hop.rtnh_ifindex = (int)first;
        memcpy(mnl_nlmsg_put_extra_header(&req.head, sizeof(hop)), &hop, sizeof(hop));
        hop.rtnh_ifindex = (int)second;
        memcpy(mnl_nlmsg_put_extra_header(&req.head, sizeof(hop)), &hop, sizeof(hop));
        mnl_attr_nest_end(&req.head, nest);
        assert_int_equal(netlink_request_run(nl, &req, NULL, NULL), 0);
}

static void test_default_device(void **state)
{
        struct netlink_route unreachable = {.kind = NETLINK_ROUTE_UNREACHABLE,
                                            .dst = addr("0.0.0.0")};
        struct netlink_link a, b, c;
        char name[16] = "untouched";

        make_veth(&a, &b);
        assert_int_equal(netlink_veth_add(nl, "c", mac_a, "d", mac_b, there, 1400), 0);
        c = get(nl, "c");
        assert_int_equal(netlink_link_up(nl, c.ifindex), 0);
        assert_int_equal(netlink_default_device(nl, name), -ENOENT);
        add_default(AF_INET, a.ifindex, 1, 100); /* another table's is not the default */
        add_default(AF_INET6, a.ifindex, 1, 100);
        assert_int_equal(netlink_default_device(nl, name), -ENOENT);
        assert_int_equal(netlink_route_add(nl, &unreachable), 0);
        assert_int_equal(netlink_default_device(nl, name), -ENOENT);
        assert_string_equal(name, "untouched");
        assert_int_equal(netlink_route_del(nl, &unreachable), 0);
        /* IPv6's counts where IPv4 has none. */
        add_default(AF_INET6, c.ifindex, 20, RT_TABLE_MAIN);
        assert_int_equal(netlink_default_device(nl, name), 0);
        assert_string_equal(name, "c");
        add_default(AF_INET6, a.ifindex, 10, RT_TABLE_MAIN);
        assert_int_equal(netlink_default_device(nl, name), 0);
        assert_string_equal(name, "a");
        add_default(AF_INET6, c.ifindex, 5, RT_TABLE_MAIN);
        add_default(AF_INET, a.ifindex, 200, RT_TABLE_MAIN);
        assert_int_equal(netlink_default_device(nl, name), 0);
        assert_string_equal(name, "a");
        add_default(AF_INET, c.ifindex, 100, RT_TABLE_MAIN);
        assert_int_equal(netlink_default_device(nl, name), 0);
        assert_string_equal(name, "c");
        add_default(AF_INET, a.ifindex, 300, RT_TABLE_MAIN);
        assert_int_equal(netlink_default_device(nl, name), 0);
        assert_string_equal(name, "c");
        add_default_multipath(a.ifindex, c.ifindex);
        assert_int_equal(netlink_default_device(nl, name), 0);
        assert_string_equal(name, "a");
}

/* --- neighbours ------------------------------------------------------------------------------- */

struct neighbours {
        union slim_addr addr;
        unsigned int n;
        uint8_t mac[6];
        uint16_t nud;
};

static int read_neigh(const struct nlmsghdr *nlh, void *userdata)
{
        const struct ndmsg *ndm = mnl_nlmsg_get_payload(nlh);
        const struct nlattr *attrs[NDA_MAX + 1];
        struct neighbours *want = userdata;
        size_t len = ndm->ndm_family == AF_INET ? 4 : 16;

        assert_int_equal(netlink_attrs(nlh, sizeof(*ndm), attrs, NDA_MAX), 0);
        if (!attrs[NDA_DST] || mnl_attr_get_payload_len(attrs[NDA_DST]) != len ||
            memcmp(mnl_attr_get_payload(attrs[NDA_DST]), want->addr.b + 16 - len, len) != 0)
                return 0;
        want->n++;
        want->nud = ndm->ndm_state;
        memcpy(want->mac, mnl_attr_get_payload(attrs[NDA_LLADDR]), 6);
        return 0;
}

static void test_neigh(void **state)
{
        static const char *const texts[] = {"169.254.1.1", "fe80::1"};
        struct netlink_link a, b;

        make_veth(&a, &b);
        for (size_t i = 0; i < 2; i++) {
                struct neighbours want = {.addr = addr(texts[i])};
                struct netlink_request req;
                struct ndmsg *ndm;

                assert_int_equal(netlink_neigh_add(nl, a.ifindex, &want.addr, mac_a), 0);
                assert_int_equal(netlink_neigh_add(nl, a.ifindex, &want.addr, mac_b), 0);
                ndm = netlink_request_init(&req, RTM_GETNEIGH, NLM_F_DUMP, sizeof(*ndm));
                ndm->ndm_family = i == 0 ? AF_INET : AF_INET6;
                assert_int_equal(netlink_request_run(nl, &req, read_neigh, &want), 0);
                assert_int_equal(want.n, 1);
                assert_memory_equal(want.mac, mac_b, 6);
                assert_int_equal(want.nud, NUD_PERMANENT);
                assert_true(netlink_neigh_add(nl, 999, &want.addr, mac_b) < 0);
        }
}

/* --- dumps ------------------------------------------------------------------------------------ */

#define MANY 1500

static void add_many(void)
{
        union slim_addr a = addr("10.1.0.0");

        for (int i = 1; i <= MANY; i++) {
                a.b[14] = (uint8_t)(i >> 8);
                a.b[15] = (uint8_t)i;
                assert_int_equal(netlink_addr_add(nl, 1, &a, 32), 0);
        }
}

/* Counts addresses; the first `disturb` times it adds one in the middle of the dump. */
struct counter {
        unsigned int n, resets, disturb, added;
        struct netlink *other;
};

static void counter_reset(void *userdata)
{
        struct counter *c = userdata;

        c->n = 0;
        c->resets++;
}

static int count(const struct nlmsghdr *nlh, void *userdata)
{
        struct counter *c = userdata;

        if (c->n++ == 0 && c->disturb > 0) {
                union slim_addr a = addr("10.2.0.0");

                c->disturb--;
                c->added++;
                a.b[15] = (uint8_t)c->added;
                assert_int_equal(netlink_addr_add(c->other, 1, &a, 32), 0);
        }
        return 0;
}

static int refuse(const struct nlmsghdr *nlh, void *userdata)
{
        ++*(int *)userdata;
        return -EXDEV;
}

static void dump_request(struct netlink_request *req)
{
        struct ifaddrmsg *ifa = netlink_request_init(req, RTM_GETADDR, NLM_F_DUMP, sizeof(*ifa));

        ifa->ifa_family = AF_INET;
}

static void test_dumps(void **state)
{
        struct netlink_request req;
        struct counter c = {0};
        union slim_addr got;
        int refused = 0;
        uint8_t bits;

        add_many();
        dump_request(&req);
        assert_int_equal(netlink_request_dump(nl, &req, count, counter_reset, &c), 0);
        assert_int_equal(c.n, MANY);
        assert_int_equal(c.resets, 1);

        /* A change in the middle: taken again, until it is whole. */
        assert_int_equal(netlink_open(-1, &c.other), 0);
        c.disturb = 3;
        c.resets = 0;
        assert_int_equal(netlink_request_dump(nl, &req, count, counter_reset, &c), 0);
        assert_int_equal(c.added, 3);
        assert_int_equal(c.n, MANY + 3);
        assert_int_equal(c.resets, 4);

        /* But not for ever. */
        c.disturb = 200;
        c.resets = 0;
        assert_int_equal(netlink_request_dump(nl, &req, count, counter_reset, &c), -EBUSY);
        assert_in_range(c.resets, 2, 100);
        netlink_free(c.other);

        /* Who has seen enough sees no more, and the next request gets its own answer. */
        assert_int_equal(netlink_request_run(nl, &req, refuse, &refused), -EXDEV);
        assert_int_equal(refused, 1);
        assert_int_equal(netlink_addr_get(nl, 1, AF_INET, &got, &bits), 0);
        assert_int_equal(bits, 32);
        assert_int_equal(get(nl, "lo").ifindex, 1);
}

/* What `tc class show` has of a class: its rate in bytes a second, and how much may wait. */
struct htb_class {
        uint32_t wanted;
        bool found;
        uint64_t rate, ceil;
        uint32_t burst, leaf;
};

static int read_class(const struct nlmsghdr *nlh, void *userdata)
{
        const struct tcmsg *tcm = mnl_nlmsg_get_payload(nlh);
        const struct nlattr *attrs[TCA_MAX + 1], *htb[TCA_HTB_MAX + 1];
        struct htb_class *c = userdata;
        const struct tc_htb_opt *opt;

        if (tcm->tcm_handle != c->wanted)
                return 0;
        assert_int_equal(netlink_attrs(nlh, sizeof(*tcm), attrs, TCA_MAX), 0);
        assert_int_equal(netlink_attrs_nested(attrs[TCA_OPTIONS], htb, TCA_HTB_MAX), 0);
        opt = mnl_attr_get_payload(htb[TCA_HTB_PARMS]);
        c->found = true;
        c->rate = htb[TCA_HTB_RATE64] ? mnl_attr_get_u64(htb[TCA_HTB_RATE64]) : opt->rate.rate;
        c->ceil = htb[TCA_HTB_CEIL64] ? mnl_attr_get_u64(htb[TCA_HTB_CEIL64]) : opt->ceil.rate;
        c->leaf = tcm->tcm_info;
        return 0;
}

static struct htb_class htb_class(uint32_t ifindex, uint32_t id)
{
        struct htb_class c = {.wanted = id};
        struct netlink_request req;
        struct tcmsg *tcm = netlink_request_init(&req, RTM_GETTCLASS, NLM_F_DUMP, sizeof(*tcm));

        tcm->tcm_ifindex = (int)ifindex;
        assert_int_equal(netlink_request_run(nl, &req, read_class, &c), 0);
        return c;
}

static void test_htb(void **state)
{
        const uint32_t handle = 0x511e0000;
        uint32_t ifindex;
        uint32_t leaf;

        assert_int_equal(netlink_veth_add(nl, "a", mac_a, "b", mac_b, there, 1500), 0);
        ifindex = get(nl, "a").ifindex;
        assert_true(get(nl, "a").ethernet && get(nl, "lo").ethernet);
        assert_int_equal(netlink_htb_class_put(nl, ifindex, handle, 1, 1000, 4096), -ENOENT);
        assert_int_equal(netlink_htb_add(nl, ifindex, handle), 0);
        assert_int_equal(netlink_htb_add(nl, ifindex, handle), 0);
        assert_int_equal(netlink_htb_add(nl, 4711, handle), -ENODEV);

        /* From the slowest to more than 32 bits have room for. */
        assert_int_equal(netlink_htb_class_put(nl, ifindex, handle, 1, 125, 4096), 0);
        assert_int_equal(htb_class(ifindex, handle | 1).rate, 125);
        assert_int_equal(netlink_htb_class_put(nl, ifindex, handle, 0xffff, 125000000000000, 4096),
                         0);
        assert_int_equal(htb_class(ifindex, handle | 0xffff).rate, 125000000000000);
        assert_int_equal(htb_class(ifindex, handle | 0xffff).ceil, 125000000000000);
        assert_int_equal(netlink_htb_class_put(nl, ifindex, handle, 0, 125, 4096), -EINVAL);
        assert_int_equal(netlink_htb_class_put(nl, ifindex, handle, 1, 0, 4096), -EINVAL);

        /* A change is of the class that is there, and of its queue. */
        leaf = htb_class(ifindex, handle | 1).leaf;
        assert_int_not_equal(leaf, 0);
        assert_int_equal(netlink_htb_class_put(nl, ifindex, handle, 1, 1000000, 65536), 0);
        assert_int_equal(htb_class(ifindex, handle | 1).rate, 1000000);
        assert_int_equal(htb_class(ifindex, handle | 1).leaf, leaf);
        /* Adding the qdisc again leaves its classes. */
        assert_int_equal(netlink_htb_add(nl, ifindex, handle), 0);
        assert_true(htb_class(ifindex, handle | 1).found);

        assert_int_equal(netlink_htb_class_del(nl, ifindex, handle, 1), 0);
        assert_false(htb_class(ifindex, handle | 1).found);
        assert_int_equal(netlink_htb_class_del(nl, ifindex, handle, 1), -ENOENT);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
            TEST(test_open),           TEST(test_unprivileged),
            TEST(test_link),           TEST(test_vxlan),
            TEST(test_veth),           TEST(test_exchange_v4),
            TEST(test_exchange_v6),    TEST(test_addr),
            TEST(test_routes_v4),      TEST(test_routes_v6),
            TEST(test_route_families), TEST(test_default_device),
            TEST(test_neigh),          TEST(test_dumps),
            TEST(test_rules_v4),       TEST(test_rules_v6),
            TEST(test_find_v4),        TEST(test_find_v6),
            TEST(test_netns_id),       TEST(test_htb),
#undef TEST
        };

        if (unshare(CLONE_NEWNET) < 0) {
                printf("1..0 # SKIP cannot make a network namespace (%s): run as root\n",
                       strerror(errno));
                return 0;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
