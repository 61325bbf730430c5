# SPDX-License-Identifier: Apache-2.0
"""
Published ports: who reaches them and from where, whom the server sees, what is refused, what
outlives what, and that nothing is left.
"""

import contextlib
import errno
import json
import os
import pathlib
import signal
import subprocess

import pytest

from conftest import PATIENCE, wait_until
from remote import Moved, PYTHON, Remote

H1, H2, OUTSIDE = "192.0.2.1", "192.0.2.2", "192.0.2.254"
H1_V6, OUTSIDE_V6 = "2001:db8::1", "2001:db8::254"
V6 = "socket.AF_INET6"

# A UDP server that answers with whom it sees, until it is told to end.
ECHO = """
import socket
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.bind(('', %d))
def _echo():
    while True:
        data, peer = u.recvfrom(2048)
        u.sendto(repr((data, peer)).encode(), peer)
u.settimeout(None)
threading.Thread(target=_echo, daemon=True).start()
"""

# What a client of ECHO learns: (its own name, the address that answered, the answer).
ASK = """
def ask(address, port, family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_DGRAM) as u:
        u.settimeout(1)
        for _ in range(20):
            u.sendto(b'hello', (address, port))
            try:
                data, peer = u.recvfrom(2048)
                return u.getsockname(), peer, eval(data)
            except TimeoutError:
                pass
"""


@contextlib.contextmanager
def published(lab, name, *ports, host="h1", kind="slim"):
    options = [word for p in ports for word in ("--publish", p)]
    with getattr(Remote, kind)(lab, host, name, options=options) as r:
        yield r
        r.do("[s.close() for s in list(globals().values()) if isinstance(s, socket.socket)]")


def refused(lab, *ports, name="refused", kind="run", status=1):
    """The line with which a container with these ports is refused; its program never ran."""
    mark = pathlib.Path(f"/run/slim-lab/{lab.id}/it-ran")
    options = [word for p in ports for word in ("--publish", p)]
    done = lab.verb(kind, "h1", name, *options, "--", "touch", mark, check=False)
    assert not mark.exists()
    assert done.returncode == status and done.stdout == "", done
    line, = done.stderr.splitlines()
    return line


@pytest.fixture(scope="module")
def h1(lab):
    with Remote.host(lab, "h1") as r:
        r.do(ASK)
        yield r


@pytest.fixture(scope="module")
def h2(lab):
    with Remote.host(lab, "h2") as r:
        yield r


@pytest.fixture(scope="module")
def outside(lab):
    """A machine of the underlay without Slim. It has IPv6 to h1."""
    lab.host("h1", "ip", "addr", "add", f"{H1_V6}/64", "dev", "uplink", "nodad")
    lab.host("net", "ip", "addr", "add", f"{OUTSIDE_V6}/64", "dev", "underlay", "nodad")
    with Remote.host(lab, "net") as r:
        r.do(ASK)
        yield r


@pytest.fixture(scope="module")
def near(lab):
    """A Slim container beside the one that publishes."""
    with Remote.slim(lab, "h1", "near") as r:
        r.do(ASK)
        yield r


@pytest.fixture(scope="module")
def near_plain(lab):
    with Remote.plain(lab, "h1", "near-plain") as r:
        r.do(ASK)
        yield r


def status(lab, host="h1"):
    return lab.ctl(host, "status")


def nothing_left(lab):
    """No container of h1 publishes anything, in the map or by translation."""
    assert status(lab)["maps"]["published"] == 0
    rules = lab.host("h1", "nft", "list", "table", "ip", "slim").stdout
    assert "dnat to" not in rules and "reject" not in rules, rules


def publishes(lab, name, host="h1"):
    return lab.ctl(host, "endpoint", "show", name)["endpoint"]["publish"]


def is_free(h1, port, kind="socket.SOCK_STREAM"):
    """Can a program of the host bind it now, asking for nothing?"""
    return h1(f"bind_error_of({port}, {kind})") == "bound"


def forget_time_wait(lab, port):
    """What is left of the connections of other tests, for a minute otherwise."""
    lab.host("h1", "ss", "-K", "state", "time-wait", "sport", "=", f":{port}")


@pytest.fixture(scope="module", autouse=True)
def bind_error_of(h1):
    h1.do("""
def bind_error_of(port, kind, address='0.0.0.0', options=()):
    with socket.socket(type=kind) as s:
        for o in options:
            s.setsockopt(socket.SOL_SOCKET, o, 1)
        try:
            s.bind((address, port))
        except OSError as e:
            return errno.errorcode[e.errno]
        return 'bound'
""")


# --- who reaches it, and whom the server sees -----------------------------------------------------


def test_everybody_reaches_it_and_is_seen(lab, outside, h1, h2, near, near_plain):
    """From outside, from both hosts, from containers of all kinds, and from itself."""
    with published(lab, "web", "8080:80") as web, \
            Remote.slim(lab, "h2", "far") as far, Remote.plain(lab, "h2", "far-plain") as far_plain:
        own = (lab.ip("web"), 80)
        web.do("l = listen('0.0.0.0', 80)")
        assert publishes(lab, "web") == ["8080:80/tcp"]
        callers = [
            # who, the address that it asks for, the address that the server sees
            (outside, H1, OUTSIDE), (h2, H1, H2), (h1, H1, H1), (h1, "127.0.0.1", "127.0.0.1"),
            (h1, "127.0.0.9", "127.0.0.1"), (near, H1, H1), (far, H1, H2),
            (near_plain, H1, lab.ip("near-plain")), (far_plain, H1, H2), (web, H1, H1),
        ]
        for who, address, seen in callers:
            who.do(f"s = connect('{address}', 8080)")
            web.do("c, a, n = accept(l)")
            local, peer = web("n")
            assert tuple(local) == own and web("a") == peer, (who.name, address)
            assert peer[0] == seen, (who.name, address)
            assert who("s.getpeername()[:2]") == (address, 8080)
            if who in (outside, h1, h2, near_plain):
                assert who("s.getsockname()[:2]") == tuple(peer)  # its real address and port
            who.do("s.send(b'there'); s.shutdown(socket.SHUT_WR)")
            assert web("c.recv(100), c.recv(100)") == (b"there", b"")
            web.do("c.send(b'back'); c.close()")
            assert who("s.recv(100), s.recv(100)") == (b"back", b"")
            who.do("s.close()")
        assert not web("pending(l)")
    nothing_left(lab)


@pytest.mark.parametrize("form,reached", [
    ("8080:80", {"4", "4other", "4lo", "6", "6lo"}),
    ("0.0.0.0:8080:80", {"4", "4other", "4lo"}),
    ("[::]:8080:80", {"6", "6lo"}),
    (f"{H1}:8080:80/tcp", {"4"}),
    (f"[{H1_V6}]:8080:80", {"6"}),
    ("127.0.0.1:8080:80", {"4lo"}),
    ("[::1]:8080:80", {"6lo"}),
])
def test_addresses(lab, outside, h1, form, reached):
    """Each form takes what it says and nothing else; a dual-stack listener serves both families."""
    lab.host("h1", "ip", "addr", "add", "192.0.2.77/32", "dev", "uplink")
    try:
        with published(lab, "web", form) as web:
            web.do(f"l = listen('::', 80, {V6})")
            ways = {
                "4": (outside, H1, "socket.AF_INET", "::ffff:" + OUTSIDE),
                "4other": (outside, "192.0.2.77", "socket.AF_INET", "::ffff:" + OUTSIDE),
                "4lo": (h1, "127.0.0.1", "socket.AF_INET", "::ffff:127.0.0.1"),
                "6": (outside, H1_V6, V6, OUTSIDE_V6),
                "6lo": (h1, "::1", V6, "::1"),
            }
            for way, (who, address, family, seen) in ways.items():
                if way not in reached:
                    assert who(f"connect_error('{address}', 8080, {family})") == "ECONNREFUSED", way
                    continue
                who.do(f"s = connect('{address}', 8080, {family})")
                web.do("c, a, n = accept(l)")
                assert web("a[0]") == seen, way
                assert web("n") == (("::ffff:" + lab.ip("web"), 80), web("a")), way
                who.do("s.close()")
    finally:
        lab.host("h1", "ip", "addr", "del", "192.0.2.77/32", "dev", "uplink")


def test_ranges(lab, outside):
    with published(lab, "web", "8000-8010:9000-9010", f"{H1}:7000-7001:7001-7002") as web:
        assert publishes(lab, "web") == ["8000-8010:9000-9010/tcp", f"{H1}:7000-7001:7001-7002/tcp"]
        assert status(lab)["maps"]["published"] == 24
        for host_port, port in (8000, 9000), (8005, 9005), (8010, 9010), (7000, 7001), (7001, 7002):
            web.do(f"l = listen('0.0.0.0', {port})")
            outside.do(f"s = connect('{H1}', {host_port})")
            assert web("accept(l)[2][0][1]") == port
            outside.do("s.close()")
            web.do("l.close()")
            assert outside(f"connect_error('{H1}', {host_port})") == "ECONNREFUSED"
        for port in 7999, 8011, 9000, 7002:
            assert outside(f"connect_error('{H1}', {port})") == "ECONNREFUSED"
    nothing_left(lab)


def test_what_list_and_show_print(lab):
    with published(lab, "web", "8080:80", f"{H1}:5353:53/udp"):
        text = lab.verb("ctl", "h1", "--", "endpoint", "ls").stdout
        assert "PUBLISHED" in text and f"8080:80/tcp, {H1}:5353:53/udp" in text
        assert f"8080:80/tcp, {H1}:5353:53/udp" in lab.verb("ctl", "h1", "--", "endpoint", "show",
                                                            "web").stdout
        # Also on the other host, which has it from the store.
        assert publishes(lab, "web", "h2") == ["8080:80/tcp", f"{H1}:5353:53/udp"]
        assert lab.ctl("h1", "endpoint", "ls")["endpoints"]
        connections = lab.ctl("h1", "connection", "ls", "--name", "web")["connections"]
        assert connections == []


def test_connection_ls_has_the_real_client(lab, outside):
    with published(lab, "web", "8080:80") as web:
        web.do("l = listen('0.0.0.0', 80)")
        outside.do(f"s = connect('{H1}', 8080)")
        web.do("c = l.accept()[0]")
        name = "%s:%d" % outside("s.getsockname()")
        c, = [c for c in lab.ctl("h1", "connection", "ls", "--name", "web")["connections"]
              if c["state"] == "established"]
        assert (c["local"], c["peer"]) == (f"{lab.ip('web')}:80", name)
        assert (c["host_local"], c["host_peer"]) == (f"{H1}:8080", name)
        assert c["peer_endpoint"] is None
        outside.do("s.close()")


# --- which listener -------------------------------------------------------------------------------


def test_no_listener_is_refused(lab, outside, h1):
    with published(lab, "web", "8080:80") as web:
        moved = Moved(lab, "h1")
        assert outside(f"connect_error('{H1}', 8080)") == "ECONNREFUSED"
        assert h1("connect_error('127.0.0.1', 8080)") == "ECONNREFUSED"
        # A loopback listener is the container's own affair, as it is natively.
        web.do(f"l = listen('127.0.0.1', 80); m = listen('::1', 80, {V6})")
        assert outside(f"connect_error('{H1}', 8080)") == "ECONNREFUSED"
        assert h1("connect_error('127.0.0.1', 8080)") == "ECONNREFUSED"
        assert h1(f"connect_error('::1', 8080, {V6})") == "ECONNREFUSED"
        assert moved() == {"publish_no_listener": 5}
        web.do("l.close()")
        web.do(f"l = listen('{lab.ip('web')}', 80)")
        outside.do(f"connect('{H1}', 8080).close()")
        web.do("l.accept()[0].close(); l.close(); m.close()")
        assert outside(f"connect_error('{H1}', 8080)") == "ECONNREFUSED"


def test_the_listeners_host_port_stays_hidden(lab, outside, h1):
    with published(lab, "web", "8080:80") as web:
        web.do("l = listen('0.0.0.0', 80)")
        listener, = lab.ctl("h1", "connection", "ls", "--name", "web")["connections"]
        port = int(listener["host_local"].rsplit(":", 1)[1])
        for who, address in (outside, H1), (h1, H1), (h1, "127.0.0.1"):
            assert who(f"connect_error('{address}', {port})") == "ECONNREFUSED"
            assert who(f"connect_error('{address}', 80)") == "ECONNREFUSED"
        assert not web("pending(l)")


def test_a_group_shares_the_load(lab, outside):
    with published(lab, "web", "8080:80") as web:
        web.do("""
group = [listen('0.0.0.0', 80, options=[(socket.SOL_SOCKET, socket.SO_REUSEPORT)], backlog=512)
         for _ in range(4)]
def count(l):
    n = 0
    while pending(l):
        l.accept()[0].close()
        n += 1
    return n
""")
        outside.do(f"for _ in range(400): connect('{H1}', 8080).close()")
        counts = web("[count(l) for l in group]")
        assert sum(counts) == 400 and min(counts) >= 50 and max(counts) <= 200, counts
        web.do("group.pop().close()")
        outside.do(f"for _ in range(100): connect('{H1}', 8080).close()")
        assert sum(web("[count(l) for l in group]")) == 100
        web.do("[l.close() for l in group]")


def test_syn_cookies(lab, outside):
    lab.host("h1", "sysctl", "-qw", "net.ipv4.tcp_syncookies=2")
    try:
        with published(lab, "web", "8080:80") as web:
            web.do(f"l = listen('::', 80, {V6})")
            for address, family, seen in (H1, "socket.AF_INET", "::ffff:" + OUTSIDE), \
                    (H1_V6, V6, OUTSIDE_V6):
                outside.do(f"s = connect('{address}', 8080, {family})")
                web.do("c, a, n = accept(l)")
                assert web("a") == (seen, outside("s.getsockname()[1]"))
                assert web("n[0][1]") == 80
                outside.do("s.send(b'x')")
                assert web("c.recv(10)") == b"x"
                outside.do("s.close()")
    finally:
        lab.host("h1", "sysctl", "-qw", "net.ipv4.tcp_syncookies=1")


def test_a_port_is_used_again_out_of_time_wait(lab, outside):
    """The client's same port, again and again, whoever closed first."""
    with published(lab, "web", "8080:80") as web:
        web.do("l = listen('0.0.0.0', 80)")
        for i in range(10):
            outside.do(f"""
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('{OUTSIDE}', 25454))
s.connect(('{H1}', 8080))
""")
            assert web("accept(l)[1]") == (OUTSIDE, 25454)
            web.do("c = None")
            assert outside("s.recv(1)") == b""  # the server closed first: it is in TIME_WAIT
            outside.do("s.close()")


# --- real programs, and the way -------------------------------------------------------------------


def test_nginx_and_curl(lab, outside):
    """No packet of it by the VXLAN device or the veth, and no process between the two."""
    place = pathlib.Path(f"/run/slim-lab/{lab.id}/publish-nginx")
    place.mkdir()
    place.chmod(0o755)
    (place / "index.html").write_text("x" * 100000)
    (place / "conf").write_text(f"""
daemon off; worker_processes 4; error_log stderr; pid {place}/pid;
events {{}}
http {{
  access_log {place}/access; client_body_temp_path {place}/a; proxy_temp_path {place}/b;
  fastcgi_temp_path {place}/c; uwsgi_temp_path {place}/d; scgi_temp_path {place}/e;
  server {{ listen 80 reuseport; root {place}; }}
}}
""")
    with lab.start("run", "h1", "nginx", "nginx", "-c", place / "conf",
                   options=["--publish", "8080:80"]):
        lab.wait_listening("h1", "nginx", 80)
        before = encapsulated(lab)
        url = f"http://{H1}:8080/"
        for _ in range(20):
            done = lab.host("net", "curl", "-sS", "-o", "/dev/null", "-w",
                            "%{http_code} %{size_download}", url)
            assert done.stdout == "200 100000"
        assert encapsulated(lab) == before
        seen = {line.split()[0] for line in (place / "access").read_text().splitlines()}
        assert seen == {OUTSIDE}
        # Nobody listens on the port, and who is there is who always is.
        assert ":8080 " not in lab.host("h1", "ss", "-ltn").stdout
        shown = lab.ctl("h1", "endpoint", "show", "nginx")["endpoint"]
        assert (pathlib.Path(shown["cgroup"]) / "broker" / "cgroup.procs").read_text().split() == [str(shown["broker_pid"])]


def encapsulated(lab):
    links = json.loads(lab.host("h1", "ip", "-j", "-d", "-s", "link").stdout)
    return {k["ifname"]: k["stats64"]["rx"]["packets"] + k["stats64"]["tx"]["packets"]
            for k in links if k["ifname"].startswith("slim")}


# --- what is taken --------------------------------------------------------------------------------


def test_a_taken_port_is_refused(lab, h1):
    for options in "()", "[(socket.SOL_SOCKET, socket.SO_REUSEADDR)]", \
            "[(socket.SOL_SOCKET, socket.SO_REUSEPORT)]":
        h1.do(f"l = listen('{H1}', 8181, options={options})")
        assert refused(lab, "8181:80") == ("slimctl: cannot start the container refused: publish 8181: "
                                           "the port is taken on this host")
        assert "publish 8181: the port is taken" in refused(lab, "8100-8200:1-101")
        assert f"publish {H1}:8181: the port is taken" in refused(lab, f"{H1}:8181:80")
        assert "publish 8181: the port is taken" in refused(lab, "8181:80", kind="plain")
        # Another address is another port.
        lab.verb("run", "h1", "free", "--publish", "127.0.0.1:8181:80", "--", "true")
        lab.verb("run", "h1", "free", "--publish", "8181:80/udp", "--", "true")
        h1.do("l.close()")
    wait_until(lambda: is_free(h1, 8181, "socket.SOCK_DGRAM"), "8181 to be free")
    h1.do(f"u = socket.socket(type=socket.SOCK_DGRAM); u.bind(('{H1}', 8181))")
    assert "publish 8181/udp: the port is taken" in refused(lab, "8181:80/udp")
    lab.verb("run", "h1", "free", "--publish", "8181:80", "--", "true")
    h1.do("u.close()")
    nothing_left(lab)


def test_two_containers_cannot_have_one_port(lab, outside):
    with published(lab, "web", f"{H1}:8080:80", "5353:53/udp") as web:
        web.do("l = listen('0.0.0.0', 80)")
        line = refused(lab, "8080:80")
        assert "publish 8080: the port is taken on this host, by the container web" in line
        assert "by the container web" in refused(lab, "5300-5400:300-400/udp")
        assert "by the container web" in refused(lab, f"{H1}:8080:80", kind="plain")
        # The first is unharmed, and at another address there is room.
        with published(lab, "other", "127.0.0.1:8080:81"):
            outside.do(f"s = connect('{H1}', 8080)")
            web.do("l.accept()[0].close()")
            outside.do("s.close()")
    nothing_left(lab)


@pytest.mark.parametrize("form,says", [
    ("61440:80", "61440-61695 are Slim's own"),
    ("61400-61440:1-41", "61440-61695 are Slim's own"),
    ("192.0.2.99:8080:80", "this host has no such address"),
    ("[2001:db8::99]:8080:80", "this host has no such address"),
    ("127.0.0.1:8080:80/udp", "loopback"),
    ("[::1]:8080:80/udp", "loopback"),
    (f"[{H1_V6}]:8080:80/udp", "no IPv6 address"),
])
def test_refused_by_slimd(lab, outside, form, says):
    assert says in refused(lab, form)
    nothing_left(lab)


@pytest.mark.parametrize("form,says", [
    (["80"], "cannot be told"), (["80:80:80"], "not an IPv4 address"), (["::1:80:80"], "brackets"),
    (["0:80"], "1 to 65535"), (["8000-8001:80"], "differ in length"), (["80:80/sctp"], "tcp or udp"),
    (["80:1", "80:2"], "already"), (["1-257:1-257"], "at most 256"), ([""], "missing"),
])
def test_refused_by_slimctl(lab, form, says):
    line = refused(lab, *form, status=2)
    assert line.startswith("slimctl: run: --publish ") and says in line


# --- the reservation ------------------------------------------------------------------------------


def test_the_port_is_nobody_elses(lab, h1, outside):
    """Not by bind(), whatever is asked for, and not as the port of a connection's source."""
    with published(lab, "web", "8080:80", "8080:80/udp"):
        for kind in "socket.SOCK_STREAM", "socket.SOCK_DGRAM":
            for address in "0.0.0.0", H1, "127.0.0.1":
                for options in "()", "[socket.SO_REUSEADDR]", "[socket.SO_REUSEPORT]", \
                        "[socket.SO_REUSEADDR, socket.SO_REUSEPORT]":
                    assert h1(f"bind_error_of(8080, {kind}, '{address}', {options})") == "EADDRINUSE"
        old = lab.host("h1", "sysctl", "-n", "net.ipv4.ip_local_port_range").stdout.split()
        lab.host("h1", "sysctl", "-qw", "net.ipv4.ip_local_port_range=8080 8081")
        try:
            outside.do("l = listen('0.0.0.0', 7777)")
            h1.do(f"s = connect('{OUTSIDE}', 7777)")
            assert h1("s.getsockname()[1]") == 8081
            assert h1(f"connect_error('{OUTSIDE}', 7777)") == "EADDRNOTAVAIL"
            h1.do("s.close()")
        finally:
            lab.host("h1", "sysctl", "-qw", f"net.ipv4.ip_local_port_range={' '.join(old)}")
            outside.do("l.close()")
    # TIME_WAIT of h1's own client may be at 8081, nothing at 8080.
    forget_time_wait(lab, 8080)
    wait_until(lambda: is_free(h1, 8080) and is_free(h1, 8080, "socket.SOCK_DGRAM"), "8080 to be free")


def test_the_end_frees_everything(lab, h1, outside):
    """At once, for the next container, also when connections of the last one are in TIME_WAIT."""
    for round_ in range(3):
        for kind in "slim", "plain":
            with published(lab, "web", "8080:80", "8080:80/udp", kind=kind) as web:
                web.do("l = listen('0.0.0.0', 80)")
                for _ in range(5):
                    outside.do(f"s = connect('{H1}', 8080)")
                    web.do("l.accept()[0].close()")
                    assert outside("s.recv(1)") == b""
                    outside.do("s.close()")
    wait_until(lambda: not lab.ctl("h1", "status")["maps"]["published"], "the end")
    nothing_left(lab)
    wait_until(lambda: is_free(h1, 8080, "socket.SOCK_DGRAM"), "8080 to be free")
    h1.do("l = listen('0.0.0.0', 8080, options=[(socket.SOL_SOCKET, socket.SO_REUSEADDR)])")
    outside.do(f"s = connect('{H1}', 8080)")
    h1.do("l.accept()[0].close(); l.close()")
    outside.do("s.close()")


def broker_of(lab, name):
    return lab.ctl("h1", "endpoint", "show", name)["endpoint"]["broker_pid"]


def kill_broker(lab, name):
    pid = broker_of(lab, name)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: broker_of(lab, name) not in (0, pid), "another broker")


def serves(web, outside, port=8080):
    outside.do(f"s = connect('{H1}', {port})")
    assert web("accept(l)[1][0]") == OUTSIDE
    outside.do("s.close()")


@pytest.mark.parametrize("kind", ["slim", "plain"])
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_it_outlives_slimd_and_the_broker(lab, h1, outside, kind, how):
    with published(lab, "web", "8080:80", "8081-8082:81-82/udp", kind=kind) as web:
        web.do("l = listen('0.0.0.0', 80)")
        web.do(ECHO % 81)

        def holds():
            serves(web, outside)
            assert outside(f"ask('{H1}', 8081)")[1] == (H1, 8081)
            for port, socket_kind in (8080, "STREAM"), (8081, "DGRAM"), (8082, "DGRAM"):
                assert not is_free(h1, port, "socket.SOCK_" + socket_kind)

        holds()
        kill_broker(lab, "web")
        holds()
        lab.verb("daemon", "h1", how)
        holds()
        lab.verb("daemon", "h1", "start")
        holds()
        assert publishes(lab, "web") == ["8080:80/tcp", "8081-8082:81-82/udp"]
        assert "by the container web" in refused(lab, "8080:80")
        kill_broker(lab, "web")  # its successor has them from the slimd that took them from it
        holds()
        lab.verb("daemon", "h1", how)
        holds()
        lab.verb("daemon", "h1", "start")
        holds()
    wait_until(lambda: is_free(h1, 8082, "socket.SOCK_DGRAM"), "8082 to be free")
    nothing_left(lab)


def test_a_container_that_ends_while_slimd_is_away(lab, h1, outside):
    """Its TCP ports are the host's again without a slimd; the rest is cleared by the next."""
    try:
        with published(lab, "web", "8080-8081:80-81", "8080:80/udp") as web:
            web.do("l = listen('0.0.0.0', 80)")
            lab.verb("daemon", "h1", "kill")
        wait_until(lambda: is_free(h1, 8081), "8081 to be free")
        h1.do("l = listen('0.0.0.0', 8081, options=[(socket.SOL_SOCKET, socket.SO_REUSEADDR)])")
        outside.do(f"s = connect('{H1}', 8081)")
        h1.do("l.accept()[0].close(); l.close()")
        outside.do("s.close()")
    finally:
        lab.verb("daemon", "h1", "start")
    nothing_left(lab)


def test_a_port_lost_to_another_is_given_up(lab, h1, outside):
    """Slimd and broker both killed, and the port taken before a slimd is back: it is the other's."""
    with published(lab, "web", "8080:80") as web:
        web.do("l = listen('0.0.0.0', 80)")
        pid = broker_of(lab, "web")
        lab.verb("daemon", "h1", "kill")
        os.kill(pid, signal.SIGKILL)
        forget_time_wait(lab, 8080)
        wait_until(lambda: is_free(h1, 8080), "8080 to be free")
        h1.do("t = listen('0.0.0.0', 8080, options=[(socket.SOL_SOCKET, socket.SO_REUSEADDR)])")
        lab.verb("daemon", "h1", "start")
        assert publishes(lab, "web") == []
        assert "publish 8080: the port is taken" in lab.verb("daemon", "h1", "log").stdout
        outside.do(f"s = connect('{H1}', 8080)")
        h1.do("t.accept()[0].close(); t.close()")
        outside.do("s.close()")
        assert not web("pending(l)")
    nothing_left(lab)


# --- by way of the veth ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["slim", "plain"])
def test_udp(lab, outside, h1, near, near_plain, kind):
    with published(lab, "echo", "5353:53/udp", f"{H1}:5400-5402:400-402/udp", kind=kind) as echo:
        echo.do(ASK)
        for port, host_port in (53, 5353), (401, 5401):
            echo.do(ECHO % port)
            # The client's real address and port; the answer from where the question went to.
            for who in outside, h1:
                own, peer, (data, seen) = who(f"ask('{H1}', {host_port})")
                assert peer == (H1, host_port) and data == b"hello"
                assert seen == ((OUTSIDE if who is outside else H1), own[1])
            # Containers of this host come from the host; the container itself too.
            for who in near, near_plain, echo:
                own, peer, (data, seen) = who(f"ask('{H1}', {host_port})")
                assert peer == (H1, host_port) and seen[0] == H1, who.name
        # A loopback address is not translated, and says so.
        assert h1("udp_error('127.0.0.1', 5353)") == "ECONNREFUSED"
        assert outside(f"udp_error('{H1}', 5403)") == "ECONNREFUSED"
    wait_until(lambda: is_free(h1, 5353, "socket.SOCK_DGRAM"), "5353 to be free")
    nothing_left(lab)
    assert outside(f"udp_error('{H1}', 5353)") == "ECONNREFUSED"


def test_a_client_that_goes_on_sending(lab, outside):
    """From one port all the time, it reaches whoever publishes the port: before, now, and next."""
    outside.do(f"""
c = socket.socket(type=socket.SOCK_DGRAM)
c.settimeout(1)
def reached():
    # Who answers, or 'nobody'.
    for _ in range(20):
        try:
            c.sendto(b'x', ('{H1}', 5353))
            return c.recvfrom(100)[0].decode()
        except OSError:
            pass
    return 'nobody'
""")
    answer = """
u = socket.socket(type=socket.SOCK_DGRAM)
u.bind(('', 53))
u.settimeout(None)
def _answer():
    while True:
        u.sendto(b'%s', u.recvfrom(100)[1])
threading.Thread(target=_answer, daemon=True).start()
"""
    outside.do(f"c.sendto(b'x', ('{H1}', 5353))")  # a flow to the host itself
    for name, kind in ("one", "slim"), ("two", "plain"), ("three", "slim"):
        with published(lab, name, "5353:53/udp", kind=kind) as server:
            server.do(answer % name)
            assert outside("reached()") == name
    outside.do("c.close()")


def test_tcp_of_a_plain_container(lab, outside, h1, h2, near, near_plain):
    with published(lab, "web", "8080:80", f"{H1}:8443:443", kind="plain") as web:
        web.do("l = listen('0.0.0.0', 80); m = listen('0.0.0.0', 443)")
        for who, seen in (outside, OUTSIDE), (h1, H1), (h2, H2), (near, H1), (near_plain, H1), (web, H1):
            for port, listener in (8080, "l"), (8443, "m"):
                who.do(f"s = connect('{H1}', {port})")
                web.do(f"c, a, n = accept({listener})")
                assert web("a[0]") == seen, who.name
                if who in (outside, h1, h2):
                    assert web("a") == who("s.getsockname()[:2]")
                who.do("s.sendall(b'x' * 100000); s.shutdown(socket.SHUT_WR)")
                assert web("sum(len(d) for d in iter(lambda: c.recv(65536), b''))") == 100000
                who.do("s.close()")
        for address, port in ("127.0.0.1", 8080), ("127.0.0.1", 8443), (H1, 80):
            assert h1(f"connect_error('{address}', {port})") == "ECONNREFUSED"
        web.do("l.close()")
        assert outside(f"connect_error('{H1}', 8080)") == "ECONNREFUSED"
    nothing_left(lab)


def test_overlay_addresses_are_not_published(lab, near, near_plain):
    """A wildcard is the host's addresses: another container's port of that number is its own."""
    with published(lab, "web", "8080:80"), published(lab, "plain-web", "8081:81", kind="plain"), \
            Remote.slim(lab, "h1", "third") as third:
        third.do("l = listen('0.0.0.0', 8080)")
        near.do(f"connect('{lab.ip('third')}', 8080).close()")
        third.do("l.accept()[0].close(); l.close()")
        assert near(f"connect_error('{lab.ip('third')}', 8080)") == "ECONNREFUSED"
        near_plain.do("l = listen('0.0.0.0', 8081)")
        with Remote.plain(lab, "h1", "fourth") as fourth:
            fourth.do(f"connect('{lab.ip('near-plain')}', 8081).close()")
            near_plain.do("l.accept()[0].close(); l.close()")


def test_a_spoofed_source_is_not_let_in(lab, outside):
    """An overlay address as source, from outside: not translated into the host's own."""
    with published(lab, "echo", "5353:53/udp") as echo:
        echo.do("u = socket.socket(type=socket.SOCK_DGRAM); u.bind(('', 53))")
        spoofed = lab.ip("near")
        outside.do(f"""
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
udp = struct.pack('!HHHH', 4000, 5353, 12, 0) + b'evil'
ip = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0,
                 socket.inet_aton('{spoofed}'), socket.inet_aton('{H1}'))
for _ in range(20):
    raw.sendto(ip + udp, ('{H1}', 0))
raw.close()
s = socket.socket(type=socket.SOCK_DGRAM)
s.sendto(b'good', ('{H1}', 5353))
""")
        assert echo("u.recvfrom(100)")[0] == b"good"
        assert not echo("pending(u)")
        outside.do("s.close()")
