# SPDX-License-Identifier: Apache-2.0
"""
The measurements of tools/demo: servers on h2, clients on h1, over one of three networks.

    host      both in their host's network namespace
    baseline  both in containers on bridge + VXLAN + veth
    slim      both in Slim containers

Every server stays up for the whole demo, in a container of its own. The clients of a network share
a container, in which agent.py starts them.
"""

import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import time

from .state import host_address
from .system import LabError, PR_SET_PDEATHSIG

TOOLS = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
LAB = f"{TOOLS}/lab"
AGENT = f"{TOOLS}/slimlab/agent.py"

NETWORKS = ("host", "baseline", "slim")

# Of the servers. The same on each network: they are different places.
IPERF, WEB, CACHE, ECHO, ACCEPT = 5201, 8080, 11211, 9000, 9001

_VERB = {"host": "host", "baseline": "baseline", "slim": "run"}

_NGINX = """daemon off;
worker_processes 1;
error_log stderr error;
pid {dir}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    default_type application/octet-stream;
    keepalive_requests 1000000000;
    open_file_cache max=10;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    server {{
        listen {port} backlog=4096;
        root {root};
        location = /who {{ return 200 "$remote_addr $server_addr"; }}
    }}
}}
"""


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


def _end_with_us():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)


class Place:
    """One network: its servers, its clients' container, and the servers' address."""

    def __init__(self, lab_id, network, directory, rtt, cpus):
        self.lab_id = lab_id
        self.network = network
        self.dir = f"{directory}/{network}"
        self.rtt = rtt
        self.server_cpu, self.client_cpu = cpus
        self.processes = {}
        self.agent = None
        self.web_seen = None

    # --- starting and ending

    def _command(self, host, name, argv, cpus):
        command = [LAB, "--lab", self.lab_id, _VERB[self.network], "--cpus", cpus, host]
        if self.network != "host":
            command.append(name)
        return command + ["--"] + argv

    def _start(self, host, name, argv, cpus, **pipes):
        log = open(f"{self.dir}/{name}.log", "wb")
        with log:
            pipes.setdefault("stdin", subprocess.DEVNULL)
            pipes.setdefault("stdout", log)
            process = subprocess.Popen(self._command(host, name, argv, cpus), stderr=log,
                                       cwd=self.dir, start_new_session=True,
                                       preexec_fn=_end_with_us, **pipes)
        self.processes[name] = process
        return process

    def _fail(self, what, name):
        said = "nothing"
        with contextlib.suppress(OSError):
            with open(f"{self.dir}/{name}.log", errors="replace") as f:
                said = next((s.strip() for s in reversed(f.read().split("\n")) if s.strip()), said)
        raise LabError(f"{what} over {self.network}: {said}")

    def start(self):
        os.makedirs(self.dir)
        root = f"{self.dir}/root"
        os.mkdir(root)
        with open(f"{root}/1k", "w") as f:
            f.write("x" * 1024)
        with open(f"{self.dir}/nginx.conf", "w") as f:
            f.write(_NGINX.format(dir=self.dir, root=root, port=WEB))
        one = str(self.server_cpu)
        self._start("h2", "iperf", ["iperf3", "-s", "-p", str(IPERF)], one)
        self._start("h2", "web", ["nginx", "-p", self.dir, "-e", "stderr",
                                  "-c", f"{self.dir}/nginx.conf"], one)
        self._start("h2", "cache", ["memcached", "-u", "nobody", "-p", str(CACHE), "-U", "0",
                                    "-t", "1", "-m", "1024", "-c", "1024"], one)
        self._start("h2", "echo", [self.rtt, "echo", str(ECHO)], one)
        self._start("h2", "accept", [self.rtt, "accept", str(ACCEPT)], one)
        # The agent may use the servers' CPU too: one measurement has both ends there.
        self.agent = self._start("h1", "client", [AGENT],
                                 f"{self.client_cpu},{self.server_cpu}",
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name, port in (("iperf", IPERF), ("web", WEB), ("cache", CACHE), ("echo", ECHO),
                           ("accept", ACCEPT)):
            answer = self._ask({"wait": [self.address(name), port], "seconds": 10})
            if answer["status"] != 0 or self.processes[name].poll() is not None:
                self._fail(f"{name} on port {port} cannot be reached ({answer.get('stderr')})",
                           name)
        answer = self._ask({"http": [self.address("web"), WEB, "/who"]})
        if answer["status"] != 0:
            self._fail(f"no answer by nginx ({answer['stderr']})", "web")
        self.web_seen = answer["stdout"].split()

    def stop(self):
        """Ends them all; the lab's down would too, less kindly."""
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + 5
        for process in self.processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def address(self, name):
        """Where the server of that name is, and where the clients ("client") are."""
        if self.network == "host":
            return host_address(1 if name == "client" else 2)
        option = ["--baseline"] if self.network == "baseline" else []
        done = subprocess.run([LAB, "--lab", self.lab_id, "ip"] + option + [name],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise LabError(done.stderr.strip().removeprefix("lab: "))
        return done.stdout.strip()

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

    def client(self, argv, one_core=False, seconds=60):
        """Runs a client to its end; its standard output."""
        cpu = self.server_cpu if one_core else self.client_cpu
        answer = self._ask({"argv": argv, "cpus": [cpu], "seconds": seconds})
        if answer["status"] != 0:
            said = (answer["stderr"] or answer["stdout"]).strip().split("\n")[-1]
            raise LabError(f"{argv[0]} over {self.network} failed ({answer['status']}): {said}")
        return answer["stdout"]


# --- measurements ---------------------------------------------------------------------------------


def _number(text, pattern, what, network):
    found = re.search(pattern, text)
    if not found:
        raise LabError(f"{what} over {network} printed no result: {text.strip()[-200:]!r}")
    return float(found[1])


def iperf(place, seconds):
    text = place.client(["iperf3", "-c", place.address("iperf"), "-p", str(IPERF),
                         "-t", str(seconds), "-J"])
    try:
        return json.loads(text)["end"]["sum_received"]["bits_per_second"] / 1e9
    except (ValueError, KeyError):
        raise LabError(f"iperf3 over {place.network} printed no result") from None


def _wrk(place, seconds, headers):
    text = place.client(["wrk", "-t", "1", "-c", "32", "-d", f"{seconds}s"] + headers
                        + [f"http://{place.address('web')}:{WEB}/1k"])
    # Its own word for a failure; half-read answers are never fine. Neither are timeouts.
    wrong = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    if "Non-2xx" in text or (wrong and any(int(n) for n in wrong.groups())):
        raise LabError(f"wrk over {place.network}: "
                       f"{wrong[0] if wrong else 'answers that are no 200'}")
    return _number(text, r"Requests/sec:\s+([0-9.]+)", "wrk", place.network)


def web_keep_alive(place, seconds):
    return _wrk(place, seconds, [])


def web_close(place, seconds):
    return _wrk(place, seconds, ["-H", "Connection: close"])


def memcached(place, seconds):
    text = place.client(["memcslap", f"--servers={place.address('cache')}:{CACHE}",
                         "--concurrency=8", "--execute-number=10000", "--test=get", "--flush"])
    # 80,000 and no fewer: what was not found took no time to speak of.
    took = _number(text, r"Time to get\s+80000 keys by\s+8 threads:\s+([0-9.]+) seconds",
                   "memcslap", place.network)
    if took <= 0:
        raise LabError(f"memcslap over {place.network} printed no time")
    return 80000 / took


def _rtt(place, argv, one_core):
    return json.loads(place.client([place.rtt] + argv, one_core=one_core))["p50_us"]


def ping(place, seconds):
    return _rtt(place, ["ping", place.address("echo"), str(ECHO), "--count", "30000"], True)


def connect(place, seconds):
    return _rtt(place, ["connect", place.address("accept"), str(ACCEPT), "--count", "2000"], False)


# How often a round takes a workload. One stream of iperf3 wanders more than all else, with where
# the scheduler puts its interrupts, and five samples of it do not make a median that stays.
REPEATS = {"iperf3": 3}


# (key, what it is, unit, whether more is better, function, digits)
WORKLOADS = (
    ("iperf3", "iperf3, one stream", "Gbit/s", True, iperf, 1),
    ("nginx_keepalive", "nginx + wrk, keep-alive", "requests/s", True, web_keep_alive, 0),
    ("nginx_close", "nginx + wrk, connection per request", "requests/s", True, web_close, 0),
    ("memcached", "memcached + memcslap, 8 clients", "gets/s", True, memcached, 0),
    ("rtt", "request-response, one core: half of it", "µs, p50", False, ping, 2),
    ("connect", "socket + connect + close", "µs, p50", False, connect, 1),
)
