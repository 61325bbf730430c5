# SPDX-License-Identifier: Apache-2.0
"""The ways to send and to receive."""

import socket as S
import struct

from registry import LOCAL, case, group

group("Data")

MSG_ZEROCOPY = 0x4000000


@case("send() and recv(), both ways")
def both_ways(t):
    c, s = t.connected()
    return [c.send(b"ping"), s.recv(10), s.send(b"pong"), c.recv(10)]


@case("a megabyte, both ways at once")
def megabyte(t):
    c, s = t.connected()
    server = t.server.echo_all(s)
    said = t.client.sum_through(c, 1 << 20)
    server.wait()
    return said


@case("MSG_PEEK, MSG_TRUNC, MSG_WAITALL, MSG_DONTWAIT")
def flags(t):
    c, s = t.connected()
    said = [s.recv(1, S.MSG_DONTWAIT), c.send(b"abcdef"), t.server.wait(s, 1),
            s.recv(3, S.MSG_PEEK), s.recv(3, S.MSG_PEEK), s.recv(6, S.MSG_WAITALL)]
    c.send(b"ghijkl")
    t.server.wait(s, 1)
    return [*said, t.server.recv_truncated(s, 4), s.recv(2)]


@case("SO_PEEK_OFF moves with MSG_PEEK")
def peek_off(t):
    c, s = t.connected()
    c.send(b"abcdef")
    t.server.wait(s, 1)
    return [s.setsockopt(1, 42, 1), s.recv(2, S.MSG_PEEK), s.recv(2, S.MSG_PEEK), s.recv(3)]


@case("MSG_MORE holds data back until the next send()")
def more(t):
    c, s = t.connected()
    return [c.send(b"head", S.MSG_MORE), c.send(b"tail"), t.server.wait(s, 1),
            s.recv(8, S.MSG_WAITALL)]


@case("send() with {flag}", flag={
    "MSG_NOSIGNAL": 0x4000,
    "MSG_EOR": 0x80, "MSG_CONFIRM": 0x800, "MSG_DONTROUTE": 4, "an unknown flag": 0x100000})
def odd_flags(t, flag):
    c, s = t.connected()
    return [c.send(b"x", flag), s.recv(1)]


@case("read(), write(), readv(), writev()")
def vectors(t):
    c, s = t.connected()
    return [t.client.write(c, b"one"), t.server.read(s, 3), t.client.writev(c, [b"a", b"", b"bcd"]),
            t.server.wait(s, 1), t.server.readv(s, [1, 2, 5])]


@case("sendmsg() and recvmsg(): flags and ancillary data")
def messages(t):
    c, s = t.connected()
    return [c.sendmsg([b"a", b"bc"]), t.server.message(s, 3, 0), c.send(b"xyz"),
            t.server.wait(s, 1), t.server.message(s, 1, 0),
            t.server.message(s, 2, S.MSG_PEEK)]


@case("sendmsg() with SCM_RIGHTS on TCP")
def rights(t):
    c, s = t.connected()
    return [c.sendmsg([b"a"], [(1, 1, struct.pack("i", 0))]), t.server.poll(s, 0)]


@case("sendmsg() with ancillary data: {what}", what={
    "unknown SOL_SOCKET type": (1, 99, b"\0\0\0\0"), "SO_MARK": (1, 36, b"\1\0\0\0"),
    "SO_TIMESTAMPING": (1, 37, b"\2\0\0\0"), "IP_TTL": (0, 2, b"\x40\0\0\0"),
    "IPPROTO_TCP": (6, 1, b"\0\0\0\0")})
def ancillary(t, what):
    c, s = t.connected()
    level, kind, data = what
    return [c.sendmsg([b"a"], [(level, kind, data)])]


@case("sendmmsg() and recvmmsg()")
def many(t):
    c, s = t.connected()
    said = t.client.sendmmsg(c, [b"one", b"two!", b"three"])
    return [said, t.server.wait(s, 1), t.server.recvmmsg(s, [3, 4, 5], S.MSG_WAITALL)]


@case("sendfile() to a socket")
def sendfile(t):
    c, s = t.connected()
    f = t.client.file_with(b"0123456789" * 1000)
    n = t.client.sendfile(c, f, 10000)
    return [n, t.server.drain(s, 10000)]


@case("splice() from a pipe into a socket and from the socket into a pipe; tee()")
def splice(t):
    c, s = t.connected()
    return [t.client.splice_out(c, b"spliced"), t.server.wait(s, 1), t.server.splice_in(s, 7)]


@case("splice() from one socket to another")
def splice_sockets(t):
    c, s = t.connected()
    c.send(b"x")
    t.server.wait(s, 1)
    return [t.server.splice_sockets(s, s, 1)]


@case("MSG_ZEROCOPY: the data, and word on the error queue")
def zerocopy(t):
    c, s = t.connected()
    data = bytes(range(256)) * 256
    said = [c.setsockopt(1, 60, 1), c.send(data, MSG_ZEROCOPY), t.server.drain(s, len(data)),
            t.client.wait(c, 8)]
    return [*said, t.client.zerocopy_word(c)]


@case("MSG_ZEROCOPY without SO_ZEROCOPY")
def zerocopy_without(t):
    c, s = t.connected()
    return [c.send(b"data", MSG_ZEROCOPY), s.recv(4), c.recv(1, S.MSG_ERRQUEUE)]


@case("MSG_ERRQUEUE with nothing in it")
def error_queue(t):
    c, _ = t.connected()
    return [c.recv(1, S.MSG_ERRQUEUE | S.MSG_DONTWAIT)]


@case("recv() into nothing, send() of nothing")
def nothing(t):
    c, s = t.connected()
    return [c.send(b""), c.recv(0, S.MSG_DONTWAIT), t.server.poll(s)]


@case("SO_RCVTIMEO ends a recv(): EAGAIN")
def timeout(t):
    c, _ = t.connected()
    return [c.setsockopt(1, S.SO_RCVTIMEO, struct.pack("ll", 0, 50000)), c.recv(1)]


@case("SO_RCVLOWAT: poll() waits for so much")
def low_water(t):
    c, s = t.connected()
    said = [s.setsockopt(1, S.SO_RCVLOWAT, 4), c.send(b"ab")]
    s2 = [t.server.poll(s, 1)]
    return [*said, *s2, c.send(b"cd"), t.server.wait(s, 1), s.recv(9)]


@case("recv(), interrupted by a signal", LOCAL)
def interrupted(t):
    c, _ = t.connected()
    return [t.server.interrupted(c, "recv")]


@case("recv() of a socket that another thread shuts down", LOCAL)
def shut_elsewhere(t):
    c, _ = t.connected()
    return [t.server.close_while_reading(c)]


@case("SIGIO for data")
def sigio(t):
    c, s = t.connected()
    waiting = t.server.sigio(s)
    c.send(b"x")
    return [waiting.wait()]


@case("{option}: the time of receipt beside the data", option={"SO_TIMESTAMP": 29, "SO_TIMESTAMPNS": 35})
def timestamps(t, option):
    c, s = t.connected()
    said = [s.setsockopt(1, option, 1)]
    return [*said, first_with_time(t, c, s)]


def first_with_time(t, c, s):
    """The kernel begins to take times some while after the first socket that asks for them."""
    for _ in range(500):
        c.send(b"x")
        t.server.wait(s, 1)
        found = t.server.message(s, 1, 0)
        if found[2]:
            break
        t.server.pause()
    return found


@case("SO_TIMESTAMPING: software time of receipt, and of sending on the error queue")
def timestamping(t):
    c, s = t.connected()
    # SOFTWARE | RX_SOFTWARE; SOFTWARE | TX_SOFTWARE | OPT_ID | OPT_TSONLY | TX_ACK
    said = [s.setsockopt(1, 37, 0x18), first_with_time(t, c, s),
            c.setsockopt(1, 37, 0x10 | 2 | 0x80 | 0x800 | 0x200), c.send(b"x"), t.client.wait(c, 8)]
    return [*said, t.client.timestamp_word(c)]


@case("TCP_INQ: how much more there is")
def inq(t):
    c, s = t.connected()
    said = [s.setsockopt(6, 36, 1), c.send(b"abcdef"), t.server.wait(s, 1)]
    return [*said, t.server.recv_inq(s, 2)]


@case("TCP_ZEROCOPY_RECEIVE of two pages")
def zerocopy_receive(t):
    c, s = t.connected()
    c.send(bytes(8192))
    t.server.wait(s, 1)
    return [t.server.zerocopy_receive(s, 8192)]


@case("SO_ATTACH_FILTER: a filter that passes all, one that passes no reset")
def filters(t):
    c, s = t.connected()
    said = [t.server.attach_filter(s), c.send(b"data"), s.recv(4), t.server.drop_resets(s)]
    said += [c.setsockopt(1, S.SO_LINGER, b"\1\0\0\0\0\0\0\0"), c.close()]
    return [*said, t.server.poll(s), s.setsockopt(1, 27, 0)]


@case("send() to a peer that has closed: ECONNRESET or EPIPE, and SIGPIPE", LOCAL)
def closed_peer(t):
    c, s = t.connected()
    said = [s.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0"), s.close()]
    return [*said, t.client.wait(c, 1), t.client.send_after_reset(c)]
