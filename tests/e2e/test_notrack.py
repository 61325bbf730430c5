# SPDX-License-Identifier: Apache-2.0
"""slimd --notrack: TCP between containers is not tracked, and all that is translated still is."""

import itertools
import re

import pytest

from conftest import lab_with
from remote import Remote

OUTSIDE = "192.0.2.254"  # "net", another machine of the underlay
SLIM_PORT = 61500


@pytest.fixture(scope="module")
def untracked():
    with lab_with("--notrack") as lab:
        yield lab


def tracked(lab, host):
    """{(protocol, destination port)} of what the host's kernel has seen begin."""
    text = lab.host(host, "cat", "/proc/net/nf_conntrack").stdout
    return {(m[1], int(m[2])) for m in re.finditer(r"\b(tcp|udp) .*?dport=(\d+)", text)}


def slim_ports(seen):
    return {s for s in seen if s[0] == "tcp" and 61440 <= s[1] <= 61695}


PORTS = itertools.count(7000)


@pytest.mark.parametrize("client_host,address", [("h1", "overlay"), ("h2", "overlay"), ("h2", "loopback")])
def test_between_containers(untracked, client_host, address):
    port = next(PORTS)
    with Remote.slim(untracked, "h2", f"server{port}") as server:
        server.do(f"l = listen('', {port})")
        to = "127.0.0.1" if address == "loopback" else untracked.ip(f"server{port}")
        with Remote.slim(untracked, client_host, f"client{port}") as other:
            client = server if address == "loopback" else other
            client.do(f"c = connect('{to}', {port})")
            server.do("s, _ = l.accept(); s.settimeout(60)")
            client.do("c.sendall(b'x' * 100000)")
            assert server("len(s.makefile('rb').read(100000))") == 100000
            server.do("s.sendall(b'y' * 100000)")
            assert client("len(c.makefile('rb').read(100000))") == 100000
    for host in ("h1", "h2"):
        assert not slim_ports(tracked(untracked, host))


def test_hosts_and_containers(untracked):
    port = next(PORTS)
    with Remote.slim(untracked, "h2", "hosted") as server, Remote.host(untracked, "h1") as host:
        server.do(f"l = listen('', {port})")
        host.do(f"c = connect('{untracked.ip('hosted')}', {port})")
        server.do("s, _ = l.accept(); s.sendall(b'z')")
        assert host("c.recv(1)") == b"z"
    for name in ("h1", "h2"):
        assert not slim_ports(tracked(untracked, name))


@pytest.mark.parametrize("port", [80, SLIM_PORT])
def test_masqueraded(untracked, port):
    """A plain container's way out, to a port of another machine that is a Slim port of none of the cluster's."""
    with Remote.host(untracked, "net") as outside, Remote.plain(untracked, "h1", f"plain{port}") as plain:
        outside.do(f"l = listen('{OUTSIDE}', {port})")
        plain.do(f"c = connect('{OUTSIDE}', {port}, source=('', {SLIM_PORT}))")
        outside.do("s, who = l.accept(); s.sendall(b'w')")
        assert plain("c.recv(1)") == b"w"
        name, source = outside("who")
        assert name == "192.0.2.1" and not 61440 <= source <= 61695
    assert ("tcp", port) in tracked(untracked, "h1")


def test_a_host_that_comes_later(untracked):
    """The hosts whose answers are left out are those of the cluster as it is."""
    rules = untracked.host("h1", "nft", "list", "set", "ip", "slim", "hosts").stdout
    assert "192.0.2.1" in rules and "192.0.2.2" in rules
    untracked.verb("daemon", "h2", "stop")
    untracked.verb("daemon", "h2", "start")
    assert "notrack" in untracked.host("h1", "nft", "list", "chain", "ip", "slim", "slim_in").stdout
    # Without the option it tracks them again.
    assert "slim_in" not in untracked.host("h2", "nft", "list", "table", "ip", "slim").stdout
    with Remote.slim(untracked, "h2", "again") as server, Remote.host(untracked, "h1") as host:
        server.do("l = listen('', 7999)")
        host.do(f"c = connect('{untracked.ip('again')}', 7999)")
        assert slim_ports(tracked(untracked, "h2"))
