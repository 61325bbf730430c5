# SPDX-License-Identifier: Apache-2.0
"""socket(): every domain, type, protocol and flag, and what the new descriptor is like."""

import socket as S

from registry import LOCAL, case, group

group("socket()")

CLOEXEC, NONBLOCK = S.SOCK_CLOEXEC, S.SOCK_NONBLOCK
INET = {"AF_INET": S.AF_INET, "AF_INET6": S.AF_INET6}
TYPES = {"SOCK_STREAM": 1, "SOCK_DGRAM": 2, "SOCK_RAW": 3, "SOCK_RDM": 4, "SOCK_SEQPACKET": 5,
         "type 0": 0, "SOCK_DCCP": 6, "SOCK_PACKET": 10, "type 15": 15}
PROTOCOLS = {"0": 0, "IPPROTO_TCP": 6, "IPPROTO_UDP": 17, "IPPROTO_ICMP": 1, "IPPROTO_SCTP": 132,
             "IPPROTO_MPTCP": 262, "IPPROTO_UDPLITE": 136, "255": 255, "256": 256, "-1": -1}


@case("socket({family}, {kind}, {protocol})", LOCAL, family=INET, kind={"SOCK_STREAM": 1},
      protocol=PROTOCOLS)
@case("socket({family}, {kind}, {protocol})", LOCAL, family=INET,
      kind={k: v for k, v in TYPES.items() if v != 1}, protocol={"0": 0, "IPPROTO_TCP": 6})
@case("socket({family}, {kind}, {protocol})", LOCAL, family=INET,
      kind={"SOCK_DGRAM": 2, "SOCK_RAW": 3}, protocol={"IPPROTO_UDP": 17, "IPPROTO_ICMP": 1})
def make(t, family, kind, protocol):
    return [t.server.raw_socket(family, kind, protocol)]


@case("socket({family}, SOCK_STREAM with {flags}, 0)", LOCAL, family=INET, flags={
    "SOCK_CLOEXEC": CLOEXEC, "SOCK_NONBLOCK": NONBLOCK, "both": CLOEXEC | NONBLOCK,
    "an unknown flag": 0x10000, "0x40": 0x40})
def flags_of(t, family, flags):
    return [t.server.raw_socket(family, S.SOCK_STREAM | flags, 0)]


@case("socket({family}, SOCK_STREAM, 0)", LOCAL, family={
    "AF_UNSPEC": 0, "AF_UNIX": S.AF_UNIX, "AF_NETLINK": S.AF_NETLINK, "AF_PACKET": S.AF_PACKET,
    "AF_VSOCK": 40, "AF_SMC": 43, "AF_XDP": 44, "AF_RDS": 21, "AF_TIPC": 30, "family 46": 46,
    "family -1": -1})
def family(t, family):
    return [t.server.raw_socket(family, S.SOCK_STREAM, 0)]


@case("socket(): another family's usual type: {what}", LOCAL, what={
    "AF_UNIX datagrams": (S.AF_UNIX, 2, 0), "AF_UNIX packets": (S.AF_UNIX, 5, 0),
    "AF_NETLINK route": (S.AF_NETLINK, 3, 0), "AF_PACKET raw": (S.AF_PACKET, 3, 0),
    "AF_PACKET datagrams": (S.AF_PACKET, 2, 0), "AF_ALG": (S.AF_ALG, 5, 0),
    "AF_XDP": (44, 3, 0)})
def usual(t, what):
    return [t.server.raw_socket(*what)]


@case("socketpair({family}, SOCK_STREAM)", LOCAL, family=dict(INET, AF_UNIX=1))
def pair(t, family):
    a = t.server.socketpair(family)
    return [a if isinstance(a, str) else "made"]


@case("socket() with no free descriptor, {family}", LOCAL, family=INET)
def limit(t, family):
    return [t.server.socket_at_limit(family)]


@case("socket() takes the lowest free descriptor, {family}", LOCAL, family=INET)
def lowest(t, family):
    return [t.server.lowest(t.server.socket(family, 1))]


@case("fstat() of a new socket, {family}", LOCAL, family=INET)
def stat(t, family):
    s = t.server.socket(family, 1)
    return [t.server.stat_of(s), {"sockfs": t.server.same_file_system(s),
                                  "link in /proc/self/fd": t.server.link_of(s)}]


@case("fstat() of another user's new socket", LOCAL)
def stat_as(t):
    return [t.server.as_user(65534, "socket")]


@case("fchown() of a socket", LOCAL)
def chown(t):
    return [t.server.chown(t.server.socket(t.family, 1), 1234, 1235)]


@case("status flags of a new socket", LOCAL)
def status_flags(t):
    s, n = t.server.socket(t.family, 1), t.server.socket(t.family, 1 | NONBLOCK)
    return [t.server.getfl(s), t.server.getfl(n)]


@case("SO_DOMAIN, SO_TYPE, SO_PROTOCOL, {family}", LOCAL, family=INET)
def what_it_is(t, family):
    s = t.server.socket(family, 1)
    return [s.getsockopt(1, n) for n in (S.SO_DOMAIN, S.SO_TYPE, S.SO_PROTOCOL)]


@case("16 threads make, bind and close 10 sockets each", LOCAL)
def threads(t):
    return t.server.many_threads(16, 10)


@case("read(), write(), lseek(), pwrite(), sendfile() from a new socket", LOCAL)
def as_file(t):
    s = t.server.socket(t.family, 1)
    f = t.server.file_with(b"x")
    return [t.server.read(s, 1), t.server.seek(s), t.server.pwrite(s, b"x"),
            t.server.sendfile_from(s, f, 1)]


@case("poll() and select() of a new socket", LOCAL)
def events(t):
    s = t.server.socket(t.family, 1)
    return [t.server.poll(s), t.server.selected(s)]
