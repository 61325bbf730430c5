# SPDX-License-Identifier: Apache-2.0
"""Urgent data."""

import select as L
import socket as S

from registry import case, group

group("Urgent data")

SIOCATMARK = 0x8905


@case("MSG_OOB: POLLPRI, SIOCATMARK, recv(MSG_OOB)")
def oob(t):
    c, s = t.connected()
    said = [c.send(b"ab"), c.send(b"!", S.MSG_OOB), c.send(b"cd"), t.server.wait(s, L.POLLPRI),
            t.server.selected(s)]
    said += [t.server.ioctl_int(s, SIOCATMARK), s.recv(10), t.server.ioctl_int(s, SIOCATMARK),
             s.recv(1, S.MSG_OOB), s.recv(1, S.MSG_OOB)]
    t.server.wait(s, L.POLLIN)
    return [*said, s.recv(2, S.MSG_WAITALL), t.server.poll(s)]


@case("SO_OOBINLINE: the urgent byte in its place")
def inline(t):
    c, s = t.connected()
    said = [s.setsockopt(1, S.SO_OOBINLINE, 1), c.send(b"ab"), c.send(b"!", S.MSG_OOB),
            t.server.wait(s, L.POLLPRI), s.recv(10), t.server.ioctl_int(s, SIOCATMARK), s.recv(10)]
    return [*said, s.recv(1, S.MSG_OOB)]


@case("recv(MSG_OOB) with none there")
def none(t):
    _, s = t.connected()
    return [s.recv(1, S.MSG_OOB)]


@case("epoll of urgent data: EPOLLPRI")
def epoll(t):
    c, s = t.connected()
    ep = t.server.epoll()
    ep.register(s, L.EPOLLPRI)
    said = [t.server.epoll_wait(ep), c.send(b"!", S.MSG_OOB), t.server.wait(s, L.POLLPRI)]
    return [*said, t.server.epoll_wait(ep)]


@case("SIGURG for urgent data")
def sigurg(t):
    c, s = t.connected()
    waiting = t.server.sigurg(s)
    c.send(b"!", S.MSG_OOB)
    return [waiting.wait()]
