# SPDX-License-Identifier: Apache-2.0
"""
slimctl monitor: real denials, drops and revocations are told, to whom wants to know of them, and what
is not told is counted.
"""

import contextlib
import errno
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile

import pytest

from conftest import PATIENCE, wait_until
from remote import Moved, Remote, counters
from test_daemon import Client, is_error
from test_policy import ASK, SERVE, app, apply, policy  # noqa: F401, apply is a fixture

H1, NET = "192.0.2.1", "192.0.2.254"
EVENT = {"time", "reason", "hook", "host", "network", "endpoint", "endpoint_id", "peer_endpoint", "peer_id",
         "peer_host", "from", "to", "protocol", "errno", "option"}

# name: host, kind, its label "app"
CONTAINERS = {
    "web": ("h1", "slim", "web"),
    "near": ("h1", "slim", "client"),
    "far": ("h2", "slim", "client"),
    "plainfar": ("h2", "plain", "client"),
}


@pytest.fixture(scope="module")
def world(lab):
    with contextlib.ExitStack() as stack:
        there = {}
        for name, (host, kind, label) in CONTAINERS.items():
            r = there[name] = stack.enter_context(
                getattr(Remote, kind)(lab, host, name, options=["--label", f"app={label}"]))
            r.do(SERVE + ASK)
        there["web"].do("serve(80); serve_udp(5353)")
        there["net"] = stack.enter_context(Remote.host(lab, "net"))
        yield there


def watchers(lab, host="h1"):
    return lab.ctl(host, "status")["monitors"]


class Monitor:
    """A slimctl monitor, whose output is in a file."""

    def __init__(self, process, out, err):
        self.process, self._out, self._err = process, out, err

    def text(self):
        return pathlib.Path(self._out.name).read_text()

    def errors(self):
        return pathlib.Path(self._err.name).read_text()

    def lines(self):
        """All that it has said, as JSON; a line that is not whole yet is left for the next time."""
        return [json.loads(line) for line in self.text().split("\n")[:-1]]

    def events(self, **wanted):
        return [e for e in self.lines() if "lost" not in e and all(e[k] == v for k, v in wanted.items())]

    def lost(self):
        return sum(e.get("lost", 0) for e in self.lines())

    def event(self, **wanted):
        """The first one that has these members; waits for it."""
        wait_until(lambda: self.events(**wanted), lambda: f"{wanted} in {self.text()}")
        return self.events(**wanted)[0]

    def ended(self):
        """Its status, and what it said on standard error."""
        return self.process.wait(PATIENCE), self.errors()


@contextlib.contextmanager
def monitor(lab, *options, host="h1", json_lines=True, stdout=None):
    before = watchers(lab, host)
    words = (["--json"] if json_lines else []) + ["monitor", *options]
    with tempfile.NamedTemporaryFile("w") as out, tempfile.NamedTemporaryFile("w") as err:
        process = subprocess.Popen(lab.command("ctl", host, "--", *words), stdin=subprocess.DEVNULL,
                                   stdout=stdout or out, stderr=err)
        try:
            wait_until(lambda: watchers(lab, host) > before or process.poll() is not None, "a monitor to watch")
            yield Monitor(process, out, err)
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(PATIENCE)
            wait_until(lambda: watchers(lab, host) <= before, "the monitor to have gone")


def is_event(e):
    assert set(e) == EVENT
    return True


class Subscriber(Client):
    """Without slimctl: it reads when the test does."""

    def __init__(self, lab, host="h1"):
        super().__init__(lab, host)
        self._got = b""

    def answer(self):
        """The next one of many, which come together."""
        while b"\0" not in self._got:
            part = self.socket.recv(65536)
            assert part, "slimd hung up"
            self._got += part
        message, _, self._got = self._got.partition(b"\0")
        return json.loads(message)


# --- what is told ---------------------------------------------------------------------------------


@pytest.mark.parametrize("deny", ["drop", "reject"])
def test_a_syn_that_a_policy_denies(lab, world, apply, deny):  # noqa: F811
    apply(policy("web", {"app": "web"}, deny, ingress=[{"from": app("friend")}]))
    with monitor(lab) as here, monitor(lab, host="h2") as there:
        world["far"].do(f"ask('{lab.ip('web')}', 80, 0.2)")
        e = here.event(reason="policy_ingress", hook="syn")
        assert is_event(e)
        assert (e["host"], e["network"], e["endpoint"]) == ("h1", "default", "web")
        assert (e["peer_endpoint"], e["peer_host"]) == ("far", "h2")
        assert e["endpoint_id"] == lab.ctl("h1", "endpoint", "show", "web")["endpoint"]["id"]
        assert e["peer_id"] == lab.ctl("h1", "endpoint", "show", "far")["endpoint"]["id"]
        assert e["from"].startswith(lab.ip("far") + ":") and e["to"] == f"{lab.ip('web')}:80"
        assert e["protocol"] == "tcp" and e["option"] is None
        assert e["errno"] == (errno.ECONNREFUSED if deny == "reject" else None)
        assert there.events() == []


@pytest.mark.parametrize("deny", ["drop", "reject"])
def test_a_connect_that_a_policy_denies(lab, world, apply, deny):  # noqa: F811
    apply(policy("clients", {"app": "client"}, deny, policyTypes=["Egress"]))
    with monitor(lab, "--reason", "policy_egress") as m:
        world["near"].do(f"ask('{lab.ip('web')}', 80, 0.2); ask('{NET}', 8000, 0.2)")
        e = m.event(to=f"{lab.ip('web')}:80")
        assert (e["endpoint"], e["peer_endpoint"], e["hook"]) == ("near", "web", "connect")
        assert (e["from"], e["network"]) == (lab.ip("near"), "default")
        assert e["errno"] == (errno.EPERM if deny == "reject" else None)
        e = m.event(to=f"{NET}:8000")
        assert (e["endpoint"], e["peer_endpoint"], e["peer_id"]) == ("near", None, None)
        assert len(m.events()) == 2


def test_a_packet_that_a_policy_denies(lab, world, apply):  # noqa: F811
    """By the encapsulated path: TCP of a plain container, UDP, ICMP."""
    apply(policy("web", {"app": "web"}, ingress=[{"from": app("friend")}]))
    web, far = lab.ip("web"), world["plainfar"]
    with monitor(lab, "--reason", "policy_ingress") as m:
        far.do(f"ask('{web}', 80, 0.2); ask_udp('{web}', 5353, 0.2)")
        e = m.event(hook="deliver", protocol="tcp")
        assert (e["endpoint"], e["peer_endpoint"], e["peer_host"]) == ("web", "plainfar", "h2")
        assert e["from"].startswith(lab.ip("plainfar") + ":") and e["to"] == f"{web}:80"
        e = m.event(hook="deliver", protocol="udp")
        assert e["to"] == f"{web}:5353" and e["errno"] is None
        far.do(f"open('/proc/sys/net/ipv4/ping_group_range', 'w').write('0 1000'); ping('{web}')")
        e = m.event(hook="deliver", protocol="icmp")
        assert (e["from"], e["to"]) == (lab.ip("plainfar"), web)


def test_packets_that_are_rejected(lab, world, apply):
    apply(policy("web", {"app": "web"}, "reject", ingress=[{"from": app("friend")}]))
    web, far = lab.ip("web"), world["plainfar"]
    with monitor(lab, "--reason", "policy_ingress") as m:
        far.do(f"ask('{web}', 80); ask_udp('{web}', 5353)")
        assert m.event(hook="deliver", protocol="tcp")["errno"] == errno.ECONNREFUSED
        assert m.event(hook="deliver", protocol="udp")["errno"] == errno.EHOSTUNREACH


def test_what_the_underlay_tries(lab, world):
    """A SYN without an option, and a container's hidden port."""
    hidden, = [int(c["host_local"].rsplit(":", 1)[1]) for c in
               lab.ctl("h1", "connection", "ls", "--name", "web")["connections"] if c["state"] == "listen"]
    with monitor(lab) as m:
        world["net"].do("s = socket.socket(); s.bind(('', 4711)); s.settimeout(0.2)")
        world["net"](f"s.connect_ex(('{H1}', 61450))")
        e = m.event(reason="syn_no_option")
        assert (e["from"], e["to"], e["hook"]) == (f"{NET}:4711", f"{H1}:61450", "syn")
        assert e["endpoint"] is e["endpoint_id"] is e["network"] is e["errno"] is None
        world["net"].do(f"s.close(); connect_error('{H1}', {hidden})")
        e = m.event(reason="hidden_port")
        assert e["to"] == f"{H1}:{hidden}" and (e["hook"], e["errno"]) == ("lookup", errno.ECONNREFUSED)


# listen(fd, backlog) of the 32-bit ABI, by "int 0x80", which no broker is asked about.
OTHER_ABI = '''
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex("53" "b86b010000" "89fb" "89f1" "cd80" "5b" "c3"))
listen_other = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int)(
    ctypes.addressof(ctypes.c_char.from_buffer(page)))
'''


def test_a_listen_past_the_broker(lab, world):
    """Nobody can refuse it; it is told, and gets no connections."""
    near = world["near"]
    near.do(OTHER_ABI + """
both = [socket.socket(), socket.socket()]
for s in both:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(('', 7100))
""")
    with monitor(lab, "--endpoint", "near") as m:
        assert near("both[0].listen()") is None
        assert near("listen_other(both[1].fileno(), 5)") == 0
        e = m.event(reason="listen_in_use")
        assert (e["hook"], e["from"], e["errno"]) == ("listen", "0.0.0.0:7100", None)
    for i in range(20):
        world["far"].do(f"c = connect('{lab.ip('near')}', 7100)")
        assert near("both[0].accept()[0].close()") is None
        world["far"].do("c.close()")
    assert not near("pending(both[1])")
    near.do("[s.close() for s in both]")


def test_what_a_socket_is_refused(lab, world):
    near, own = world["near"], lab.ip("near")
    near.do("""
def refused(f, *args):
    s = socket.socket()
    try:
        getattr(s, f)(*args)
    except OSError as e:
        return e.errno
    finally:
        s.close()
""")
    with monitor(lab, "--endpoint", "near") as m:
        tried = {
            "option_refused": near("refused('setsockopt', socket.SOL_SOCKET, 36, 1)"),  # SO_MARK
            "bind_foreign_address": near(f"refused('bind', ('{H1}', 80))"),
            "connect_no_endpoint": near("refused('connect', ('10.77.200.200', 80))"),
            "steer_no_listener": near(f"refused('connect', ('{lab.ip('web')}', 79))"),
        }
        near.do("l = listen('0.0.0.0', 7000)")
        tried["bind_in_use"] = near("refused('bind', ('0.0.0.0', 7000))")
        near.do("l.close()")
        for reason, number in tried.items():
            assert number and m.event(reason=reason)["errno"] == number
        e = m.event(reason="option_refused")
        assert (e["hook"], e["option"]) == ("setsockopt", {"level": socket.SOL_SOCKET, "name": 36})
        assert m.event(reason="bind_foreign_address")["from"] == f"{H1}:80"
        assert m.event(reason="bind_in_use")["from"] == "0.0.0.0:7000"
        e = m.event(reason="connect_no_endpoint")
        assert (e["from"], e["to"], e["peer_endpoint"]) == (own, "10.77.200.200:80", None)
        e = m.event(reason="steer_no_listener")
        assert (e["endpoint"], e["peer_endpoint"], e["to"]) == ("web", "near", f"{lab.ip('web')}:79")
        assert e["from"].startswith(own + ":")
        assert all(is_event(e) for e in m.events()) and len(m.events()) == 5


def test_what_the_host_is_refused(lab):
    with monitor(lab, "--endpoint", "host:h1") as m:
        lab.host("h1", "/usr/bin/python3", "-c",
                 "import socket; socket.socket().connect_ex(('10.77.200.200', 80))")
        e = m.event(reason="connect_no_endpoint")
        assert (e["endpoint"], e["network"]) == ("host:h1", "default")


def test_a_forged_source(lab, world):
    """Out of a container, which has rights of its own in its namespace."""
    with monitor(lab, "--reason", "encap_spoofed", host="h2") as m:
        world["plainfar"].do(f"""
r = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
udp = struct.pack('!HHHH', 7, 9, 8, 0)
ip = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 28, 0, 0, 64, 17, 0, socket.inet_aton('10.77.192.250'),
                 socket.inet_aton('{lab.ip('web')}'))
r.sendto(ip + udp, ('{lab.ip('web')}', 0))
r.close()
""")
        e = m.event()
        assert (e["endpoint"], e["peer_endpoint"]) == ("plainfar", "web")  # who it is, not who it says
        assert (e["from"], e["to"]) == ("10.77.192.250:7", f"{lab.ip('web')}:9")
        assert (e["hook"], e["protocol"]) == ("from_container", "udp")


def test_revocation(lab, world, apply):  # noqa: F811
    web, far = lab.ip("web"), world["far"]
    far.do(f"s = connect('{web}', 80); s.sendall(b'x'); s.recv(1); port = s.getsockname()[1]")
    name = f"{lab.ip('far')}:{far('port')}"
    moved = Moved(lab, "h1")
    with monitor(lab) as here, monitor(lab, host="h2") as there:
        apply(policy("web", {"app": "web"}, ingress=[{"from": app("friend")}]))
        e = here.event(reason="revoked_policy")
        assert (e["hook"], e["host"], e["errno"]) == ("revoke", "h1", errno.ECONNABORTED)
        assert (e["endpoint"], e["peer_endpoint"], e["peer_host"]) == ("web", "far", "h2")
        assert (e["from"], e["to"]) == (name, f"{web}:80")
        apply(policy("clients", {"app": "client"}, policyTypes=["Egress"]))
        # The other end has been reset, or is ended there too: never is it told otherwise.
        for e in there.events():
            assert (e["endpoint"], e["from"], e["to"]) == ("far", name, f"{web}:80")
        assert moved("revoked_policy") == {"revoked_policy": 1}
    far.do("s.close()")


def test_the_end_of_a_container(lab, world):
    """Its connection ends, wherever the socket is, and its name is still known."""
    place = f"/run/slim-lab/{lab.id}/monitor"
    with monitor(lab, "--endpoint", "brief") as m, Remote.host(lab, "h1") as keeper:
        keeper.do(f"u = socket.socket(socket.AF_UNIX); u.bind({place!r}); u.listen()")
        with Remote.slim(lab, "h1", "brief") as brief:
            brief.do(f"s = connect('{lab.ip('web')}', 80); u = socket.socket(socket.AF_UNIX); "
                     f"u.connect({place!r}); socket.send_fds(u, [b'x'], [s.fileno()])")
            keeper.do("c, _ = u.accept(); fd = socket.recv_fds(c, 10, 1)[1][0]")
        e = m.event(reason="revoked_endpoint", endpoint="brief")
        assert e["to"] == f"{lab.ip('web')}:80" and e["from"].startswith(lab.ip("brief") + ":")
        # And the last that a container did.
        lab.run("h1", "brief", "/usr/bin/python3", "-c",
                "import socket; socket.socket().connect_ex(('10.77.200.200', 80))")
        m.event(reason="connect_no_endpoint", endpoint="brief")


# --- to whom --------------------------------------------------------------------------------------


def test_filters_and_several_at_once(lab, world):
    def refuse(name):
        world[name].do("""
s = socket.socket()
with contextlib.suppress(OSError): s.connect(('10.77.200.200', 80))
with contextlib.suppress(OSError): s.setsockopt(socket.SOL_SOCKET, 36, 1)
with contextlib.suppress(OSError): s.bind(('192.0.2.1', 80))
s.close()
""")

    all_three = {"connect_no_endpoint", "option_refused", "bind_foreign_address"}
    options = {
        "all": [],
        "of near": ["--endpoint", "near"],
        "of web": ["--endpoint", "web", "--network", "default"],
        "of another network": ["--endpoint", "web", "--network", "blue"],
        "two reasons": ["--reason", "option_refused", "--reason=bind_foreign_address"],
        "near's options": ["--endpoint=near", "--reason", "option_refused"],
        "of nobody": ["--endpoint", "nobody"],
    }
    wanted = {
        "all": {(n, r) for n in ("near", "web") for r in all_three},
        "of near": {("near", r) for r in all_three},
        "of web": {("web", r) for r in all_three},
        "two reasons": {(n, r) for n in ("near", "web") for r in all_three - {"connect_no_endpoint"}},
        "near's options": {("near", "option_refused")},
    }
    with contextlib.ExitStack() as stack:
        there = {what: stack.enter_context(monitor(lab, *words)) for what, words in options.items()}
        assert watchers(lab) == len(options)
        refuse("near")
        refuse("web")
        for what, want in wanted.items():
            wait_until(lambda m=there[what], n=len(want): len(m.events()) >= n, what)
        for what, m in there.items():
            got = [(e["endpoint"], e["reason"]) for e in m.events()]
            assert set(got) == wanted.get(what, set()) and len(got) == len(set(got)), what
            assert m.lost() == 0
    assert watchers(lab) == 0


def test_text(lab, world):
    with monitor(lab, json_lines=False) as m:
        world["near"].do("s = socket.socket(); s.connect_ex(('10.77.200.200', 80)); s.close()")
        wait_until(lambda: m.text().count("\n") == 2, "a line")
        titles, line = m.text().splitlines()
        assert titles.split() == ["TIME", "REASON", "ENDPOINT", "PEER", "FROM", "TO", "PROTOCOL", "DETAIL"]
        assert line.split()[1:] == ["connect_no_endpoint", "near", "-", lab.ip("near"), "10.77.200.200:80",
                                    "tcp", "connect", "EHOSTUNREACH"]
        assert titles.index("ENDPOINT") == line.index("near")


# --- its end --------------------------------------------------------------------------------------


def test_count(lab, world):
    with monitor(lab, "--count", "2") as m:
        world["near"].do("s = socket.socket()\n"
                         "for _ in range(5): s.connect_ex(('10.77.200.200', 80))\n"
                         "s.close()")
        assert m.ended() == (0, "")
        assert len(m.events()) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_well(lab, world, number):
    with monitor(lab) as m:
        world["near"].do("s = socket.socket(); s.connect_ex(('10.77.200.200', 80)); s.close()")
        m.event()
        m.process.send_signal(number)
        assert m.ended() == (0, "")
        assert len(m.events()) == 1


def test_nobody_reads_its_output(lab):
    r, w = os.pipe()
    with monitor(lab, stdout=w) as m:
        os.close(w)
        os.close(r)
        assert m.ended() == (0, "")  # though nothing has happened


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_slimd_ends_and_comes_back(lab, world, how):
    """Counts go on, and so does everything else; who watched is told that it is over."""
    before = counters(lab, "h1")["connect_no_endpoint"]
    refuse = "s = socket.socket(); s.connect_ex(('10.77.200.200', 80)); s.close()"
    with contextlib.ExitStack() as stack:
        m = Monitor(subprocess.Popen(lab.command("ctl", "h1", "--", "--json", "monitor"),
                                     stdin=subprocess.DEVNULL,
                                     stdout=(out := stack.enter_context(tempfile.NamedTemporaryFile("w"))),
                                     stderr=(err := stack.enter_context(tempfile.NamedTemporaryFile("w")))),
                    out, err)
        wait_until(lambda: watchers(lab) == 1, "the monitor to watch")
        lab.verb("daemon", "h1", how)
        try:
            status, said = m.ended()
            assert status == 1 and said.count("\n") == 1 and "slimd has ended" in said
            world["near"].do(refuse)  # the ring is there still, and nobody reads
        finally:
            lab.verb("daemon", "h1", "start")
    assert watchers(lab) == 0
    with monitor(lab) as m:
        world["near"].do(refuse)
        m.event(reason="connect_no_endpoint", endpoint="near")
        assert len(m.events()) == 1  # and not what was in the ring
    assert counters(lab, "h1")["connect_no_endpoint"] - before == 2


# --- too much -------------------------------------------------------------------------------------

# Refusals of three reasons, as fast as it goes.
STORM = """
def storm(n):
    s = socket.socket()
    for _ in range(n):
        s.connect_ex(('10.77.200.200', 80))
        for f, *args in ('setsockopt', socket.SOL_SOCKET, 36, 1), ('bind', ('192.0.2.1', 80)):
            with contextlib.suppress(OSError):
                getattr(s, f)(*args)
    s.close()
"""
REASONS = ("connect_no_endpoint", "option_refused", "bind_foreign_address")


def refusals(lab, before):
    now = counters(lab, "h1")
    return sum(now[r] - before[r] for r in REASONS)


def test_more_than_are_told(lab, world):
    """Each is counted, and each is told or said to be lost; while slimd stands still, and after."""
    n = 3000
    world["near"].do(STORM)
    with monitor(lab) as m:
        before = counters(lab, "h1")
        pid = int(lab.verb("daemon", "h1", "pid").stdout)
        os.kill(pid, signal.SIGSTOP)
        try:
            world["near"].do(f"storm({n})")
        finally:
            os.kill(pid, signal.SIGCONT)
        assert refusals(lab, before) == len(REASONS) * n
        wait_until(lambda: len(m.events()) + m.lost() >= len(REASONS) * n,
                   lambda: f"{len(m.events())} told and {m.lost()} lost to be all")
        assert len(m.events()) + m.lost() == len(REASONS) * n
        assert m.lost() == counters(lab, "h1")["event_lost"] - before["event_lost"] > 0
        assert {e["reason"] for e in m.events()} == set(REASONS)
        assert all(is_event(e) for e in m.events())


def resident(pid):
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_subscriber_that_does_not_read(lab, world):
    """It costs slimd no more than a bound, others nothing, and is told what it has missed."""
    world["near"].do(STORM)
    pid = lab.ctl("h1", "status")["pid"]
    with Subscriber(lab) as idle, contextlib.ExitStack() as stack:
        assert idle.call("Event.Monitor") == {"parameters": {"events": [], "lost": 0}, "continues": True}
        m = stack.enter_context(monitor(lab))
        before, memory = counters(lab, "h1"), resident(pid)
        told = 0
        # Until it has lost some: more than its socket and slimd keep for it.
        while told < 6000:
            world["near"].do("storm(1000)")
            assert lab.ctl("h1", "status")["pid"] == pid
            told = len(m.events())
        total = refusals(lab, before)
        assert resident(pid) - memory < 32 << 20
        wait_until(lambda: len(m.events()) + m.lost() == total, "the other one to have been told of all")
        events = lost = 0
        while events + lost < total:
            answer = idle.answer()
            assert set(answer) == {"parameters", "continues"} and answer["continues"] is True
            assert set(answer["parameters"]) == {"events", "lost"}
            events += len(answer["parameters"]["events"])
            lost += answer["parameters"]["lost"]
        assert events + lost == total
        assert lost > m.lost()  # the programs' losses, and its own
        # And then it is one like others.
        world["near"].do("s = socket.socket(); s.connect_ex(('10.77.200.200', 80)); s.close()")
        answer = idle.answer()["parameters"]
        assert (len(answer["events"]), answer["lost"]) == (1, 0)


def test_at_most_so_many(lab):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(lab)) for _ in range(33)]
        for c in clients[:32]:
            assert c.call("Event.Monitor")["continues"] is True
        assert is_error(clients[32].call("Event.Monitor"), errno.EUSERS)
        assert watchers(lab) == 32
        done = lab.verb("ctl", "h1", "--", "monitor", check=False)
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and "32" in done.stderr
        clients[0].socket.close()
        wait_until(lambda: watchers(lab) == 31, "room for another one")
        assert clients[32].call("Event.Monitor")["continues"] is True
    wait_until(lambda: watchers(lab) == 0, "all to have gone")


def test_those_who_only_listen_are_not_cut_off(lab, world):
    with Client(lab) as silent, contextlib.ExitStack() as stack:
        silent.call("Event.Monitor")
        for _ in range(300):
            assert "parameters" in stack.enter_context(Client(lab)).call("Status")
        world["near"].do("s = socket.socket(); s.connect_ex(('10.77.200.200', 80)); s.close()")
        assert len(silent.answer()["parameters"]["events"]) == 1


# --- what is asked for wrongly --------------------------------------------------------------------


@pytest.mark.parametrize("parameters, text", [
    ({"reasons": ["policy_egres"]}, "policy_egres"),
    ({"reasons": ["syn_accepted"]}, "syn_accepted"),
    ({"reasons": [7]}, "reasons"),
    ({"reasons": "policy_egress"}, "reasons"),
    ({"endpoint": "Not A Name"}, "Not A Name"),
    ({"endpoint": "host:"}, "endpoint"),
    ({"network": ""}, "network"),
    ({"endpoint": 7}, "parameters"),
    ({"nope": 1}, "nope"),
])
def test_bad_calls(lab, parameters, text):
    with Client(lab) as c:
        answer = c.call("Event.Monitor", parameters)
        assert is_error(answer, errno.EINVAL) and text in answer["error"]
        assert watchers(lab) == 0
        assert c.call("Event.Monitor", {"reasons": []})["continues"] is True
        assert is_error(c.call("Event.Monitor"), errno.EBUSY)
        assert "networks" in c.call("Network.List")["parameters"]  # other calls go on


@pytest.mark.parametrize("words, text", [
    (["--reason", "policy_egres"], "docs/monitor.md"),
    (["--reason", ""], "docs/monitor.md"),
    (["--reason"], "--reason"),
    (["--endpoint", "Not"], "Not"),
    (["--endpoint", "host:"], "--endpoint"),
    (["--network", "."], "--network"),
    (["--count", "0"], "--count"),
    (["--count", "-1"], "--count"),
    (["--count", "many"], "many"),
    (["surplus"], "surplus"),
    (["--nope"], "nope"),
])
def test_bad_command_lines(lab, words, text):
    done = lab.verb("ctl", "h1", "--", "monitor", *words, check=False)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1
    assert text in done.stderr


def test_without_slimd(lab):
    done = lab.verb("ctl", "h1", "--", "--run-dir", "/nonexistent", "monitor", check=False)
    assert (done.returncode, done.stdout) == (1, "") and done.stderr.count("\n") == 1
    assert "slimd does not run here" in done.stderr
