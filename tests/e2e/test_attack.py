# SPDX-License-Identifier: Apache-2.0
"""
A container that attacks: what it may not do with sockets that are the host's. Each attack succeeds
first against what has no protection, the same calls by a program of the host, and then fails in a
container: as root with CAP_NET_ADMIN and CAP_NET_RAW ("admin"), and as an ordinary user ("user").
docs/security.md is written from here.
"""

import contextlib
import ctypes
import errno
import json
import os
import pathlib
import signal
import struct
import subprocess
import tempfile

import pytest

from conftest import PATIENCE, ROOT, wait_until
from remote import PYTHON, Moved, Remote

ATTACK = pathlib.Path(os.environ.get("SLIM_BUILD", ROOT / "build")) / "tests/e2e/attack"
WHO = {"admin": ["setpriv", "--bounding-set=-all,+net_admin,+net_raw"],
       "user": ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]}

# What slimd of h2 lets a container have.
SOCKETS, PORTS, LISTENERS = 1024, 40, 20

TRICKS = """
import fcntl
SOL_IP, SOL_TCP, SOL_IPV6 = 0, 6, 41
def said(call):
    try: call()
    except OSError as e: return errno.errorcode[e.errno].replace('ENOTSUP', 'EOPNOTSUPP')
    return 'ok'

def option(family, level, name, value):
    with socket.socket(family) as s:
        return said(lambda: s.setsockopt(level, name, value))

def fast_open(to):
    with socket.socket() as s:
        s.setblocking(True)
        return said(lambda: s.sendto(b'x', 0x20000000, to))

def many(make, most):
    # How many there can be, and what the next one says; they are kept in `kept`.
    for i in range(most):
        try: kept.append(make(i))
        except OSError as e: return i, errno.errorcode[e.errno]
    return most, 'ok'

def drop():
    while kept: kept.pop().close()
kept = []

def bound(port):
    s = socket.socket()
    try: s.bind(('', port))
    except OSError: s.close(); raise
    return s

def listening(port):
    s = bound(port)
    try: s.listen()
    except OSError: s.close(); raise
    return s
"""


@pytest.fixture(scope="module")
def world(lab):
    """Of each host a program of its own; containers that are attacked, and those that attack."""
    lab.verb("daemon", "h2", "stop")
    lab.verb("daemon", "h2", "start", "--", "--max-sockets", SOCKETS, "--max-ports", PORTS,
             "--max-listeners", LISTENERS)
    with contextlib.ExitStack() as stack:
        there = {h: stack.enter_context(Remote.host(lab, h)) for h in ("h1", "h2")}
        for name, host in (("near", "h1"), ("far", "h2")):
            there[name] = stack.enter_context(Remote.slim(lab, host, name,
                                                          options=["--label", "app=victim"]))
        for who, by in WHO.items():
            there[who] = stack.enter_context(Remote.slim(lab, "h1", who, by=by,
                                                         options=["--label", "app=attacker"]))
        for who, by in WHO.items():
            there[f"{who}2"] = stack.enter_context(Remote.slim(lab, "h2", f"{who}2", by=by))
        for r in there.values():
            r.do(TRICKS)
        yield there


@pytest.fixture(params=list(WHO))
def who(request):
    return request.param


@pytest.fixture
def attacker(world, who):
    return world[who]


@pytest.fixture(scope="module")
def loopback(world):
    """A server of the host's on its loopback."""
    world["h1"].do("l4 = listen('127.0.0.1', 7100); l6 = listen('::1', 7100, socket.AF_INET6)")
    for address, family in LOOPBACKS:
        assert world["h1"](f"connect_error('{address}', 7100, {family})") == "connected"
    world["h1"].do("for l in (l4, l6):\n    while pending(l): l.accept()[0].close()")
    return 7100


LOOPBACKS = [("127.0.0.1", "socket.AF_INET"), ("::1", "socket.AF_INET6"),
             ("::ffff:127.0.0.1", "socket.AF_INET6")]


def not_reached(world):
    return not world["h1"]("pending(l4) or pending(l6)")


# --- reaching ----------------------------------------------------------------------------------------


def test_who_attacks(world):
    """They are what they are said to be."""
    caps = "int([l for l in open('/proc/self/status') if l.startswith('CapEff')][0].split()[1], 16)"
    assert world["admin"](caps) == 1 << 12 | 1 << 13 and world["admin"]("os.geteuid()") == 0
    assert world["user"](caps) == 0 and world["user"]("os.geteuid()") == 65534


@pytest.mark.parametrize("address,family", LOOPBACKS)
def test_the_hosts_loopback(world, attacker, loopback, address, family):
    assert attacker(f"connect_error('{address}', {loopback}, {family})") == "ECONNREFUSED"
    # Its own is there.
    attacker.do(f"l = listen('{address}', {loopback}, {family}); c = connect('{address}', {loopback}, "
                f"{family}); a = l.accept()[0]; [s.close() for s in (a, c, l)]")
    assert not_reached(world)


def test_message_fast_open(world, attacker, loopback):
    """MSG_FASTOPEN connects, by another way into the kernel."""
    code = f"fast_open(('127.0.0.1', {loopback}))"
    assert world["h1"](code) == "ok" and world["h1"]("pending(l4)")
    world["h1"].do("l4.accept()[0].close()")
    assert attacker(code) in ("ECONNREFUSED", "EOPNOTSUPP")
    assert not_reached(world)


def test_slimd(lab, world):
    """Its socket is root's, and a container's root has no way to it but the host's file system."""
    path = f"/run/slim-lab/{lab.id}/h1/run/slimd.sock"
    call = f"said(lambda: socket.socket(socket.AF_UNIX).connect('{path}'))"
    assert world["h1"](call) == "ok"
    assert world["user"](call) == "EACCES"
    # And slimd listens to nothing else: a network namespace does not keep a path from anybody.
    pid = lab.verb("daemon", "h1", "pid").stdout.strip()
    listed = lab.host("h1", "ss", "-Hlnp", "-A", "inet,unix,packet").stdout.split("\n")
    own = [line for line in listed if f"pid={pid}," in line]
    assert len(own) == 1 and path in own[0]


@pytest.fixture(scope="module")
def slim_port(lab, world):
    """The port at h2 that a connection to `far` has on the wire."""
    world["far"].do("l = listen('', 9000)")
    world["near"].do(f"c = connect('{lab.ip('far')}', 9000)")
    world["far"].do("a = l.accept()[0]")
    peer, = [c["host_peer"] for c in lab.ctl("h1", "connection", "ls", "--name", "near")["connections"]
             if c["peer"] and c["peer"].endswith(":9000")]
    return int(peer.split(":")[1])


def test_another_hosts_slim_ports(lab, world, attacker, slim_port):
    # A port of that host is reached, if it is any other.
    world["h2"].do("l = listen('', 7300)")
    assert attacker("connect_error('192.0.2.2', 7300)") == "connected"
    world["h2"].do("l.close()")
    moved = Moved(lab, "h2")
    for host in ("192.0.2.2", "::ffff:192.0.2.2"):
        family = "socket.AF_INET6" if ":" in host else "socket.AF_INET"
        attacker.do(f"s = socket.socket({family}); s.setblocking(False); "
                    f"e = s.connect_ex(('{host}', {slim_port}))")
        assert attacker("errno.errorcode[e]") == "EINPROGRESS"
    wait_until(lambda: moved("syn_no_option")["syn_no_option"] >= 2, "the SYNs to be dropped")
    assert attacker("said(s.getpeername)") == "ENOTCONN"
    attacker.do("s.close()")
    assert not world["far"]("pending(l)")
    # Nor the host port of a listener, on its own host or on another.
    for r, host in (world["near"], "192.0.2.1"), (world["far"], "192.0.2.2"):
        r.do("h = listen('', 9001)")
        number, = hidden_ports(lab, {"192.0.2.1": "h1", "192.0.2.2": "h2"}[host], r.name)
        assert attacker(f"connect_error('{host}', {number})") == "ECONNREFUSED"
        assert not r("pending(h)")
        r.do("h.close()")


def hidden_ports(lab, host, name):
    return [int(c["host_local"].rpartition(":")[2])
            for c in lab.ctl(host, "connection", "ls", "--name", name)["connections"]
            if c["state"] == "listen" and c["local"].endswith(":9001")]


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff


def vxlan(network, source, destination):
    """A datagram from one overlay address to another, as a host would encapsulate it."""
    data = b"forged"
    udp = struct.pack("!HHHH", 4711, 5000, 8 + len(data), 0) + data
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + b"".join(
        bytes(map(int, a.split("."))) for a in (source, destination))
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    return struct.pack("!II", 1 << 27, network << 8) + bytes(12) + b"\x08\x00" + ip + udp


def test_another_hosts_vxlan_port(lab, world, attacker):
    """What a container sends outside is masqueraded: it would be its host's."""
    network, = [n["id"] for n in lab.ctl("h1", "network", "ls")["networks"] if n["name"] == "default"]
    packet = vxlan(network, lab.ip("near"), lab.ip("far"))
    send = ("with socket.socket(type=socket.SOCK_DGRAM) as s: "
            f"s.sendto({packet!r}, ('192.0.2.2', 4789))")
    world["far"].do("u = socket.socket(type=socket.SOCK_DGRAM); u.bind(('', 5000))")
    world["h1"].do(send)
    assert world["far"]("u.recvfrom(99)") == (b"forged", (lab.ip("near"), 4711))
    moved = Moved(lab, "h1")
    attacker.do(send)
    assert moved("encap_forged") == {"encap_forged": 1}
    # To its own host, too, and by raw packets, and in fragments.
    attacker.do(send.replace("192.0.2.2", "192.0.2.1"))
    assert moved("encap_forged") == {"encap_forged": 2}
    if attacker.name == "admin":
        udp = struct.pack("!HHHH", 4789, 4789, 8 + len(packet), 0) + packet
        attacker.do("r = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)")
        for at, flags, part in (0, 0, udp), (0, 0x2000, udp[:16]), (2, 0, udp[16:]):
            head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(part), 7, flags | at, 64, 17, 0,
                               bytes(map(int, lab.ip("admin").split("."))), bytes((192, 0, 2, 2)))
            attacker.do(f"r.sendto({head + part!r}, ('192.0.2.2', 0))")
        attacker.do("r.close()")
        wait_until(lambda: moved("encap_forged") == {"encap_forged": 4}, "the raw packets to be dropped")
    world["near"].do(f"with socket.socket(type=socket.SOCK_DGRAM) as s: s.sendto(b'marker', "
                     f"('{lab.ip('far')}', 5000))")
    assert world["far"]("u.recvfrom(99)[0]") == b"marker"
    world["far"].do("u.close()")


# --- addresses and ports --------------------------------------------------------------------------------


@pytest.mark.parametrize("options", ["()", "((SOL_IP, 15),)", "((SOL_IP, 19),)"],
                         ids=["plainly", "IP_FREEBIND", "IP_TRANSPARENT"])
def test_an_address_of_the_host(lab, world, attacker, options):
    code = ("def bind(address, options):\n"
            "    with socket.socket() as s:\n"
            "        for level, name in options: said(lambda: s.setsockopt(level, name, 1))\n"
            "        return said(lambda: s.bind((address, 7200)))")
    world["h1"].do(code)
    attacker.do(code)
    others = ["192.0.2.1"] + (["203.0.113.9", lab.ip("near")] if options != "()" else [])
    for address in others:
        assert world["h1"](f"bind('{address}', {options})") == "ok"
        assert attacker(f"bind('{address}', {options})") == "EADDRNOTAVAIL"


def test_a_port_of_the_host(world, attacker):
    """It is not taken away, nor is it in the way."""
    world["h1"].do("b = bound(7201)")
    assert world["h1"]("bind_error('', 7201)") == "EADDRINUSE"
    world["h1"].do("b.close()")
    attacker.do("b = listen('', 7201)")
    world["h1"].do("l = listen('', 7201)")
    assert world["near"]("connect_error('192.0.2.1', 7201)") == "connected"
    assert world["h1"]("pending(l)") and not attacker("pending(b)")
    world["h1"].do("l.close()")
    attacker.do("b.close()")


# --- options and ioctls ------------------------------------------------------------------------------


LSRR = bytes([131, 7, 4, 192, 0, 2, 254, 0])
OPTIONS = {
    "SO_BINDTODEVICE": ("AF_INET", "1", 25, b"uplink", "ENODEV"),
    "SO_MARK": ("AF_INET", "1", 36, 0x511e, "EPERM"),
    "SO_PRIORITY": ("AF_INET", "1", 12, 7, "EPERM"),
    "TCP_REPAIR": ("AF_INET", "SOL_TCP", 19, 1, "EPERM"),
    "TCP_SAVE_SYN": ("AF_INET", "SOL_TCP", 27, 1, "EOPNOTSUPP"),
    "IP_TRANSPARENT": ("AF_INET", "SOL_IP", 19, 1, "EPERM"),
    "IPV6_TRANSPARENT": ("AF_INET6", "SOL_IPV6", 75, 1, "EPERM"),
    "IP_OPTIONS, a source route": ("AF_INET", "SOL_IP", 4, LSRR, "EPERM"),
    "IPV6_HOPOPTS": ("AF_INET6", "SOL_IPV6", 54, bytes([0, 0, 1, 4, 0, 0, 0, 0]), "EPERM"),
    "IPV6_RTHDR, a source route": ("AF_INET6", "SOL_IPV6", 57,
                                   bytes([0, 2, 4, 0]) + bytes(4) + bytes([0x20, 1, 0xd, 0xb8] + [1] * 12),
                                   "EPERM"),
}


@pytest.mark.parametrize("name", list(OPTIONS))
def test_an_option(world, attacker, name):
    family, level, number, value, error = OPTIONS[name]
    code = f"option(socket.{family}, {level}, {number}, {value!r})"
    assert world["h1"](code) == "ok"
    assert attacker(code) == error


def test_a_packet_filter(world, attacker):
    """Of a socket: it would see host addresses, and SO_ATTACH_REUSEPORT_CBPF choose among others'."""
    code = ("import ctypes\n"
            "insn = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0xffff))\n"
            "prog = struct.pack('HxxxxxxQ', 1, ctypes.addressof(insn))")
    for r in world["h1"], attacker:
        r.do(code)
    assert world["h1"]("option(socket.AF_INET, 1, 26, prog)") == "ok"
    assert attacker("option(socket.AF_INET, 1, 26, prog)") == "EPERM"


def test_a_saved_syn_is_empty(lab, world, attacker):
    world["near"].do("l = listen('', 9010)")
    attacker.do("l = listen('', 9010)")
    for r in world["near"], attacker:
        world["far"].do(f"c = connect('{lab.ip(r.name)}', 9010)")
        assert r("l.accept()[0].getsockopt(SOL_TCP, 28, 200)") == b""
        r.do("l.close()")


SIOCGSKNS, SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCGIFADDR = 0x894c, 0x8913, 0x8914, 0x8915


def test_the_hosts_devices(world, attacker):
    code = ("def device(number, name, flags=0):\n"
            "    with socket.socket() as s:\n"
            "        return said(lambda: fcntl.ioctl(s, number, struct.pack('16sH22x', name, flags)))")
    world["h1"].do(code)
    attacker.do(code)
    for number in SIOCGIFFLAGS, SIOCGIFADDR:
        assert world["h1"](f"device({number}, b'uplink')") == "ok"
        assert attacker(f"device({number}, b'uplink')") == "ENODEV"
    # Down with it: root of the host may (it is up, and stays so, by what is asked here).
    up = 0x1043
    assert world["h1"](f"device({SIOCSIFFLAGS}, b'uplink', {up})") == "ok"
    assert attacker(f"device({SIOCSIFFLAGS}, b'uplink', 0)") in ("ENODEV", "EPERM")


def test_the_hosts_namespace(world, attacker):
    """By SIOCGSKNS and setns(), and by what a process can find."""
    code = ("import ctypes\n"
            "libc = ctypes.CDLL(None, use_errno=True)\n"
            "def enter(fd):\n"
            "    if libc.setns(fd, 0x40000000) < 0: raise OSError(ctypes.get_errno(), '')\n"
            "def of(s):\n"
            "    return os.fstat(fcntl.ioctl(s, 0x894c)).st_ino\n")
    for r in world["h1"], attacker:
        r.do(code)
    host = world["h1"]("os.stat('/proc/self/ns/net').st_ino")
    assert world["h1"]("of(socket.socket())") == host
    assert world["h1"]("said(lambda: enter(fcntl.ioctl(socket.socket(), 0x894c)))") == "ok"
    own = attacker("os.stat('/proc/self/ns/net').st_ino")
    assert own != host
    if attacker.name == "admin":
        assert attacker("of(socket.socket())") == own
        assert attacker("said(lambda: enter(fcntl.ioctl(socket.socket(), 0x894c)))") == "EPERM"
    else:
        assert attacker("said(lambda: of(socket.socket()))") == "EPERM"
    # Of the processes that it sees none is in the host's.
    assert attacker("[p for p in os.listdir('/proc') if p.isdigit() and said(lambda: "
                    f"os.stat(f'/proc/{{p}}/ns/net')) == 'ok' and os.stat(f'/proc/{{p}}/ns/net').st_ino "
                    f"== {host}]") == []


@pytest.mark.parametrize("way", [["unshare", "--net"], ["unshare", "--user", "--map-root-user", "--net"]],
                         ids=["unshare", "user namespace"])
def test_a_namespace_of_its_own(world, attacker, loopback, way):
    """The sockets of one are its own: there is nobody to connect to."""
    code = (f"import socket; s = socket.socket(); print(s.connect_ex(('127.0.0.1', {loopback})), "
            "s.connect_ex(('192.0.2.1', 22)))")
    done = attacker(f"subprocess.run({way + [PYTHON, '-c', code]!r}, stdout=-1, stderr=-1, text=True).stdout")
    if done:  # not everybody may make one
        assert done.split() == [str(errno.ENETUNREACH)] * 2
    assert not_reached(world)


# --- policy ---------------------------------------------------------------------------------------------


@pytest.fixture
def policy(lab, tmp_path):
    """Attackers may connect to `near` and to nobody else."""
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "attackers", "annotations": {"slim.io/deny": "reject"}},
        "spec": {"podSelector": {"matchLabels": {"app": "attacker"}}, "policyTypes": ["Egress"],
                 "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "victim"}}}],
                             "ports": [{"port": 9020}]}]}}))
    yield lambda: lab.verb("ctl", "h1", "--", "policy", "apply", "-f", path)
    lab.verb("ctl", "h1", "--", "policy", "rm", "attackers", check=False)


@pytest.fixture
def meeting_place():
    """A path where anybody may have a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="attack-", dir="/tmp") as directory:
        os.chmod(directory, 0o777)
        yield f"{directory}/socket"


def test_a_forbidden_peer(lab, world, attacker, policy, meeting_place):
    world["near"].do("l = listen('', 9020)")
    world["far"].do("f = listen('', 9021)")
    forbidden = f"('{lab.ip('far')}', 9021)"
    assert attacker(f"connect_error(*{forbidden})") == "connected"
    world["far"].do("f.accept()[0].close()")
    policy()
    attacker.do(f"s = connect('{lab.ip('near')}', 9020)")
    world["near"].do("a = l.accept()[0]")
    attacker.do("import ctypes\n"
                "libc = ctypes.CDLL(None, use_errno=True)\n"
                "def unspec(s):\n"
                "    if libc.connect(s.fileno(), bytes(16), 16) < 0: raise OSError(ctypes.get_errno(), '')")
    # A socket that was connected to one who is allowed, and one that was accepted.
    assert attacker("said(lambda: unspec(s))") == "ok"
    assert attacker(f"said(lambda: s.connect({forbidden}))") == "EPERM"
    attacker.do("l = listen('127.0.0.1', 9022); c = connect('127.0.0.1', 9022); s = l.accept()[0]")
    assert attacker("said(lambda: unspec(s))") == "ok"
    assert attacker(f"said(lambda: s.connect({forbidden}))") == "EPERM"
    # Another way to connect, and a source of its own.
    assert attacker(f"fast_open({forbidden})") in ("EPERM", "EOPNOTSUPP")
    assert attacker(f"said(lambda: connect(*{forbidden}, source=('', 9023)))") == "EPERM"
    # In the hands of another container, whom no policy keeps from it, it is still the attacker's.
    world["near"].do(f"p = socket.socket(socket.AF_UNIX); p.bind('{meeting_place}'); p.listen(); "
                     f"os.chmod('{meeting_place}', 0o777)")
    attacker.do(f"p = socket.socket(socket.AF_UNIX); p.connect('{meeting_place}'); "
                "s = socket.socket(); socket.send_fds(p, [b'x'], [s.fileno()])")
    world["near"].do("s = socket.socket(fileno=socket.recv_fds(p.accept()[0], 1, 1)[1][0])")
    assert world["near"](f"connect_error(*{forbidden})") == "connected"
    world["far"].do("f.accept()[0].close()")
    assert world["near"](f"said(lambda: s.connect({forbidden}))") == "EPERM"
    assert not world["far"]("pending(f)")
    for r, names in (world["near"], "l, p, s, a"), (world["far"], "f,"), (attacker, "s, l, c, p"):
        r.do(f"for x in ({names}): x.close()")


# --- tricks with calls ------------------------------------------------------------------------------


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the tracer knows x86-64's registers")
@pytest.mark.parametrize("how,unprotected,said", [
    ("plainly", "connected", "connect ECONNREFUSED"),
    # The stricter of two filters' answers counts; of two that ask to be notified, the newer one's,
    ("errno", "socket EXDEV", "socket EXDEV"),
    ("trace", "socket ENOSYS", "connect ECONNREFUSED"),
    ("notify", "socket ENOSYS", "socket ENOSYS"),
    # which has nobody to tell, as a container that has a listener gets no second one.
    ("listener", "filter listens", "filter EBUSY"),
    # The filter sees the call as the tracer has changed it; the result is the tracee's own affair.
    ("arguments", "connected", "connect ECONNREFUSED"),
    ("result", "connect ENOTSOCK", "connect ENOTSOCK"),
])
def test_filters_and_tracers(world, attacker, loopback, how, unprotected, said):
    run = f"subprocess.run({[str(ATTACK), how, '127.0.0.1', str(loopback)]!r}, stdout=-1, text=True).stdout"
    assert world["h1"](run).strip() == unprotected
    world["h1"].do("while pending(l4): l4.accept()[0].close()")
    assert attacker(run).strip() == said
    assert not_reached(world)


# --- how much ------------------------------------------------------------------------------------------


def test_thousands_of_sockets(lab, world, who):
    attacker = world[f"{who}2"]
    code = f"many(lambda i: socket.socket(), {SOCKETS + 500})"
    assert world["h2"](code) == (SOCKETS + 500, "ok")
    world["h2"].do("drop()")

    def all_that_it_may_have():
        # Some are made ahead, and wait: of both families, and in the queue of a user.
        n, error = attacker(code)
        return error == "EMFILE" and SOCKETS - 2 * 64 <= n <= SOCKETS

    def few_are_left():
        n, error = attacker(code)
        return error == "EMFILE" and n <= 2 * 64

    assert all_that_it_may_have()
    # Others have their own, and none of the attacker's is lost or won by its ways to close them:
    assert world["far"]("connect_error('127.0.0.1', 1)") == "ECONNREFUSED"
    for way in ("drop()", "[kept.pop().detach() for _ in range(len(kept))]; os.closerange(10, 4000)",
                "kept.clear()"):
        attacker.do(way)
        assert all_that_it_may_have()
    # by a process that is killed with them,
    attacker.do("pid = os.fork()\nif not pid: signal.pause()\n")
    attacker.do("drop()")
    assert few_are_left()
    attacker.do("drop(); os.kill(pid, 9); os.waitpid(pid, 0)")
    assert all_that_it_may_have()
    # or by the death of the broker, which knows no more than its successor.
    pid, = [e["broker_pid"] for e in lab.ctl("h2", "endpoint", "ls")["endpoints"] if e["name"] == f"{who}2"]
    os.kill(pid, signal.SIGKILL)
    assert few_are_left()
    attacker.do("drop()")
    assert all_that_it_may_have()
    attacker.do("drop()")


def test_accepted_sockets_are_not_counted(world, who):
    attacker = world[f"{who}2"]
    attacker.do("l = listening(9030); pairs = []")
    for _ in range(2):
        attacker.do(f"for _ in range({SOCKETS // 2 - 100}): kept.append(connect('127.0.0.1', 9030)); "
                    "pairs.append(l.accept()[0])")
        attacker.do("drop()")
    assert attacker("len(pairs)") > SOCKETS - 250
    assert attacker(f"many(lambda i: socket.socket(), {SOCKETS - 100})") == (SOCKETS - 100, "ok")
    attacker.do("drop(); l.close(); [p.close() for p in pairs]")


@pytest.mark.parametrize("port", ["10000 + i", "0"])
def test_thousands_of_ports(lab, world, who, port):
    attacker, moved = world[f"{who}2"], Moved(lab, "h2")
    code = f"many(lambda i: bound({port}), {PORTS + 20})"
    assert world["h2"](code) == (PORTS + 20, "ok")
    world["h2"].do("drop()")
    assert attacker(code) == (PORTS, "EADDRINUSE")
    assert attacker("bind_error('', 12000)") == attacker("bind_error('', 0)") == "EADDRINUSE"
    assert moved() == {"bind_limit": 3}
    # A port more is none with an address that is bound already.
    assert attacker("bind_error('127.0.0.2', kept[0].getsockname()[1])") == "EADDRINUSE"
    assert world["far"]("bind_error('', 10000)") == "bound"
    attacker.do("drop()")
    assert attacker(code) == (PORTS, "EADDRINUSE")
    attacker.do("drop()")


def test_thousands_of_listeners(lab, world, who):
    attacker, moved = world[f"{who}2"], Moved(lab, "h2")
    code = f"many(lambda i: listening(10000 + i), {LISTENERS + 10})"
    assert world["h2"](code) == (LISTENERS + 10, "ok")
    world["h2"].do("drop()")
    assert attacker(code) == (LISTENERS, "ENOBUFS")
    assert moved() == {"listen_limit": 1}
    # It is bound, as after any refusal; others listen; and whoever ends one may have another.
    attacker.do("b = bound(11000)")
    assert attacker("said(b.listen)") == "ENOBUFS"
    assert attacker("b.getsockname()[1]") == 11000
    world["far"].do("listening(10000).close()")
    attacker.do("kept[3].shutdown(socket.SHUT_RDWR)")
    assert attacker("said(b.listen)") == "ok"
    assert attacker("said(lambda: kept[3].listen())") == "ENOBUFS"
    attacker.do("b.close()")
    assert attacker("said(lambda: kept[3].listen())") == "ok"
    assert attacker("connect_error('127.0.0.1', 10003)") == "connected"
    assert attacker("said(lambda: socket.socket().listen())") == "ENOBUFS"
    attacker.do("drop()")
    assert attacker(code) == (LISTENERS, "ENOBUFS")
    attacker.do("drop()")


class Map:
    """A pinned BPF map, by the system call."""

    GET, UPDATE, UPDATE_BATCH, DELETE_BATCH = 7, 2, 26, 27

    def __init__(self, path, key_size, value_size):
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall
        self._number = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
        self._attr = ctypes.create_string_buffer(128)
        self._keys = ctypes.create_string_buffer(key_size * self.AT_ONCE)
        self._values = ctypes.create_string_buffer(value_size * self.AT_ONCE)
        name = ctypes.create_string_buffer(str(path).encode() + b"\0")
        self.fd = self._call(self.GET, struct.pack("QII", ctypes.addressof(name), 0, 0))

    AT_ONCE = 4096

    def _call(self, command, attr):
        self._attr.raw = attr.ljust(128, b"\0")
        r = self._syscall(self._number, command, self._attr, 128)
        if r < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return r

    def put(self, key, value):
        self._keys[:len(key)], self._values[:len(value)] = key, value
        self._call(self.UPDATE, struct.pack("IxxxxQQQ", self.fd, ctypes.addressof(self._keys),
                                            ctypes.addressof(self._values), 1))

    def batch(self, command, keys):
        """With values of zeros."""
        self._keys[:len(keys)] = keys
        self._call(command, struct.pack("QQQQIIQQ", 0, 0, ctypes.addressof(self._keys),
                                        ctypes.addressof(self._values), len(keys) // 8, self.fd, 0, 0))


def until_full(put):
    """How often it can be done, with 0, 1, …"""
    for n in range(1 << 20):
        try:
            put(n)
        except OSError as e:
            if e.errno != errno.E2BIG:
                raise
            return n
    pytest.fail("a map has no bound")


@pytest.fixture
def maps(lab):
    base = pathlib.Path(f"/sys/fs/bpf/slim-lab-{lab.id}/h2/maps")
    found = {name: Map(base / name, 8, size) for name, size in (("ports", 24 + 48 * 8), ("listeners", 8))}
    yield found
    for m in found.values():
        os.close(m.fd)


def nobodys(n):
    """The key of a port or a listener of no endpoint."""
    return struct.pack("=IHH", 0xffff0000 + (n >> 16), n & 0xffff, 0)


def test_a_host_without_room_says_so(lab, world, maps):
    """When all containers together have filled a map, whoever comes next hears of it at once."""
    far, moved = world["far"], Moved(lab, "h2")
    # A socket stands for a thousand listeners: the map takes it as often as it is put there.
    with Remote.host(lab, "h2") as helper:
        helper.do("ls = [listen('127.0.0.1', 0) for _ in range(64)]")
        process, sockets = os.pidfd_open(int(helper.pid)), []
        libc = ctypes.CDLL(None, use_errno=True)
        for fd in helper("[l.fileno() for l in ls]"):
            sockets.append(libc.syscall(438, process, fd, 0))  # pidfd_getfd()
            assert sockets[-1] >= 0
        os.close(process)
        values = [struct.pack("Q", s) for s in sockets]
        until_full(lambda n: maps["listeners"].put(nobodys(n), values[n % len(values)]))
        assert far("said(lambda: listening(10000))") == "ENOBUFS"
        for s in sockets:
            os.close(s)
    assert moved("listen_limit") == {"listen_limit": 1}
    wait_until(lambda: far("said(lambda: listening(10000).close())") == "ok", "room")

    def keys(n):
        return b"".join(nobodys(n * Map.AT_ONCE + i) for i in range(Map.AT_ONCE))

    n = until_full(lambda n: maps["ports"].batch(Map.UPDATE_BATCH, keys(n)))
    assert far("bind_error('', 10000)") == "EADDRINUSE"
    assert far("bind_error('', 0)") == "EADDRINUSE"
    assert moved("bind_limit") == {"bind_limit": 2}
    for i in range(n):
        maps["ports"].batch(Map.DELETE_BATCH, keys(i))
    with contextlib.suppress(FileNotFoundError):  # the last ones, of which not all are there
        maps["ports"].batch(Map.DELETE_BATCH, keys(n))
    assert far("bind_error('', 10000)") == "bound"


def test_a_flood_of_calls(lab, world, attacker, who):
    """Of socket() and listen(), by many processes: it is the attacker's own broker that they wait for."""
    brokers = {e["name"]: e["broker_pid"] for e in lab.ctl("h1", "endpoint", "ls")["endpoints"]
               if e["host"] == "h1"}

    def size(pid):
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        kib, = [int(line.split()[1]) for line in status.split("\n") if line.startswith("RssAnon")]
        return kib, len(os.listdir(f"/proc/{pid}/fd"))

    slimd = int(lab.verb("daemon", "h1", "pid").stdout)
    before = {pid: size(pid) for pid in (brokers[who], slimd)}
    attacker.do("""
def flood():
    while True:
        with socket.socket() as s, socket.socket(socket.AF_INET6) as t:
            s.listen()
pids = []
for _ in range(24):
    pid = os.fork()
    if not pid: flood()
    pids.append(pid)
""")
    try:
        for _ in range(20):
            for name in ("near", "far"):
                assert world["near"](f"connect_error('{lab.ip(name)}', 1)") == "ECONNREFUSED"
            assert attacker("said(socket.socket)") == "ok"
        for pid, (kib, fds) in before.items():
            now = size(pid)
            assert now[0] < kib + 4096 and now[1] < fds + 700, (pid, now)
    finally:
        attacker.do("for p in pids: os.kill(p, 9)\nfor p in pids: os.waitpid(p, 0)")
    assert attacker("connect_error('127.0.0.1', 1)") == "ECONNREFUSED"


def test_callers_that_are_stopped(lab, world, attacker, who):
    """Before the broker has their calls, and while it has: it waits for none of them."""
    broker, = [e["broker_pid"] for e in lab.ctl("h1", "endpoint", "ls")["endpoints"] if e["name"] == who]
    attacker.do("""
def stuck():
    def call():
        while True: socket.socket(socket.AF_INET6).close()
    for _ in range(20): threading.Thread(target=call, daemon=True).start()
    signal.pause()
pids = []
for _ in range(4):
    pid = os.fork()
    if not pid: stuck()
    pids.append(pid)
""")
    # The broker is held up, so that calls of every thread wait; then their callers stop.
    os.kill(broker, signal.SIGSTOP)
    try:
        wait_until(lambda: attacker("all('seccomp' in open(f'/proc/{p}/task/{t}/wchan').read() or t == str(p) "
                                    "for p in pids for t in os.listdir(f'/proc/{p}/task'))"),
                   "the threads to wait")
        attacker.do("for p in pids: os.kill(p, signal.SIGSTOP)")
        assert world["near"]("said(socket.socket)") == "ok"
    finally:
        os.kill(broker, signal.SIGCONT)
    assert attacker("said(socket.socket)") == "ok"
    # Once more, at no particular moment.
    for _ in range(5):
        attacker.do("for p in pids: os.kill(p, signal.SIGCONT)")
        attacker.do("for p in pids: os.kill(p, signal.SIGSTOP)")
        assert attacker("connect_error('127.0.0.1', 1)") == "ECONNREFUSED"
    attacker.do("for p in pids: os.kill(p, signal.SIGKILL)")
    assert attacker("[os.waitpid(p, 0)[1] for p in pids]") == [signal.SIGKILL] * 4
    assert attacker("connect_error('127.0.0.1', 1)") == "ECONNREFUSED"


# --- its end -----------------------------------------------------------------------------------------


DAEMON = """
import os, signal, socket, sys
c = socket.socket()
c.connect((sys.argv[1], 9040))
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.closerange(0, 3)
c.send(str(os.getpid()).encode())
signal.pause()
"""


def test_a_process_that_outlives_its_container(lab, world, who):
    """A daemon: of the host it lives on, of a container it is gone, and its connection with it."""
    far = world["far"]
    far.do("l = listen('', 9040)")
    lab.host("h1", PYTHON, "-c", DAEMON, lab.ip("far"))
    far.do("a = l.accept()[0]")
    pid = int(far("a.recv(16)"))
    assert "9040" in pathlib.Path(f"/proc/{pid}/cmdline").read_text()
    os.kill(pid, signal.SIGKILL)
    assert far("a.recv(16)") == b""

    done = subprocess.Popen(lab.command("run", "h1", f"daemon-{who}", "--", *WHO[who], PYTHON, "-c", DAEMON,
                                        lab.ip("far")), stdin=subprocess.DEVNULL)
    far.do("a.close(); a = l.accept()[0]")
    assert done.wait(PATIENCE) == 0
    assert far("len(a.recv(16)) in (0, 1, 2, 3)") and far("said(lambda: a.recv(16))") in ("ok", "ECONNRESET")
    wait_until(lambda: all(e["name"] != f"daemon-{who}" for e in lab.ctl("h2", "endpoint", "ls")["endpoints"]),
               "its endpoint to go")
    far.do("l.close(); a.close()")
