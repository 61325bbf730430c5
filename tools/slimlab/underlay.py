# SPDX-License-Identifier: Apache-2.0
"""
The underlay: a network namespace per host, and one in the middle with a bridge that joins them.

    slim-ID-h1 [uplink 192.0.2.1] --- [h1]                 [h2] --- [uplink 192.0.2.2] slim-ID-h2
                                       \\_ underlay (bridge) _/
                                          192.0.2.254, slim-ID-net

A host's uplink has an address of IPv4, of IPv6 (2001:db8::N) or of both, as `up --underlay` says;
the one in the middle always has both.

Offloads, queues and MTU are what the kernel gives a veth. Nothing is ever in the namespace that the
lab was started from.
"""

import os
import re
import subprocess

from .state import host_address, host_address6, host_index
from .system import LabError, NETNS_DIR, ip, netns, sysctl

MIDDLE = "net"
MIDDLE_ADDRESS = "192.0.2.254"
MIDDLE_ADDRESS6 = "2001:db8::fe"
MTU = 1500


def host_mac(index):
    return f"02:00:5e:00:02:{index:02x}"


def build(state, hosts):
    """Makes the namespaces and what is in them."""
    spaces = [MIDDLE] + hosts
    ip([f"netns add {state.netns(s)}" for s in spaces])

    with netns(state.netns(MIDDLE)):
        _loopback()
        # Where br_netfilter is loaded, bridged packets would pass iptables: not on a wire.
        sysctl("net/bridge/bridge-nf-call-iptables", "0")
        ip(["link add underlay type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            f"addr add {MIDDLE_ADDRESS}/24 dev underlay",
            f"addr add {MIDDLE_ADDRESS6}/64 dev underlay nodad",
            "link set underlay up"])
        ip([f"link add {h} mtu {MTU} type veth peer name uplink netns {state.netns(h)} "
            f"address {host_mac(host_index(h))} mtu {MTU}" for h in hosts])
        ip([f"link set {h} master underlay up" for h in hosts])

    for h in hosts:
        with netns(state.netns(h)):
            _loopback()
            families = state.data["underlay"][h]
            commands = []
            if "4" in families:
                commands.append(f"addr add {host_address(host_index(h))}/24 brd + dev uplink")
            if "6" in families:
                # The lab knows that there are no duplicates, and need not wait for the search.
                commands.append(f"addr add {host_address6(host_index(h))}/64 dev uplink nodad")
            ip(commands + ["link set uplink up"])


def _loopback():
    # ::1 belongs to what is tested, also where the machine has IPv6 off for new namespaces.
    sysctl("net/ipv6/conf/all/disable_ipv6", "0")
    sysctl("net/ipv6/conf/lo/disable_ipv6", "0")
    ip("link set lo up")


def namespaces(state):
    """Those of the lab that there are, by their names in /run/netns."""
    mine = re.compile(re.escape(f"slim-{state.id}-") + r"(?:net|h[0-9]+)")
    try:
        return sorted(n for n in os.listdir(NETNS_DIR) if mine.fullmatch(n))
    except FileNotFoundError:
        return []


def inhabitants(names):
    """The processes in these network namespaces."""
    inodes = set()
    for name in names:
        try:
            found = os.stat(f"{NETNS_DIR}/{name}")
        except OSError:
            continue
        inodes.add((found.st_dev, found.st_ino))
    pids = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            found = os.stat(f"/proc/{pid}/ns/net")
        except OSError:
            continue
        if (found.st_dev, found.st_ino) in inodes:
            pids.append(int(pid))
    return pids


def remove(state):
    for name in namespaces(state):
        # One by one, and going on after an error: a half-made one is a file, not a mount.
        done = subprocess.run(["ip", "netns", "del", name], text=True,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if done.returncode == 0 or not os.path.exists(f"{NETNS_DIR}/{name}"):
            continue
        try:
            os.unlink(f"{NETNS_DIR}/{name}")
        except OSError as e:
            raise LabError(f"network namespace {name} cannot be removed: {e.strerror}") from None
