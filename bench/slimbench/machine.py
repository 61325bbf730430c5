# SPDX-License-Identifier: Apache-2.0
"""What a run was measured on."""

import os
import re
import subprocess

from slimlab.place import TOOLS

ROOT = os.path.dirname(TOOLS)


def _first(path, pattern, default):
    try:
        with open(path) as f:
            found = re.search(pattern, f.read(), re.MULTILINE)
    except OSError:
        return default
    return found[1].strip() if found else default


def _git(*words):
    try:
        done = subprocess.run(["git", "-C", ROOT, *words], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def describe():
    # Kernels say nothing of a hypervisor there but this flag.
    flags = _first("/proc/cpuinfo", r"^flags\s*:(.*)$", "")
    return {
        "cpu": _first("/proc/cpuinfo", r"^model name\s*:(.*)$", os.uname().machine),
        "cpus": len(os.sched_getaffinity(0)),
        "virtual": "hypervisor" in flags.split(),
        "memory_kib": int(_first("/proc/meminfo", r"^MemTotal:\s*(\d+)", "0")),
        "kernel": os.uname().release,
        "architecture": os.uname().machine,
        "load": os.getloadavg()[0],
    }


def commit():
    """{"commit", "changed"}: of the tree; None where it is no Git tree."""
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": _git("rev-parse", "HEAD"), "changed": None if changed is None else bool(changed)}
