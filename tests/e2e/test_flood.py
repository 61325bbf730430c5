# SPDX-License-Identifier: Apache-2.0
"""
What another machine of the underlay sends in great numbers: each packet is counted as what it is, none is
answered, nothing of Slim grows, and whoever has a connection or wants one is served meanwhile. How fast, is
bench/bench flood's question.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys

import pytest

from conftest import ROOT, lab_up, wait_until
from remote import Moved, Remote
from test_hidden import RAW, SYN, SYN_ACK

sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tools")]

from slimbench import memory  # noqa: E402
from slimlab.state import State  # noqa: E402
from slimlab.system import bpffs_root  # noqa: E402

BUILD = pathlib.Path(os.environ.get("SLIM_BUILD") or ROOT / "build")
LOAD = str(BUILD / "bench" / "load" / "load")

# h1, who is flooded, and addresses of the underlay that nobody has.
TARGET = {"4": "192.0.2.1", "6": "2001:db8::1"}
NOBODY = {"4": "192.0.2.64/26", "6": "2001:db8::7:0/112"}
H2 = {"4": "192.0.2.2", "6": "2001:db8::2"}

SLIM_PORTS = ("61440", "--ports", "256")
VXLAN = ("4789",)

# Of a flood that a test waits for; its rate is what a busy machine can do, too.
COUNT, RATE = 4000, 4000

SYNS_MAX = 65536  # entries of the map, src/bpf/maps.h


@pytest.fixture(scope="module")
def lab():
    with lab_up(underlay="46", overlay="46") as up:
        yield up


@pytest.fixture(scope="module")
def server(lab):
    """Echoes by TCP and UDP, of both families, on port 80."""
    with Remote.slim(lab, "h1", "server") as r:
        r.do("""
def echo(c):
    with c, contextlib.suppress(OSError):
        while data := c.recv(4096):
            c.sendall(data)

def serve(l):
    while True:
        c = l.accept()[0]
        c.settimeout(None)
        threading.Thread(target=echo, args=(c,), daemon=True).start()

def serve_udp(u):
    while True:
        u.sendto(*u.recvfrom(4096))

l = listen('::', 80, socket.AF_INET6)
l.settimeout(None)
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
u.bind(('::', 80))
u.settimeout(None)
for function, of in (serve, l), (serve_udp, u):
    threading.Thread(target=function, args=(of,), daemon=True).start()
""")
        yield r


@pytest.fixture(scope="module")
def client(lab, server):
    """Has a connection of each family from the first test to the last."""
    addresses = [(f"socket.AF_INET{'6' if f == '6' else ''}", lab.ip("server", f)) for f in "46"]
    with Remote.slim(lab, "h2", "client") as r:
        r.do(f"""
SERVERS = [{', '.join(f'({f}, {a!r})' for f, a in addresses)}]
held = [connect(a, 80, f) for f, a in SERVERS]

def ask(s, what):
    s.sendall(what)
    heard = b''
    while len(heard) < len(what):
        more = s.recv(4096)
        assert more, 'the server hung up'
        heard += more
    assert heard == what

def requests(n):
    # On the connections that are there, and on n new ones for each family.
    for i in range(n):
        for s in held:
            ask(s, b'%d' % i)
        for f, a in SERVERS:
            with connect(a, 80, f) as s:
                ask(s, b'new %d' % i)
    return n * len(SERVERS)

def ask_by_udp():
    # A datagram may be lost, and is then sent again.
    for f, a in SERVERS:
        with socket.socket(f, socket.SOCK_DGRAM) as s:
            s.connect((a, 80))
            for _ in range(30):
                s.send(b'datagram')
                if select.select([s], [], [], 1)[0]:
                    break
            assert s.recv(99) == b'datagram'
""")
        yield r


@pytest.fixture(scope="module")
def outsider(lab):
    """What comes back to the machine that floods, from its own address."""
    with Remote.host(lab, "net") as r:
        r.do("""
wires = {}
for name, protocol in ('4', 0x0800), ('6', 0x86dd):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(protocol))
    s.bind(('underlay', protocol))
    wires[name] = s

def answers(family):
    # (source port, flags) of TCP segments, and None for each ICMP message that is no neighbour's.
    found = []
    while select.select([wires[family]], [], [], 0)[0]:
        p = wires[family].recv(2048)
        protocol, at = (p[9], (p[0] & 15) * 4) if family == '4' else (p[6], 40)
        if protocol == socket.IPPROTO_TCP:
            found.append((int.from_bytes(p[at:at + 2], 'big'), p[at + 13]))
        elif protocol == socket.IPPROTO_ICMP or protocol == 58 and p[at] < 128:
            found.append(None)
    return found
""")
        yield r


@pytest.fixture(scope="module")
def h2(lab):
    with Remote.host(lab, "h2") as r:
        yield r


def flood(lab, family, port, *options):
    """To its end; how many packets it sent."""
    said = lab.host("net", LOAD, "flood", TARGET[family], *port, *options).stdout
    return json.loads(said.splitlines()[-1])["total"]


def flood_during(lab, work, family, port, *options):
    """The same, with work in the meantime, again and again."""
    words = [LOAD, "flood", TARGET[family], *port, "--count", COUNT, "--rate", RATE, *options]
    with lab.start("host", "net", "the flood", *words, ready="ready") as process:
        while process.poll() is None:
            work()
        said = pathlib.Path(process.log).read_text()
        assert process.returncode == 0, said
    return json.loads(said.splitlines()[-1])["total"]


def half_open_sockets(lab):
    return lab.host("h1", "ss", "-Htn", "state", "syn-recv").stdout.splitlines()


def flows(lab):
    """That the host's conntrack has."""
    return int(lab.host("h1", "cat", "/proc/sys/net/netfilter/nf_conntrack_count").stdout)


def neighbours(lab):
    """Whom h1 has asked for, or knows, of those that nobody is."""
    text = lab.host("h1", "ip", "neigh", "show").stdout
    found = [line.split()[0] for line in text.splitlines()]
    return [a for a in found if a.startswith("2001:db8::7:")
            or a.startswith("192.0.2.") and 64 <= int(a.split(".")[3]) < 128]


def maps(lab):
    return lab.ctl("h1", "status")["maps"]


def endpoint_ids(lab):
    ids = {e["name"]: e["id"] for e in lab.ctl("h1", "endpoint", "ls")["endpoints"]}
    return ["--client", str(ids["client"]), "--server", str(ids["server"])]


def test_what_is_answered_is_seen(lab, outsider):
    """A closed port answers, to the one who asked, and to one who is not there it would like to."""
    outsider.do("answers('4'); answers('6')")
    for family in "46":
        assert flood(lab, family, ("9",), "--kind", "plain", "--count", "3") == 3
        seen = []
        wait_until(lambda: seen.extend(outsider(f"answers({family!r})")) or len(seen) == 3, "resets")
        assert seen == [(9, 0x14)] * 3
        flood(lab, family, ("9",), "--kind", "plain", "--count", "3", "--from", NOBODY[family])
    assert neighbours(lab)
    lab.host("h1", "ip", "neigh", "flush", "all")


# By what each SYN may be counted; of the random ones some have no option and some a broken one.
REASONS = {"none": {"syn_no_option"}, "plain": {"syn_no_option"}, "truncated": {"syn_bad_option"},
           "random": {"syn_no_option", "syn_bad_option", "syn_bad_mac"}, "valid": {"syn_bad_mac"}}


@pytest.mark.parametrize("family", "46")
@pytest.mark.parametrize("kind", REASONS)
def test_syns(lab, server, client, outsider, kind, family):
    ids = endpoint_ids(lab)
    lab.host("h1", "ip", "neigh", "flush", "all")
    outsider.do("answers('4'); answers('6')")
    before = maps(lab)
    moved = Moved(lab, "h1")
    opened = []

    sent = flood_during(lab, lambda: opened.append(client("requests(10)")), family, SLIM_PORTS, "--kind",
                        kind, "--from", NOBODY[family], *ids)
    sent += flood(lab, family, SLIM_PORTS, "--kind", kind, "--count", 200, *ids)  # from its own address
    assert sent == COUNT + 200
    wait_until(lambda: sum(moved(*REASONS[kind]).values()) >= sent, f"{sent} SYNs to be counted")
    counted = moved()
    # A SYN of the client's that came late has come twice.
    assert counted.pop("syn_accepted") >= sum(opened)
    assert set(counted) <= REASONS[kind] and sum(counted.values()) == sent
    if kind == "random":
        assert {"syn_no_option", "syn_bad_option"} <= set(counted)

    assert outsider(f"answers({family!r})") == []
    assert neighbours(lab) == []
    wait_until(lambda: half_open_sockets(lab) == [], "no half-open socket to be left")
    wait_until(lambda: maps(lab) == before, lambda: f"the maps to be as before: {before}, {maps(lab)}")


@pytest.mark.parametrize("kind,family,source,reason", [
    ("garbage", "4", NOBODY["4"], None), ("garbage", "6", NOBODY["6"], None),
    ("vxlan", "4", NOBODY["4"], "encap_unknown_host"), ("vxlan", "6", NOBODY["6"], "encap_unknown_host"),
    ("vxlan", "4", f"{H2['4']}/32", "encap_spoofed"), ("vxlan", "6", f"{H2['6']}/128", "encap_spoofed")])
def test_vxlan(lab, server, client, kind, family, source, reason):
    """Of unknown hosts, and from the server itself, which is not where they say: on h2."""
    network, = [n["id"] for n in lab.ctl("h1", "network", "ls")["networks"] if n["name"] == "default"]
    inner = f"{lab.ip('server', family)}/{'32' if family == '4' else '128'}"
    client.do("ask_by_udp()")
    before, known = maps(lab), flows(lab)
    moved = Moved(lab, "h1")
    opened = []

    def work():
        client.do("ask_by_udp()")
        opened.append(client("requests(2)"))

    sent = flood_during(lab, work, family, VXLAN, "--kind", kind,
                        "--from", source, "--inner", inner, "--network", network)
    if reason:
        wait_until(lambda: moved(reason).get(reason, 0) >= sent, f"{sent} packets to be counted")
    # Random bytes are no VXLAN, but for some, which have no packet in them.
    assert set(moved()) <= {"syn_accepted", reason or "encap_bad_packet"}
    assert moved(reason).get(reason) == (sent if reason else None)
    # The host remembers the connections of the client, and not the others.
    assert flows(lab) - known <= sum(opened) + 50
    assert maps(lab) == before


@pytest.mark.parametrize("family", "46")
def test_icmp_errors(lab, server, client, family):
    before = maps(lab)
    moved = Moved(lab, "h1")
    sent = flood_during(lab, lambda: client.do("requests(10)"), family, SLIM_PORTS, "--kind", "icmp",
                        "--from", NOBODY[family])
    assert sent == COUNT
    assert set(moved()) <= {"syn_accepted"}
    assert maps(lab) == before


# --- connections on their way ---------------------------------------------------------------------


@contextlib.contextmanager
def lost(lab, hook, flags):
    """Segments with exactly these of SYN and ACK are lost at h2, on their way in or out."""
    lab.host("h2", "nft", f"add table ip lost_{hook}; add chain ip lost_{hook} c {{ type filter hook {hook} "
                          f"priority 0; }}; add rule ip lost_{hook} c tcp flags & (syn | ack) == {flags} drop")
    try:
        yield
    finally:
        lab.host("h2", "nft", f"delete table ip lost_{hook}")


def unanswered(lab):
    """h2 does not hear that its SYNs are answered."""
    return lost(lab, "input", "(syn | ack)")


BEGIN = """
s = socket.socket()
s.setblocking(False)
assert s.connect_ex(({address!r}, {port})) == errno.EINPROGRESS
"""

FINISH = """
assert select.select([], [s], [], socket.getdefaulttimeout())[1]
assert not s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
s.setblocking(True)
s.settimeout(socket.getdefaulttimeout())
"""


def of_machine(lab):
    """Bytes of Slim's own on h1."""
    names = os.listdir(f"{State(lab.id).pins(bpffs_root())}/h1/maps")
    return {"maps": memory.maps(lab.id, "h1", names), "slimd": memory.daemon(lab.id, "h1"),
            "brokers": sum(map(memory.pss, memory.brokers(lab.id, "h1")))}


def test_more_than_the_map_holds(lab, server, client):
    """A connection whose handshake takes long is not pushed out, and nothing grows."""
    more = SYNS_MAX + 1000
    client.do("requests(5)")
    before, memory_before, entries = maps(lab)["syns"], of_machine(lab), maps(lab)
    moved = Moved(lab, "h1")
    with unanswered(lab):
        client.do(BEGIN.format(address=lab.ip("server"), port=80))
        wait_until(lambda: maps(lab)["syns"] == before + 1, "the client's SYN to be known")
        assert flood(lab, "4", SLIM_PORTS, "--kind", "valid", "--count", more, "--from", NOBODY["4"],
                     *endpoint_ids(lab)) == more
        wait_until(lambda: moved("syn_bad_mac").get("syn_bad_mac") == more, "all SYNs to be counted")
        assert maps(lab)["syns"] == before + 1
    client.do(FINISH)
    # It is known whose it is.
    here, = [c for c in lab.ctl("h1", "connection", "ls", "--name", "server")["connections"]
             if c["peer"] == "%s:%d" % client("s.getsockname()")]
    assert here["peer_endpoint"] == "client"
    client.do("ask(s, b'late'); s.close()")
    wait_until(lambda: maps(lab) == entries, lambda: f"the maps to be as before: {entries}, {maps(lab)}")
    # 16 bytes for each packet would be a megabyte.
    for what, bytes_now in of_machine(lab).items():
        assert bytes_now - memory_before[what] < 1 << 20, what


POLICY = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "all"},
          "spec": {"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}}


def forget_syns(lab):
    """As if all had been pushed out of the map."""
    path = f"{State(lab.id).pins(bpffs_root())}/h1/maps/syns"
    dump = subprocess.run(["bpftool", "-j", "map", "dump", "pinned", path], check=True, capture_output=True)
    for entry in json.loads(dump.stdout):
        subprocess.run(["bpftool", "map", "delete", "pinned", path, "key", "hex",
                        *(b.removeprefix("0x") for b in entry["key"])], check=True)


def test_a_connection_whose_syn_was_pushed_out(lab, server, client, tmp_path):
    """It has no name, and no policy can tell who it is: the first one ends it, whom it allows or not."""
    known = maps(lab)["syns"]
    with contextlib.ExitStack() as stack:
        with unanswered(lab):
            client.do(BEGIN.format(address=lab.ip("server"), port=80))
            wait_until(lambda: maps(lab)["syns"] == known + 1, "the client's SYN to be known")
            # Sent again it would be known again.
            stack.enter_context(lost(lab, "output", "syn"))
            forget_syns(lab)
        client.do(FINISH + "ask(s, b'hello')")
    shown = lab.ctl("h1", "connection", "ls", "--name", "server")["connections"]
    name = client("s.getsockname()[1]")
    nameless, = [c for c in shown if c["peer"] and c["peer"].endswith(f":{name}")]
    assert nameless["state"] == "established" and nameless["peer_endpoint"] is None
    (tmp_path / "policy.yaml").write_text(json.dumps(POLICY))
    lab.verb("ctl", "h1", "--", "policy", "apply", "-f", tmp_path / "policy.yaml")
    try:
        with pytest.raises(ConnectionResetError):
            client("s.recv(1)")
        client.do("s.close(); requests(2)")
    finally:
        lab.verb("ctl", "h1", "--", "policy", "rm", "all")


def replays(lab, h2, begin, dport):
    """
    A SYN that begin() has h2 send, and that nobody answers as far as h2 knows, and then 2,000 times
    again from there: how many answers there were, and half-open sockets.
    """
    h2.do(RAW + "\nwire = Wire()")
    before = len(half_open_sockets(lab))
    with unanswered(lab):
        begin()
        seen = []
        wait_until(lambda: seen.extend(s for s in h2("wire.segments()") if s[4] == SYN and s[0] == H2["4"]
                                       and dport(s[2])) or seen, "the SYN")
        _, sport, port, seq, _, options = seen[0]
        h2.do(f"for _ in range(2000): send({H2['4']!r}, {sport}, {port}, {seq}, {options!r})")
        wait_until(lambda: len(half_open_sockets(lab)) > before, "a half-open socket")
        half_open = len(half_open_sockets(lab)) - before
        answers = sum(s[4] == SYN_ACK and s[2] == sport for s in h2("wire.segments()"))
    h2.do("wire.s.close(); raw.close()")
    return answers, half_open


def test_a_replayed_syn_gets_what_a_hosts_socket_gives(lab, server, client, h2):
    known = maps(lab)["syns"]
    moved = Moved(lab, "h1")
    answers, half_open = replays(lab, h2, lambda: client.do(BEGIN.format(address=lab.ip("server"),
                                                                         port=80)),
                                 lambda port: 61440 <= port < 61696)
    assert moved("syn_accepted")["syn_accepted"] > 2000
    assert half_open == 1
    # One entry for all of them. The connection is the first SYN's and can still be finished.
    client.do(FINISH + "ask(s, b'after all'); s.close()")
    wait_until(lambda: maps(lab)["syns"] == known, "the entry to be used up")

    with Remote.host(lab, "h1") as h1:
        h1.do("l = listen('0.0.0.0', 7000)")
        answers_of_host, half_open = replays(
            lab, h2, lambda: h2.do(BEGIN.format(address=TARGET["4"], port=7000)), lambda port: port == 7000)
        h2.do(FINISH + "s.close()")
        h1.do("l.accept()[0].close(); l.close()")
    assert half_open == 1
    # Each a SYN-ACK now and then (net.ipv4.tcp_invalid_ratelimit), and not 2,000.
    assert 1 <= answers < 200 and 1 <= answers_of_host < 200


def test_when_the_queue_is_full_there_are_cookies(lab, server, client):
    """SYNs that are signed and never go on: as many as would fill a listener's queue ten times."""
    def cookies():
        line, = [s for s in lab.host("h1", "nstat", "-asz", "TcpExtSyncookiesSent").stdout.splitlines()
                 if s.startswith("Tcp")]
        return int(line.split()[1])

    known, sent = maps(lab)["syns"], cookies()
    server.do("small = listen('0.0.0.0', 81, backlog=4)")
    with Remote.slim(lab, "h1", "near") as near:
        with unanswered(lab):
            client.do("waiting = [socket.socket() for _ in range(50)]")
            client.do(f"for s in waiting: s.setblocking(False); s.connect_ex(({lab.ip('server')!r}, 81))")
            wait_until(lambda: cookies() > sent, "cookies to be sent")
            assert len(half_open_sockets(lab)) <= 10
            near.do(f"s = connect({lab.ip('server')!r}, 81)")
            server.do("c, who, seen = accept(small)")
            assert server("who") == near("s.getsockname()")
            near.do("s.sendall(b'hello')")
            assert server("c.recv(9)") == b"hello"
            client.do("for s in waiting: s.close()")
    server.do("c.close(); small.close()")
    wait_until(lambda: half_open_sockets(lab) == [], "no half-open socket to be left")
    # What never became a connection stays for others to push out: 50 of 65,536.
    assert maps(lab)["syns"] - known <= 50
