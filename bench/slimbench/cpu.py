# SPDX-License-Identifier: Apache-2.0
"""
Who used the processors: each side by its cgroup, and each core by /proc/stat.

cgroup2 counts user and system time of every cgroup, whether its cpu controller is there or not. Soft
interrupts are counted by core alone, since they are nobody's: those that the kernel runs at the end of a
program's own call are in that program's system time as well, on kernels without
CONFIG_IRQ_TIME_ACCOUNTING.
"""

import os
import time

from slimlab.system import LabError

_TICK = os.sysconf("SC_CLK_TCK")


def _cgroup(path):
    """(all, user, system) seconds."""
    found = {}
    try:
        with open(f"{path}/cpu.stat") as f:
            for line in f:
                key, _, value = line.partition(" ")
                found[key] = int(value) / 1e6
        return found["usage_usec"], found["user_usec"], found["system_usec"]
    except (OSError, KeyError, ValueError) as e:
        raise LabError(f"{path}/cpu.stat has no processor time: {e}") from None


def _split(usage, user, system):
    """All is measured, but user and system are a guess by ticks: all, in their proportion."""
    usage, user, system = max(0, usage), max(0, user), max(0, system)
    share = user / (user + system) if user + system > 0 else 0
    return {"user": usage * share, "system": usage * (1 - share)}


def _cores():
    """{core: (user, system, soft interrupts, busy)} seconds. busy: all but idle and waiting."""
    found = {}
    with open("/proc/stat") as f:
        for line in f:
            fields = line.split()
            if fields[0].startswith("cpu") and fields[0] != "cpu":
                user, nice, system, _, _, irq, soft, stolen = [int(n) / _TICK for n in fields[1:9]]
                found[int(fields[0][3:])] = (user + nice, system, soft,
                                             user + nice + system + irq + soft + stolen)
    return found


class Meter:
    """
    Around one measurement: `with Meter(place, server) as m: …`, then m.used has seconds:

        {"wall", "server": {"user", "system", "broker"}, "client": {…},
         "cores": {CORE: {"user", "system", "softirq", "busy"}}, "others"}

    broker: of Slim's broker of that side, which is in neither of the other two. others: what kept the
    cores busy beside the two sides, or took them from this machine, where it is a virtual one.
    """

    def __init__(self, place, server):
        self._sides = {}
        for side, name in (("server", server), ("client", "client")):
            path = place.cgroup(name)
            broker = f"{path}/broker"
            self._sides[side] = (path, broker if os.path.isdir(broker) else None)
        self._before = None
        self.used = None

    def _read(self):
        sides = {side: (_cgroup(whole), _cgroup(broker) if broker else (0, 0, 0))
                 for side, (whole, broker) in self._sides.items()}
        return time.monotonic(), sides, _cores()

    def __enter__(self):
        self._before = self._read()
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None:
            return
        now, sides, cores = self._read()
        began, sides_before, cores_before = self._before
        self.used = {"wall": now - began}
        for side, (whole, broker) in sides.items():
            whole_before, broker_before = sides_before[side]
            of_all = [now - before for now, before in zip(whole, whole_before)]
            of_broker = [now - before for now, before in zip(broker, broker_before)]
            self.used[side] = {**_split(*(a - b for a, b in zip(of_all, of_broker))),
                               "broker": of_broker[0]}
        self.used["cores"] = {
            str(core): dict(zip(("user", "system", "softirq", "busy"),
                                (a - b for a, b in zip(now_of, cores_before[core]))))
            for core, now_of in cores.items() if core in cores_before}
        ours = sum(sum(self.used[side].values()) for side in sides)
        self.used["others"] = max(0, sum(c["busy"] for c in self.used["cores"].values()) - ours)
