# SPDX-License-Identifier: Apache-2.0
"""
The clients of those servers: one function each, which runs one measurement and returns its numbers.
What a client says is looked through for failures: a number that is returned counts work that was done.
"""

import json
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


def ping(place, build, *options, one_core=False):
    return load(place, build, "ping", "echo", servers.ECHO, *options, one_core=one_core)


def connect(place, build, *options):
    return load(place, build, "connect", "accept", servers.ACCEPT, *options)
