# SPDX-License-Identifier: Apache-2.0
"""
bind() and listen() in a container: the same answers as the kernel gives on a host, the ports that a
program asked for, and the names that sockets of both families have.
"""

import errno
import json
import pathlib

import pytest

from conftest import wait_until
from remote import PYTHON, Moved, Remote

BINDTABLE = pathlib.Path(__file__).with_name("bindtable.py")

REUSE_ADDR = "(socket.SOL_SOCKET, socket.SO_REUSEADDR)"
REUSE_PORT = "(socket.SOL_SOCKET, socket.SO_REUSEPORT)"


@pytest.fixture(scope="module")
def server(lab):
    with Remote.slim(lab, "h1", "server") as r:
        yield r


@pytest.fixture(scope="module")
def client(lab):
    with Remote.slim(lab, "h2", "client") as r:
        yield r


@pytest.fixture(scope="module")
def near(lab):
    """On the server's host."""
    with Remote.slim(lab, "h1", "near") as r:
        yield r


def test_the_kernels_own_rules(lab):
    kernel = json.loads(lab.host("h1", PYTHON, BINDTABLE, "192.0.2.1").stdout)
    moved = Moved(lab, "h1")
    slim = json.loads(lab.run("h1", "table", PYTHON, BINDTABLE, lab.ip("table")).stdout)
    assert moved("bind_in_use")["bind_in_use"] > 500  # it was Slim that answered
    assert slim.keys() == kernel.keys()
    assert {k: (kernel[k], slim[k]) for k in kernel if kernel[k] != slim[k]} == {}


def test_a_second_listen_is_refused(lab, server, client):
    """As by the kernel, where two share a port by SO_REUSEADDR alone; and it takes nothing away."""
    server.do("a, b = [socket.socket() for _ in range(2)]\n"
              "for s in a, b:\n"
              f"    s.setsockopt(*{REUSE_ADDR}, 1)\n"
              "    s.bind(('0.0.0.0', 8000))\n"
              "a.listen()")
    moved = Moved(lab, "h1")
    with pytest.raises(OSError) as e:
        server.do("b.listen()")
    assert e.value.errno == errno.EADDRINUSE
    assert moved() == {}  # it was asked before, and did not listen for a moment
    assert server("b.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)") == 0
    for _ in range(20):
        client.do(f"connect('{lab.ip('server')}', 8000).close()")
        server.do("a.accept()[0].close()")
    # Nor does its end take anything away; and once the first one is closed, another may.
    server.do("b.close()")
    client.do(f"connect('{lab.ip('server')}', 8000).close()")
    server.do("a.accept()[0].close()\n"
              "b = socket.socket()\n"
              f"b.setsockopt(*{REUSE_ADDR}, 1)\n"
              "a.close(); b.bind(('0.0.0.0', 8000)); b.listen()")
    client.do(f"connect('{lab.ip('server')}', 8000).close()")
    server.do("b.accept()[0].close(); b.close()")


def test_port_zero(server):
    server.do("held = [socket.socket() for _ in range(400)]\n"
              "for s in held: s.bind(('0.0.0.0', 0))")
    ports = server("[s.getsockname() for s in held]")
    assert {a for a, _ in ports} == {"0.0.0.0"}
    assert len({p for _, p in ports}) == len(ports)
    assert all(1024 <= p <= 65535 for _, p in ports)
    # Taken, by the same rules as a port that was asked for.
    assert server(f"bind_error('0.0.0.0', {ports[0][1]})") == "EADDRINUSE"
    server.do("for s in held: s.close()")
    assert server(f"bind_error('0.0.0.0', {ports[0][1]})") == "bound"


def test_port_zero_on_each_address(lab, server):
    own = lab.ip("server")
    for family, address in (("AF_INET", own), ("AF_INET", "127.0.0.1"), ("AF_INET", "127.0.0.9"),
                            ("AF_INET6", "::"), ("AF_INET6", "::1"), ("AF_INET6", f"::ffff:{own}")):
        server.do(f"s = socket.socket(socket.{family}); s.bind(('{address}', 0))")
        assert server("s.getsockname()[0]") == address
        assert server("s.getsockname()[1]") > 1024
        server.do("s.close()")


def test_port_zero_serves(lab, server, client):
    server.do("l = listen('0.0.0.0', 0)")
    address, port = server("l.getsockname()")
    client.do(f"s = connect('{lab.ip('server')}', {port})")
    assert server("accept(l)[2]") == ((lab.ip("server"), port), client("s.getsockname()"))
    client.do("s.close()")
    server.do("l.close()")


@pytest.mark.parametrize("family,any_address", [("AF_INET", "0.0.0.0"), ("AF_INET6", "::")])
def test_listen_without_bind(lab, server, client, family, any_address):
    server.do(f"l = socket.socket(socket.{family}); l.listen()")
    address, port = server("l.getsockname()[:2]")
    assert (address, port != 0) == (any_address, True)
    client.do(f"s = connect('{lab.ip('server')}', {port})")
    mapped = "" if family == "AF_INET" else "::ffff:"
    assert server("accept(l)[1]") == (mapped + lab.ip("client"), client("s.getsockname()[1]"))
    assert server(f"bind_error('0.0.0.0', {port})") == "EADDRINUSE"
    client.do("s.close()")
    server.do("l.close()")
    assert client(f"connect_error('{lab.ip('server')}', {port})") == "ECONNREFUSED"
    assert server(f"bind_error('0.0.0.0', {port})") == "bound"


@pytest.mark.parametrize("bound", ["0.0.0.0", "own", "::", "mapped own"])
def test_bind_then_connect_keeps_the_port(lab, server, client, near, bound):
    server.do("l = listen('0.0.0.0', 8001)")
    for c in client, near, server:
        own = lab.ip(c.name)
        address = {"own": own, "mapped own": "::ffff:" + own}.get(bound, bound)
        v6 = ":" in address
        family, mapped = ("socket.AF_INET6", "::ffff:") if v6 else ("socket.AF_INET", "")
        c.do(f"s = connect('{mapped}{lab.ip('server')}', 8001, {family}, ('{address}', 2345))")
        assert c("names(s)") == ((mapped + own, 2345), (mapped + lab.ip("server"), 8001))
        assert server("accept(l)[1:]") == ((own, 2345),
                                           ((lab.ip("server"), 8001), (own, 2345)))
        assert c("bind_error('0.0.0.0', 2345)") == "EADDRINUSE"
        c.do("s.close()")
    server.do("l.close()")


def test_one_source_port_to_two_servers(lab, server, client, near):
    for s in server, near:
        s.do("l = listen('0.0.0.0', 8002)")
    client.do("both = [socket.socket() for _ in range(2)]\n"
              "for s in both:\n"
              f"    s.setsockopt(*{REUSE_ADDR}, 1)\n"
              "    s.bind(('0.0.0.0', 2346))")
    for i, s in enumerate((server, near)):
        client.do(f"both[{i}].connect(('{lab.ip(s.name)}', 8002))")
        assert s("accept(l)[1]") == (lab.ip("client"), 2346)
        s.do("l.close()")
    client.do("for s in both: s.close()")


@pytest.mark.parametrize("reuse", ["", REUSE_ADDR + ","])
def test_rebind_after_close(lab, server, client, reuse):
    """A listener that had connections, closed and there again at once."""
    # The client closes first, so that no connection of the server is left behind.
    for _ in range(3):
        server.do(f"l = listen('0.0.0.0', 8003, options=({reuse}))")
        client.do(f"s = connect('{lab.ip('server')}', 8003)")
        server.do("c = l.accept()[0]")
        client.do("s.close()")
        assert server("c.recv(1)") == b""
        server.do("c.close(); l.close()")


def test_restart_with_open_connections(lab, server, client):
    """SO_REUSEADDR: a server that restarts while its old connections live, or wait for their end."""
    server.do(f"l = listen('0.0.0.0', 8004, options=({REUSE_ADDR},))")
    client.do(f"a, b = [connect('{lab.ip('server')}', 8004) for _ in range(2)]")
    server.do("a, b = l.accept()[0], l.accept()[0]; l.close(); a.close()")
    assert client("a.recv(1)") == b""
    client.do("a.close()")  # the server's side is in TIME_WAIT
    server.do(f"l = listen('0.0.0.0', 8004, options=({REUSE_ADDR},))")
    client.do(f"c = connect('{lab.ip('server')}', 8004)")
    assert server("accept(l)[1]") == client("c.getsockname()")
    server.do("b.sendall(b'old')")
    assert client("b.recv(3)") == b"old"
    assert server("names(b)") == client("names(b)[::-1]")
    server.do("b.close(); l.close()")
    client.do("b.close(); c.close()")


def test_a_second_bind_is_invalid(server):
    server.do("s = socket.socket(); s.bind(('0.0.0.0', 8005))")
    with pytest.raises(OSError) as e:
        server.do("s.bind(('0.0.0.0', 8006))")
    assert e.value.errno == 22  # EINVAL
    assert server("s.getsockname()") == ("0.0.0.0", 8005)
    assert server("bind_error('0.0.0.0', 8006)") == "bound"
    server.do("s.close()")


def test_a_bound_socket_survives_fork(server):
    """A binding goes with the last descriptor, not with the first process."""
    server.do("s = socket.socket(); s.bind(('0.0.0.0', 8007)); s.set_inheritable(True)\n"
              "p = subprocess.Popen(['cat'], stdin=subprocess.PIPE, close_fds=False)\n"
              "s.close()")
    assert server("bind_error('0.0.0.0', 8007)") == "EADDRINUSE"
    server.do("p.stdin.close(); p.wait()")
    assert server("bind_error('0.0.0.0', 8007)") == "bound"


# --- families -------------------------------------------------------------------------------------


def test_dual_stack_listener(lab, server, client, near):
    own = lab.ip("server")
    server.do("l = listen('::', 8010, socket.AF_INET6)")
    assert server("l.getsockname()[:2]") == ("::", 8010)
    for c in client, near:
        for family, mapped in ("AF_INET", ""), ("AF_INET6", "::ffff:"):
            c.do(f"s = connect('{mapped}{own}', 8010, socket.{family})")
            name, peer = c("names(s)")
            assert (name[0], peer) == (mapped + lab.ip(c.name), (mapped + own, 8010))
            seen = ("::ffff:" + lab.ip(c.name), name[1])
            assert server("accept(l)[1:]") == (seen, (("::ffff:" + own, 8010), seen))
            c.do("s.close()")
    server.do("l.close()")


def test_v4_listener_and_v6_client(lab, server, client):
    server.do("l = listen('0.0.0.0', 8011)")
    client.do(f"s = connect('::ffff:{lab.ip('server')}', 8011, socket.AF_INET6)")
    assert server("accept(l)[1]") == (lab.ip("client"), client("s.getsockname()[1]"))
    client.do("s.close()")
    server.do("l.close()")


def test_v6only_takes_no_v4(lab, server, client, near):
    server.do("l = listen('::', 8012, socket.AF_INET6, "
              "((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY),))")
    for c in client, near, server:
        assert c(f"connect_error('{lab.ip('server')}', 8012)") == "ECONNREFUSED"
    assert server("connect_error('127.0.0.1', 8012)") == "ECONNREFUSED"
    server.do("s = connect('::1', 8012, socket.AF_INET6)")
    assert server("accept(l)[1]") == ("::1", server("s.getsockname()[1]"))
    # Both families on one port, each with its own listener.
    server.do("s.close(); m = listen('0.0.0.0', 8012)")
    client.do(f"s = connect('{lab.ip('server')}', 8012)")
    assert server("accept(m)[1]") == client("s.getsockname()")
    assert not server("pending(l)")
    client.do("s.close()")
    server.do("l.close(); m.close()")


def test_v6only_client_has_no_v4(lab, server, client):
    client.do("s = socket.socket(socket.AF_INET6)\n"
              "s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)")
    with pytest.raises(OSError) as e:
        client.do(f"s.connect(('::ffff:{lab.ip('server')}', 8013))")
    assert e.value.errno == 101  # ENETUNREACH, as the kernel says
    client.do("s.close()")


def test_the_nearest_listener_gets_it(lab, server, client):
    """Own address before 0.0.0.0 before ::, as the kernel scores them."""
    reuse = f"({REUSE_PORT},)"
    own = lab.ip("server")
    server.do(f"l = [listen('{own}', 8014, options={reuse}),\n"
              f"     listen('0.0.0.0', 8014, options={reuse}),\n"
              f"     listen('::', 8014, socket.AF_INET6, {reuse})]")
    for nearest in range(3):
        for _ in range(8):
            client.do(f"connect('{own}', 8014).close()")
            server.do(f"l[{nearest}].accept()[0].close()")
        assert not server("any(pending(s) for s in l if s.fileno() >= 0)")
        server.do(f"l[{nearest}].close()")
    assert client(f"connect_error('{own}', 8014)") == "ECONNREFUSED"


# --- SO_REUSEPORT ---------------------------------------------------------------------------------

ACCEPT_ALL = """
def accept_all(listeners, wanted):
    # {listener's number: how many it got}, until all are here; each is told who it came to.
    got = dict.fromkeys(listeners, 0)
    end = time.monotonic() + 30
    while sum(got.values()) < wanted and time.monotonic() < end:
        for s in select.select(list(listeners.values()), [], [], 1)[0]:
            n = [k for k, v in listeners.items() if v is s][0]
            c = s.accept()[0]
            c.sendall(b'%d' % n)
            c.close()
            got[n] += 1
    return got
"""

MANY = """
def many(address, port, n):
    # Who answered, of n connections.
    answers = []
    for _ in range(n):
        with socket.create_connection((address, port)) as s:
            answers.append(int(s.recv(8) or -1))
    return answers
"""


@pytest.mark.parametrize("family,address", [("AF_INET", "0.0.0.0"), ("AF_INET6", "::")])
def test_reuseport_shares_the_load(lab, server, client, near, family, address):
    server.do(ACCEPT_ALL)
    server.do(f"ls = {{n: listen('{address}', 8020, socket.{family}, ({REUSE_PORT},)) "
              "for n in range(4)}")
    server.do("ls_of_one_name = {s.getsockname()[:2] for s in ls.values()}")
    assert server("ls_of_one_name") == {(address, 8020)}
    closed = set()
    for close in None, 2, 0:
        if close is not None:
            server.do(f"ls.pop({close}).close()")
            closed.add(close)
        for c in client, near:
            c.do(MANY)
            server.send("eval", "accept_all(ls, 120)")
            answers = c(f"many('{lab.ip('server')}', 8020, 120)")
            got = server.receive()
            # Nobody lost, everybody in work.
            assert sum(got.values()) == 120 and -1 not in answers
            assert {n: answers.count(n) for n in set(answers)} == got
            assert set(got) == {0, 1, 2, 3} - closed
            assert min(got.values()) > 0
    # A new member of the group is found.
    server.do(f"ls[9] = listen('{address}', 8020, socket.{family}, ({REUSE_PORT},))")
    server.send("eval", "accept_all(ls, 120)")
    client(f"many('{lab.ip('server')}', 8020, 120)")
    assert server.receive()[9] > 0
    # One without the option is none.
    assert server(f"bind_error('{address}', 8020, socket.{family})") == "EADDRINUSE"
    server.do("for s in ls.values(): s.close()")
    assert client(f"connect_error('{lab.ip('server')}', 8020)") == "ECONNREFUSED"


def test_a_member_is_killed_under_load(lab, server, client):
    """Listeners in processes of their own, one of them killed: no new connection fails after it."""
    program = ("import os, socket, sys\n"
               "l = socket.socket(); l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)\n"
               "l.bind(('0.0.0.0', 8021)); l.listen()\n"
               "print('ready', flush=True)\n"
               "while True:\n"
               "    c = l.accept()[0]; c.sendall(b'%d' % os.getpid()); c.close()\n")
    server.do(f"program = {program!r}\n"
              "ps = [subprocess.Popen([sys.executable, '-c', program], stdin=subprocess.DEVNULL,\n"
              "                       stdout=subprocess.PIPE) for _ in range(3)]\n"
              "for p in ps: p.stdout.readline()")
    try:
        client.do(MANY)
        pids = server("[p.pid for p in ps]")
        assert set(client(f"many('{lab.ip('server')}', 8021, 90)")) == set(pids)
        server.do("ps[1].kill(); ps[1].wait()")
        assert set(client(f"many('{lab.ip('server')}', 8021, 90)")) == {pids[0], pids[2]}
    finally:
        server.do("for p in ps: p.kill(); p.wait(); p.stdout.close()")


# --- nothing is left ------------------------------------------------------------------------------


def test_nothing_is_left_of_all_this(lab):
    """No socket of this module's is open any more."""
    def maps():
        return lab.ctl("h1", "status")["maps"]

    wait_until(lambda: maps()["ports"] == 0 and maps()["listeners"] == 0,
               "the tables of ports and listeners to be empty")


def test_a_refused_family_leaves_no_binding(lab):
    """The kernel looks at the address's family after the programs did."""
    said = lab.python("h1", "families", """
import ctypes, errno, json, socket, struct
libc = ctypes.CDLL(None, use_errno=True)
def call(f, s, family, port, address):
    a = struct.pack('=HH', family, socket.htons(port)) + address
    r = f(s.fileno(), a, len(a))
    return errno.errorcode[ctypes.get_errno()] if r < 0 else 'ok'
out = []
for own, other in (socket.AF_INET, socket.AF_INET6), (socket.AF_INET6, socket.AF_INET), \\
        (socket.AF_INET, socket.AF_UNIX), (socket.AF_INET6, socket.AF_UNSPEC):
    s = socket.socket(own)
    out.append(call(libc.bind, s, other, 5555, bytes(24)))
    out.append(s.getsockname()[1])
    out.append(call(libc.connect, s, other, 5555, b'\\x7f\\0\\0\\1' + bytes(20)) if other else None)
    s.bind(('', 5555))  # still free, and the socket still unbound
    out.append(s.getsockname()[1])
    s.close()
s = socket.socket()
out.append(call(libc.bind, s, socket.AF_UNSPEC, 5556, bytes(12)))
out.append(s.getsockname())
print(json.dumps(out))
""")
    refused = ["EAFNOSUPPORT", 0, "EAFNOSUPPORT", 5555]
    assert said == [*refused, *refused, *refused, "EAFNOSUPPORT", 0, None, 5555,
                    "ok", ["0.0.0.0", 5556]]
