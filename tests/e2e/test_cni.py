# SPDX-License-Identifier: Apache-2.0
"""
slim-cni, as a container runtime calls it: its operations, what it says when something is wrong, and
that containers of a runtime's namespaces are endpoints as all others are.
"""

import contextlib
import errno
import itertools
import json
import os
import pathlib
import socket
import subprocess
import time

import pytest

from conftest import PATIENCE, ROOT, lab_up, wait_until
from remote import Moved, Remote

BUILD = pathlib.Path(os.environ.get("SLIM_BUILD") or ROOT / "build").resolve()
PLUGIN = BUILD / "src" / "cni" / "slim-cni"
VERSIONS = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
H1 = "192.0.2.1"
MEGA = 10**6
FRAME = 1398 / (1398 + 66)  # of a frame between containers, what is a TCP segment's payload

IDS = itertools.count(1)

# What a container serves: an echo of TCP and of UDP.
SERVE = """
def echo(c):
    with c:
        while m := c.recv(4096):
            c.sendall(m)
def serve(port):
    l = socket.create_server(('', port))
    l.settimeout(None)
    def go():
        while True:
            threading.Thread(target=echo, args=(l.accept()[0],), daemon=True).start()
    threading.Thread(target=go, daemon=True).start()
def serve_udp(port):
    u = socket.socket(type=socket.SOCK_DGRAM)
    u.bind(('', port))
    u.settimeout(None)
    def go():
        while True:
            data, peer = u.recvfrom(4096)
            u.sendto(data, peer)
    threading.Thread(target=go, daemon=True).start()
def ask(address, port, source=''):
    with socket.create_connection((address, port), source_address=(source, 0)) as c:
        c.sendall(b'hello')
        return c.recv(4096)
def ask_udp(address, port):
    with socket.socket(type=socket.SOCK_DGRAM) as u:
        u.settimeout(1)
        for _ in range(20):
            u.sendto(b'hello', (address, port))
            try:
                return u.recvfrom(4096)[0]
            except TimeoutError:
                pass
def outcome(address, port, patience=1.5):
    try:
        socket.create_connection((address, port), patience).close()
        return 'ok'
    except TimeoutError:
        return 'silence'
    except OSError as e:
        return errno.errorcode[e.errno]
serve(80)
serve_udp(53)
"""


class Failed(Exception):
    def __init__(self, error):
        super().__init__(error)
        self.code = error["code"]
        self.text = " ".join(error[k] for k in ("msg", "details") if k in error)


def run_dir(lab, host):
    return f"/run/slim-lab/{lab.id}/{host}/run"


def plugin(lab, host, command, config, **variables):
    """One call. What it printed, as a value; None for nothing. Failed, for what failed."""
    if not isinstance(config, (str, bytes)):
        config = json.dumps(config)
    if isinstance(config, str):
        config = config.encode()
    words = [f"{k}={v}" for k, v in variables.items()]
    if command is not None:
        words.append(f"CNI_COMMAND={command}")
    done = subprocess.run(lab.command("host", host, "--", "env", *words, PLUGIN), input=config,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=PATIENCE)
    assert done.stderr == b""
    value = json.loads(done.stdout) if done.stdout else None
    if done.returncode == 0:
        return value
    assert done.returncode == 1 and set(value) - {"details"} == {"cniVersion", "code", "msg"}
    assert all("\n" not in str(v) for v in value.values())
    raise Failed(value)


class Container:
    """A namespace that a runtime would have made, with an interpreter in it."""

    def __init__(self, lab, host, remote, name="pods"):
        self.lab, self.host, self.remote, self.name = lab, host, remote, name
        self.id = f"c{next(IDS)}"
        self.netns = f"/proc/{remote.pid}/ns/net"
        self.interface = "eth0"
        self.args = None

    def config(self, version="1.1.0", **more):
        return {"cniVersion": version, "name": self.name, "type": "slim-cni",
                "runDir": run_dir(self.lab, self.host), **more}

    def call(self, command, *, netns=True, version="1.1.0", **more):
        variables = {"CNI_CONTAINERID": self.id, "CNI_IFNAME": self.interface}
        if netns:
            variables["CNI_NETNS"] = self.netns
        if self.args:
            variables["CNI_ARGS"] = self.args
        return plugin(self.lab, self.host, command, self.config(version, **more), **variables)

    def add(self, **more):
        self.result = self.call("ADD", **more)
        self.address = self.result["ips"][0]["address"].partition("/")[0]
        return self.result

    def check(self, **more):
        return self.call("CHECK", **{"prevResult": self.result, **more})

    def delete(self, **more):
        return self.call("DEL", **more)

    @property
    def endpoint(self):
        """What slimd has, or None."""
        wanted = f"{self.name}/{self.id}/{self.interface}"
        found = [e for e in self.lab.ctl(self.host, "endpoint", "ls")["endpoints"]
                 if e.get("attachment") == wanted]
        return found[0] if found else None

    def __call__(self, code):
        return self.remote(code)


@contextlib.contextmanager
def namespace(lab, host, name="pods"):
    with Remote.behind(lab, host) as r:
        yield Container(lab, host, r, name)


@contextlib.contextmanager
def attached(lab, host, **more):
    with namespace(lab, host) as c:
        c.add(**more)
        try:
            c.remote.do(SERVE)
            yield c
        finally:
            c.delete()


def fails(code, call, *args, **kwargs):
    """What it says."""
    with pytest.raises(Failed) as e:
        call(*args, **kwargs)
    assert e.value.code == code, e.value
    return e.value.text


def daemon(lab, action, host="h1"):
    lab.verb("daemon", host, action)


def devices(lab, host):
    done = subprocess.run(["ip", "-n", f"slim-{lab.id}-{host}", "-j", "link"], check=True,
                          stdout=subprocess.PIPE, text=True)
    return sorted(link["ifname"] for link in json.loads(done.stdout))


def traces(lab, host):
    """What may not be left of a container."""
    routes = subprocess.run(["ip", "-n", f"slim-{lab.id}-{host}", "route", "show", "table", "all"],
                            check=True, stdout=subprocess.PIPE, text=True).stdout
    nft = lab.host(host, "nft", "list", "ruleset").stdout
    routes = sorted(line for line in routes.splitlines() if "dev slim" in line or "10." in line)
    return {"devices": devices(lab, host), "routes": routes,
            "files": sorted(os.listdir(f"{run_dir(lab, host)}/endpoints")),
            "maps": lab.ctl(host, "status")["maps"], "dnat": nft.count("dnat"),
            "endpoints": sorted(e["name"] for e in lab.ctl(host, "endpoint", "ls")["endpoints"])}


@pytest.fixture(scope="module")
def peers(lab):
    """Containers of slimctl run on h2."""
    with Remote.slim(lab, "h2", "slim") as slim, Remote.plain(lab, "h2", "plain") as plain:
        for r in (slim, plain):
            r.do(SERVE)
        yield {"slim": slim, "plain": plain}


@pytest.fixture(scope="module", autouse=True)
def begun(lab):
    """The network is made with its first endpoint, and stays."""
    for host in ("h1", "h2"):
        with namespace(lab, host) as c:
            c.add()
            c.delete()


# --- results --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_add_and_del_in_each_version(lab, version):
    before = traces(lab, "h1")
    with namespace(lab, "h1") as c:
        dns = {"nameservers": ["10.0.0.1"], "search": ["example"]}
        result = c.add(version=version, dns=dns, somebodys=[1], ipam=None)
        assert set(result) == {"cniVersion", "interfaces", "ips", "routes", "dns"}
        assert result["cniVersion"] == version and result["dns"] == dns
        outside, inside = result["interfaces"]
        e = c.endpoint
        assert outside["name"] == e["device"] and "sandbox" not in outside
        assert inside["name"] == "eth0" and inside["sandbox"] == c.netns
        assert ("mtu" in inside) == (version == "1.1.0")
        ip, = result["ips"]
        assert ip.pop("version", None) == ("4" if version < "1.0.0" else None)
        assert ip == {"address": f"{e['address']}/32", "gateway": "169.254.1.1", "interface": 1}
        assert result["routes"] == [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}]
        for link, host in ((outside, True), (inside, False)):
            words = ["ip", "-j", "link", "show", link["name"]]
            found = lab.host("h1", *words).stdout if host else \
                c(f"subprocess.run({words}, stdout=subprocess.PIPE).stdout.decode()")
            found, = json.loads(found)
            assert found["address"] == link["mac"]
            assert found["mtu"] == link.get("mtu", found["mtu"])
        assert (e["name"], e["network"], e["kind"], e["cgroup"], e["pids"]) == \
            (c.id, "default", "plain", None, None)
        if version >= "0.4.0":
            assert c.check(version=version) is None
        else:
            assert "0.4.0" in fails(1, c.check, version=version)
        assert c.delete(version=version) is None
        assert c("[i[1] for i in socket.if_nameindex()]") == ["lo"]
        assert c.delete(version=version, netns=False) is None
    assert traces(lab, "h1") == before


def test_version(lab):
    answer = plugin(lab, "h1", "VERSION", {"cniVersion": "1.0.0"})
    assert answer == {"cniVersion": "1.0.0", "supportedVersions": VERSIONS}
    assert plugin(lab, "h1", "VERSION", {})["supportedVersions"] == VERSIONS
    fails(6, plugin, lab, "h1", "VERSION", "")


def test_both_families(lab):
    with lab_up(hosts=1, overlay="46") as both, namespace(both, "h1") as c:
        addresses = [ip["address"] for ip in c.add()["ips"]]
        assert [a.partition("/")[2] for a in addresses] == ["32", "128"]
        assert [r["dst"] for r in c.result["routes"]] == ["0.0.0.0/0", "::/0"]
        assert c.check() is None
        with Remote.slim(both, "h1", "slim") as slim:
            slim.do(SERVE + "serve6 = socket.create_server(('::', 81), family=socket.AF_INET6)")
            assert c.remote("socket.create_connection"
                            f"(('{both.ip('slim', '6')}', 81)).getsockname()[0]") == \
                addresses[1].partition("/")[0]
        assert c.delete() is None


def test_names_and_networks(lab):
    lab.ctl("h1", "network", "create", "shop", "--prefix", "10.91.0.0/16")
    with namespace(lab, "h1") as c:
        c.args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=1;A=b"
        c.add()
        assert (c.endpoint["name"], c.endpoint["network"]) == ("web-0", "shop")
        assert c.address.startswith("10.91.")
        c.delete()
        c.add(network="default")
        assert (c.endpoint["name"], c.endpoint["network"]) == ("web-0", "default")
        c.delete()
        c.args, c.id = None, "Ab_" + "c" * 80
        c.add()
        name = c.endpoint["name"]
        assert name.startswith("ab-ccc") and len(name) == 63
        c.delete()
        c.add()
        assert c.endpoint["name"] == name
        c.delete()
        c.args = "K8S_POD_NAMESPACE=nowhere"
        assert "nowhere" in fails(100, c.add)
    lab.ctl("h1", "network", "rm", "shop")


def test_a_second_interface(lab, peers):
    """In the same network and in another one: each answers by where it was asked."""
    lab.ctl("h1", "network", "create", "other", "--prefix", "10.92.0.0/16")
    before = traces(lab, "h1")
    with Remote.slim(lab, "h2", "there", network="other") as there, attached(lab, "h1") as c:
        there.do(SERVE)
        first = c.result
        for interface, network in (("net1", "default"), ("net2", "other")):
            more = Container(lab, "h1", c.remote)
            more.id, more.interface = c.id, interface
            more.add(network=network)
            assert more.endpoint["name"] == f"{c.id}-{interface}"
            assert [r["dst"] for r in more.result["routes"]] == \
                ([] if network == "default" else ["10.92.0.0/16"])
            assert more.check() is None
            asks = peers["slim"] if network == "default" else there
            assert asks(f"ask('{more.address}', 80)") == b"hello"
            assert peers["slim"](f"ask('{c.address}', 80)") == b"hello"
            name, port = (("slim", 80) if network == "default" else ("there", 80))
            address = lab.ip(name) if name == "slim" else \
                lab.ctl("h2", "endpoint", "show", "there", "--network", "other")["endpoint"]["address"]
            assert c(f"ask('{address}', {port}, '{more.address}')") == b"hello"
            assert c(f"ask('{address}', {port})") == b"hello"
            more.delete()
            assert c.check(prevResult=first) is None
        assert "lookup" not in c("subprocess.run(['ip', 'rule', 'show', 'priority', '20000'], "
                                 "stdout=subprocess.PIPE).stdout.decode()")
    wait_until(lambda: traces(lab, "h1") == before, "everything to go")
    wait_until(lambda: not lab.ctl("h1", "endpoint", "ls", "--network", "other")["endpoints"],
               "the network to be empty")
    lab.ctl("h1", "network", "rm", "other")


# --- traffic --------------------------------------------------------------------------------------


def test_who_reaches_whom(lab, peers):
    with attached(lab, "h1") as a, attached(lab, "h2") as b, attached(lab, "h1") as near:
        for one, other in itertools.permutations((a, b, near), 2):
            assert one(f"ask('{other.address}', 80)") == b"hello"
            assert one(f"ask_udp('{other.address}', 53)") == b"hello"
        for name, r in peers.items():
            address = lab.ip(name)
            assert r(f"ask('{a.address}', 80)") == b"hello"
            assert r(f"ask_udp('{a.address}', 53)") == b"hello"
            assert a(f"ask('{address}', 80)") == b"hello"
            assert a(f"ask_udp('{address}', 53)") == b"hello"
        # And a host reaches it.
        with Remote.host(lab, "h2") as host:
            assert host(f"connect('{a.address}', 80).getpeername()[0]") == a.address
        assert peers["slim"](f"outcome('{a.address}', 82)") == "ECONNREFUSED"
    assert peers["slim"](f"outcome('{a.address}', 80)") == "EHOSTUNREACH"


def test_bandwidth(lab, peers):
    limits = {"ingressRate": 50 * MEGA, "ingressBurst": 8 * MEGA, "egressRate": 200 * MEGA,
              "egressBurst": 2**31 - 1}
    with attached(lab, "h1", runtimeConfig={"bandwidth": limits}) as c:
        shown = lab.ctl("h1", "endpoint", "show", c.id)["endpoint"]
        assert shown["limits"] == {"ingress": 50 * MEGA, "egress": 200 * MEGA}
        r = peers["plain"]
        r.do("l = socket.create_server(('', 5000))\n"
             "got = 0\n"
             "def count():\n"
             "    global got\n"
             "    s = l.accept()[0]\n"
             "    s.settimeout(None)\n"
             "    while m := s.recv(1 << 18):\n"
             "        got += len(m)\n"
             "threading.Thread(target=count, daemon=True).start()\n")
        c.remote.do(f"s = connect('{lab.ip('plain')}', 5000)\n"
                    "s.settimeout(None)\n"
                    "stop = False\n"
                    "def send():\n"
                    "    while not stop:\n"
                    "        s.sendall(bytes(1 << 14))\n"
                    "    s.close()\n"
                    "t = threading.Thread(target=send)\n"
                    "t.start()\n")
        wait_until(lambda: r("got") > 0, "anything to arrive")
        time.sleep(0.3)  # what the queue, the burst and the buffers took at once
        rates = []
        for _ in range(5):  # a machine that stood still meanwhile is asked again
            began, before = time.monotonic(), r("got")
            time.sleep(1)
            rates.append((r("got") - before) * 8 / (time.monotonic() - began))
            if abs(rates[-1] / (200 * MEGA * FRAME) - 1) < 0.05:
                break
        else:
            pytest.fail(f"expected {200 * FRAME:.1f} Mbit/s of payload, got {rates}")
        c.remote.do("stop = True; t.join()")
        # As of any other container.
        assert lab.ctl("h1", "endpoint", "limit", c.id, "--egress", "none")["endpoint"]["limits"] \
            == {"ingress": 50 * MEGA}
    assert "slim-limit" not in devices(lab, "h1")


def test_port_mappings(lab):
    mappings = [{"hostPort": 8080, "containerPort": 80, "protocol": "TCP", "hostIP": ""},
                {"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": H1},
                {"hostPort": 0, "containerPort": 9, "protocol": "tcp"}]
    before = traces(lab, "h1")
    with Remote.host(lab, "h2") as h2:
        h2.do(SERVE)
        with attached(lab, "h1", runtimeConfig={"portMappings": mappings}) as c:
            assert c.endpoint["publish"] == ["8080:80/tcp", f"{H1}:5353:53/udp"]
            assert h2(f"ask('{H1}', 8080)") == b"hello"
            assert h2(f"ask_udp('{H1}', 5353)") == b"hello"
            with namespace(lab, "h1") as second:
                text = fails(100, second.add, runtimeConfig={"portMappings": mappings[:1]})
                assert "8080" in text and c.id in text
                assert second.endpoint is None
            # Held without slimd, which the next one takes over.
            daemon(lab, "kill")
            assert h2(f"ask('{H1}', 8080)") == b"hello"
            daemon(lab, "start")
            assert h2(f"ask('{H1}', 8080)") == b"hello"
            assert h2(f"ask_udp('{H1}', 5353)") == b"hello"
        assert h2(f"outcome('{H1}', 8080)") == "ECONNREFUSED"
    assert traces(lab, "h1") == before


def test_ports_that_the_runtime_holds(lab):
    """A host's program has the port, and the container gets what comes to it."""
    before = traces(lab, "h1")
    more = {"portsHeld": True,
            "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}}
    with Remote.host(lab, "h2") as h2, Remote.host(lab, "h1") as h1:
        h2.do(SERVE)
        h1.do("l = socket.create_server(('', 8080))")
        with attached(lab, "h1", **more) as c:
            assert c.endpoint["broker_pid"] == 0
            assert h2(f"ask('{H1}', 8080)") == b"hello"
            for how in ("kill", "stop"):
                daemon(lab, how)
                assert h2(f"ask('{H1}', 8080)") == b"hello"
                daemon(lab, "start")
                assert c.endpoint["publish"] == ["8080:80/tcp"]
                assert h2(f"ask('{H1}', 8080)") == b"hello"
            with namespace(lab, "h1") as second:
                assert c.id in fails(100, second.add, **more)
        assert not h1("pending(l)")
        assert h2(f"outcome('{H1}', 8080)") == "ok" and h1("pending(l)")
    assert traces(lab, "h1") == before


def test_wanted_addresses(lab):
    before = traces(lab, "h1")
    with namespace(lab, "h1") as a, namespace(lab, "h1") as b:
        a.add(runtimeConfig={"ips": ["10.77.200.9/16"]})
        assert a.address == "10.77.200.9"
        text = fails(100, b.add, runtimeConfig={"ips": ["10.77.200.9"]})
        assert "10.77.200.9" in text and "taken" in text
        assert "10.99.0.1" in fails(100, b.add, runtimeConfig={"ips": ["10.99.0.1"]})
        assert b.endpoint is None and b("[i[1] for i in socket.if_nameindex()]") == ["lo"]
        a.delete()
        b.add(runtimeConfig={"ips": ["10.77.200.9"]})
        b.delete()
        # The older way.
        b.args = "IP=10.77.200.9/16;K8S_POD_NAME=web"
        b.add()
        assert b.address == "10.77.200.9"
        b.delete()
        b.add(runtimeConfig={"ips": ["10.77.200.10"]})
        assert b.address == "10.77.200.10"
        b.delete()
        for bad in ("ten", "10.77.200.9,10.77.200.10", "10.77.200.9,"):
            b.args = f"IP={bad}"
            assert "CNI_ARGS" in fails(4, b.add)
    assert traces(lab, "h1") == before


def policy(lab, *words, text=None):
    done = subprocess.run(lab.command("ctl", "h1", "--", "policy", *words), input=text, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr


def test_policies_and_labels(lab, peers):
    """By labels that it is given later; an open connection ends too."""
    with attached(lab, "h1") as c:
        r = peers["slim"]
        lab.ctl("h1", "endpoint", "label", c.id, "app=cni")
        assert c.endpoint["labels"] == {"app": "cni"}
        r.do(f"s = connect('{c.address}', 80); s.sendall(b'x'); s.recv(1)")
        policy(lab, "apply", "-f", "-", text="""
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: cni}
spec:
  podSelector: {matchLabels: {app: cni}}
  ingress:
  - from: [{podSelector: {matchLabels: {may: "yes"}}}]
    ports: [{port: 80}]
""")
        try:
            moved = Moved(lab, "h1")
            wait_until(lambda: r(f"outcome('{c.address}', 80)") == "silence", "it to be denied")
            assert moved()
            c.remote.do("pass")
            # The container's end of the open one is gone: of a plain container, by its namespace.
            wait_until(lambda: f"{c.address}:80 " not in
                       c("subprocess.run(['ss', '-Htn', 'state', 'established'], "
                         "stdout=subprocess.PIPE).stdout.decode()"), "the open one to end")
            lab.ctl("h2", "endpoint", "label", "slim", "may=yes")
            wait_until(lambda: r(f"outcome('{c.address}', 80)") == "ok", "it to be allowed")
            assert r(f"outcome('{c.address}', 53)") == "silence"
            daemon(lab, "kill")
            assert r(f"outcome('{c.address}', 80)") == "ok"
            daemon(lab, "start")
            assert c.endpoint["labels"] == {"app": "cni"}
            assert r(f"outcome('{c.address}', 53)") == "silence"
        finally:
            policy(lab, "rm", "cni")
            lab.ctl("h2", "endpoint", "label", "slim", "may-")


# --- slimd and namespaces that come and go --------------------------------------------------------


def test_it_outlives_slimd(lab, peers):
    limits = {"bandwidth": {"ingressRate": 900 * MEGA}}
    with attached(lab, "h1", runtimeConfig=limits) as c, attached(lab, "h2") as far:
        r = peers["slim"]
        c.remote.do(f"held = connect('{far.address}', 80)")
        still = "(held.sendall(b'still'), held.recv(9))[1]"
        before = c.endpoint
        for how in ("kill", "stop", "kill"):
            daemon(lab, how)
            assert c(still) == b"still"
            assert c(f"ask('{far.address}', 80)") == b"hello"
            assert r(f"ask('{c.address}', 80)") == b"hello"
            daemon(lab, "start")
            assert c(still) == b"still"
            assert c.endpoint == before
            assert c.check() is None
            assert r(f"ask('{c.address}', 80)") == b"hello"
            assert c(f"ask_udp('{far.address}', 53)") == b"hello"
        there = lab.ctl("h2", "endpoint", "show", c.id)["endpoint"]
        assert there["address"] == c.address and there["limits"] == {"ingress": 900 * MEGA}


def test_del_without_slimd_loses_nothing(lab):
    before = traces(lab, "h1")
    with namespace(lab, "h1") as c:
        c.add(runtimeConfig={"portMappings": [{"hostPort": 8080, "containerPort": 80}]})
        for how in ("kill", "stop"):
            daemon(lab, how)
            assert "slimd" in fails(11, c.delete)
            with namespace(lab, "h1") as other:
                fails(11, other.add)
                fails(11, c.call, "GC", **{"cni.dev/valid-attachments": []})
            fails(11, c.check)
            fails(50, c.call, "STATUS")
            daemon(lab, "start")
            assert c.endpoint and c.check() is None
            assert c.call("STATUS") is None
        c.delete()
        c.delete()
    assert traces(lab, "h1") == before


def test_del_after_the_namespace_went(lab):
    before = traces(lab, "h1")
    with namespace(lab, "h1") as c:
        c.add(runtimeConfig={"portMappings": [{"hostPort": 8080, "containerPort": 80}]})
    assert not os.path.exists(c.netns)
    assert c.endpoint
    fails(4, c.check)
    c.delete()
    c.delete(netns=False)
    assert traces(lab, "h1") == before


def test_a_namespace_that_went_without_slimd(lab, peers):
    """As after a boot: it is cleared away, and its name, address and ports are free."""
    before = traces(lab, "h1")
    more = {"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}],
                              "bandwidth": {"egressRate": 20 * MEGA}}}
    with namespace(lab, "h1") as c:
        c.add(**more)
        more["runtimeConfig"]["ips"] = [c.address]
        daemon(lab, "kill")
    device = c.result["interfaces"][0]["name"]
    wait_until(lambda: device not in devices(lab, "h1"), "the namespace to go")
    daemon(lab, "start")
    assert c.endpoint is None
    assert traces(lab, "h1") == before
    c.delete()
    with namespace(lab, "h1") as again:
        again.id = c.id
        again.add(**more)
        again.delete()
    assert traces(lab, "h1") == before


def test_a_path_that_leads_elsewhere(lab, peers, tmp_path):
    """The namespace lives, but not under its path: the container keeps its network."""
    path = tmp_path / "netns"
    with namespace(lab, "h1") as c, namespace(lab, "h1") as stranger:
        path.symlink_to(c.netns)
        c.netns = str(path)
        c.add()
        c.remote.do(SERVE)
        for target in (stranger.netns, "/nonexistent"):
            daemon(lab, "kill")
            path.unlink()
            path.symlink_to(target)
            daemon(lab, "start")
            assert c.endpoint
            assert peers["slim"](f"ask('{c.address}', 80)") == b"hello"
        c.delete()
        assert c.endpoint is None
        assert c("[i[1] for i in socket.if_nameindex()]") == ["lo"]
        assert stranger("[i[1] for i in socket.if_nameindex()]") == ["lo"]


def test_teardown_takes_attachments_along():
    with lab_up(hosts=1) as own, namespace(own, "h1") as c:
        c.add(runtimeConfig={"portMappings": [{"hostPort": 8080, "containerPort": 80}]})
        own.verb("daemon", "h1", "stop")
        base = f"/run/slim-lab/{own.id}"
        cgroup = next(line.split()[4] for line in open("/proc/self/mountinfo")
                      if line.split(" - ")[1].split()[0] == "cgroup2")
        own.host("h1", BUILD / "src/slimd/slimd", "--teardown", "--run-dir", f"{base}/h1/run",
                 "--bpf-dir", f"/sys/fs/bpf/slim-lab-{own.id}/h1", "--cgroup",
                 f"{cgroup}/slim-lab-{own.id}/h1/slim", "--store", f"sqlite:{base}/store",
                 "--host-name", "h1", "--underlay", "uplink")
        assert c("[i[1] for i in socket.if_nameindex()]") == ["lo"]
        assert not [d for d in devices(own, "h1") if d.startswith("slim")]
        own.verb("daemon", "h1", "start")
        assert c.endpoint is None
        c.delete()


# --- CHECK, GC, STATUS ----------------------------------------------------------------------------


def test_check_finds_what_is_missing(lab):
    with attached(lab, "h1") as c:
        ip = "subprocess.run(['ip', *'{}'.split()], check=True)"
        assert c.check() is None
        for undo, redo in ((f"addr del {c.address}/32 dev eth0", f"addr add {c.address}/32 dev eth0"),
                           ("route del default",
                            "route add default via 169.254.1.1 dev eth0 onlink"),
                           ("link set eth0 down", None)):
            c.remote.do(ip.format(undo))
            fails(101, c.check)
            if redo:
                c.remote.do(ip.format(redo))
                if "addr" in redo:
                    c.remote.do(ip.format("route replace default via 169.254.1.1 dev eth0 onlink"))
                assert c.check() is None
        c.remote.do(ip.format("link set eth0 up"))
        c.remote.do(ip.format("route replace default via 169.254.1.1 dev eth0 onlink"))
        assert c.check() is None
        # Others' interfaces and routes are theirs.
        more = json.loads(json.dumps(c.result))
        more["interfaces"].append({"name": "dummy0", "sandbox": c.netns})
        more["routes"].append({"dst": "10.1.0.0/16", "gw": "10.1.0.1"})
        assert c.check(prevResult=more) is None
        more["ips"][0]["address"] = "10.77.99.99/32"
        assert c.address in fails(101, c.check, prevResult=more)
        fails(7, c.check, prevResult={"interfaces": []})
        fails(7, c.check, prevResult=None)
        c.remote.do(ip.format("link del eth0"))
        fails(101, c.check)
        c.delete()
        fails(3, c.check)


def test_gc(lab):
    before = traces(lab, "h1")
    with contextlib.ExitStack() as stack:
        a, b, c, other = (stack.enter_context(namespace(lab, "h1", name))
                          for name in ("pods", "pods", "pods", "pods2"))
        for x in (a, b, c, other):
            x.add()
        gc = collector(a)
        assert gc([{"containerID": x.id, "ifname": "eth0"} for x in (a, b, c)]) is None
        assert all(x.endpoint for x in (a, b, c, other))
        assert gc([{"containerID": a.id, "ifname": "eth0"},
                   {"containerID": b.id, "ifname": "eth1"}]) is None
        assert a.endpoint and other.endpoint and not b.endpoint and not c.endpoint
        for bad in ({}, "x", [1], [{"containerID": "x"}], [{"containerID": 1, "ifname": "eth0"}]):
            fails(7, gc, bad)
        fails(7, a.call, "GC")  # it does not mean that there are none
        assert "1.1.0" in fails(1, a.call, "GC", version="1.0.0",
                                **{"cni.dev/valid-attachments": []})
        assert a.endpoint
        assert gc(None) is None  # which is what a list without elements is in some runtimes
        assert not a.endpoint and other.endpoint
        other.delete()
    assert traces(lab, "h1") == before


def collector(container):
    def gc(valid):
        return plugin(container.lab, container.host, "GC",
                      container.config(**{"cni.dev/valid-attachments": valid}))
    return gc


def test_status_of_the_store():
    with lab_up(hosts=1) as own, namespace(own, "h1") as c:
        assert c.call("STATUS") is None
        fails(1, c.call, "STATUS", version="1.0.0")
        store = pathlib.Path(f"/run/slim-lab/{own.id}/store")
        away = store.with_name("away")
        c.add()
        with namespace(own, "h1") as other:
            store.rename(away)
            wait_until(lambda: own.ctl("h1", "status")["store_error"], "slimd to see it")
            assert "store" in fails(51, c.call, "STATUS")
            assert "store" in fails(11, other.add)
            assert c.check() is None
            c.delete()  # which the store hears of when it is back
            assert c("[i[1] for i in socket.if_nameindex()]") == ["lo"]
            away.rename(store)
            wait_until(lambda: own.ctl("h1", "status")["store_error"] is None, "the store")
            assert c.call("STATUS") is None
            wait_until(lambda: not own.ctl("h1", "endpoint", "ls")["endpoints"], "it to go")
            other.id = c.id
            other.add()
            other.delete()


# --- what is refused ------------------------------------------------------------------------------

HUGE = b'{"cniVersion": "1.1.0", "x": "' + bytes(5 << 20).replace(b"\0", b"x") + b'"}'


@pytest.mark.parametrize("text, code", [
    (b"", 6), (b"{", 6), (b"[]", 6), (b"7", 6), (b"\xff\xfe", 6), (b'{"a": "\xff"}', 6),
    (b"[" * 100000, 6), (b'{"a":' * 100000, 6), (HUGE, 6),
    (b"{}", 1), (b'{"cniVersion": "0.2.0", "name": "x"}', 1), (b'{"cniVersion": 1}', 7),
    (b'{"cniVersion": "1.1.0"}', 7), (b'{"cniVersion": "1.1.0", "name": "a b"}', 7),
    (b'{"cniVersion": "1.1.0", "name": "x", "network": 1}', 7),
    (b'{"cniVersion": "1.1.0", "name": "x", "runDir": "run"}', 7),
    (b'{"cniVersion": "1.1.0", "name": "x", "dns": "x"}', 7),
    (b'{"cniVersion": "1.1.0", "name": "x", "runtimeConfig": []}', 7),
    (b'{"cniVersion": "1.1.0", "name": "x", "runtimeConfig": {"ips": 5}}', 7),
    (b'{"cniVersion": "1.1.0", "name": "x", "prevResult": {}}', 7),
], ids=lambda v: repr(v[:20]) if isinstance(v, bytes) else str(v))
def test_garbage(lab, text, code):
    fails(code, plugin, lab, "h1", "ADD", text, CNI_CONTAINERID="x", CNI_IFNAME="eth0",
          CNI_NETNS="/proc/self/ns/net")


def test_environment(lab):
    with namespace(lab, "h1") as c:
        whole = {"CNI_CONTAINERID": c.id, "CNI_IFNAME": "eth0", "CNI_NETNS": c.netns}

        def call(command="ADD", **variables):
            changed = {k: v for k, v in {**whole, **variables}.items() if v is not None}
            return plugin(lab, "h1", command, c.config(), **changed)

        assert "CNI_COMMAND" in fails(4, call, None)
        assert "WHAT" in fails(4, call, "WHAT")
        for command in ("ADD", "DEL", "CHECK"):
            for name in whole:
                if name != "CNI_NETNS" or command != "DEL":
                    assert name in fails(4, call, command, **{name: None})
                    assert name in fails(4, call, command, **{name: ""})
        for name, bad in (("CNI_CONTAINERID", "-x"), ("CNI_CONTAINERID", "x" * 300),
                          ("CNI_IFNAME", "a" * 16), ("CNI_IFNAME", "a/b"),
                          ("CNI_NETNS", "netns"), ("CNI_NETNS", "/nonexistent"),
                          ("CNI_NETNS", "/dev/null"), ("CNI_ARGS", "FOO=BAR"),
                          ("CNI_ARGS", "IgnoreUnknown=1;FOO")):
            assert name in fails(4, call, **{name: bad})
        # A namespace, but none to be attached.
        fails(100, call, CNI_NETNS=f"/proc/{c.remote.pid}/ns/mnt")
        assert "own" in fails(100, call, CNI_NETNS="/proc/self/ns/net")
        assert "lo" in fails(100, call, CNI_IFNAME="lo")
        assert c.endpoint is None


def api(lab, method, parameters, files=()):
    """A call of slimd's API itself: its answer, or (errno, sentence)."""
    with contextlib.ExitStack() as stack:
        s = stack.enter_context(socket.socket(socket.AF_UNIX))
        fds = [stack.enter_context(open(f)).fileno() for f in files]
        s.settimeout(PATIENCE)
        s.connect(f"{run_dir(lab, 'h1')}/slimd.sock")
        call = json.dumps({"method": method, "parameters": parameters}).encode() + b"\0"
        socket.send_fds(s, [call[:1]], fds) if fds else s.send(call[:1])
        s.sendall(call[1:])
        text = b""
        while not text.endswith(b"\0"):
            text += s.recv(1 << 16)
    answer = json.loads(text[:-1])
    return answer["parameters"] if "parameters" in answer else (answer["errno"], answer["error"])


def test_what_the_api_refuses(lab):
    before = traces(lab, "h1")
    with namespace(lab, "h1") as c:
        whole = {"name": "x", "attachment": "a", "netns": c.netns}

        def refused(word, files=(c.netns,), **changed):
            number, sentence = api(lab, "Endpoint.Attach", {**whole, **changed}, files)
            assert number == errno.EINVAL and word in sentence, sentence

        refused("name", name="X")
        refused("attachment", attachment="")
        refused("512", attachment="a" * 513)
        refused("blanks", attachment="a b")
        refused("ASCII", attachment="\u00e4")
        refused("absolute", netns="x")
        refused("absolute", netns="/" + "x" * 5000)
        refused("interface", interface="")
        refused("interface", interface="x" * 16)
        refused("interface", interface="a/b")
        refused("parameters", interface=7)
        refused("parameters", pid=7)
        refused("parameters", ports_held="x")
        refused("descriptor", ())
        refused("descriptor", (c.netns, c.netns))
        refused("namespace", ("/dev/null",))
        refused("namespace", (f"/proc/{c.remote.pid}/ns/mnt",))
        assert api(lab, "Endpoint.Detach", {})[0] == errno.EINVAL
        assert api(lab, "Endpoint.Detach", {"attachment": "a b"})[0] == errno.EINVAL
        assert api(lab, "Endpoint.Detach", {"attachment": "a"}) == {"found": False}
        made = api(lab, "Endpoint.Attach", {**whole, "labels": {"app": "x"}, "ports": {"web": "80"},
                                            "interface": "net.7"}, [c.netns])
        shown = lab.ctl("h1", "endpoint", "show", "x")["endpoint"]
        assert made["endpoint"] == shown
        assert (shown["labels"], shown["ports"]) == ({"app": "x"}, {"web": "80/tcp"})
        assert (shown["attachment"], shown["netns"], shown["interface"]) == ("a", c.netns, "net.7")
        daemon(lab, "kill")
        daemon(lab, "start")
        assert lab.ctl("h1", "endpoint", "show", "x")["endpoint"] == shown
        assert api(lab, "Endpoint.List", {"attached": "b"}) == {"endpoints": []}
        assert api(lab, "Endpoint.List", {"attached": ""}) == {"endpoints": [shown]}
        assert api(lab, "Endpoint.Detach", {"attachment": "a"}) == {"found": True}
    assert traces(lab, "h1") == before


def test_twice(lab):
    """The second ADD changes nothing about the first one."""
    with attached(lab, "h1") as c, namespace(lab, "h1") as other:
        result = c.result
        before = traces(lab, "h1")
        assert "eth0" in fails(100, c.add)
        other.id = c.id
        assert c.id in fails(100, other.add)
        other.id, other.args = "x", f"K8S_POD_NAME={c.endpoint['name']}"
        assert "taken" in fails(100, other.add)
        assert traces(lab, "h1") == before
        assert c.check(prevResult=result) is None


def test_many_at_once(lab):
    """Containers that come and go at the same time, as a runtime starts them."""
    before = traces(lab, "h1")
    with contextlib.ExitStack() as stack:
        containers = [stack.enter_context(namespace(lab, "h1")) for _ in range(8)]

        def all_of(command):
            processes = []
            for c in containers:
                words = ["env", f"CNI_COMMAND={command}", f"CNI_CONTAINERID={c.id}",
                         "CNI_IFNAME=eth0", f"CNI_NETNS={c.netns}", PLUGIN]
                processes.append(subprocess.Popen(lab.command("host", "h1", "--", *words),
                                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            for c, p in zip(containers, processes):
                out = p.communicate(json.dumps(c.config()).encode(), PATIENCE)[0]
                assert p.returncode == 0, out
                c.result = json.loads(out or "null")

        all_of("ADD")
        assert len({c.result["ips"][0]["address"] for c in containers}) == len(containers)
        all_of("DEL")
    assert traces(lab, "h1") == before
