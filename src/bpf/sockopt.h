/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once
/*
 * What becomes of each socket option: the white list that docs/sockopts.md explains.
 *
 *   verdict_of()   an option is the kernel's (PASS), a flag of Slim's own (its bit), one that
 *                  sockopt.bpf.c looks at more closely (CLOSER), or refused (-errno)
 */
#include <asm-generic/errno.h>
#include <asm/socket.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/tcp.h>

#include "../abi/slim-abi.h"

/* <linux/socket.h> of user space has no levels. */
#define SOL_IP   0
#define SOL_TCP  6
#define SOL_IPV6 41
#define SOL_TLS  282

/* Younger than Debian 12's headers. */
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef SO_RCVPRIORITY
#define SO_RCVPRIORITY 82
#endif
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif
#ifndef IP_PROTOCOL
#define IP_PROTOCOL 52
#endif
#ifndef TCP_IS_MPTCP
#define TCP_IS_MPTCP 43
#endif
#define TCP_RTO_MAX_MS_    44
#define TCP_RTO_MIN_US_    45
#define TCP_DELACK_MAX_US_ 46

#define OPTION(level, name) ((__u32)(level) << 16 | (name))

enum {
        PASS = 0x40000000,
        CLOSER = 0x40000001,
};

static __always_inline int socket_verdict(__u32 name)
{
        switch (name) {
        case SO_BINDTODEVICE:
        case SO_BINDTOIFINDEX:
        case SO_PREFER_BUSY_POLL:
        case SO_BUSY_POLL_BUDGET:
        case SO_CNX_ADVICE:
        case SO_INCOMING_NAPI_ID:
        case SO_NETNS_COOKIE:
        case SO_PRIORITY:
        case SO_TIMESTAMPING_OLD:
        case SO_TIMESTAMPING_NEW:
                return CLOSER;
        case SO_MARK:          /* it chooses the host's routes and rules */
        case SO_ATTACH_FILTER: /* it would read host addresses in the packets */
        case SO_ATTACH_BPF:
                return -EPERM;
        case SO_ATTACH_REUSEPORT_CBPF: /* the kernel's group, which chooses nothing here */
        case SO_ATTACH_REUSEPORT_EBPF:
                return -EOPNOTSUPP;
        case SO_PEERPIDFD:
        case SO_PASSPIDFD:
        case SO_RCVPRIORITY:
        case SO_PASSRIGHTS:
                return PASS;
        }
        return name >= SO_DEBUG && name <= SO_RCVMARK ? PASS : -ENOPROTOOPT;
}

static __always_inline int tcp_verdict(__u32 name)
{
        switch (name) {
        case TCP_KEEPIDLE:
        case TCP_KEEPINTVL:
        case TCP_KEEPCNT:
        case TCP_CONGESTION:
        case TCP_FASTOPEN:
        case TCP_SAVE_SYN:
        case TCP_FASTOPEN_CONNECT:
        case TCP_ULP:
                return CLOSER;
        case TCP_REPAIR: /* it makes connections that nobody accepted */
        case TCP_REPAIR_QUEUE:
        case TCP_QUEUE_SEQ:
        case TCP_REPAIR_OPTIONS:
        case TCP_REPAIR_WINDOW:
                return -EPERM;
        case TCP_MD5SIG: /* it takes the room of the SYN option */
        case TCP_MD5SIG_EXT:
                return -ENOPROTOOPT;
        case TCP_IS_MPTCP:
        case TCP_RTO_MAX_MS_:
        case TCP_RTO_MIN_US_:
        case TCP_DELACK_MAX_US_:
                return PASS;
        }
        return name >= TCP_NODELAY && name <= TCP_TX_DELAY ? PASS : -ENOPROTOOPT;
}

static __always_inline int ip_verdict(__u32 name)
{
        switch (name) {
        case IP_BIND_ADDRESS_NO_PORT:
                return SLIM_SOCKOPT_NO_PORT;
        case IP_FREEBIND:
                return SLIM_SOCKOPT_FREEBIND;
        case IP_PKTINFO:
                return SLIM_SOCKOPT_PKTINFO;
        case IP_RECVERR:
                return SLIM_SOCKOPT_RECVERR;
        case IP_RECVERR_RFC4884:
                return SLIM_SOCKOPT_RECVERR_RFC4884;
        case IP_RECVORIGDSTADDR:
                return SLIM_SOCKOPT_RECVORIGDSTADDR;
        case IP_OPTIONS:
        case IP_TRANSPARENT:
        case IP_UNICAST_IF:
        case IP_LOCAL_PORT_RANGE:
                return CLOSER;
        case IP_IPSEC_POLICY: /* the host's transformations */
        case IP_XFRM_POLICY:
                return -EPERM;
        case IP_MULTICAST_ALL:
        case IP_PROTOCOL:
                return PASS;
        }
        if (name >= IP_ADD_MEMBERSHIP && name <= MCAST_MSFILTER)
                return -EPROTO; /* as natively: no groups on TCP. Joining for a source would work.
                                 */
        return name >= IP_TOS && name <= IP_MULTICAST_LOOP ? PASS : -ENOPROTOOPT;
}

static __always_inline int ipv6_verdict(__u32 name)
{
        switch (name) {
        case IPV6_FREEBIND:
                return SLIM_SOCKOPT_FREEBIND;
        case IPV6_2292PKTINFO:
                return SLIM_SOCKOPT_PKTINFO6_2292;
        case IPV6_2292RTHDR:
                return SLIM_SOCKOPT_RTHDR_2292;
        case IPV6_RECVERR:
                return SLIM_SOCKOPT_RECVERR6;
        case 31: /* IPV6_RECVERR_RFC4884 */
                return SLIM_SOCKOPT_RECVERR6_RFC4884;
        case IPV6_RECVPKTINFO:
                return SLIM_SOCKOPT_RECVPKTINFO6;
        case IPV6_RECVRTHDR:
                return SLIM_SOCKOPT_RECVRTHDR;
        case IPV6_ORIGDSTADDR:
                return SLIM_SOCKOPT_RECVORIGDSTADDR6;
        case IPV6_V6ONLY:
        case IPV6_TRANSPARENT:
        case IPV6_UNICAST_IF:
        case IPV6_2292PKTOPTIONS:
        case IPV6_HOPOPTS:
        case IPV6_RTHDRDSTOPTS:
        case IPV6_RTHDR:
        case IPV6_DSTOPTS:
                return CLOSER;
        case IPV6_JOIN_ANYCAST: /* addresses, labels and transformations of the host */
        case IPV6_FLOWLABEL_MGR:
        case IPV6_IPSEC_POLICY:
        case IPV6_XFRM_POLICY:
                return -EPERM;
        case IPV6_LEAVE_ANYCAST:
                return -EADDRNOTAVAIL;
        case IPV6_ADD_MEMBERSHIP:
        case IPV6_DROP_MEMBERSHIP:
                return -EPROTO;
        case IPV6_RECVTCLASS:
        case IPV6_TCLASS:
        case IPV6_AUTOFLOWLABEL:
        case IPV6_ADDR_PREFERENCES:
        case IPV6_MINHOPCOUNT:
        case IPV6_RECVFRAGSIZE:
                return PASS;
        }
        if (name >= MCAST_JOIN_GROUP && name <= MCAST_MSFILTER)
                return -EPROTO;
        return name >= IPV6_ADDRFORM && name < 64 ? PASS : -ENOPROTOOPT;
}

/* PASS, CLOSER, a bit of enum slim_sockopts, or a negative errno. */
static __always_inline int verdict_of(__u32 level, __u32 name)
{
        switch (level) {
        case SOL_SOCKET:
                return socket_verdict(name);
        case SOL_TCP:
                return tcp_verdict(name);
        case SOL_IP:
                return ip_verdict(name);
        case SOL_IPV6:
                return ipv6_verdict(name);
        case SOL_TLS:
                return PASS;
        }
        return -ENOPROTOOPT;
}
