# SPDX-License-Identifier: Apache-2.0
"""Sockets that Slim does not swap. How they reach other hosts: tests/e2e/test_unswapped.py."""

from registry import LOCAL, case, group

group("Sockets that are not swapped")


@case("UDP: names and a datagram each way")
def udp(t):
    s, c = t.server.socket(t.family, 2), t.client.socket(t.family, 2)
    said = [s.bind((t.any, t.port)), c.connect(t.to), t.client.both_names(c), c.send(b"ask")]
    data, peer = s.recvfrom(10)
    said += [data, peer, s.sendto(b"answer", peer), c.recv(10)]
    return said


@case("UDP to a closed port: ECONNREFUSED")
def udp_refused(t):
    c = t.client.socket(t.family, 2)
    said = [c.connect(t.to), c.send(b"x"), t.client.wait(c, 8)]
    return [*said, c.recv(1)]


@case("AF_UNIX: a stream by a path")
def unix(t):
    return [t.server.unix_echo(f"{t.world.directory}/{t.world.kind}-{t.port}-unix")]


@case("ICMP by a raw socket: an echo answered", ("remote", "own"))
def icmp(t):
    return [t.client.ping(t.address)]


@case("AF_PACKET: bound to the own device", LOCAL)
def packet(t):
    return [t.server.packet_socket()]


@case("AF_NETLINK: the list of links has lo and the own device", LOCAL)
def netlink(t):
    return [t.server.link_names()]


@case("MPTCP: {what}", what=["MPTCP to MPTCP", "MPTCP to TCP", "TCP to MPTCP"])
def mptcp(t, what):
    client, server = [262 if w == "MPTCP" else 0 for w in what.split(" to ")]
    s = t.server.socket(t.family, 1, server)
    s.setsockopt(1, 2, 1)  # SO_REUSEADDR: natively the port is the one that a Slim socket has by VXLAN
    s.bind((t.any, t.port))
    s.listen(1)
    c = t.client.socket(t.family, 1, client)
    c.settimeout(8)
    said = [c.connect(t.to)]
    if said != ["ok"]:
        return said
    a, peer = s.accept()
    return [*said, t.client.both_names(c), peer, c.send(b"mptcp"), a.recv(5)]


@case("MPTCP: what a socket says it is: SO_PROTOCOL, MPTCP_INFO", LOCAL)
def mptcp_names(t):
    s = t.server.socket(t.family, 1, 262)
    return [s.getsockopt(1, 38, 4), s.getsockopt(284, 1, 4)]


@case("io_uring: CONNECT, SEND, RECV on a socket of socket()", ("remote",))
def uring_client(t):
    s = t.listen()
    answer = t.client.later(None, "program", "matrix-uring", "client", t.address, t.port)
    a = s.accept()
    a[0].send(b"hello")
    said = [a[0].recv(5), a[1]]
    return [*said, answer()]


@case("io_uring: ACCEPT on a listener of socket()", ("remote",))
def uring_server(t):
    said = [t.server.start_program("matrix-uring", "server", t.port)]
    c = t.client.socket(t.family, 1)
    said += [c.connect(t.to), c.send(b"hello"), c.recv(5)]
    return [*said, t.server.program_said()]


@case("io_uring: SOCKET makes a listener and a client, which meet", LOCAL)
def uring_socket(t):
    return [t.server.program("matrix-uring", "socket", t.port)]


@case("a 32-bit program: socket(), bind(), listen(), connect(), accept() within itself, by {how}", LOCAL,
      how=["socketcall()", "system calls of their own"])
def i386(t, how):
    return [t.server.program("matrix-i386", "call" if how == "socketcall()" else "own", t.port)]


@case("x32's socket()", LOCAL)
def x32(t):
    return [t.server.program("matrix-uring", "x32")]


@case("int 0x80's socket() in a 64-bit program", LOCAL)
def int80(t):
    return [t.server.program("matrix-uring", "int80")]
