# SPDX-License-Identifier: Apache-2.0
"""Every option of IPPROTO_TCP."""

import struct

from registry import LOCAL, REMOTE, case, group

group("Options: IPPROTO_TCP")

TCP = 6
INTEGERS = {
    "TCP_NODELAY": (1, [1, 0]), "TCP_MAXSEG": (2, [1000, 0, 20, 70000]), "TCP_CORK": (3, [1, 0]),
    "TCP_KEEPIDLE": (4, [60, 0, 40000]), "TCP_KEEPINTVL": (5, [5, 0]), "TCP_KEEPCNT": (6, [3, 0, 200]),
    "TCP_SYNCNT": (7, [3, 0, 200]), "TCP_LINGER2": (8, [10, -1, 1000]),
    "TCP_DEFER_ACCEPT": (9, [5, 0]), "TCP_WINDOW_CLAMP": (10, [20000, 0]),
    "TCP_QUICKACK": (12, [0, 1]), "TCP_THIN_LINEAR_TIMEOUTS": (16, [1]), "TCP_THIN_DUPACK": (17, [1]),
    "TCP_USER_TIMEOUT": (18, [5000, -1]), "TCP_REPAIR": (19, [1, -1]), "TCP_REPAIR_QUEUE": (20, [1]),
    "TCP_QUEUE_SEQ": (21, [5]), "TCP_REPAIR_OPTIONS": (22, [1]), "TCP_FASTOPEN": (23, [5, 0]),
    "TCP_TIMESTAMP": (24, [5]), "TCP_NOTSENT_LOWAT": (25, [16384]), "TCP_SAVE_SYN": (27, [1, 2, 3]),
    "TCP_SAVED_SYN": (28, [1]), "TCP_REPAIR_WINDOW": (29, [1]), "TCP_FASTOPEN_CONNECT": (30, [1]),
    "TCP_FASTOPEN_NO_COOKIE": (34, [1]), "TCP_INQ": (36, [1, 2]), "TCP_TX_DELAY": (37, [1000]),
    "TCP_RTO_MAX_MS": (44, [5000, 1]), "TCP_RTO_MIN_US": (45, [5000, 1]),
    "TCP_DELACK_MAX_US": (46, [1000]), "TCP_IS_MPTCP": (43, [1]), "IPPROTO_TCP 999": (999, [1]),
}


@case("{name}", LOCAL, name=list(INTEGERS))
def integers(t, name):
    number, values = INTEGERS[name]
    s = t.server.socket(t.family, 1)
    said = [s.getsockopt(TCP, number) if number != 24 else "a time"]
    for value in values:
        said.append((f"set {value}", s.setsockopt(TCP, number, value),
                     s.getsockopt(TCP, number) if number != 24 else "a time"))
    return said


CONNECTED = [n for n in INTEGERS if n not in
             ("TCP_MAXSEG", "TCP_TIMESTAMP", "TCP_WINDOW_CLAMP", "TCP_QUEUE_SEQ", "TCP_REPAIR",
              "TCP_REPAIR_QUEUE", "TCP_REPAIR_WINDOW", "TCP_DEFER_ACCEPT")]


@case("{name} on a connected socket", name=CONNECTED)
def on_connected(t, name):
    number, values = INTEGERS[name]
    c, _ = t.connected()
    said = [c.getsockopt(TCP, number)]
    for value in values:
        said.append((f"set {value}", c.setsockopt(TCP, number, value), c.getsockopt(TCP, number)))
    return said


@case("{name} of a listener", LOCAL, name=["TCP_FASTOPEN", "TCP_DEFER_ACCEPT", "TCP_SAVE_SYN",
                                          "TCP_MAXSEG", "TCP_CORK", "TCP_REPAIR"])
def of_listener(t, name):
    number, values = INTEGERS[name]
    s = t.listen()
    said = [s.getsockopt(TCP, number)]
    for value in values:
        said.append((f"set {value}", s.setsockopt(TCP, number, value), s.getsockopt(TCP, number)))
    return said


@case("TCP_MAXSEG, set before connect(), bounds the segments")
def maxseg(t):
    t.listen()
    c = t.client.socket(t.family, 1)
    said = [c.setsockopt(TCP, 2, 600), c.connect(t.to), c.getsockopt(TCP, 2) <= 600]
    return said


@case("TCP_MAXSEG of a connected socket is what the path allows")
def maxseg_connected(t):
    c, _ = t.connected()
    return [c.getsockopt(TCP, 2) > 500]


@case("TCP_CONGESTION: {name}", LOCAL, name={
    "reno": "reno", "cubic": "cubic", "bbr": "bbr", "one that is not there": "nosuch", "\"\"": ""})
def congestion(t, name):
    s = t.server.socket(t.family, 1)
    return [s.setsockopt(TCP, 13, name.encode()),
            t.server.text_option(s, TCP, 13) if name not in ("nosuch", "") else ""]


@case("TCP_CONGESTION starts as tcp_congestion_control says", LOCAL)
def congestion_default(t):
    s = t.server.socket(t.family, 1)
    return [t.server.sysctl_matches(s, TCP, 13, "net/ipv4/tcp_congestion_control", "text")]


@case("TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT start as tcp_keepalive_time, … say", LOCAL)
def keepalive_default(t):
    s = t.server.socket(t.family, 1)
    return [t.server.sysctl_matches(s, TCP, option, "net/ipv4/tcp_keepalive_" + name)
            for option, name in ((4, "time"), (5, "intvl"), (6, "probes"))]


@case("TCP_ULP: {name}", LOCAL, name=["tls", "espintcp", "nosuch"])
def ulp(t, name):
    s = t.server.socket(t.family, 1)
    return [s.setsockopt(TCP, 31, name.encode() + b"\0"), t.server.text_option(s, TCP, 31)]


@case("TCP_MD5SIG: a key for the peer", LOCAL)
def md5(t):
    s = t.server.socket(t.family, 1)
    raw = struct.pack("=HH4s120sBBHIi80s", 2, 0, bytes([10, 0, 0, 1]), b"", 0, 0, 3, 0, 0, b"key")
    return [s.setsockopt(TCP, 14, raw)]


@case("TCP_MD5SIG on both sides: a connection", ("remote", "own"))
def md5_connection(t):
    def key(address):
        return struct.pack("=HH4s120sBBHIi80s", 2, 0, bytes(map(int, address.split("."))), b"", 0, 0,
                           3, 0, 0, b"key")
    listener = t.server.socket(t.family, 1)
    listener.bind((t.any, t.port))
    said = [listener.setsockopt(TCP, 14, key(t.own))]
    listener.listen(1)
    c = t.client.socket(t.family, 1)
    said.append(c.setsockopt(TCP, 14, key(t.address)))
    c.setsockopt(TCP, 7, 1)  # TCP_SYNCNT
    c.setsockopt(TCP, 18, 1000)
    return [*said, c.connect(t.to)]


@case("TCP_AO_ADD_KEY with no more than zeros", LOCAL)
def ao(t):
    s = t.server.socket(t.family, 1)
    return [s.setsockopt(TCP, 38, bytes(128 + 160))]


@case("TCP_FASTOPEN_KEY", LOCAL)
def fastopen_key(t):
    s = t.server.socket(t.family, 1)
    return [s.setsockopt(TCP, 33, bytes(16)), len(s.getsockopt(TCP, 33, 32))]


@case("TCP_INFO: state and counts of a connection")
def info(t):
    c, s = t.connected()
    c.send(bytes(1000))
    t.server.drain(s, 1000)
    return [t.client.tcp_info(c), t.server.tcp_info(s)]


@case("TCP_INFO of a new socket, a listener, a closing one", LOCAL)
def info_states(t):
    listener = t.listen()
    new = t.server.socket(t.family, 1)
    c, s = t.connected(listener)
    said = [t.server.tcp_state(new), t.server.tcp_state(listener), t.server.tcp_state(c)]
    c.shutdown(1)
    s.recv(1)
    said += [t.server.tcp_state(c), t.server.tcp_state(s)]
    s.shutdown(1)
    c.recv(1)
    return [*said, t.server.tcp_state(s)]


@case("TCP_INFO: options of the handshake (timestamps, SACK, window scale)")
def info_options(t):
    c, s = t.connected()
    return [t.client.tcp_options(c), t.server.tcp_options(s)]


@case("TCP_INFO with room for {room} bytes", LOCAL, room=[0, 1, 8, 104, 1000])
def info_room(t, room):
    c, _ = t.connected()
    size = t.server.opt_size(c, TCP, 11, room)
    return [size if room < 1000 else size > 100]


@case("TCP_CC_INFO", LOCAL)
def cc_info(t):
    s = t.server.socket(t.family, 1)
    s.setsockopt(TCP, 13, b"bbr")
    return [t.server.opt_size(s, TCP, 26, 64)]


@case("TCP_SAVED_SYN: what an accepted socket has of its SYN")
def saved_syn(t):
    listener = t.listen()
    said = [listener.setsockopt(TCP, 27, 1)]
    t.client.socket(t.family, 1).connect(t.to)
    s = listener.accept()[0]
    return [*said, t.server.saved_syn(s)]


@case("TCP_REPAIR: state of a connection read out")
def repair(t):
    c, _ = t.connected()
    said = [c.setsockopt(TCP, 19, 1), c.getsockopt(TCP, 19), c.setsockopt(TCP, 20, 1),
            isinstance(c.getsockopt(TCP, 21), int), c.setsockopt(TCP, 19, -1)]
    return said


@case("TCP_NODELAY and TCP_CORK at work")
def cork(t):
    c, s = t.connected()
    said = [c.setsockopt(TCP, 1, 1), c.setsockopt(TCP, 3, 1), c.send(b"held"), c.send(b" back"),
            c.setsockopt(TCP, 3, 0), t.server.wait(s, 1), s.recv(9, 0x100)]
    return said


@case("TCP_NOTSENT_LOWAT: poll() for writing")
def lowat(t):
    c, s = t.connected()
    c.setsockopt(TCP, 25, 4096)
    c.setblocking(False)
    n = t.client.fill(c)
    said = [t.client.poll(c, 4)]
    return [*said, t.server.drain(s, n) == n, t.client.wait(c, 4)]


@case("SO_KEEPALIVE with TCP_KEEPIDLE 1: the connection lives", REMOTE)
def keepalive(t):
    c, s = t.connected()
    return [c.setsockopt(1, 9, 1), c.setsockopt(TCP, 4, 1), c.setsockopt(TCP, 5, 1),
            t.client.keepalives(c), c.send(b"alive"), s.recv(5)]


@case("TCP option with a value of {size} bytes", LOCAL, size=[0, 1, 3, 8, -1])
def sizes(t, size):
    s = t.server.socket(t.family, 1)
    return [t.server.setopt_raw(s, TCP, 1, struct.pack("q", 1), size), s.getsockopt(TCP, 1)]
