# SPDX-License-Identifier: Apache-2.0
"""poll(), select() and epoll on sockets that connect, listen, get data and end."""

import select as L
import socket as S

from registry import case, group

group("poll(), select(), epoll")

IN, OUT = L.POLLIN, L.POLLOUT
ALL_EVENTS = L.EPOLLIN | L.EPOLLOUT | L.EPOLLPRI | L.EPOLLRDHUP


@case("connect() not blocking, then {how}", how=["poll", "select", "epoll", "epoll, edge",
                                                 "epoll, oneshot"])
def connecting(t, how):
    t.listen()
    c = t.client.socket(t.family, 1 | S.SOCK_NONBLOCK)
    ep = t.client.epoll()
    extra = L.EPOLLET if "edge" in how else L.EPOLLONESHOT if "oneshot" in how else 0
    # An edge is of what changes after it: the socket has to connect first for there to be one.
    first = c.connect(t.to)
    said = [first in ("EINPROGRESS", "ok") or first]
    if how == "poll":
        said += [t.client.wait(c, OUT)]
    elif how == "select":
        said += [t.client.wait(c, OUT), t.client.selected(c)]
    else:
        ep.register(c, ALL_EVENTS | extra)
        t.client.wait(c, OUT)
        said += [t.client.epoll_wait(ep), t.client.epoll_wait(ep)]
        if "oneshot" in how:
            ep.modify(c, ALL_EVENTS | extra)
            said.append(t.client.epoll_wait(ep))
    return [*said, c.getsockopt(1, S.SO_ERROR)]


@case("epoll, registered before connect(), {how}", how={"level": 0, "edge": L.EPOLLET,
                                                        "oneshot": L.EPOLLONESHOT})
def before(t, how):
    t.listen()
    c = t.client.socket(t.family, 1 | S.SOCK_NONBLOCK)
    ep = t.client.epoll()
    ep.register(c, ALL_EVENTS | how)
    said = [t.client.epoll_wait(ep)]
    c.connect(t.to)
    t.client.wait(c, OUT)
    return [*said, t.client.epoll_wait(ep), t.client.epoll_wait(ep)]


@case("epoll of a refused connect(), {how}", how={"level": 0, "edge": L.EPOLLET})
def refused(t, how):
    c = t.client.socket(t.family, 1 | S.SOCK_NONBLOCK)
    c.connect(t.to)
    t.client.wait(c, OUT)
    ep = t.client.epoll()
    ep.register(c, ALL_EVENTS | how)
    return [t.client.epoll_wait(ep), t.client.epoll_wait(ep), t.client.poll(c)]


@case("poll(), select() of a listener with a connection")
def listener(t):
    s = t.listen()
    said = [t.server.poll(s), t.server.selected(s)]
    t.client.socket(t.family, 1).connect(t.to)
    said += [t.server.wait(s, IN), t.server.selected(s)]
    s.accept()
    return [*said, t.server.poll(s)]


@case("epoll of a listener, {how}", how={"level": 0, "edge": L.EPOLLET,
                                         "EPOLLEXCLUSIVE": 1 << 28})
def epoll_listener(t, how):
    s = t.listen()
    ep = t.server.epoll()
    ep.register(s, IN | how)
    said = [t.server.epoll_wait(ep)]
    t.client.socket(t.family, 1).connect(t.to)
    t.server.wait(s, IN)
    return [*said, t.server.epoll_wait(ep), t.server.epoll_wait(ep)]


@case("epoll of data, {how}", how={"level": 0, "edge": L.EPOLLET, "oneshot": L.EPOLLONESHOT})
def data(t, how):
    c, s = t.connected()
    ep = t.server.epoll()
    ep.register(s, L.EPOLLIN | L.EPOLLRDHUP | how)
    said = [t.server.epoll_wait(ep)]
    c.send(b"one")
    t.server.wait(s, IN)
    said += [t.server.epoll_wait(ep), t.server.epoll_wait(ep), s.recv(1), t.server.epoll_wait(ep)]
    return said


@case("poll(), select() when the peer has {what}", what=["closed", "shut down", "reset"])
def ended(t, what):
    c, s = t.connected()
    if what == "shut down":
        c.shutdown(1)
    else:
        if what == "reset":
            c.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")
        c.close()
    return [t.server.wait(s, L.POLLIN), t.server.selected(s), s.recv(1), t.server.poll(s)]


@case("poll() of a socket shut down on both sides")
def both_shut(t):
    c, s = t.connected()
    c.shutdown(1)
    s.recv(1)
    s.shutdown(1)
    c.recv(1)
    return [t.client.poll(c), t.server.poll(s)]


@case("poll() for writing when the peer does not read, and when it does")
def full(t):
    c, s = t.connected()
    c.setblocking(False)
    n = t.client.fill(c)
    said = [t.client.poll(c), t.client.selected(c)]
    got = t.server.drain(s, n)
    return [*said, got == n, t.client.wait(c, OUT)]


@case("EPOLL_CTL_ADD twice, EPOLL_CTL_MOD and DEL of one that is not there")
def control(t):
    s = t.server.socket(t.family, 1)
    ep = t.server.epoll()
    return [ep.modify(s, IN), ep.unregister(s), ep.register(s, IN), ep.register(s, IN),
            ep.unregister(s)]
