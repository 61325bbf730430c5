# SPDX-License-Identifier: Apache-2.0
"""listen() and accept()."""

import socket as S

from registry import ALL, LOCAL, OWN, REMOTE, V4, case, group

group("listen() and accept()")

INET = {"AF_INET": 2, "AF_INET6": 10}


@case("listen() without bind(), {family}", V4, family=INET)
def unbound(t, family):
    s = t.server.socket(family, 1)
    said = [s.listen(4), s.getsockname()]
    port = s.getsockname()[1]
    c = t.client.socket(t.family, 1)
    return [*said, c.connect((t.address, port)), s.accept()[1]]


@case("listen() twice, with other backlogs")
def twice(t):
    s = t.listen(1)
    said = [s.listen(5), s.listen(0), s.listen(-1), s.listen(1 << 30)]
    return [*said, t.client.socket(t.family, 1).connect(t.to)]


@case("listen() of a connected socket")
def connected(t):
    c, s = t.connected()
    return [c.listen(1), s.listen(1)]


@case("listen(), shutdown(), listen()")
def again(t):
    s = t.listen()
    said = [s.shutdown(2), t.server.poll(s), t.client.socket(t.family, 1).connect(t.to), s.listen(1)]
    c = t.client.socket(t.family, 1)
    return [*said, c.connect(t.to), s.accept()[1] == c.getsockname()]


@case("listen() after a connection was closed, on the same descriptor")
def after_disconnect(t):
    t.listen()
    c = t.client.socket(t.family, 1)
    said = [c.connect(t.to), t.client.disconnect(c), c.listen(1)]
    return [*said, c.getsockname()]


@case("shutdown({how}) of a listener", how={"SHUT_RD": 0, "SHUT_WR": 1, "SHUT_RDWR": 2})
def shut(t, how):
    s = t.listen()
    said = [s.shutdown(how), t.client.socket(t.family, 1).connect(t.to)]
    s.setblocking(False)
    a = s.accept()
    return [*said, a if isinstance(a, str) else "accepted"]


@case("accept() with nobody there, not blocking", LOCAL)
def nobody(t):
    s = t.listen()
    s.setblocking(False)
    return [s.accept(), t.server.poll(s), t.server.selected(s)]


@case("accept() of a socket that does not listen: {what}", LOCAL, what=["new", "bound", "connected"])
def not_listening(t, what):
    if what == "connected":
        s = t.connected()[0]
    else:
        s = t.server.socket(t.family, 1)
        if what == "bound":
            s.bind((t.any, t.port))
    return [s.accept()]


@case("accept4() with {flags}", flags={"no flags": 0, "SOCK_CLOEXEC": S.SOCK_CLOEXEC,
                                       "SOCK_NONBLOCK": S.SOCK_NONBLOCK,
                                       "both": S.SOCK_CLOEXEC | S.SOCK_NONBLOCK,
                                       "an unknown flag": 1})
def flags(t, flags):
    s = t.listen()
    c = t.client.socket(t.family, 1)
    c.connect(t.to)
    return [t.server.accept4(s, flags)]


@case("accept() into {room} bytes", V4, room=[0, 1, 2, 8, 15, 16, 32])
def room(t, room):
    s = t.listen()
    t.client.socket(t.family, 1).connect(t.to)
    return list(t.server.name_raw("accept", s, room))


@case("accept() into a buffer of -1 bytes", LOCAL)
def room_negative(t):
    s = t.listen()
    t.client.socket(t.family, 1).connect(t.to)
    return [t.server.name_raw("accept", s, -1)]


@case("AF_INET6 accept() into {room} bytes", V4, room=[16, 24, 28, 32])
def room6(t, room):
    s = t.listen(family=10)
    t.client.socket(10, 1).connect(t.to6)
    return list(t.server.name_raw("accept", s, room))


@case("accept() with no free descriptor")
def limit(t):
    s = t.listen()
    t.client.socket(t.family, 1).connect(t.to)
    return [t.server.accept_at_limit(s)]


@case("accept(), interrupted by a signal", LOCAL)
def interrupted(t):
    return [t.server.interrupted(t.listen(), "accept")]


@case("accept() of a connection that its client has reset")
def aborted(t):
    s = t.listen()
    c = t.client.socket(t.family, 1)
    c.connect(t.to)
    c.setsockopt(1, S.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    said = [c.close()]
    a = s.accept()
    return [*said, isinstance(a, tuple), a[0].recv(1), a[0].getpeername(), a[0].recv(1)]


@case("accept() of a connection that its client has closed")
def closed(t):
    s = t.listen()
    c = t.client.socket(t.family, 1)
    c.connect(t.to)
    said = [c.send(b"bye"), c.close()]
    a = s.accept()
    return [*said, a[0].recv(3), a[0].recv(1), a[0].getpeername() == a[1]]


@case("what an accepted socket has of its listener: options")
def inherited(t):
    s = t.listen()
    for level, option, value in ((1, 9, 1), (6, 1, 1), (6, 4, 77), (6, 5, 11), (6, 6, 4),
                                 (0, 1, 16), (0, 2, 33), (1, 12, 5), (6, 18, 4000)):
        s.setsockopt(level, option, value)
    t.client.socket(t.family, 1).connect(t.to)
    a = s.accept()[0]
    return [a.getsockopt(level, option) for level, option in
            ((1, 9), (6, 1), (6, 4), (6, 5), (6, 6), (0, 1), (0, 2), (1, 12), (6, 18), (1, 2))]


@case("TCP_DEFER_ACCEPT: a connection shows when there is data", ALL)
def deferred(t):
    s = t.listen()
    said = [s.setsockopt(6, 9, 30), s.getsockopt(6, 9) > 0]
    c = t.client.socket(t.family, 1)
    said += [c.connect(t.to), t.server.poll(s), c.send(b"now"), t.server.wait(s, 1)]
    return [*said, s.accept()[0].recv(3)]


@case("SO_ACCEPTCONN before and after listen()", LOCAL)
def accepting(t):
    s = t.server.socket(t.family, 1)
    said = [s.getsockopt(1, 30), s.bind((t.any, t.port)), s.listen(1), s.getsockopt(1, 30)]
    return said


@case("listen({backlog}): its queue takes one more than that", backlog=[0, 1, 3])
def backlog(t, backlog):
    t.listen(backlog)
    held = [t.client.socket(t.family, 1) for _ in range(backlog + 1)]
    return [[c.connect(t.to) for c in held]]


@case("a listener is closed with connections in its queue")
def closed_with_queue(t):
    s = t.listen()
    c = t.client.socket(t.family, 1)
    return [c.connect(t.to), s.close(), t.client.wait(c, 1), c.recv(1),
            t.client.socket(t.family, 1).connect(t.to)]


@case("SO_REUSEPORT: two listeners, each connection at one of them")
def group_of_two(t):
    port = ((1, S.SO_REUSEPORT),)
    ls = [t.listen(64, reuse=port) for _ in range(2)]
    n = 0
    for _ in range(24):
        t.client.socket(t.family, 1).connect(t.to)
    for s in ls:
        s.setblocking(False)
    counts = []
    for s in ls:
        n = 0
        while isinstance(s.accept(), tuple):
            n += 1
        counts.append(n)
    return [sum(counts), min(counts) > 0]


@case("a wildcard listener and one on the own address: the nearer one gets it", REMOTE + OWN)
def nearer(t):
    port = ((1, S.SO_REUSEPORT),)
    wide, near = t.listen(reuse=port), t.listen(address=t.address, reuse=port)
    t.client.socket(t.family, 1).connect(t.to)
    for s in wide, near:
        s.setblocking(False)
    return [isinstance(wide.accept(), tuple), isinstance(near.accept(), tuple)]
