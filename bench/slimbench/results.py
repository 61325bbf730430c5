# SPDX-License-Identifier: Apache-2.0
"""
A run as JSON, and what its samples come to.

    {"format": 1, "kind": "run", "commit", "changed", "machine": {…}, "when", "rounds", "seconds",
     "load", "within", "cpus": {"server", "client"},
     "networks": [{"key", "title", "ours"}…],
     "workloads": [{"key", "title", "group", "rate", "work",
                    "metrics": [{"key", "title", "unit", "better", "digits", "judged"}…],
                    "samples": {NETWORK: [{"round", "values": {METRIC: N}, "cpu": {…}}…]},
                    "summary": {NETWORK: {METRIC: {"median", "low", "high"}}},
                    "ratios": {NETWORK: {METRIC: {OTHER: N}}}}…]}

What `flood` writes is of the kind "flood" and has besides

     "flood_rate", "costs": [{"key", "title", "metrics", "samples", "summary", "ratios"}…],
     "memory": [{"key", "title", "values": {NAME: {"before", "highest", "after"}}}…]

What `scale` writes is of the kind "scale" and has, instead of workloads,

     "curves": [{"key", "title", "axis", "points": [{"x", "metrics", "samples", "summary", "ratios"}…]}…]

A median is over the rounds; low and high are the lowest and the highest round. A ratio is the median of
the rounds' own ratios: what a network measured, divided by what OTHER (host or baseline) measured in the same
round, a moment earlier or later.
"""

import json
import statistics

from slimlab.system import LabError

FORMAT = 1
YARDSTICKS = ("host", "baseline")

# What a flood is watched by: title, and unit.
MEMORY = {"slab": ("kernel slab, of the machine", "bytes"),
          "sockets": ("TCP's buffers, of the machine", "bytes"),
          "maps": ("BPF maps", "bytes"),
          "slimd": ("slimd", "bytes"),
          "brokers": ("brokers", "bytes"),
          "syns": ("half-open connections in `syns`", ""),
          "half_open": ("half-open sockets", ""),
          "flows": ("flows that conntrack knows", "")}


def summarise(workload):
    """Adds summary and ratios to a workload that has samples."""
    samples = workload["samples"]
    keys = [m["key"] for m in workload["metrics"]]
    workload["summary"] = {}
    workload["ratios"] = {}
    for network, rounds in samples.items():
        workload["summary"][network] = {}
        workload["ratios"][network] = {}
        for key in keys:
            some = [s["values"][key] for s in rounds if key in s["values"]]
            if not some:  # not every network has everything
                continue
            workload["summary"][network][key] = {"median": statistics.median(some),
                                                 "low": min(some), "high": max(some)}
            found = {other: statistics.median(ratios(workload, key, network, other))
                     for other in YARDSTICKS
                     if other != network and ratios(workload, key, network, other)}
            workload["ratios"][network][key] = found


def ratios(workload, metric, network, other):
    """Round by round; [] when the other was not measured, or measured nothing."""
    ours = workload["samples"].get(network, [])
    theirs = {s["round"]: s["values"].get(metric) for s in workload["samples"].get(other, [])}
    return [s["values"][metric] / theirs[s["round"]] for s in ours
            if metric in s["values"] and theirs.get(s["round"])]


def write(results, stream):
    json.dump(results, stream, indent=1, ensure_ascii=False)
    stream.write("\n")


def _look_at_scale(results):
    for key in ("commit", "machine", "when", "rounds", "seconds", "cpus"):
        results[key]
    if not results["networks"] or not results["curves"]:
        raise ValueError("nothing was measured")
    for curve in results["curves"]:
        curve["title"], curve["key"], curve["axis"]
        for point in curve["points"]:
            if not isinstance(point["x"], int):
                raise ValueError(f"{curve['key']}: {point['x']} is no number")
            summarise(point)


def _look_at_flood(results):
    results["flood_rate"]
    for one in results["costs"]:
        one["title"]
        summarise(one)
    for one in results["memory"]:
        one["title"]
        for key in MEMORY:
            for when in ("before", "highest", "after"):
                if not isinstance(one["values"][key][when], int):
                    raise ValueError(f"{key} is no number")


def _look(results):
    """KeyError, TypeError and their like where something is missing; what is more does not matter."""
    for key in ("commit", "machine", "when", "rounds", "seconds", "load", "within", "cpus"):
        results[key]
    if not results["networks"] or not results["workloads"]:
        raise ValueError("nothing was measured")
    if results["kind"] == "flood":
        _look_at_flood(results)
    networks = [n["key"] for n in results["networks"]]
    for workload in results["workloads"]:
        workload["title"], workload["group"], workload["rate"]
        keys = [m["key"] for m in workload["metrics"]]
        for m in workload["metrics"]:
            m["title"], m["unit"], m["digits"], m["judged"]
            if m["better"] not in ("higher", "lower"):
                raise ValueError(f"better: {m['better']}")
        for network in networks:
            if not workload["samples"][network]:
                raise ValueError(f"{workload['key']}: no samples")
            for sample in workload["samples"][network]:
                sample["round"]
                for key in keys:
                    if not isinstance(sample["values"][key], (int, float)):
                        raise ValueError(f"{workload['key']}: {key} is no number")


def read(path, kinds=("run",)):
    """A file of one of the kinds, with its summary as it follows from the samples. LabError: it is none."""
    try:
        with open(path, encoding="utf-8") as f:
            results = json.load(f)
        found = (results["format"], results["kind"])
    except OSError as e:
        raise LabError(f"{path}: {e.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise LabError(f"{path} holds no results of bench/bench") from None
    if found[0] != FORMAT or found[1] not in kinds:
        raise LabError(f'{path} holds a "{found[1]}" of format {found[0]}, not a '
                       f'"{kinds[0]}" of format {FORMAT}')
    try:
        if results["kind"] == "scale":
            _look_at_scale(results)
        else:
            _look(results)
            for workload in results["workloads"]:
                summarise(workload)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as e:
        raise LabError(f"{path}: something is missing or wrong in the results ({type(e).__name__}: {e})") \
            from None
    return results
