# SPDX-License-Identifier: Apache-2.0
"""
The measurements of tools/demo: servers on h2, clients on h1, over three of place.py's networks.

Every server stays up for the whole demo.
"""

from . import clients, servers
from .clients import number
from .place import Place
from .system import LabError

NETWORKS = ("host", "baseline", "slim")

_SERVERS = (("iperf", servers.IPERF, servers.iperf), ("web", servers.WEB, servers.web),
            ("cache", servers.CACHE, servers.cache), ("echo", servers.ECHO, servers.echo),
            ("accept", servers.ACCEPT, servers.accept))


class DemoPlace(Place):
    """With all servers, and what nginx saw of a client."""

    def __init__(self, lab_id, network, directory, build, cpus):
        super().__init__(lab_id, network, directory, cpus)
        self.build = build
        self.web_seen = None

    def start(self):
        self.start_clients()
        for name, port, argv in _SERVERS:
            self.serve(name, argv(self, self.build), port)
        self.web_seen = self.get("web", servers.WEB, "/who").split()


# --- measurements ---------------------------------------------------------------------------------


def iperf(place, seconds):
    return clients.iperf(place, seconds)["gbits"]


def web_keep_alive(place, seconds):
    return clients.wrk(place, seconds)["rate"]


def web_close(place, seconds):
    return clients.wrk(place, seconds, close=True)["rate"]


def memcached(place, seconds):
    text = place.client(["memcslap", f"--servers={place.address('cache')}:{servers.CACHE}",
                         "--concurrency=8", "--execute-number=10000", "--test=get", "--flush"])
    # 80,000 and no fewer: what was not found took no time to speak of.
    took = number(text, r"Time to get\s+80000 keys by\s+8 threads:\s+([0-9.]+) seconds",
                  "memcslap", place)
    if took <= 0:
        raise LabError(f"memcslap over {place.network.key} printed no time")
    return 80000 / took


def ping(place, seconds):
    return clients.ping(place, place.build, "--count", 30000, one_core=True)["p50_us"] / 2


def connect(place, seconds):
    return clients.connect(place, place.build, "--count", 2000)["p50_us"]


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
