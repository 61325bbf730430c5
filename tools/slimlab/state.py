# SPDX-License-Identifier: Apache-2.0
"""
A lab's directory, /run/slim-lab/ID:

    lock            held while anything below is changed
    state.json      hosts, daemons, names and their addresses
    store           the hosts' common SQLite store
    hN/run          the run directory of hN's slimd
    hN/slimd.log    what it said
    NAME.baseline   held by the baseline container of that name while it runs
    NAME.hosts      its /etc/hosts

Names get their addresses from counters, in the order in which they are first mentioned, and keep
them until the lab goes down.
"""

import contextlib
import fcntl
import ipaddress
import json
import os
import re

from .system import LabError

BASE = "/run/slim-lab"
HOSTS_MAX = 200

# Far above the blocks that slimd hands out when nobody asks for an address.
OVERLAY_FIRST = ipaddress.IPv4Address("10.77.192.1")
OVERLAY_LAST = ipaddress.IPv4Address("10.77.255.254")
OVERLAY6_FIRST = ipaddress.IPv6Address("fd51:1e::c000:1")

# The default network's prefixes, where the lab makes it.
PREFIXES = {"4": "10.77.0.0/16", "6": "fd51:1e::/64"}
FAMILIES = ("4", "6", "46")

_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")


def check_id(text):
    if not _ID.fullmatch(text):
        raise LabError(f'"{text}" is no name for a lab: 1 to 32 of a-z 0-9 -, '
                       "a letter or digit at each end")
    return text


def check_name(text):
    if not _NAME.fullmatch(text):
        raise LabError(f'"{text}" is no name for a container: 1 to 63 of a-z 0-9 - ., '
                       "a letter or digit at each end")
    return text


def host_index(text):
    """7 for "h7", None for what is no host name."""
    found = re.fullmatch(r"h([1-9][0-9]{0,2})", text)
    return int(found[1]) if found and int(found[1]) <= HOSTS_MAX else None


def host_address(index):
    return f"192.0.2.{index}"


def host_address6(index):
    return f"2001:db8::{index:x}"


class State:
    """One lab. Use it within `with state.locked():`, which reads and, at its end, writes."""

    def __init__(self, lab_id):
        self.id = check_id(lab_id)
        self.dir = f"{BASE}/{lab_id}"
        self.data = None

    # --- where things are

    def host_dir(self, host):
        return f"{self.dir}/{host}"

    def run_dir(self, host):
        return f"{self.dir}/{host}/run"

    def log_path(self, host):
        return f"{self.dir}/{host}/slimd.log"

    def store_path(self):
        return f"{self.dir}/store"

    def netns(self, host):
        """Of a host, or of the underlay's middle ("net")."""
        return f"slim-{self.id}-{host}"

    def cgroup(self, root):
        return f"{root}/slim-lab-{self.id}"

    def host_cgroup(self, root, host):
        """Of all of a host's processes, as the root is on a host that is a machine."""
        return f"{self.cgroup(root)}/{host}"

    def pins(self, root):
        return f"{root}/slim-lab-{self.id}"

    # --- the lock

    def exists(self):
        return os.path.isdir(self.dir)

    def _lock(self, make):
        """An exclusive lock on the directory as it is now, not on one that was just removed."""
        path = f"{self.dir}/lock"
        while True:
            if make:
                os.makedirs(self.dir, mode=0o755, exist_ok=True)
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                if make:
                    continue
                raise LabError(f"there is no lab {self.id}: tools/lab --lab {self.id} up") from None
            except OSError as e:
                raise LabError(f"cannot open {path}: {e.strerror}") from None
            fcntl.flock(fd, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                here, there = os.fstat(fd), os.stat(path)
                if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
                    return fd
            os.close(fd)

    @contextlib.contextmanager
    def locked(self, make=False):
        """Holds the lock; self.data is the state, None for a lab that never got as far as one."""
        fd = self._lock(make)
        try:
            self.data = self.load()
            before = json.dumps(self.data)
            yield self
            if self.exists() and self.data is not None and json.dumps(self.data) != before:
                self.save()
        finally:
            os.close(fd)

    def load(self):
        try:
            with open(f"{self.dir}/state.json") as f:
                data = json.load(f)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as e:
            raise LabError(f"{self.dir}/state.json cannot be read ({e}): "
                           f"take the lab down") from None
        return data if isinstance(data, dict) else None

    def save(self):
        """At once or not at all, whenever this is killed."""
        new = f"{self.dir}/state.json.new"
        with open(new, "w") as f:
            json.dump(self.data, f, indent=2)
        os.rename(new, f"{self.dir}/state.json")

    # --- what is in it

    def begin(self, hosts, slim, build, underlay, overlay):
        """underlay: for each host, of which families its underlay address is. overlay: of which
        the default network is."""
        self.data = {
            "up": False,  # until all of it is
            "slim": slim,
            "build": build,
            "hosts": [f"h{n}" for n in range(1, hosts + 1)],
            "underlay": {f"h{n}": families for n, families in enumerate(underlay, 1)},
            "overlay": overlay,
            "daemons": {},
            "names": {},
            "baseline_hosts": [],
            "baseline_names": {},
        }
        self.save()

    def check_up(self):
        if self.data is None or not self.data["up"]:
            raise LabError(f"lab {self.id} did not come up wholly: "
                           f"tools/lab --lab {self.id} down, then up")

    def check_host(self, host):
        self.check_up()
        if host not in self.data["hosts"]:
            raise LabError(f'lab {self.id} has no host "{host}", it has '
                           f"{self.data['hosts'][0]} to {self.data['hosts'][-1]}")

    def check_slim(self):
        if not self.data["slim"]:
            raise LabError(f"lab {self.id} is up without Slim: take it down, "
                           "then up without --no-slim")

    def addresses(self, name):
        """The overlay addresses of a name, for the lab's life: {"4": …, "6": …}, or one of them."""
        names = self.data["names"]
        if check_name(name) not in names:
            if OVERLAY_FIRST + len(names) > OVERLAY_LAST:
                raise LabError(f"lab {self.id} has no address left for {name}")
            first = {"4": OVERLAY_FIRST, "6": OVERLAY6_FIRST}
            names[name] = {f: str(first[f] + len(names)) for f in self.data["overlay"]}
        return names[name]

    def address(self, name, family=None):
        """One of them: of that family, or of IPv4 if it has one."""
        found = self.addresses(name)
        if family is None:
            family = "4" if "4" in found else "6"
        if family not in found:
            raise LabError(f"lab {self.id}: its default network has no IPv{family}: "
                           f"up --overlay 46")
        return found[family]

    def baseline_address(self, name, host):
        """The address of a name on the baseline, where it depends on the host. host None: that of
        a name that has one already."""
        names = self.data["baseline_names"]
        mine = names.get(check_name(name))
        if host is None:
            if mine is None:
                raise LabError(f"{name} has no baseline address before its host is known: "
                               "add --host HOST")
            return mine["address"]
        if mine is None:
            used = sum(1 for n in names.values() if n["host"] == host)
            if used >= 253:
                raise LabError(f"{host} has no baseline address left for {name}")
            mine = names[name] = {"host": host,
                                  "address": f"10.99.{host_index(host)}.{used + 2}"}
        elif mine["host"] != host:
            raise LabError(f"{name} is a baseline container of {mine['host']}, not of {host}")
        return mine["address"]


def labs():
    """The ids of all labs of this machine."""
    try:
        return sorted(e.name for e in os.scandir(BASE) if e.is_dir())
    except FileNotFoundError:
        return []
