# SPDX-License-Identifier: Apache-2.0
"""
Runs workloads, one after another. A workload's servers are there on all networks while its rounds last;
a round takes each network once, in an order that changes.
"""

import datetime
import json
import os

from slimlab import lab, place, program
from slimlab.place import NETWORKS, Place, run_lab
from slimlab.program import progress
from slimlab.state import State

from . import cpu, machine, order, results
from .workloads import NoRoom, all_metrics

PREFIX = "bench"
BARE_PREFIX = "bench-bare"  # of a second lab, without Slim
PREFIXES = (PREFIX, BARE_PREFIX)

# Clients that close first leave their ports in TIME_WAIT for a minute. When one half of them is there,
# connect() looks through 14,000 ports for each connection, which takes some ms on any network.
REUSE = ["sysctl", "-qw", "net.ipv4.tcp_tw_reuse=1"]

# A connection that has ended is tracked for two more minutes, and when there are 262,144 of them (the
# usual limit), SYNs are dropped on any network of the hosts.
TRACKING = ["sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_timeout_time_wait=1"]

# How often a fixed load is tried that could not be made because the machine was busy with something else.
ATTEMPTS = 3


class Bed:
    """A lab of our own, with a place for each network, while the block runs."""

    def __init__(self, networks, build, within=False, hosts=2, prefix=PREFIX):
        self.networks = networks
        self.build = build
        self.within = within
        self.hosts = max(hosts, *(int(h[1:]) for n in networks for h in NETWORKS[n].hosts))
        self.state = State(program.lab_id(prefix))
        self.cpus = place.pick_cpus()
        self.places = {}

    def __enter__(self):
        try:
            progress("bringing the lab up")
            lab.up(self.state, self.hosts, any(NETWORKS[n].slim for n in self.networks), self.build)
            directory = f"{self.state.dir}/bench"  # goes with the lab; nginx's worker, nobody, reads there
            os.mkdir(directory, 0o755)
            for network in self.networks:
                progress(f"starting clients: {network}")
                one = self.places[network] = Place(self.state.id, network, directory, self.cpus,
                                                   self.within)
                one.start_clients()
                one.client(REUSE)
            for k in range(self.hosts):
                for settings in (REUSE, TRACKING):
                    run_lab(self.state.id, "host", f"h{k + 1}", "--", *settings)
            return self
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def ctl(self, host, *words):
        """slimctl --json of a host; its answer."""
        return json.loads(run_lab(self.state.id, "ctl", host, "--", "--json", *words))

    def __exit__(self, kind, error, trace):
        for one in self.places.values():
            one.stop()
        lab.down(self.state)


def rate_of(workload, settings):
    return workload.rate * settings.load // 100


def _run(workload, one, settings):
    """The workload's numbers, and who used the processors."""
    for attempts_left in range(ATTEMPTS - 1, -1, -1):
        try:
            with cpu.Meter(one, workload.server.name) as meter:
                return workload.run(one, settings, rate_of(workload, settings)), meter
        except NoRoom:
            if not attempts_left:
                raise


def measure_once(workload, one, settings):
    """One sample: the workload's own numbers, and processor time by its work."""
    values, meter = _run(workload, one, settings)
    work = values.pop("work")
    for side in ("server", "client"):
        values[f"{side}_cpu"] = sum(meter.used[side].values()) * workload.per / work
    soft = sum(core["softirq"] for core in meter.used["cores"].values())
    values["softirq"] = soft * workload.per / work
    return {"values": values, "cpu": {**meter.used, "work": work}}


def _measure(workload, bed, settings, rounds, where):
    samples = {n: [] for n in bed.networks}
    for network in bed.networks:
        progress(f"{where}: starting servers, {network}")
        one = bed.places[network]
        one.serve(workload.server.name, workload.server.argv(one, settings.build),
                  workload.server.port)
    for r in range(rounds):
        for network in order.order_of(r, bed.networks):
            progress(f"{where}, round {r + 1} of {rounds}: {workload.title}, {network}")
            sample = measure_once(workload, bed.places[network], settings)
            samples[network].append({"round": r, **sample})
    for one in bed.places.values():
        one.end(workload.server.name)
    return samples


def _describe(workload, samples, settings):
    rate = rate_of(workload, settings)
    title = f"{workload.title}, {rate:,}/s" if rate else workload.title
    described = {"key": workload.key, "title": title, "group": workload.group, "rate": rate,
                 "work": workload.work,
                 "metrics": [vars(m) for m in all_metrics(workload)], "samples": samples}
    results.summarise(described)
    return described


def header(kind, networks, cpus, seconds, within):
    return {"format": results.FORMAT, "kind": kind, **machine.commit(),
            "machine": machine.describe(),
            "when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "seconds": seconds, "within": within,
            "cpus": {"server": cpus[0], "client": cpus[1]},
            "networks": [{"key": n, "title": NETWORKS[n].title, "ours": NETWORKS[n].ours}
                         for n in networks]}


def run(networks, workloads, rounds, within, settings):
    """All of it; the results."""
    measured = []
    missing = []
    with Bed(networks, settings.build, within) as bed:
        found = {**header("run", networks, bed.cpus, settings.seconds, within), "rounds": rounds,
                 "load": settings.load}
        for k, workload in enumerate(workloads, 1):
            try:
                samples = _measure(workload, bed, settings, rounds, f"{k} of {len(workloads)}")
            except NoRoom as e:
                # The others are not lost by it.
                missing.append({"key": workload.key, "why": str(e)})
                for one in bed.places.values():
                    one.end(workload.server.name)
                continue
            measured.append(_describe(workload, samples, settings))
    progress("")
    return {**found, "workloads": measured, "missing": missing}
