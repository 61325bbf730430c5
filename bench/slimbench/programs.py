# SPDX-License-Identifier: Apache-2.0
"""
Which of Slim's BPF programs run for a round trip on an open connection and for a new connection, how
often, and for how long: of Slim containers on two hosts, and of processes of the hosts themselves.
"""

import contextlib
import json
import pathlib
import subprocess

from slimlab import clients, servers
from slimlab.program import progress
from slimlab.system import LabError, bpffs_root

from . import runner

SWITCH = pathlib.Path("/proc/sys/kernel/bpf_stats_enabled")

ROUND_TRIPS = 20000
CONNECTIONS = 2000

# (what is done, how often, how). A tenth more are made than are asked for (bench/load/one.c).
ACTS = (
    ("a round trip on an open connection", ROUND_TRIPS + ROUND_TRIPS // 10,
     lambda place, build: clients.load(place, build, "ping", "echo", servers.ECHO,
                                       "--count", ROUND_TRIPS)),
    ("a connection, from socket() to close()", CONNECTIONS + CONNECTIONS // 10,
     lambda place, build: clients.load(place, build, "connect", "accept", servers.ACCEPT,
                                       "--count", CONNECTIONS)),
)


@contextlib.contextmanager
def counting():
    """The kernel counts runs and their time, which takes some time itself."""
    before = SWITCH.read_text()
    SWITCH.write_text("1")
    try:
        yield
    finally:
        SWITCH.write_text(before)


def bpftool(*words):
    done = subprocess.run(["bpftool", "-j", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise LabError(f"bpftool: {done.stderr.strip()}")
    return json.loads(done.stdout)


def maps_of(state):
    """The ids of the maps of a lab's hosts."""
    return {bpftool("map", "show", "pinned", str(path))["id"]
            for path in pathlib.Path(state.pins(bpffs_root())).glob("*/maps/*")}


def counts(maps):
    """{id: (name, runs, nanoseconds)} of the programs that use one of these maps; there may be other slimds."""
    return {p["id"]: (p["name"], p.get("run_cnt", 0), p.get("run_time_ns", 0))
            for p in bpftool("prog", "show") if maps & set(p.get("map_ids", []))}


def moved(before, after):
    """{name: (runs, nanoseconds)} of those that ran."""
    found = {}
    for number, (name, runs, time) in after.items():
        _, old_runs, old_time = before.get(number, (name, 0, 0))
        n, t = found.get(name, (0, 0))
        found[name] = n + runs - old_runs, t + time - old_time
    return {name: v for name, v in found.items() if v[0]}


def run(build):
    """[(network, what, {program: (runs, ns) for each})]."""
    rows = []
    with runner.Bed(["host", "slim"], build) as bed, counting():
        maps = maps_of(bed.state)
        for place in bed.places.values():
            place.serve("echo", servers.echo(place, build), servers.ECHO)
            place.serve("accept", servers.accept(place, build), servers.ACCEPT)
        for key in ("slim", "host"):
            for what, times, act in ACTS:
                progress(f"{what}, {key}")
                act(bed.places[key], build)  # all is as it stays: caches, queues
                before = counts(maps)
                act(bed.places[key], build)
                found = moved(before, counts(maps))
                # A program that ran for something else, now and then, is none of this.
                rows.append((key, what, {name: (runs / times, time / runs)
                                         for name, (runs, time) in sorted(found.items())
                                         if runs > times / 20}))
    progress("")
    return rows


def markdown(rows):
    lines = ["| | | program | runs | ns each |", "|---|---|---|---|---|"]
    for network, what, found in rows:
        for name, (runs, time) in found.items() or [("none", (0, 0))]:
            lines.append(f"| {network} | {what} | {name if name == 'none' else f'`{name}`'} | "
                         f"{runs:.2f} | {time:.0f} |")
    return "\n".join(lines) + "\n"
