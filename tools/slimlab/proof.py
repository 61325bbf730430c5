# SPDX-License-Identifier: Apache-2.0
"""
What the wire and the devices saw while the measurements ran over Slim.

Counters: of Slim's VXLAN device and of its containers' veths on both hosts, read before and after
each of those measurements. The baseline's devices are left out: they carry what ends its last
measurement while Slim's next begins. Capture: tcpdump on h2's uplink while one more round runs over
Slim, which is not measured, since capturing has a price.
"""

import json
import re
import signal
import subprocess
import time

from .state import State, host_address
from .system import LabError, netns

HOSTS = ("h1", "h2")


def counters(lab_id):
    """{device: packets, both ways} of Slim's VXLAN devices and of its containers' veths."""
    packets = {}
    for host in HOSTS:
        with netns(State(lab_id).netns(host)):
            done = subprocess.run(["ip", "-json", "-details", "-stats", "link", "show"],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise LabError(f"ip link show: {done.stderr.strip()}")
        for link in json.loads(done.stdout):
            kind = link.get("linkinfo", {}).get("info_kind")
            name = link["ifname"]
            if kind not in ("vxlan", "veth") or name == "uplink" or name.startswith("base"):
                continue
            stats = link["stats64"]
            packets[f"{host}/{kind}/{name}"] = (stats["rx"]["packets"]
                                                          + stats["tx"]["packets"])
    return packets


class Counted:
    """Adds up what the counters moved by."""

    def __init__(self, lab_id):
        self.lab_id = lab_id
        self.vxlan = 0
        self.veth = 0
        self._before = None

    def __enter__(self):
        self._before = counters(self.lab_id)

    def __exit__(self, kind, error, trace):
        if kind is not None:
            return
        for device, packets in counters(self.lab_id).items():
            moved = packets - self._before.get(device, 0)
            if "/vxlan/" in device:
                self.vxlan += moved
            else:
                self.veth += moved


class Capture:
    """tcpdump on h2's uplink, with a filter per question; it counts, and keeps nothing."""

    FILTERS = {
        "tcp_between_hosts": f"tcp and host {host_address(1)} and host {host_address(2)}",
        "udp": "udp",
        "other": f"not udp and not arp and not ip6 and not (tcp and host {host_address(1)} "
                 f"and host {host_address(2)})",
    }

    def __init__(self, lab_id):
        self.lab_id = lab_id
        self.seen = {}
        self._running = {}

    def __enter__(self):
        with netns(State(self.lab_id).netns("h2")):
            for name, wanted in self.FILTERS.items():
                self._running[name] = subprocess.Popen(
                    ["tcpdump", "-n", "-p", "-i", "uplink", "-s", "96", "-w", "/dev/null", wanted],
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                    text=True)
        for process in self._running.values():
            line = process.stderr.readline()
            while line and "listening on" not in line:
                line = process.stderr.readline()
            if not line:
                self._end()
                raise LabError("tcpdump does not start on h2's uplink")
        time.sleep(0.1)
        return self

    def _end(self):
        said = {}
        for name, process in self._running.items():
            process.send_signal(signal.SIGINT)
            try:
                said[name] = process.communicate(timeout=10)[1]
            except subprocess.TimeoutExpired:
                process.kill()
                said[name] = process.communicate()[1]
        return said

    def __exit__(self, kind, error, trace):
        said = self._end()
        if kind is not None:
            return
        for name, text in said.items():
            found = re.search(r"(\d+) packets? received by filter", text)
            if not found:
                raise LabError(f"tcpdump printed no count: {text.strip()!r}")
            self.seen[name] = int(found[1])
