# SPDX-License-Identifier: Apache-2.0
"""
SO_REUSEPORT groups: how connections are shared among the members, what a member's end costs, and
how many members there may be.
"""

import collections
import errno
import pathlib

import pytest

from conftest import wait_until
from remote import Remote

CONNECTIONS = 10000

# One after the other, each told who served it by a line; {who: how many}. They end with a reset, so
# that no source port is kept in TIME_WAIT.
CONNECT = """
import collections
import errno
def connect_many(address, port, n, request=b''):
    counts = collections.Counter()
    for _ in range(n):
        with socket.create_connection((address, port)) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            if request:
                s.sendall(request)
            counts[s.recv(4096).split(b'\\n')[-1].decode()] += 1
    return dict(counts)
"""

# Members of a group, each a process that accepts, says its number, and hangs up.
MEMBERS = """
members = []
def member(number, port):
    l = listen('0.0.0.0', port, options=[(socket.SOL_SOCKET, socket.SO_REUSEPORT)], backlog=512)
    pid = os.fork()
    if pid == 0:
        l.settimeout(None)
        while True:
            c = l.accept()[0]
            with contextlib.suppress(OSError):
                c.sendall(b'%d' % number)
                c.recv(1)  # until the client has hung up
            c.close()
    l.close()
    members.append(pid)
def end(at):
    pid = members.pop(at)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
def end_all():
    while members:
        end(0)
"""


@pytest.fixture(scope="module")
def server(lab):
    with Remote.slim(lab, "h1", "server") as r:
        r.do(MEMBERS)
        yield r


@pytest.fixture(scope="module")
def client(lab):
    with Remote.slim(lab, "h2", "client") as r:
        r.do(CONNECT)
        yield r


def evenly(counts, members):
    """All were served, and no member had under half or over twice its share."""
    assert sum(counts.values()) == CONNECTIONS
    assert len(counts) == members, counts
    share = CONNECTIONS / members
    assert min(counts.values()) >= share / 2 and max(counts.values()) <= share * 2, counts


def test_nginx(lab, client):
    place = pathlib.Path(f"/run/slim-lab/{lab.id}/reuseport")
    place.mkdir()
    place.chmod(0o755)
    (place / "conf").write_text(f"""
daemon off; worker_processes 4; error_log stderr; pid {place}/pid;
events {{}}
http {{
  access_log off; client_body_temp_path {place}/a; proxy_temp_path {place}/b;
  fastcgi_temp_path {place}/c; uwsgi_temp_path {place}/d; scgi_temp_path {place}/e;
  server {{ listen 80 reuseport; location / {{ return 200 $pid; }} }}
}}
""")
    with lab.start("run", "h1", "nginx", "nginx", "-c", place / "conf"):
        lab.wait_listening("h1", "nginx", 80)
        evenly(client(f"connect_many('{lab.ip('nginx')}', 80, {CONNECTIONS}, "
                      "b'GET / HTTP/1.0\\r\\n\\r\\n')"), 4)


@pytest.mark.parametrize("members", [2, 3, 64])
def test_single_members(lab, server, client, members):
    server.do(f"for i in range({members}): member(i, 7000)")
    try:
        evenly(client(f"connect_many('{lab.ip('server')}', 7000, {CONNECTIONS})"), members)
    finally:
        server.do("end_all()")


def test_from_the_same_host_and_by_loopback(lab, server):
    server.do(CONNECT)
    server.do("for i in range(4): member(i, 7001)")
    try:
        with Remote.slim(lab, "h1", "near") as near:
            near.do(CONNECT)
            evenly(near(f"connect_many('{lab.ip('server')}', 7001, {CONNECTIONS})"), 4)
        evenly(server(f"connect_many('127.0.0.1', 7001, {CONNECTIONS})"), 4)
    finally:
        server.do("end_all()")


@pytest.mark.parametrize("how", ["close", "shutdown"])
def test_an_end_loses_its_own_queue_only(lab, server, client, how):
    """Connections that wait in the other members' queues are served, and so are all later ones."""
    server.do("""
group = [listen('0.0.0.0', 7002, options=[(socket.SOL_SOCKET, socket.SO_REUSEPORT)], backlog=512)
         for _ in range(4)]
def serve(l):
    # Serves what is in its queue; how many that were.
    n = 0
    while pending(l):
        c = l.accept()[0]
        c.sendall(b'served')
        c.close()
        n += 1
    return n
def queued(l):
    # How many wait in the queue: a listener's tcpi_unacked (its accept queue, tcp_get_info()).
    return struct.unpack_from('I', l.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)[0]
""")
    client.do(f"""
waiting = [connect('{lab.ip('server')}', 7002) for _ in range(200)]
def outcome(s):
    try:
        return s.recv(10).decode()
    except OSError as e:
        return errno.errorcode[e.errno]
    finally:
        s.close()
""")
    wait_until(lambda: sum(server("[queued(l) for l in group]")) == 200, "all to be queued")
    queues = server("[queued(l) for l in group]")
    assert min(queues) > 0
    server.do("l = group.pop(1); " + ("l.close()" if how == "close"
                                      else "l.shutdown(socket.SHUT_RDWR)"))
    assert server("sum(serve(l) for l in group)") == 200 - queues[1]
    outcomes = collections.Counter(client("[outcome(s) for s in waiting]"))
    assert outcomes == {"served": 200 - queues[1], "ECONNRESET": queues[1]}

    client.do(f"later = [connect('{lab.ip('server')}', 7002) for _ in range(200)]")
    wait_until(lambda: sum(server("[queued(l) for l in group]")) == 200, "all to be queued")
    assert server("sum(serve(l) for l in group)") == 200
    assert collections.Counter(client("[outcome(s) for s in later]")) == {"served": 200}
    server.do("l.close(); [l.close() for l in group]")
    assert client(f"connect_error('{lab.ip('server')}', 7002)") == "ECONNREFUSED"


def test_members_come_and_go_under_load(lab, server, client):
    """While members end and others begin, nobody is refused; a reset is a dead member's own."""
    server.do("for i in range(4): member(i, 7003)")
    client.do(f"""
results = collections.Counter()
stop = threading.Event()
def load():
    while not stop.is_set():
        try:
            with socket.create_connection(('{lab.ip('server')}', 7003)) as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
                results['served' if s.recv(10) else 'cut off'] += 1
        except OSError as e:
            results[errno.errorcode.get(e.errno, type(e).__name__)] += 1
threads = [threading.Thread(target=load) for _ in range(4)]
[t.start() for t in threads]
""")
    try:
        ended = 0
        for i in range(20):
            before = client("results['served']")
            server.do(f"member({4 + i}, 7003)")
            server.do("end(0)")
            ended += 1
            wait_until(lambda b=before: client("results['served']") > b + 50, "connections to go on")
    finally:
        client.do("stop.set(); [t.join() for t in threads]")
        server.do("end_all()")
    results = client("dict(results)")
    # Each of four clients has one connection at a time, so an end takes four at most. In a native
    # group, too, one in some thousand of those hears nothing at all of its member's end.
    lost = sum(results.pop(k, 0) for k in ("cut off", "ECONNRESET", "TimeoutError"))
    assert set(results) == {"served"}, results
    assert lost <= 4 * ended


def test_the_65th_member_is_refused(lab, server, client):
    """There is room for 64: one more is told so, and takes nothing from the others."""
    server.do("""
share = [(socket.SOL_SOCKET, socket.SO_REUSEPORT)]
group = [listen('0.0.0.0', 7004, options=share, backlog=512) for _ in range(64)]
""")
    with pytest.raises(OSError) as e:
        server.do("listen('0.0.0.0', 7004, options=share)")
    assert e.value.errno == errno.ENOMEM
    client.do(f"many = [connect('{lab.ip('server')}', 7004) for _ in range(2000)]")
    assert server("sum(pending(l) for l in group)") == 64
    # A member that comes when another has gone has its place.
    server.do("group.pop(3).close(); new = listen('0.0.0.0', 7004, options=share, backlog=512)")
    client.do("[s.close() for s in many]")
    client.do(f"many = [connect('{lab.ip('server')}', 7004) for _ in range(2000)]")
    wait_until(lambda: server("pending(new)"), "the new member to get its share")
    client.do("[s.close() for s in many]")
    server.do("[l.close() for l in group]; new.close()")
