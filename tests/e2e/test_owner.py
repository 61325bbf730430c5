# SPDX-License-Identifier: Apache-2.0
"""
Whose a socket is: its user and group are the caller's, and its memory is charged below the
container's cgroup.
"""

import errno
import pathlib

import pytest

from conftest import lab_up, wait_until
from remote import Remote

REUSE_PORT = "(socket.SOL_SOCKET, socket.SO_REUSEPORT)"

CODE = r"""
def owner(s):
    st = os.fstat(s.fileno())
    return st.st_uid, st.st_gid

def as_user(uid, gid, code, undumpable=False):
    # What an expression of a child is worth that has these ids and nothing of root's.
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([]); os.setgid(gid); os.setuid(uid)
            if undumpable:
                import ctypes
                ctypes.CDLL(None).prctl(4, 0)
            said = eval(code)
        except OSError as e:
            said = errno.errorcode[e.errno]
        os.write(w, repr(said).encode())
        os._exit(0)
    os.close(w)
    os.waitpid(pid, 0)
    with os.fdopen(r) as f:
        return eval(f.read())
"""


@pytest.fixture(scope="module")
def web(lab):
    with Remote.slim(lab, "h1", "web") as r:
        r.do(CODE)
        yield r


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6"])
def test_the_callers_ids(web, family):
    made = f"owner(socket.socket(socket.{family}))"
    assert web(made) == (0, 0)
    assert web(f"as_user(1234, 567, '{made}')") == (1234, 567)
    assert web(f"as_user(0, 567, '{made}')") == (0, 567)
    # Also of a process that has hidden itself, whose files in /proc are root's.
    assert web(f"as_user(1234, 567, '{made}', undumpable=True)") == (1234, 567)
    # As for a socket of the container's own.
    udp = made.replace(")", ", socket.SOCK_DGRAM)", 1)
    assert web(f"as_user(1234, 567, '{udp}')") == (1234, 567)
    # Effective ids count, and those of the call, not of later.
    web.do(f"os.seteuid(1234); s = socket.socket(socket.{family}); os.seteuid(0)")
    assert web("owner(s)") == (1234, 0)
    web.do("s.close()")


def test_what_the_host_sees(lab, web):
    """sk_uid, which ss, firewalls and `slimctl connection ls` read."""
    web.do("os.seteuid(1234); s = socket.socket(); s.bind(('0.0.0.0', 9300)); s.listen()\n"
           "os.seteuid(0)")
    uids = [c["uid"] for c in lab.ctl("h1", "connection", "ls", "--name", "web")["connections"]]
    assert uids == [1234]
    port = lab.ctl("h1", "connection", "ls", "--name", "web")["connections"][0]["host_local"]
    shown = lab.host("h1", "ss", "-ltne", f"sport = :{port.rsplit(':', 1)[1]}").stdout
    assert "uid:1234" in shown
    web.do("s.close()")


def test_reuseport_is_for_one_user(web):
    """As in inet_bind_conflict(): another user cannot take a share of a port by SO_REUSEPORT."""
    web.do("def member(port):\n"
           "    s = socket.socket()\n"
           f"    s.setsockopt(*{REUSE_PORT}, 1)\n"
           "    s.bind(('0.0.0.0', port)); s.listen()\n"
           "    return s\n"
           "a = member(9301)")
    assert web("as_user(1234, 567, 'member(9301) and 1')") == "EADDRINUSE"
    web.do("b = member(9301); a.close()")
    assert web("as_user(1234, 567, 'member(9301) and 1')") == "EADDRINUSE"
    web.do("b.close()")
    assert web("as_user(1234, 567, '[member(9301), member(9301)] and 1')") == 1
    # And nothing is left of them.
    assert web("as_user(4321, 567, 'member(9301) and 1')") == 1


def test_users_that_share_by_reuseaddr(web):
    """SO_REUSEADDR is for everybody, but a port that two users have is no longer one user's."""
    web.do("def bound(port, *options):\n"
           "    s = socket.socket()\n"
           "    for o in options: s.setsockopt(socket.SOL_SOCKET, o, 1)\n"
           "    s.bind(('0.0.0.0', port))\n"
           "    return s\n"
           "A, P = socket.SO_REUSEADDR, socket.SO_REUSEPORT\n"
           "a = bound(9302, A, P); os.seteuid(1234); b = bound(9302, A, P); os.seteuid(0)")
    assert web("as_user(1234, 567, 'bound(9302, P) and 1')") == "EADDRINUSE"
    with pytest.raises(OSError) as e:
        web.do("bound(9302, P)")
    assert e.value.errno == errno.EADDRINUSE
    web.do("b.close(); c = bound(9302, P); c.listen()")
    with pytest.raises(OSError) as e:
        web.do("os.seteuid(1234)\ntry: bound(9302, A, P)\nfinally: os.seteuid(0)")
    assert e.value.errno == errno.EADDRINUSE
    web.do("a.close(); c.close()")


def test_fast_changes_of_user(web):
    """Threads of one process may have ids of their own."""
    web.do("import ctypes\n"
           "libc = ctypes.CDLL(None)\n"
           "bad = []\n"
           "def work(uid):\n"
           "    libc.syscall(117, -1, uid, -1)  # setresuid() for this thread alone\n"
           "    for _ in range(300):\n"
           "        with socket.socket() as s:\n"
           "            if owner(s)[0] != uid: bad.append((uid, owner(s)))\n"
           "ts = [threading.Thread(target=work, args=(u,)) for u in (0, 11, 22, 33)]\n"
           "for t in ts: t.start()\n"
           "for t in ts: t.join()")
    assert web("bad") == []


# --- memory ---------------------------------------------------------------------------------------


def cgroup2():
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        if right.split()[0] == "cgroup2":
            return pathlib.Path(left.split()[4])
    return pytest.fail("cgroup2 is not mounted")


def stat(cgroup, field):
    for line in (cgroup / "memory.stat").read_text().splitlines():
        name, value = line.split()
        if name == field:
            return int(value)
    return pytest.fail(f"{cgroup}/memory.stat has no {field}")


def test_the_cgroups_of_a_container(lab, web):
    shown = lab.ctl("h1", "endpoint", "show", "web")["endpoint"]
    cgroup = pathlib.Path(shown["cgroup"])
    assert sorted(p.name for p in cgroup.iterdir() if p.is_dir()) == ["broker", "program"]
    assert (cgroup / "broker/cgroup.procs").read_text().split() == [str(shown["broker_pid"])]
    assert len((cgroup / "program/cgroup.procs").read_text().split()) == shown["pids"]
    assert (cgroup / "cgroup.procs").read_text() == ""


@pytest.mark.skipif("memory" not in (cgroup2() / "cgroup.controllers").read_text().split(),
                    reason="the memory controller is not cgroup2's here")
def test_memory_is_charged_to_the_container():
    """What waits in a swapped socket is the container's, at the end that connected and at the one
    that accepted."""
    with lab_up(hosts=1) as lab:
        top = cgroup2() / f"slim-lab-{lab.id}"
        # From the root down to slimd's own, which gives it on when it starts.
        for cgroup in cgroup2(), top, top / "h1":
            (cgroup / "cgroup.subtree_control").write_text("+memory")
        lab.verb("daemon", "h1", "stop")
        lab.verb("daemon", "h1", "start")
        with Remote.slim(lab, "h1", "server") as server, Remote.slim(lab, "h1", "client") as client:
            cgroups = [pathlib.Path(lab.ctl("h1", "endpoint", "show", n)["endpoint"]["cgroup"])
                       for n in ("server", "client")]
            server.do("l = listen('0.0.0.0', 9303)")
            client.do(f"c = connect('{lab.ip('server')}', 9303)")
            server.do("s = l.accept()[0]")
            before = [stat(c, "sock") for c in cgroups]
            # The server does not read: what it was sent waits at both ends.
            client.do("c.setblocking(False)\n"
                      "try:\n"
                      "    while True: c.send(bytes(65536))\n"
                      "except BlockingIOError: pass")
            for cgroup, was in zip(cgroups, before):
                wait_until(lambda c=cgroup, w=was: stat(c, "sock") > w + 65536,
                           f"{cgroup.name}'s sock to grow")
            client.do("c.close()")
            server.do("s.close()")
            for cgroup, was in zip(cgroups, before):
                wait_until(lambda c=cgroup, w=was: stat(c, "sock") <= w + 65536,
                           f"{cgroup.name}'s sock to shrink")
