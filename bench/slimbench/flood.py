# SPDX-License-Identifier: Apache-2.0
"""
How a server fares while a machine of the underlay floods its host: nginx in a Slim container, and nginx on a
host that has no Slim, each in a lab of its own. And whether anything of Slim grows meanwhile.

What arrives at a host's device is worked on by that host's processor, by RPS: on a veth it would be the
sender's. So the server's CPU has its host's part of the flood to carry, as behind a network card, and that of
the clients has all else: the other host, the bridge, and the flooder.
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import subprocess
import time

from slimlab import place as places
from slimlab import servers
from slimlab.program import progress
from slimlab.state import State, host_address
from slimlab.system import LabError, bpffs_root
from slimlab.underlay import MIDDLE, MIDDLE_ADDRESS

from . import memory, order, results
from .runner import BARE_PREFIX, PREFIX, Bed, header, measure_once
from .workloads import WORKLOADS, Metric, all_metrics

NETWORKS = ("host", "slim")
SLIM_PORTS = (61440, 256)  # slimd's default
VXLAN = (4789, 1)
WEB = (servers.WEB, 1)

# Where the flood says that it comes from: addresses behind the host's gateway, which answer nothing.
SOURCES = "198.18.0.0/15"

WORKLOAD_KEYS = ("nginx_1k", "nginx_1k_close")

SLIMD_OPTIONS = ("--notrack", "--no-masquerade")

KEPT = Metric("kept", "kept of its rate without a flood", "", "higher", 2)
FLOOD = Metric("flood", "flood, as it was sent", "packets/s", "higher", judged=False)
CORE = Metric("core", "server's CPU", "busy cores", "lower", 2, judged=False)

# Sent and dealt with on one processor, which a veth without RPS does: processor time of both.
PACKET = Metric("packet_us", "a packet", "µs", "lower", 2)
PACKETS = 50000

SAMPLE_S = 0.2


@dataclasses.dataclass(frozen=True)
class Kind:
    key: str
    title: str
    host: tuple  # (first port, number) that is flooded, of the host without Slim
    slim: tuple  # and of the one with it


KINDS = {k.key: k for k in (
    Kind("quiet", "no flood", None, None),
    Kind("none", "SYNs without an option, to the Slim ports", SLIM_PORTS, SLIM_PORTS),
    Kind("random", "SYNs with random options, to the Slim ports", SLIM_PORTS, SLIM_PORTS),
    Kind("truncated", "SYNs with broken Slim options, to the Slim ports", SLIM_PORTS, SLIM_PORTS),
    Kind("valid", "SYNs of real endpoints with a wrong MAC, to the Slim ports", SLIM_PORTS, SLIM_PORTS),
    Kind("plain", "ordinary SYNs, to nginx's own port and to the Slim ports", WEB, SLIM_PORTS),
    Kind("vxlan", "VXLAN of unknown hosts", VXLAN, VXLAN),
    Kind("garbage", "random bytes, to VXLAN's port", VXLAN, VXLAN),
    Kind("icmp", "ICMP errors about made-up Slim connections", SLIM_PORTS, SLIM_PORTS),
)}


def parse(text):
    """Kinds by their keys, in the table's order; ValueError for another word."""
    wanted = text.split(",")
    for word in wanted:
        if word not in KINDS:
            raise ValueError(f'"{word}" is none of {", ".join(KINDS)}')
    return [k for k in KINDS.values() if k.key in wanted]


# --- the two labs ---------------------------------------------------------------------------------


def _mask(cpu):
    """As a file of CPUs has it: 32 to a word, the highest word first."""
    return f"{1 << cpu % 32:x}" + ",00000000" * (cpu // 32)


def _host(bed, name, *words):
    places.run_lab(bed.state.id, "host", name, "--", *words)


def _work_on(bed, namespace, devices, cpu):
    """What arrives at these devices is worked on by this processor."""
    lines = [f"echo {_mask(cpu)} >/sys/class/net/{d}/queues/rx-0/rps_cpus" for d in devices]
    # A namespace's devices are in a sysfs that was mounted there.
    _host(bed, namespace, "unshare", "--mount", "sh", "-c",
          " && ".join(["mount -t sysfs none /sys", *lines]))


def _route(bed):
    """What the flood's sources are answered goes to a gateway, and ends there."""
    _host(bed, "h2", "ip", "route", "add", SOURCES, "via", MIDDLE_ADDRESS)
    _host(bed, MIDDLE, "ip", "route", "add", "blackhole", SOURCES)


def _spread(bed):
    server_cpu, client_cpu = bed.cpus
    _work_on(bed, "h2", ["uplink"], server_cpu)
    _work_on(bed, "h1", ["uplink"], client_cpu)
    _work_on(bed, MIDDLE, ["h1", "h2"], client_cpu)


def _words(bed, kind, ports, build, endpoints, *options):
    """Of tools/lab: the flooder."""
    client, server = endpoints
    return ["host", "--cpus", str(bed.cpus[1]), MIDDLE, "--", servers.load_program(build), "flood",
            host_address(2), str(ports[0]), "--ports", str(ports[1]), "--kind", kind.key, "--from", SOURCES,
            "--client", str(client), "--server", str(server), *map(str, options)]


class Flood:
    """A flood while the block runs; .rate afterwards, of what was sent. None for ports: nothing is."""

    def __init__(self, bed, kind, ports, build, rate, endpoints):
        self._nothing = ports is None
        self.rate = 0
        if self._nothing:
            return
        self._words = [places.LAB, "--lab", bed.state.id,
                       *_words(bed, kind, ports, build, endpoints, "--rate", rate)]

    def __enter__(self):
        if self._nothing:
            return self
        self._process = subprocess.Popen(self._words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                         stderr=subprocess.PIPE, text=True, start_new_session=True,
                                         preexec_fn=places.end_with_us)
        if self._process.stdout.readline() != "ready\n":
            raise LabError(f"the flood does not start: {self._process.communicate()[1].strip()}")
        return self

    def __exit__(self, kind, error, trace):
        if self._nothing:
            return
        self._process.terminate()
        said, wrong = self._process.communicate()
        if kind:
            return
        try:
            self.rate = json.loads(said)["rate"]
        except (ValueError, KeyError):
            raise LabError(f"the flood ended: {wrong.strip()[-200:]}") from None


def _endpoints(bed):
    """Ids of a client and a server: what who listens to the wire knows."""
    found = {e["name"]: e["id"] for e in bed.ctl("h2", "endpoint", "ls")["endpoints"]}
    one = bed.places["slim"]
    return found[one.full_name("client")], found[one.full_name("web")]


# --- memory ---------------------------------------------------------------------------------------

def _in_netns(bed, host, *words):
    return places.run_lab(bed.state.id, "host", host, "--", *words)


def _tcp_pages(text):
    fields = next(line for line in text.splitlines() if line.startswith("TCP:")).split()
    return int(fields[fields.index("mem") + 1])


def _read_memory(bed):
    """Of the server's host, as far as it is not the machine's."""
    lab_id = bed.state.id
    with open("/proc/net/sockstat") as f:
        pages = _tcp_pages(f.read())
    names = os.listdir(f"{State(lab_id).pins(bpffs_root())}/h2/maps")
    half_open = _in_netns(bed, "h2", "ss", "-Htn", "state", "syn-recv")
    return {"slab": memory.slab(),
            "sockets": pages * os.sysconf("SC_PAGE_SIZE"),
            "maps": memory.maps(lab_id, "h2", names),
            "slimd": memory.daemon(lab_id, "h2"),
            "brokers": sum(map(memory.pss, memory.brokers(lab_id, "h2"))),
            "syns": bed.ctl("h2", "status")["maps"]["syns"],
            "half_open": len(half_open.splitlines()),
            "flows": int(_in_netns(bed, "h2", "cat", "/proc/sys/net/netfilter/nf_conntrack_count"))}


def _watch(bed, flood, workload, settings):
    """Before, at most, and after; the workload runs in the middle, with the flood."""
    before = _read_memory(bed)
    highest = dict(before)
    with concurrent.futures.ThreadPoolExecutor(1) as pool, flood:
        work = pool.submit(workload.run, bed.places["slim"], settings, 0)
        while not work.done():
            highest = {k: max(v, highest[k]) for k, v in _read_memory(bed).items()}
            time.sleep(SAMPLE_S)
        work.result()
    after = _read_memory(bed)
    return {k: {"before": before[k], "highest": max(highest[k], after[k]), "after": after[k]}
            for k in results.MEMORY}


# --- all of it ------------------------------------------------------------------------------------


def _sample(bed, network, kind, workload, settings, rate, endpoints):
    with Flood(bed, kind, getattr(kind, network), settings.build, rate, endpoints) as flood:
        sample = measure_once(workload, bed.places[network], settings)
    busy = sample["cpu"]["cores"][str(bed.cpus[0])]["busy"]
    sample["values"].update({"flood": flood.rate, "core": busy / sample["cpu"]["wall"]})
    return sample


def _packet_us(bed, network, kind, build, endpoints):
    words = _words(bed, kind, getattr(kind, network), build, endpoints, "--count", PACKETS)
    return json.loads(places.run_lab(bed.state.id, *words).splitlines()[-1])["cpu_us"]


def _costs(beds, kinds, rounds, build, endpoints):
    """What a packet costs, before the hosts have processors of their own."""
    found = [{"key": k.key, "title": k.title, "metrics": [vars(PACKET)], "samples": {n: [] for n in NETWORKS}}
             for k in kinds if k.host]
    for r in range(rounds):
        for one in found:
            for network in order.order_of(r, NETWORKS):
                progress(f"a packet, {one['title']}: round {r + 1} of {rounds}, {network}")
                cost = _packet_us(beds[network], network, KINDS[one["key"]], build, endpoints)
                one["samples"][network].append({"round": r, "values": {PACKET.key: cost}})
    for one in found:
        results.summarise(one)
    return found


def _add_kept(samples):
    """Of the rate in the same round without a flood, where that was measured."""
    quiet = samples.get(KINDS["quiet"])
    if quiet is None:
        return
    for of_kind in samples.values():
        for network, rounds in of_kind.items():
            for sample, other in zip(rounds, quiet[network]):
                values = sample["values"]
                values["kept"] = values["rate"] / other["values"]["rate"]


def _described(kind, workload, samples):
    described = {"key": f"{workload.key}_{kind.key}", "title": kind.title,
                 "group": f"flood_{workload.key}", "rate": 0, "work": workload.work,
                 "metrics": [vars(m) for m in (*all_metrics(workload), KEPT, FLOOD, CORE)
                             if m.key in samples[NETWORKS[0]][0]["values"]],
                 "samples": samples}
    results.summarise(described)
    return described


def _restart(bed, *options):
    """slimd of all hosts, with further options."""
    for host in ("h1", "h2"):
        for words in (("stop",), ("start", *options)):
            places.run_lab(bed.state.id, "daemon", host, *words)


def run(kinds, rounds, rate, settings, options=()):
    """All of it; the results. rate: packets a second; options: further ones of slimd."""
    if len(set(places.pick_cpus())) < 2:
        raise LabError("a flood is measured on two CPUs or more")
    workloads = [WORKLOADS[k] for k in WORKLOAD_KEYS]
    measured, watched = [], []
    with contextlib.ExitStack() as stack:
        beds = {network: stack.enter_context(Bed([network], settings.build, prefix=prefix))
                for network, prefix in (("host", BARE_PREFIX), ("slim", PREFIX))}
        if options:
            _restart(beds["slim"], "--", *options)
        for network, bed in beds.items():
            _route(bed)
            progress(f"starting servers, {network}")
            one = bed.places[network]
            one.serve("web", servers.web(one, settings.build), servers.WEB)
        endpoints = _endpoints(beds["slim"])
        costs = _costs(beds, kinds, rounds, settings.build, endpoints)
        for bed in beds.values():
            _spread(bed)
        found = header("flood", NETWORKS, beds["slim"].cpus, settings.seconds, False)
        for workload in workloads:
            samples = {kind: {n: [] for n in NETWORKS} for kind in kinds}
            for r in range(rounds):
                # Neither a network nor a kind is always measured after the same other one.
                for kind in kinds if r % 4 < 2 else kinds[::-1]:
                    for network in order.order_of(r, NETWORKS):
                        progress(f"{workload.title}, {kind.title}: round {r + 1} of {rounds}, {network}")
                        sample = _sample(beds[network], network, kind, workload, settings, rate,
                                         endpoints)
                        samples[kind][network].append({"round": r, **sample})
            _add_kept(samples)
            measured += [_described(kind, workload, samples[kind]) for kind in kinds]
        for kind in kinds:
            progress(f"memory, {kind.title}")
            flood = Flood(beds["slim"], kind, kind.slim, settings.build, rate, endpoints)
            watched.append({"key": kind.key, "title": kind.title,
                            "values": _watch(beds["slim"], flood, workloads[-1], settings)})
    progress("")
    return {**found, "rounds": rounds, "load": 100, "flood_rate": rate, "costs": costs,
            "workloads": measured, "memory": watched}
