# SPDX-License-Identifier: Apache-2.0
"""
Where the server's processor is during a workload, function by function, on two networks: what one costs more
than the other. Samples of perf, as the machine need not have counters of instructions; a time is a share of
the samples, over what was done.
"""

import collections
import os
import signal
import subprocess
import tempfile
import time

from slimlab.program import progress
from slimlab.system import LabError

from . import order, runner

FREQUENCY = 4999
SHOWN = 25
PATIENCE_S = 10


class Sampler:
    """perf on one processor, while the block runs; the counts of the functions are in .seen."""

    def __init__(self, cpu, directory):
        self._path = f"{directory}/perf.data"
        self._command = ["perf", "record", "-q", "-C", str(cpu), "-e", "cpu-clock", "-F", str(FREQUENCY),
                         "-o", self._path]
        self.seen = collections.Counter()

    def __enter__(self):
        if os.path.exists(self._path):
            os.unlink(self._path)
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL,
                                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        # On a busy machine it may take its time; it has begun when it has written its header.
        end = time.monotonic() + PATIENCE_S
        while not self._begun() and self._process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        return self

    def _begun(self):
        return os.path.exists(self._path) and os.path.getsize(self._path) > 0

    def __exit__(self, kind, error, trace):
        self._process.send_signal(signal.SIGINT)
        said = self._process.communicate()[0]
        if kind:
            return
        done = subprocess.run(["perf", "script", "-i", self._path, "-F", "ip,sym"], text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
        for line in done.stdout.splitlines():
            self.seen[line.split(None, 1)[-1].strip()] += 1
        if done.returncode != 0 or not self.seen:
            raise LabError(f"perf took no samples: {(said + done.stderr).strip()[-200:]}")


def run(networks, workload, rounds, within, settings):
    """{network: {function: ns for each unit of work}}."""
    seen = {n: collections.Counter() for n in networks}
    work = collections.Counter()
    with runner.Bed(networks, settings.build, within) as bed, tempfile.TemporaryDirectory() as directory:
        for one in bed.places.values():
            one.serve(workload.server.name, workload.server.argv(one, settings.build),
                      workload.server.port)
        for r in range(rounds):
            for network in order.order_of(r, networks):
                progress(f"round {r + 1} of {rounds}: {workload.title}, {network}")
                with Sampler(bed.cpus[0], directory) as sampler:
                    values = workload.run(bed.places[network], settings,
                                          runner.rate_of(workload, settings))
                seen[network] += sampler.seen
                work[network] += values["work"]
    progress("")
    return {n: {f: count * 1e9 / FREQUENCY / work[n] for f, count in seen[n].items()}
            for n in networks}


def markdown(found, workload):
    """Of two networks: all, and the functions that differ most."""
    (base, before), (ours, after) = found.items()
    functions = sorted(set(before) | set(after),
                       key=lambda f: -abs(after.get(f, 0) - before.get(f, 0)))
    lines = [f"Processor time of the server's core, ns for each {workload.work}:", "",
             f"| function | {base} | {ours} | {ours} - {base} |", "|---|---:|---:|---:|"]
    for name, a, b in [("all", sum(before.values()), sum(after.values()))] + \
            [(f"`{f}`", before.get(f, 0), after.get(f, 0)) for f in functions[:SHOWN]]:
        lines.append(f"| {name} | {a:,.0f} | {b:,.0f} | {b - a:+,.0f} |")
    return "\n".join(lines) + "\n"
