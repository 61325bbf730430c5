# SPDX-License-Identifier: Apache-2.0
"""Every option of SOL_SOCKET: its first value, set and got, on a new and on a connected socket."""

import struct

from registry import LOCAL, LOOPBACK, REMOTE, case, group

group("Options: SOL_SOCKET")

SOL = 1

# name: (number, values to set)
INTEGERS = {
    "SO_DEBUG": (1, [1]), "SO_REUSEADDR": (2, [1, 0]), "SO_TYPE": (3, [1]), "SO_ERROR": (4, [1]),
    "SO_DONTROUTE": (5, [1, 0]), "SO_BROADCAST": (6, [1]), "SO_SNDBUF": (7, [30000, 1, 1 << 30]),
    "SO_RCVBUF": (8, [30000, 1, 1 << 30]), "SO_KEEPALIVE": (9, [1, 0]), "SO_OOBINLINE": (10, [1]),
    "SO_NO_CHECK": (11, [1]), "SO_PRIORITY": (12, [3, 7, -1]), "SO_BSDCOMPAT": (14, [1]),
    "SO_REUSEPORT": (15, [1, 0]), "SO_PASSCRED": (16, [1]), "SO_RCVLOWAT": (18, [10, 0, -1]),
    "SO_SNDLOWAT": (19, [10]), "SO_TIMESTAMP": (29, [1, 0]), "SO_ACCEPTCONN": (30, [1]),
    "SO_SNDBUFFORCE": (32, [300000]), "SO_RCVBUFFORCE": (33, [300000]), "SO_PASSSEC": (34, [1]),
    "SO_TIMESTAMPNS": (35, [1]), "SO_MARK": (36, [77, 0]), "SO_TIMESTAMPING": (37, [0x18, 1 << 30]),
    "SO_PROTOCOL": (38, [6]), "SO_DOMAIN": (39, [2]), "SO_RXQ_OVFL": (40, [1]),
    "SO_WIFI_STATUS": (41, [1]), "SO_PEEK_OFF": (42, [3, -1]), "SO_NOFCS": (43, [1]),
    "SO_LOCK_FILTER": (44, [1]), "SO_SELECT_ERR_QUEUE": (45, [1]), "SO_BUSY_POLL": (46, [50]),
    "SO_MAX_PACING_RATE": (47, [1000000]), "SO_INCOMING_CPU": (49, [0]),
    "SO_CNX_ADVICE": (53, [1]), "SO_MEMINFO": (55, [1]), "SO_INCOMING_NAPI_ID": (56, [1]),
    "SO_COOKIE": (57, [1]), "SO_PEERGROUPS": (59, [1]), "SO_ZEROCOPY": (60, [1, 0, 2]),
    "SO_TXTIME": (61, [1]), "SO_BINDTOIFINDEX": (62, [1, 0]), "SO_TIMESTAMP_NEW": (63, [1]),
    "SO_TIMESTAMPNS_NEW": (64, [1]), "SO_TIMESTAMPING_NEW": (65, [0x18]),
    "SO_PREFER_BUSY_POLL": (69, [1]), "SO_BUSY_POLL_BUDGET": (70, [8]),
    "SO_NETNS_COOKIE": (71, [1]), "SO_BUF_LOCK": (72, [3]), "SO_RESERVE_MEM": (73, [4096]),
    "SO_TXREHASH": (74, [0]), "SO_RCVMARK": (75, [1]), "SO_PASSPIDFD": (76, [1]),
    "SO_PEERPIDFD": (77, [1]), "SOL_SOCKET 999": (999, [1]), "SOL_SOCKET -1": (-1, [1]),
}
VARIES = {"SO_COOKIE", "SO_NETNS_COOKIE", "SO_MEMINFO", "SO_INCOMING_CPU", "SO_INCOMING_NAPI_ID"}


def got(s, number, name):
    value = s.getsockopt(SOL, number)
    return "a number" if name in VARIES and isinstance(value, int) else value


@case("{name}", LOCAL, name=list(INTEGERS))
def integers(t, name):
    number, values = INTEGERS[name]
    said = []
    for family in 2, 10:
        s = t.server.socket(family, 1)
        said.append(got(s, number, name))
        for value in values:
            said.append((f"set {value}", s.setsockopt(SOL, number, value), got(s, number, name)))
    return said if said[:len(said) // 2] != said[len(said) // 2:] else said[:len(said) // 2]


@case("{name} on a connected socket", name=list(INTEGERS))
def on_connected(t, name):
    number, values = INTEGERS[name]
    c, s = t.connected()
    said = [got(c, number, name), got(s, number, name)]
    for value in values:
        said.append((f"set {value}", c.setsockopt(SOL, number, value), got(c, number, name)))
    return said


STRUCTS = {
    "SO_LINGER": (13, [struct.pack("ii", 1, 7), struct.pack("ii", 0, 0)], 8),
    "SO_PEERCRED": (17, [struct.pack("iii", 0, 0, 0)], 12),
    "SO_RCVTIMEO": (20, [struct.pack("ll", 1, 500000), struct.pack("ll", 0, 2000000),
                         struct.pack("ll", 0, 0)], 16),
    "SO_SNDTIMEO": (21, [struct.pack("ll", 1, 500000)], 16),
    "SO_RCVTIMEO_NEW": (66, [struct.pack("qq", 2, 0)], 16),
    "SO_SNDTIMEO_NEW": (67, [struct.pack("qq", 2, 0)], 16),
    "SO_PEERNAME": (28, [bytes(16)], 16),
    "SO_PEERSEC": (31, [bytes(8)], 64),
    "SO_ATTACH_FILTER": (26, [bytes(16)], 64),
    "SO_ATTACH_BPF": (50, [struct.pack("i", -1)], 4),
    "SO_ATTACH_REUSEPORT_CBPF": (51, [bytes(16)], 16),
    "SO_ATTACH_REUSEPORT_EBPF": (52, [struct.pack("i", -1)], 4),
    "SO_DETACH_FILTER": (27, [struct.pack("i", 0)], 4),
    "SO_DETACH_REUSEPORT_BPF": (68, [struct.pack("i", 0)], 4),
    "SO_DEVMEM_LINEAR": (78, [struct.pack("i", 1)], 4),
}


@case("{name}", LOCAL, name=list(STRUCTS))
def structs(t, name):
    number, values, size = STRUCTS[name]
    s = t.server.socket(t.family, 1)

    def value():
        raw = s.getsockopt(SOL, number, size)
        return raw.hex(" ", 4) if isinstance(raw, bytes) else raw
    said = [value()]
    for v in values:
        said.append((s.setsockopt(SOL, number, v), value()))
    return said


@case("SO_PEERNAME of a connected socket")
def peer_name(t):
    c, s = t.connected()
    return [t.client.peer_name_option(c), t.server.peer_name_option(s)]


@case("SO_BINDTODEVICE: {what}", LOCAL, what={"lo": "lo", "the own device": "own",
                                             "no such device": "nosuchdev0"})
def to_device(t, what):
    s = t.server.socket(t.family, 1)
    name = t.server.interface() if what == "own" else what
    said = [s.setsockopt(SOL, 25, name.encode() + b"\0")]
    said.append(t.server.device_option(s))
    return said


@case("SO_BINDTODEVICE of lo, then connect() by loopback", LOOPBACK)
def lo_works(t):
    t.listen()
    c = t.client.socket(t.family, 1)
    return [c.setsockopt(SOL, 25, b"lo\0"), c.connect(t.to)]


@case("SO_BINDTODEVICE of the own device, then connect()", REMOTE)
def device_works(t):
    t.listen()
    c = t.client.socket(t.family, 1)
    name = t.client.interface()
    return [c.setsockopt(SOL, 25, name.encode() + b"\0"), c.connect(t.to)]


@case("SO_COOKIE stays, and no two sockets have one", LOCAL)
def cookie(t):
    a, b = t.server.socket(t.family, 1), t.server.socket(t.family, 1)
    one = a.getsockopt(SOL, 57, 8)
    return [one == a.getsockopt(SOL, 57, 8), one == b.getsockopt(SOL, 57, 8)]


@case("SO_NETNS_COOKIE is that of a UDP socket", LOCAL)
def netns_cookie(t):
    return [t.server.same_netns(t.server.socket(t.family, 1))]


@case("SO_INCOMING_CPU, SO_INCOMING_NAPI_ID of a connected socket")
def incoming(t):
    c, s = t.connected()
    c.send(b"x")
    s.recv(1)
    return [s.getsockopt(SOL, 49) >= 0, s.getsockopt(SOL, 56) >= 0]


@case("SO_ERROR is 0 and stays 0", LOCAL)
def error(t):
    s = t.server.socket(t.family, 1)
    return [s.getsockopt(SOL, 4), s.getsockopt(SOL, 4)]


@case("getsockopt(SO_SNDBUF) with room for {room} bytes", LOCAL, room=[0, 1, 3, 4, 8, -1])
def room(t, room):
    return [t.server.opt_size(t.server.socket(t.family, 1), SOL, 7, room)]


@case("setsockopt(SO_KEEPALIVE) of {size} bytes", LOCAL, size=[0, 1, 3, 4, 8, -1])
def sizes(t, size):
    s = t.server.socket(t.family, 1)
    return [t.server.setopt_raw(s, SOL, 9, struct.pack("q", 1), size), s.getsockopt(SOL, 9)]


@case("SO_ATTACH_FILTER, SO_LOCK_FILTER, SO_DETACH_FILTER", LOCAL)
def filters(t):
    s = t.server.socket(t.family, 1)
    return [t.server.attach_filter(s), s.setsockopt(SOL, 44, 1), s.setsockopt(SOL, 27, 0),
            t.server.attach_filter(s)]


@case("an option level that is not there: {level}", LOCAL, level=[2, 17, 132, 255, 284, -1])
def levels(t, level):
    s = t.server.socket(t.family, 1)
    return [s.getsockopt(level, 1), s.setsockopt(level, 1, 1)]


@case("{what} by a user without privileges", LOCAL, what={
    "SO_DEBUG": "option", "SO_MARK": "mark", "SO_RCVBUFFORCE": "force", "SO_PRIORITY 7": "priority",
    "IP_TRANSPARENT": "transparent"})
def privileges(t, what):
    return [t.server.as_user(65534, what)]


@case("SO_SNDBUF and SO_RCVBUF start as tcp_wmem and tcp_rmem say", LOCAL)
def buffers(t):
    s = t.server.socket(t.family, 1)
    return [t.server.memory_matches(s)]
