/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) OR Apache-2.0 */
#pragma once
/*
 * What the BPF programs and user space tell each other: map keys and values, the SYN option, drop
 * reasons. This is the only header that both sides include.
 *
 * Addresses are 16 bytes in network byte order, IPv4 as ::ffff:a.b.c.d. Ports are in host byte
 * order unless they are called be_. A struct that is a map key has no hidden padding, since the
 * kernel hashes every byte of it.
 */
#include <linux/bpf.h>
#include <linux/types.h>

#define SLIM_ABI_VERSION 6

union slim_addr {
        __u8 b[16];
        __be32 w[4];
};

/*
 * Endpoints, hosts, sockets and devices have an address of each family, in this order. All zero:
 * none.
 */
enum slim_family {
        SLIM_V4 = 0,
        SLIM_V6 = 1,
        SLIM_FAMILIES,
};

/* --- endpoints: who is at an overlay address ------------------------------------------------- */

struct slim_endpoint_key {
        __u32 network; /* network id */
        union slim_addr addr;
};

enum slim_endpoint_flags {
        SLIM_ENDPOINT_SLIM = 1 << 0,  /* its TCP sockets are host sockets; otherwise it is plain */
        SLIM_ENDPOINT_LOCAL = 1 << 1, /* it lives on this host */
        SLIM_ENDPOINT_HOST = 1 << 2,  /* it is a host: the processes outside of containers */
};

struct slim_endpoint {
        __u32 id; /* endpoint id, unique in the cluster, never 0 */
        __u32 network;
        union slim_addr addr[SLIM_FAMILIES]; /* overlay addresses */
        union slim_addr host[SLIM_FAMILIES]; /* underlay addresses of its host */
        __u32 flags;                         /* enum slim_endpoint_flags */
        __u32 ifindex;                       /* the host's side of its veth; 0 unless local */
        __u32 identity; /* what policies know it by, a number of this host's; 0: nothing */
};

/* Key of the longest-prefix map of overlay networks. prefixlen counts bits of the 16 bytes. */
struct slim_prefix_key {
        __u32 prefixlen;
        union slim_addr addr;
};

/* The MAC address of a container's eth0, and the link-local address that the kernel makes of it
 * (RFC 4291, appendix A). They are the same in every container, since none meets another's. */
#define SLIM_CONTAINER_MAC                         \
        {                                          \
                0x02, 0x51, 0x1e, 0x00, 0x00, 0x03 \
        }
#define SLIM_CONTAINER_LINK_LOCAL                                    \
        {                                                            \
                0xfe, 0x80, [9] = 0x51, 0x1e, 0xff, 0xfe, 0, 0, 0x03 \
        }

#define SLIM_VXLAN_PORT 4789 /* RFC 7348: UDP, of every host */

/* Who is behind a veth: value of the map of host-side ifindexes. */
struct slim_device {
        __u32 endpoint;
        __u32 network;
        union slim_addr addr[SLIM_FAMILIES];
};

/* --- sockets: what a container's socket is ---------------------------------------------------- */

enum slim_peer_kind {
        SLIM_PEER_NONE = 0,
        SLIM_PEER_OVERLAY = 1,  /* an endpoint's overlay address */
        SLIM_PEER_LOOPBACK = 2, /* the container itself, by a loopback address */
        SLIM_PEER_OUTSIDE = 3,  /* no overlay address: reached as the host reaches it */
        SLIM_PEER_PLAIN = 4, /* an endpoint by way of VXLAN: its packets have overlay addresses */
};

enum slim_bind_flags {
        SLIM_BIND_REUSE_ADDR = 1 << 0,
        SLIM_BIND_REUSE_PORT = 1 << 1,
        SLIM_BIND_AUTO = 1 << 2, /* the port is automatic: of bind() to port 0, or of listen() */
        SLIM_BIND_SAME_UID = 1 << 3, /* it is counted in slim_binding.same_uid */
        SLIM_BIND_NO_PORT = 1 << 4,  /* an address only: IP_BIND_ADDRESS_NO_PORT */
        SLIM_BIND_FAILED = 1 << 5,   /* bind() was refused since the last connection: no address */
        SLIM_BIND_NO_ROOM = 1 << 6,  /* listen() met the bound of its container's listeners */
};

/* Socket options that are Slim's own affair: what the program set is here, and the kernel's own
 * have other values (docs/sockopts.md). Those of SLIM_SOCKOPT_SYSCTLS say that the kernel's value
 * is the right one. */
enum slim_sockopts {
        SLIM_SOCKOPT_V6ONLY = 1 << 0,
        SLIM_SOCKOPT_V6ONLY_SET = 1 << 1, /* it is not the sysctl that counts */
        SLIM_SOCKOPT_NO_PORT = 1 << 2,    /* IP_BIND_ADDRESS_NO_PORT */
        SLIM_SOCKOPT_FREEBIND = 1 << 3,
        SLIM_SOCKOPT_PKTINFO = 1 << 4,
        SLIM_SOCKOPT_RECVERR = 1 << 5,
        SLIM_SOCKOPT_RECVERR_RFC4884 = 1 << 6,
        SLIM_SOCKOPT_RECVORIGDSTADDR = 1 << 7,
        SLIM_SOCKOPT_RECVPKTINFO6 = 1 << 8,
        SLIM_SOCKOPT_PKTINFO6_2292 = 1 << 9,
        SLIM_SOCKOPT_RECVERR6 = 1 << 10,
        SLIM_SOCKOPT_RECVERR6_RFC4884 = 1 << 11,
        SLIM_SOCKOPT_RECVORIGDSTADDR6 = 1 << 12,
        SLIM_SOCKOPT_RECVRTHDR = 1 << 13,
        SLIM_SOCKOPT_RTHDR_2292 = 1 << 14,
        SLIM_SOCKOPT_KEEPIDLE = 1 << 15,
        SLIM_SOCKOPT_KEEPINTVL = 1 << 16,
        SLIM_SOCKOPT_KEEPCNT = 1 << 17,
        SLIM_SOCKOPT_CONGESTION = 1 << 18,
        SLIM_SOCKOPT_TSONLY = 1 << 19, /* the program asked for what every socket has */
};
#define SLIM_SOCKOPT_SYSCTLS                                                     \
        (SLIM_SOCKOPT_KEEPIDLE | SLIM_SOCKOPT_KEEPINTVL | SLIM_SOCKOPT_KEEPCNT | \
         SLIM_SOCKOPT_CONGESTION)

#define SLIM_NO_SLOT 0xff

/* Value of the SK_STORAGE map. The broker writes the first three fields, slot and counted, the
 * programs the rest. */
struct slim_socket {
        __u32 endpoint;
        __u32 network;
        union slim_addr addr[SLIM_FAMILIES]; /* the endpoint's overlay addresses */

        union slim_addr bound_addr; /* what the program gave to bind() */
        union slim_addr peer_addr;  /* overlay address of the peer (SLIM_PEER_OVERLAY) */
        __u64 owner; /* cookie of the socket that holds the binding; 0: none, and bound_addr and
                      * bound_port are only what getsockname() still shows */
        __u32 peer_endpoint;
        __u16 bound_port;  /* virtual port; 0: the host's own port is shown */
        __u16 peer_port;   /* virtual port of the peer */
        __u16 listen_port; /* the hidden host port that was marked, 0: none */
        __u8 binding;      /* index into slim_port.binding */
        __u8 slot;         /* bit in slim_binding.listeners, or SLIM_NO_SLOT */
        __u8 peer_kind;    /* enum slim_peer_kind */
        __u8 bind_flags;   /* enum slim_bind_flags, as they were at bind() */
        __u8 accepted;     /* 1: it came out of a listener */
        __u8 is_host;      /* 1: of a process of the host, whose endpoint it has */
        __u32 sockopts;    /* enum slim_sockopts */
        __u32 device;      /* SO_BINDTODEVICE: ifindex in the container's namespace; 0: any */
        __u32 port_range;  /* IP_LOCAL_PORT_RANGE, as high << 16 | low; a 0 half: the sysctl's */
        __u16 fastopen;    /* TCP_FASTOPEN of a listener: accepted, without effect */
        __u8 denied;       /* 1: a policy drops what it connects to; it goes nowhere */
        __u8 counted;      /* 1: the broker made it, and counts it as open */
};

/* --- ports: what is bound and who listens ----------------------------------------------------- */

struct slim_port_key {
        __u32 endpoint;
        __u16 port;
        __u16 pad;
};

#define SLIM_BINDINGS  8  /* different local addresses on one port of one container */
#define SLIM_LISTENERS 64 /* sockets that listen on one binding (SO_REUSEPORT) */

/* The sockets that are bound to one address on one port. owners 0: this element is free. */
struct slim_binding {
        union slim_addr addr;
        __u64 listeners;  /* bitmap of slots in the listeners map */
        __u32 owners;     /* sockets bound here */
        __u32 reuse_addr; /* how many of them have SO_REUSEADDR */
        __u32 reuse_port; /* … SO_REUSEPORT */
        __u32 uid;        /* the owner of the first of them, */
        __u32 same_uid;   /* and how many have the same */
        __u8 claims;      /* enum slim_claims: what its address takes, of all its sockets */
        __u8 pad[3];
};

/* Which packets a local address takes. Two addresses overlap when they share a family and are
 * equal or one of them is a wildcard. */
enum slim_claims {
        SLIM_CLAIMS_V4 = 1 << 0,
        SLIM_CLAIMS_V6 = 1 << 1,
        SLIM_CLAIMS_ANY = 1 << 2, /* a wildcard: 0.0.0.0 or :: */
        /* SO_BINDTODEVICE: what comes by the loopback device only, and all but that. */
        SLIM_CLAIMS_LOOPBACK = 1 << 3,
        SLIM_CLAIMS_NOT_LOOPBACK = 1 << 4,
};

/* (endpoint, virtual port) → what is bound. Elements go away with their last owner; `dead` tells
 * a program that still holds the pointer, for which the element lives on until its RCU section
 * ends. */
struct slim_port {
        struct bpf_spin_lock lock;
        __u32 dead;
        /* The variables of one walk over binding[] (ports.h). They are here, under the lock, and
         * not in registers: the verifier would follow each of their values on its own. */
        __u8 walk_free, walk_same, walk_conflict, walk_flags, walk_own, pad[3];
        __u32 walk_uid, pad2;
        struct slim_binding binding[SLIM_BINDINGS];
};

/*
 * inet_bind_conflict() of the kernel, for one socket and all those of a binding that its address
 * overlaps: may they be on one port? flags: the socket's enum slim_bind_flags.
 */
static inline __attribute__((always_inline)) int slim_binding_shares(const struct slim_binding *b,
                                                                     __u8 flags, __u32 uid)
{
        /* Each a sum of what is in the way: one branch for the verifier instead of four. */
        __u64 by_port = (~flags & SLIM_BIND_REUSE_PORT) | (b->reuse_port ^ b->owners) |
                        (b->same_uid ^ b->owners) | (b->uid ^ uid);
        __u64 by_addr = (~flags & SLIM_BIND_REUSE_ADDR) | (b->reuse_addr ^ b->owners);

        return !by_port || !(by_addr | b->listeners);
}

/* Do two bindings take packets of one local address? */
static inline __attribute__((always_inline)) int slim_bindings_overlap(const struct slim_binding *a,
                                                                       const struct slim_binding *b)
{
        const __u8 devices = SLIM_CLAIMS_LOOPBACK | SLIM_CLAIMS_NOT_LOOPBACK;

        if (!(a->claims & b->claims & (SLIM_CLAIMS_V4 | SLIM_CLAIMS_V6)) ||
            ((a->claims | b->claims) & devices) == devices)
                return 0;
        return ((a->claims | b->claims) & SLIM_CLAIMS_ANY) ||
               !((a->addr.w[0] ^ b->addr.w[0]) | (a->addr.w[1] ^ b->addr.w[1]) |
                 (a->addr.w[2] ^ b->addr.w[2]) | (a->addr.w[3] ^ b->addr.w[3]));
}

struct slim_listener_key {
        __u32 endpoint;
        __u16 port;
        __u8 binding;
        __u8 slot;
};

/* What a container has of what all of a host's share, by its endpoint id. */
struct slim_usage {
        __u64 closed;    /* how many of the sockets that its broker made */
        __u32 ports;     /* entries of the map ports */
        __u32 listeners; /* of the map listeners */
};

/* --- connections on their way in -------------------------------------------------------------- */

/* The host-level 4-tuple of a SYN as the server's host sees it. IPv4 as v4-mapped. */
struct slim_tuple {
        union slim_addr client_addr;
        union slim_addr server_addr;
        __u16 client_port;
        __u16 server_port;
};

/* What a verified SYN said. */
struct slim_syn {
        __u32 client_endpoint;
        __u32 server_endpoint;       /* 0: a policy has it refused */
        union slim_addr client_addr; /* overlay address of the client; its family is the server's */
        __u16 client_port;           /* virtual */
        __u16 server_port;           /* virtual */
        __u8 peer_kind;              /* SLIM_PEER_OVERLAY or SLIM_PEER_LOOPBACK */
        __u8 pad[3];
};

/*
 * The TCP option of a Slim SYN: RFC 6994 shared experimental option, 20 bytes, which is what a SYN
 * with MSS, SACK-permitted, timestamps and window scale has left. Everything in network byte order.
 */
#define SLIM_OPTION_KIND  254
#define SLIM_OPTION_LEN   20
#define SLIM_OPTION_EXID  0x511e /* the overlay connection is of IPv4, … */
#define SLIM_OPTION_EXID6 0x511f /* … of IPv6 */

struct slim_option {
        __u8 kind;
        __u8 len;
        __be16 exid;
        __be32 client_endpoint;
        __be16 client_port;
        __be16 server_port;
        __be32 server_endpoint;
        __be32 mac;
} __attribute__((packed));

/* --- published ports -------------------------------------------------------------------------- */

/* A TCP port of the host that is a container's: key of the map. 0.0.0.0 and :: are every address of
 * their family that is the host's own. */
struct slim_published_key {
        union slim_addr addr;
        __u16 port;
        __u16 pad;
};

struct slim_published {
        __u32 endpoint;
        __u16 port; /* virtual */
        __u16 pad;
};

/* --- network policies ------------------------------------------------------------------------- */

/*
 * Who may talk to whom. An identity is a number of this host's for endpoints that no policy tells
 * apart: of one network, with the same labels and named ports. 0 is nobody's. Each direction of a
 * flow is judged by its own subject: ingress by the one that is connected to, egress by the one
 * that connects.
 */
enum slim_policy_direction {
        SLIM_POLICY_INGRESS = 0,
        SLIM_POLICY_EGRESS = 1,
        SLIM_POLICY_DIRECTIONS,
};

enum slim_policy_verdict {
        SLIM_POLICY_ALLOWED = 0,
        SLIM_POLICY_DROP = 1,   /* denied, and nobody is told */
        SLIM_POLICY_REJECT = 2, /* denied, and the one who tried is told */
};

/* Each is << direction. */
enum slim_policy_subject_flags {
        SLIM_POLICY_SELECTED = 1 << 0, /* without it the direction is open */
        SLIM_POLICY_CIDRS = 1 << 2,    /* there are rules of addresses */
        SLIM_POLICY_REJECTS = 1 << 4,
};

/* Value of the map of subjects, by identity. No entry: all is allowed. */
struct slim_policy_subject {
        __u32 flags; /* enum slim_policy_subject_flags */
};

/* slim_policy_key.peer: 0 is anybody, a number below SLIM_POLICY_CIDR is an identity, and one with
 * it the id of a prefix, out of the map of prefixes. */
#define SLIM_POLICY_CIDR (1U << 31)

/*
 * Key of the longest-prefix map of rules. Whatever is found is allowed. prefixlen counts bits of
 * what follows it, and says how much of that has to be the same.
 */
struct slim_policy_key {
        __u32 prefixlen;
        __u32 subject;  /* its identity */
        __u32 peer;     /* as above */
        __u8 direction; /* enum slim_policy_direction */
        __u8 protocol;  /* of IP */
        __be16 be_port; /* that is connected to */
};
#define SLIM_POLICY_BITS_PEER     72 /* every protocol */
#define SLIM_POLICY_BITS_PROTOCOL 80 /* every port of one */
#define SLIM_POLICY_BITS_PORT     96 /* one port; a prefix of ports is shorter */

/*
 * A question, and the context of the program slim_policy_check: it is the packet that the program
 * is run on, and the verdict is what it returns.
 */
struct slim_policy_check {
        __u32 subject;        /* an identity */
        __u32 peer;           /* an identity; 0: not an endpoint */
        union slim_addr addr; /* of the peer */
        __u16 port;           /* that is connected to; 0: the protocol has none */
        __u8 direction;       /* enum slim_policy_direction */
        __u8 protocol;        /* of IP */
};

/* --- bandwidth limits and traffic classes ----------------------------------------------------- */

#define SLIM_NO_DSCP     0xff
#define SLIM_NO_PRIORITY 0xff

/*
 * Value of the map of limits, by the id of an endpoint that is here. What is limited waits in a
 * class of the HTB qdisc of the limiter, a veth pair of the host's, whose handle and minor number
 * make skb->priority.
 */
struct slim_limit {
        __u32 ifindex;                             /* the limiter's near end */
        __u16 class_minor[SLIM_POLICY_DIRECTIONS]; /* 0: no limit */
        __u8 dscp;                                 /* of what it sends, 0 to 63, or SLIM_NO_DSCP */
        __u8 priority; /* skb->priority at the underlay device, or SLIM_NO_PRIORITY */
        __u16 pad;
};

#define SLIM_LIMIT_HANDLE 0x511e0000U /* of the HTB qdisc: 511e: */

/*
 * A packet that is limited tells by its mark where it goes on behind the limiter, and the device
 * that it goes on by that it has been there.
 */
enum slim_limit_stage {
        SLIM_LIMIT_NONE = 0,
        SLIM_LIMIT_OUT = 1,     /* it leaves a socket, by the underlay device */
        SLIM_LIMIT_OUT_LO = 2,  /* … by lo */
        SLIM_LIMIT_IN = 3,      /* it is for a socket, and came by the underlay device */
        SLIM_LIMIT_IN_LO = 4,   /* … by lo */
        SLIM_LIMIT_FROM = 5,    /* it came out of a container's veth */
        SLIM_LIMIT_TO = 6,      /* it goes to an endpoint by the encapsulated path */
        SLIM_LIMIT_TO_VETH = 7, /* the host's stack routed it to a container's veth */
};
#define SLIM_LIMIT_MARK       0x51100000U /* | stage << 16 | minor number of the class */
#define SLIM_LIMIT_MARK_MASK  0xfff00000U
#define SLIM_LIMIT_MARK_STAGE 0x000f0000U

/* --- keys ------------------------------------------------------------------------------------- */

/* The key in force signs and verifies, the others verify: the one before it, and the one after it
 * while hosts are given it. */
enum {
        SLIM_KEY_CURRENT = 0,
        SLIM_KEY_PREVIOUS = 1,
        SLIM_KEY_NEXT = 2,
        SLIM_KEYS,
};

struct slim_key {
        __u64 k[2];  /* SipHash-2-4 key as two little-endian words */
        __u32 epoch; /* 0: no key */
        __u32 pad;
};

/* --- reasons ---------------------------------------------------------------------------------- */

/* Append only: the numbers are in counters, the names in metrics. */
#define SLIM_REASONS(X)                                     \
        X(NONE, "none")                                     \
        X(SYN_ACCEPTED, "syn_accepted")                     \
        X(SYN_NO_OPTION, "syn_no_option")                   \
        X(SYN_BAD_OPTION, "syn_bad_option")                 \
        X(SYN_BAD_MAC, "syn_bad_mac")                       \
        X(SYN_UNKNOWN_CLIENT, "syn_unknown_client")         \
        X(SYN_UNKNOWN_SERVER, "syn_unknown_server")         \
        X(SYN_OTHER_NETWORK, "syn_other_network")           \
        X(STEER_NO_SYN, "steer_no_syn")                     \
        X(STEER_NO_LISTENER, "steer_no_listener")           \
        X(HIDDEN_PORT, "hidden_port")                       \
        X(CONNECT_NO_ENDPOINT, "connect_no_endpoint")       \
        X(CONNECT_PLAIN_ENDPOINT, "connect_plain_endpoint") \
        X(BIND_FOREIGN_ADDRESS, "bind_foreign_address")     \
        X(BIND_IN_USE, "bind_in_use")                       \
        X(LISTEN_IN_USE, "listen_in_use")                   \
        X(ENCAP_BAD_PACKET, "encap_bad_packet")             \
        X(ENCAP_SPOOFED, "encap_spoofed")                   \
        X(ENCAP_UNKNOWN_HOST, "encap_unknown_host")         \
        X(ENCAP_NO_ENDPOINT, "encap_no_endpoint")           \
        X(CONNECT_NO_SOURCE, "connect_no_source")           \
        X(OPTION_REFUSED, "option_refused")                 \
        X(BIND_PRIVILEGED, "bind_privileged")               \
        X(CONNECT_OPTION, "connect_option")                 \
        X(PUBLISH_NO_LISTENER, "publish_no_listener")       \
        X(CONNECT_NO_ADDRESS, "connect_no_address")         \
        X(CONNECT_NO_WAY, "connect_no_way")                 \
        X(CONNECT_SCOPED, "connect_scoped")                 \
        X(ENCAP_BAD_HEADER, "encap_bad_header")             \
        X(ENCAP_NO_WAY, "encap_no_way")                     \
        X(POLICY_EGRESS, "policy_egress")                   \
        X(POLICY_INGRESS, "policy_ingress")                 \
        X(EVENT_LOST, "event_lost")                         \
        X(REVOKED_POLICY, "revoked_policy")                 \
        X(REVOKED_ENDPOINT, "revoked_endpoint")             \
        X(BIND_LIMIT, "bind_limit")                         \
        X(LISTEN_LIMIT, "listen_limit")                     \
        X(ENCAP_FORGED, "encap_forged")                     \
        X(LIMIT_LOST, "limit_lost")

enum slim_reason {
#define SLIM_REASON_ENUM(name, text) SLIM_REASON_##name,
        SLIM_REASONS(SLIM_REASON_ENUM)
#undef SLIM_REASON_ENUM
            SLIM_REASON_MAX,
};

/* --- events ----------------------------------------------------------------------------------- */

/* Where something was refused, dropped or ended. Append only, as the reasons. */
#define SLIM_HOOKS(X)                       \
        X(NONE, "none")                     \
        X(CONNECT, "connect")               \
        X(BIND, "bind")                     \
        X(LISTEN, "listen")                 \
        X(SETSOCKOPT, "setsockopt")         \
        X(GETSOCKOPT, "getsockopt")         \
        X(SYN, "syn")                       \
        X(LOOKUP, "lookup")                 \
        X(FROM_CONTAINER, "from_container") \
        X(TO_CONTAINER, "to_container")     \
        X(FROM_VXLAN, "from_vxlan")         \
        X(TO_VXLAN, "to_vxlan")             \
        X(DELIVER, "deliver")               \
        X(REVOKE, "revoke")                 \
        X(LIMIT, "limit")

enum slim_hook {
#define SLIM_HOOK_ENUM(name, text) SLIM_HOOK_##name,
        SLIM_HOOKS(SLIM_HOOK_ENUM)
#undef SLIM_HOOK_ENUM
            SLIM_HOOK_MAX,
};

/*
 * One denial, drop or revocation: a record of the ring buffer. What is not known is 0. Addresses
 * are overlay ones as far as they are known, and those of the wire otherwise.
 */
struct slim_event {
        __u64 time;               /* CLOCK_MONOTONIC, ns */
        union slim_addr from, to; /* of who began, and of who was meant */
        __u32 endpoint;           /* whose business it is: who was refused, or who refused */
        __u32 peer;               /* the endpoint at the other end */
        __u32 network;            /* network id */
        __u16 from_port, to_port; /* virtual ones with overlay addresses */
        __u16 reason;             /* enum slim_reason */
        __u8 hook;                /* enum slim_hook */
        __u8 protocol;            /* of IP */
        __u16 error;              /* the errno that the program was told; 0: nothing */
        __u16 pad;
        __u32 level, option; /* of SETSOCKOPT and GETSOCKOPT */
};

/*
 * Events are made while somebody watches: the map "watch" has the time (CLOCK_MONOTONIC, ns) until
 * which slimd reads the ring, and 0 for nobody. And of each reason, on each processor, no more than
 * SLIM_EVENT_BURST in SLIM_EVENT_WINDOW_NS; what is more is counted as EVENT_LOST.
 */
#define SLIM_EVENT_BURST     100
#define SLIM_EVENT_WINDOW_NS 100000000ULL

struct slim_event_window {
        __u64 since; /* CLOCK_MONOTONIC, ns */
        __u64 n;
};

/* Load-time constants of the programs (read-only data, written by slimd before it loads them). */
struct slim_config {
        __u16 port_base;  /* first Slim port */
        __u16 port_count; /* how many, a power of two */
        __u32 vxlan_ifindex;
        __u32 underlay_ifindex;
        __u32 hz;            /* jiffies in a second */
        __u64 netns_cookie;  /* of the host's network namespace */
        __u32 max_ports;     /* a container's entries of the map ports, */
        __u32 max_listeners; /* … of the map listeners */
};

/* Of packets with overlay addresses that are for sockets of the host's stack, such as a swapped
 * one's connection with a plain container: the programs mark them, and routing goes by it. */
#define SLIM_MARK 0x511e
/* Of a packet that a policy has rejected on its way to a container, and that is now the answer to
 * it: no policy is asked again. */
#define SLIM_MARK_REJECTED 0x511f

/* --- flows of the encapsulated path ----------------------------------------------------------- */

/*
 * Whoever began to talk to whom. An ICMP echo has its number for the one port and its type for the
 * other, such that an answer's key is the question's with its ends exchanged.
 */
struct slim_flow_key {
        union slim_addr from, to;
        __u32 network;
        __be16 from_port, to_port;
        __u8 protocol;
        __u8 pad[3];
};

#define SLIM_ASSERT_SIZE(type, size) \
        _Static_assert(sizeof(type) == (size), #type " must be " #size " bytes")

SLIM_ASSERT_SIZE(struct slim_endpoint_key, 20);
SLIM_ASSERT_SIZE(struct slim_endpoint, 84);
SLIM_ASSERT_SIZE(struct slim_prefix_key, 20);
SLIM_ASSERT_SIZE(struct slim_socket, 112);
SLIM_ASSERT_SIZE(struct slim_port_key, 8);
SLIM_ASSERT_SIZE(struct slim_binding, 48);
SLIM_ASSERT_SIZE(struct slim_port, 24 + 48 * SLIM_BINDINGS);
SLIM_ASSERT_SIZE(struct slim_listener_key, 8);
SLIM_ASSERT_SIZE(struct slim_usage, 16);
SLIM_ASSERT_SIZE(struct slim_tuple, 36);
SLIM_ASSERT_SIZE(struct slim_syn, 32);
SLIM_ASSERT_SIZE(struct slim_published_key, 20);
SLIM_ASSERT_SIZE(struct slim_published, 8);
SLIM_ASSERT_SIZE(struct slim_policy_subject, 4);
SLIM_ASSERT_SIZE(struct slim_policy_key, 16);
SLIM_ASSERT_SIZE(struct slim_policy_check, 28);
SLIM_ASSERT_SIZE(struct slim_flow_key, 44);
SLIM_ASSERT_SIZE(struct slim_limit, 12);
SLIM_ASSERT_SIZE(struct slim_option, SLIM_OPTION_LEN);
SLIM_ASSERT_SIZE(struct slim_key, 24);
SLIM_ASSERT_SIZE(struct slim_device, 40);
SLIM_ASSERT_SIZE(struct slim_config, 32);
SLIM_ASSERT_SIZE(struct slim_event, 72);
SLIM_ASSERT_SIZE(struct slim_event_window, 16);
