# SPDX-License-Identifier: Apache-2.0
"""
What is not a swapped TCP socket: datagrams, ping and plain containers' TCP between containers, answers
for addresses nobody has, a container's own source address, and the way out by the host's stack.
"""

import contextlib
import errno
import itertools
import re

import pytest

from conftest import wait_until
from remote import Moved, Remote

MTU = 1450  # of the underlay's 1500, what VXLAN leaves
SIZES = [0, 1, 1000, MTU - 28, MTU - 27, 8000, 65507]  # bytes of a datagram; more than MTU - 28: fragments

NAMES = {"slim": ("h1", "slim"), "near": ("h1", "slim"), "far": ("h2", "slim"),
         "plain": ("h1", "plain"), "plainnear": ("h1", "plain"), "plainfar": ("h2", "plain")}


@pytest.fixture(scope="module")
def containers(lab):
    with contextlib.ExitStack() as stack:
        found = {}
        for name, (host, kind) in NAMES.items():
            found[name] = stack.enter_context(getattr(Remote, kind)(lab, host, name))
            found[name].do("u = socket.socket(type=socket.SOCK_DGRAM); u.bind(('', 5000))")
        yield found


PAIRS = [("slim", "far"), ("slim", "near"), ("slim", "slim"), ("slim", "plain"), ("slim", "plainfar"),
         ("plain", "far"), ("plain", "near"), ("plain", "plainnear"), ("plain", "plainfar")]


@pytest.mark.parametrize("a,b", PAIRS)
def test_datagrams(lab, containers, a, b):
    sender, receiver = containers[a], containers[b]
    sender.do("d = socket.socket(type=socket.SOCK_DGRAM)")
    for size in SIZES:
        sender.do(f"d.sendto(bytes(i % 251 for i in range({size})), ('{lab.ip(b)}', 5000))")
        receiver.do("m, who = u.recvfrom(1 << 17)")
        assert receiver("len(m)") == size
        assert receiver("m == bytes(i % 251 for i in range(len(m)))")
        assert receiver("who") == (lab.ip(a), sender("d.getsockname()[1]"))
        # And back.
        receiver.do("u.sendto(m[::-1], who)")
        sender.do("m, who = d.recvfrom(1 << 17)")
        assert sender("who") == (lab.ip(b), 5000)
        assert sender("len(m)") == size
    sender.do("d.close()")


@pytest.mark.parametrize("a,b", PAIRS)
def test_ping(lab, containers, a, b):
    for size, unfragmented in (56, "-Mdo"), (MTU - 28, "-Mdo"), (MTU - 27, "-Mdont"), (30000, "-Mdont"):
        containers[a].do(f"p = subprocess.run(['ping', '-c2', '-i0.01', '-W20', '-s{size}', "
                         f"'{unfragmented}', '{lab.ip(b)}'], capture_output=True, text=True)")
        said = containers[a]("p.stdout + p.stderr")
        assert "2 received" in said, said


def test_too_big_to_send(lab, containers):
    """The container's device says what fits: no black hole behind it."""
    for name, other in ("slim", "far"), ("plain", "near"):
        containers[name].do("d = socket.socket(type=socket.SOCK_DGRAM); "
                            "d.setsockopt(socket.IPPROTO_IP, 10, 2)")  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
        containers[name].do(f"d.sendto(bytes({MTU} - 28), ('{lab.ip(other)}', 5000))")
        assert containers[other]("len(u.recv(1 << 16))") == MTU - 28
        with pytest.raises(OSError) as e:
            containers[name].do(f"d.sendto(bytes({MTU} - 27), ('{lab.ip(other)}', 5000))")
        assert e.value.errno == errno.EMSGSIZE
        containers[name].do("d.close()")


def test_a_connected_datagram_socket_hears_of_a_closed_port(lab, containers):
    for a, b in PAIRS:
        containers[a].do("d = socket.socket(type=socket.SOCK_DGRAM); "
                         f"d.connect(('{lab.ip(b)}', 5001)); d.send(b'x')")
        with pytest.raises(ConnectionRefusedError):
            containers[a].do("d.recv(1)")
        containers[a].do("d.close()")


@pytest.mark.parametrize("a,b", [("plain", "plainnear"), ("plain", "plainfar"),
                                 ("plainfar", "plainnear")])
def test_plain_containers_talk_tcp(lab, containers, a, b):
    client, server = containers[a], containers[b]
    server.do("l = listen('0.0.0.0', 5002)")
    client.do(f"s = connect('{lab.ip(b)}', 5002)")
    name, peer = client("names(s)")
    assert (name[0], peer) == (lab.ip(a), (lab.ip(b), 5002))
    server.do("c, who = l.accept()")
    assert server("who") == name and server("names(c)") == (peer, name)
    client.do("t = threading.Thread(target=lambda: (s.sendall(bytes(3 << 20)), "
              "s.shutdown(socket.SHUT_WR))); t.start()")
    assert server("len(c.makefile('rb').read())") == 3 << 20
    client.do("t.join(); s.close()")
    server.do("c.close(); l.close()")
    assert client(f"connect_error('{lab.ip(b)}', 5002)") == "ECONNREFUSED"


def pinged(r, address):
    r.do(f"p = subprocess.run(['ping', '-c1', '-W1', '{address}'], capture_output=True, text=True)")
    return r("p.stdout")


def test_nobody_is_unreachable(lab, containers):
    ghost = lab.ip("ghost")
    for name, r in containers.items():
        assert r(f"udp_error('{ghost}', 5000)") == "EHOSTUNREACH", name
    for name in "slim", "plainfar":
        wait_until(lambda: "Destination Host Unreachable" in pinged(containers[name], ghost),
                   "ping to be told that nobody is there")
    # A plain container's TCP goes this way too.
    assert containers["plain"](f"connect_error('{ghost}', 80)") == "EHOSTUNREACH"


def test_a_container_that_ends_is_nobody(lab, containers):
    fleeting = lab.ip("fleeting")
    with Remote.slim(lab, "h2", "fleeting"):
        for name in "slim", "far":
            wait_until(lambda: "1 received" in pinged(containers[name], fleeting), "an answer")
    for name in "slim", "far":
        wait_until(lambda: "Destination Host Unreachable" in pinged(containers[name], fleeting),
                   "the address to be nobody's")


SPOOF = """
def spoof(source, to, port):
    # A datagram with a source address of the program's own choice.
    data = b'spoofed'
    udp = struct.pack('!HHHH', 4000, port, 8 + len(data), 0) + data
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
        s.sendto(struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0,
                             socket.inet_aton(source), socket.inet_aton(to)) + udp, (to, 0))
"""


@pytest.mark.parametrize("name", ["slim", "plain"])
def test_a_spoofed_source_is_dropped(lab, containers, name):
    r = containers[name]
    r.do(SPOOF)
    sources = [lab.ip("far"), lab.ip("near"), lab.ip("ghost"), "192.0.2.1", "192.0.2.2",
               "203.0.113.5"]
    moved = Moved(lab, "h1")
    targets = [("near", containers["near"]), ("far", containers["far"])]
    for source, (to, _) in itertools.product(sources, targets):
        r.do(f"spoof('{source}', '{lab.ip(to)}', 5000)")
    # To the outside it does not go either.
    for source in sources:
        r.do(f"spoof('{source}', '192.0.2.254', 5000)")
    wanted = 3 * len(sources)
    wait_until(lambda: moved("encap_spoofed")["encap_spoofed"] >= wanted,
               f"{wanted} packets to be counted")
    assert moved() == {"encap_spoofed": wanted}
    # What comes next is the first that they see.
    for to, receiver in targets:
        r.do(f"spoof('{lab.ip(name)}', '{lab.ip(to)}', 5000)")
        assert receiver("u.recvfrom(99)") == (b"spoofed", (lab.ip(name), 4000))


def test_other_protocols_are_dropped(lab, containers):
    """A container can send no ARP, no IPv6 and nothing else to anybody."""
    r = containers["slim"]
    moved = Moved(lab, "h1")
    r.do("s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('eth0', 0))\n"
         "for kind in 0x0806, 0x86dd, 0x88b5:\n"
         "    s.send(b'\\xff' * 6 + bytes.fromhex('02511e000003') + struct.pack('!H', kind) + bytes(60))\n"
         "s.close()")
    wait_until(lambda: sum(moved().values()) >= 3, "3 frames to be counted")
    assert moved() == {"encap_bad_packet": 3}


def test_vxlan_from_a_stranger_is_dropped(lab, containers):
    """A machine of the underlay that is no host of the cluster, and a host for another's container."""
    ghost, far, near, slim = (lab.ip(n) for n in ("ghost", "far", "near", "slim"))
    vxlan = SPOOF + """
def vxlan(network, source, to):
    data = b'from a stranger'
    udp = struct.pack('!HHHH', 4000, 5000, 8 + len(data), 0) + data
    ip = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0,
                     socket.inet_aton(source), socket.inet_aton(to))
    total = sum(struct.unpack('!10H', ip))
    total = (total & 0xffff) + (total >> 16)
    ip = ip[:10] + struct.pack('!H', ~total & 0xffff) + ip[12:]
    frame = bytes.fromhex('02511e000001' '02511e000003' '0800') + ip + udp
    with socket.socket(type=socket.SOCK_DGRAM) as s:
        s.sendto(struct.pack('!BxxxI', 8, network << 8) + frame, ('192.0.2.1', PORT))
"""
    link = lab.host("h1", "ip", "-d", "link", "show", "slim-vxlan").stdout
    port = re.search(r"dstport (\d+)", link)[1]
    network, = [n["id"] for n in lab.ctl("h1", "network", "ls")["networks"] if n["name"] == "default"]
    vxlan = vxlan.replace("PORT", port)

    with Remote.host(lab, "net") as stranger, Remote.host(lab, "h2") as h2:
        stranger.do(vxlan)
        h2.do(vxlan)
        for r, network_id, source, to, reason in (
                (stranger, network, far, slim, "encap_unknown_host"),
                (stranger, network, near, slim, "encap_unknown_host"),
                (h2, network, near, slim, "encap_spoofed"),      # not h2's
                (h2, network, ghost, slim, "encap_spoofed"),     # nobody's
                (h2, network, "192.0.2.2", slim, "encap_spoofed"),
                (h2, network + 1, far, slim, "encap_spoofed"),   # of no such network
                (h2, network, far, ghost, "encap_no_endpoint")):
            moved = Moved(lab, "h1")
            r.do(f"vxlan({network_id}, '{source}', '{to}')")
            wait_until(lambda: moved(), "the packet to be counted")
            assert moved() == {reason: 1}
        assert not containers["slim"]("pending(u)")
        # The means to send them are good ones: h2 may speak for a container of its own.
        h2.do(f"vxlan({network}, '{far}', '{slim}')")
        assert containers["slim"]("u.recvfrom(99)") == (b"from a stranger", (far, 4000))


# --- the way out ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def behind(lab):
    """
    A machine in a network behind h1, which knows the way to h1 alone: an answer to an overlay address
    would not arrive. Everything of it goes with its interpreter.
    """
    with Remote.behind(lab, "h1") as r:
        lab.host("h1", "ip", "link", "add", "behind", "type", "veth", "peer", "name", "front", "netns",
                 r.pid)
        lab.host("h1", "ip", "addr", "add", "198.51.100.1/30", "dev", "behind")
        lab.host("h1", "ip", "link", "set", "behind", "up")
        for command in ("ip link set lo up", "ip addr add 198.51.100.2/30 dev front",
                        "ip link set front up"):
            r.do(f"subprocess.run({command.split()!r}, check=True)")
        r.do("t = listen('0.0.0.0', 5100); u = socket.socket(type=socket.SOCK_DGRAM)\n"
             "u.bind(('', 5100))")
        yield r


@pytest.mark.parametrize("name", ["slim", "plain"])
def test_the_hosts_other_networks(lab, containers, behind, name):
    r = containers[name]
    assert behind("subprocess.run(['ip', 'route', 'get', '10.77.0.1'], capture_output=True)"
                  ".returncode") != 0  # so that masquerading is what it takes

    r.do("s = connect('198.51.100.2', 5100)")
    behind.do("c, who = t.accept()")
    assert behind("who[0]") == "198.51.100.1"
    assert r("names(s)") == ((lab.ip(name), r("s.getsockname()[1]")), ("198.51.100.2", 5100))
    r.do("s.sendall(b'out')")
    assert behind("c.recv(9)") == b"out"
    behind.do("c.sendall(b'back' * 1000); c.close()")
    assert r("len(s.makefile('rb').read())") == 4000
    r.do("s.close()")
    assert r("connect_error('198.51.100.2', 5101)") == "ECONNREFUSED"

    r.do("d = socket.socket(type=socket.SOCK_DGRAM)")
    for size in 1, MTU - 28, 8000:
        r.do(f"d.sendto(bytes({size}), ('198.51.100.2', 5100))")
        behind.do("m, who = u.recvfrom(1 << 16)")
        assert (behind("len(m)"), behind("who[0]")) == (size, "198.51.100.1")
        behind.do("u.sendto(m, who)")
        assert r("d.recvfrom(1 << 16)") == (bytes(size), ("198.51.100.2", 5100))
    r.do("d.close(); p = subprocess.run(['ping', '-c2', '-i0.01', '-W20', '198.51.100.2'], "
         "capture_output=True, text=True)")
    assert "2 received" in r("p.stdout"), r("p.stdout + p.stderr")


def test_out_with_a_chosen_port(lab, containers, behind):
    """bind then connect, to a server outside: it goes out, and the program sees its choice."""
    r = containers["slim"]
    r.do("s = connect('198.51.100.2', 5100, source=('0.0.0.0', 2348))")
    assert r("names(s)") == ((lab.ip("slim"), 2348), ("198.51.100.2", 5100))
    assert behind("accept(t)[1][0]") == "198.51.100.1"
    r.do("s.close()")


def test_the_underlay_itself(lab, containers):
    """The host, another host and a third machine, as the host reaches them."""
    with contextlib.ExitStack() as stack:
        for host, address, seen in (("h1", "192.0.2.1", "192.0.2.1"), ("h2", "192.0.2.2", "192.0.2.1"),
                                    ("net", "192.0.2.254", "192.0.2.1")):
            there = stack.enter_context(Remote.host(lab, host))
            there.do("l = listen('0.0.0.0', 5200)")
            containers["slim"].do(f"s = connect('{address}', 5200)")
            assert there("accept(l)[1][0]") == seen
            assert containers["slim"]("s.getpeername()") == (address, 5200)
            containers["slim"].do("s.close()")


def test_there_is_no_route_to_nowhere(containers):
    """What the host cannot reach, the container cannot: with the host's own errno."""
    assert containers["slim"]("connect_error('203.0.113.1', 80)") == "ENETUNREACH"


def dropped(chain):
    return int(re.search(r"counter packets (\d+)", chain)[1])


def test_the_outside_does_not_come_in(lab, containers, behind):
    """A machine outside that routes an overlay address to the host cannot speak for a container, nor
    to one: the host does not forward what it sends."""
    with Remote.host(lab, "net") as outsider:
        lab.host("net", "ip", "route", "add", "10.77.0.0/16", "via", "192.0.2.1")
        try:
            outsider.do(SPOOF)
            for source in "far", "near", "ghost":
                outsider.do(f"spoof('{lab.ip(source)}', '{lab.ip('slim')}', 5000)")
            # What follows on the same way is not overtaken by them.
            containers["far"].do("d = socket.socket(type=socket.SOCK_DGRAM); "
                                 f"d.sendto(b'marker', ('{lab.ip('slim')}', 5000)); d.close()")
            assert containers["slim"]("u.recvfrom(99)[0]") == b"marker"
            assert not containers["slim"]("pending(u)")

            knock = f"""
with socket.socket(type=socket.SOCK_DGRAM) as s:
    s.sendto(b'knock', ('{lab.ip('slim')}', 5000))
"""
            drops = ("h1", "nft", "list", "chain", "ip", "slim", "forward")
            before = dropped(lab.host(*drops).stdout)
            outsider.do(knock)
            wait_until(lambda: dropped(lab.host(*drops).stdout) == before + 1, "the packet to be dropped")
            assert not containers["slim"]("pending(u)")
            # It is that chain which keeps it out. slimd writes it anew with each network.
            lab.host("h1", "nft", "flush", "chain", "ip", "slim", "forward")
            outsider.do(knock)
            data, (source, _) = containers["slim"]("u.recvfrom(99)")
            assert (data, source) == (b"knock", "192.0.2.254")
            lab.verb("ctl", "h1", "--", "network", "create", "rewritten", "--prefix", "10.78.0.0/16")
            before = dropped(lab.host(*drops).stdout)
            outsider.do(knock)
            wait_until(lambda: dropped(lab.host(*drops).stdout) == before + 1, "the next to be dropped")
            assert not containers["slim"]("pending(u)")
        finally:
            lab.host("net", "ip", "route", "del", "10.77.0.0/16")
