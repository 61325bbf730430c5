# SPDX-License-Identifier: Apache-2.0
"""bind(). What two sockets on one port say to each other is in tests/e2e/test_bind.py as well."""

import socket as S
import struct

from registry import LOCAL, LOOPBACK, OWN, REMOTE, V4, case, group

group("bind()")

ADDRESSES = {"0.0.0.0": (2, "0.0.0.0"), "own": (2, None), "127.0.0.1": (2, "127.0.0.1"),
             "127.1.2.3": (2, "127.1.2.3"), "::": (10, "::"), "::1": (10, "::1"),
             "::ffff:own": (10, None), "::ffff:127.0.0.1": (10, "::ffff:127.0.0.1"),
             "::ffff:0.0.0.0": (10, "::ffff:0.0.0.0")}


def place(t, address):
    family, host = address
    return host or ("" if family == 2 else "::ffff:") + t.own


@case("bind() to {address}, port {port}", LOCAL, address=ADDRESSES, port={"P": "P", "0": 0})
def everywhere(t, address, port):
    s = t.server.socket(address[0], 1)
    said = [s.bind((place(t, address), t.port if port else 0)), s.getsockname()]
    said += [s.listen(1), s.getsockname()]
    return said


@case("bind() to {address}", LOCAL, address={
    "a foreign address": (2, "203.0.113.5"), "the client's address": (2, "client"),
    "broadcast": (2, "255.255.255.255"), "multicast": (2, "224.0.0.1"),
    "a foreign v6 address": (10, "3fff::5"), "a v6 multicast address": (10, "ff02::1"),
    "a foreign v4-mapped address": (10, "::ffff:203.0.113.5"),
    "fe80::1 with no scope": (10, "fe80::1"), "0.0.0.1": (2, "0.0.0.1")})
def foreign(t, address):
    s = t.server.socket(address[0], 1)
    host = t.world.client.address if address[1] == "client" else address[1]
    return [s.bind((host, t.port)), s.getsockname()]


@case("bind() to a foreign address with {option}", LOCAL, option={
    "IP_FREEBIND": 15, "IP_TRANSPARENT": 19})
def freebind(t, option):
    s = t.server.socket(t.family, 1)
    return [s.setsockopt(0, option, 1), s.bind(("203.0.113.5", t.port)), s.getsockname()]


@case("bind() to a privileged port", LOCAL)
def privileged(t):
    s = t.server.socket(t.family, 1)
    return [s.bind((t.own, 79)), s.getsockname()]


@case("bind() to a privileged port by a user without privileges", LOCAL)
def privileged_user(t):
    return [t.server.as_user(65534, "bind", 79)]


@case("bind() to a high port by a user without privileges", LOCAL)
def high_user(t):
    return [t.server.as_user(65534, "bind", t.port)]


@case("bind() twice", LOCAL)
def twice(t):
    s = t.server.socket(t.family, 1)
    return [s.bind((t.any, t.port)), s.bind((t.any, t.port)), s.bind((t.own, t.port2)),
            s.getsockname()]


@case("bind() after connect()")
def after_connect(t):
    t.listen()
    c = t.client.socket(t.family, 1)
    return [c.connect(t.to), c.bind((t.any, t.port2)), t.client.both_names(c)]


@case("bind() after a refused connect()")
def after_refused(t):
    t.listen(port=t.port3)
    c = t.client.socket(t.family, 1)
    return [c.connect(t.to), c.bind((t.any, t.port2)), c.connect((t.address, t.port3)),
            t.client.both_names(c)]


@case("bind() of an accepted socket")
def accepted(t):
    _, s = t.connected()
    return [s.bind((t.any, t.port2))]


@case("bind() again after EADDRINUSE", LOCAL)
def after_failure(t):
    a, b = t.server.socket(t.family, 1), t.server.socket(t.family, 1)
    return [a.bind((t.any, t.port)), b.bind((t.own, t.port)), b.getsockname(),
            b.bind((t.own, t.port2)), b.getsockname()]


@case("bind() to 0.0.0.0 of an AF_INET6 socket's port, {v6only}", LOCAL, v6only={
    "dual-stack": 0, "IPV6_V6ONLY": 1})
def beside_v6(t, v6only):
    a, b = t.server.socket(10, 1), t.server.socket(t.family, 1)
    return [a.setsockopt(41, 26, v6only), a.bind(("::", t.port)), b.bind((t.any, t.port)),
            a.listen(1), b.listen(1)]


@case("bind() twice to one port, both with {first}, {second}", LOCAL,
      first={"no option": (), "SO_REUSEADDR": (S.SO_REUSEADDR,), "SO_REUSEPORT": (S.SO_REUSEPORT,)},
      second={"neither listening": "no", "one listening": "one", "both listening": "both"})
def reuse(t, first, second):
    a, b = t.server.socket(t.family, 1), t.server.socket(t.family, 1)
    for s in a, b:
        for option in first:
            s.setsockopt(1, option, 1)
    said = [a.bind((t.any, t.port))]
    if second != "no":
        said.append(a.listen(1))
    said.append(b.bind((t.any, t.port)))
    if second == "both":
        said.append(b.listen(1))
    return said


@case("bind() with IP_BIND_ADDRESS_NO_PORT: the port comes with connect()")
def no_port(t):
    t.listen()
    c = t.client.socket(t.family, 1)
    said = [c.setsockopt(0, 24, 1), c.bind((t.loopback if t.path in LOOPBACK else t.own, 0)),
            c.getsockname()]
    return [*said, c.connect(t.to), t.client.both_names(c)]


@case("bind() to {address}, then connect()", V4, address={"0.0.0.0": (2, "0.0.0.0"), "own": (2, None),
                                                      "::": (10, "::"), "::ffff:own": (10, None)})
def then_connect(t, address):
    t.listen()
    c = t.client.socket(address[0], 1)
    return [c.bind((place(t, address), t.port2)),
            c.connect(t.to if address[0] == 2 else t.to6), t.client.both_names(c)]


@case("bind() to a loopback address, then connect() elsewhere", REMOTE + OWN)
def loopback_elsewhere(t):
    t.listen()
    c = t.client.socket(t.family, 1)
    said = [c.bind((t.loopback, t.port2))]
    c.setblocking(False)
    return [*said, c.connect(t.to)]


@case("bind() to ::, then connect() to ::1", LOCAL)
def six(t):
    t.listen(family=10)
    c = t.client.socket(10, 1)
    return [c.bind(("::", t.port2)), c.connect(("::1", t.port)), t.client.both_names(c)]


@case("bind() to ::1, then connect() to 127.0.0.1 by a v4-mapped address", LOCAL)
def six_then_four(t):
    t.listen(family=10)
    c = t.client.socket(10, 1)
    return [c.bind(("::1", t.port2)), c.connect(("::ffff:127.0.0.1", t.port))]


@case("bind() with a length of {size}", LOCAL, size=[0, 1, 2, 8, 15, 16, 17, 28, 128, 129])
def lengths(t, size):
    raw = struct.pack("=HH4s8x", 2, S.htons(t.port), S.inet_aton("127.0.0.1")).ljust(160, b"\0")
    return [t.server.bind_raw(t.server.socket(t.family, 1), raw, size)]


@case("AF_INET6 bind() with a length of {size}", LOCAL, size=[0, 2, 16, 23, 24, 28, 128])
def lengths6(t, size):
    raw = struct.pack("=HHI16sI", 10, S.htons(t.port), 0, S.inet_pton(10, "::1"), 0)
    return [t.server.bind_raw(t.server.socket(10, 1), raw.ljust(160, b"\0"), size)]


@case("bind() with an address of family {family}, {address}", LOCAL, family={
    "AF_UNSPEC": 0, "AF_INET6": 10, "AF_UNIX": 1, "99": 99}, address=["0.0.0.0", "127.0.0.1"])
def families(t, family, address):
    raw = struct.pack("=HH4s8x", family, S.htons(t.port), S.inet_aton(address))
    s = t.server.socket(t.family, 1)
    return [t.server.bind_raw(s, raw.ljust(28, b"\0")), s.getsockname()]


@case("AF_INET6 bind() with an AF_INET address", LOCAL)
def v4_address(t):
    raw = struct.pack("=HH4s8x", 2, S.htons(t.port), S.inet_aton("127.0.0.1"))
    return [t.server.bind_raw(t.server.socket(10, 1), raw.ljust(28, b"\0"))]


@case("bind() to a port in TIME_WAIT, {option}", option={"no option": (), "SO_REUSEADDR": ((1, 2),)})
def time_wait(t, option):
    listener = t.listen(reuse=option)
    c, s = t.connected(listener)
    listener.close()
    said = [s.close(), c.recv(1), c.close()]
    again = t.server.socket(t.family, 1)
    for level, name in option:
        again.setsockopt(level, name, 1)
    return [*said[1:], again.bind((t.any, t.port)), again.listen(1)]


@case("bind() to the port of an open connection, {option}",
      option={"no option": (), "SO_REUSEADDR": ((1, 2),)})
def open_connection(t, option):
    listener = t.listen(reuse=option)
    t.connected(listener)
    listener.close()
    again = t.server.socket(t.family, 1)
    for level, name in option:
        again.setsockopt(level, name, 1)
    return [again.bind((t.any, t.port)), again.listen(1)]


@case("a client's bound port again after its connection has ended (TIME_WAIT reuse)")
def time_wait_client(t):
    listener = t.listen()
    said = []
    for _ in range(2):
        c = t.client.socket(t.family, 1)
        c.setsockopt(1, S.SO_REUSEADDR, 1)
        said += [c.bind((t.any, t.port2)), c.connect(t.to)]
        s = listener.accept()
        if isinstance(s, str):
            break
        c.shutdown(1)
        said += [s[0].recv(1), s[0].close(), c.recv(1), c.close()]
    return said


@case("a bound port is free as soon as the socket is closed", LOCAL)
def free_at_once(t):
    said = []
    for _ in range(3):
        s = t.server.socket(t.family, 1)
        said += [s.bind((t.any, t.port)), s.listen(1), s.close()]
    return said


@case("bind() to port 0 gives a port of ip_local_port_range", LOCAL)
def in_range(t):
    return [t.server.ports_in_range(20)]


@case("connect() takes a port of ip_local_port_range")
def connect_in_range(t):
    t.listen(32)
    return [t.client.connect_ports_in_range(t.address, t.port, 20)]
