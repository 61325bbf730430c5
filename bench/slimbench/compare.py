# SPDX-License-Identifier: Apache-2.0
"""
Two runs: what became clearly worse, or better.

Absolute figures of two runs say little, since the machine was another or had other things to do. What
is compared is, round by round, the ratio to host networking in the same round (to the baseline in runs
without host; the figure itself in runs with neither). It is turned so that less is better.

Clearly worse: the new median exceeds the old one by more than 5 %, and by more than their noise. A run's
noise is its spread times 2/√rounds: as much as the spread with 4 rounds, and half of it with 16, since
the median of more rounds wanders less. The spread is what lies between the lowest and the highest round,
without the highest and the lowest eighth of them (with fewer than eight none is left out). The noise of
two runs is the sum of both. With no change at all, and normally distributed rounds, fewer than one
figure in a thousand becomes clearly worse.
"""

import dataclasses
import math
import statistics

from slimlab.system import LabError

from .results import YARDSTICKS, ratios

MARGIN = 1.05
MIN_ROUNDS = 4


@dataclasses.dataclass(frozen=True)
class Change:
    workload: str
    metric: str
    network: str
    yardstick: str  # or None
    old: float      # medians, as they are measured or as ratios
    new: float
    factor: float   # by which it became worse; below 1: better
    verdict: str    # "worse", "better", "same"


def noise(values):
    left_out = len(values) // 8
    kept = sorted(values)[left_out:len(values) - left_out]
    return (kept[-1] - kept[0]) * 2 / math.sqrt(len(values))


def judge(old, new, better):
    """(factor, verdict) of two lists of positive numbers."""
    if better == "higher":
        old, new = [1 / v for v in old], [1 / v for v in new]
    before, after = statistics.median(old), statistics.median(new)
    wander = noise(old) + noise(new)
    verdict = "same"
    if after > MARGIN * before and after - before > wander:
        verdict = "worse"
    elif before > MARGIN * after and before - after > wander:
        verdict = "better"
    return after / before, verdict


def _series(workload, metric, network, yardstick):
    if yardstick:
        return ratios(workload, metric, network, yardstick)
    return [s["values"][metric] for s in workload["samples"][network]]


def _comparable(old, new):
    for what in ("within", "seconds", "load"):
        if old[what] != new[what]:
            raise LabError(f"the runs differ in --{what}: {old[what]} and {new[what]}")
    for results in (old, new):
        if results["rounds"] < MIN_ROUNDS:
            raise LabError(f"a run of {results['rounds']} rounds says nothing clearly: "
                           f"--rounds {MIN_ROUNDS} or more")


def changes(old, new):
    """Of every figure that both runs have of Slim's own networks."""
    _comparable(old, new)
    networks = [n["key"] for n in new["networks"] if n["ours"]
                and n["key"] in [o["key"] for o in old["networks"]]]
    both = [{n["key"] for n in results["networks"]} for results in (old, new)]
    yardstick = next((y for y in YARDSTICKS if all(y in keys for keys in both)), None)
    before = {w["key"]: w for w in old["workloads"]}
    found = []
    for workload in new["workloads"]:
        earlier = before.get(workload["key"])
        for metric in workload["metrics"]:
            key = metric["key"]
            if not metric["judged"] or earlier is None \
                    or key not in [m["key"] for m in earlier["metrics"]]:
                continue
            for network in networks:
                a = _series(earlier, key, network, yardstick)
                b = _series(workload, key, network, yardstick)
                # Nothing was measured where the yardstick, or this, is nothing.
                if len(a) < MIN_ROUNDS or len(b) < MIN_ROUNDS or min(a + b) <= 0:
                    continue
                factor, verdict = judge(a, b, metric["better"])
                found.append(Change(workload["title"], metric["title"], network, yardstick,
                                    statistics.median(a), statistics.median(b), factor, verdict))
    if not found:
        raise LabError("the runs have no figure of Slim in common")
    return found


def text(found, everything):
    """Lines for a person: what changed, or all."""
    lines = []
    for verdict in ("worse", "better", "same"):
        for c in found:
            if c.verdict == verdict and (everything or verdict != "same"):
                to = f" / {c.yardstick}" if c.yardstick else ""
                digits = 3 if c.yardstick else 1
                lines.append(f"{verdict:7} {c.workload}: {c.metric}, {c.network}{to}: "
                             f"{c.old:.{digits}f} → {c.new:.{digits}f} "
                             f"({abs(c.factor - 1) * 100:.1f} % {'worse' if c.factor > 1 else 'better'})")
    counts = {v: sum(c.verdict == v for c in found) for v in ("worse", "better", "same")}
    lines.append(f"{counts['worse']} clearly worse, {counts['better']} clearly better, "
                 f"{counts['same']} as before or not clear")
    return "\n".join(lines)
