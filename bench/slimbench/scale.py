# SPDX-License-Identifier: Apache-2.0
"""
How it goes on as there is more of something: curves of connection set-up, requests and memory over the number
of endpoints in the maps, of listeners, of connections and of containers.

A curve is a row of points. At each, there is first as much of the thing as the point says; then the networks
are measured in turn, as in runner.py. What there is more of is never taken away before the curve's end, and
each curve has a lab of its own.
"""

import contextlib
import dataclasses
import ipaddress
import json
import os
import re
import sqlite3
import time
import typing

from slimlab import clients, servers
from slimlab.program import progress
from slimlab.system import LabError

from . import memory, order, results
from .runner import Bed, header
from .workloads import Metric

NETWORKS = ("host", "baseline", "slim")

FIRST_BYTE = Metric("first_byte_us", "socket() to first byte, p50", "µs", "lower", 1)
CONNECTIONS = Metric("connections", "connections, 8 at once", "connections/s", "higher")
REQUESTS = Metric("requests", "requests, 32 connections", "requests/s", "higher")
PROBE = (FIRST_BYTE, CONNECTIONS, REQUESTS)

# From how many on memory is divided by them: what else the machine does with its memory is more than a
# few of anything.
ENOUGH = 1000

# Of the server whose listeners are counted: below the ports that kernels choose themselves.
LISTENERS = 20000


@dataclasses.dataclass(frozen=True)
class Curve:
    key: str
    title: str
    axis: str
    points: tuple
    metrics: tuple
    fill: typing.Callable     # (bed, network, n, state): so much of it; state: a dict of the curve's
    measure: typing.Callable  # (bed, place, n, settings, state) → {metric: number}


def _serve(place, build, ports=1):
    """The two servers of a probe; which of them has many ports is the curve's business."""
    load = servers.load_program(build)
    place.serve("many", [load, "greet-many", str(LISTENERS), "--ports", str(ports)],
                LISTENERS + ports - 1)
    if "echo" not in place.processes:
        place.serve("echo", [load, "echo-many", str(servers.ECHO)], servers.ECHO)


def _probe(place, settings, ports=1):
    def load(verb, server, port, *options):
        return clients.load(place, settings.build, verb, server, port, *options)

    seconds = ("--seconds", settings.seconds)
    # The last of the ports, and all of them in turn.
    first = load("first-byte", "many", LISTENERS + ports - 1, "--count", 1000)
    storm = load("storm", "many", LISTENERS, *seconds, "--connections", 8, "--ports", ports)
    crowd = load("crowd", "echo", servers.ECHO, *seconds, "--connections", 32)
    return {"first_byte_us": first["p50_us"], "connections": storm["rate"],
            "requests": crowd["rate"]}


# --- endpoints ------------------------------------------------------------------------------------

_FAR = "far"  # a host that is in the store alone
_WIDE = ipaddress.IPv4Network("10.128.0.0/12")
_ENDPOINT_MAPS = ("endpoints", "identities")


def _publish(bed, first, last, network_id):
    """Endpoints of another host, as its slimd would publish them, in one transaction."""
    path = bed.state.store_path()
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        revision = db.execute("SELECT revision FROM state").fetchone()[0] + 1

        def put(key, value):
            db.execute("INSERT OR REPLACE INTO entry VALUES (?, ?, ?, 0)",
                       (key, value, revision))

        put(f"slim/hosts/{_FAR}", '{"address":"192.0.2.253"}')
        for k in range(first, last):
            address = str(_WIDE[(1 << 16) + k])
            put(f"slim/endpoints/{k + 1}", json.dumps({
                "name": f"far-{k}", "network": "wide", "network_id": network_id,
                "address": address, "host": _FAR, "host_address": "192.0.2.253", "kind": "slim"}))
            put(f"slim/names/wide/far-{k}", str(k + 1))
            put(f"slim/addresses/wide/{address}", str(k + 1))
        db.execute("UPDATE state SET revision = ?", (revision,))
        db.execute("COMMIT")
    os.utime(path)  # what wakes those who watch it


def _status(bed, host):
    return bed.ctl(host, "status")["maps"]["endpoints"]


def _fill_endpoints(bed, network, n, state):
    hosts = ("h1", "h2")
    if "network" not in state:
        made = bed.ctl("h1", "network", "create", "wide", "--prefix", str(_WIDE))
        state["network"] = made["network"]["id"]
        state["have"] = 0
        for one in bed.places.values():
            _serve(one, bed.build)
        state["base"] = {h: _status(bed, h) for h in hosts}
        state["memory"] = {h: (memory.daemon(bed.state.id, h),
                               memory.maps(bed.state.id, h, _ENDPOINT_MAPS)) for h in hosts}
    if state["have"] >= n:
        return
    began = time.monotonic()
    _publish(bed, state["have"], n, state["network"])
    while any(_status(bed, h) - state["base"][h] < n for h in hosts):
        if time.monotonic() - began > 300:
            raise LabError(f"slimd does not have all of {n} endpoints after 300 s")
        time.sleep(0.1)
    state["took"] = time.monotonic() - began
    state["have"] = n
    if n < ENOUGH:
        return
    state["daemon_bytes"] = (memory.daemon(bed.state.id, "h1") - state["memory"]["h1"][0]) / n
    state["map_bytes"] = (memory.maps(bed.state.id, "h1", _ENDPOINT_MAPS)
                          - state["memory"]["h1"][1]) / n


def _measure_endpoints(bed, place, n, settings, state):
    values = _probe(place, settings)
    if place.network.slim:
        values.update({key: state[key] for key in ("took", "daemon_bytes", "map_bytes")
                       if key in state})
    return values


# --- listeners ------------------------------------------------------------------------------------


def _fill_listeners(bed, network, n, state):
    place = bed.places[network]
    place.end("many")
    before = memory.slab()
    _serve(place, bed.build, n)
    with open(f"{place.dir}/many.log") as f:
        said = re.search(r"ready \d+ ports, ([0-9.]+) us", f.read())
    state[network] = {"listen_us": float(said[1]) / n}
    if n >= ENOUGH:
        state[network]["slab_bytes"] = max(0, memory.slab() - before) / n


def _measure_listeners(bed, place, n, settings, state):
    return {**_probe(place, settings, n), **state[place.network.key]}


# --- connections ----------------------------------------------------------------------------------


def _fill_connections(bed, network, n, state):
    if "echo" not in bed.places[network].processes:
        _serve(bed.places[network], bed.build)


def _measure_connections(bed, place, n, settings, state):
    def crowd():
        return clients.load(place, settings.build, "crowd", "echo", servers.ECHO, "--connections",
                            n, "--seconds", settings.seconds)

    def of_brokers():
        return sum(memory.pss(pid) for h in ("h1", "h2") for pid in memory.brokers(bed.state.id, h))

    with memory.Peak(memory.slab) as slab, \
            memory.Peak(of_brokers if place.network.verb == "run" else lambda: 0) as broker:
        found = crowd()
    values = {"connections": found["connect_rate"], "requests": found["rate"],
              "p50_us": found["p50_us"]}
    if n >= ENOUGH:
        values["slab_bytes"] = (slab.highest - slab.first) / n
    if n >= ENOUGH and place.network.verb == "run":
        values["broker_bytes"] = (broker.highest - broker.first) / n
    return values


# --- containers -----------------------------------------------------------------------------------


def _fill_containers(bed, network, n, state):
    """Idle ones, on the clients' host; on the host itself they are processes."""
    place = bed.places[network]
    if "many" not in place.processes:
        _serve(place, bed.build)
    have = state.setdefault(network, [])
    began, first = time.monotonic(), len(have)
    while len(have) < n:
        have.append(place.idle(f"idle-{len(have)}"))
        progress(f"containers: {len(have)} of {n}, {network}")
    if len(have) > first:
        state[network, "start_ms"] = (time.monotonic() - began) * 1e3 / (len(have) - first)


def _measure_containers(bed, place, n, settings, state):
    values = {**_probe(place, settings), "start_ms": state[place.network.key, "start_ms"]}
    if place.network.verb == "run":
        pids = memory.brokers(bed.state.id, "h1")
        values["broker_bytes"] = sum(map(memory.pss, pids)) / len(pids)
        values["daemon_bytes"] = memory.daemon(bed.state.id, "h1")
    return values


# --- the table ------------------------------------------------------------------------------------


def _bytes(key, title):
    return Metric(key, title, "bytes", "lower")


CURVES = {c.key: c for c in (
    Curve("endpoints", "Endpoints in the maps", "endpoints", (10, 1000, 10000, 100000),
          PROBE + (Metric("took", "published until all hosts have them", "s", "lower", 2),
                   _bytes("map_bytes", "BPF maps of a host, for each"),
                   _bytes("daemon_bytes", "slimd, for each")),
          _fill_endpoints, _measure_endpoints),
    Curve("listeners", "Listeners of a container", "listeners", (1, 10, 100, 1000, 5000),
          PROBE + (Metric("listen_us", "socket + bind + listen", "µs", "lower", 1),
                   _bytes("slab_bytes", "kernel slab, for each")),
          _fill_listeners, _measure_listeners),
    Curve("connections", "Connections at once", "connections", (1, 10, 100, 1000, 10000),
          (Metric("connections", "set up, one after another", "connections/s", "higher"),
           Metric("requests", "requests, on all of them", "requests/s", "higher"),
           Metric("p50_us", "round trip, p50", "µs", "lower", 1),
           _bytes("slab_bytes", "kernel slab, for both ends of each"),
           _bytes("broker_bytes", "brokers, for each")),
          _fill_connections, _measure_connections),
    Curve("containers", "Containers of a host", "containers", (1, 10, 50, 100, 200),
          PROBE + (Metric("start_ms", "start of a container", "ms", "lower", 0),
                   _bytes("broker_bytes", "a broker"), _bytes("daemon_bytes", "slimd")),
          _fill_containers, _measure_containers),
)}


def parse(text):
    """Curves by their keys, in the table's order; ValueError for another word."""
    wanted = text.split(",")
    for word in wanted:
        if word not in CURVES:
            raise ValueError(f'"{word}" is none of {", ".join(CURVES)}')
    return [c for c in CURVES.values() if c.key in wanted]


def _measure_point(curve, bed, n, rounds, settings, state):
    samples = {network: [] for network in bed.networks}
    for network in bed.networks:
        progress(f"{curve.key}: {n}, {network}")
        curve.fill(bed, network, n, state)
    for r in range(rounds):
        for network in order.order_of(r, bed.networks):
            progress(f"{curve.key}: {n}, round {r + 1} of {rounds}, {network}")
            values = curve.measure(bed, bed.places[network], n, settings, state)
            samples[network].append({"round": r, "values": values})
    point = {"x": n, "metrics": [vars(m) for m in curve.metrics], "samples": samples}
    results.summarise(point)
    return point


def run(networks, curves, rounds, highest, settings):
    """All of it; the results. highest: points above are left out."""
    found = None
    measured = []
    for curve in curves:
        with Bed(networks, settings.build) as bed:
            found = found or header("scale", networks, bed.cpus, settings.seconds, False)
            state = {}
            points = [_measure_point(curve, bed, n, rounds, settings, state)
                      for n in curve.points if n <= highest or n == curve.points[0]]
        measured.append({"key": curve.key, "title": curve.title, "axis": curve.axis,
                         "points": points})
    progress("")
    return {**found, "rounds": rounds, "curves": measured}
