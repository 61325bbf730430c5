# SPDX-License-Identifier: Apache-2.0
"""
Many short connections from one client to one server: none fails and nothing of them is left. And the
same with SYN cookies for all, where the server's kernel keeps nothing between SYN and ACK.
"""

import contextlib
import os
import pathlib
import subprocess

import pytest

from conftest import descriptors, wait_until
from remote import Remote

SOURCE = pathlib.Path(__file__).with_name("short-connections.c")

CONNECTIONS = 100000


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("many") / "short-connections"
    subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", path, SOURCE], check=True)
    return str(path)


# The broker has a queue of each family for its container from then on.
QUEUES = "[socket.socket(f).close() for f in (socket.AF_INET, socket.AF_INET6) * 3]"


@pytest.fixture(scope="module")
def server(lab):
    with Remote.slim(lab, "h1", "server") as r:
        r.do(QUEUES)
        yield r


@pytest.fixture(scope="module")
def client(lab):
    with Remote.slim(lab, "h2", "client") as r:
        r.do(QUEUES)
        yield r


def sockets(pid):
    """Without what else a broker keeps: directories of its last few callers."""
    links = []
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):  # closed meanwhile
            links.append(os.readlink(entry.path))
    return sum(link.startswith("socket:") for link in links)


# Of a broker with two queues: two ends and a spare one each, a pool of 16 for each family, of which a
# few may be missing, and those that it asks the container's namespace by.
BROKER_SOCKETS = 2 * 3 + 2 * 16 + 4


def footprint(lab, server, client):
    """Entries of the maps and descriptors of all who have to do with a connection, on both hosts."""
    found = {}
    for host, r in ("h1", server), ("h2", client):
        status = lab.ctl(host, "status")
        found[host] = {"maps": status["maps"],
                       "slimd": descriptors(status["pid"]),
                       "broker": sockets(lab.ctl(host, "endpoint", "show", r.name)
                                         ["endpoint"]["broker_pid"]) <= BROKER_SOCKETS,
                       "program": r("len(os.listdir('/proc/self/fd'))")}
    return found


def begin(r, *argv):
    """The program, in the background of an interpreter."""
    r.do(f"p = subprocess.Popen({list(map(str, argv))!r}, stdin=subprocess.DEVNULL, "
         "stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)")


def run_all(lab, program, server, client, n):
    """All of n connections, one after another. The server's descriptors, before and after."""
    begin(server, program, "serve", 6000, n)
    try:
        assert server("p.stdout.readline()") == "ready\n"
        client.do(f"r = subprocess.run([{program!r}, 'connect', '{lab.ip(server.name)}', '6000', "
                  f"'{n}'], capture_output=True, text=True)")
        assert client("r.stdout + r.stderr") == f"{n} connections\n"
        said = server("p.stdout.readline()")
        assert said.startswith(f"{n} connections from {lab.ip(client.name)}, "), said
        return tuple(map(int, said.split()[-3:-1]))
    finally:
        server.do("p.kill(); p.wait(); p.stdout.close()")


def test_many_short_connections(lab, program, server, client):
    # The broker's pool of sockets and everyone's buffers are what they are going to be.
    run_all(lab, program, server, client, 1000)
    before = footprint(lab, server, client)
    accepted = lab.ctl("h1", "status")["counters"]["syn_accepted"]

    opened, left = run_all(lab, program, server, client, CONNECTIONS)
    assert opened == left

    # The client's last close() and the broker's next socket may take a moment.
    after = []

    def is_as_before():
        after.append(footprint(lab, server, client))
        return after[-1] == before

    wait_until(is_as_before, lambda: f"nothing to be left; before: {before}, now: {after[-1]}")
    # One SYN each, all of them Slim's. A lost one would have come again.
    assert lab.ctl("h1", "status")["counters"]["syn_accepted"] - accepted == CONNECTIONS
    # The descriptors are there to be counted: one more listener is one more.
    server.do("another = listen('0.0.0.0', 6001)")
    now = footprint(lab, server, client)["h1"]
    assert now["program"] == before["h1"]["program"] + 1
    assert now["maps"]["listeners"] == before["h1"]["maps"]["listeners"] + 1
    assert now["maps"]["ports"] == before["h1"]["maps"]["ports"] + 1
    server.do("another.close()")


def test_both_ways_at_once(lab, program, server, client):
    """Each of the two a client and a server, with the same port numbers on both sides."""
    n = 3000
    before = footprint(lab, server, client)
    for r in server, client:
        begin(r, program, "serve", 6002, n)
        assert r("p.stdout.readline()") == "ready\n"
    for r, other in (server, client), (client, server):
        r.do(f"q = subprocess.Popen([{program!r}, 'connect', '{lab.ip(other.name)}', '6002', '{n}'], "
             "stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)")
    for r, other in (server, client), (client, server):
        assert r("q.communicate()[0]") == f"{n} connections\n"
        assert r("p.communicate()[0]").startswith(f"{n} connections from {lab.ip(other.name)}, ")
    wait_until(lambda: footprint(lab, server, client) == before,
               f"nothing to be left; before: {before}")


@pytest.mark.parametrize("address,family", [("0.0.0.0", "socket.AF_INET"),
                                            ("::", "socket.AF_INET6")])
def test_syn_cookies(lab, server, client, address, family):
    def setting(value):
        lab.host("h1", "sysctl", "-qw", f"net.ipv4.tcp_syncookies={value}")

    def cookies_sent():
        return int(lab.host("h1", "sh", "-c", "nstat -asz TcpExtSyncookiesSent | tail -n 1")
                   .stdout.split()[1])

    with Remote.slim(lab, "h1", "neighbour") as near:
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
            # It was cookies that it went by, but for a SYN that met its port's TIME_WAIT.
            assert cookies_sent() - before > 50
            wait_until(lambda: lab.ctl("h1", "status")["maps"]["syns"] == 0, "no SYN to be left")
        finally:
            setting(1)


def test_each_container_has_a_range_of_ports(lab, server):
    """Clients on one host do not take the source ports of one another."""
    ports = 60
    lab.host("h2", "sysctl", "-qw", f"net.ipv4.ip_local_port_range=40000 {40000 + ports - 1}")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Remote.slim(lab, "h2", f"many{i}")) for i in range(4)]
        server.do("l = listen('0.0.0.0', 6004, backlog=512)")
        for c in clients:
            c.do(f"""
held, refused = [], ''
try:
    while len(held) <= {ports}:
        held.append(connect('{lab.ip('server')}', 6004))
except OSError as e:
    refused = errno.errorcode[e.errno]
""")
            assert c("refused") == "EADDRNOTAVAIL"
        # Each all of it, unless chance has given two of them one Slim port: that is 1 in 40.
        assert sorted(c("len(held)") for c in clients)[-2:] == [ports, ports]
        server.do("l.close()")
    lab.host("h2", "sysctl", "-qw", "net.ipv4.ip_local_port_range=32768 60999")
