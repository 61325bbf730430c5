# SPDX-License-Identifier: Apache-2.0
"""
Where the demo and the benchmark measure: servers and clients of a lab, over one of several networks.

A place is one network: servers, each in a container of its own, and one container for all clients, in
which agent.py starts them. A network is a verb of tools/lab with options, and a way to find a name's
address; the table below is all that there is to say about one.
"""

import contextlib
import ctypes
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys

from .state import State, host_address, host_index
from .system import LabError, PR_SET_PDEATHSIG, cgroup2_root

TOOLS = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
LAB = f"{TOOLS}/lab"
AGENT = f"{TOOLS}/slimlab/agent.py"
FILTERED = f"{TOOLS}/slimlab/filtered.py"


@dataclasses.dataclass(frozen=True)
class Network:
    key: str
    title: str
    verb: str
    options: tuple = ()    # of the verb
    slim: bool = False     # slimd has to be there
    ours: bool = False     # it is Slim that is measured, in one way or another
    wrapper: tuple = ()    # what starts each program
    hosts: tuple = ("h1", "h2")  # of clients and servers; those of two networks that share ports differ


NETWORKS = {n.key: n for n in (
    Network("host", "host networking", "host"),
    Network("filtered", "host networking, with a seccomp filter", "host",
            wrapper=(sys.executable, FILTERED), hosts=("h3", "h4")),
    Network("baseline", "bridge + VXLAN + veth", "baseline"),
    Network("plain", "Slim's encapsulated path", "plain", slim=True, ours=True),
    Network("slim-slow", "Slim without its accelerator", "run", ("--no-accelerator",), slim=True,
            ours=True),
    Network("slim", "Slim", "run", slim=True, ours=True),
)}


# What is measured when nobody says.
USUAL = tuple(n for n in NETWORKS if n not in ("filtered", "slim-slow"))


def parse_networks(text, known):
    """"slim,host" as the keys in their own order, each once; ValueError for another one."""
    wanted = text.split(",")
    for key in wanted:
        if key not in known:
            raise ValueError(f'"{key}" is none of {", ".join(known)}')
    return [key for key in known if key in wanted]


def pick_cpus():
    """A CPU for the servers and one for the clients, on different cores if there are."""
    ours = sorted(os.sched_getaffinity(0))
    for other in ours[1:]:
        with contextlib.suppress(OSError):
            path = f"/sys/devices/system/cpu/cpu{ours[0]}/topology/thread_siblings_list"
            with open(path) as f:
                if str(other) in re.split("[,-]", f.read().strip()):
                    continue
        return ours[0], other
    return ours[0], ours[-1]


def end_with_us():
    """For preexec_fn: SIGKILL for the program when this one ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)


def run_lab(lab_id, *words):
    """A verb of tools/lab, to its end; its standard output."""
    done = subprocess.run([LAB, "--lab", lab_id, *words], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise LabError(done.stderr.strip().removeprefix("lab: "))
    return done.stdout


class Place:
    """One network of a lab: its servers and its clients' container."""

    def __init__(self, lab_id, network, directory, cpus, within=False):
        """within: servers are on the clients' host."""
        self.lab_id = lab_id
        self.network = NETWORKS[network]
        self.dir = f"{directory}/{network}"
        self.server_cpu, self.client_cpu = cpus
        self.hosts = {"client": self.network.hosts[0]}
        self.server_host = self.network.hosts[0 if within else 1]
        self.processes = {}
        self.agent = None
        self._addresses = {}
        self._cgroups = {}
        os.makedirs(self.dir)

    # --- starting and ending

    def full_name(self, name):
        """Of a container: the places of a lab share its names."""
        return f"{self.network.key}-{name}"

    def _command(self, name, argv, cpus):
        command = [LAB, "--lab", self.lab_id, self.network.verb, *self.network.options,
                   "--cpus", cpus]
        if self.network.verb == "host":
            command += ["--cgroup", self.full_name(name), self.hosts[name]]
        else:
            command += [self.hosts[name], self.full_name(name)]
        return command + ["--", *self.network.wrapper, *argv]

    def _start(self, name, argv, cpus, **pipes):
        log = open(f"{self.dir}/{name}.log", "wb")
        with log:
            pipes.setdefault("stdin", subprocess.DEVNULL)
            pipes.setdefault("stdout", log)
            process = subprocess.Popen(self._command(name, argv, cpus), stderr=log, cwd=self.dir,
                                       start_new_session=True, preexec_fn=end_with_us, **pipes)
        self.processes[name] = process
        return process

    def _fail(self, what, name):
        said = "nothing"
        with contextlib.suppress(OSError):
            with open(f"{self.dir}/{name}.log", errors="replace") as f:
                said = next((s.strip() for s in reversed(f.read().split("\n")) if s.strip()), said)
        raise LabError(f"{what} over {self.network.key}: {said}")

    def start_clients(self):
        # They may use the servers' CPU too: one measurement has both ends there.
        self.agent = self._start("client", [AGENT], f"{self.client_cpu},{self.server_cpu}",
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def serve(self, name, argv, port, cpus=None):
        """Starts a server and returns when a client reaches it."""
        self.hosts[name] = self.server_host
        process = self._start(name, argv, cpus or str(self.server_cpu))
        answer = self._ask({"wait": [self.address(name), port], "seconds": 10})
        if answer["status"] != 0 or process.poll() is not None:
            self._fail(f"{name} on port {port} cannot be reached ({answer.get('stderr')})", name)

    def idle(self, name):
        """A container on the clients' host in which nothing happens; returns when it is there."""
        self.hosts[name] = self.hosts["client"]
        process = self._start(name, ["sh", "-c", "echo up; exec sleep 1000000"], str(self.client_cpu),
                              stdout=subprocess.PIPE)
        if process.stdout.readline() != b"up\n":
            self._fail(f"{name} does not start", name)
        return process

    def _end(self, names):
        """The lab's down would too, less kindly."""
        ended = [self.processes.pop(n) for n in names if n in self.processes]
        for process in ended:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in ended:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def end(self, name):
        self._end([name])
        self._cgroups.pop(name, None)

    def stop(self):
        self._end(list(self.processes))

    # --- where things are

    def address(self, name):
        """Where the server of that name is, and where the clients ("client") are."""
        host = self.hosts[name]
        if self.network.verb == "host":
            return host_address(host_index(host))
        if name not in self._addresses:
            option = ["--baseline", "--host", host] if self.network.verb == "baseline" else []
            self._addresses[name] = run_lab(self.lab_id, "ip", *option,
                                            self.full_name(name)).strip()
        return self._addresses[name]

    def cgroup(self, name):
        """What the processes of a container are in, its broker included."""
        if name not in self._cgroups:
            full = self.full_name(name)
            if self.network.slim:
                shown = json.loads(run_lab(self.lab_id, "ctl", self.hosts[name], "--", "--json",
                                           "endpoint", "show", full))
                self._cgroups[name] = shown["endpoint"]["cgroup"]
            else:
                host = "net" if self.network.verb == "baseline" else self.hosts[name]
                top = State(self.lab_id).host_cgroup(cgroup2_root(), host)
                self._cgroups[name] = f"{top}/programs/{full}"
        return self._cgroups[name]

    # --- asking the agent

    def _ask(self, request):
        try:
            self.agent.stdin.write(json.dumps(request) + "\n")
            self.agent.stdin.flush()
            line = self.agent.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._fail("the clients' container ended", "client")
        return json.loads(line)

    def get(self, name, port, path):
        """What one GET is answered with."""
        answer = self._ask({"http": [self.address(name), port, path]})
        if answer["status"] != 0:
            self._fail(f"no answer by {name} ({answer['stderr']})", name)
        return answer["stdout"]

    def client(self, argv, one_core=False, seconds=60):
        """Runs a client to its end; its standard output."""
        cpu = self.server_cpu if one_core else self.client_cpu
        answer = self._ask({"argv": argv, "cpus": [cpu], "seconds": seconds})
        if answer["status"] != 0:
            said = (answer["stderr"] or answer["stdout"]).strip().split("\n")[-1]
            raise LabError(f"{os.path.basename(argv[0])} over {self.network.key} failed "
                           f"({answer['status']}): {said}")
        return answer["stdout"]
