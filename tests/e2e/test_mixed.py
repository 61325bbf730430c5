# SPDX-License-Identifier: Apache-2.0
"""
Plain and Slim containers reach each other by TCP, in both directions and on one host or two, each
with its overlay address; so that a cluster can move to Slim, and back, one container at a time.
"""

import contextlib
import errno
import itertools
import json

import pytest

from conftest import PATIENCE, wait_until
from remote import PYTHON, Moved, Remote

NAMES = {"slim": ("h1", "slim"), "near": ("h1", "slim"), "far": ("h2", "slim"),
         "plain": ("h1", "plain"), "plainfar": ("h2", "plain")}

# One of each pair is plain.
PAIRS = [(a, b) for a, b in itertools.permutations(NAMES, 2)
         if {NAMES[a][1], NAMES[b][1]} == {"slim", "plain"}]


@pytest.fixture(scope="module")
def containers(lab):
    with contextlib.ExitStack() as stack:
        found = {name: stack.enter_context(getattr(Remote, kind)(lab, host, name))
                 for name, (host, kind) in NAMES.items()}
        for r in found.values():  # a plain container's ports rest in TIME_WAIT
            r.do("reuse = [(socket.SOL_SOCKET, socket.SO_REUSEADDR)]")
        yield found


@pytest.fixture
def pair(containers, request):
    a, b = request.param
    client, server = containers[a], containers[b]
    yield a, b, client, server
    for r in (client, server):
        r.do("for _s in [v for v in globals().values() if isinstance(v, socket.socket)]: _s.close()")


def pairs(which=PAIRS):
    return pytest.mark.parametrize("pair", which, indirect=True, ids="-".join)


@pairs()
def test_names_and_data(lab, pair):
    a, b, client, server = pair
    server.do("l = listen('0.0.0.0', 80, options=reuse)")
    client.do(f"s = connect('{lab.ip(b)}', 80)")
    name, peer = client("names(s)")
    assert (name[0], peer) == (lab.ip(a), (lab.ip(b), 80))
    server.do("c, who, mine = accept(l)")
    assert server("who") == name
    assert server("mine") == (peer, name)
    assert server("l.getsockname()") == ("0.0.0.0", 80)
    # All of it, and each half by itself.
    for here, there, x, y in (client, server, "s", "c"), (server, client, "c", "s"):
        here.do(f"t = threading.Thread(target=lambda: ({x}.sendall(bytes(range(256)) * 12000), "
                f"{x}.shutdown(socket.SHUT_WR))); t.start()")
        there.do(f"got = {y}.makefile('rb').read()")
        assert there("got == bytes(range(256)) * 12000")
        here.do("t.join()")


@pairs()
def test_refused(lab, pair):
    _, b, client, server = pair
    before = server("connect_error('127.0.0.1', 81)")
    assert before == client(f"connect_error('{lab.ip(b)}', 81)") == "ECONNREFUSED"
    # A listener for loopback is none for others.
    server.do("l = listen('127.0.0.1', 81, options=reuse)")
    assert client(f"connect_error('{lab.ip(b)}', 81)") == "ECONNREFUSED"
    server.do("l.close(); l = listen('0.0.0.0', 81, options=reuse)")
    client.do(f"s = connect('{lab.ip(b)}', 81)")
    # Closed: from now on refused again, and what was in its queue is reset.
    server.do("l.close()")
    with pytest.raises(ConnectionResetError):
        client.do("s.recv(1)")
    assert client(f"connect_error('{lab.ip(b)}', 81)") == "ECONNREFUSED"


@pairs()
def test_many_at_a_time_and_one_after_another(lab, pair):
    _, b, client, server = pair
    server.do("""
l = listen('0.0.0.0', 82, options=reuse, backlog=512)
def serve():
    while True:
        try:
            c, who = l.accept()
        except OSError:
            return
        threading.Thread(target=lambda c=c, who=who: (c.sendall(repr(who).encode()), c.close())).start()
threading.Thread(target=serve, daemon=True).start()
""")
    client.do(f"""
def one():
    s = connect('{lab.ip(b)}', 82)
    mine = repr(s.getsockname()).encode()
    said = s.makefile('rb').read()
    s.close()
    return said == mine
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(32) as pool:
    right = sum(pool.map(lambda _: one(), range(500)))
""")
    assert client("right") == 500
    server.do("l.shutdown(socket.SHUT_RDWR); l.close()")


@pairs()
def test_a_listener_of_both_families(lab, pair):
    a, b, client, server = pair
    server.do("l = listen('::', 83, socket.AF_INET6, options=reuse)")
    client.do(f"s = connect('::ffff:{lab.ip(b)}', 83, socket.AF_INET6)")
    server.do("c, who, mine = accept(l)")
    assert server("who[0]") == f"::ffff:{lab.ip(a)}"
    assert server("mine[0]") == (f"::ffff:{lab.ip(b)}", 83)
    assert client("names(s)") == (server("who"), (f"::ffff:{lab.ip(b)}", 83))
    client.do("s.sendall(b'x' * 100000); s.close()")
    assert server("len(c.makefile('rb').read())") == 100000


@pairs()
def test_shared_port(lab, pair):
    """SO_REUSEPORT: both members get some, and one that goes leaves the rest to the other."""
    _, b, client, server = pair
    server.do("r = [(socket.SOL_SOCKET, socket.SO_REUSEPORT)]; "
              "l = [listen('0.0.0.0', 84, options=r) for _ in range(2)]; "
              "[x.setblocking(False) for x in l]")
    client.do(f"s = [connect('{lab.ip(b)}', 84) for _ in range(40)]")
    server.do("""
def drain(l):
    n = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            l.accept()[0].close()
            n += 1
    return n
""")
    counts = server("[drain(x) for x in l]")
    assert sum(counts) == 40 and min(counts) > 0, counts
    server.do("l[0].close()")
    client.do(f"s = [connect('{lab.ip(b)}', 84) for _ in range(40)]")
    assert server("drain(l[1])") == 40
    server.do("l[1].close()")


# --- the client's side, where it is Slim ----------------------------------------------------------

OUT = [(a, b) for a, b in PAIRS if NAMES[a][1] == "slim"]


@pairs(OUT)
def test_a_bound_port_is_kept(lab, pair):
    a, b, client, server = pair
    server.do("l = listen('0.0.0.0', 85, options=reuse)")
    for source in ("0.0.0.0", lab.ip(a)):
        client.do(f"s = connect('{lab.ip(b)}', 85, source=('{source}', 24001))")
        assert client("names(s)") == ((lab.ip(a), 24001), (lab.ip(b), 85))
        assert server("accept(l)[1]") == (lab.ip(a), 24001)
        client.do("s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); "
                  "s.close()")
    client.do(f"s = connect('{lab.ip(b)}', 85, source=('0.0.0.0', 0))")
    assert server("accept(l)[1]") == client("names(s)[0]")
    # From loopback there is no way out, as in any network namespace.
    client.do("s = socket.socket(); s.bind(('127.0.0.1', 0))")
    with pytest.raises(OSError) as e:
        client.do(f"s.connect(('{lab.ip(b)}', 85))")
    assert e.value.errno == errno.EINVAL


@pairs(OUT)
def test_a_port_that_the_host_itself_uses(lab, pair):
    """The program gets another one, and getsockname() says which."""
    a, b, client, server = pair
    server.do("l = listen('0.0.0.0', 86, options=reuse)")
    with Remote.host(lab, NAMES[a][0]) as host:
        host.do("h = listen('0.0.0.0', 24002)")
        client.do(f"s = connect('{lab.ip(b)}', 86, source=('0.0.0.0', 24002))")
        name = client("s.getsockname()")
        assert name[0] == lab.ip(a) and name[1] != 24002
        assert server("accept(l)[1]") == name


@pairs(OUT)
def test_one_socket_and_one_peer_after_another(lab, pair, containers):
    """Plain, Slim, loopback, refused: what a connection leaves in a socket is no other one's."""
    a, b, client, server = pair
    other = "far" if a != "far" else "near"
    server.do("l = listen('0.0.0.0', 87, options=reuse)")
    containers[other].do("l = listen('0.0.0.0', 87, options=reuse)")
    client.do("""
mine = listen('127.0.0.1', 87, options=reuse)
def again(address, port=87):
    # Python knows of no connect() with AF_UNSPEC.
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.connect(s.fileno(), bytes(16), 16) == 0
    r = s.connect_ex((address, port))
    return errno.errorcode.get(r, r) or names(s)
s = socket.socket()
""")
    plain, slim = lab.ip(b), lab.ip(other)
    for _ in range(2):
        assert client(f"again('{plain}')")[0][0] == lab.ip(a)
        assert server("accept(l)[1][0]") == lab.ip(a)
        assert client(f"again('{slim}')")[0][0] == lab.ip(a)
        assert containers[other]("accept(l)[1][0]") == lab.ip(a)
        assert client("again('127.0.0.1')")[0][0] == "127.0.0.1"
        assert client("accept(mine)[1][0]") == "127.0.0.1"
        assert client(f"again('{plain}', 1)") == "ECONNREFUSED"
        assert client(f"again('{slim}', 1)") == "ECONNREFUSED"
    containers[other].do("l.close()")


@pairs(OUT)
def test_non_blocking(lab, pair):
    _, b, client, server = pair
    server.do("l = listen('0.0.0.0', 88, options=reuse)")
    assert client(f"connect_error('{lab.ip(b)}', 88, blocking=False)") == "EINPROGRESS"
    client.do(f"s = socket.socket(); s.setblocking(False); s.connect_ex(('{lab.ip(b)}', 88))")
    assert client("select.select([], [s], [], 20)[1] == [s]")
    assert client("s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)") == 0
    client.do(f"s = socket.socket(); s.setblocking(False); s.connect_ex(('{lab.ip(b)}', 1))")
    assert client("select.select([], [s], [], 20)[1] == [s]")
    assert client("s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)") == errno.ECONNREFUSED


# --- Multipath TCP --------------------------------------------------------------------------------


@pytest.mark.parametrize("a,b", [("slim", "slim"), ("slim", "near"), ("slim", "far"), ("slim", "plain"),
                                 ("slim", "plainfar"), ("plain", "slim"), ("plainfar", "slim")])
@pytest.mark.parametrize("protocols", [(262, 262), (262, 0), (0, 262)],
                         ids=["MPTCP to MPTCP", "MPTCP to TCP", "TCP to MPTCP"])
def test_multipath_tcp(lab, containers, protocols, a, b):
    """In a Slim container it is the TCP that it falls back to, swapped like any other."""
    client, server = containers[a], containers[b]
    try:
        server.do(f"l = socket.socket(socket.AF_INET, socket.SOCK_STREAM, {protocols[1]})")
        client.do(f"s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, {protocols[0]})")
    except OSError as e:
        if e.errno != errno.EPROTONOSUPPORT:
            raise
        pytest.skip("this kernel has no MPTCP")
    server.do("l.setsockopt(*reuse[0], 1); l.bind(('', 89)); l.listen()")
    client.do(f"s.connect(('{lab.ip(b)}', 89)); s.sendall(b'hello')")
    server.do("c, who, mine = accept(l)")
    assert server("c.recv(5), who, mine[0]") == (b"hello", client("s.getsockname()"),
                                                 (lab.ip(b), 89))
    for r, kind, names in (client, NAMES[a][1], "s"), (server, NAMES[b][1], "lc"):
        for name in names if kind == "slim" else "":
            assert r(f"{name}.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL)") == 6
            assert r(f"{name}.getsockopt(socket.IPPROTO_TCP, 43)") == 0  # TCP_IS_MPTCP
    client.do("s.close()")
    server.do("c.close(); l.close()")


# --- the move -------------------------------------------------------------------------------------


def kinds(lab, *words):
    return {e["name"]: e["kind"] for e in lab.ctl("h1", "endpoint", "ls", *words)["endpoints"]}


def test_endpoint_ls_says_which_is_which(lab, containers):
    known = {name: kind for name, (_, kind) in NAMES.items()}
    listed = kinds(lab)
    assert {n: listed[n] for n in known} == known
    assert "host" not in listed.values()
    assert {n: k for n, k in kinds(lab, "--all").items() if k == "host"} == {"h1": "host",
                                                                            "h2": "host"}


SERVER = ("import socket; l = socket.create_server(('', 91)); print('ready', flush=True)\n"
          "while True:\n c, a = l.accept(); c.sendall(a[0].encode()); c.close()")


def test_a_container_moves_to_slim_and_back(lab, containers):
    """Under its own address, while clients of both kinds come and go."""
    clients = {n: containers[n] for n in ("slim", "far", "plain", "plainfar")}
    for kind in "plain", "run", "plain", "run":
        with lab.start(kind, "h2", "moving", PYTHON, "-c", SERVER, ready="ready"):
            assert kinds(lab)["moving"] == ("slim" if kind == "run" else "plain")
            for name, client in clients.items():
                reached = f"connect_error('{lab.ip('moving')}', 91)"
                wait_until(lambda: client(reached) == "connected", f"{name} to hear of the move")
                client.do(f"s = connect('{lab.ip('moving')}', 91)")
                assert client("s.makefile().read()") == lab.ip(name)
                client.do("s.close()")
        wait_until(lambda: "moving" not in kinds(lab), "the container to go")


# --- real programs, and an end under load ---------------------------------------------------------


@pytest.mark.parametrize("client, server", [("run", "plain"), ("plain", "run")])
@pytest.mark.parametrize("host", ["h1", "h2"])
def test_iperf3(lab, client, server, host):
    name = f"ip3-{server}-{host}"
    with lab.start(server, host, name, "iperf3", "-s", "--forceflush", ready="Server listening"):
        done = lab.verb(client, "h1", f"{name}-c", "--", "iperf3", "-c", lab.ip(name), "-n", "32M", "-P", "2",
                        "-J", timeout=2 * PATIENCE)
        # What is under way at the end is not counted at the receiver's.
        assert json.loads(done.stdout)["end"]["sum_received"]["bytes"] >= 8 << 20
        done = lab.verb(client, "h1", f"{name}-c", "--", "iperf3", "-c", lab.ip(name), "-n", "32M", "-R",
                        "-J", timeout=2 * PATIENCE)
        assert json.loads(done.stdout)["end"]["sum_received"]["bytes"] >= 8 << 20


def test_slimd_may_be_away(lab, containers):
    containers["far"].do("l = listen('0.0.0.0', 92, options=reuse)")
    containers["plainfar"].do("l = listen('0.0.0.0', 92, options=reuse)")
    lab.verb("daemon", "h1", "kill")
    lab.verb("daemon", "h2", "kill")
    try:
        for client, server in ("plain", "far"), ("slim", "plainfar"), ("near", "plainfar"):
            containers[client].do(f"s = connect('{lab.ip(server)}', 92)")
            assert containers[server]("accept(l)[1]") == containers[client]("s.getsockname()")
    finally:
        lab.verb("daemon", "h1", "start")
        lab.verb("daemon", "h2", "start")
    for client, server in ("plain", "far"), ("slim", "plainfar"):
        containers[client].do(f"s = connect('{lab.ip(server)}', 92)")
        assert containers[server]("accept(l)[1]") == containers[client]("s.getsockname()")


def test_nobody_speaks_for_another(lab, containers):
    """A plain container with another's source address reaches no swapped listener."""
    containers["near"].do("l = listen('0.0.0.0', 93, options=reuse)")
    containers["far"].do("l = listen('0.0.0.0', 93, options=reuse)")
    moved = Moved(lab, "h1")
    for other in "near", "far":
        containers["plain"].do(f"""
subprocess.run(['ip', 'addr', 'add', '{lab.ip('plainfar')}/32', 'dev', 'lo'], check=True)
s = socket.socket(); s.bind(('{lab.ip('plainfar')}', 0)); s.settimeout(1)
try:
    r = s.connect_ex(('{lab.ip(other)}', 93))
finally:
    subprocess.run(['ip', 'addr', 'del', '{lab.ip('plainfar')}/32', 'dev', 'lo'], check=True)
""")
        assert containers["plain"]("r") in (errno.EAGAIN, errno.EINPROGRESS, errno.ETIMEDOUT)
        assert not containers[other]("pending(l)")
    assert moved("encap_spoofed")["encap_spoofed"] >= 2


def test_nothing_is_left(lab, containers):
    for r in containers.values():
        r.do("for _s in [v for v in globals().values() if isinstance(v, socket.socket)]: _s.close()")
    for host in "h1", "h2":
        wait_until(lambda: lab.ctl(host, "status")["maps"]["ports"] == 0, "bindings to go")
        assert lab.ctl(host, "status")["maps"]["syns"] == 0
