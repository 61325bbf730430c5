# SPDX-License-Identifier: Apache-2.0
"""
The host as an endpoint: its own processes (a health check, say) reach containers here and on other
hosts at their overlay addresses; Slim ones as Slim containers do, plain ones by VXLAN.
"""

import contextlib
import errno
import json

import pytest

from conftest import lab_up, wait_until
from remote import PYTHON, Moved, Remote

NAMES = {"slim": ("h1", "slim"), "far": ("h2", "slim"), "plain": ("h1", "plain"),
         "plainfar": ("h2", "plain")}


@pytest.fixture(scope="module")
def containers(lab):
    with contextlib.ExitStack() as stack:
        found = {name: stack.enter_context(getattr(Remote, kind)(lab, host, name))
                 for name, (host, kind) in NAMES.items()}
        for r in found.values():
            r.do("reuse = [(socket.SOL_SOCKET, socket.SO_REUSEADDR)]")
            r.do("u = socket.socket(type=socket.SOCK_DGRAM); u.bind(('', 5000))")
        yield found


@pytest.fixture(scope="module")
def host(lab):
    with Remote.host(lab, "h1") as h:
        yield h


def own(lab, host="h1"):
    """A host's own overlay address."""
    return next(e["address"] for e in lab.ctl("h1", "endpoint", "ls", "--all")["endpoints"]
                if e["kind"] == "host" and e["host"] == host)


def encapsulated(lab, host):
    """What a host's VXLAN device and its veths have carried."""
    done = lab.host(host, "ip", "-j", "-s", "link")
    return sum(x["stats64"][d]["packets"] for x in json.loads(done.stdout) if x["ifname"] != "lo"
               and x["ifname"] != "uplink" for d in ("rx", "tx"))


@pytest.mark.parametrize("name", NAMES)
def test_a_connection(lab, containers, host, name):
    server = containers[name]
    server.do("l = listen('0.0.0.0', 80, options=reuse)")
    before = encapsulated(lab, "h1"), encapsulated(lab, "h2")
    host.do(f"s = connect('{lab.ip(name)}', 80)")
    mine, peer = host("names(s)")
    assert (mine[0], peer) == (own(lab), (lab.ip(name), 80))
    server.do("c, who, its = accept(l)")
    assert server("who") == mine
    assert server("its") == (peer, mine)
    host.do("t = threading.Thread(target=lambda: (s.sendall(bytes(3 << 20)), "
            "s.shutdown(socket.SHUT_WR))); t.start()")
    assert server("len(c.makefile('rb').read())") == 3 << 20
    server.do("c.sendall(b'done'); c.close(); l.close()")
    assert host("s.makefile().read()") == "done"
    host.do("t.join(); s.close()")
    assert host(f"connect_error('{lab.ip(name)}', 80)") == "ECONNREFUSED"
    moved = (encapsulated(lab, "h1"), encapsulated(lab, "h2")) != before
    assert moved == (NAMES[name][1] == "plain")


@pytest.mark.parametrize("name", NAMES)
def test_datagrams_and_ping(lab, containers, host, name):
    host.do(f"d = socket.socket(type=socket.SOCK_DGRAM); d.sendto(b'x' * 3000, ('{lab.ip(name)}', 5000))")
    containers[name].do("m, who = u.recvfrom(1 << 16); u.sendto(m, who)")
    assert containers[name]("who[0], len(m)") == (own(lab), 3000)
    assert host("d.recvfrom(1 << 16)[1]") == (lab.ip(name), 5000)
    host.do("d.close()")
    assert "1 received" in lab.host("h1", "ping", "-c1", "-W20", lab.ip(name)).stdout


def test_a_v6_socket(lab, containers, host):
    containers["far"].do("l = listen('::', 81, socket.AF_INET6)")
    host.do(f"s = connect('::ffff:{lab.ip('far')}', 81, socket.AF_INET6)")
    assert host("s.getsockname()[0], s.getpeername()[0]") == (f"::ffff:{own(lab)}",
                                                              f"::ffff:{lab.ip('far')}")
    assert containers["far"]("accept(l)[1][0]") == f"::ffff:{own(lab)}"
    host.do("s.close()")
    containers["far"].do("l.close()")


def test_nobody_is_unreachable(lab, host):
    moved = Moved(lab, "h1")
    assert host(f"connect_error('{lab.ip('ghost')}', 80)") == "EHOSTUNREACH"
    assert moved("connect_no_endpoint") == {"connect_no_endpoint": 1}


def test_its_other_connections_are_its_own(lab, containers, host):
    """Loopback, other machines, one socket for one after another: as without Slim."""
    containers["far"].do("l = listen('0.0.0.0', 82)")
    with Remote.host(lab, "net") as outside:
        outside.do("o = listen('0.0.0.0', 82)")
        host.do("""
h = listen('127.0.0.1', 82)
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
s = socket.socket()
def again(address):
    assert libc.connect(s.fileno(), bytes(16), 16) == 0
    s.connect((address, 82))
    return names(s)
""")
        for _ in range(2):
            mine, peer = host("again('127.0.0.1')")
            assert (mine[0], peer) == ("127.0.0.1", ("127.0.0.1", 82))
            assert host("accept(h)[1]") == mine
            mine, peer = host(f"again('{lab.ip('far')}')")
            assert (mine[0], peer) == (own(lab), (lab.ip("far"), 82))
            assert containers["far"]("accept(l)[1]") == mine
            mine, peer = host("again('192.0.2.254')")
            assert (mine[0], peer) == ("192.0.2.1", ("192.0.2.254", 82))
            assert outside("accept(o)[1]") == mine
        assert host("connect_error('0.0.0.0', 82)") == "connected"
        assert host("connect_error('::', 82, socket.AF_INET6)") == "ECONNREFUSED"
    # And then it listens, as any socket of the host's.
    host.do("libc.connect(s.fileno(), bytes(16), 16); s.bind(('127.0.0.1', 0)); s.listen()")
    assert host("s.getsockname()[0]") == "127.0.0.1"
    assert host("connect_error(*s.getsockname())") == "connected"
    host.do("s.close(); h.close()")
    containers["far"].do("l.close()")


def test_containers_reach_the_host(lab, containers):
    """At its overlay address, by VXLAN: what listens there."""
    with Remote.host(lab, "h2") as h2:
        h2.do("h = listen('0.0.0.0', 83); u = socket.socket(type=socket.SOCK_DGRAM); "
              "u.bind(('0.0.0.0', 5001))")
        for name, r in containers.items():
            r.do(f"s = connect('{own(lab, 'h2')}', 83)")
            assert r("s.getpeername()") == (own(lab, "h2"), 83)
            who = h2("accept(h)[1]")
            # A swapped socket of the same host is one of its own.
            assert who[0] == (own(lab, "h2") if name == "far" else lab.ip(name))
            r.do(f"s.close(); u.sendto(b'x', ('{own(lab, 'h2')}', 5001))")
            assert h2("u.recvfrom(1)[1]") == (lab.ip(name), 5000)


def test_processes_of_another_namespace_are_not_the_host(lab):
    """Below the host's cgroup, but without the host's network."""
    with Remote.behind(lab, "h1") as other:
        assert other(f"connect_error('{lab.ip('slim')}', 80)") == "ENETUNREACH"


def test_a_new_slimd_has_the_same_address(lab, containers, host):
    before = own(lab), own(lab, "h2")
    lab.verb("daemon", "h1", "kill")
    containers["far"].do("l = listen('0.0.0.0', 84)")
    host.do(f"s = connect('{lab.ip('far')}', 84)")  # none is needed
    assert containers["far"]("accept(l)[1][0]") == before[0]
    lab.verb("daemon", "h1", "start")
    assert (own(lab), own(lab, "h2")) == before
    host.do(f"s.close(); s = connect('{lab.ip('far')}', 84); s.close()")
    containers["far"].do("l.close()")


def test_networks_come_and_go(lab, containers, host):
    lab.verb("ctl", "h2", "--", "network", "create", "blue", "--prefix", "10.91.0.0/16")
    with Remote.slim(lab, "h2", "bluish", network="blue") as server:
        address = lab.ctl("h1", "endpoint", "show", "bluish", "--network", "blue")["endpoint"]["address"]
        server.do("l = listen('0.0.0.0', 80)")
        host.do(f"s = connect('{address}', 80)")
        listed = lab.ctl("h1", "endpoint", "ls", "--all", "--network", "blue")["endpoints"]
        assert server("accept(l)[1][0]") in [e["address"] for e in listed
                                             if (e["kind"], e["host"]) == ("host", "h1")]
        host.do("s.close()")
        # The other network's address is not this one's.
        assert containers["slim"](f"connect_error('{address}', 80)") == "EHOSTUNREACH"
    wait_until(lambda: not lab.ctl("h1", "endpoint", "ls", "--network", "blue")["endpoints"],
               "the container to go")
    lab.verb("ctl", "h1", "--", "network", "rm", "blue")
    for h in "h1", "h2":
        wait_until(lambda: [e["network"] for e in lab.ctl(h, "endpoint", "ls", "--all")["endpoints"]
                            if e["kind"] == "host"] == ["default"] * 2, "the hosts to leave it")
        assert "10.91." not in lab.host(h, "ip", "addr").stdout
        assert "10.91." not in lab.host(h, "ip", "route", "show", "table", "all").stdout


def test_a_network_of_one_block_has_no_hosts(lab, host):
    lab.verb("ctl", "h1", "--", "network", "create", "tiny", "--prefix", "10.92.0.0/30")
    with Remote.plain(lab, "h1", "tiny1", network="tiny"), Remote.slim(lab, "h1", "tiny2",
                                                                       network="tiny") as server:
        listed = lab.ctl("h1", "endpoint", "ls", "--all", "--network", "tiny")["endpoints"]
        assert sorted(e["name"] for e in listed) == ["tiny1", "tiny2"]
        address = next(e["address"] for e in listed if e["name"] == "tiny2")
        server.do("l = listen('0.0.0.0', 80)")
        # No way in, rather than one with a wrong name.
        assert host(f"connect_error('{address}', 80)") != "connected"
    wait_until(lambda: not lab.ctl("h1", "endpoint", "ls", "--network", "tiny")["endpoints"],
               "the containers to go")
    lab.verb("ctl", "h1", "--", "network", "rm", "tiny")


def test_teardown_withdraws_it():
    with lab_up(hosts=2) as lab:
        lab.run("h2", "one", "true")
        assert own(lab) != own(lab, "h2")
        lab.verb("daemon", "h1", "stop")
        command = json.loads((f"{open(f'/run/slim-lab/{lab.id}/state.json').read()}"))
        build = command["build"]
        base = f"/run/slim-lab/{lab.id}"
        cgroup = next(line.split()[4] for line in open("/proc/self/mountinfo")
                      if line.split(" - ")[1].split()[0] == "cgroup2")
        lab.host("h1", f"{build}/src/slimd/slimd", "--teardown", "--run-dir", f"{base}/h1/run",
                 "--bpf-dir", f"/sys/fs/bpf/slim-lab-{lab.id}/h1", "--cgroup",
                 f"{cgroup}/slim-lab-{lab.id}/h1/slim", "--store", f"sqlite:{base}/store",
                 "--host-name", "h1", "--underlay", "uplink")
        wait_until(lambda: [e["host"] for e in lab.ctl("h2", "endpoint", "ls", "--all")["endpoints"]]
                   == ["h2"], "its endpoint to go")
        for words in (["rule"], ["-6", "rule"], ["addr"], ["route", "show", "table", "all"]):
            said = lab.host("h1", "ip", *words).stdout
            assert "2076" not in said and "10.77." not in said, said
