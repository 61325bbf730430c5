# SPDX-License-Identifier: Apache-2.0
"""
IPv6 as IPv4's equal: overlays of either family and of both, over underlays of either and of both; TCP
between Slim containers with nothing in VXLAN wherever the families leave a direct way, all the rest by
VXLAN; real programs; extension headers; the way out.
"""

import contextlib
import itertools
import json
import pathlib
import re
import shutil
import subprocess

import pytest

from conftest import lab_up, wait_until
from remote import PYTHON, Moved, Remote
from test_policy import policy

# underlay, overlay: the four combinations, and those of two families.
LABS = [("4", "4"), ("4", "6"), ("6", "4"), ("6", "6"), ("46", "46")]

KINDS = {"client": ("h1", "slim"), "near": ("h1", "slim"), "server": ("h2", "slim"),
         "plain": ("h2", "plain")}


class World:
    """A lab and its containers, and what it has of each family."""

    def __init__(self, lab, underlay, overlay, stack):
        self.lab, self.underlay, self.overlay = lab, underlay, overlay
        self.containers = {name: stack.enter_context(getattr(Remote, kind)(lab, host, name))
                           for name, (host, kind) in KINDS.items()}

    def __getitem__(self, name):
        return self.containers[name]

    def ip(self, name, family):
        return self.lab.ip(name, family)

    def families(self):
        return list(self.overlay)

    def direct(self, family):
        """Whether a Slim connection of that family goes from host to host without VXLAN."""
        return family == "6" or "4" in self.underlay


@pytest.fixture(scope="module", params=LABS, ids=lambda p: f"underlay{p[0]}-overlay{p[1]}")
def world(request):
    underlay, overlay = request.param
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(lab_up(underlay=underlay, overlay=overlay))
        yield World(lab, underlay, overlay, stack)


@pytest.fixture(autouse=True)
def no_sockets_left(request):
    yield
    if "world" in request.fixturenames:
        for r in request.getfixturevalue("world").containers.values():
            r.do("for _s in [v for v in globals().values() if isinstance(v, socket.socket)]: "
                 "_s.close()")


def vxlan_packets(lab, host):
    link, = json.loads(lab.host(host, "ip", "-j", "-s", "link", "show", "slim-vxlan").stdout)
    return link["stats64"]["rx"]["packets"] + link["stats64"]["tx"]["packets"]


def socket_family(family):
    return "socket.AF_INET6" if family == "6" else "socket.AF_INET"


def exchange(server, client, address, port, listener, via):
    """
    A connection to address:port from a socket of family `via` to `listener` = (family, address). The
    names at the client, what accept() said, and the names at the server.
    """
    server.do(f"l = listen('{listener[1]}', {port}, {socket_family(listener[0])}, "
              "options=[(socket.SOL_SOCKET, socket.SO_REUSEADDR)])")
    client.do(f"s = connect('{address}', {port}, {socket_family(via)})")
    server.do("c, who, mine = accept(l)")
    found = client("names(s)"), server("who"), server("mine")
    for here, there, x, y in (client, server, "s", "c"), (server, client, "c", "s"):
        here.do(f"t = threading.Thread(target=lambda: ({x}.sendall(bytes(range(256)) * 1000), "
                f"{x}.shutdown(socket.SHUT_WR))); t.start()")
        there.do(f"got = {y}.makefile('rb').read()")
        assert there("got == bytes(range(256)) * 1000")
        here.do("t.join()")
    client.do("s.close()")
    server.do("c.close(); l.close()")
    return found


def mapped(address):
    return address if ":" in address else f"::ffff:{address}"


# --- TCP ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", [("client", "server"), ("server", "client"), ("client", "near"),
                                  ("client", "client")], ids="-".join)
def test_tcp(world, pair):
    a, b = pair
    for family in world.families():
        before = {h: vxlan_packets(world.lab, h) for h in ("h1", "h2")}
        own, other = world.ip(a, family), world.ip(b, family)
        wildcard = "::" if family == "6" else "0.0.0.0"
        for address in wildcard, other:
            mine, who, theirs = exchange(world[b], world[a], other, 7000, (family, address), family)
            assert mine[0][0] == own and mine[1] == (other, 7000)
            assert who == mine[0] and theirs == (mine[1], mine[0])
        moved = {h: vxlan_packets(world.lab, h) - n for h, n in before.items()}
        same_host = KINDS[a][0] == KINDS[b][0]
        if world.direct(family) or same_host:
            assert moved == {"h1": 0, "h2": 0}
        else:
            assert all(n > 0 for n in moved.values())


def test_tcp_from_port(world):
    """The port that the client binds is the one that the server sees."""
    for family in world.families():
        world["server"].do(f"l = listen('{'::' if family == '6' else '0.0.0.0'}', 7001, "
                           f"{socket_family(family)})")
        for source in "::" if family == "6" else "0.0.0.0", world.ip("client", family):
            port = 2300 + len(source)
            world["client"].do(f"s = connect('{world.ip('server', family)}', 7001, "
                               f"{socket_family(family)}, source=('{source}', {port}))")
            world["server"].do("c, who, mine = accept(l)")
            assert world["server"]("who") == (world.ip("client", family), port)
            world["client"].do("s.close()")
        world["server"].do("l.close()")


def test_dual_stack_listener(world):
    """One AF_INET6 listener, clients by each family and by v4-mapped addresses."""
    for family in world.families():
        own, other = world.ip("client", family), world.ip("server", family)
        mine, who, theirs = exchange(world["server"], world["client"], other, 7002, ("6", "::"), family)
        assert mine[0][0] == own
        assert who == (mapped(own), mine[0][1]) == theirs[1]
        assert theirs[0] == (mapped(other), 7002)
        mine, who, theirs = exchange(world["server"], world["client"], mapped(other), 7002,
                                     ("6", "::"), "6")
        assert mine == ((mapped(own), mine[0][1]), (mapped(other), 7002))
        assert who == mine[0] and theirs == (mine[1], mine[0])
    if "4" in world.families():
        # A v4-mapped client and a listener that is IPv4 alone.
        other = world.ip("server", "4")
        mine, who, theirs = exchange(world["server"], world["client"], mapped(other), 7002,
                                     ("4", "0.0.0.0"), "6")
        assert who == (world.ip("client", "4"), mine[0][1])


def test_plain_and_slim(world):
    for family in world.families():
        wildcard = "::" if family == "6" else "0.0.0.0"
        for a, b in ("client", "plain"), ("plain", "client"), ("server", "plain"), ("plain", "server"):
            own, other = world.ip(a, family), world.ip(b, family)
            mine, who, theirs = exchange(world[b], world[a], other, 7003, (family, wildcard), family)
            assert mine[0][0] == own and mine[1] == (other, 7003)
            assert who == mine[0] and theirs == (mine[1], mine[0])


def test_loopback(world):
    for address, family in ("::1", "6"), ("127.0.0.1", "4"), ("::ffff:127.0.0.1", "6"):
        for listener in ("6", "::"), (("4", "127.0.0.1") if "." in address else ("6", "::1")):
            mine, who, theirs = exchange(world["client"], world["client"], address, 7004, listener,
                                         family)
            assert mine[0][0] == address and mine[1] == (address, 7004)
        # Of nobody else.
        assert world["server"](f"connect_error('{address}', 7004, {socket_family(family)})") \
            == "ECONNREFUSED"


def test_refusals(world):
    client = world["client"]
    moved = Moved(world.lab, "h1")
    expected = {}
    for family in "4", "6":
        af = socket_family(family)
        nobody = {"4": "10.77.200.200", "6": "fd51:1e::dead:1"}[family]
        outside = {"4": "198.51.100.77", "6": "2001:db8:ffff::77"}[family]
        if family in world.families():
            assert client(f"connect_error('{world.ip('server', family)}', 1, {af})") == "ECONNREFUSED"
            assert client(f"connect_error('{nobody}', 80, {af})") == "EHOSTUNREACH"
            expected["connect_no_endpoint"] = expected.get("connect_no_endpoint", 0) + 1
            assert client(f"bind_error('{nobody}', 80, {af})") == "EADDRNOTAVAIL"
            assert client(f"bind_error('{world.ip('client', family)}', 80, {af})") == "bound"
            expected["bind_foreign_address"] = expected.get("bind_foreign_address", 0) + 1
        else:
            # No address of that family: there is no way for it at all.
            for address in nobody, outside:
                assert client(f"connect_error('{address}', 80, {af})") == "ENETUNREACH"
            expected["connect_no_address"] = expected.get("connect_no_address", 0) + 2
    # A scope would be the host's.
    for address in "fe80::1", "fe80::51:1eff:fe00:3", "ff02::1", "ff0e::1":
        client.do("s = socket.socket(socket.AF_INET6)\n"
                  f"e = s.connect_ex(('{address}', 80, 0, socket.if_nametoindex('lo')))\n"
                  "s.close()")
        assert client("errno.errorcode[e]") == "ENETUNREACH"
        expected["connect_scoped"] = expected.get("connect_scoped", 0) + 1
    client.do("s = socket.socket(socket.AF_INET6)\n"
              "e = 0\n"
              "try: s.bind(('fe80::51:1eff:fe00:3', 80, 0, socket.if_nametoindex('eth0')))\n"
              "except OSError as x: e = x.errno\n"
              "s.close()")
    assert client("errno.errorcode[e]") == "EADDRNOTAVAIL"
    expected["bind_foreign_address"] = expected.get("bind_foreign_address", 0) + 1
    assert moved(*expected) == expected


# --- what is not TCP ------------------------------------------------------------------------------


PING = ("p = subprocess.run(['ping', '-c2', '-i0.2', '-W20', *{options!r}, '{address}'], "
        "capture_output=True, text=True)")


def test_udp_and_ping(world):
    for family in world.families():
        af = socket_family(family)
        overhead = 48 if family == "6" else 28
        mtu = 1430 if "6" in world.underlay else 1450
        for a, b in ("client", "server"), ("client", "near"), ("server", "plain"):
            server, client = world[b], world[a]
            server.do(f"u = socket.socket({af}, socket.SOCK_DGRAM)\n"
                      f"u.bind(('{world.ip(b, family)}', 5000))")
            client.do(f"d = socket.socket({af}, socket.SOCK_DGRAM)")
            for size in 1, mtu - overhead, 8000:  # the last one in fragments
                client.do(f"d.sendto(bytes({size}), ('{world.ip(b, family)}', 5000))")
                server.do("m, who = u.recvfrom(1 << 16)")
                assert (server("len(m)"), server("who[0]")) == (size, world.ip(a, family))
                server.do("u.sendto(m, who)")
                client.do("m, who = d.recvfrom(1 << 16)")
                assert (client("len(m)"), client("who[:2]")) == (size, (world.ip(b, family), 5000))
            client.do(PING.format(options=[], address=world.ip(b, family)))
            assert "2 received" in client("p.stdout"), client("p.stdout + p.stderr")
            # The largest that needs no fragments, and one byte more.
            for size, fits in (mtu - overhead, True), (mtu - overhead + 1, False):
                client.do(PING.format(options=["-Mdo", f"-s{size}"], address=world.ip(b, family)))
                assert ("2 received" in client("p.stdout")) == fits
        for r in world.containers.values():
            r.do("if 'u' in globals(): u.close()")


def test_nobody_has_the_address(world):
    for family in world.families():
        nobody = {"4": "10.77.200.200", "6": "fd51:1e::dead:1"}[family]
        world["client"].do(PING.format(options=["-n"], address=nobody))
        assert "nreachable" in world["client"]("p.stdout"), world["client"]("p.stdout + p.stderr")


# ETHTOOL_STXCSUM: shall a device compute what a sender has left to it? Otherwise the kernel does.
CHECKSUMS = '''
import array, fcntl, socket, struct, sys
value = array.array("I", [0x17, int(sys.argv[1])])
request = struct.pack("16sP", b"slim-vxlan", value.buffer_info()[0])
fcntl.ioctl(socket.socket(type=socket.SOCK_DGRAM), 0x8946, request)
'''


@pytest.fixture
def rejects(world, tmp_path):
    """Nobody may be talked to, and everybody is told so."""
    path = tmp_path / "policy.yaml"
    path.write_text(json.dumps(policy("isolated", {}, "reject", policyTypes=["Ingress"])))
    world.lab.verb("ctl", "h1", "--", "policy", "apply", "-f", path)
    world.lab.ctl("h2", "policy", "ls")
    try:
        yield
    finally:
        world.lab.verb("ctl", "h1", "--", "policy", "rm", "isolated")
        world.lab.ctl("h2", "policy", "ls")


@pytest.mark.parametrize("checksums", [1, 0], ids=["by the device", "by the kernel"])
def test_rejects(world, rejects, checksums):
    """Each way of the encapsulated path, and the direct one."""
    for host in "h1", "h2":
        world.lab.host(host, PYTHON, "-c", CHECKSUMS, checksums)
    for family in world.families():
        af = socket_family(family)
        for a, b in (("plain", "client"), ("plain", "server"), ("client", "plain"),
                     ("server", "plain"), ("client", "server"), ("client", "near")):
            address = world.ip(b, family)
            assert world[a](f"connect_error('{address}', 80, {af})") == "ECONNREFUSED", (a, b)
            world[a].do(f"u = socket.socket({af}, socket.SOCK_DGRAM); u.settimeout(10)\n"
                        f"u.connect(('{address}', 80)); u.send(b'x' * 1000)\n"
                        "try: e = u.recv(1)\n"
                        "except OSError as x: e = errno.errorcode[x.errno]\n"
                        "u.close()")
            assert world[a]("e") == {"4": "EHOSTUNREACH", "6": "EACCES"}[family], (a, b)
            world[a].do(PING.format(options=["-n"], address=address))
            assert {"4": "Packet filtered", "6": "Administratively prohibited"}[family] in \
                world[a]("p.stdout"), world[a]("p.stdout + p.stderr")


def test_eth0(world):
    """What a container has, and that nothing of it waits for anything or asks anybody."""
    client = world["client"]
    client.do("a = json.loads(subprocess.run(['ip', '-j', 'addr', 'show', 'eth0'], "
              "capture_output=True, check=True).stdout)[0]['addr_info']\n"
              "r = subprocess.run(['ip', '-6', 'route'], capture_output=True, text=True).stdout\n"
              "n = subprocess.run(['ip', '-6', 'neigh'], capture_output=True, text=True).stdout")
    found = {(x["local"], x["prefixlen"]) for x in client("a")}
    expected = {(world.ip("client", f), {"4": 32, "6": 128}[f]) for f in world.families()}
    if "6" in world.families():
        expected.add(("fe80::51:1eff:fe00:3", 64))
        assert not any(x.get("tentative") for x in client("a"))
        assert re.search(r"^default via fe80::1 dev eth0 ", client("r"), re.MULTILINE)
        assert re.search(r"^fe80::1 dev eth0 lladdr \S+ PERMANENT", client("n"), re.MULTILINE)
        client.do(PING.format(options=[], address="fe80::1%eth0"))
        assert "2 received" in client("p.stdout"), client("p.stdout + p.stderr")
    else:
        assert "default" not in client("r")
    assert found == expected


def test_nothing_is_counted_that_a_kernel_says_by_itself(world):
    """Neighbour discovery, MLD and link-local packets are nobody's mistake."""
    moved = [Moved(world.lab, h) for h in ("h1", "h2")]
    with Remote.slim(world.lab, "h1", "quiet") as quiet:
        # Where there is no IPv6 there is no answer to wait for.
        options = ["-n"] if "6" in world.families() else ["-n", "-W1"]
        quiet.do(PING.format(options=options, address="ff02::1%eth0"))
        quiet.do(PING.format(options=options, address="fe80::7%eth0"))
        if "6" in world.families():
            assert "2 packets transmitted" in quiet("p.stdout")
    assert [m() for m in moved] == [{}, {}]


def test_listed(world):
    endpoint = world.lab.ctl("h1", "endpoint", "show", "server")["endpoint"]
    assert (endpoint["address"], endpoint["address6"]) \
        == tuple(world.ip("server", f) if f in world.families() else None for f in "46")
    assert (endpoint["host_address"], endpoint["host_address6"]) \
        == ("192.0.2.2" if "4" in world.underlay else None,
            "2001:db8::2" if "6" in world.underlay else None)
    text = world.lab.verb("ctl", "h1", "--", "endpoint", "ls").stdout
    for family in world.families():
        assert world.ip("server", family) in text
    world["server"].do("l = listen('::', 7090, socket.AF_INET6)")
    for family in world.families():
        world["client"].do(f"s = connect('{world.ip('server', family)}', 7090, "
                           f"{socket_family(family)})")
        said, = [c for c in world.lab.ctl("h1", "connection", "ls", "--name", "client")["connections"]
                 if c["state"] == "established"]
        own = f"[{world.ip('client', family)}]" if family == "6" else world.ip("client", family)
        assert said["local"].rpartition(":")[0] == own
        assert said["peer_endpoint"] == "server" or not world.direct(family)
        world["client"].do("s.close()")


# --- extension headers ----------------------------------------------------------------------------

# A whole IPv6 packet out of eth0: a chain of extension headers in front of UDP to port 5000.
RAW = """
def udp_packet(source, to, chain, payload=b'raw', cut=None):
    a, b = socket.inet_pton(socket.AF_INET6, source), socket.inet_pton(socket.AF_INET6, to)
    length = 8 + len(payload)
    head = struct.pack('!HHHH', 4000, 5000, length, 0)
    total = sum(struct.unpack('!%dH' % ((len(payload) + 1) // 2 + 20 + 4),
                              a + b + struct.pack('!II', length, 17) + head
                              + payload + bytes(len(payload) % 2)))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    udp = head[:6] + struct.pack('!H', ~total & 0xffff or 0xffff) + payload
    types = [t for t, _ in chain] + [17]
    body = b''.join(bytes([types[i + 1]]) + rest for i, (_, rest) in enumerate(chain)) + udp
    packet = struct.pack('!IHBB', 6 << 28, len(body), types[0], 64) + a + b + body
    return packet[:cut]

def send_raw(packet):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
    s.bind(('eth0', 0x86dd))
    s.sendto(packet, ('eth0', 0x86dd, 0, 0, bytes.fromhex('02511e000002')))
    s.close()
"""

PAD = bytes([0, 1, 4, 0, 0, 0, 0])  # without its first byte: no more eights, PadN of six
ROUTED = bytes([0, 4, 0, 0, 0, 0, 0])
ATOMIC = bytes([0, 0, 0, 0, 0, 0, 9])
GOOD = {
    "hop-by-hop": [(0, PAD)],
    "destination": [(60, PAD)],
    "both": [(0, PAD), (60, PAD)],
    "eight": [(60, PAD)] * 8,
    "an atomic fragment": [(44, ATOMIC)],
}
BAD = {
    "nine": [(60, PAD)] * 9,
    "hop-by-hop behind another": [(60, PAD), (0, PAD)],
    "routing type 0": [(43, bytes([0, 0, 0, 0, 0, 0, 0]))],
    "routing with one left": [(43, bytes([2, 4, 1, 0, 0, 0, 0]) + bytes(16))],
    "mobility": [(135, PAD)],
    "an unknown one": [(200, PAD)],
}


@pytest.fixture
def receivers(world):
    if "6" not in world.families():
        pytest.skip("an overlay of IPv4")
    for name in "server", "near":
        world[name].do("u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n"
                       f"u.bind(('{world.ip(name, '6')}', 5000))")
    world["client"].do(RAW)


@pytest.mark.parametrize("name", GOOD)
def test_extension_headers(world, receivers, name):
    own = world.ip("client", "6")
    for to in "server", "near":
        world["client"].do(f"send_raw(udp_packet('{own}', '{world.ip(to, '6')}', {GOOD[name]!r}))")
        world[to].do("m, who = u.recvfrom(99)")
        assert world[to]("m, who[0]") == (b"raw", own)


@pytest.mark.parametrize("name", BAD)
def test_extension_headers_that_are_dropped(world, receivers, name):
    own = world.ip("client", "6")
    moved = Moved(world.lab, "h1")
    for to in "server", "near":
        packet = f"udp_packet('{own}', '{world.ip(to, '6')}', {BAD[name]!r})"
        world["client"].do(f"send_raw({packet})")
    wait_until(lambda: sum(moved().values()) >= 2, "both packets to be counted")
    assert moved() == {"encap_bad_header": 2}
    for to in "server", "near":
        assert not world[to]("pending(u)")


def test_truncated_packets(world, receivers):
    own, to = world.ip("client", "6"), world.ip("near", "6")
    whole = 40 + 16 + 8 + 3
    moved = Moved(world.lab, "h1")
    for cut in range(40, whole - 3):
        world["client"].do(f"send_raw(udp_packet('{own}', '{to}', {GOOD['both']!r}, cut={cut}))")
    n = whole - 3 - 40
    wait_until(lambda: sum(moved().values()) >= n, "all packets to be counted")
    found = moved()
    assert set(found) <= {"encap_bad_packet", "encap_bad_header"} and sum(found.values()) == n
    assert not world["near"]("pending(u)")


def test_spoofed(world, receivers):
    moved = Moved(world.lab, "h1")
    sources = [world.ip("near", "6"), world.ip("server", "6"), "fd51:1e::1", "2001:db8::1", "::1",
               "fe80::1", "fe80::51:1eff:fe00:3"]
    for source in sources:
        for to in world.ip("server", "6"), "2001:db8::fe":
            world["client"].do(f"send_raw(udp_packet('{source}', '{to}', []))")
    for source in "fe80::1", "fe80::99", world.ip("near", "6"):
        world["client"].do(f"send_raw(udp_packet('{source}', 'ff02::1', []))")
    wanted = 2 * len(sources) + 3
    wait_until(lambda: sum(moved().values()) >= wanted, "all packets to be counted")
    assert moved() == {"encap_spoofed": wanted}
    assert not world["server"]("pending(u)")


def test_fragments_to_a_swapped_socket_do_not_reach_the_host(world, receivers):
    """They go where all that is no whole TCP packet goes: into the container."""
    world["near"].do("l = listen('::', 7080, socket.AF_INET6)")
    own, to = world.ip("client", "6"), world.ip("near", "6")
    first = bytes([0, 0, 1, 0, 0, 0, 7])
    world["client"].do(f"p = udp_packet('{own}', '{to}', [(44, {first!r})], payload=bytes(64))\n"
                       "send_raw(p[:40] + bytes([6]) + p[41:])")
    assert not world["near"]("pending(l)")


# --- the way out ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["client", "near"])
def test_out(world, name):
    """To another machine of the underlay, masqueraded, which knows no way to the overlay."""
    families = [f for f in world.families() if f in world.underlay]
    if not families:
        pytest.skip("no family that is of the overlay and of the underlay")
    with Remote.host(world.lab, "net") as net:
        for family in families:
            af = socket_family(family)
            there = {"4": "192.0.2.254", "6": "2001:db8::fe"}[family]
            host = {"4": "192.0.2.1", "6": "2001:db8::1"}[family]
            net.do(f"t = listen('{there}', 5100, {af}, [(socket.SOL_SOCKET, socket.SO_REUSEADDR)])\n"
                   f"u = socket.socket({af}, socket.SOCK_DGRAM); u.bind(('{there}', 5100))")
            r = world[name]
            r.do(f"s = connect('{there}', 5100, {af})")
            net.do("c, who = t.accept()")
            assert net("who[0]") == host
            assert r("names(s)[0][0], names(s)[1]") == (world.ip(name, family), (there, 5100))
            for size in 1, 1300, 8000:
                r.do(f"d = socket.socket({af}, socket.SOCK_DGRAM)\n"
                     f"d.sendto(bytes({size}), ('{there}', 5100))")
                net.do("m, who = u.recvfrom(1 << 16)")
                assert (net("len(m)"), net("who[0]")) == (size, host)
                # Of IPv6, nobody on the way makes fragments smaller: the first answer that is too
                # large for the overlay's MTU tells its sender so.
                wait_until(lambda: net.do("u.sendto(m, who)")
                           or r("bool(select.select([d], [], [], 1)[0])"), "an answer")
                assert r("len(d.recv(1 << 16))") == size
            r.do(PING.format(options=[], address=there))
            assert "2 received" in r("p.stdout"), r("p.stdout + p.stderr")
            net.do("for x in t, u, c: x.close()")


def test_host_forwards_and_keeps_its_routers(world):
    """IPv6 forwarding is on where an overlay needs it, and a host that listened to routers still does."""
    setting = lambda path: world.lab.host("h1", "cat", f"/proc/sys/net/ipv6/conf/{path}").stdout.strip()
    on = "6" in world.families()
    assert setting("all/forwarding") == ("1" if on else "0")
    assert setting("uplink/accept_ra") == ("2" if on else "1")


# --- networks -------------------------------------------------------------------------------------


def test_networks_beside_each_other(world):
    """Networks of each kind in one lab, each with its own containers and blocks."""
    lab = world.lab
    kinds = {"only4": ["--prefix", "10.80.0.0/16"], "only6": ["--prefix6", "fd80::/64"],
             "both": ["--prefix", "10.81.0.0/16", "--prefix6", "fd81::/64"]}
    for name, options in kinds.items():
        lab.ctl("h1", "network", "create", name, *options)
    try:
        for name, options in kinds.items():
            with Remote.slim(lab, "h1", "a", network=name) as a, \
                    Remote.slim(lab, "h2", "b", network=name) as b:
                found = {n: lab.ctl("h1", "endpoint", "show", n, "--network", name)["endpoint"]
                         for n in "ab"}
                for family, key in ("4", "address"), ("6", "address6"):
                    wanted = ("--prefix" if family == "4" else "--prefix6") in options
                    assert bool(found["a"][key]) == bool(found["b"][key]) == wanted
                    if not wanted:
                        continue
                    assert found["a"][key] != found["b"][key]
                    mine, who, _ = exchange(b, a, found["b"][key], 80,
                                            (family, "::" if family == "6" else "0.0.0.0"), family)
                    assert who == (found["a"][key], mine[0][1])
                # Not out of one network into another, by either family.
                for family in world.families():
                    if found["a"]["address6" if family == "6" else "address"]:
                        assert a(f"connect_error('{world.ip('client', family)}', 80, "
                                 f"{socket_family(family)})") == "EHOSTUNREACH"
            for n in "ab":
                wait_until(lambda n=n: not [e for e in lab.ctl("h1", "endpoint", "ls", "--network",
                                                               name)["endpoints"]],
                           "the containers to be gone")
    finally:
        for name in kinds:
            wait_until(lambda name=name: lab.verb("ctl", "h1", "--", "network", "rm", name,
                                                  check=False).returncode == 0,
                       f"network {name} to be removed")
    routes = lab.host("h1", "ip", "-6", "route", "show", "type", "unreachable").stdout
    assert "fd80::/64" not in routes and "fd81::/64" not in routes


def test_bad_networks(world):
    def create(*options):
        done = world.lab.verb("ctl", "h1", "--", "network", "create", "bad", *options, check=False)
        assert len(done.stderr.splitlines()) == 1
        return done.returncode, done.stderr

    for options, status, word in (
            ([], 2, "--prefix is missing"),
            (["--prefix6", "10.0.0.0/8"], 2, "IPv6"),
            (["--prefix", "fd00::/64"], 2, "IPv4"),
            (["--prefix6", "fd00::1/64"], 2, "bits set"),
            (["--prefix6", "fd00::/129"], 2, "--prefix6"),
            (["--block-bits6", "64"], 2, "--prefix6"),
            (["--prefix6", "fd00::/64", "--block-bits6", "63"], 2, "64 to 128"),
            (["--prefix6", "fc00::/7"], 1, "too large"),
            (["--prefix6", "fe80::/64"], 1, "unicast"),
            (["--prefix6", "ff02::/16"], 1, "unicast"),
            (["--prefix6", "::/64"], 1, "unicast")):
        assert create(*options)[0] == status, options
        assert word in create(*options)[1], create(*options)
    if "6" in world.underlay:
        assert "underlay" in create("--prefix6", "2001:db8::/64")[1]
    if "6" in world.families():
        code, said = create("--prefix", "10.99.0.0/24", "--prefix6", "fd51:1e::/96")
        assert code == 1 and "overlaps" in said
    assert "bad" not in [n["name"] for n in world.lab.ctl("h1", "network", "ls")["networks"]]


def test_addresses_that_are_asked_for(world):
    if world.families() != ["4", "6"]:
        pytest.skip("an overlay of one family")
    lab = world.lab
    command = ["/usr/bin/python3", "-c", "pass"]

    def run(*addresses):
        words = [w for a in addresses for w in ("--address", a)]
        return lab.verb("run", "h1", "asked", *words, "--", "grep", "asked", "/etc/hosts", check=False)

    done = run("10.77.3.4", "fd51:1e::3:4")
    assert done.stdout.split("\n")[:2] == ["10.77.3.4\tasked", "fd51:1e::3:4\tasked"]
    done = run("fd51:1e::3:4")  # the other one is slimd's choice
    assert re.match(r"10\.77\.\d+\.\d+\tasked\nfd51:1e::3:4\tasked\n", done.stdout), done
    for addresses, status, word in ((["fd51:1e::3:4", "fd51:1e::3:5"], 2, "already"),
                                    (["fd52::1"], 1, "fd52::1"),
                                    (["fd51:1e::"], 1, "fd51:1e::"),
                                    ([world.ip("near", "6")], 1, "taken")):
        done = run(*addresses)
        assert done.returncode == status and word in done.stderr, done
        assert len(done.stderr.splitlines()) == 1


# --- hosts of different families ------------------------------------------------------------------


def test_hosts_of_different_families():
    """h1 has both, h2 IPv4 alone, h3 IPv6 alone: who can reach whom, does."""
    names = {"one": "h1", "two": "h2", "three": "h3"}
    with lab_up(hosts=3, underlay="46,4,6", overlay="46") as lab, contextlib.ExitStack() as stack:
        found = {n: stack.enter_context(Remote.slim(lab, h, n)) for n, h in names.items()}
        for a, b in itertools.permutations(names, 2):
            for family in "46":
                own, other = lab.ip(a, family), lab.ip(b, family)
                if {a, b} == {"two", "three"}:
                    moved = Moved(lab, names[a])
                    assert found[a](f"connect_error('{other}', 7000, {socket_family(family)})") \
                        == "EHOSTUNREACH"
                    assert moved() == {"connect_no_way": 1}
                    continue
                wildcard = "::" if family == "6" else "0.0.0.0"
                before = vxlan_packets(lab, names[a])
                mine, who, _ = exchange(found[b], found[a], other, 7000, (family, wildcard), family)
                assert mine[0][0] == own and who == mine[0] and mine[1] == (other, 7000)
                direct = family == "6" or "three" not in (a, b)
                assert (vxlan_packets(lab, names[a]) == before) == direct
                found[b].do(f"u = socket.socket({socket_family(family)}, socket.SOCK_DGRAM)\n"
                            f"u.bind(('{other}', 5000))")
                found[a].do(f"d = socket.socket({socket_family(family)}, socket.SOCK_DGRAM)\n"
                            f"d.sendto(bytes(1370), ('{other}', 5000)); d.close()")
                assert found[b]("u.recvfrom(9999)[1][0]") == own
                found[b].do("u.close()")


def test_routers_are_kept():
    """A default route that a router has advertised outlives the first IPv6 overlay of a host."""
    advertise = """
import socket, struct
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("underlay"))
s.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0), ("ff02::1", 0, 0,
         socket.if_nametoindex("underlay")))
"""
    def has_route():
        lab.host("net", PYTHON, "-c", advertise)
        return "proto ra" in lab.host("h1", "ip", "-6", "route", "show", "default").stdout

    with lab_up(hosts=1, underlay="46", overlay="4") as lab:
        wait_until(has_route, "h1 to take a router's advertisement")
        lab.ctl("h1", "network", "create", "six", "--prefix6", "fd80::/64")
        assert "proto ra" in lab.host("h1", "ip", "-6", "route", "show", "default").stdout
        lab.host("h1", "ip", "-6", "route", "del", "default")
        wait_until(has_route, "h1 to take another advertisement")


def test_teardown_leaves_nothing():
    with lab_up(hosts=1, underlay="46", overlay="46") as lab:
        lab.run("h1", "some", "true")
        assert "masquerade" in lab.host("h1", "nft", "list", "table", "ip6", "slim").stdout
        assert "fd51:1e::/64" in lab.host("h1", "ip", "-6", "route", "show", "type",
                                          "unreachable").stdout
        argv = pathlib.Path(f"/proc/{lab.verb('daemon', 'h1', 'pid').stdout.strip()}/cmdline") \
            .read_bytes().split(b"\0")[:-1]
        lab.verb("daemon", "h1", "stop")
        lab.host("h1", *(a.decode() for a in argv), "--teardown")
        assert lab.host("h1", "nft", "list", "tables").stdout == ""
        assert lab.host("h1", "ip", "-6", "route", "show", "type", "unreachable").stdout == ""
        assert "fd51" not in lab.host("h1", "ip", "-6", "route", "show", "table", "all").stdout
        assert "slim-vxlan" not in lab.host("h1", "ip", "link").stdout
        assert "0x511e" not in lab.host("h1", "ip", "-6", "rule").stdout


# --- real programs --------------------------------------------------------------------------------

NGINX = """
daemon off;
user nobody nogroup;
worker_processes 2;
error_log {dir}/error.log;
pid {dir}/nginx.pid;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    server {{
        listen {listen};
        location = /who {{ return 200 "$remote_addr $server_addr $server_port"; }}
    }}
}}
"""


@pytest.fixture(scope="module")
def both():
    with lab_up(underlay="46", overlay="46") as lab:
        yield lab


@pytest.fixture
def place(both, request):
    path = pathlib.Path("/run/slim-lab") / both.id / request.node.name
    path.mkdir()
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("only", ["on", "off"])
def test_nginx_and_curl(both, place, only):
    (place / "nginx.conf").write_text(NGINX.format(dir=place, listen=f"[::]:80 ipv6only={only}"))
    with both.start("run", "h2", "web", "nginx", "-p", place, "-c", place / "nginx.conf"):
        both.wait_listening("h2", "web", 80)
        before = vxlan_packets(both, "h1")

        def curl(family, check=True):
            host = f"[{both.ip('web', '6')}]" if family == "6" else both.ip("web", "4")
            return both.run("h1", "curl", "curl", f"-{family}", "-gsS", "-m30",
                            f"http://{host}/who", check=check)

        assert curl("6").stdout == f"{both.ip('curl', '6')} {both.ip('web', '6')} 80"
        if only == "off":
            assert curl("4").stdout == (f"::ffff:{both.ip('curl', '4')} "
                                        f"::ffff:{both.ip('web', '4')} 80")
        else:
            assert curl("4", check=False).returncode == 7  # refused
        assert vxlan_packets(both, "h1") == before


def test_iperf3(both):
    with both.start("run", "h2", "iperf", "iperf3", "-s", "-1"):
        both.wait_listening("h2", "iperf", 5201)
        before = vxlan_packets(both, "h1")
        done = both.run("h1", "iperfc", "iperf3", "-6", "-J", "-n", "20M", "-c", both.ip("iperf", "6"))
        said = json.loads(done.stdout)
        peer = said["start"]["connected"][0]
        assert (peer["local_host"], peer["remote_host"]) == (both.ip("iperfc", "6"),
                                                             both.ip("iperf", "6"))
        assert said["end"]["sum_received"]["bytes"] > 0
        assert vxlan_packets(both, "h1") == before


@pytest.mark.parametrize("kind", ["slim", "plain"])
def test_published(both, kind):
    """TCP and UDP ports at the host's IPv6 addresses: the client is seen as it is."""
    publish = ["--publish", "8080:80", "--publish", "5353:53/udp"]
    with getattr(Remote, kind)(both, "h1", "published", options=publish) as server, \
            Remote.host(both, "net") as outside:
        server.do("l = listen('::', 80, socket.AF_INET6); "
                  "u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); u.bind(('::', 53))")
        outside.do("s = connect('2001:db8::1', 8080, socket.AF_INET6); "
                   "d = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); "
                   "d.sendto(b'x', ('2001:db8::1', 5353))")
        client = outside("s.getsockname()[:2]")
        assert server("accept(l)[1:]") == (client, ((both.ip("published", "6"), 80), client))
        server.do("m, who = u.recvfrom(9); u.sendto(m, who)")
        assert server("who[0]") == client[0] == "2001:db8::fe"
        assert outside("d.recvfrom(9)[1][:2]") == ("2001:db8::1", 5353)


@pytest.mark.parametrize("kind", ["slim", "plain"])
def test_the_host_is_an_endpoint(both, kind):
    with getattr(Remote, kind)(both, "h2", "healthy") as server, Remote.host(both, "h1") as host:
        server.do("l = listen('::', 80, socket.AF_INET6)")
        before = vxlan_packets(both, "h1")
        host.do(f"s = connect('{both.ip('healthy', '6')}', 80, socket.AF_INET6)")
        mine = host("s.getsockname()[:2]")
        own, = (e["address6"] for e in both.ctl("h1", "endpoint", "ls", "--all")["endpoints"]
                if (e["kind"], e["host"]) == ("host", "h1"))
        assert mine[0] == own
        assert server("accept(l)[1]") == mine
        assert (vxlan_packets(both, "h1") == before) == (kind == "slim")
