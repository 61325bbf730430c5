# SPDX-License-Identifier: Apache-2.0
"""shutdown(), close(), resets."""

import socket as S
import struct

from registry import LOCAL, REMOTE, case, group

group("shutdown(), close(), resets")

HOW = {"SHUT_RD": 0, "SHUT_WR": 1, "SHUT_RDWR": 2}
RESET = b"\1\0\0\0\0\0\0\0"


@case("shutdown({how}): what either side can do then", how=HOW)
def halves(t, how):
    c, s = t.connected()
    said = [c.shutdown(how)]
    if how:
        said.append(s.recv(1))
    said += [c.send(b"x", S.MSG_NOSIGNAL), s.send(b"back", S.MSG_NOSIGNAL)]
    if how < 2:
        t.client.wait(c, 1)
    said += [c.recv(4), t.client.poll(c)]
    return said


@case("shutdown({first}), then shutdown({second})", first=HOW, second=HOW)
def orders(t, first, second):
    c, s = t.connected()
    said = [c.shutdown(first), c.shutdown(second)]
    if first or second:
        said.append(s.recv(1))
    return [*said, t.client.poll(c), c.send(b"x", S.MSG_NOSIGNAL)]


@case("shutdown() with {how}", LOCAL, how=[3, -1])
def bad(t, how):
    c, _ = t.connected()
    return [c.shutdown(how)]


@case("half-close: data still flows the other way")
def half(t):
    c, s = t.connected()
    return [c.send(b"question"), c.shutdown(1), s.recv(20), s.recv(1), s.send(b"answer"), s.close(),
            c.recv(20), c.recv(1), c.close()]


@case("shutdown() twice; after both sides have shut down")
def twice(t):
    c, s = t.connected()
    said = [c.shutdown(1), c.shutdown(1), s.recv(1), s.shutdown(1), c.recv(1)]
    return [*said, c.shutdown(2), s.shutdown(0), t.client.poll(c)]


@case("SO_LINGER 0: the peer's recv(), then its send()")
def reset(t):
    c, s = t.connected()
    return [c.setsockopt(1, 13, RESET), c.close(), t.server.wait(s, 1), s.recv(1), s.recv(1),
            s.send(b"x", S.MSG_NOSIGNAL), t.server.poll(s)]


@case("SO_LINGER 0: SO_ERROR of the peer, which then is clear")
def reset_error(t):
    c, s = t.connected()
    return [c.setsockopt(1, 13, RESET), c.close(), t.server.wait(s, 1),
            s.getsockopt(1, S.SO_ERROR), s.getsockopt(1, S.SO_ERROR), s.recv(1)]


@case("SO_LINGER 0: SIGPIPE of the peer")
def sigpipe(t):
    c, s = t.connected()
    return [c.setsockopt(1, 13, RESET), c.close(), t.server.wait(s, 1), s.recv(1),
            t.server.send_after_reset(s)]


@case("data that was sent before a reset is gone")
def reset_with_data(t):
    c, s = t.connected()
    return [c.send(b"lost"), c.setsockopt(1, 13, RESET), c.close(), t.server.wait(s, 8), s.recv(4)]


@case("close() with data unread: a reset")
def unread(t):
    c, s = t.connected()
    said = [c.send(b"unread"), t.server.wait(s, 1), s.close(), t.client.wait(c, 1)]
    return [*said, c.recv(1)]


@case("send() to a peer that has closed")
def after_close(t):
    c, s = t.connected()
    said = [s.close(), c.recv(1), c.send(b"x", S.MSG_NOSIGNAL), t.client.wait(c, 8)]
    return [*said, c.recv(1), c.send(b"x", S.MSG_NOSIGNAL), c.send(b"x", S.MSG_NOSIGNAL)]


@case("SO_LINGER 5: close() waits for the data to arrive")
def linger(t):
    c, s = t.connected()
    said = [c.setsockopt(1, 13, struct.pack("ii", 1, 5)), c.send(b"data"), c.close()]
    return [*said, s.recv(4), s.recv(1)]


@case("TCP_USER_TIMEOUT, TCP_LINGER2 and SO_LINGER together, then close()")
def together(t):
    c, s = t.connected()
    return [c.setsockopt(6, 18, 1000), c.setsockopt(6, 8, 3), c.close(), s.recv(1)]


@case("close() of the only descriptor ends the connection, close() of a dup() does not")
def dup(t):
    c, s = t.connected()
    d = c.dup()
    return [c.close(), d.send(b"open"), s.recv(4), d.close(), s.recv(1)]


@case("the end of a process resets nothing: its peer reads what it sent, then the end", REMOTE)
def process(t):
    listener = t.listen()
    said = [t.client.talk_in_child(t.address, t.port)]
    s = listener.accept()[0]
    return [*said, s.recv(20), s.recv(1)]


@case("a killed process: its peer sees the end", REMOTE)
def killed(t):
    listener = t.listen()
    child = t.client.hold_in_child(t.address, t.port)
    s = listener.accept()[0]
    child.close()
    return [s.recv(1)]
