# SPDX-License-Identifier: Apache-2.0
"""
The clients of those servers: one function each, which runs one measurement and returns its numbers.
What a client says is looked through for failures: a number that is returned counts work that was done.
"""

import csv
import glob
import json
import os
import re

from . import servers
from .system import LabError


def number(text, pattern, what, place):
    found = re.search(pattern, text)
    if not found:
        raise LabError(f"{what} over {place.network.key} printed no result: {text.strip()[-200:]!r}")
    return float(found[1])


def load(place, build, verb, server, port, *options, one_core=False):
    """bench/load's program; its JSON as a value."""
    text = place.client([servers.load_program(build), verb, place.address(server), str(port),
                         *map(str, options)], one_core=one_core, seconds=120)
    try:
        return json.loads(text)
    except ValueError:
        raise LabError(f"load {verb} over {place.network.key} printed no result") from None


def iperf(place, seconds, streams=1):
    """{"gbits": …, "bytes": …}, as the server received them."""
    text = place.client(["iperf3", "-c", place.address("iperf"), "-p", str(servers.IPERF),
                         "-t", str(seconds), "-P", str(streams), "-J"], seconds=seconds + 60)
    try:
        received = json.loads(text)["end"]["sum_received"]
        return {"gbits": received["bits_per_second"] / 1e9, "bytes": received["bytes"]}
    except (ValueError, KeyError):
        raise LabError(f"iperf3 over {place.network.key} printed no result") from None


def wrk(place, seconds, page="1k", connections=32, close=False):
    """{"rate": requests a second, "total": requests}."""
    headers = ["-H", "Connection: close"] if close else []
    text = place.client(["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", *headers,
                         f"http://{place.address('web')}:{servers.WEB}/{page}"],
                        seconds=seconds + 60)
    # Its own word for a failure; half-read answers are never fine. Neither are timeouts.
    wrong = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    if "Non-2xx" in text or (wrong and any(int(n) for n in wrong.groups())):
        raise LabError(f"wrk over {place.network.key}: "
                       f"{wrong[0] if wrong else 'answers that are no 200'}")
    return {"rate": number(text, r"Requests/sec:\s+([0-9.]+)", "wrk", place),
            "total": number(text, r"(\d+) requests in ", "wrk", place)}


def redis_benchmark(place, requests, clients):
    """{"set": {"rate", "p50_us", "p99_us"}, "get": …}, of as many requests each."""
    address = ["-h", place.address("redis"), "-p", str(servers.REDIS)]
    place.client(["redis-cli", *address, "config", "resetstat"])
    text = place.client(["redis-benchmark", *address, "-c", str(clients), "-n", str(requests),
                         "-t", "set,get", "--csv"], seconds=300)
    stats = place.client(["redis-cli", *address, "info", "commandstats"])
    found = {}
    try:
        for row in csv.DictReader(text.splitlines()):
            found[row["test"].lower()] = {"rate": float(row["rps"]),
                                          "p50_us": float(row["p50_latency_ms"]) * 1e3,
                                          "p99_us": float(row["p99_latency_ms"]) * 1e3}
        for test in ("set", "get"):
            found[test]
    except (KeyError, ValueError):
        raise LabError(f"redis-benchmark over {place.network.key} printed no result") from None
    # The server's own word for what it has done, and that none of it failed.
    for test in found:
        seen = re.search(rf"cmdstat_{test}:calls=(\d+),.*rejected_calls=(\d+),failed_calls=(\d+)",
                         stats)
        if not seen or tuple(map(int, seen.groups())) != (requests, 0, 0):
            raise LabError(f"redis-benchmark over {place.network.key}: the server saw "
                           f"{seen[0] if seen else f'no {test}'}, not {requests} calls")
    return found


def pgbench(place, seconds, rate, *options):
    """{"total", "mean_us", "p50_us", "p99_us", "p999_us"} of TPC-B-like transactions, or as asked."""
    prefix = f"{place.dir}/pgbench"
    text = place.client([servers.postgres_program("pgbench"), "-h", place.address("postgres"),
                         "-p", str(servers.POSTGRES), "-U", "postgres", "-n", "-j", "1",
                         "-c", str(servers.POSTGRES_CLIENTS), "-R", str(rate), "-T", str(seconds),
                         "-l", "--log-prefix", prefix, *options, "postgres"], seconds=seconds + 120)
    total = int(number(text, r"transactions actually processed: (\d+)", "pgbench", place))
    failed = int(number(text, r"failed transactions: (\d+)", "pgbench", place))
    times = []
    for path in glob.glob(f"{prefix}.*"):
        with open(path) as f:
            times += [float(line.split()[2]) for line in f]
        os.unlink(path)
    if failed or not total or len(times) != total:
        raise LabError(f"pgbench over {place.network.key}: {total} transactions, {len(times)} in its "
                       f"log, {failed} failed")
    times.sort()
    return {"total": total, "mean_us": sum(times) / total,
            **{key: times[min(total - 1, int(share * total))]
               for key, share in (("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999))}}


def ping(place, build, *options, one_core=False):
    return load(place, build, "ping", "echo", servers.ECHO, *options, one_core=one_core)


def connect(place, build, *options):
    return load(place, build, "connect", "accept", servers.ACCEPT, *options)
