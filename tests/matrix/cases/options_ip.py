# SPDX-License-Identifier: Apache-2.0
"""Every option of SOL_IP and SOL_IPV6 on TCP sockets."""

import struct

from registry import LOCAL, V4, case, group

group("Options: SOL_IP and SOL_IPV6")

IP = {
    "IP_TOS": (1, [0x10, 0xff, -1]), "IP_TTL": (2, [33, 0, 300, -1]), "IP_HDRINCL": (3, [1]),
    "IP_OPTIONS": (4, []), "IP_ROUTER_ALERT": (5, [1]), "IP_RECVOPTS": (6, [1]),
    "IP_RETOPTS": (7, [1]), "IP_PKTINFO": (8, [1]), "IP_PKTOPTIONS": (9, []),
    "IP_MTU_DISCOVER": (10, [2, 0, 9]), "IP_RECVERR": (11, [1]), "IP_RECVTTL": (12, [1]),
    "IP_RECVTOS": (13, [1]), "IP_MTU": (14, [1000]), "IP_FREEBIND": (15, [1, 0]),
    "IP_IPSEC_POLICY": (16, []), "IP_PASSSEC": (18, [1]), "IP_TRANSPARENT": (19, [1, 0]),
    "IP_ORIGDSTADDR": (20, [1]), "IP_MINTTL": (21, [3, 300]), "IP_NODEFRAG": (22, [1]),
    "IP_CHECKSUM": (23, [1]), "IP_BIND_ADDRESS_NO_PORT": (24, [1, 0]), "IP_RECVFRAGSIZE": (25, [1]),
    "IP_RECVERR_RFC4884": (26, [1]), "IP_MULTICAST_IF": (32, [0]), "IP_MULTICAST_TTL": (33, [3]),
    "IP_MULTICAST_LOOP": (34, [0]), "IP_MULTICAST_ALL": (49, [0]), "IP_UNICAST_IF": (50, [0]),
    "IP_LOCAL_PORT_RANGE": (51, [0x9c409c40, 0]), "IP_PROTOCOL": (52, [1]), "SO_ORIGINAL_DST": (80, [1]),
    "option 250": (250, [1]),
}
IPV6 = {
    "IPV6_ADDRFORM": (1, [2]), "IPV6_2292PKTINFO": (2, [1]), "IPV6_CHECKSUM": (7, [2]),
    "IPV6_NEXTHOP": (9, []), "IPV6_FLOWINFO": (11, [1]), "IPV6_UNICAST_HOPS": (16, [33, 300, -1]),
    "IPV6_MULTICAST_IF": (17, [0]), "IPV6_MULTICAST_HOPS": (18, [3]),
    "IPV6_MULTICAST_LOOP": (19, [0]), "IPV6_ROUTER_ALERT": (22, [1]),
    "IPV6_MTU_DISCOVER": (23, [2, 9]), "IPV6_MTU": (24, [1400, 100]), "IPV6_RECVERR": (25, [1]),
    "IPV6_V6ONLY": (26, [1, 0]), "IPV6_MULTICAST_ALL": (29, [0]), "IPV6_HDRINCL": (36, [1]),
    "IPV6_RECVPKTINFO": (49, [1]), "IPV6_PKTINFO": (50, []), "IPV6_RECVHOPLIMIT": (51, [1]),
    "IPV6_HOPLIMIT": (52, []), "IPV6_RECVTCLASS": (66, [1]), "IPV6_TCLASS": (67, [0x10, -1, 300]),
    "IPV6_RECVRTHDR": (56, [1]), "IPV6_DONTFRAG": (62, [1]), "IPV6_PATHMTU": (61, []),
    "IPV6_AUTOFLOWLABEL": (70, [1]), "IPV6_ADDR_PREFERENCES": (72, [2]), "IPV6_MINHOPCOUNT": (73, [3]),
    "IPV6_ORIGDSTADDR": (74, [1]), "IPV6_TRANSPARENT": (75, [1, 0]), "IPV6_UNICAST_IF": (76, [0]),
    "IPV6_RECVFRAGSIZE": (77, [1]), "IPV6_FREEBIND": (78, [1]), "option 250": (250, [1]),
}


def number(s, level, option):
    return s.getsockopt(level, option)


@case("SOL_IP {name}", LOCAL, name=list(IP))
def ip(t, name):
    option, values = IP[name]
    s = t.server.socket(t.family, 1)
    said = [number(s, 0, option)]
    for value in values:
        said.append((f"set {value}", s.setsockopt(0, option, struct.pack("I", value & 0xffffffff)),
                     number(s, 0, option)))
    return said


@case("SOL_IPV6 {name}", LOCAL, name=list(IPV6))
def ipv6(t, name):
    option, values = IPV6[name]
    s = t.server.socket(10, 1)
    said = [number(s, 41, option)]
    for value in values:
        said.append((f"set {value}", s.setsockopt(41, option, value), number(s, 41, option)))
    return said


@case("{name} on an AF_INET6 socket", LOCAL, name={
    "IP_TOS": 1, "IP_TTL": 2, "IP_RECVTOS": 13, "IP_MTU_DISCOVER": 10, "IP_BIND_ADDRESS_NO_PORT": 24})
def ip_on_six(t, name):
    s = t.server.socket(10, 1)
    return [s.setsockopt(0, name, 1), s.getsockopt(0, name)]


@case("SOL_IPV6 options on an AF_INET socket", LOCAL)
def six_on_four(t):
    s = t.server.socket(t.family, 1)
    return [s.setsockopt(41, 26, 1), s.getsockopt(41, 26)]


CONNECTED = {"IP_TOS": (1, 0x10), "IP_TTL": (2, 9), "IP_MTU_DISCOVER": (10, 2), "IP_RECVERR": (11, 1),
             "IP_TRANSPARENT": (19, 1), "IP_FREEBIND": (15, 1), "IP_BIND_ADDRESS_NO_PORT": (24, 1),
             "IP_MINTTL": (21, 1)}


@case("{name} on a connected socket", V4, name=CONNECTED)
def on_connected(t, name):
    option, value = name
    c, s = t.connected()
    return [c.getsockopt(0, option), c.setsockopt(0, option, value), c.getsockopt(0, option),
            c.send(b"x"), s.recv(1)]


@case("IP_MTU of a connected socket", ("remote", "own"))
def mtu(t):
    c, _ = t.connected()
    return [c.getsockopt(0, 14)]


@case("IPV6_V6ONLY after bind(), {v6only}", LOCAL, v6only=[0, 1])
def v6only_late(t, v6only):
    s = t.server.socket(10, 1)
    return [s.setsockopt(41, 26, 1 - v6only), s.bind(("::", t.port)), s.setsockopt(41, 26, v6only),
            s.getsockopt(41, 26)]


@case("IPV6_V6ONLY starts as bindv6only says", LOCAL)
def v6only_default(t):
    s = t.server.socket(10, 1)
    return [t.server.sysctl_matches(s, 41, 26, "net/ipv6/bindv6only")]


@case("IP_TTL starts as ip_default_ttl says", LOCAL)
def ttl_default(t):
    s = t.server.socket(t.family, 1)
    return [t.server.sysctl_matches(s, 0, 2, "net/ipv4/ip_default_ttl")]


@case("a listener with IPV6_V6ONLY, and a client by IPv4", V4)
def v6only_listener(t):
    s = t.server.socket(10, 1)
    said = [s.setsockopt(41, 26, 1), s.bind(("::", t.port)), s.listen(1)]
    return [*said, t.client.socket(t.family, 1).connect(t.to)]


@case("IPV6_ADDRFORM turns a v4-mapped connection into AF_INET", V4)
def addrform(t):
    t.listen()
    c = t.client.socket(10, 1)
    c.connect(t.to6)
    return [c.setsockopt(41, 1, 2), c.getsockopt(1, 39), t.client.name_raw("getpeername", c, 16),
            t.client.name_raw("getsockname", c, 16)]


@case("IP_ADD_MEMBERSHIP, IPV6_JOIN_GROUP, MCAST_JOIN_GROUP on TCP", LOCAL)
def membership(t):
    s, s6 = t.server.socket(t.family, 1), t.server.socket(10, 1)
    return [s.setsockopt(0, 35, struct.pack("4s4s", bytes([224, 0, 0, 99]), bytes([127, 0, 0, 1]))),
            s6.setsockopt(41, 20, struct.pack("16si", b"\xff\x02" + bytes(14), 1)),
            s.setsockopt(0, 42, bytes(136))]


@case("IP_OPTIONS: set a timestamp option on a socket", LOCAL)
def options(t):
    s = t.server.socket(t.family, 1)
    return [s.setsockopt(0, 4, b"\x44\x08\x05\x00\0\0\0\0"), s.getsockopt(0, 4, 40)]


@case("IP_PKTOPTIONS of an AF_INET connection with IP_PKTINFO", ("remote", "own"))
def pktoptions(t):
    c, _ = t.connected()
    c.setsockopt(0, 8, 1)
    return [t.client.pktoptions(c)]


@case("IPV6_2292PKTOPTIONS of a v4-mapped connection with IPV6_RECVPKTINFO", ("remote", "own"))
def pktoptions6(t):
    t.listen()
    c = t.client.socket(10, 1)
    c.setsockopt(41, 49, 1)
    c.connect(t.to6)
    return [t.client.pktoptions6(c)]
