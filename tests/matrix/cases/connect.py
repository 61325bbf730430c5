# SPDX-License-Identifier: Apache-2.0
"""connect(): to whom, how often, with what address."""

import socket as S
import struct

from registry import ALL, LOCAL, REMOTE, V4, case, group

group("connect()")

INET = {"AF_INET": 2, "AF_INET6": 10}
IN, OUT = 1, 4


@case("connect() to a listener")
def works(t):
    t.listen()
    c = t.client.socket(t.family, 1)
    return [c.connect(t.to), t.client.poll(c)]


@case("connect() of an AF_INET6 socket to a v4-mapped address", V4)
def mapped(t):
    t.listen()
    c = t.client.socket(10, 1)
    return [c.connect(t.to6), t.client.both_names(c)]


@case("connect() to a closed port, {family}", V4, family=INET)
def refused(t, family):
    c = t.client.socket(family, 1)
    return [c.connect(t.to if family == 2 else t.to6)]


@case("connect() to a closed port, not blocking")
def refused_later(t):
    c = t.client.socket(t.family, 1 | S.SOCK_NONBLOCK)
    said = c.connect(t.to)
    return [said if said == "ECONNREFUSED" else "EINPROGRESS or ECONNREFUSED"
            if said == "EINPROGRESS" else said, t.client.wait(c, OUT),
            c.getsockopt(1, S.SO_ERROR), c.getsockopt(1, S.SO_ERROR), t.client.poll(c)]


@case("connect() to ::1", LOCAL)
def six(t):
    s = t.server.socket(10, 1)
    s.bind(("::1", t.port))
    s.listen(1)
    c = t.client.socket(10, 1)
    return [c.connect(("::1", t.port)), t.client.both_names(c)]


@case("connect() to ::1, where nobody listens", LOCAL)
def six_refused(t):
    return [t.client.socket(10, 1).connect(("::1", t.port))]


@case("connect() to an address of the network that nobody has, {family}", ("remote",), family=INET)
def nobody(t, family):
    c = t.client.socket(family, 1)
    return [c.connect((("" if family == 2 else "::ffff:") + t.absent, t.port))]


@case("connect() to {address}", LOCAL, address={
    "an address with no route (240.0.0.1)": (2, "240.0.0.1"), "broadcast": (2, "255.255.255.255"),
    "multicast": (2, "224.0.0.1"), "3fff::1 with no route": (10, "3fff::1"),
    "ff02::1": (10, "ff02::1"), "fe80::1 with no scope": (10, "fe80::1"),
    "a v4-mapped broadcast address": (10, "::ffff:255.255.255.255")})
def odd(t, address):
    return [t.client.socket(address[0], 1).connect((address[1], t.port))]


@case("connect() to {address}, own listener", LOCAL, address={
    "0.0.0.0": (2, "0.0.0.0"), "::": (10, "::"), "::ffff:0.0.0.0": (10, "::ffff:0.0.0.0"),
    "127.9.8.7": (2, "127.9.8.7")})
def to_any(t, address):
    t.listen(family=10)
    c = t.client.socket(address[0], 1)
    return [c.connect((address[1], t.port)), t.client.both_names(c)]


@case("connect() to port 0", ALL)
def port_zero(t):
    return [t.client.socket(t.family, 1).connect((t.address, 0))]


@case("connect() twice: EISCONN")
def twice(t):
    t.listen()
    c = t.client.socket(t.family, 1)
    return [c.connect(t.to), c.connect(t.to), t.client.both_names(c)]


@case("connect() again, elsewhere, while connected")
def elsewhere_connected(t):
    t.listen()
    c = t.client.socket(t.family, 1)
    return [c.connect(t.to), c.connect((t.address, t.port2)), t.client.both_names(c)]


@case("connect() not blocking: EINPROGRESS, then EISCONN", REMOTE)
def in_progress(t):
    t.listen()
    c = t.client.socket(t.family, 1 | S.SOCK_NONBLOCK)
    return [c.connect(t.to), t.client.wait(c, OUT), c.getsockopt(1, S.SO_ERROR), c.connect(t.to)]


@case("connect() not blocking, twice to a listener whose queue is full: EALREADY", REMOTE)
def already(t):
    t.listen(0)
    held = [t.client.socket(t.family, 1 | S.SOCK_NONBLOCK) for _ in range(3)]
    said = [c.connect(t.to) for c in held]
    return [*said, held[2].connect(t.to), t.client.poll(held[2])]


@case("connect() again after it was refused")
def after_refused(t):
    c = t.client.socket(t.family, 1)
    said = [c.connect(t.to), t.client.both_names(c)]
    t.listen()
    return [*said, c.connect(t.to), t.client.both_names(c)]


@case("connect() after refused, to another port, not blocking")
def after_refused_elsewhere(t):
    t.listen()
    c = t.client.socket(t.family, 1)
    said = [c.connect((t.address, t.port2))]
    c.setblocking(False)
    first = c.connect(t.to)
    return [*said, t.client.wait(c, OUT), c.getsockopt(1, S.SO_ERROR),
            t.client.both_names(c)[1], first in ("ok", "EINPROGRESS")]


@case("connect() to AF_UNSPEC disconnects, and connects elsewhere after it")
def disconnect(t):
    listener = t.listen()
    other = t.listen(port=t.port2)
    c, s = t.connected(listener)
    said = [t.client.disconnect(c), t.client.both_names(c), s.recv(1)]
    said += [c.connect((t.address, t.port2)), c.send(b"again")]
    s2, peer = other.accept()
    return [*said, s2.recv(5), peer, t.client.both_names(c)]


@case("connect() to AF_UNSPEC of a new socket")
def disconnect_new(t):
    c = t.client.socket(t.family, 1)
    return [t.client.disconnect(c), t.client.both_names(c)]


@case("connect() to AF_UNSPEC of a bound socket keeps its port", ALL)
def disconnect_bound(t):
    t.listen()
    c = t.client.socket(t.family, 1)
    c.bind((t.any, t.port2))
    return [c.connect(t.to), t.client.disconnect(c), t.client.both_names(c)]


@case("connect() to AF_UNSPEC of a listener", LOCAL)
def disconnect_listener(t):
    listener = t.listen()
    c = t.client.socket(t.family, 1)
    return [t.server.disconnect(listener), c.connect(t.to), listener.listen(1), c.connect(t.to)]


@case("connect() of a listener", ALL)
def listener(t):
    t.listen()
    c = t.client.socket(t.family, 1)
    c.bind((t.any, t.port2))
    c.listen(1)
    return [c.connect(t.to)]


@case("connect() to itself by {address}", LOCAL, address=["127.0.0.1", "own address"])
def itself(t, address):
    address = "127.0.0.1" if address == "127.0.0.1" else t.own
    c = t.client.socket(t.family, 1)
    c.bind((address, t.port))
    return [c.connect((address, t.port)), t.client.both_names(c), c.send(b"me"), c.recv(2)]


@case("simultaneous open", REMOTE)
def simultaneous(t):
    a, b = t.server.socket(t.family, 1), t.client.socket(t.family, 1)
    a.bind((t.any, t.port))
    b.bind((t.any, t.port2))
    # The SYNs need not cross: the first one is refused, but the filter keeps the reset away, and its
    # socket still waits when the second one comes.
    for party, s in (t.server, a), (t.client, b):
        party.drop_resets(s)
        s.setblocking(False)
    said = [a.connect((t.own, t.port2)), b.connect((t.address, t.port))]
    said += [t.server.wait_for(a, OUT, 2), t.client.wait_for(b, OUT, 2)]
    return [*said, t.server.both_names(a), t.client.both_names(b), a.send(b"x", S.MSG_NOSIGNAL)]


@case("connect() with a length of {size}", LOCAL, size=[0, 1, 2, 8, 15, 17, 28, 128, 129, -1])
def lengths(t, size):
    t.listen()
    raw = struct.pack("=HH4s8x", 2, S.htons(t.port), S.inet_aton("127.0.0.1")).ljust(160, b"\0")
    return [t.client.connect_raw(t.client.socket(t.family, 1), raw, size)]


@case("AF_INET6 connect() with a length of {size}", LOCAL, size=[0, 2, 16, 23, 24, 27, 28, 128, 129])
def lengths6(t, size):
    t.listen(family=10)
    raw = struct.pack("=HHI16sI", 10, S.htons(t.port), 0, S.inet_pton(10, "::1"), 0)
    return [t.client.connect_raw(t.client.socket(10, 1), raw.ljust(160, b"\0"), size)]


@case("connect() with an address of family {family}", LOCAL, family={
    "AF_INET6": 10, "AF_UNIX": 1, "99": 99, "65535": 65535})
def families(t, family):
    raw = struct.pack("=HH4s8x", family, S.htons(t.port), S.inet_aton("127.0.0.1"))
    return [t.client.connect_raw(t.client.socket(t.family, 1), raw.ljust(28, b"\0"))]


@case("AF_INET6 connect() with an AF_INET address", V4)
def v4_address(t):
    t.listen()
    raw = struct.pack("=HH4s8x", 2, S.htons(t.port), S.inet_aton(t.address))
    c = t.client.socket(10, 1)
    return [t.client.connect_raw(c, raw.ljust(28, b"\0")), t.client.both_names(c)]


@case("connect() with a flow label and a scope", LOCAL)
def scope(t):
    t.listen(family=10)
    c = t.client.socket(10, 1)
    return [c.connect(("::1", t.port, 0, 1)), t.client.both_names(c)]


@case("connect(): {who} with IPV6_V6ONLY", LOCAL, who={
    "v4-mapped": "::ffff:127.0.0.1", "::1": "::1"})
def v6only(t, who):
    t.listen(family=10)
    c = t.client.socket(10, 1)
    return [c.setsockopt(41, 26, 1), c.connect((who, t.port))]


@case("connect(), interrupted by a signal", ("remote",))
def interrupted(t):
    # Nobody answers: the queue is full.
    t.listen(0)
    held = [t.client.socket(t.family, 1 | S.SOCK_NONBLOCK) for _ in range(3)]
    for c in held:
        c.connect(t.to)
    raw = struct.pack("=HH4s8x", 2, S.htons(t.port), S.inet_aton(t.address))
    return [t.client.interrupted(t.client.socket(t.family, 1), "connect", raw)]


@case("SO_SNDTIMEO ends a connect(): EINPROGRESS", REMOTE)
def timeout(t):
    t.listen(0)
    held = [t.client.socket(t.family, 1 | S.SOCK_NONBLOCK) for _ in range(3)]
    for c in held:
        c.connect(t.to)
    c = t.client.socket(t.family, 1)
    c.setsockopt(1, S.SO_SNDTIMEO, struct.pack("ll", 0, 300000))
    return [c.connect(t.to)]


@case("TCP Fast Open: sendto(MSG_FASTOPEN)")
def fastopen(t):
    listener = t.listen()
    c = t.client.socket(t.family, 1)
    said = [c.sendto(b"early", 0x20000000, t.to)]
    if said != [5]:
        return [*said, t.client.both_names(c)]
    s = listener.accept()[0]
    return [*said, s.recv(5), t.client.both_names(c), t.server.both_names(s)]


@case("TCP_FASTOPEN_CONNECT: connect(), then send()")
def fastopen_connect(t):
    listener = t.listen()
    c = t.client.socket(t.family, 1)
    said = [c.setsockopt(6, 30, 1), c.connect(t.to), c.send(b"early")]
    return [*said, listener.accept()[0].recv(5)]


@case("TCP_FASTOPEN of a listener, and twice a client with MSG_FASTOPEN")
def fastopen_cookie(t):
    listener = t.listen()
    said = [listener.setsockopt(6, S.TCP_FASTOPEN, 5)]
    for _ in range(2):
        c = t.client.socket(t.family, 1)
        said.append(c.sendto(b"early", 0x20000000, t.to))
        if said[-1] == 5:
            said.append(listener.accept()[0].recv(5))
    return said


@case("sendto() with an address, of a socket that is not connected")
def sendto(t):
    t.listen()
    return [t.client.socket(t.family, 1).sendto(b"x", S.MSG_NOSIGNAL, t.to)]


@case("sendto() with an address, of a connected socket", V4)
def sendto_connected(t):
    c, s = t.connected()
    return [c.sendto(b"x", ("203.0.113.9", 9)), s.recv(1)]


@case("send(), recv(), shutdown() of a socket that is not connected", LOCAL)
def unconnected(t):
    c = t.client.socket(t.family, 1)
    return [c.send(b"x", S.MSG_NOSIGNAL), c.recv(1), c.shutdown(2), c.getpeername()]


@case("128 connections at once by threads")
def threads(t):
    listener = t.listen(128)
    server = t.server.echo_server(listener, 128)
    said = t.client.threads_connect(t.address, t.port, 128)
    server.wait()
    return [said]
