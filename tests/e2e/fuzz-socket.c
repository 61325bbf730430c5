/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a hostile program in a container may do to its TCP sockets, for test_fuzz_socket.py:
 *
 *   fuzz-socket --calls N [--seed S] [--uid UID] [--kinds LIST] [--own ADDRESS]
 *               [--peer ADDRESS --port PORT] [--forbid HEX,HEX…]
 *
 * Makes N system calls with random arguments on sockets of both families in every state: fresh,
 * bound, listening, connected, accepted. LIST says of which kinds: options, ioctls, messages,
 * calls. Every byte string that a call hands out is searched for the forbidden ones (addresses and
 * names of the host), none of which is ever handed in. Prints one JSON object: the seed, how many
 * calls of each kind there were and how many of them succeeded, and what was found. The exit status
 * is 1 when something was.
 *
 * A timer interrupts whatever blocks. Nothing here depends on the time otherwise: the same seed
 * makes the same calls, though the kernel may answer them differently.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SOCKETS       24
#define FORBIDDEN_MAX 64
#define FOUND_MAX     32
#define BUFFER_SIZE   8192
#define FILL          0xa5 /* of a buffer before a call; not in what is searched for */
#define RENEW         64   /* every so many calls a socket is a new one */

enum kind {
        KIND_OPTIONS,
        KIND_IOCTLS,
        KIND_MESSAGES,
        KIND_CALLS,
        KIND_MAX,
};

static const char *const kind_names[KIND_MAX] = {"options", "ioctls", "messages", "calls"};

static struct {
        uint8_t bytes[32];
        size_t n;
} forbidden[FORBIDDEN_MAX];
static size_t n_forbidden;

static char found[FOUND_MAX][128];
static size_t n_found;

static uint64_t rng;
static int sockets[SOCKETS];
static struct in_addr own, peer;
static in_port_t peer_port;
static uint8_t in[BUFFER_SIZE], out[BUFFER_SIZE];

/* --- chance ----------------------------------------------------------------------------------- */

/* xorshift64*, Vigna 2016 */
static uint64_t next(void)
{
        rng ^= rng >> 12;
        rng ^= rng << 25;
        rng ^= rng >> 27;
        return rng * 0x2545f4914f6cdd1dULL;
}

static uint32_t below(uint32_t n)
{
        return (uint32_t)((next() >> 32) % n);
}

static bool one_in(uint32_t n)
{
        return below(n) == 0;
}

/* A number as programs get them wrong: small, at a limit, or anything. */
static uint32_t number(void)
{
        switch (below(8)) {
        case 0:
                return below(4);
        case 1:
                return below(256);
        case 2:
                return 1U << below(32);
        case 3:
                return (1U << below(32)) - 1;
        case 4:
                return -below(256);
        case 5:
                return (uint32_t[]){0, UINT32_MAX, INT32_MAX, 0x80000000U}[below(4)];
        case 6:
                return below(70000);
        default:
                return (uint32_t)next();
        }
}

static const uint8_t *find_forbidden(const uint8_t *p, size_t n, size_t *ret_which)
{
        for (size_t i = 0; i < n_forbidden; i++) {
                const uint8_t *hit = memmem(p, n, forbidden[i].bytes, forbidden[i].n);

                if (hit) {
                        *ret_which = i;
                        return hit;
                }
        }
        return NULL;
}

/* Random bytes to hand in, with nothing in them that is searched for afterwards. */
static void fill_in(size_t n)
{
        size_t which;

        do {
                switch (below(4)) {
                case 0:
                        memset(in, 0, n);
                        break;
                case 1:
                        memset(in, (int)below(256), n);
                        break;
                default:
                        for (size_t i = 0; i + 4 <= n; i += 4) {
                                uint32_t v = one_in(3) ? number() : (uint32_t)next();

                                memcpy(in + i, &v, 4);
                        }
                }
                if (n >= 4 && one_in(2)) {
                        uint32_t v = number();

                        memcpy(in, &v, 4);
                }
        } while (find_forbidden(in, n, &which));
}

/* --- findings --------------------------------------------------------------------------------- */

static void look(const char *what, uint32_t a, uint32_t b, const void *p, size_t n)
{
        char line[sizeof(found[0])];
        size_t which = 0, at;

        if (n > BUFFER_SIZE)
                n = BUFFER_SIZE;
        if (!find_forbidden(p, n, &which))
                return;
        at = (size_t)snprintf(line, sizeof(line), "%s %#x %#x shows forbidden %zu:", what, a, b,
                              which);
        for (size_t i = 0; i < 28 && i < n; i++)
                at += (size_t)snprintf(line + at, sizeof(line) - at, "%02x", ((uint8_t *)p)[i]);
        for (size_t i = 0; i < n_found; i++)
                if (strcmp(found[i], line) == 0)
                        return;
        if (n_found < FOUND_MAX)
                memcpy(found[n_found++], line, sizeof(line));
}

/* --- addresses -------------------------------------------------------------------------------- */

/* Into in[]; its length. */
static socklen_t make_address(void)
{
        static const uint16_t families[] = {AF_INET,   AF_INET6, AF_UNSPEC, AF_UNIX, AF_NETLINK,
                                            AF_PACKET, AF_VSOCK, 0xffff,    255,     AF_BLUETOOTH};
        struct in_addr v4 = {.s_addr = htonl(INADDR_LOOPBACK)};
        struct sockaddr_in6 *sin6 = (void *)in;
        struct sockaddr_in *sin = (void *)in;
        in_port_t port;

        fill_in(sizeof(struct sockaddr_storage));
        switch (below(6)) {
        case 0:
                v4 = own;
                break;
        case 1:
                v4 = peer;
                break;
        case 2:
                v4.s_addr = 0;
                break;
        case 3:
                v4.s_addr = htonl(0x0a4d0000U | below(0x10000)); /* overlay, of anybody */
                break;
        }
        port = htons(one_in(2) ? 80 : one_in(2) ? (uint16_t)(20000 + below(64)) : (uint16_t)next());
        if (one_in(2)) {
                sin->sin_family = AF_INET;
                sin->sin_port = port;
                sin->sin_addr = v4;
                if (!one_in(16))
                        return sizeof(*sin);
        } else {
                sin6->sin6_family = AF_INET6;
                sin6->sin6_port = port;
                if (one_in(3))
                        sin6->sin6_addr = one_in(2) ? in6addr_any : in6addr_loopback;
                else if (!one_in(4)) {
                        memset(&sin6->sin6_addr, 0, 10);
                        memset(&sin6->sin6_addr.s6_addr[10], 0xff, 2);
                        memcpy(&sin6->sin6_addr.s6_addr[12], &v4, 4);
                } else {
                        memset(&sin6->sin6_addr, 0, 16);
                        sin6->sin6_addr.s6_addr[0] = one_in(2) ? 0xfe : 0xff;
                        sin6->sin6_addr.s6_addr[1] = one_in(2) ? 0x80 : 0x02;
                        sin6->sin6_addr.s6_addr[15] = (uint8_t)below(4);
                }
                sin6->sin6_scope_id = one_in(4) ? below(8) : 0;
                if (!one_in(16))
                        return sizeof(*sin6);
        }
        sin->sin_family = families[below(sizeof(families) / sizeof(families[0]))];
        return one_in(8) ? number() : below(sizeof(struct sockaddr_storage) + 8);
}

/* --- sockets in every state ------------------------------------------------------------------- */

static int make_socket(void)
{
        int family = one_in(2) ? AF_INET : AF_INET6, fd, on = 1;
        struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6};
        struct sockaddr_in sin = {.sin_family = AF_INET};
        in_port_t port = htons((uint16_t)(20000 + below(64)));

        fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0 || one_in(4))
                return fd;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        sin.sin_port = sin6.sin6_port = one_in(2) ? port : 0;
        switch (below(3)) {
        case 0: /* bound, half of them listening */
                if (family == AF_INET)
                        (void)bind(fd, (struct sockaddr *)&sin, sizeof(sin));
                else
                        (void)bind(fd, (struct sockaddr *)&sin6, sizeof(sin6));
                if (one_in(2))
                        listen(fd, (int)below(8));
                break;
        case 1: /* connected, to the other container or to one of ours */
                sin.sin_addr = one_in(2)   ? peer
                               : one_in(2) ? own
                                           : (struct in_addr){htonl(INADDR_LOOPBACK)};
                sin.sin_port = sin.sin_addr.s_addr == peer.s_addr ? peer_port : port;
                if (family == AF_INET) {
                        (void)connect(fd, (struct sockaddr *)&sin, sizeof(sin));
                        break;
                }
                memset(&sin6.sin6_addr.s6_addr[10], 0xff, 2);
                memcpy(&sin6.sin6_addr.s6_addr[12], &sin.sin_addr, 4);
                sin6.sin6_port = sin.sin_port;
                (void)connect(fd, (struct sockaddr *)&sin6, sizeof(sin6));
                break;
        default: /* accepted, of whichever listener has one */
                for (int i = 0; i < SOCKETS; i++) {
                        int accepted =
                            accept4(sockets[i], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

                        if (accepted >= 0) {
                                close(fd);
                                return accepted;
                        }
                }
        }
        return fd;
}

static int pick(void)
{
        uint32_t i = below(SOCKETS);

        if (sockets[i] < 0 || one_in(RENEW)) {
                if (sockets[i] >= 0)
                        close(sockets[i]);
                sockets[i] = make_socket();
        }
        return sockets[i];
}

/* --- the calls -------------------------------------------------------------------------------- */

static int level(void)
{
        static const int levels[] = {SOL_SOCKET,
                                     SOL_SOCKET,
                                     IPPROTO_TCP,
                                     IPPROTO_TCP,
                                     IPPROTO_IP,
                                     IPPROTO_IP,
                                     IPPROTO_IPV6,
                                     IPPROTO_IPV6,
                                     IPPROTO_UDP,
                                     IPPROTO_RAW,
                                     IPPROTO_ICMPV6,
                                     132,
                                     263,
                                     270,
                                     282,
                                     284,
                                     285,
                                     286};

        return one_in(32) ? (int)number() : levels[below(sizeof(levels) / sizeof(levels[0]))];
}

static int call_option(void)
{
        int fd = pick(), at = level(), name = one_in(16) ? (int)number() : (int)below(136), r;
        socklen_t n;

        if (one_in(2)) {
                static const socklen_t sizes[] = {0, 1, 4, 4, 4, 4, 8, 12, 16, 40, 136, 264};

                n = one_in(16) ? below(BUFFER_SIZE) : sizes[below(12)];
                fill_in(n);
                if (at == SOL_SOCKET && name == SO_BINDTODEVICE && one_in(2))
                        strcpy((char *)in, one_in(2) ? "eth0" : "lo");
                if (at == IPPROTO_TCP && name == TCP_ULP && one_in(2))
                        memcpy(in, "tls", 4);
                return setsockopt(fd, at, name, one_in(256) ? NULL : in,
                                  one_in(64) ? (socklen_t)number() : n);
        }
        n = one_in(4) ? below(64) : one_in(16) ? (socklen_t)BUFFER_SIZE : 256;
        memset(out, FILL, sizeof(out));
        r = getsockopt(fd, at, name, out, &n);
        look("getsockopt", (uint32_t)at, (uint32_t)name, out, sizeof(out));
        return r;
}

static int call_ioctl(void)
{
        static const char *const names[] = {"eth0", "lo", "nothing0", ""};
        unsigned long request;
        int fd = pick(), r;

        request = one_in(16) ? (unsigned long)next() : 0x8900UL + below(0x100);
        memset(out, 0, sizeof(out));
        fill_in(512);
        memcpy(out, in, 512);
        if (!one_in(4))
                strcpy((char *)out, names[below(4)]);
        if (request == SIOCGIFCONF) {
                /* A length and a pointer: to a place that is searched. */
                struct ifconf c = {.ifc_len = 2048, .ifc_buf = (char *)out + 4096};

                memcpy(out, &c, sizeof(c));
        }
        r = ioctl(fd, request, out);
        look("ioctl", (uint32_t)request, 0, out, sizeof(out));
        return r;
}

static int call_message(void)
{
        int fd = pick(), flags, r;
        struct iovec iov = {.iov_base = in + 4096, .iov_len = below(2048)};
        struct msghdr m = {.msg_iov = &iov, .msg_iovlen = !one_in(16)};

        flags = one_in(3) ? (int)number() : one_in(2) ? MSG_DONTWAIT : MSG_ERRQUEUE | MSG_DONTWAIT;
        if (one_in(2)) {
                size_t at = 0;

                if (one_in(3)) {
                        m.msg_namelen = make_address();
                        m.msg_name = in;
                }
                m.msg_control = in + 1024;
                for (uint32_t i = below(3); i > 0; i--) {
                        struct cmsghdr c = {
                            .cmsg_len = CMSG_LEN(below(64)),
                            .cmsg_level = level(),
                            .cmsg_type = one_in(8) ? (int)number() : (int)below(100),
                        };

                        if (one_in(16))
                                c.cmsg_len = number();
                        memcpy(in + 1024 + at, &c, sizeof(c));
                        at += CMSG_SPACE(64);
                }
                m.msg_controllen = at;
                return (int)sendmsg(fd, &m, flags | MSG_NOSIGNAL);
        }
        memset(out, FILL, sizeof(out));
        m.msg_name = out;
        m.msg_namelen = one_in(4) ? below(256) : 128;
        m.msg_control = out + 1024;
        m.msg_controllen = one_in(4) ? below(1024) : 1024;
        iov.iov_base = out + 4096;
        r = (int)recvmsg(fd, &m, flags);
        look("recvmsg", (uint32_t)flags, 0, out, sizeof(out));
        return r;
}

/* For a finding: the first byte of TCP_INFO. */
static uint32_t tcp_state(int fd)
{
        uint8_t state = 0;
        socklen_t n = sizeof(state);

        getsockopt(fd, IPPROTO_TCP, TCP_INFO, &state, &n);
        return state;
}

static int call_call(void)
{
        int fd = pick(), r;
        socklen_t n;

        switch (below(10)) {
        case 0:
                n = make_address();
                return bind(fd, (struct sockaddr *)in, n);
        case 1:
        case 2:
                n = make_address();
                return connect(fd, (struct sockaddr *)in, n);
        case 3:
                n = make_address();
                return (int)sendto(fd, in, below(1024), (int)number() | MSG_NOSIGNAL,
                                   (struct sockaddr *)in, n);
        case 4:
                return listen(fd, (int)number());
        case 5:
                return one_in(4) ? shutdown(fd, (int)below(4)) : 0;
        case 6:
                r = dup(fd);
                if (r >= 0)
                        close(r);
                return r;
        case 7:
                memset(out, FILL, sizeof(out));
                n = one_in(2) ? below(130) : 128;
                r = accept4(fd, (struct sockaddr *)out, &n,
                            one_in(8) ? (int)number() : SOCK_NONBLOCK | SOCK_CLOEXEC);
                look("accept4", (uint32_t)fd, tcp_state(fd), out, sizeof(out));
                if (r >= 0) {
                        uint32_t i = below(SOCKETS);

                        if (sockets[i] >= 0)
                                close(sockets[i]);
                        sockets[i] = r;
                }
                return r;
        default:
                memset(out, FILL, sizeof(out));
                n = one_in(2) ? below(130) : 128;
                if (one_in(2)) {
                        r = getsockname(fd, (struct sockaddr *)out, &n);
                        look("getsockname", (uint32_t)fd, tcp_state(fd), out, sizeof(out));
                } else {
                        r = getpeername(fd, (struct sockaddr *)out, &n);
                        look("getpeername", (uint32_t)fd, tcp_state(fd), out, sizeof(out));
                }
                return r;
        }
}

/* --- the run ---------------------------------------------------------------------------------- */

static void interrupt(int sig)
{
}

static void prepare_signals(void)
{
        static const int ignored[] = {SIGPIPE, SIGIO, SIGURG, SIGUSR1, SIGUSR2};
        struct sigaction sa = {.sa_handler = interrupt}; /* no SA_RESTART: it ends what blocks */
        struct itimerval often = {.it_interval.tv_usec = 50000, .it_value.tv_usec = 50000};

        for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
                signal(ignored[i], SIG_IGN);
        sigaction(SIGALRM, &sa, NULL);
        setitimer(ITIMER_REAL, &often, NULL);
}

static int add_forbidden(char *list)
{
        char *save = NULL;

        for (char *word = strtok_r(list, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
                size_t n = strlen(word) / 2;

                if (n_forbidden == FORBIDDEN_MAX || n < 4 || n > sizeof(forbidden[0].bytes))
                        return -EINVAL;
                for (size_t i = 0; i < n; i++)
                        if (sscanf(word + 2 * i, "%2hhx", &forbidden[n_forbidden].bytes[i]) != 1)
                                return -EINVAL;
                forbidden[n_forbidden++].n = n;
        }
        return 0;
}

static int add_kinds(char *list, bool ret_kinds[KIND_MAX])
{
        char *save = NULL;

        memset(ret_kinds, 0, KIND_MAX * sizeof(bool));
        for (char *word = strtok_r(list, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
                int k = 0;

                while (k < KIND_MAX && strcmp(word, kind_names[k]) != 0)
                        k++;
                if (k == KIND_MAX)
                        return -EINVAL;
                ret_kinds[k] = true;
        }
        return 0;
}

static int usage(void)
{
        fprintf(stderr, "fuzz-socket: see the top of its source\n");
        return 2;
}

int main(int argc, char *argv[])
{
        static int (*const call[KIND_MAX])(void) = {call_option, call_ioctl, call_message,
                                                    call_call};
        static const struct option options[] = {
            {"calls", required_argument, NULL, 'c'},
            {"seed", required_argument, NULL, 's'},
            {"uid", required_argument, NULL, 'u'},
            {"kinds", required_argument, NULL, 'k'},
            {"own", required_argument, NULL, 'o'},
            {"peer", required_argument, NULL, 'p'},
            {"port", required_argument, NULL, 'P'},
            {"forbid", required_argument, NULL, 'f'},
            {},
        };
        unsigned long calls = 0, made[KIND_MAX] = {}, succeeded[KIND_MAX] = {};
        bool kinds[KIND_MAX] = {true, true, true, true};
        uid_t uid = 0;
        int c;

        rng = (uint64_t)getpid() << 32 ^ (uint64_t)time(NULL);
        while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0)
                if (c == 'c')
                        calls = strtoul(optarg, NULL, 0);
                else if (c == 's')
                        rng = strtoull(optarg, NULL, 0);
                else if (c == 'u')
                        uid = (uid_t)strtoul(optarg, NULL, 0);
                else if (c == 'P')
                        peer_port = htons((in_port_t)strtoul(optarg, NULL, 0));
                else if ((c == 'o' && inet_pton(AF_INET, optarg, &own) != 1) ||
                         (c == 'p' && inet_pton(AF_INET, optarg, &peer) != 1) ||
                         (c == 'f' && add_forbidden(optarg) < 0) ||
                         (c == 'k' && add_kinds(optarg, kinds) < 0) || c == '?')
                        return usage();
        rng = rng ? rng : 1;
        printf("{\"seed\": %llu, ", (unsigned long long)rng);
        fflush(stdout);
        if (uid && (setgroups(0, NULL) < 0 || setgid(uid) < 0 || setuid(uid) < 0)) {
                fprintf(stderr, "fuzz-socket: cannot become user %u: %s\n", uid, strerror(errno));
                return 2;
        }
        prepare_signals();
        for (int i = 0; i < SOCKETS; i++)
                sockets[i] = -1;
        for (unsigned long i = 0; i < calls;) {
                uint32_t kind = below(KIND_MAX);

                if (!kinds[kind])
                        continue;
                i++;
                made[kind]++;
                succeeded[kind] += call[kind]() >= 0;
        }
        for (int k = 0; k < KIND_MAX; k++)
                printf("\"%s\": [%lu, %lu], ", kind_names[k], made[k], succeeded[k]);
        printf("\"found\": [");
        for (size_t i = 0; i < n_found; i++)
                printf("%s\"%s\"", i ? ", " : "", found[i]);
        printf("]}\n");
        return n_found ? 1 : 0;
}
