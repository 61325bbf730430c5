# SPDX-License-Identifier: Apache-2.0
"""
Many short connections from one client to one server: none fails and nothing of them is left. And the
same with SYN cookies for all, where the server's kernel keeps nothing between SYN and ACK.
"""

import os

import pytest

from conftest import wait_until
from remote import Remote

CONNECTIONS = 100000

# The server closes first and says who it saw. So the client's ports are free again at once, as they
# have to be: one address has 28,232 of them; and the server's host, with 60 s of TIME_WAIT for each,
# has to take a SYN from a port that it remembers.
SERVE = """
def serve(l, n):
    # How many connections came, and from which addresses; and the first port that was not a client's.
    seen = set()
    for i in range(n):
        c, (address, port) = l.accept()
        seen.add(address)
        c.send(port.to_bytes(2, 'big'))
        c.close()
    return i + 1, sorted(seen)
"""

CONNECT = """
def connect_all(where, n):
    # [number, what happened], of those that did not go as they should.
    wrong = []
    make, stream = socket.socket, socket.AF_INET
    for i in range(n):
        s = make()
        try:
            s.connect(where)
            mine = s.getsockname()[1]
            if int.from_bytes(s.recv(2), 'big') != mine:
                wrong.append((i, 'another port than %d' % mine))
            elif s.recv(1) != b'':
                wrong.append((i, 'no end'))
        except OSError as e:
            wrong.append((i, repr(e)))
            if len(wrong) > 9:
                break
        s.close()
    return wrong
"""


@pytest.fixture(scope="module")
def server(lab):
    with Remote.slim(lab, "h1", "server") as r:
        r.do(SERVE)
        yield r


@pytest.fixture(scope="module")
def client(lab):
    with Remote.slim(lab, "h2", "client") as r:
        r.do(CONNECT)
        yield r


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def footprint(lab, server, client):
    """Entries of the maps and descriptors of all who have to do with a connection, on both hosts."""
    found = {}
    for host, r in ("h1", server), ("h2", client):
        status = lab.ctl(host, "status")
        found[host] = {"maps": status["maps"],
                       "slimd": descriptors(status["pid"]),
                       "broker": descriptors(lab.ctl(host, "endpoint", "show", r.name)
                                             ["endpoint"]["broker_pid"]),
                       "program": r("len(os.listdir('/proc/self/fd'))")}
    return found


def run_all(server, client, where, n):
    server.send("eval", f"serve(l, {n})")
    wrong = client(f"connect_all({where!r}, {n})")
    if wrong:
        pytest.fail(f"of {n} connections: {wrong}")
    return server.receive()


def test_many_short_connections(lab, server, client):
    server.do("l = listen('0.0.0.0', 6000)")
    where = (lab.ip("server"), 6000)
    # The broker's pool of sockets and everyone's buffers are what they are going to be.
    run_all(server, client, where, 1000)
    before = footprint(lab, server, client)
    accepted = lab.ctl("h1", "status")["counters"]["syn_accepted"]

    assert run_all(server, client, where, CONNECTIONS) == (CONNECTIONS, [lab.ip("client")])

    # The client's last close() and the broker's next socket may take a moment.
    wait_until(lambda: footprint(lab, server, client) == before,
               f"nothing to be left; before: {before}")
    # One SYN each, all of them Slim's. A lost one would have come again.
    assert lab.ctl("h1", "status")["counters"]["syn_accepted"] - accepted == CONNECTIONS
    # The descriptors are there to be counted: one more listener is one more.
    server.do("another = listen('0.0.0.0', 6001)")
    assert footprint(lab, server, client)["h1"]["program"] == before["h1"]["program"] + 1
    assert (footprint(lab, server, client)["h1"]["maps"]["listeners"]
            == before["h1"]["maps"]["listeners"] + 1)
    server.do("another.close(); l.close()")


def test_both_ways_at_once(lab, server, client):
    """Each of the two a client and a server, with the same port numbers on both sides."""
    for r in server, client:
        r.do(SERVE + CONNECT + "l = listen('0.0.0.0', 6002)")
    before = footprint(lab, server, client)
    for r, other in (server, "client"), (client, "server"):
        r.do("results = {}\n"
             "t = threading.Thread(target=lambda: results.update(served=serve(l, 3000))); t.start()")
    for r, other in (server, "client"), (client, "server"):
        r.send("eval", f"connect_all(({lab.ip(other)!r}, 6002), 3000)")
    assert (server.receive(), client.receive()) == ([], [])
    for r, other in (server, "client"), (client, "server"):
        r.do("t.join()")
        assert r("results['served']") == (3000, [lab.ip(other)])
    wait_until(lambda: footprint(lab, server, client) == before,
               f"nothing to be left; before: {before}")
    for r in server, client:
        r.do("l.close()")


@pytest.mark.parametrize("address,family", [("0.0.0.0", "socket.AF_INET"),
                                            ("::", "socket.AF_INET6")])
def test_syn_cookies(lab, server, client, address, family):
    def setting(value):
        lab.host("h1", "sysctl", "-qw", f"net.ipv4.tcp_syncookies={value}")

    def cookies_sent():
        return int(lab.host("h1", "sh", "-c", "nstat -asz TcpExtSyncookiesSent | tail -n 1")
                   .stdout.split()[1])

    with Remote.slim(lab, "h1", "neighbour") as near:
        near.do(CONNECT)
        setting(2)
        try:
            before = cookies_sent()
            server.do(f"l = listen('{address}', 6003, {family})")
            for c in client, near, server:
                mapped = "" if address == "0.0.0.0" else "::ffff:"
                for _ in range(20):
                    c.do(f"s = connect('{lab.ip('server')}', 6003, source=('0.0.0.0', 0))")
                    name, peer = c("names(s)")
                    assert name[0] == lab.ip(c.name)
                    seen = (mapped + name[0], name[1])
                    server.do("c, who, seen = accept(l)")
                    assert server("(who, seen)") == (seen, ((mapped + peer[0], 6003), seen))
                    c.do("s.sendall(b'hello')")
                    assert server("c.recv(9)") == b"hello"
                    server.do("c.close()")
                    c.do("s.close()")
            server.do("s = connect('127.0.0.1', 6003)")
            assert server("accept(l)[1][1]") == server("s.getsockname()[1]")
            server.do("s.close(); l.close()")
            assert client(f"connect_error('{lab.ip('server')}', 6003)") == "ECONNREFUSED"
            # It was cookies that it went by: all the cluster's SYNs to h1.
            assert cookies_sent() - before >= 61
            wait_until(lambda: lab.ctl("h1", "status")["maps"]["syns"] == 0, "no SYN to be left")
        finally:
            setting(1)
