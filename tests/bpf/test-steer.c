// SPDX-License-Identifier: Apache-2.0
/*
 * slim_steer, lookup by lookup. The listeners are real sockets of this process, put into the map by
 * descriptor; what the sockops program would have written beside them is written here.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include <cmocka.h>

#include "basic/fd.h"
#include "basic/inaddr.h"
#include "basic/macro.h"
#include "harness.h"

#define CLIENT 0x01020304U
#define SERVER 0xa1b2c3d4U
#define OTHER  0x33333333U

#define VIRTUAL_PORT 80
#define WIRE_PORT    (PORT_BASE + 0x12)

/*
 * struct slim_port of src/bpf/maps.h, which only programs can include. check_layout() compares it
 * with what the object says.
 */
struct port {
        uint32_t lock;
        uint32_t dead;
        uint8_t walk[16];
        struct slim_binding binding[SLIM_BINDINGS];
};

#define IDENTITY 21 /* the server's */

static struct slim_bpf *skel;

/* --- the table of ports and its sockets ------------------------------------------------------- */

static struct port port;
static int open_fds[SLIM_LISTENERS * 2];
static size_t n_open;

static void put_port(void)
{
        struct slim_port_key key = {.endpoint = SERVER, .port = VIRTUAL_PORT};

        harness_put(skel->maps.ports, &key, &port);
}

/* A listening socket on a free host port, closed after the test. */
static int listening_socket(int family, bool v6only)
{
        struct sockaddr_in6 six = {.sin6_family = AF_INET6};
        struct sockaddr_in four = {.sin_family = AF_INET};
        int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = v6only;

        assert_true(fd >= 0);
        assert_in_range(n_open, 0, ARRAY_SIZE(open_fds) - 1);
        open_fds[n_open++] = fd;
        if (family == AF_INET6) {
                assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)), 0);
                assert_int_equal(bind(fd, (struct sockaddr *)&six, sizeof(six)), 0);
        } else {
                assert_int_equal(bind(fd, (struct sockaddr *)&four, sizeof(four)), 0);
        }
        assert_int_equal(listen(fd, 16), 0);
        return fd;
}

static uint64_t cookie_of(int fd)
{
        uint64_t cookie = 0;
        socklen_t len = sizeof(cookie);

        assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len), 0);
        assert_true(cookie != 0);
        return cookie;
}

static void put_listener(uint8_t binding, uint8_t slot, int fd)
{
        struct slim_listener_key key = {
            .endpoint = SERVER,
            .port = VIRTUAL_PORT,
            .binding = binding,
            .slot = slot,
        };
        uint64_t value = (uint64_t)fd;

        harness_put(skel->maps.listeners, &key, &value);
}

enum { DUAL, V6ONLY };

/* A binding of the port, as port_add() of ports.h would fill it, with no listener yet. */
static void bind_to(uint8_t binding, const char *addr, int v6only)
{
        struct slim_binding *b = &port.binding[binding];
        union slim_addr a = harness_addr(addr);
        bool any4 = strcmp(addr, "0.0.0.0") == 0, any6 = strcmp(addr, "::") == 0;

        *b = (struct slim_binding){.addr = a, .owners = 1};
        b->claims = any6   ? SLIM_CLAIMS_ANY | SLIM_CLAIMS_V6 | (v6only ? 0 : SLIM_CLAIMS_V4)
                    : any4 ? SLIM_CLAIMS_ANY | SLIM_CLAIMS_V4
                    : inaddr_is_v4(&a) ? SLIM_CLAIMS_V4
                                       : SLIM_CLAIMS_V6;
}

/* A listener in one slot of a binding; its cookie. */
static uint64_t listen_in(uint8_t binding, uint8_t slot)
{
        const struct slim_binding *b = &port.binding[binding];
        bool six = !inaddr_is_v4(&b->addr);
        int fd = listening_socket(six ? AF_INET6 : AF_INET, six && !(b->claims & SLIM_CLAIMS_V4));

        put_listener(binding, slot, fd);
        port.binding[binding].listeners |= 1ULL << slot;
        put_port();
        return cookie_of(fd);
}

static uint64_t listen_on(uint8_t binding, const char *addr, int v6only)
{
        bind_to(binding, addr, v6only);
        return listen_in(binding, 0);
}

static void close_listener(uint64_t cookie)
{
        for (size_t i = 0; i < n_open; i++)
                if (open_fds[i] >= 0 && cookie_of(open_fds[i]) == cookie) {
                        open_fds[i] = safe_close(open_fds[i]);
                        return;
                }
        fail_msg("no listener has this cookie");
}

static void server_at(const char *addr)
{
        struct slim_endpoint e = {
            .id = SERVER,
            .network = 7,
            .flags = SLIM_ENDPOINT_SLIM | SLIM_ENDPOINT_LOCAL,
            .identity = IDENTITY,
        };

        harness_addrs(e.addr, addr);
        harness_addrs(e.host, "192.0.2.8");
        harness_endpoint(skel, &e);
}

static int setup(void **state)
{
        harness_reset(skel);
        port = (struct port){};
        server_at("10.1.0.6");
        return 0;
}

static int teardown(void **state)
{
        while (n_open > 0)
                safe_close(open_fds[--n_open]);
        return 0;
}

/* --- connections ------------------------------------------------------------------------------ */

static struct slim_tuple usual(void)
{
        return (struct slim_tuple){
            .client_addr = harness_addr("192.0.2.7"),
            .server_addr = harness_addr("192.0.2.8"),
            .client_port = 40000,
            .server_port = WIRE_PORT,
        };
}

/* What slim_ingress would have left of a SYN. */
static void syn_to(const struct slim_tuple *t, uint8_t kind)
{
        struct slim_syn syn = {
            .client_endpoint = CLIENT,
            .server_endpoint = SERVER,
            .client_addr = harness_addr("10.1.0.5"),
            .client_port = 4711,
            .server_port = VIRTUAL_PORT,
            .peer_kind = kind,
        };

        harness_put(skel->maps.syns, t, &syn);
}

static bool has_entry(const struct slim_tuple *t)
{
        struct slim_syn syn;

        return harness_get(skel->maps.syns, t, &syn);
}

/* One lookup; the verdict, and the cookie of the socket that was chosen, or 0. */
static enum sk_action look_up(const struct slim_tuple *t, uint32_t protocol, uint64_t *ret_cookie)
{
        bool v4 = inaddr_is_v4(&t->server_addr);
        struct bpf_sk_lookup context = {
            .family = v4 ? AF_INET : AF_INET6,
            .protocol = protocol,
            .remote_port = htons(t->client_port),
            .local_port = t->server_port,
        };
        DECLARE_LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &context, .ctx_out = &context,
                            .ctx_size_in = sizeof(context), .ctx_size_out = sizeof(context));

        if (v4) {
                context.remote_ip4 = inaddr_to_v4(&t->client_addr);
                context.local_ip4 = inaddr_to_v4(&t->server_addr);
        } else {
                memcpy(context.remote_ip6, &t->client_addr, sizeof(context.remote_ip6));
                memcpy(context.local_ip6, &t->server_addr, sizeof(context.local_ip6));
        }
        assert_int_equal(bpf_prog_test_run_opts(bpf_program__fd(skel->progs.slim_steer), &opts), 0);
        *ret_cookie = context.cookie;
        return opts.retval;
}

/* A verified SYN of this kind comes to a listener, and its entry stays for the handshake's end. */
static void reaches(const struct slim_tuple *t, uint8_t kind, uint64_t listener)
{
        uint64_t cookie;

        syn_to(t, kind);
        assert_int_equal(look_up(t, IPPROTO_TCP, &cookie), SK_PASS);
        assert_true(cookie == listener);
        harness_counted(skel, SLIM_REASON_NONE);
        assert_true(has_entry(t));
        bpf_map_delete_elem(bpf_map__fd(skel->maps.syns), t);
}

/* … comes to nobody: dropped, which the kernel answers with a reset, and forgotten. */
static void reaches_nobody(const struct slim_tuple *t, uint8_t kind)
{
        uint64_t cookie;

        syn_to(t, kind);
        assert_int_equal(look_up(t, IPPROTO_TCP, &cookie), SK_DROP);
        assert_true(cookie == 0);
        harness_counted(skel, SLIM_REASON_STEER_NO_LISTENER);
        assert_false(has_entry(t));
}

/* A policy rejects it (ingress.bpf.c, which has counted it): there is no listener for it. */
static void test_refused(void **state)
{
        uint64_t listener = listen_on(0, "0.0.0.0", DUAL), cookie;
        struct slim_tuple t = usual();
        struct slim_syn syn = {
            .client_endpoint = CLIENT,
            .client_addr = harness_addr("10.1.0.5"),
            .client_port = 4711,
            .server_port = VIRTUAL_PORT,
            .peer_kind = SLIM_PEER_OVERLAY,
        };

        reaches(&t, SLIM_PEER_OVERLAY, listener);
        harness_put(skel->maps.syns, &t, &syn);
        assert_int_equal(look_up(&t, IPPROTO_TCP, &cookie), SK_DROP);
        assert_true(cookie == 0);
        harness_counted(skel, SLIM_REASON_NONE);
        assert_false(has_entry(&t));
}

static void passes(const struct slim_tuple *t, uint32_t protocol)
{
        uint64_t cookie;

        assert_int_equal(look_up(t, protocol, &cookie), SK_PASS);
        assert_true(cookie == 0);
        harness_counted(skel, SLIM_REASON_NONE);
}

static void drops(const struct slim_tuple *t, enum slim_reason reason)
{
        uint64_t cookie;

        assert_int_equal(look_up(t, IPPROTO_TCP, &cookie), SK_DROP);
        assert_true(cookie == 0);
        harness_counted(skel, reason);
}

#define OVERLAY  SLIM_PEER_OVERLAY
#define LOOPBACK SLIM_PEER_LOOPBACK

/* --- tests ------------------------------------------------------------------------------------ */

static void test_layout(void **state)
{
        const struct btf *btf = bpf_object__btf(skel->obj);
        const struct btf_type *t;
        const struct btf_member *m;
        __s32 id = btf__find_by_name_kind(btf, "slim_port", BTF_KIND_STRUCT);
        int seen = 0;

        assert_int_equal(bpf_map__value_size(skel->maps.ports), sizeof(struct port));
        assert_true(id > 0);
        t = btf__type_by_id(btf, (__u32)id);
        assert_int_equal(t->size, sizeof(struct port));
        m = btf_members(t);
        for (__u16 i = 0; i < btf_vlen(t); i++) {
                const char *name = btf__name_by_offset(btf, m[i].name_off);
                __u32 at = btf_member_bit_offset(t, i) / 8;

                if (strcmp(name, "binding") == 0) {
                        assert_int_equal(at, offsetof(struct port, binding));
                        seen++;
                } else if (strcmp(name, "lock") == 0) {
                        assert_int_equal(at, offsetof(struct port, lock));
                        seen++;
                } else if (strcmp(name, "dead") == 0) {
                        assert_int_equal(at, offsetof(struct port, dead));
                        seen++;
                }
        }
        assert_int_equal(seen, 3);
}

/* The exact address, then 0.0.0.0, then ::, in whatever element each of them is. */
static void test_preference(void **state)
{
        static const uint8_t orders[][3] = {{0, 1, 2}, {2, 1, 0}, {1, 2, 0}, {7, 0, 3}, {3, 7, 6}};
        struct slim_tuple t = usual();

        for (size_t i = 0; i < ARRAY_SIZE(orders); i++) {
                const uint8_t *o = orders[i];
                uint64_t exact, any4, any6;

                teardown(NULL);
                setup(NULL);
                reaches_nobody(&t, OVERLAY);
                any6 = listen_on(o[2], "::", DUAL);
                reaches(&t, OVERLAY, any6);
                any4 = listen_on(o[1], "0.0.0.0", DUAL);
                reaches(&t, OVERLAY, any4);
                exact = listen_on(o[0], "10.1.0.6", DUAL);
                reaches(&t, OVERLAY, exact);

                /* One that is bound but no longer listens stands in nobody's way. */
                port.binding[o[0]].listeners = 0;
                put_port();
                reaches(&t, OVERLAY, any4);
                port.binding[o[1]].listeners = 0;
                put_port();
                reaches(&t, OVERLAY, any6);
                port.binding[o[2]].listeners = 0;
                put_port();
                reaches_nobody(&t, OVERLAY);
        }
}

/* An element that is free is not there, whatever is left in it. */
static void test_free_element(void **state)
{
        struct slim_tuple t = usual();
        uint64_t any4;

        listen_on(0, "10.1.0.6", DUAL);
        any4 = listen_on(1, "0.0.0.0", DUAL);
        port.binding[0].owners = 0;
        put_port();
        reaches(&t, OVERLAY, any4);
        port.binding[1].owners = 0;
        put_port();
        reaches_nobody(&t, OVERLAY);
}

static void test_v6only(void **state)
{
        struct slim_tuple t = usual();
        uint64_t listener = listen_on(2, "::", V6ONLY);

        reaches_nobody(&t, OVERLAY);
        t.client_addr = t.server_addr = harness_addr("127.0.0.1");
        reaches_nobody(&t, LOOPBACK);
        /* But for ::1 it is. */
        t.client_addr = t.server_addr = harness_addr("::1");
        reaches(&t, LOOPBACK, listener);
}

/* The container's own loopback: the address that the client used decides, not the overlay's. */
static void test_loopback(void **state)
{
        struct slim_tuple one = usual(), two, six, outside = usual();
        uint64_t bound_one, bound_six, any4, any6;

        one.client_addr = one.server_addr = harness_addr("127.0.0.1");
        two = one;
        two.server_addr = harness_addr("127.0.0.2");
        six = one;
        six.client_addr = six.server_addr = harness_addr("::1");

        bound_one = listen_on(0, "127.0.0.1", DUAL);
        bound_six = listen_on(1, "::1", DUAL);
        reaches(&one, LOOPBACK, bound_one);
        reaches(&six, LOOPBACK, bound_six);
        reaches_nobody(&two, LOOPBACK);
        reaches_nobody(&outside, OVERLAY); /* loopback only: not from the overlay */

        any6 = listen_on(2, "::", DUAL);
        reaches(&two, LOOPBACK, any6);
        reaches(&outside, OVERLAY, any6);
        any4 = listen_on(3, "0.0.0.0", DUAL);
        reaches(&two, LOOPBACK, any4);
        reaches(&outside, OVERLAY, any4);
        reaches(&one, LOOPBACK, bound_one);
        reaches(&six, LOOPBACK, bound_six);
        port.binding[1].listeners = 0;
        put_port();
        reaches(&six, LOOPBACK, any6); /* 0.0.0.0 takes no IPv6 */

        /* What listens on the overlay address alone is not on loopback. */
        port = (struct port){};
        listen_on(0, "10.1.0.6", DUAL);
        reaches_nobody(&one, LOOPBACK);
        reaches_nobody(&six, LOOPBACK);
}

/* What the SYN was found to be decides between the two addresses, and nothing else does. */
static void test_kind_decides(void **state)
{
        struct slim_tuple t = usual();
        uint64_t exact;

        t.client_addr = t.server_addr = harness_addr("127.0.0.1");
        listen_on(0, "127.0.0.1", DUAL);
        reaches_nobody(&t, OVERLAY);
        exact = listen_on(1, "10.1.0.6", DUAL);
        reaches(&t, OVERLAY, exact);
}

/* The underlay may be IPv6 while the overlay is IPv4. */
static void test_underlay_v6(void **state)
{
        struct slim_tuple t = usual();
        uint64_t any6;

        t.client_addr = harness_addr("fd00::7");
        t.server_addr = harness_addr("fd00::8");
        drops(&t, SLIM_REASON_STEER_NO_SYN);
        any6 = listen_on(0, "::", DUAL);
        reaches(&t, OVERLAY, any6);
        /* Same low words, another address. */
        syn_to(&t, OVERLAY);
        t.client_addr.b[0] ^= 1;
        drops(&t, SLIM_REASON_STEER_NO_SYN);
}

/* Without a verified SYN of this very connection there is nothing behind a Slim port. */
static void test_no_syn(void **state)
{
        struct slim_tuple t = usual(), other;
        uint64_t listener = listen_on(0, "0.0.0.0", DUAL);

        drops(&t, SLIM_REASON_STEER_NO_SYN);
        for (unsigned int p = PORT_BASE; p < PORT_BASE + PORT_COUNT; p++) {
                t.server_port = (uint16_t)p;
                drops(&t, SLIM_REASON_STEER_NO_SYN);
                reaches(&t, OVERLAY, listener);
        }
        t = usual();
        syn_to(&t, OVERLAY);
        for (unsigned int bit = 0; bit < 32; bit++) {
                other = t;
                other.client_addr.b[12 + bit / 8] ^= (uint8_t)(1U << bit % 8);
                drops(&other, SLIM_REASON_STEER_NO_SYN);
                other = t;
                other.server_addr.b[12 + bit / 8] ^= (uint8_t)(1U << bit % 8);
                drops(&other, SLIM_REASON_STEER_NO_SYN);
        }
        for (unsigned int bit = 0; bit < 16; bit++) {
                other = t;
                other.client_port ^= (uint16_t)(1U << bit);
                drops(&other, SLIM_REASON_STEER_NO_SYN);
        }
        assert_true(has_entry(&t));
        /* And what it says of another port or another container is not for this listener. */
        for (int i = 0; i < 2; i++) {
                struct slim_endpoint e = {.id = OTHER, .network = 7, .flags = SLIM_ENDPOINT_LOCAL};
                struct slim_syn syn = {.client_endpoint = CLIENT,
                                       .server_endpoint = i ? SERVER : OTHER,
                                       .server_port = i ? VIRTUAL_PORT + 1 : VIRTUAL_PORT,
                                       .peer_kind = OVERLAY};

                harness_addrs(e.addr, "10.1.0.7");
                harness_endpoint(skel, &e);
                harness_put(skel->maps.syns, &t, &syn);
                drops(&t, SLIM_REASON_STEER_NO_LISTENER);
                assert_false(has_entry(&t));
        }
}

/* The SYN was good, and then its server went. */
static void test_gone(void **state)
{
        struct slim_tuple t = usual();
        uint64_t listener = listen_on(0, "0.0.0.0", DUAL);
        struct slim_port_key key = {.endpoint = SERVER, .port = VIRTUAL_PORT};
        uint32_t id = SERVER;

        reaches(&t, OVERLAY, listener);
        /* Closed; the table does not know yet, but the kernel does. */
        close_listener(listener);
        reaches_nobody(&t, OVERLAY);
        listener = listen_on(0, "0.0.0.0", DUAL);
        reaches(&t, OVERLAY, listener);
        assert_int_equal(bpf_map_delete_elem(bpf_map__fd(skel->maps.identities), &id), 0);
        reaches_nobody(&t, OVERLAY);
        server_at("10.1.0.6");
        reaches(&t, OVERLAY, listener);
        assert_int_equal(bpf_map_delete_elem(bpf_map__fd(skel->maps.ports), &key), 0);
        reaches_nobody(&t, OVERLAY);
}

/* The host port of a container's listener looks closed from everywhere. */
static void test_hidden(void **state)
{
        static const uint32_t ports[] = {
            1, 80, 32768, 45678, PORT_BASE - 1, PORT_BASE + PORT_COUNT, 65535};
        uint32_t none = 0, one = 1, two = 2;

        for (size_t i = 0; i < ARRAY_SIZE(ports); i++) {
                struct slim_tuple t = usual(), six = usual();

                six.client_addr = harness_addr("fd00::7");
                six.server_addr = harness_addr("fd00::8");
                t.server_port = six.server_port = (uint16_t)ports[i];
                passes(&t, IPPROTO_TCP);
                passes(&six, IPPROTO_TCP);
                harness_put(skel->maps.hidden_ports, &ports[i], &two);
                drops(&t, SLIM_REASON_HIDDEN_PORT);
                drops(&six, SLIM_REASON_HIDDEN_PORT);
                passes(&t, IPPROTO_UDP);
                harness_put(skel->maps.hidden_ports, &ports[i], &one);
                drops(&t, SLIM_REASON_HIDDEN_PORT);
                /* Also for a client that has a verified SYN, which says nothing of this port. */
                listen_on(0, "0.0.0.0", DUAL);
                syn_to(&t, OVERLAY);
                drops(&t, SLIM_REASON_HIDDEN_PORT);
                t.server_port++;
                if (ports[i] != PORT_BASE - 1 && ports[i] != 65535)
                        passes(&t, IPPROTO_TCP);
                t.server_port--;
                harness_put(skel->maps.hidden_ports, &ports[i], &none);
                passes(&t, IPPROTO_TCP);
        }
}

/* What is not ours is as if we were not there. */
static void test_others(void **state)
{
        struct slim_tuple t = usual();

        listen_on(0, "0.0.0.0", DUAL);
        syn_to(&t, OVERLAY);
        passes(&t, IPPROTO_UDP);
        for (unsigned int p = 0; p <= 0xffff; p += 111) {
                t.server_port = (uint16_t)p;
                if (p >= PORT_BASE && p < PORT_BASE + PORT_COUNT)
                        continue;
                passes(&t, IPPROTO_TCP);
        }
        t.server_port = PORT_BASE - 1;
        passes(&t, IPPROTO_TCP);
        t.server_port = PORT_BASE + PORT_COUNT;
        passes(&t, IPPROTO_TCP);
}

/* --- SO_REUSEPORT ----------------------------------------------------------------------------- */

#define TUPLES 10000

/* The ith connection of a crowd, in several ways in which clients differ from one another. */
static struct slim_tuple of_crowd(unsigned int way, unsigned int i)
{
        struct slim_tuple t = usual();

        switch (way) {
        case 0: /* one client's ports, one by one */
                t.client_port = (uint16_t)(32768 + i);
                break;
        case 1: /* … every second one, as connect() of Linux takes them */
                t.client_port = (uint16_t)(32768 + 2 * i);
                break;
        case 2: /* many clients, from one port each */
                t.client_addr.w[3] = htonl(0x0a000000 + i);
                break;
        case 3: /* 100 clients of a network with 100 ports each */
                t.client_addr.w[3] = htonl(0x0a000001 + i % 100);
                t.client_port = (uint16_t)(40000 + i / 100 * 2);
                break;
        case 4: /* the second again, where an earlier hash left one member an eighth of its share */
                t.client_addr = harness_addr("192.0.2.132");
                t.client_port = (uint16_t)(32768 + (3803 + i) % 14116 * 2);
                t.server_port = 61687;
                break;
        default:
                t.client_addr.w[3] = harness_random();
                t.client_port = (uint16_t)harness_random();
                break;
        }
        return t;
}

#define WAYS 6

/* Each member of a group gets between half and twice its share of each crowd. */
static void share_load(const uint8_t *slots, size_t n)
{
        uint64_t cookies[SLIM_LISTENERS];

        bind_to(3, "0.0.0.0", DUAL);
        for (size_t i = 0; i < n; i++)
                cookies[i] = listen_in(3, slots[i]);
        port.binding[3].owners = (uint32_t)n;
        put_port();
        for (unsigned int way = 0; way < WAYS; way++) {
                unsigned int hits[SLIM_LISTENERS] = {0};

                for (unsigned int i = 0; i < TUPLES; i++) {
                        struct slim_tuple t = of_crowd(way, i);
                        uint64_t cookie, again;
                        size_t k = 0;

                        syn_to(&t, OVERLAY);
                        assert_int_equal(look_up(&t, IPPROTO_TCP, &cookie), SK_PASS);
                        while (k < n && cookies[k] != cookie)
                                k++;
                        assert_in_range(k, 0, n - 1);
                        hits[k]++;
                        if (i % 64 == 0) {
                                /* A SYN that is sent again, or the ACK of a SYN cookie. */
                                look_up(&t, IPPROTO_TCP, &again);
                                assert_true(again == cookie);
                        }
                        bpf_map_delete_elem(bpf_map__fd(skel->maps.syns), &t);
                }
                for (size_t k = 0; k < n; k++)
                        if (hits[k] * n < TUPLES / 2 || hits[k] * n > (size_t)TUPLES * 2)
                                fail_msg("way %u: member %zu of %zu got %u of %u", way, k, n,
                                         hits[k], TUPLES);
        }
        harness_counted(skel, SLIM_REASON_NONE);
}

static void test_two(void **state)
{
        share_load((const uint8_t[]){0, 1}, 2);
}

static void test_three(void **state)
{
        share_load((const uint8_t[]){0, 1, 2}, 3);
}

/* Members went and left holes. */
static void test_sparse(void **state)
{
        share_load((const uint8_t[]){2, 17, 31, 32, 63}, 5);
}

static void test_eight(void **state)
{
        share_load((const uint8_t[]){0, 1, 2, 3, 4, 5, 6, 7}, 8);
}

static void test_full_group(void **state)
{
        uint8_t slots[SLIM_LISTENERS];

        for (uint8_t i = 0; i < SLIM_LISTENERS; i++)
                slots[i] = i;
        share_load(slots, SLIM_LISTENERS);
}

/* A single listener is found in every slot. */
static void test_every_slot(void **state)
{
        struct slim_tuple t = usual();

        for (uint8_t slot = 0; slot < SLIM_LISTENERS; slot++) {
                uint64_t cookie;

                bind_to(0, "0.0.0.0", DUAL);
                cookie = listen_in(0, slot);
                reaches(&t, OVERLAY, cookie);
        }
}

/* The group goes on without a member that has closed. */
static void test_member_closes(void **state)
{
        uint64_t cookies[4];

        bind_to(0, "10.1.0.6", DUAL);
        for (uint8_t i = 0; i < 4; i++)
                cookies[i] = listen_in(0, i);
        for (uint8_t gone = 0; gone < 4; gone++) {
                close_listener(cookies[gone]);
                port.binding[0].listeners &= ~(1ULL << gone);
                put_port();
                for (unsigned int i = 0; i < 200; i++) {
                        struct slim_tuple t = of_crowd(0, i);
                        uint64_t cookie;
                        bool left = false;

                        if (gone == 3) {
                                reaches_nobody(&t, OVERLAY);
                                continue;
                        }
                        syn_to(&t, OVERLAY);
                        assert_int_equal(look_up(&t, IPPROTO_TCP, &cookie), SK_PASS);
                        for (uint8_t k = gone + 1; k < 4; k++)
                                left |= cookies[k] == cookie;
                        assert_true(left);
                }
        }
}

/* Members that just begin or end have bits and no sockets: the others have their share. */
static void test_members_between(void **state)
{
        uint64_t cookie;

        bind_to(0, "10.1.0.6", DUAL);
        cookie = listen_in(0, 5);
        port.binding[0].owners = SLIM_LISTENERS;
        port.binding[0].listeners = ~0ULL;
        put_port();
        for (unsigned int i = 0; i < 200; i++) {
                struct slim_tuple t = of_crowd(0, i);

                reaches(&t, OVERLAY, cookie);
        }
        close_listener(cookie);
        for (unsigned int i = 0; i < 200; i++) {
                struct slim_tuple t = of_crowd(0, i);

                reaches_nobody(&t, OVERLAY);
        }
}

/* Sockets that share their host port are one kernel group too: ours is the choice all the same. */
static void test_kernel_group(void **state)
{
        struct sockaddr_in at = {.sin_family = AF_INET};
        socklen_t len = sizeof(at);
        uint64_t cookies[2];

        bind_to(0, "0.0.0.0", DUAL);
        for (uint8_t i = 0; i < 2; i++) {
                int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

                assert_true(fd >= 0);
                open_fds[n_open++] = fd;
                assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)), 0);
                assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
                assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
                assert_int_equal(listen(fd, 16), 0);
                put_listener(0, i, fd);
                cookies[i] = cookie_of(fd);
        }
        port.binding[0].owners = 2;
        port.binding[0].reuse_port = 2;
        for (uint8_t i = 0; i < 2; i++) {
                struct slim_tuple t = usual();

                port.binding[0].listeners = 1ULL << i;
                put_port();
                reaches(&t, OVERLAY, cookies[i]);
        }
}

/* --- published ports -------------------------------------------------------------------------- */

#define PUBLISHED 8080

static void publish(const char *addr, uint16_t host_port, uint32_t endpoint, uint16_t port_there)
{
        struct slim_published_key key = {.addr = harness_addr(addr), .port = host_port};
        struct slim_published value = {.endpoint = endpoint, .port = port_there};

        harness_put(skel->maps.published, &key, &value);
}

static struct slim_tuple from_outside(const char *client, const char *server)
{
        return (struct slim_tuple){
            .client_addr = harness_addr(client),
            .server_addr = harness_addr(server),
            .client_port = 40000,
            .server_port = PUBLISHED,
        };
}

static void finds(const char *client, const char *server, uint64_t listener)
{
        struct slim_tuple t = from_outside(client, server);
        uint64_t cookie;

        assert_int_equal(look_up(&t, IPPROTO_TCP, &cookie), SK_PASS);
        assert_true(cookie == listener);
        harness_counted(skel, SLIM_REASON_NONE);
}

static void finds_nobody(const char *client, const char *server)
{
        struct slim_tuple t = from_outside(client, server);

        drops(&t, SLIM_REASON_PUBLISH_NO_LISTENER);
}

static void is_not_published(const char *client, const char *server)
{
        struct slim_tuple t = from_outside(client, server);

        passes(&t, IPPROTO_TCP);
}

static void test_published_addresses(void **state)
{
        uint64_t listener = listen_on(0, "::", DUAL);

        is_not_published("192.0.2.7", "192.0.2.8");
        publish("192.0.2.8", PUBLISHED, SERVER, VIRTUAL_PORT);
        finds("192.0.2.7", "192.0.2.8", listener);
        is_not_published("192.0.2.7", "192.0.2.9");
        is_not_published("127.0.0.1", "127.0.0.1");
        is_not_published("2001:db8::7", "2001:db8::8");

        publish("0.0.0.0", PUBLISHED, SERVER, VIRTUAL_PORT);
        finds("192.0.2.7", "192.0.2.9", listener);
        finds("127.0.0.1", "127.0.0.1", listener);
        is_not_published("2001:db8::7", "2001:db8::8");
        is_not_published("::1", "::1");

        publish("::", PUBLISHED, SERVER, VIRTUAL_PORT);
        finds("2001:db8::7", "2001:db8::8", listener);
        finds("::1", "::1", listener);
}

/* Of this protocol, on this port, and no other. */
static void test_published_port(void **state)
{
        struct slim_tuple t = from_outside("192.0.2.7", "192.0.2.8");

        (void)listen_on(0, "0.0.0.0", DUAL);
        publish("0.0.0.0", PUBLISHED, SERVER, VIRTUAL_PORT);
        passes(&t, IPPROTO_UDP);
        t.server_port = PUBLISHED + 1;
        passes(&t, IPPROTO_TCP);
        t.server_port = VIRTUAL_PORT;
        passes(&t, IPPROTO_TCP);
        /* A Slim port is one whatever the map says. */
        publish("0.0.0.0", WIRE_PORT, SERVER, VIRTUAL_PORT);
        t.server_port = WIRE_PORT;
        drops(&t, SLIM_REASON_STEER_NO_SYN);
}

/* A client who is no endpoint is its address to policies, and the port is the container's. */
static void test_published_policy(void **state)
{
        uint64_t listener = listen_on(0, "::", DUAL);
        struct slim_policy_subject subject = {
            .flags = (SLIM_POLICY_SELECTED | SLIM_POLICY_CIDRS) << SLIM_POLICY_INGRESS,
        };
        struct slim_prefix_key cidr = {.prefixlen = 96 + 24, .addr = harness_addr("192.0.2.0")};
        struct slim_policy_key rule = {
            .prefixlen = SLIM_POLICY_BITS_PORT,
            .subject = IDENTITY,
            .peer = SLIM_POLICY_CIDR | 4,
            .direction = SLIM_POLICY_INGRESS,
            .protocol = IPPROTO_TCP,
            .be_port = htons(VIRTUAL_PORT),
        };
        struct slim_tuple t = from_outside("192.0.2.7", "192.0.2.8");
        uint32_t identity = IDENTITY, id = 4, one = 1;

        publish("0.0.0.0", PUBLISHED, SERVER, VIRTUAL_PORT);
        harness_put(skel->maps.policy_subjects, &identity, &subject);
        drops(&t, SLIM_REASON_POLICY_INGRESS);
        harness_put(skel->maps.policy_cidrs, &cidr, &id);
        drops(&t, SLIM_REASON_POLICY_INGRESS);
        harness_put(skel->maps.policy_rules, &rule, &one);
        finds("192.0.2.7", "192.0.2.8", listener);
        t = from_outside("192.0.3.7", "192.0.2.8");
        drops(&t, SLIM_REASON_POLICY_INGRESS);
}

/* A wildcard has no overlay address in it; one that is published by itself is itself. */
static void test_published_not_in_overlay(void **state)
{
        struct slim_prefix_key prefix = {.prefixlen = 96 + 16, .addr = harness_addr("10.1.0.0")};
        uint64_t listener = listen_on(0, "0.0.0.0", DUAL);
        uint32_t network = 7;

        harness_put(skel->maps.prefixes, &prefix, &network);
        publish("0.0.0.0", PUBLISHED, SERVER, VIRTUAL_PORT);
        is_not_published("192.0.2.7", "10.1.0.9");
        finds("10.1.0.5", "192.0.2.8", listener);
        publish("10.1.0.9", PUBLISHED, SERVER, VIRTUAL_PORT);
        finds("192.0.2.7", "10.1.0.9", listener);
}

/* What a client of the container's own address would find, and nothing of its loopback. */
static void test_published_binding(void **state)
{
        uint64_t any6, any4, exact;

        publish("0.0.0.0", PUBLISHED, SERVER, VIRTUAL_PORT);
        publish("::", PUBLISHED, SERVER, VIRTUAL_PORT);
        finds_nobody("192.0.2.7", "192.0.2.8");
        (void)listen_on(0, "127.0.0.1", DUAL);
        (void)listen_on(1, "::1", DUAL);
        finds_nobody("192.0.2.7", "192.0.2.8");
        finds_nobody("127.0.0.1", "127.0.0.1");
        finds_nobody("::1", "::1");
        any6 = listen_on(2, "::", DUAL);
        finds("192.0.2.7", "192.0.2.8", any6);
        finds("2001:db8::7", "2001:db8::8", any6);
        any4 = listen_on(3, "0.0.0.0", DUAL);
        exact = listen_on(4, "10.1.0.6", DUAL);
        finds("192.0.2.7", "192.0.2.8", exact);
        finds("127.0.0.1", "127.0.0.1", exact);
        finds("2001:db8::7", "2001:db8::8", any6);
        close_listener(exact);
        bind_to(4, "10.1.0.6", DUAL);
        put_port();
        finds("192.0.2.7", "192.0.2.8", any4);
}

static void test_published_v6only(void **state)
{
        uint64_t any6;

        publish("0.0.0.0", PUBLISHED, SERVER, VIRTUAL_PORT);
        publish("::", PUBLISHED, SERVER, VIRTUAL_PORT);
        any6 = listen_on(0, "::", V6ONLY);
        finds_nobody("192.0.2.7", "192.0.2.8");
        finds("2001:db8::7", "2001:db8::8", any6);
}

/* A container with an IPv6 address only: its wildcards take IPv4 from outside all the same. */
static void test_published_other_family(void **state)
{
        uint64_t any, exact;

        server_at("fd00::6");
        publish("0.0.0.0", PUBLISHED, SERVER, VIRTUAL_PORT);
        publish("::", PUBLISHED, SERVER, VIRTUAL_PORT);
        exact = listen_on(0, "fd00::6", DUAL);
        finds_nobody("192.0.2.7", "192.0.2.8");
        finds("2001:db8::7", "2001:db8::8", exact);
        any = listen_on(1, "::", DUAL);
        finds("192.0.2.7", "192.0.2.8", any);
        finds("2001:db8::7", "2001:db8::8", exact);
}

/* The group's members share what comes from outside, too. */
static void test_published_group(void **state)
{
        uint64_t cookies[4];
        int got[4] = {};

        publish("0.0.0.0", PUBLISHED, SERVER, VIRTUAL_PORT);
        bind_to(0, "0.0.0.0", DUAL);
        for (uint8_t i = 0; i < 4; i++)
                cookies[i] = listen_in(0, i);
        for (int i = 0; i < 4000; i++) {
                struct slim_tuple t = from_outside("192.0.2.7", "192.0.2.8");
                uint64_t cookie, again;

                t.client_port = (uint16_t)(20000 + i);
                assert_int_equal(look_up(&t, IPPROTO_TCP, &cookie), SK_PASS);
                assert_int_equal(look_up(&t, IPPROTO_TCP, &again), SK_PASS);
                assert_true(cookie == again); /* as the ACK of a SYN cookie needs */
                for (int k = 0; k < 4; k++)
                        got[k] += cookie == cookies[k];
        }
        for (int k = 0; k < 4; k++)
                assert_in_range(got[k], 500, 2000);
}

/* The endpoint that published it is gone, or is another: nobody else's listener. */
static void test_published_gone(void **state)
{
        (void)listen_on(0, "0.0.0.0", DUAL);
        publish("0.0.0.0", PUBLISHED, OTHER, VIRTUAL_PORT);
        finds_nobody("192.0.2.7", "192.0.2.8");
        publish("0.0.0.0", PUBLISHED, SERVER, VIRTUAL_PORT + 1);
        finds_nobody("192.0.2.7", "192.0.2.8");
}

/* Two containers on one port of two addresses; and a listener of a third hides behind it elsewhere.
 */
static void test_published_beside_hidden(void **state)
{
        uint32_t at = PUBLISHED, one = 1, none = 0;
        struct slim_tuple t = from_outside("127.0.0.1", "127.0.0.1");
        uint64_t listener = listen_on(0, "0.0.0.0", DUAL);

        publish("192.0.2.8", PUBLISHED, SERVER, VIRTUAL_PORT);
        publish("192.0.2.9", PUBLISHED, OTHER, VIRTUAL_PORT);
        harness_put(skel->maps.hidden_ports, &at, &one);
        finds("192.0.2.7", "192.0.2.8", listener);
        finds_nobody("192.0.2.7", "192.0.2.9");
        drops(&t, SLIM_REASON_HIDDEN_PORT);
        harness_put(skel->maps.hidden_ports, &at, &none);
        is_not_published("127.0.0.1", "127.0.0.1");
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
            TEST(test_layout),
            TEST(test_preference),
            TEST(test_free_element),
            TEST(test_v6only),
            TEST(test_loopback),
            TEST(test_kind_decides),
            TEST(test_underlay_v6),
            TEST(test_no_syn),
            TEST(test_refused),
            TEST(test_gone),
            TEST(test_hidden),
            TEST(test_others),
            TEST(test_two),
            TEST(test_three),
            TEST(test_sparse),
            TEST(test_eight),
            TEST(test_full_group),
            TEST(test_every_slot),
            TEST(test_member_closes),
            TEST(test_members_between),
            TEST(test_kernel_group),
            TEST(test_published_addresses),
            TEST(test_published_port),
            TEST(test_published_policy),
            TEST(test_published_not_in_overlay),
            TEST(test_published_binding),
            TEST(test_published_v6only),
            TEST(test_published_other_family),
            TEST(test_published_group),
            TEST(test_published_gone),
            TEST(test_published_beside_hidden),
#undef TEST
        };
        int failed;

        skel = harness_start();
        if (!skel)
                return 0;
        failed = cmocka_run_group_tests(tests, NULL, NULL);
        slim_bpf__destroy(skel);
        return failed;
}
