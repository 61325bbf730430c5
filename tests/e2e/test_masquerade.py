# SPDX-License-Identifier: Apache-2.0
"""slimd --no-masquerade: what goes out, what does not, and that nothing is tracked for it."""

import pytest

from conftest import lab_with, wait_until
from remote import Remote
from test_policy import ASK, SERVE

H1, OUTSIDE = "192.0.2.1", "192.0.2.254"  # "net", another machine of the underlay


@pytest.fixture(scope="module")
def bare():
    with lab_with("--no-masquerade") as lab:
        yield lab


@pytest.fixture(scope="module")
def world(bare):
    with Remote.slim(bare, "h1", "slim") as slim, Remote.plain(bare, "h1", "plain") as plain, \
            Remote.plain(bare, "h2", "far") as far, Remote.slim(bare, "h2", "web") as web, \
            Remote.host(bare, "net") as net, Remote.host(bare, "h1") as host:
        there = {"slim": slim, "plain": plain, "far": far, "web": web, "net": net, "h1": host}
        for r in there.values():
            r.do(SERVE + ASK + "\nserve(80); serve_udp(5353)")
        yield there


def is_tracking(lab, host):
    """Whether the kernel looks at this host's packets for their flows: then it has some in a moment."""
    return any("dport=" in line for line in
               lab.host(host, "cat", "/proc/net/nf_conntrack").stdout.splitlines())


def test_within_the_overlay(bare, world):
    for client in ("slim", "plain", "far"):
        for server in ("web", "far", "plain"):
            if client != server:
                assert world[client](f"ask('{bare.ip(server)}', 80)") == "ok"
                assert world[client](f"ask_udp('{bare.ip(server)}', 5353)") == "ok"
    # This host is no other network.
    assert world["plain"](f"ask('{H1}', 80)") == "ok"
    assert world["h1"](f"ask('{bare.ip('plain')}', 80)") == "ok"


def test_outside(bare, world):
    assert world["slim"](f"ask('{OUTSIDE}', 80)") == "ok"
    world["net"].do("s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x800))\n"
                    "s.setblocking(False)")
    assert world["plain"](f"ask('{OUTSIDE}', 80)") == "silence"
    assert world["slim"](f"ask_udp('{OUTSIDE}', 5353)") == "silence"
    assert world["h1"](f"ask_udp('{OUTSIDE}', 5353)") == "ok"
    world["net"].do("""
seen = set()
with contextlib.suppress(BlockingIOError):
    while True:
        seen.add(socket.inet_ntoa(s.recv(2048)[12:16]))
s.close()
""")
    assert H1 in world["net"]("seen")  # it would have seen the others
    assert not {a for a in world["net"]("seen") if a.startswith("10.77.")}
    assert not is_tracking(bare, "h1")


def test_from_outside(bare, world):
    """There is no way in, nor out as an answer to it."""
    bare.host("net", "ip", "route", "add", "10.77.0.0/16", "via", H1)
    try:
        for server in ("slim", "plain"):
            assert world["net"](f"ask('{bare.ip(server)}', 80)") == "silence"
            assert world["net"](f"ask_udp('{bare.ip(server)}', 5353)") == "silence"
    finally:
        bare.host("net", "ip", "route", "del", "10.77.0.0/16")


def test_published_by_translation(bare, world):
    """While there is such a port the kernel tracks, and what is masqueraded elsewhere stays inside."""
    options = ["--publish", "8081:80", "--publish", "5354:5353/udp"]
    with Remote.plain(bare, "h1", "shown", options=options) as shown:
        shown.do(SERVE + ASK + "\nserve(80); serve_udp(5353)")
        assert world["net"](f"ask('{H1}', 8081)") == "ok"
        assert world["net"](f"ask_udp('{H1}', 5354)") == "ok"
        assert world["far"](f"ask('{H1}', 8081)") == "silence"  # which is outside for h2
        assert shown(f"ask('{OUTSIDE}', 80)") == shown(f"ask_udp('{OUTSIDE}', 5353)") == "silence"
        assert is_tracking(bare, "h1")
    wait_until(lambda: "ct " not in bare.host("h1", "nft", "list", "table", "ip", "slim").stdout,
               "the translations to go")
    bare.host("h1", "sh", "-c", "echo 1 >/proc/sys/net/netfilter/nf_conntrack_udp_timeout")
    assert world["slim"](f"ask('{OUTSIDE}', 80)") == "ok"


def test_a_restart_without_the_option(bare, world):
    bare.verb("daemon", "h1", "stop")
    bare.verb("daemon", "h1", "start")
    assert world["plain"](f"ask('{OUTSIDE}', 80)") == world["plain"](f"ask_udp('{OUTSIDE}', 5353)") == "ok"
    assert is_tracking(bare, "h1")
