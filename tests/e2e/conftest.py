# SPDX-License-Identifier: Apache-2.0
"""
A lab for each test module: hosts on this machine, named after nothing but this run, and gone
afterwards, also when the run is killed.
"""

import contextlib
import json
import os
import pathlib
import select
import subprocess
import sys
import tempfile
import time
import uuid

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAB = ROOT / "tools" / "lab"

# The files that take longest, which begin first, so that none is left over in the end.
LONGEST = ("test_ipv6", "test_publish", "test_policy", "test_fuzz_socket", "test_suites", "test_slimsocket",
           "test_lifecycle", "test_cpython", "test_policy_cli", "test_bench", "test_flood",
           "test_many", "test_daemon")

# What a command may take before something is taken to hang. Not a claim of speed.
PATIENCE = 60

_REAPER = """
import os, subprocess, sys
os.setsid()
os.read(0, 1)                       # ends when the test run does, however it does
subprocess.run([sys.argv[1], "--lab", sys.argv[2], "down"],
               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
"""


def pytest_collection_modifyitems(items):
    def place(item):
        name = item.module.__name__.rpartition(".")[2]
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=place)  # which leaves the order within a file


class Lab:
    """tools/lab with one lab's id."""

    def __init__(self, lab_id):
        self.id = lab_id
        self._addresses = {}

    def command(self, *words):
        return [str(LAB), "--lab", self.id, *map(str, words)]

    def verb(self, *words, check=True, **kwargs):
        """One verb of tools/lab, to its end. A subprocess.CompletedProcess with text."""
        kwargs.setdefault("timeout", PATIENCE)
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(self.command(*words), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, **kwargs)
        if check and done.returncode != 0:
            pytest.fail(f"lab {' '.join(map(str, words))}: exit {done.returncode}\n"
                        f"{done.stdout}{done.stderr}")
        return done

    def run(self, host, name, *argv, **kwargs):
        """A program in a Slim container, to its end."""
        return self.verb("run", host, name, "--", *argv, **kwargs)

    def plain(self, host, name, *argv, **kwargs):
        return self.verb("plain", host, name, "--", *argv, **kwargs)

    def host(self, host, *argv, **kwargs):
        return self.verb("host", host, "--", *argv, **kwargs)

    def ip(self, name, family=None):
        """family: "4" or "6", where the lab's network has both."""
        if (name, family) not in self._addresses:  # fixed until the lab goes
            words = ["--family", family] if family else []
            self._addresses[name, family] = self.verb("ip", *words, name).stdout.strip()
        return self._addresses[name, family]

    def ctl(self, host, *argv):
        """slimctl --json on a host; what it printed, as a value."""
        return json.loads(self.verb("ctl", host, "--", "--json", *argv).stdout)

    def python(self, host, name, code, *argv, **kwargs):
        """Python code in a Slim container; what it printed as JSON, as a value."""
        done = self.run(host, name, "/usr/bin/python3", "-c", code, *argv, **kwargs)
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def start(self, kind, host, name, *argv, ready=None, cwd=None, options=()):
        """
        A program in the background (kind: run, plain, host, baseline) for a while. ready: a text
        that its output has when it serves; its output is in the file .log. Ended by its id. options:
        further ones of the verb.
        """
        words = [kind, host] + ([] if kind == "host" else [name]) + [*options, "--", *argv]
        with tempfile.NamedTemporaryFile("w+", suffix=".log",
                                         dir=f"/run/slim-lab/{self.id}") as log:
            process = subprocess.Popen(self.command(*words), stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=subprocess.STDOUT, cwd=cwd)
            process.log = log.name
            try:
                if ready is not None:
                    wait_until(lambda: ready in pathlib.Path(log.name).read_text()
                               or process.poll() is not None,
                               f"{name} to say {ready!r}")
                    if process.poll() is not None:
                        pytest.fail(f"{name} ended: {pathlib.Path(log.name).read_text()}")
                yield process
            finally:
                if process.poll() is None:
                    process.terminate()
                try:
                    process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def wait_listening(self, host, name, port):
        """Until a container listens on a port."""
        wait_until(lambda: any(c["state"] == "listen" and c["local"].endswith(f":{port}")
                               for c in self.ctl(host, "connection", "ls", "--name", name)
                               ["connections"]),
                   f"{name} to listen on {port}")


def read_line(process, what="a process"):
    """The next line of its standard output, of which nothing was read ahead."""
    if not select.select([process.stdout], [], [], PATIENCE)[0]:
        pytest.fail(f"gave up waiting for {what} to say something")
    return process.stdout.readline()


def wait_until(condition, what, patience=PATIENCE):
    """what: for the message; may be a function, which is asked in the end."""
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"gave up waiting for {what() if callable(what) else what}")
        time.sleep(0.02)


def descriptors(pid):
    """Of a daemon that nobody talks to: the least of some looks, as one that has gone may be still open."""
    found = []
    for _ in range(25):
        found.append(len(os.listdir(f"/proc/{pid}/fd")))
        time.sleep(0.02)
    return min(found)


@contextlib.contextmanager
def lab_up(hosts=2, build=None, underlay="4", overlay="4"):
    lab = Lab("t" + uuid.uuid4().hex[:8])
    reaper = subprocess.Popen([sys.executable, "-c", _REAPER, str(LAB), lab.id],
                              stdin=subprocess.PIPE)
    try:
        lab.verb(*(["--bin", build] if build else []), "up", "--hosts", hosts,
                 "--underlay", underlay, "--overlay", overlay, timeout=120)
        yield lab
    finally:
        reaper.stdin.close()
        reaper.wait(120)


@contextlib.contextmanager
def lab_with(option):
    """A lab of two hosts whose slimds have a further option."""
    with lab_up() as lab:
        for host in ("h1", "h2"):
            lab.verb("daemon", host, "stop")
            lab.verb("daemon", host, "start", "--", option)
        yield lab


@pytest.fixture(scope="module")
def lab():
    with lab_up() as up:
        yield up
