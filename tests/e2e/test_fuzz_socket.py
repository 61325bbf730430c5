# SPDX-License-Identifier: Apache-2.0
"""
A container that does at random whatever can be done to a TCP socket (fuzz-socket.c): nothing of the
host changes, nothing of it is shown, others keep serving, and nothing is left.

    SLIM_FUZZ_CALLS=1000000   how many calls altogether
    SLIM_FUZZ_SEED=N          instead of a random seed; each run prints its own
"""

import contextlib
import json
import os
import pathlib
import re
import socket

import pytest

from conftest import ROOT, wait_until
from remote import PYTHON, Remote

CALLS = int(os.environ.get("SLIM_FUZZ_CALLS", 120000))
SEED = os.environ.get("SLIM_FUZZ_SEED")
RUNS = 4
PROGRAM = pathlib.Path(os.environ.get("SLIM_BUILD", ROOT / "build")) / "tests/e2e/fuzz-socket"

# A device of the host that nothing looks like by accident.
DEVICE, INDEX, ADDRESS = "fuzzmark0", 0x5e714c39, "198.51.100.217"

NGINX = """
pid {dir}/nginx.pid; error_log {dir}/error.log; worker_processes 1; daemon off;
events {{ worker_connections 4096; }}
http {{ access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p;
       fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
       server {{ listen 80 reuseport; location / {{ return 200 "serving\\n"; }} }} }}
"""


@pytest.fixture(scope="module")
def marked(lab):
    """The host has a device that can be told from all others."""
    lab.host("h1", "ip", "link", "add", DEVICE, "index", INDEX, "type", "veth", "peer", "fuzzmark1")
    lab.host("h1", "ip", "addr", "add", ADDRESS + "/32", "dev", DEVICE)
    lab.host("h1", "ip", "link", "set", DEVICE, "up")


@pytest.fixture(scope="module")
def nginx(lab, marked):
    """On the fuzzer's host."""
    place = pathlib.Path("/run/slim-lab") / lab.id / "fuzz"
    place.mkdir()
    place.chmod(0o777)
    (place / "nginx.conf").write_text(NGINX.format(dir=place))
    with lab.start("run", "h1", "web", "/usr/sbin/nginx", "-e", "stderr", "-c",
                   place / "nginx.conf"):
        lab.wait_listening("h1", "web", 80)
        yield


@pytest.fixture(scope="module")
def visitor(lab, nginx):
    with Remote.slim(lab, "h2", "visitor") as r:
        yield r


def serves(lab, visitor):
    visitor.do(f"s = connect('{lab.ip('web')}', 80); s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')\n"
               "said = b''\n"
               "while True:\n"
               "    more = s.recv(4096); said += more\n"
               "    if not more: break\n"
               "s.close()")
    return visitor("said").endswith(b"serving\n")


def forbidden(lab):
    """What of the host no call may hand out: addresses, and the names and index of devices."""
    patterns = [INDEX.to_bytes(4, "little"), INDEX.to_bytes(4, "big")]
    for link in json.loads(lab.host("h1", "ip", "-j", "addr").stdout):
        if link["ifname"] != "lo":
            patterns.append(link["ifname"].encode())
            patterns.append(bytes.fromhex(link["address"].replace(":", "")))
        for a in link["addr_info"]:
            family = socket.AF_INET if a["family"] == "inet" else socket.AF_INET6
            if a["scope"] != "host":
                patterns.append(socket.inet_pton(family, a["local"]))
    patterns.append(socket.inet_aton("192.0.2.2"))
    return [p for p in patterns if len(p) >= 4]


def snapshot(lab):
    """All that a socket's options and ioctls could change on a host."""
    def text(*argv):
        return lab.host("h1", *argv, check=False, errors="backslashreplace").stdout

    def without_state(rows):
        for row in rows:
            for varying in ("state", "used", "probes", "confirmed", "refcnt", "lladdr"):
                row.pop(varying, None)
        return sorted(map(str, rows))

    seen = {
        "addresses": re.sub(r'"(valid|preferred)_life_time":\d+', "", text("ip", "-j", "addr")),
        "links": text("ip", "-j", "-d", "link"),
        "rules": text("ip", "rule") + text("ip", "-6", "rule"),
        "routes": text("ip", "route", "show", "table", "all"),
        "routes6": re.sub(r"expires \S+", "", text("ip", "-6", "route", "show", "table", "all")),
        "xfrm": text("ip", "xfrm", "policy") + text("ip", "xfrm", "state"),
        "qdiscs": text("tc", "qdisc"),
        "nft": re.sub(r"packets \d+ bytes \d+", "", text("nft", "list", "ruleset")),
    }
    seen["neighbours"] = without_state(json.loads(text("ip", "-j", "neigh") or "[]"))
    for name in ("igmp", "igmp6", "dev_mcast", "anycast6", "ip6_flowlabel", "arp", "if_inet6"):
        lines = text("cat", f"/proc/net/{name}").splitlines()
        # igmp's timers, and whether an ARP entry is fresh, are the moment's.
        seen[name] = [re.sub(r"\b[01]:[0-9A-F]{8}\b", "", line) for line in lines
                      if name != "arp" or "uplink" not in line]
    seen["sysctls"] = [line for line in text("sysctl", "-a", "--pattern", "^net\\.").splitlines()
                       if "conntrack_count" not in line]
    return seen


# How many sockets its pool may lack: a quarter of 16, of two families.
POOL_LACKS = 8


def settled(value):
    """Of the broker's pool, which is filled while nobody calls."""
    seen = []

    def is_settled():
        seen.append(value())
        return len(seen) > 20 and len(set(seen[-20:])) == 1

    wait_until(is_settled, "the broker to be full")
    return seen[-1]


def bpf_entries(lab):
    return {h: {m: n for m, n in lab.ctl(h, "status")["maps"].items() if m != "syns"}
            for h in ("h1", "h2")}


def changes(before, after):
    return {k: [x for x in (after[k].splitlines() if isinstance(after[k], str) else after[k])
                if x not in (before[k].splitlines() if isinstance(before[k], str) else before[k])]
            or "lost" for k in before if before[k] != after[k]}


@pytest.mark.parametrize("kinds", ["options,messages,calls", "ioctls,calls"])
@pytest.mark.parametrize("uid", [0, 65534])
def test_fuzz(lab, visitor, uid, kinds):
    assert serves(lab, visitor)
    wait_until(lambda: "tentative" not in lab.host("h1", "ip", "addr").stdout,
               "the devices to have their addresses")
    before, entries = snapshot(lab), bpf_entries(lab)
    with Remote.slim(lab, "h1", "fuzz") as fuzz:
        broker = lab.ctl("h1", "endpoint", "show", "fuzz")["endpoint"]["broker_pid"]
        # Its pool and the users' queues are as full as they are going to be.
        many = "for _ in range(64): socket.socket().close(); socket.socket(10).close()"
        fuzz.do(many)
        fuzz.do(f"subprocess.run(['setpriv', '--reuid={uid}', '--regid={uid}', '--clear-groups', "
                f"'{PYTHON}', '-c', 'import socket\\n{many}'], check=True)")

        def descriptors():
            # Sockets: the directories of its last few callers it keeps.
            links = []
            for entry in os.scandir(f"/proc/{broker}/fd"):
                with contextlib.suppress(OSError):  # closed meanwhile
                    links.append(os.readlink(entry.path))
            return sum(link.startswith("socket:") for link in links)

        held = settled(descriptors)
        seed = ["--seed", SEED] if SEED else []
        argv = [str(PROGRAM), "--calls", str(CALLS // RUNS), "--uid", str(uid), "--kinds", kinds,
                "--own", lab.ip("fuzz"), "--peer", lab.ip("web"), "--port", "80", *seed,
                "--forbid", ",".join(p.hex() for p in forbidden(lab))]
        fuzz.do(f"p = subprocess.Popen({argv!r}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, "
                "stderr=subprocess.STDOUT, text=True)")
        while fuzz("p.poll()") is None:
            assert serves(lab, visitor)
        said, status = fuzz("p.stdout.read()"), fuzz("p.wait()")
        print(f"uid {uid}: {said}")
        assert status == 0, said
        report = json.loads(said)
        assert report["found"] == []
        assert sum(report[k][0] for k in ("options", "ioctls", "messages", "calls")) == CALLS // RUNS
        assert all(report[k][1] > 0 for k in kinds.split(","))
        fuzz.do("socket.socket().close()")
        wait_until(lambda: abs(descriptors() - held) <= POOL_LACKS,
                   lambda: f"the broker to hold about {held} sockets again, not {descriptors()}")
        assert lab.ctl("h1", "endpoint", "show", "fuzz")["endpoint"]["broker_pid"] == broker
    assert serves(lab, visitor)
    wait_until(lambda: bpf_entries(lab) == entries, f"the maps to be {entries} again")
    wait_until(lambda: len(json.loads(lab.host("h1", "ip", "-j", "link").stdout))
               == len(json.loads(before["links"])), "the container's device to go")
    assert changes(before, snapshot(lab)) == {}
