# SPDX-License-Identifier: Apache-2.0
"""
listen() in a container, which its broker answers: the backlog, every kind of socket that can listen,
refusals that leave a socket as it was, and a broker that dies with the call in hand.
"""

import errno
import os
import signal

import pytest

from conftest import wait_until
from remote import Remote

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


def refused(remote, code):
    with pytest.raises(OSError) as e:
        remote.do(code)
    return errno.errorcode[e.value.errno]


# --- what cannot listen ---------------------------------------------------------------------------


def test_errors_are_the_kernels(server):
    server.do("import ctypes\n"
              "libc = ctypes.CDLL(None, use_errno=True)\n"
              "def raw(fd, backlog=1):\n"
              "    r = libc.listen(fd, backlog)\n"
              "    return errno.errorcode[ctypes.get_errno()] if r < 0 else 'ok'\n")
    assert server("raw(-1)") == "EBADF"
    assert server("raw(9999)") == "EBADF"
    server.do("f = open('/dev/null'); u = socket.socket(type=socket.SOCK_DGRAM)\n"
              "p = os.open('/', os.O_PATH)")
    assert server("raw(f.fileno())") == "ENOTSOCK"
    assert server("raw(p)") == "EBADF"
    assert server("raw(u.fileno())") == "ENOTSUP"  # EOPNOTSUPP
    server.do("os.close(p); f.close(); u.close()")
    # A connection cannot, at either end, and goes on.
    server.do("l = listen('127.0.0.1', 9000); a = connect('127.0.0.1', 9000); b = l.accept()[0]")
    assert server("[raw(a.fileno()), raw(b.fileno())]") == ["EINVAL", "EINVAL"]
    server.do("a.sendall(b'x')")
    assert server("b.recv(1)") == b"x"
    assert server("raw(l.fileno(), 5)") == "ok"  # again: another backlog
    server.do("a.close(); b.close(); l.close()")


def test_a_unix_socket_is_its_own(server):
    """Its listener's ids are what clients see: the program's, not its broker's."""
    server.do("u = socket.socket(socket.AF_UNIX); u.bind('\\0slim-test'); u.listen()\n"
              "c = socket.socket(socket.AF_UNIX); c.connect('\\0slim-test')")
    pid, uid, gid = server("struct.unpack('3i', c.getsockopt(socket.SOL_SOCKET, "
                           "socket.SO_PEERCRED, 12))")
    assert (pid, uid, gid) == (server.pid, 0, 0)
    server.do("c.close(); u.close()")


def test_a_nearer_address_that_listens_later(server, client, lab):
    """SO_REUSEADDR lets both bind, and one of them listen, whichever is first."""
    own = lab.ip("server")
    for first, second in (("0.0.0.0", own), (own, "0.0.0.0"), ("::", own), (own, "::")):
        server.do(f"s = []\n"
                  f"for a in '{first}', '{second}':\n"
                  "    s.append(socket.socket(socket.AF_INET6 if ':' in a else socket.AF_INET))\n"
                  f"    s[-1].setsockopt(*{REUSE_ADDR}, 1)\n"
                  "    s[-1].bind((a, 9001))\n"
                  "s[0].listen()")
        assert refused(server, "s[1].listen()") == "EADDRINUSE"
        assert server("s[1].getsockname()[:2]") == (second, 9001)
        client.do(f"connect('{own}', 9001).close()")
        server.do("s[0].accept()[0].close(); s[0].close(); s[1].listen()")
        client.do(f"connect('{own}', 9001).close()")
        server.do("s[1].accept()[0].close(); s[1].close()")


def test_the_65th_member_of_a_group(server):
    server.do("ls = []\n"
              "for _ in range(65):\n"
              "    s = socket.socket()\n"
              f"    s.setsockopt(*{REUSE_PORT}, 1)\n"
              "    s.bind(('0.0.0.0', 9002))\n"
              "    ls.append(s)\n"
              "for s in ls[:64]: s.listen()")
    assert refused(server, "ls[64].listen()") == "ENOMEM"
    server.do("ls[5].close(); ls[64].listen()\n"
              "for s in ls: s.close()")


# --- the backlog ----------------------------------------------------------------------------------

BACKLOG = "struct.unpack('I', l.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[28:32])[0]"


def test_the_containers_own_somaxconn(server):
    """tcpi_sacked of a listener is its backlog (tcp_get_info())."""
    server.do("def somaxconn(n):\n"
              "    with open('/proc/sys/net/core/somaxconn', 'w') as f: f.write(str(n))\n")
    before = int(server("open('/proc/sys/net/core/somaxconn').read()"))
    server.do("l = listen('0.0.0.0', 9003, backlog=7)")
    assert server(BACKLOG) == 7
    try:
        server.do("somaxconn(33); l.listen(1000)")
        assert server(BACKLOG) == 33
        server.do("l.listen(20)")
        assert server(BACKLOG) == 20
        server.do("somaxconn(5)")
        assert server(BACKLOG) == 20  # it counts when listen() is called
        server.do("import ctypes; ctypes.CDLL(None).listen(l.fileno(), -1)")
        assert server(BACKLOG) == 5
    finally:
        server.do(f"somaxconn({before}); l.close()")


# --- without bind() -------------------------------------------------------------------------------


def test_automatic_ports_are_the_containers_own(server):
    """Sockets that listen without bind() get ports out of the table, and each its own."""
    server.do("ls = [socket.socket() for _ in range(300)]\n"
              "for l in ls: l.listen()")
    ports = server("[l.getsockname()[1] for l in ls]")
    assert len(set(ports)) == 300
    assert all(server(f"bind_error('0.0.0.0', {p})") == "EADDRINUSE" for p in ports[:20])
    server.do("for l in ls: l.close()")


# --- threads, and sockets that travel -------------------------------------------------------------


def test_by_another_thread_and_process(server):
    server.do("s = socket.socket(); s.bind(('127.0.0.1', 9004))\n"
              "t = threading.Thread(target=s.listen); t.start(); t.join()\n"
              "connect('127.0.0.1', 9004).close(); s.accept()[0].close(); s.close()\n"
              "s = socket.socket(); s.bind(('127.0.0.1', 9004))\n"
              "pid = os.fork()\n"
              "if pid == 0:\n"
              "    try: s.listen(); os._exit(0)\n"
              "    finally: os._exit(1)\n")
    assert server("os.waitpid(pid, 0)[1]") == 0
    server.do("connect('127.0.0.1', 9004).close(); s.accept()[0].close(); s.close()")


def test_after_the_first_thread_has_ended(server, tmp_path):
    """The process's own number is then a dead thread's, which has no descriptors any more."""
    source = tmp_path / "first.c"
    source.write_text(r"""
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
static void *later(void *arg)
{
        int fd = socket(AF_INET, SOCK_STREAM, 0), on = 0;
        socklen_t len = sizeof(on);
        pthread_join(*(pthread_t *)arg, NULL);
        if (listen(fd, 5) < 0)
                exit(errno);
        exit(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) < 0 || !on ? 200 : 0);
}
int main(void)
{
        static pthread_t first;
        pthread_t other;
        first = pthread_self();
        if (pthread_create(&other, NULL, later, &first))
                return 201;
        pthread_exit(NULL);
}
""")
    program = tmp_path / "first"
    assert os.spawnlp(os.P_WAIT, "cc", "cc", "-pthread", "-o", str(program), str(source)) == 0
    assert server(f"subprocess.run(['{program}']).returncode") == 0


# --- brokers that die -----------------------------------------------------------------------------


def test_brokers_killed_under_listens_cost_no_call(lab, server):
    def broker():
        return lab.ctl("h1", "endpoint", "show", "server")["endpoint"]["broker_pid"]

    server.do("done, stop, bad = 0, False, []\n"
              "def work():\n"
              "    global done\n"
              "    while not stop:\n"
              "        try:\n"
              "            s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(3)\n"
              "            connect('127.0.0.1', s.getsockname()[1]).close()\n"
              "            s.accept()[0].close(); s.close()\n"
              "            done += 1\n"
              "        except OSError as e: bad.append(repr(e))\n"
              "fds = len(os.listdir('/proc/self/fd'))\n"
              "worker = threading.Thread(target=work); worker.start()")
    try:
        for _ in range(8):
            before, pid = server("done"), broker()
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda p=pid: broker() not in (0, p), "another broker")
            wait_until(lambda n=before: server("done") > n + 5, "listeners to be made")
    finally:
        server.do("stop = True; worker.join()")
    assert server("bad") == []
    # Nor did anyone get a socket twice.
    assert server("len(os.listdir('/proc/self/fd'))") == server("fds")
