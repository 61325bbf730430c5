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

A median is over the rounds; low and high are the lowest and the highest round. A ratio is the median of
the rounds' own ratios: what a network measured, divided by what OTHER (host or baseline) measured in the same
round, a moment earlier or later.
"""

import json
import statistics

from slimlab.system import LabError

FORMAT = 1
YARDSTICKS = ("host", "baseline")


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
            some = [s["values"][key] for s in rounds]
            workload["summary"][network][key] = {"median": statistics.median(some),
                                                 "low": min(some), "high": max(some)}
            found = {other: statistics.median(ratios(workload, key, network, other))
                     for other in YARDSTICKS
                     if other != network and ratios(workload, key, network, other)}
            workload["ratios"][network][key] = found


def ratios(workload, metric, network, other):
    """Round by round; [] when the other was not measured, or measured nothing."""
    ours = workload["samples"].get(network, [])
    theirs = {s["round"]: s["values"][metric] for s in workload["samples"].get(other, [])}
    return [s["values"][metric] / theirs[s["round"]] for s in ours if theirs.get(s["round"])]


def write(results, stream):
    json.dump(results, stream, indent=1, ensure_ascii=False)
    stream.write("\n")


def _look(results):
    """KeyError, TypeError and their like where something is missing; what is more does not matter."""
    for key in ("commit", "machine", "when", "rounds", "seconds", "load", "within", "cpus"):
        results[key]
    if not results["networks"] or not results["workloads"]:
        raise ValueError("nothing was measured")
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


def read(path, kind="run"):
    """A file of the given kind, with its summary as it follows from the samples. LabError: it is none."""
    try:
        with open(path, encoding="utf-8") as f:
            results = json.load(f)
        found = (results["format"], results["kind"])
    except OSError as e:
        raise LabError(f"{path}: {e.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise LabError(f"{path} holds no results of bench/bench") from None
    if found != (FORMAT, kind):
        raise LabError(f"{path} holds a {found[1]} of format {found[0]}, not a {kind} of format {FORMAT}")
    if kind != "run":
        return results
    try:
        _look(results)
        for workload in results["workloads"]:
            summarise(workload)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as e:
        raise LabError(f"{path}: results with something missing or wrong ({type(e).__name__}: {e})") \
            from None
    return results
