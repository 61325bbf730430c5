# SPDX-License-Identifier: Apache-2.0
"""
The rows of the benchmark.

A workload names its servers and has a function that runs its client once and returns numbers: those of its
metrics, and "work", how much was done in all, by which processor time is divided. Its group is the
chart that it is in. Whatever is wrong with an answer raises LabError.
"""

import dataclasses
import typing

from slimlab import clients, servers
from slimlab.system import LabError


@dataclasses.dataclass(frozen=True)
class Metric:
    key: str
    title: str
    unit: str
    better: str          # "higher" or "lower"
    digits: int = 0
    judged: bool = True  # `compare` looks at it


@dataclasses.dataclass(frozen=True)
class Server:
    """One that a workload needs: argv(place, build)."""
    name: str
    port: int
    argv: typing.Callable


@dataclasses.dataclass(frozen=True)
class Workload:
    key: str
    title: str
    group: str
    server: Server
    run: typing.Callable  # (place, settings, rate) → {metric: number, "work": number}
    metrics: tuple
    work: str             # what the work is counted in
    programs: tuple = ()  # that have to be installed
    per: float = 1e6      # processor time is in seconds / per of work: µs for a request
    rate: int = 0         # of a load that is the same on each network, a second; 0: flat out


@dataclasses.dataclass(frozen=True)
class Settings:
    seconds: int
    build: str
    load: int = 100  # of the fixed rates, per cent


THROUGHPUT = Metric("throughput", "throughput", "Gbit/s", "higher", 2)
RATE = Metric("rate", "rate", "requests/s", "higher")
CONNECTIONS = Metric("rate", "rate", "connections/s", "higher")
MEAN = Metric("mean_us", "mean", "µs", "lower", 1)
P50 = Metric("p50_us", "p50", "µs", "lower", 1)
P99 = Metric("p99_us", "p99", "µs", "lower", 1, judged=False)
P999 = Metric("p999_us", "p99.9", "µs", "lower", 1, judged=False)
LATENCIES = (MEAN, P50, P99, P999)

IPERF = Server("iperf", servers.IPERF, servers.iperf)
WEB = Server("web", servers.WEB, servers.web)
ECHO = Server("echo", servers.ECHO, servers.echo)
ACCEPT = Server("accept", servers.ACCEPT, servers.accept)
GREET = Server("greet", servers.GREET, servers.greet)
CACHE = Server("cache", servers.CACHE, lambda place, build: servers.cache(place, build, 4))
POSTGRES = Server("postgres", servers.POSTGRES, servers.postgres)
REDIS = Server("redis", servers.REDIS, servers.redis)
LOG = Server("log", servers.LOG, servers.log)


def cpu_metrics(workload):
    """What processor time is shown as: of each side, and soft interrupts of all cores."""
    unit = f"{'ms' if workload.per == 1e3 else 'µs'}/{workload.work}"
    return (Metric("server_cpu", "server CPU", unit, "lower", 2, judged=workload.rate > 0),
            Metric("client_cpu", "client CPU", unit, "lower", 2, judged=workload.rate > 0),
            Metric("softirq", "soft interrupts", unit, "lower", 2, judged=False))


def all_metrics(workload):
    return workload.metrics + cpu_metrics(workload)


def _timed(found, work="total"):
    """Of what bench/load's program prints."""
    keys = ("rate", "mean_us", "p50_us", "p99_us", "p999_us")
    return {**{k: found[k] for k in keys}, "work": found[work]}


# --- iperf3, request-response, connections --------------------------------------------------------


def _iperf(streams):
    def run(place, settings, rate):
        found = clients.iperf(place, settings.seconds, streams)
        return {"throughput": found["gbits"], "work": found["bytes"] / 1e9}
    return run


def _ping(one_core):
    def run(place, settings, rate):
        return _timed(clients.ping(place, settings.build, "--seconds", settings.seconds,
                                   one_core=one_core))
    return run


def _connect(place, settings, rate):
    # A count and no time: the client closes first, and its ports are free again only after a minute.
    return _timed(clients.connect(place, settings.build, "--count", 2000))


def _first_byte(place, settings, rate):
    return _timed(clients.load(place, settings.build, "first-byte", "greet", servers.GREET,
                               "--count", 2000))


def _storm(connections):
    def run(place, settings, rate):
        return _timed(clients.load(place, settings.build, "storm", "greet", servers.GREET,
                                   "--connections", connections, "--seconds", settings.seconds))
    return run


# --- nginx ----------------------------------------------------------------------------------------


def _wrk(page, close, connections):
    def run(place, settings, rate):
        found = clients.wrk(place, settings.seconds, page, connections, close)
        return {"rate": found["rate"], "work": found["total"]}
    return run


class NoRoom(LabError):
    """The machine had something else to do, or is too slow."""


def _no_room(found, rate, place):
    raise NoRoom(f"{found['total']} were done over {place.network.key}: this machine has no room for "
                   f"{rate} a second now (--load makes it less)")


def _checked(found, rate, settings, place):
    """A load that was not made is no result. What is still due at the end is not made."""
    if found["total"] < 0.9 * rate * settings.seconds:
        _no_room(found, rate, place)
    return _timed(found)


def _http(page, close, connections):
    def run(place, settings, rate):
        options = ["--connections", connections, "--seconds", settings.seconds, "--rate", rate,
                   "--path", f"/{page}", "--size", servers.PAGES[page]]
        found = clients.load(place, settings.build, "http", "web", servers.WEB, *options,
                             *(["--close"] if close else []))
        return _checked(found, rate, settings, place)
    return run


def _nginx():
    """1 KB and 1 MB, kept alive and not, each flat out and at a fixed rate."""
    for page, size, close, connections, rate in (("1k", "1 KB", False, 32, 10000),
                                                 ("1k", "1 KB", True, 32, 1500),
                                                 ("1m", "1 MB", False, 8, 150),
                                                 ("1m", "1 MB", True, 8, 150)):
        key = f"nginx_{page}" + ("_close" if close else "")
        title = f"nginx, {size}" + (", connection per request" if close else ", keep-alive")
        yield Workload(key, title, "nginx", WEB, _wrk(page, close, connections), (RATE,),
                       "request", ("nginx", "wrk"))
        yield Workload(f"{key}_fixed", title, "nginx", WEB, _http(page, close, connections), LATENCIES,
                       "request", ("nginx",), rate=rate)


# --- memcached, redis, PostgreSQL, log broker -----------------------------------------------------


def _cache(place, settings, rate):
    found = clients.load(place, settings.build, "cache", "cache", servers.CACHE, "--seconds",
                         settings.seconds, "--rate", rate)
    return _checked(found, rate, settings, place) if rate else _timed(found)


def _redis(place, settings, rate):
    # It takes a number and no time.
    requests = 20000 * settings.seconds
    found = clients.redis_benchmark(place, requests, 50)
    values = {f"{test}_{key}": found[test][key] for test in found for key in ("rate", "p50_us")}
    return {**values, "work": 2 * requests}


def _pgbench(*options):
    def run(place, settings, rate):
        # A hundred connections are made first; so that they do not weigh, it runs for longer.
        seconds = 5 * settings.seconds
        found = clients.pgbench(place, seconds, rate, *options)
        # Its arrivals are random, and its time runs while it connects.
        if found["total"] < 0.7 * rate * seconds:
            _no_room(found, rate, place)
        found["work"] = found.pop("total")
        return found
    return run


def _log(place, settings, rate):
    found = clients.load(place, settings.build, "log", "log", servers.LOG, "--seconds",
                         settings.seconds, "--rate", rate)
    return _checked(found, rate, settings, place) if rate else _timed(found)


# --- the table ------------------------------------------------------------------------------------

WORKLOADS = {w.key: w for w in (
    Workload("iperf3", "iperf3, 1 stream", "iperf3", IPERF, _iperf(1), (THROUGHPUT,), "GB",
             ("iperf3",), 1e3),
    Workload("iperf3_8", "iperf3, 8 streams", "iperf3", IPERF, _iperf(8), (THROUGHPUT,), "GB",
             ("iperf3",), 1e3),
    Workload("rr", "request-response, two cores", "latency", ECHO, _ping(False),
             (RATE,) + LATENCIES, "request"),
    Workload("rr_one_core", "request-response, one core", "latency", ECHO, _ping(True),
             (RATE,) + LATENCIES, "request"),
    Workload("connect", "socket + connect + close", "connections", ACCEPT, _connect, LATENCIES,
             "connection"),
    Workload("first_byte", "connect to first byte", "connections", GREET, _first_byte, LATENCIES,
             "connection"),
    *(Workload(f"storm_{n}", f"connections, {n} at once", "connections", GREET, _storm(n),
               (CONNECTIONS, P50, P99), "connection") for n in (1, 8, 64)),
    Workload("memcached", "memcached, set:get 1:10, 200 connections", "memcached", CACHE, _cache,
             (RATE,) + LATENCIES, "request", ("memcached",)),
    Workload("memcached_fixed", "memcached, set:get 1:10, 200 connections", "memcached", CACHE, _cache,
             LATENCIES, "request", ("memcached",), rate=10000),
    *_nginx(),
    Workload("postgresql_fixed", "PostgreSQL, pgbench, 100 clients", "postgresql", POSTGRES,
             _pgbench(), LATENCIES, "transaction", ("setpriv",), rate=100),
    Workload("postgresql_select_fixed", "PostgreSQL, pgbench, 100 clients, SELECT", "postgresql",
             POSTGRES, _pgbench("-S", "-M", "prepared"), LATENCIES, "transaction", ("setpriv",),
             rate=4000),
    Workload("redis", "redis-benchmark, 50 clients", "redis", REDIS, _redis,
             (Metric("get_rate", "GET", "requests/s", "higher"),
              Metric("set_rate", "SET", "requests/s", "higher"),
              Metric("get_p50_us", "GET, p50", "µs", "lower"),
              Metric("set_p50_us", "SET, p50", "µs", "lower")), "request",
             ("redis-server", "redis-benchmark", "redis-cli")),
    Workload("log", "log broker, 8 producers, batches of 16", "log", LOG, _log,
             (Metric("rate", "rate", "records/s", "higher"),) + LATENCIES, "record"),
    Workload("log_fixed", "log broker, 8 producers, batches of 16", "log", LOG, _log, LATENCIES,
             "record", rate=64000),
)}

GROUPS = tuple(dict.fromkeys(w.group for w in WORKLOADS.values()))


def parse(text):
    """Workloads by their keys and groups, in the table's order; ValueError for another word."""
    wanted = text.split(",")
    for word in wanted:
        if word not in WORKLOADS and word not in GROUPS:
            raise ValueError(f'"{word}" is no workload: bench/bench list has them')
    return [w for w in WORKLOADS.values() if w.key in wanted or w.group in wanted]
