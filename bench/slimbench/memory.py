# SPDX-License-Identifier: Apache-2.0
"""
How much memory something takes: of processes their proportional set size, of the kernel its slab, of BPF
maps what they say. Bytes. The slab is the whole machine's: what else happens there meanwhile is in it too.
"""

import contextlib
import json
import re
import subprocess
import threading

from slimlab.state import State
from slimlab.system import LabError, bpffs_root, cgroup2_root, cgroup_pids


def slab():
    with open("/proc/meminfo") as f:
        return int(re.search(r"^Slab:\s*(\d+)", f.read(), re.MULTILINE)[1]) * 1024


def pss(pid):
    """0 for a process that is gone."""
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/smaps_rollup") as f:
            found = re.search(r"^Pss:\s*(\d+)", f.read(), re.MULTILINE)
        return int(found[1]) * 1024 if found else 0
    return 0


def brokers(lab_id, host):
    """The processes of slim-broker on a host."""
    top = f"{State(lab_id).host_cgroup(cgroup2_root(), host)}/slim"
    found = []
    for pid in cgroup_pids(top):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/comm") as f:
                if f.read().strip() == "slim-broker":
                    found.append(pid)
    return found


def daemon(lab_id, host):
    """slimd's."""
    return sum(map(pss, cgroup_pids(f"{State(lab_id).host_cgroup(cgroup2_root(), host)}/daemon")))


def maps(lab_id, host, names):
    """Of BPF maps of a host."""
    total = 0
    for name in names:
        path = f"{State(lab_id).pins(bpffs_root())}/{host}/maps/{name}"
        done = subprocess.run(["bpftool", "-j", "map", "show", "pinned", path],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            total += json.loads(done.stdout)["bytes_memlock"]
        except (ValueError, KeyError, TypeError):
            raise LabError(f"bpftool does not say how much memory {path} takes") from None
    return total


class Peak:
    """The highest value of a function while the block runs, ten times a second; its first in .first."""

    def __init__(self, function):
        self._function = function
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.first = self.highest = None

    def _watch(self):
        while not self._end.wait(0.1):
            self.highest = max(self.highest, self._function())

    def __enter__(self):
        self.first = self.highest = self._function()
        self._thread.start()
        return self

    def __exit__(self, kind, error, trace):
        self._end.set()
        self._thread.join()
