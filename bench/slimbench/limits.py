# SPDX-License-Identifier: Apache-2.0
"""
Limits of bandwidth: how well they are held, two flows at a time, with limits of 15, 10 and 5 parts as in the
paper's experiment; and what they cost a container that has none, while another of its host has one.

The two flows are of two Slim containers of one host to two of another. (One of each pair does without the
accelerator, which is nothing to a connection that is open.)
"""

import statistics
import threading

from slimlab import clients, servers
from slimlab.program import progress

from . import runner

FLOWS = ("slim", "slim-slow")
PARTS = ((15, 10), (10, 5), (5, 15), (10, 10))
ALL_PARTS = 40  # what both get together without limits

# A limit counts frames: of each segment of 1448 bytes there are 66 more of Ethernet, IP and TCP.
FRAME = (1448 + 66) / 1448

ROUND_TRIPS = 20000


def _limit(bed, key, bits):
    bed.ctl("h1", "endpoint", "limit", bed.places[key].full_name("client"), "--egress",
            str(int(bits)) if bits else "none")


def _together(bed, seconds):
    """{flow: bits of frames a second} of both at the same time."""
    found, wrong = {}, []

    def one(key):
        try:
            found[key] = clients.iperf(bed.places[key], seconds)["gbits"] * 1e9 * FRAME
        except Exception as e:  # of the thread: the caller's business
            wrong.append(e)

    threads = [threading.Thread(target=one, args=(key,)) for key in FLOWS]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if wrong:
        raise wrong[0]
    return found


def _held(bed, rounds, seconds):
    """(both together without limits, {(parts, parts): {flow: [share of its limit]}})."""
    progress("two flows without limits")
    free = statistics.median(sum(_together(bed, seconds).values()) for _ in range(3))
    shares = {parts: {key: [] for key in FLOWS} for parts in PARTS}
    for r in range(rounds):
        for parts in PARTS:
            progress(f"limits of {parts[0]} and {parts[1]} parts, round {r + 1} of {rounds}")
            limits = {key: free * n / ALL_PARTS for key, n in zip(FLOWS, parts)}
            for key, bits in limits.items():
                _limit(bed, key, bits)
            for key, bits in _together(bed, seconds).items():
                shares[parts][key].append(bits / limits[key])
    for key in FLOWS:
        _limit(bed, key, None)
    return free, shares


def _others(bed, rounds, seconds, build):
    """{what: [with a limit on another container, as a share of without]} of one that has none."""
    place = bed.places["slim"]
    acts = {
        "iperf3, one stream": lambda: clients.iperf(place, seconds)["gbits"],
        "round trip, mean": lambda: clients.load(place, build, "ping", "echo", servers.ECHO,
                                                 "--count", ROUND_TRIPS)["mean_us"],
    }
    found = {what: [] for what in acts}
    for r in range(rounds):
        progress(f"what limits cost others, round {r + 1} of {rounds}")
        for what, act in acts.items():
            values = {}
            for on in (False, True) if r % 2 else (True, False):
                _limit(bed, "slim-slow", 1e9 if on else None)
                values[on] = act()
            found[what].append(values[True] / values[False])
    _limit(bed, "slim-slow", None)
    return found


def run(rounds, seconds, build):
    with runner.Bed(FLOWS, build) as bed:
        for place in bed.places.values():
            place.serve("iperf", servers.iperf(place, build), servers.IPERF)
            place.serve("echo", servers.echo(place, build), servers.ECHO)
        found = (*_held(bed, rounds, seconds), _others(bed, rounds, seconds, build))
    progress("")
    return found


def _spread(values):
    return f"{statistics.median(values):.3f} | {min(values):.3f} to {max(values):.3f}"


def markdown(found):
    free, shares, others = found
    lines = [f"Two flows without limits: {free / 1e9:.1f} Gbit/s together, which is {ALL_PARTS} parts.", "",
             "| limits of the two, in parts | flow | of its limit, median | spread |", "|---|---|---|---|"]
    for parts, flows in shares.items():
        lines += [f"| {parts[0]}, {parts[1]} | {n} | {_spread(values)} |"
                  for n, values in zip(("first", "second"), flows.values())]
    lines += ["", "| a container without limits | while another has one, of without, median | spread |",
              "|---|---|---|"]
    lines += [f"| {what} | {_spread(values)} |" for what, values in others.items()]
    return "\n".join(lines) + "\n"
