# SPDX-License-Identifier: Apache-2.0
"""
What dies and what goes on: slimd, brokers and containers, each ended in every way there is.

In the containers run agents, which evaluate what a test sends them, so that programs that were
there before do new things afterwards.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import threading

import pytest

from conftest import PATIENCE, ROOT, lab_up, read_line, wait_until

BUILD = pathlib.Path(os.environ.get("SLIM_BUILD") or ROOT / "build").resolve()

AGENT = """
import errno, json, socket, sys, threading

held = {}
counts = {"made": 0, "failures": []}
over = threading.Event()

def serve(s):
    while True:
        try:
            c, a = s.accept()
        except OSError:
            return
        threading.Thread(target=talk, args=(c, a), daemon=True).start()

def talk(c, a):
    try:
        while (got := c.recv(4096)):
            c.sendall(f"{a[0]} {a[1]} ".encode() + got)
    except OSError:
        pass
    c.close()

def listen(port):
    s = socket.create_server(("0.0.0.0", port), backlog=128)
    held["listener", port] = s
    threading.Thread(target=serve, args=(s,), daemon=True).start()

def say(c, text):
    c.sendall(text.encode())
    addr, port, echo = c.recv(4096).decode().split(" ", 2)
    assert (addr, int(port)) == c.getsockname()[:2], (addr, port, c.getsockname())
    assert echo == text, echo
    return addr

def open_to(key, addr, port):
    held[key] = socket.create_connection((addr, port), timeout=30)
    return say(held[key], "first")

def once(addr, port):
    with socket.create_connection((addr, port), timeout=30) as c:
        return say(c, "hello")

def ended(c):
    try:
        return c.recv(1) == b""
    except ConnectionResetError:
        return True

def refused(addr, port):
    try:
        socket.create_connection((addr, port), timeout=30).close()
    except OSError as e:
        return errno.errorcode.get(e.errno, repr(e))
    return "nobody"

def loop(addr, port):
    while not over.is_set():
        try:
            once(addr, port)
            counts["made"] += 1
        except Exception as e:
            counts["failures"].append(repr(e))

def start_loop(addr, port):
    held["loop"] = threading.Thread(target=loop, args=(addr, port))
    held["loop"].start()

def end_loop():
    over.set()
    held["loop"].join()
    return counts

print("ready", flush=True)
for line in sys.stdin:
    try:
        print(json.dumps({"value": eval(line)}), flush=True)
    except BaseException as e:
        print(json.dumps({"error": repr(e)}), flush=True)
"""


class Agent:
    """A container with AGENT in it; call it with Python."""

    def __init__(self, lab, host, name, verb="run"):
        self.lab, self.host, self.name = lab, host, name
        self.process = subprocess.Popen(lab.command(verb, host, name, "--", "/usr/bin/python3",
                                                    "-c", AGENT), text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        if read_line(self.process, name) != "ready\n":
            pytest.fail(f"{name}: {self.process.stderr.read()}")
        self.address = lab.ip(name)

    def __call__(self, code):
        self.process.stdin.write(code + "\n")
        self.process.stdin.flush()
        line = read_line(self.process, f"{self.name} ({code})")
        assert line, f"{self.name} has ended: {self.process.stderr.read()}"
        got = json.loads(line)
        assert "error" not in got, f"{self.name}: {code}: {got['error']}"
        return got["value"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def show(self):
        return self.lab.ctl(self.host, "endpoint", "show", self.name)["endpoint"]

    def broker(self):
        """Its process id; there may be none for a moment, for which slimd says 0."""
        found = []
        wait_until(lambda: found.append(self.show()["broker_pid"]) or found[-1], "a broker")
        return found[-1]

    def pids(self):
        return [int(p) for p in
                (pathlib.Path(self.show()["cgroup"]) / "program" / "cgroup.procs").read_text()
                .split()]


def endpoints_of(lab, host):
    return sorted(lab.ctl(host, "endpoint", "ls")["endpoints"], key=lambda e: e["name"])


def names(lab, host):
    return [e["name"] for e in endpoints_of(lab, host)]


def connections(lab, host):
    """Established ones and listeners, by what does not change while they stand."""
    return sorted((c["endpoint"], c["state"], c["local"], str(c["peer"]), c["host_local"],
                   str(c["host_peer"]), str(c["peer_endpoint"]), c["cookie"])
                  for c in lab.ctl(host, "connection", "ls")["connections"]
                  if c["state"] in ("established", "listen"))


def pinned(lab, host):
    """The kernel's ids of what a host's slimd has pinned."""
    base = pathlib.Path("/sys/fs/bpf") / f"slim-lab-{lab.id}" / host

    def show(kind, path):
        return json.loads(subprocess.run(["bpftool", "-j", kind, "show", "pinned", str(path)],
                                         check=True, stdout=subprocess.PIPE).stdout)

    links = {p.name: show("link", p) for p in (base / "links").iterdir()}
    maps = {p.name: show("map", p)["id"] for p in (base / "maps").iterdir()}
    assert len(links) > 5 and len(maps) > 5
    return {"links": {n: link["id"] for n, link in links.items()}, "maps": maps,
            "programs": {link["prog_id"] for link in links.values()}}


def daemon(lab, action, hosts=("h1", "h2")):
    for host in hosts:
        lab.verb("daemon", host, action)


@contextlib.contextmanager
def pair(lab):
    with Agent(lab, "h1", "alice") as a, Agent(lab, "h2", "bob") as b:
        yield a, b
    wait_until(lambda: names(lab, "h1") == names(lab, "h2") == [], "the containers to go")


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- slimd ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_everything_goes_on_without_slimd(lab, how):
    with pair(lab) as (a, b):
        b("listen(7000)")
        assert a(f"open_to('old', '{b.address}', 7000)") == a.address
        endpoints = {h: endpoints_of(lab, h) for h in ("h1", "h2")}
        standing = {h: connections(lab, h) for h in ("h1", "h2")}
        brokers = a.broker(), b.broker()
        kernel = pinned(lab, "h1")
        assert all(brokers) and len(standing["h1"]) == 1 and len(standing["h2"]) == 2

        daemon(lab, how)
        assert lab.verb("ctl", "h1", "--", "status", check=False).returncode == 1
        assert all(map(is_alive, brokers))
        assert a("say(held['old'], 'still')") == a.address
        for _ in range(20):
            assert a(f"once('{b.address}', 7000)") == a.address
        # New listeners, also of a container that had none, found from both hosts.
        b("listen(7001)")
        a("listen(7002)")
        assert a(f"once('{b.address}', 7001)") == a.address
        assert b(f"once('{a.address}', 7002)") == b.address
        assert b(f"once('{b.address}', 7001)") == b.address
        assert a("once('127.0.0.1', 7002)") == "127.0.0.1"
        assert a(f"open_to('new', '{b.address}', 7001)") == a.address

        daemon(lab, "start")
        assert {h: endpoints_of(lab, h) for h in ("h1", "h2")} == endpoints
        # The same links, with new programs: never a moment without one. And the same maps.
        taken_over = pinned(lab, "h1")
        assert taken_over["links"] == kernel["links"] and taken_over["maps"] == kernel["maps"]
        assert taken_over["programs"].isdisjoint(kernel["programs"])
        assert (a.broker(), b.broker()) == brokers
        for h in ("h1", "h2"):
            assert set(standing[h]) < set(connections(lab, h))
        assert [c[2:4] for c in connections(lab, "h1") if c[3].endswith(":7001")]
        assert a("say(held['old'], 'again')") == a("say(held['new'], 'again')") == a.address
        assert a(f"once('{b.address}', 7000)") == a.address
        assert b(f"once('{a.address}', 7002)") == b.address
        # It serves newcomers again, and those reach what was made without it.
        with Agent(lab, "h1", "carol") as c:
            assert c(f"once('{b.address}', 7001)") == c.address
            assert c(f"once('{a.address}', 7002)") == c.address


def test_a_plain_container_outlives_slimd(lab):
    with Agent(lab, "h1", "alice", verb="plain") as a, Agent(lab, "h2", "bob", verb="plain") as b:
        b("listen(7000)")
        a(f"open_to('old', '{b.address}', 7000)")
        daemon(lab, "kill")
        assert a("say(held['old'], 'still')") == a.address
        assert a(f"once('{b.address}', 7000)") == a.address
        daemon(lab, "start")
        assert a("say(held['old'], 'again')") == a.address
        assert a(f"once('{b.address}', 7000)") == a.address
        assert names(lab, "h1") == ["alice", "bob"]
    wait_until(lambda: names(lab, "h1") == names(lab, "h2") == [], "the containers to go")


def test_restarts_under_load_cost_no_connection(lab):
    with pair(lab) as (a, b):
        b("listen(7000)")
        a("listen(7002)")
        a(f"start_loop('{b.address}', 7000)")
        b(f"start_loop('{a.address}', 7002)")
        for how in ("kill", "stop", "kill"):
            made = a("counts['made']"), b("counts['made']")
            daemon(lab, how)
            # Some with no slimd at all, and some after its start.
            wait_until(lambda: a("counts['made']") > made[0] + 50
                       and b("counts['made']") > made[1] + 50, "connections without slimd")
            daemon(lab, "start")
            made = a("counts['made']"), b("counts['made']")
            wait_until(lambda: a("counts['made']") > made[0] + 50
                       and b("counts['made']") > made[1] + 50, "connections with a new slimd")
        for agent in (a, b):
            counts = agent("end_loop()")
            assert counts["failures"] == []
            assert counts["made"] >= 300


def test_a_container_that_ended_meanwhile_is_cleared_away(lab):
    maps = {h: lab.ctl(h, "status")["maps"] for h in ("h1", "h2")}
    with Agent(lab, "h1", "alice") as a, Agent(lab, "h1", "stays") as stays:
        a("listen(7000)")
        stays("listen(7001)")
        gone = traces(lab, a)
        assert all(os.path.exists(p) for p in gone["paths"])
        daemon(lab, "kill", ["h1"])
        a.process.kill()
        a.process.wait(PATIENCE)
        daemon(lab, "start", ["h1"])
        check_gone(lab, a, gone)
        assert names(lab, "h1") == names(lab, "h2") == ["stays"]
        with Agent(lab, "h2", "asks") as asks:
            assert asks(f"once('{stays.address}', 7001)") == asks.address
    wait_until(lambda: all(lab.ctl(h, "status")["maps"] == maps[h] for h in maps), "the maps")


# --- brokers --------------------------------------------------------------------------------------


def replaced(agent, old):
    wait_until(lambda: agent.broker() != old, "another broker")
    assert not is_alive(old)
    return agent.broker()


def test_a_killed_broker_is_replaced(lab):
    with pair(lab) as (a, b):
        b("listen(7000)")
        a(f"open_to('old', '{b.address}', 7000)")
        killed = a.broker()
        os.kill(killed, signal.SIGKILL)
        # At once: the call waits until there is another.
        assert a(f"once('{b.address}', 7000)") == a.address
        second = replaced(a, killed)
        assert a("say(held['old'], 'still')") == a.address

        # One that another slimd started, of which the present one is not the parent.
        for how in ("kill", "stop"):
            daemon(lab, how, ["h1"])
            daemon(lab, "start", ["h1"])
            assert a.broker() == second
            os.kill(second, signal.SIGKILL)
            assert a(f"once('{b.address}', 7000)") == a.address
            second = replaced(a, second)
        # And one whose parent still runs, but after a restart.
        os.kill(second, signal.SIGKILL)
        assert a(f"once('{b.address}', 7000)") == a.address
        replaced(a, second)
        assert a("say(held['old'], 'still')") == a.address


def test_brokers_killed_under_load_cost_no_call(lab):
    """Also a call that a broker had taken on when it was killed is answered, by the next one."""
    with pair(lab) as (a, b):
        b("listen(7000)")
        a(f"start_loop('{b.address}', 7000)")
        for i in range(14):
            made = a("counts['made']")
            wait_until(lambda: a("counts['made']") > made + 10, "connections")
            killed = a.broker()
            os.kill(killed, signal.SIGKILL)
            if i % 6 == 5:
                # Not before: with slimd and broker both dead, nobody has the notifications.
                replaced(a, killed)
                daemon(lab, "kill", ["h1"])
                daemon(lab, "start", ["h1"])
        made = a("counts['made']")
        wait_until(lambda: a("counts['made']") > made + 10, "connections after all of that")
        assert a("end_loop()")["failures"] == []


def test_a_broker_ends_with_its_container(lab):
    with pair(lab) as (a, b):
        brokers = a.broker(), b.broker()
        assert all(map(is_alive, brokers))
    wait_until(lambda: not any(map(is_alive, brokers)), "the brokers to end")


# --- containers -----------------------------------------------------------------------------------


def traces(lab, agent):
    shown = agent.show()
    state = pathlib.Path("/run/slim-lab") / lab.id / agent.host / "run" / "endpoints"
    cgroup = pathlib.Path(shown["cgroup"])
    return {"pids": agent.pids() + [shown["broker_pid"]],
            "device": shown["device"],
            "paths": [cgroup, state / str(shown["id"])]}


def devices(lab, host):
    done = subprocess.run(["ip", "-n", f"slim-{lab.id}-{host}", "-j", "link"], check=True,
                          stdout=subprocess.PIPE, text=True)
    return [link["ifname"] for link in json.loads(done.stdout)]


def routes(lab, host):
    return subprocess.run(["ip", "-n", f"slim-{lab.id}-{host}", "route"], check=True, text=True,
                          stdout=subprocess.PIPE).stdout


def check_gone(lab, agent, gone):
    wait_until(lambda: not any(os.path.exists(p) for p in gone["paths"]), f"{gone['paths']} to go")
    wait_until(lambda: not any(map(is_alive, gone["pids"])), "its processes to end")
    for h in ("h1", "h2"):
        wait_until(lambda: agent.name not in names(lab, h), f"{h} to forget it")
    assert gone["device"] not in devices(lab, agent.host)
    assert agent.address not in routes(lab, agent.host)


def first_pid(agent):
    """Of the container's PID namespace, by its own count."""
    for pid in agent.pids():
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        if [line for line in status.splitlines() if line.startswith("NSpid:")][0].endswith("\t1"):
            return pid
    return pytest.fail("no first process")


WAYS = {
    # A victim in a container, and what tools/lab run, which becomes slimctl, ends with.
    "first process": (first_pid, 128 + signal.SIGKILL),
    "slimctl": (lambda agent: agent.process.pid, -signal.SIGKILL),
    "program": (lambda agent: [p for p in agent.pids() if p != first_pid(agent)][0],
                128 + signal.SIGKILL),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_killed_container_leaves_nothing(lab, way):
    victim, status = WAYS[way]
    maps = {h: lab.ctl(h, "status")["maps"] for h in ("h1", "h2")}
    before = {h: sorted(devices(lab, h)) for h in ("h1", "h2")}
    with Agent(lab, "h2", "bob") as b:
        b("listen(7000)")
        for _ in range(2):  # the second time under the same name and address, at once
            with Agent(lab, "h1", "alice") as a:
                a("listen(7001)")
                a("listen(7002)")
                assert a(f"open_to('there', '{b.address}', 7000)") == a.address
                assert b(f"open_to('back', '{a.address}', 7001)") == b.address
                gone = traces(lab, a)
                assert all(os.path.exists(p) for p in gone["paths"])
                assert gone["device"] in devices(lab, "h1")
                os.kill(victim(a), signal.SIGKILL)
                assert a.process.wait(PATIENCE) == status
                # The peer's connections end.
                assert b("ended(held['back'])")
        check_gone(lab, a, gone)
        assert b(f"refused('{a.address}', 7001)") == "EHOSTUNREACH"
    wait_until(lambda: names(lab, "h1") == names(lab, "h2") == [], "the containers to go")
    for h in maps:
        wait_until(lambda: lab.ctl(h, "status")["maps"] == maps[h],
                   f"{h}'s maps: {maps[h]}, now {lab.ctl(h, 'status')['maps']}")
        assert sorted(devices(lab, h)) == before[h]
    with Agent(lab, "h2", "alice") as a:  # and on another host
        assert names(lab, "h1") == ["alice"]
    wait_until(lambda: names(lab, "h1") == [], "its name to be free")


def test_a_process_left_in_the_cgroup_goes_as_well(lab):
    """What was moved into a container's cgroup from outside keeps the endpoint, until it ends."""
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        with Agent(lab, "h1", "alice") as a:
            gone = traces(lab, a)
            (gone["paths"][0] / "program" / "cgroup.procs").write_text(str(stranger.pid))
        assert names(lab, "h1") == ["alice"]
    finally:
        stranger.kill()
        stranger.wait()
    check_gone(lab, a, gone)


def test_many_at_once(lab):
    """Containers that come and go together, one half killed: none leaves anything."""
    maps = {h: lab.ctl(h, "status")["maps"] for h in ("h1", "h2")}
    before = sorted(devices(lab, "h1"))
    failures = []

    def one(i):
        try:
            with Agent(lab, f"h{i % 2 + 1}", f"crowd-{i}") as a:
                a("listen(7000)")
                assert a("once('127.0.0.1', 7000)") == "127.0.0.1"
                assert a(f"once('{a.address}', 7000)") == a.address
                if i % 3 == 0:
                    a.process.kill()
        except BaseException as e:  # a failure of a thread would be lost
            failures.append(repr(e))

    threads = [threading.Thread(target=one, args=(i,)) for i in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failures == []
    for h in maps:
        wait_until(lambda: names(lab, h) == [], "the containers to go")
        wait_until(lambda: lab.ctl(h, "status")["maps"] == maps[h], "the maps to be empty")
    assert sorted(devices(lab, "h1")) == before


def test_killed_with_the_whole_host(lab):
    """slimd, brokers and containers of a host, all at the same moment; then it comes back."""
    with lab_up(hosts=2) as other:
        with Agent(other, "h1", "alice") as a, Agent(other, "h2", "bob") as b:
            b("listen(7000)")
            a("listen(7000)")
            a(f"open_to('old', '{b.address}', 7000)")
            gone = traces(other, a)
            slimd = int(other.verb("daemon", "h1", "pid").stdout)
            for pid in [slimd, *gone["pids"]]:
                os.kill(pid, signal.SIGKILL)
            a.process.wait(PATIENCE)
            wait_until(lambda: not is_alive(slimd), "slimd to end")
            other.verb("daemon", "h1", "start")
            check_gone(other, a, gone)
            with Agent(other, "h1", "alice") as again:
                assert again(f"once('{b.address}', 7000)") == again.address


def test_a_replaced_broker_file_is_not_started(lab, tmp_path):
    """slimd starts the broker that was there when it began, whatever an upgrade puts in its place."""
    build = tmp_path / "build"
    for part in ("slimd/slimd", "broker/slim-broker", "slimctl/slimctl"):
        (build / "src" / part).parent.mkdir(parents=True)
        shutil.copy2(BUILD / "src" / part, build / "src" / part)
    with lab_up(hosts=1, build=build) as own:
        broker = build / "src/broker/slim-broker"
        broker.rename(broker.with_suffix(".old"))
        broker.write_text("#!/bin/sh\nexit 1\n")
        broker.chmod(0o755)
        assert own.python("h1", "after", "import socket; s = socket.socket(); print(s.fileno())") > 2
