# SPDX-License-Identifier: Apache-2.0
"""
What the underlay sees of a container: its listeners' host ports are closed ports, and a SYN to a Slim
port that no host of the cluster signed for this very packet is dropped, counted, and not answered.
"""

import contextlib
import itertools
import re

import pytest

from conftest import wait_until
from remote import Moved, Remote

V6 = "socket.AF_INET6"
H1, H2 = "192.0.2.1", "192.0.2.2"


@pytest.fixture(scope="module")
def server(lab):
    with Remote.slim(lab, "h1", "server") as r:
        yield r


@pytest.fixture(scope="module")
def client(lab):
    with Remote.slim(lab, "h2", "client") as r:
        yield r


@pytest.fixture(scope="module")
def h1(lab):
    with Remote.host(lab, "h1") as r:
        yield r


@pytest.fixture(scope="module")
def h2(lab):
    with Remote.host(lab, "h2") as r:
        yield r


@pytest.fixture(scope="module")
def outsider(lab):
    """A machine of the underlay without Slim."""
    with Remote.host(lab, "net") as r:
        yield r


def sockets(lab, host, name):
    return lab.ctl(host, "connection", "ls", "--name", name)["connections"]


def hidden_port(lab, name):
    found, = [c for c in sockets(lab, "h1", name) if c["state"] == "listen"]
    return int(found["host_local"].rsplit(":", 1)[1])


# --- the host ports of listeners ------------------------------------------------------------------


@pytest.mark.parametrize("address,family", [("0.0.0.0", "socket.AF_INET"), ("own", "socket.AF_INET"),
                                            ("::", V6), ("127.0.0.1", "socket.AF_INET"),
                                            ("::1", V6)])
def test_a_listeners_host_port_is_closed(lab, server, client, h1, h2, outsider, address, family):
    address = lab.ip("server") if address == "own" else address
    server.do(f"l = listen('{address}', 9000, {family})")
    port = hidden_port(lab, "server")
    assert port != 9000

    moved = Moved(lab, "h1")
    for r in h1, h2, outsider:
        assert r(f"connect_error('{H1}', {port})") == "ECONNREFUSED"
    for inside in client, server:
        assert inside(f"connect_error('{H1}', {port})") == "ECONNREFUSED"
    for loopback, loopback_family in ("127.0.0.1", "socket.AF_INET"), ("127.0.0.2", "socket.AF_INET"), (
            "::1", V6):
        assert h1(f"connect_error('{loopback}', {port}, {loopback_family})") == "ECONNREFUSED"
    assert moved() == {"hidden_port": 8}
    # The virtual one is no port of the host's at all.
    for r in h1, h2, outsider:
        assert r(f"connect_error('{H1}', 9000)") == "ECONNREFUSED"
    assert not server("pending(l)")

    # It serves all the same, those whom it is for.
    if address in ("127.0.0.1", "::1"):
        server.do(f"s = connect('{address}', 9000, {family}); l.accept(); s.close()")
    else:
        client.do(f"s = connect('{lab.ip('server')}', 9000)")
        assert server("accept(l)[1][1]") == client("s.getsockname()[1]")
        client.do("s.close()")
    server.do("l.close()")

    # The port is the host's again.
    h1.do(f"h = listen('0.0.0.0', {port})")
    h2.do(f"connect('{H1}', {port}).close()")
    h1.do("h.accept()[0].close(); h.close()")


def test_not_by_a_link_local_address_either(lab, server, h1, h2):
    server.do(f"l = listen('::', 9001, {V6})")
    port = hidden_port(lab, "server")
    line = lab.host("h1", "ip", "-6", "-o", "addr", "show", "dev", "uplink", "scope", "link").stdout
    address = re.search(r"fe80:[0-9a-f:]+", line)[0]
    h1.do(f"h = listen('::', 9002, {V6})")
    h2.do(f"""
def link_local(port):
    with socket.socket({V6}) as s:
        where = ('{address}', port, 0, socket.if_nametoindex('uplink'))
        return errno.errorcode.get(s.connect_ex(where), 'connected')
""")
    # The address may be tentative for a moment after the lab came up.
    wait_until(lambda: h2("link_local(9002)") == "connected", "h1's link-local address to answer")
    assert h2(f"link_local({port})") == "ECONNREFUSED"
    assert not server("pending(l)")
    h1.do("h.close()")
    server.do("l.close()")


def test_established_connections_are_the_hosts_own(lab, server, client, outsider):
    """The wire has plain TCP between the two hosts, and connection ls tells which is which."""
    server.do("l = listen('0.0.0.0', 9003)")
    client.do(f"s = connect('{lab.ip('server')}', 9003)")
    server.do("c = l.accept()[0]")
    here, = [c for c in sockets(lab, "h1", "server") if c["state"] == "established"]
    there, = [c for c in sockets(lab, "h2", "client") if c["state"] == "established"]
    name, peer = ["%s:%d" % n for n in client("names(s)")]
    assert (there["local"], there["peer"]) == (name, peer) == (here["peer"], here["local"])
    assert (there["peer_endpoint"], here["peer_endpoint"]) == ("server", "client")
    assert there["host_local"].startswith(H2 + ":") and there["host_peer"].startswith(H1 + ":")
    assert (there["host_local"], there["host_peer"]) == (here["host_peer"], here["host_local"])
    first, last = map(int, lab.ctl("h1", "status")["slim_ports"].split("-"))
    slim_port = int(here["host_local"].split(":")[1])
    assert first <= slim_port <= last
    client.do("s.close()")
    server.do("c.close(); l.close()")


# --- SYNs -----------------------------------------------------------------------------------------

RAW = f"""
H1 = '{H1}'

def checksum(data):
    data += b'\\0' * (len(data) % 2)
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff

def segment(source, sport, dport, seq, options=b'', flags=2, doff=None, cut=None):
    # A TCP segment, with a good checksum. doff: what its header says; cut: bytes that leave.
    doff = 5 + len(options) // 4 if doff is None else doff
    th = struct.pack('!HHIIBBHHH', sport, dport, seq, 0, doff << 4, flags, 65535, 0, 0) + options
    th = th[:cut]
    pseudo = socket.inet_aton(source) + socket.inet_aton(H1) + struct.pack('!BBH', 0, 6, len(th))
    return th[:16] + struct.pack('!H', checksum(pseudo + th)) + th[18:]

raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)

def send(source, *args, ip_options=b'', **kwargs):
    raw.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, ip_options)
    raw.sendto(segment(source, *args, **kwargs), (H1, 0))

class Wire:
    # What passes uplink, from now on, but for fragments.
    def __init__(self):
        self.s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
        self.s.bind(('uplink', 3))
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)

    def segments(self):
        # (source, sport, dport, seq, flags, options) of the TCP segments that passed.
        found = []
        while select.select([self.s], [], [], 0)[0]:
            p = self.s.recv(2048)
            if p[0] >> 4 != 4 or p[9] != 6 or p[6] & 0x3f or p[7]:
                continue
            th = p[(p[0] & 15) * 4:]
            sport, dport, seq = struct.unpack('!HHI', th[:8])
            found.append((socket.inet_ntoa(p[12:16]), sport, dport, seq, th[13],
                          th[20:(th[12] >> 4) * 4]))
        return found
"""

SYN, RST, ACK, SYN_ACK = 2, 4, 16, 18
NOP = b"\x01"


def slim_option(options):
    """The Slim option among a SYN's."""
    at = options.index(b"\xfe\x14\x51\x1e")
    return options[at:at + 20]


def half_open(lab):
    """Entries of verified SYNs. One that never became a connection stays until others push it out."""
    return lab.ctl("h1", "status")["maps"]["syns"]


class Captured:
    """A SYN of a real connection from the client to the server, and the means to send others."""

    def __init__(self, lab, server, client, h2, port):
        h2.do(RAW + "\nwire = Wire()")
        server.do(f"l = listen('0.0.0.0', {port})")
        # The client ends it with a reset, so that neither side is left in TIME_WAIT.
        client.do(f"s = connect('{lab.ip('server')}', {port})\n"
                  "s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))\n"
                  "s.close()")
        server.do("l.accept()[0].close()")
        syn, = [s for s in h2("wire.segments()") if s[0] == H2 and s[4] == SYN]
        _, self.sport, self.dport, self.seq, _, self.options = syn
        self.option = slim_option(self.options)
        self.r = h2
        self.half_open = half_open(lab)

    def send(self, options=None, *, sport=None, dport=None, seq=None, **more):
        options = self.options if options is None else options
        arguments = "".join(f", {k}={v!r}" for k, v in more.items())
        self.r.do(f"send({H2!r}, {sport or self.sport}, {dport or self.dport}, "
                  f"{self.seq if seq is None else seq}, {options!r}{arguments})")

    def answers(self):
        """What came back from the server's Slim ports."""
        return [s for s in self.r("wire.segments()") if s[0] == H1]


@pytest.fixture
def captured(lab, server, client, h2):
    captured = Captured(lab, server, client, h2, 9010)
    yield captured
    server.do("l.close()")
    h2.do("wire.s.close(); raw.close()")


def assert_dropped(lab, server, captured, moved, wanted):
    """All that was sent is counted as wanted, nothing of it came further, and nothing came back."""
    total = sum(wanted.values())
    wait_until(lambda: sum(moved().values()) >= total, f"{total} packets to be counted")
    assert moved() == wanted
    assert not server("pending(l)")
    assert [c["state"] for c in sockets(lab, "h1", "server")] == ["listen"]
    assert half_open(lab) == captured.half_open
    assert captured.answers() == []
    # And had anything been answered, it would have been seen: this one is.
    captured.send()
    wait_until(lambda: moved().get("syn_accepted") == 1, "the good SYN to be accepted")
    (_, sport, dport, _, flags, _), = [a for a in captured.answers() if a[4] == SYN_ACK]
    assert (sport, dport) == (captured.dport, captured.sport)


def test_no_option(lab, server, captured):
    moved = Moved(lab, "h1")
    option = captured.option
    ordinary = captured.options.replace(option, b"")
    without = [b"", NOP * 20, NOP * 40, ordinary, b"\0" * 40,
               b"\x02\x04\x05\xb4",                             # MSS alone
               b"\xfd" + option[1:],                            # the other experimental kind
               option[:2] + b"\x51\x20" + option[4:],           # another experiment
               option[:2] + b"\x1e\x51" + option[4:],
               b"\0\0\0\0" + option,                            # after the end of the options
               NOP * 3 + b"\0" + option]
    for options in without:
        captured.send(options)
    captured.send(b"", flags=SYN | 8)  # PSH, URG, ECN: a SYN all the same
    captured.send(b"", flags=SYN | 32)
    captured.send(b"", flags=SYN | 0xc0)
    captured.send(b"", ip_options=NOP * 4)
    assert_dropped(lab, server, captured, moved, {"syn_no_option": len(without) + 4})


def test_a_truncated_option(lab, server, captured):
    """Cut after 1 to 19 bytes by the end of the header, as the header has it."""
    moved = Moved(lab, "h1")
    option = captured.option
    for n in range(1, 20):
        captured.send(NOP * (40 - n) + option[:n])
    # A header that ends within the option and is shorter than one: it has none.
    for n in range(4, 20, 4):
        captured.send(option[:n])
    assert_dropped(lab, server, captured, moved, {"syn_bad_option": 19, "syn_no_option": 4})


def test_a_truncated_segment(lab, server, captured):
    """The header says that there are more options than the packet has bytes."""
    moved = Moved(lab, "h1")
    cuts = list(range(20, 40))
    for cut in cuts:
        captured.send(captured.option, cut=cut)
    for doff in range(5):  # shorter than a header is
        captured.send(captured.option, doff=doff)
    captured.send(captured.option, cut=40, doff=15)
    assert_dropped(lab, server, captured, moved, {"syn_bad_option": len(cuts) + 6})


def test_wrong_lengths(lab, server, captured):
    moved = Moved(lab, "h1")
    option = captured.option
    lengths = [n for n in range(256) if n not in (2, 3, 20)]
    for n in lengths:
        captured.send(option[:1] + bytes([n]) + option[2:] + NOP * 20)
    captured.send(option + option)
    captured.send(option[:1] + b"\x02" + NOP * 2 + option[:8] + NOP * 8)  # cut, behind a short one
    captured.send(NOP * 4 + b"\x02\x00" + NOP * 2 + NOP * 12 + option)    # behind a broken one
    captured.send(option + b"\x02\x00" + NOP * 2)                         # before a broken one
    captured.send(option + NOP * 3 + b"\x02")
    assert_dropped(lab, server, captured, moved, {"syn_bad_option": len(lengths) + 5})


def test_a_short_option_is_anothers(lab, server, captured):
    """Kind 254 of 2 or 3 bytes has no experiment's number (RFC 6994): it is passed over."""
    moved = Moved(lab, "h1")
    captured.send(b"\xfe\x02" + NOP * 18)
    captured.send(b"\xfe\x03\x51" + NOP * 17)
    assert_dropped(lab, server, captured, moved, {"syn_no_option": 2})


def test_a_wrong_mac(lab, server, captured):
    """Any bit of what the option says, or of the MAC, turned over."""
    moved = Moved(lab, "h1")
    option = captured.option
    sent = 0
    for byte, bit in itertools.product(range(4, 20), range(8)):
        wrong = bytearray(option)
        wrong[byte] ^= 1 << bit
        captured.send(captured.options.replace(option, bytes(wrong)))
        sent += 1
    captured.send(captured.options.replace(option, option[:4] + bytes(16)))
    assert_dropped(lab, server, captured, moved, {"syn_bad_mac": sent + 1})


def test_a_copy_in_another_packet(lab, server, outsider, captured):
    """A good option is good for one client host, one pair of ports and one sequence number."""
    moved = Moved(lab, "h1")
    others = ([{"sport": captured.sport ^ 1 << bit} for bit in range(10)]
              + [{"seq": captured.seq ^ 1 << bit} for bit in range(32)]
              + [{"dport": captured.dport ^ 1 << bit} for bit in range(8)])
    for other in others:
        captured.send(**other)
    outsider.do(RAW)
    outsider.do(f"send('192.0.2.254', {captured.sport}, {captured.dport}, {captured.seq}, "
                f"{captured.options!r}); raw.close()")
    assert_dropped(lab, server, captured, moved, {"syn_bad_mac": len(others) + 1})


def test_a_good_option_anywhere_in_the_header(lab, server, captured):
    """The other way round: where it stands does not matter, nor what stands around it."""
    for options in (captured.option, NOP * 20 + captured.option, captured.option + NOP * 20,
                    captured.option + b"\0" * 4, b"\x02\x04\x05\xb4" + captured.option,
                    b"\xfe\x04\x12\x34" + captured.option):
        moved = Moved(lab, "h1")
        captured.send(options)
        wait_until(lambda: moved(), "the SYN to be counted")
        assert moved() == {"syn_accepted": 1}
        assert [a[4] for a in captured.answers()] == [SYN_ACK]


def test_no_handshake_without_a_syn(lab, server, captured):
    """To a Slim port, with no SYN before: as to a closed port, and not to the listener."""
    for flags in ACK, SYN_ACK:
        moved = Moved(lab, "h1")
        captured.send(captured.options, flags=flags, sport=1111)  # never a client's
        wait_until(lambda: moved(), "the segment to be counted")
        assert moved() == {"steer_no_syn": 1}
        assert [a[4] & RST for a in captured.answers()] == [RST]
    assert not server("pending(l)")


def test_a_syn_in_fragments(lab, server, captured):
    """A TCP header in two fragments shows its option to nobody; what comes of it has no entry."""
    moved = Moved(lab, "h1")
    captured.r.do(f"""
th = segment({H2!r}, {captured.sport}, {captured.dport}, {captured.seq}, {captured.options!r})
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
    for data, where in (th[:8], 0x2000), (th[8:], 1):
        s.sendto(struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(data), 4711, where, 64, 6, 0,
                             socket.inet_aton({H2!r}), socket.inet_aton(H1)) + data, (H1, 0))
""")
    wait_until(lambda: moved(), "the segment to be counted")
    assert moved() == {"steer_no_syn": 1}
    assert not server("pending(l)")
    assert [a[4] & RST for a in captured.answers()] == [RST]


def test_who_is_gone_cannot_be_impersonated(lab, server, h2):
    """A SYN that was good, sent again after its client's or its server's container ended."""
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(Remote.slim(lab, "h2", "shortlived"))
        captured = Captured(lab, server, client, h2, 9011)
        stack.close()
        wait_until(lambda: all(e["name"] != "shortlived"
                               for e in lab.ctl("h1", "endpoint", "ls")["endpoints"]),
                   "the client's endpoint to go")

        def reason():
            # h1 hears of it by and by: until then the SYN is good, and answered.
            moved = Moved(lab, "h1")
            captured.send()
            wait_until(lambda: moved(), "the SYN to be counted")
            return set(moved())
        wait_until(lambda: reason() == {"syn_unknown_client"}, "the client to be unknown")
    captured.answers()
    captured.send()
    assert captured.answers() == []
    assert not server("pending(l)")
    server.do("l.close()")


def test_a_server_that_is_gone(lab, client, h2):
    with Remote.slim(lab, "h1", "server2") as server:
        h2.do(RAW + "\nwire = Wire()")
        server.do("l = listen('0.0.0.0', 9012)")
        client.do(f"connect('{lab.ip('server2')}', 9012).close()")
        server.do("l.accept()[0].close()")
        syn, = [s for s in h2("wire.segments()") if s[0] == H2 and s[4] == SYN]
    wait_until(lambda: all(e["name"] != "server2"
                           for e in lab.ctl("h1", "endpoint", "ls")["endpoints"]),
               "the server's endpoint to go")
    moved = Moved(lab, "h1")
    h2.do(f"send({H2!r}, {syn[1] ^ 1}, {syn[2]}, {syn[3]}, {syn[5]!r})")  # TIME_WAIT would take the other
    h2.do(f"send({H2!r}, {syn[1]}, {syn[2]}, {syn[3]}, {syn[5]!r})")
    wait_until(lambda: sum(moved().values()) >= 2, "the SYNs to be counted")
    assert moved() == {"syn_bad_mac": 1, "syn_unknown_server": 1}


def test_a_host_program_has_no_way_in(lab, server, h1):
    """A program of the host itself: no socket of a container's, no option, no connection."""
    server.do("l = listen('0.0.0.0', 9013); c = connect('127.0.0.1', 9013); "
              "a = l.accept()[0]")
    wire_name, = [c["host_peer"] for c in sockets(lab, "h1", "server")
                  if c["state"] == "established" and c["peer"].endswith(":9013")]
    port = int(wire_name.split(":")[1])
    moved = Moved(lab, "h1")
    for address in "127.0.0.1", H1:
        h1.do(f"s = socket.socket(); s.setblocking(False); e = s.connect_ex(('{address}', {port}))")
        assert h1("errno.errorcode[e]") == "EINPROGRESS"
        h1.do("s.close()")
    assert moved("syn_no_option") == {"syn_no_option": 2}
    assert not server("pending(l)")
    server.do("c.close(); a.close(); l.close()")
