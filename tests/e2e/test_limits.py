# SPDX-License-Identifier: Apache-2.0
"""
Bandwidth limits and traffic classes of containers: what is held, over which ways, how they change, what
is refused, and that nothing is left of them.

A limit counts frames. What a receiver gets of its payload is less: OVERHEAD bytes of each segment are
headers of Ethernet, IP and TCP. Rates here are far below what the machine could do, as a busy machine that does
not reach them would tell nothing.
"""

import contextlib
import itertools
import json
import re
import time

import pytest

from conftest import lab_up, wait_until
from remote import PYTHON, Moved, Remote

MEGA = 10**6
OVERHEAD = 66  # Ethernet 14, IPv4 20, TCP with timestamps 32

NAMES = itertools.count()


def ctl(lab, *words, host="h1"):
    return lab.verb("ctl", host, "--", *words, check=False)


def limit(lab, name, *options, host="h1"):
    return lab.ctl(host, "endpoint", "limit", name, *options)["endpoint"]["limits"]


# Sends on n connections, until it is ended.
SEND = """
import socket, sys, threading
address, port, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def send():
    c = socket.create_connection((address, port), 60)
    while True:
        c.sendall(bytes(1 << 14))
print("ready", flush=True)
for _ in range(n):
    threading.Thread(target=send).start()
"""

# A server that counts what it gets, on all connections together.
COUNT = """
import socket, threading
lock, got = threading.Lock(), 0
def count(c):
    global got
    while m := c.recv(1 << 18):
        with lock:
            got += len(m)
def serve(l):
    while True:
        threading.Thread(target=count, args=(l.accept()[0],), daemon=True).start()
l = socket.create_server(("", 5000), backlog=64)
l.settimeout(None)
threading.Thread(target=serve, args=(l,), daemon=True).start()
"""

KINDS = {"slim": Remote.slim, "plain": Remote.plain}


@pytest.fixture(scope="module")
def servers(lab):
    """What counts: a Slim and a plain container on each host."""
    with contextlib.ExitStack() as stack:
        found = {}
        for host, kind in itertools.product(("h1", "h2"), KINDS):
            found[host, kind] = stack.enter_context(KINDS[kind](lab, host, f"{kind}-{host}"))
            found[host, kind].do(COUNT)
        yield found


@contextlib.contextmanager
def sending(lab, host, name, to, n=1, kind="run", options=(), port=5000):
    with lab.start(kind, host, name, "/usr/bin/python3", "-c", SEND, to, port, n,
                   options=options, ready="ready") as p:
        yield p


def rate(server, seconds=1.0):
    """Bits of payload a second that it gets."""
    began, before = time.monotonic(), server("got")
    time.sleep(seconds)
    end, after = time.monotonic(), server("got")
    return (after - before) * 8 / (end - began)


def held(server, limit_bits, mss, tries=5):
    """Its rate is that of the limit, to 5 %, over a second. A machine that stood still meanwhile is asked again."""
    expected = limit_bits * mss / (mss + OVERHEAD)
    wait_until(lambda: server("got") > 0, "anything to arrive")
    time.sleep(0.3)  # what the queue, the burst and the buffers took at once
    rates = []
    for _ in range(tries):
        rates.append(rate(server))
        if abs(rates[-1] / expected - 1) < 0.05:
            return
    pytest.fail(f"expected {expected / MEGA:.1f} Mbit/s of payload, got "
                f"{[round(r / MEGA, 1) for r in rates]}")


MSS = 1448       # over the underlay's 1500
MSS_VXLAN = 1398  # over the containers' 1450
MSS_LO = 65483


@pytest.mark.parametrize("n", [1, 8])
@pytest.mark.parametrize("direction", ["egress", "ingress"])
def test_between_hosts(lab, servers, direction, n):
    """All connections of a container together."""
    server = servers["h2", "slim"]
    server.do("got = 0")
    options = ("--egress", "200M") if direction == "egress" else ()
    if direction == "ingress":
        limit(lab, "slim-h2", "--ingress", "200M", host="h2")
    with sending(lab, "h1", f"s{next(NAMES)}", lab.ip("slim-h2"), n, options=options):
        held(server, 200 * MEGA, MSS)
    if direction == "ingress":
        assert limit(lab, "slim-h2", "--ingress", "none", host="h2") == {}


@pytest.mark.parametrize("direction", ["egress", "ingress"])
def test_within_a_host(lab, servers, direction):
    server = servers["h2", "slim"]
    server.do("got = 0")
    options = ("--egress", "200M") if direction == "egress" else ()
    if direction == "ingress":
        limit(lab, "slim-h2", "--ingress", "200M", host="h2")
    with sending(lab, "h2", f"s{next(NAMES)}", lab.ip("slim-h2"), options=options):
        held(server, 200 * MEGA, MSS_LO)
    if direction == "ingress":
        limit(lab, "slim-h2", "--ingress", "none", host="h2")


@pytest.mark.parametrize("sender,receiver,direction", [
    (("h1", "plain"), ("h2", "plain"), "egress"), (("h1", "plain"), ("h2", "plain"), "ingress"),
    (("h2", "plain"), ("h2", "plain"), "egress"), (("h2", "plain"), ("h2", "plain"), "ingress"),
    (("h1", "run"), ("h2", "plain"), "egress"), (("h1", "plain"), ("h2", "slim"), "ingress"),
    (("h2", "plain"), ("h2", "slim"), "ingress")])
def test_encapsulated(lab, servers, sender, receiver, direction):
    server = servers[receiver]
    server.do("got = 0")
    name = f"{receiver[1]}-{receiver[0]}"
    options = ("--egress", "100M") if direction == "egress" else ()
    if direction == "ingress":
        limit(lab, name, "--ingress", "100M", host=receiver[0])
    # A swapped socket's own frames are counted where they leave the host, with VXLAN's headers.
    vxlan = 50 if sender[1] == "run" else 0
    with sending(lab, sender[0], f"s{next(NAMES)}", lab.ip(name), 2, kind=sender[1], options=options):
        held(server, 100 * MEGA * (MSS_VXLAN + OVERHEAD) / (MSS_VXLAN + OVERHEAD + vxlan), MSS_VXLAN)
    if direction == "ingress":
        limit(lab, name, "--ingress", "none", host=receiver[0])


def test_one_budget_for_all_ways(lab, servers):
    """To another host, to this one, and by UDP: one limit."""
    far, near = servers["h2", "slim"], servers["h1", "slim"]
    udp = servers["h2", "plain"]
    udp.do("u = socket.socket(type=socket.SOCK_DGRAM); u.bind(('', 5001)); udp_got = 0")
    udp.do("""
def count_udp():
    global udp_got
    u.settimeout(None)
    while True:
        udp_got += len(u.recv(2048))
threading.Thread(target=count_udp, daemon=True).start()
""")
    code = f"""
import socket, threading, time
def send(address):
    c = socket.create_connection((address, 5000), 60)
    while True:
        c.sendall(bytes(1 << 14))
threading.Thread(target=send, args=("{lab.ip('slim-h2')}",)).start()
threading.Thread(target=send, args=("{lab.ip('slim-h1')}",)).start()
u = socket.socket(type=socket.SOCK_DGRAM)
while True:
    u.sendto(bytes(1372), ("{lab.ip('plain-h2')}", 5001))
    time.sleep(0.001)
"""
    with lab.start("run", "h1", "all-ways", "/usr/bin/python3", "-c", code,
                   options=("--egress", "100M")):
        wait_until(lambda: far("got") > 0 and near("got") > 0 and udp("udp_got") > 0, "all three to arrive")
        time.sleep(0.5)
        for _ in range(5):
            began = time.monotonic()
            before = far("got"), near("got"), udp("udp_got")
            time.sleep(1)
            after = far("got"), near("got"), udp("udp_got")
            took = time.monotonic() - began
            parts = [(b - a) * 8 / took / MEGA for a, b in zip(before, after)]
            # Back to frames: these are TCP over 1500 and over lo, and datagrams.
            total = (parts[0] * (MSS + OVERHEAD) / MSS + parts[1] * (MSS_LO + OVERHEAD) / MSS_LO
                     + parts[2] * (1372 + 42) / 1372)
            if abs(total / 100 - 1) < 0.05 and min(parts) > 0.5:
                return
        pytest.fail(f"{parts}: {total}")


def test_two_flows_each_with_its_own(lab, servers):
    """Limits of 15, 10 and 5 parts change while both go on, each for its own container."""
    a, b = servers["h2", "slim"], servers["h2", "plain"]
    unit = 10 * MEGA
    with sending(lab, "h1", "flow-a", lab.ip("slim-h2")), sending(lab, "h1", "flow-b", lab.ip("plain-h2")):
        for parts_a, parts_b in ((15, 10), (10, 5), (5, 15)):
            limit(lab, "flow-a", "--egress", str(parts_a * unit))
            limit(lab, "flow-b", "--egress", str(parts_b * unit))
            held(a, parts_a * unit, MSS)
            held(b, parts_b * unit * (MSS_VXLAN + OVERHEAD) / (MSS_VXLAN + OVERHEAD + 50), MSS_VXLAN)
        limit(lab, "flow-a", "--egress", "none")
        wait_until(lambda: rate(a, 0.3) > 40 * unit, "what is not limited any more")
        held(b, 15 * unit * (MSS_VXLAN + OVERHEAD) / (MSS_VXLAN + OVERHEAD + 50), MSS_VXLAN)


@pytest.mark.parametrize("host", ["h1", "h2"])
@pytest.mark.parametrize("direction", ["egress", "ingress"])
def test_ipv6(lab6, direction, host):
    """Between hosts and within one, all of it IPv6."""
    lab, server = lab6
    server.do("got = 0")
    options = ("--egress", "100M") if direction == "egress" else ()
    if direction == "ingress":
        limit(lab, "six", "--ingress", "100M", host="h2")
    mss = MSS - 20 if host == "h1" else MSS_LO - 20
    with sending(lab, host, f"s{next(NAMES)}", lab.ip("six"), options=options):
        held(server, 100 * MEGA * (mss + OVERHEAD) / (mss + OVERHEAD + 20), mss)
    if direction == "ingress":
        limit(lab, "six", "--ingress", "none", host="h2")


@pytest.fixture(scope="module")
def lab6():
    with lab_up(underlay="6", overlay="6") as lab, Remote.slim(lab, "h2", "six") as server:
        server.do(COUNT.replace('("", 5000)', '("::", 5000), family=socket.AF_INET6'))
        yield lab, server


def test_own_loopback_is_not_limited(lab):
    code = COUNT + """
import time
def send(address):
    c = socket.create_connection((address, 5000))
    for _ in range(200):
        c.sendall(bytes(1 << 20))
    c.close()
for address in ("127.0.0.1", own):
    got = 0
    began = time.monotonic()
    send(address)
    while got < 200 << 20:
        time.sleep(0.01)
    print(got * 8 / (time.monotonic() - began))
"""
    own = "10.77.0.77"
    with lab.start("run", "h1", "loop", "/usr/bin/python3", "-c", f"own = {own!r}\n" + code,
                   options=("--egress", "1M", "--ingress", "1M", "--address", own)) as p:
        wait_until(lambda: p.poll() is not None, "200 MiB at 1 Mbit/s, which takes half an hour")
        assert p.returncode == 0, open(p.log).read()


# --- traffic classes ------------------------------------------------------------------------------

CAPTURE = """
import json, socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind((sys.argv[1], 0))
s.settimeout(60)
print("ready", flush=True)
seen = set()
ends = json.loads(sys.argv[2])
while len(seen) < len(ends):
    p = s.recv(1 << 16)
    if p[12:14] != b"\\x08\\0":
        continue
    ip = p[14:]
    if socket.inet_ntoa(ip[12:16]) != sys.argv[3]:
        continue
    total = sum(struct.unpack(">10H", ip[:20]))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    key = "tcp" if ip[9] == 6 else "udp" if ip[9] == 17 else None
    if key and key not in seen and (key == "udp" or len(p) > 200):
        seen.add(key)
        print(json.dumps([key, ip[1], total == 0xffff, ip[28 + 8 + 14 + 1] if key == "udp" else None]), flush=True)
"""


@pytest.mark.parametrize("limits", [(), ("--egress", "50M")])
def test_dscp(lab, servers, limits):
    """TCP of swapped sockets, and VXLAN outside and inside; what the program asked for is overruled but for ECN."""
    code = f"""
import socket, time
c = socket.create_connection(("{lab.ip('slim-h2')}", 5000), 60)
u = socket.socket(type=socket.SOCK_DGRAM)
u.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0x28 | 2)
u.connect(("{lab.ip('plain-h2')}", 5001))
while True:
    c.sendall(bytes(1000))
    try:
        u.send(bytes(100))
    except ConnectionRefusedError:
        pass
    time.sleep(0.01)
"""
    with lab.start("host", "net", "capture", "/usr/bin/python3", "-c", CAPTURE, "h1",
                   json.dumps(["tcp", "udp"]), "192.0.2.1", ready="ready") as p, \
            lab.start("run", "h1", "marked", "/usr/bin/python3", "-c", code,
                      options=("--dscp", "EF", "--priority", "6", *limits)):
        wait_until(lambda: p.poll() is not None, "both kinds of packets")
        found = {row[0]: row[1:] for row in map(json.loads, open(p.log).read().splitlines()[1:])}
    assert found["tcp"] == [46 << 2, True, None]
    assert found["udp"] == [46 << 2 | 2, True, 46 << 2 | 2]


# --- how they are told, changed, kept and lost ----------------------------------------------------


def limiter(lab, host="h1"):
    """What there is of the limiter: devices, classes, programs."""
    links = lab.host(host, "ip", "-br", "link").stdout
    classes = lab.host(host, "tc", "class", "show", "dev", "slim-limit", check=False).stdout
    filters = [lab.host(host, "tc", "filter", "show", "dev", device, way).stdout.count(" name slim_limit")
               for device in ("lo", "uplink") for way in ("ingress", "egress")]
    return ("slim-limit" in links, set(re.findall(r"rate (\S+)", classes)), filters)


NOTHING = (False, set(), [0, 0, 0, 0])


def gone(lab, *names):
    wait_until(lambda: not {*names} & {e["name"] for e in lab.ctl("h1", "endpoint", "ls")["endpoints"]},
               f"{names} to go")


def test_there_only_while_it_is_needed(lab):
    assert limiter(lab) == NOTHING
    with Remote.slim(lab, "h1", "one"), Remote.plain(lab, "h1", "two"):
        assert limiter(lab) == NOTHING
        assert limit(lab, "one", "--egress", "10M", "--ingress", "1.5G") == {"egress": 10 * MEGA,
                                                                            "ingress": 1500 * MEGA}
        there, classes, filters = limiter(lab)
        assert there and classes == {"1500Mbit", "10Mbit"} and filters == [1, 1, 1, 1]
        assert limit(lab, "two", "--egress", "20M", "--dscp", "cs1") == {"egress": 20 * MEGA, "dscp": 8}
        assert limiter(lab)[1] == {"1500Mbit", "10Mbit", "20Mbit"}
        assert limit(lab, "one", "--egress", "none", "--ingress", "30M", "--priority", "3") == {
            "ingress": 30 * MEGA, "priority": 3}
        assert limiter(lab)[1] == {"20Mbit", "30Mbit"}
        for host in ("h1", "h2"):  # all of the cluster see them
            one = lab.ctl(host, "endpoint", "show", "one")["endpoint"]
            assert one["limits"] == {"ingress": 30 * MEGA, "priority": 3}
        assert "limits" in ctl(lab, "endpoint", "show", "one").stdout
        assert limit(lab, "one", "--ingress", "none", "--priority", "none") == {}
        assert limiter(lab)[1] == {"20Mbit"}
    gone(lab, "one", "two")
    assert limiter(lab) == NOTHING  # the end of a container is the end of its limits


# Frames for nobody's class: an IPv4 header and nothing, and no header at all.
STRAY = """
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("slim-limit", 0x800))
for body in bytes.fromhex("45000014000000004011 0000 c0000201 c0000202"), bytes(20):
    s.send(bytes(12) + b"\\x08\\0" + body)
"""


def test_what_is_nobodys_in_the_limiter(lab):
    with Remote.slim(lab, "h1", "odd", options=["--egress", "10M"]):
        moved = Moved(lab, "h1")
        lab.host("h1", PYTHON, "-c", STRAY)
        wait_until(lambda: moved("limit_lost") == {"limit_lost": 2}, "the frames to be counted")
    gone(lab, "odd")


def test_a_restart_of_slimd(lab, servers):
    """What is limited stays so without slimd, and with the next one, in the class that it has."""
    server = servers["h2", "slim"]
    with sending(lab, "h1", "kept", lab.ip("slim-h2"), options=("--egress", "100M")), \
            contextlib.ExitStack() as ends:
        ends.enter_context(Remote.slim(lab, "h1", "ends"))
        limit(lab, "ends", "--egress", "7M")
        held(server, 100 * MEGA, MSS)
        classes = lab.host("h1", "tc", "class", "show", "dev", "slim-limit").stdout
        lab.verb("daemon", "h1", "kill")
        held(server, 100 * MEGA, MSS)
        ends.close()
        lab.verb("daemon", "h1", "start")
        wait_until(lambda: limiter(lab)[1] == {"100Mbit"}, "the limit of the one that ended to go")
        kept = lab.host("h1", "tc", "class", "show", "dev", "slim-limit").stdout
        assert set(kept.splitlines()) < set(classes.splitlines())
        held(server, 100 * MEGA, MSS)
        assert limit(lab, "kept", "--egress", "50M") == {"egress": 50 * MEGA}
        held(server, 50 * MEGA, MSS)
    gone(lab, "kept")
    assert limiter(lab) == NOTHING


def test_a_limit_cuts_no_connection(lab, servers):
    server = servers["h2", "slim"]
    with Remote.slim(lab, "h1", "talks") as talks:
        talks.do(f"c = connect('{lab.ip('slim-h2')}', 5000)")
        for options in (("--egress", "1M"), ("--ingress", "2M"), ("--egress", "none"), ("--ingress", "none")):
            before = server("got")
            talks.do("c.sendall(bytes(10000))")
            wait_until(lambda: server("got") >= before + 10000, "what was sent")
            limit(lab, "talks", *options)


@pytest.mark.parametrize("words,status,named", [
    (["nobody", "--egress", "1M"], 1, 'endpoint "nobody" does not exist'),
    (["far", "--egress", "1M"], 1, "lives on host h2, and only there its limits are changed"),
    (["near"], 2, "--egress, --ingress, --dscp or --priority"),
    (["near", "--egress", "1"], 2, '--egress "1" a rate is 1k'),
    (["near", "--egress", "10mbit"], 2, '--egress "10mbit" is no rate'),
    (["near", "--ingress", "2P"], 2, "1P (10^15 bits a second) at most"),
    (["near", "--dscp", "64"], 2, '--dscp "64" is no DSCP'),
    (["near", "--priority", "high"], 2, '--priority "high" is no priority'),
    (["near", "--burst", "1M"], 2, "--burst"),
    (["--egress", "1M"], 2, "name"),
])
def test_refused(lab, two, words, status, named):
    done = ctl(lab, "endpoint", "limit", *words)
    assert done.returncode == status and len(done.stderr.splitlines()) == 1 and named in done.stderr, done.stderr
    assert limiter(lab) == NOTHING


@pytest.fixture(scope="module")
def two(lab):
    with Remote.slim(lab, "h1", "near"), Remote.slim(lab, "h2", "far"):
        yield


@pytest.mark.parametrize("option", ["--egress", "--ingress", "--dscp", "--priority"])
def test_refused_at_the_start(lab, option):
    done = ctl(lab, "run", "--name", "never", option, "none", "--", "true")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and option in done.stderr


def test_a_device_in_the_way(lab, two):
    """Something else has the limiter's name: refused, and nothing is left."""
    lab.host("h1", "ip", "link", "add", "slim-limit", "type", "bridge")
    try:
        done = ctl(lab, "endpoint", "limit", "near", "--egress", "1M")
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert "bandwidth cannot be limited here" in done.stderr and "slim-limit" in done.stderr
        assert lab.ctl("h1", "endpoint", "show", "near")["endpoint"]["limits"] == {}
        assert ctl(lab, "run", "--name", "never", "--egress", "1M", "--", "true").returncode == 1
        assert "slim-limit" in lab.host("h1", "ip", "-br", "link").stdout  # it is not ours to remove
    finally:
        lab.host("h1", "ip", "link", "del", "slim-limit")
    assert limit(lab, "near", "--egress", "1M") == {"egress": MEGA}
    limit(lab, "near", "--egress", "none")
    assert limiter(lab) == NOTHING
