# SPDX-License-Identifier: Apache-2.0
"""
libslimsocket.so: sockets without the broker, in whatever a program does to its descriptors, its
processes and itself. That a socket came out of the queue is seen by stopping the broker: the queue
gives sockets still, and any other socket() waits.
"""

import contextlib
import errno
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

from conftest import ROOT, lab_up, wait_until
from remote import PYTHON, Remote

BUILT = pathlib.Path(os.environ.get("SLIM_BUILD") or ROOT / "build").resolve()
QUEUE_SIZE = 64
QUEUES = 8

# What the interpreters know besides: whose a socket is, and how to make many.
CODE = """
import ctypes, fcntl, mmap, resource
libc = ctypes.CDLL(None, use_errno=True)
def cookie(s):
    return struct.unpack('Q', s.getsockopt(socket.SOL_SOCKET, socket.SO_COOKIE
                                           if hasattr(socket, 'SO_COOKIE') else 57, 8))[0]
def inode(s):
    return os.fstat(s.fileno()).st_ino
def own_inodes():
    # Of all TCP sockets of this network namespace: a swapped one is not among them.
    return {int(line.split()[9]) for f in ('tcp', 'tcp6')
            for line in open('/proc/thread-self/net/' + f).read().splitlines()[1:]}
def each_swapped(some):
    # One look for all: the kernel goes through all sockets of the machine for it.
    for s in some:
        s.bind(('', 0))
        s.listen()
    own = own_inodes()
    return [inode(s) not in own for s in some]
def swapped(s):
    return each_swapped([s])[0]
def sockets_of(pid):
    # Another descriptor may be closed between the two looks.
    found = 0
    for f in os.listdir(f'/proc/{pid}/fd'):
        with contextlib.suppress(FileNotFoundError):
            found += os.readlink(f'/proc/{pid}/fd/{f}').startswith('socket:')
    return found
def all_swapped(some):
    return all(each_swapped(some))
def queues():
    # The descriptors of queues.
    found = []
    for f in os.listdir('/proc/self/fd'):
        with contextlib.suppress(OSError):
            t = socket.socket(fileno=os.dup(int(f)))
            if t.family == socket.AF_UNIX and t.type == socket.SOCK_SEQPACKET:
                found.append(int(f))
            t.close()
    return sorted(found)
def make(n, family=socket.AF_INET, type=socket.SOCK_STREAM):
    return [socket.socket(family, type) for _ in range(n)]
def forked(f):
    # What f says in a child.
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(r)
        try:
            os.write(w, json.dumps(f()).encode())
        except BaseException as e:
            os.write(w, json.dumps(repr(e)).encode())
        os._exit(0)
    os.close(w)
    with open(r) as f:
        said = f.read()
    os.waitpid(pid, 0)
    return json.loads(said)
"""


@pytest.fixture(scope="module")
def build():
    """What runs, where everybody can read it, wherever the tree is: else slimctl goes without."""
    with tempfile.TemporaryDirectory(prefix="slim-test-", dir="/run") as d:
        place = pathlib.Path(d)
        place.chmod(0o755)
        for part in ("slimd/slimd", "broker/slim-broker", "slimctl/slimctl",
                     "slimsocket/libslimsocket.so"):
            (place / "src" / part).parent.mkdir(parents=True)
            shutil.copy(BUILT / "src" / part, place / "src" / part)
        yield place


@pytest.fixture(scope="module")
def lab(build):
    with lab_up(build=build) as up:
        yield up


def broker_of(lab, name, host="h1"):
    found = []
    wait_until(lambda: found.append(lab.ctl(host, "endpoint", "show", name)["endpoint"]["broker_pid"])
               or found[-1], "a broker")
    return found[-1]


@contextlib.contextmanager
def no_broker(lab, name):
    """It is stopped: only the queue gives sockets."""
    pid = broker_of(lab, name)
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                   == "T", "the broker to stop")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def container(lab, name, options=()):
    with Remote.slim(lab, "h1", name, options=options) as r:
        r.do(CODE)
        yield r


@pytest.fixture
def c(lab, request):
    # The name is short and no other container's.
    with container(lab, f"acc{abs(hash(request.node.name)) % 10 ** 8}") as r:
        yield r


def settle(lab, name):
    """The broker has nothing to do any more: all queues are full."""
    pid = broker_of(lab, name)
    ran = []

    def idle():
        time.sleep(0.03)
        ran.append([p.read_text().split()[0]
                    for p in sorted(pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"))])
        return len(ran) > 3 and ran[-4:] == ran[-1:] * 4

    wait_until(idle, "the broker to have nothing to do")


def ask_for_queue(lab, r, families=("AF_INET",)):
    for family in families:
        r.do(f"[s.close() for s in make(3, socket.{family})]")
    settle(lab, r.name)


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6"])
def test_sockets_without_the_broker(lab, c, family):
    ask_for_queue(lab, c, [family])
    with no_broker(lab, c.name):
        c.do(f"""
some = make(10, socket.{family})
some += make(10, socket.{family}, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
some += [socket.socket(socket.{family}, socket.SOCK_STREAM, p) for p in (socket.IPPROTO_TCP, 262)]
raw = [libc.socket(int(socket.{family}), 1 | f, 0)
       for f in (0, os.O_CLOEXEC, os.O_NONBLOCK, os.O_CLOEXEC | os.O_NONBLOCK)]
flags = [(fcntl.fcntl(f, fcntl.F_GETFD), fcntl.fcntl(f, fcntl.F_GETFL) & os.O_NONBLOCK) for f in raw]
""")
        nonblock = os.O_NONBLOCK
        assert c("flags") == [(0, 0), (1, 0), (0, nonblock), (1, nonblock)]
        # The lowest free numbers, as ever; the queue is out of the way.
        assert c("queues()[0] >= 200 and len(queues())") == 1
        assert c("sorted([s.fileno() for s in some] + raw) == "
                 "list(range(some[0].fileno(), some[0].fileno() + 26))")
    assert c("len({inode(s) for s in some})") == 22
    assert c("[(s.family == socket." + family + ", s.getblocking()) for s in some[9:11]]") == \
        [(True, True), (True, False)]
    assert c("all_swapped(some)")
    c.do("[s.close() for s in some]; [os.close(f) for f in raw]")


def test_a_connection(lab, c):
    ask_for_queue(lab, c)
    c.do("l = listen('0.0.0.0', 7000)")
    with no_broker(lab, c.name):
        c.do(f"s = connect('{lab.ip(c.name)}', 7000); a, *rest = accept(l); s.sendall(b'hello')")
        assert c("a.recv(5), rest[0]") == (b"hello", c("s.getsockname()"))
        assert c("s.getpeername()") == (lab.ip(c.name), 7000)
    c.do("s.close(); a.close(); l.close()")


def test_a_program_of_one_socket_has_no_queue(lab, c):
    code = CODE + "s = socket.socket(); print(json.dumps(queues()))"
    imports = "import contextlib, errno, json, os, socket, struct\n"
    assert json.loads(lab.run("h1", "single", PYTHON, "-c", imports + code).stdout) == []


@pytest.mark.parametrize("what", ["SOCK_DGRAM", "SOCK_RAW, 1", "SOCK_STREAM, 132",
                                  "SOCK_STREAM, -1", "SOCK_SEQPACKET"])
def test_unusual_sockets_are_the_kernels(lab, c, what):
    ask_for_queue(lab, c)
    code = f"""
try:
    s = socket.socket(socket.AF_INET, socket.{what})
    outcome = int(s.type), s.proto
    s.close()
except OSError as e:
    outcome = errno.errorcode[e.errno]
"""
    with Remote.host(lab, "h1") as native, no_broker(lab, c.name):
        c.do(code)
        native.do(code)
        assert c("outcome") == native("outcome")


def test_an_empty_queue(lab, c):
    """More than wait: the broker makes them as it would without the library."""
    ask_for_queue(lab, c)
    c.do("some = make(300)")
    assert c("len({inode(s) for s in some}), all_swapped(some)") == (300, True)
    c.do("[s.close() for s in some]")
    with no_broker(lab, c.name):
        # It ends with one that waits, which is made when there is a broker.
        c.send("do", f"some = make({QUEUE_SIZE} + 1)")
        assert not select.select([c.stdout], [], [], 0.5)[0]
    c.receive()
    assert c("len({inode(s) for s in some})") == QUEUE_SIZE + 1
    c.do("[s.close() for s in some]")


def test_the_last_one(lab, c):
    """It stays the broker's until another one is behind it, lest its close() is not the last."""
    ask_for_queue(lab, c)
    with no_broker(lab, c.name):
        # Each message has one byte.
        have = c("struct.unpack('i', fcntl.ioctl(queues()[0], 0x541b, bytes(4)))[0]")
        assert have > QUEUE_SIZE // 2
        c.do(f"some = make({have - 1})")
        c.send("do", "some += make(1)")
        assert not select.select([c.stdout], [], [], 0.5)[0]
    c.receive()
    assert c("len({inode(s) for s in some})") == have
    c.do("[s.close() for s in some]")


def test_a_full_descriptor_table(lab, c):
    """It is EMFILE, before the queue is there and with it, and no socket is lost by it."""
    c.do("""
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
def fill():
    held = []
    try:
        while len(held) < 100:
            held.append(socket.socket())
    except OSError as e:
        return len(held), errno.errorcode[e.errno]
first, second = fill(), fill()
""")
    assert c("first[1], second, first[0] > 50") == ("EMFILE", c("first"), True)
    # RLIMIT_NOFILE is lower than where the queue would be.
    assert c("len(queues()), queues()[0] < 64") == (1, True)


def test_threads(lab, c):
    c.do("""
some, lock = [], threading.Lock()
def work():
    mine = make(200)
    with lock:
        some.extend(mine)
threads = [threading.Thread(target=work) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
""")
    assert c("len({inode(s) for s in some}), all_swapped(some)") == (1600, True)
    assert c("len(queues())") == 1
    c.do("[s.close() for s in some]")


def test_fork(lab, c):
    """Parent and children take from the same queue, and no socket twice."""
    ask_for_queue(lab, c)
    got = c("""[forked(lambda: (lambda some: [[inode(s) for s in some], all_swapped(some),
                                              len(queues())])(make(100)))
                for _ in range(3)] + [[[inode(s) for s in make(100)], True, len(queues())]]""")
    assert [(len(set(i)), ok, n) for i, ok, n in got] == [(100, True, 1)] * 4
    # Each child asks by itself, since the kernel has wiped what it would know. Descriptors of the
    # parent's queue do not pile up over generations.
    assert c("forked(lambda: [make(1), forked(lambda: [make(2), forked(lambda: [make(2), "
             "len(queues())][-1])][-1])][-1])") == 1


def test_forked_children_at_once(lab, c):
    ask_for_queue(lab, c)
    c.do("""
def child(w):
    some = make(150)
    os.write(w, json.dumps([inode(s) for s in some]).encode() + b'\\n')
    time.sleep(2)  # all of them are there at one time
    os._exit(0)
r, w = os.pipe()
pids = []
for _ in range(6):
    pid = os.fork()
    if pid == 0:
        child(w)
    pids.append(pid)
os.close(w)
said = open(r).read()
[os.waitpid(pid, 0) for pid in pids]
""")
    seen = [i for line in c("said").splitlines() for i in json.loads(line)]
    assert len(seen) == len(set(seen)) == 900


def test_vfork_and_exec(lab, c):
    """A started program has no descriptor of its parent's, and a queue of its own."""
    ask_for_queue(lab, c)
    c.do("""
code = 'import os; print(len(os.listdir("/proc/self/fd")))'
out = [subprocess.check_output(['/usr/bin/python3', '-c', code], close_fds=False, text=True)
       for _ in range(2)]
pid = os.posix_spawn('/usr/bin/python3', ['python3', '-c', 'import socket, sys; '
                     's = [socket.socket() for _ in range(5)]; sys.exit(len(s))'], os.environ)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
""")
    # Standard ones, and that of the directory: Remote's descriptors are close-on-exec.
    assert c("out") == ["4\n", "4\n"] and c("status") == 5
    with no_broker(lab, c.name):
        c.do("make(3)")


def test_closefrom(lab, c):
    """All descriptors are closed, as daemons do, and other files get the queue's number."""
    ask_for_queue(lab, c)
    c.do("""
at = queues()[0]
mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
os.closerange(at, at + 1)
os.dup2(mine.fileno(), at)
theirs.send(b'not a socket')
some = make(20)
""")
    assert c("os.read(at, 100), all_swapped(some)") == (b"not a socket", True)
    assert c("at in queues() and [q != at for q in queues()].count(True) >= 1")
    c.do("[s.close() for s in some]")
    settle(lab, c.name)
    with no_broker(lab, c.name):
        c.do("make(3)")
    # Of another kind, and not open at all.
    c.do("""
for q in queues():
    if q not in (mine.fileno(), theirs.fileno(), at):
        os.dup2(os.open('/dev/null', os.O_RDONLY), q)
some = make(20)
os.closerange(at, 1024)
more = make(20)
""")
    assert c("all_swapped(some + more)")


def test_daemon(lab):
    code = """
import contextlib, errno, json, os, socket, struct, sys, time
""" + CODE + """
first = make(5)
out = os.dup(1)
if os.fork():
    os._exit(0 if os.wait()[1] == 0 else 1)
os.setsid()
if os.fork():
    os._exit(0 if os.wait()[1] == 0 else 1)
keep = os.fdopen(out, 'w')
for f in range(3, 1024):
    if f != out:
        with contextlib.suppress(OSError):
            os.close(f)
some = make(30)
print(json.dumps([all_swapped(some), len(queues())]), file=keep)
"""
    assert json.loads(lab.run("h1", "daemonise", PYTHON, "-c", code).stdout) == [True, 1]


def test_another_user(lab, c):
    """After setuid() sockets are the new user's, with the queue and without."""
    ask_for_queue(lab, c)
    c.do("""
def ids(s):
    st = os.fstat(s.fileno())
    return st.st_uid, st.st_gid
def change():
    os.setgid(65534)
    os.setuid(65534)
    some = make(30)
    time.sleep(0.3)
    return [sorted({ids(s) for s in some}), all_swapped(some), len(queues())]
""")
    assert c("forked(change)") == [[[65534, 65534]], True, 1]
    assert c("{ids(s) for s in make(30)}") == {(0, 0)}
    # Back and forth, as some servers do.
    c.do("""
seen = []
for uid in (1000, 0, 1000, 2000, 0):
    os.seteuid(0)
    os.seteuid(uid)
    seen.append({ids(s)[0] for s in make(5)})
""")
    assert c("seen") == [{1000}, {0}, {1000}, {2000}, {0}]


def test_a_setuid_program(lab, c, tmp_path):
    """The dynamic linker leaves the library out, without a word."""
    program = pathlib.Path(f"/run/slim-lab/{lab.id}/setuid-python")
    program.write_bytes(pathlib.Path(os.path.realpath(PYTHON)).read_bytes())
    program.chmod(0o4755)
    code = "import os, socket; s = [socket.socket() for _ in range(5)]; print(os.geteuid(), len(s))"
    done = lab.run("h1", "privileged", "setpriv", "--reuid=65534", "--clear-groups", program, "-I",
                   "-c", code)
    assert (done.stdout, done.stderr) == ("0 5\n", "")
    program.unlink()


def test_another_namespace(lab, c):
    """What leaves the container's namespace gets no more of its sockets."""
    ask_for_queue(lab, c)
    c.do("""
def leave():
    os.close(os.open('/dev/null', os.O_RDONLY))
    assert libc.unshare(0x40000000) == 0
    return each_swapped(make(5))
def leave_and_return():
    own = os.open('/proc/self/ns/net', os.O_RDONLY)
    assert libc.unshare(0x40000000) == 0
    there = each_swapped(make(3))
    assert libc.setns(own, 0) == 0
    return there + each_swapped(make(3))
def clone():
    # A fork into another namespace, by the system call alone.
    pid = libc.syscall(56, 0x40000000 | 17, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0 if not any(each_swapped(make(5))) else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
""")
    assert c("forked(leave)") == [False] * 5
    assert c("forked(leave_and_return)") == [False] * 3 + [True] * 3
    if os.uname().machine == "x86_64":
        assert c("clone()") == 0
    assert c("each_swapped(make(3))") == [True] * 3


# A library that counts the calls of socket() it sees, and passes them on.
COUNTER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
int calls;
int socket(int f, int t, int p)
{
        int (*next)(int, int, int) = (int (*)(int, int, int))dlsym(RTLD_NEXT, "socket");
        __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
        return next(f, t, p);
}
int calls_seen(void) { return calls; }
"""


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_another_library(lab, build, tmp_path, first):
    """It sees every call, wherever it stands; behind ours the queue is not used."""
    place = pathlib.Path(f"/run/slim-lab/{lab.id}")
    (tmp_path / "counter.c").write_text(COUNTER)
    theirs, ours = place / "counter.so", build / "src/slimsocket/libslimsocket.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", theirs, tmp_path / "counter.c"], check=True)
    code = "import contextlib, errno, json, os, socket, struct\n" + CODE + """
some = make(20)
print(json.dumps([libc.calls_seen(), len(queues()), all_swapped(some),
                  os.environ['LD_PRELOAD']]))
"""
    command = [PYTHON, "-c", code]
    if first == "theirs":  # as slimctl puts it
        env = {**os.environ, "LD_PRELOAD": str(theirs)}
        got = lab.run("h1", "preloads", *command, env=env).stdout
        assert json.loads(got) == [20, 1, True, f"{theirs}:{ours}"]
    else:
        got = lab.run("h1", "preloads", "env", f"LD_PRELOAD={ours}:{theirs}", *command).stdout
        assert json.loads(got) == [20, 0, True, f"{ours}:{theirs}"]


def test_without(lab, build):
    """--no-accelerator, plain containers, and the host."""
    code = "import os; print(os.environ.get('LD_PRELOAD'))"
    assert lab.run("h1", "with", PYTHON, "-c", code).stdout == \
        f"{build}/src/slimsocket/libslimsocket.so\n"
    assert lab.plain("h1", "plain", PYTHON, "-c", code).stdout == "None\n"
    assert lab.verb("run", "--no-accelerator", "h1", "without", "--", PYTHON, "-c", code).stdout == \
        "None\n"
    # Where it is preloaded all the same it finds nothing, and is no nuisance.
    env = {**os.environ, "LD_PRELOAD": str(build / "src/slimsocket/libslimsocket.so")}
    many = "import socket; print(len([socket.socket() for _ in range(100)]))"
    done = subprocess.run([PYTHON, "-c", many], env=env, text=True, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == ("100\n", "")


SYNC_WAKE_UP = (6, 6)  # the kernel that brings a broker to its caller


@pytest.mark.skipif(tuple(map(int, os.uname().release.split(".")[:2])) < SYNC_WAKE_UP,
                    reason="only from Linux 6.6 on does a broker follow its callers")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor")
def test_a_broker_is_where_its_caller_is(lab):
    """Without the accelerator, and as long as calls follow one another."""
    def on(pid):
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        return status.partition("Cpus_allowed_list:")[2].split()[0]

    cores = sorted(os.sched_getaffinity(0))[:2]
    code = "import socket\nprint('calls', flush=True)\nwhile True: socket.socket().close()"
    with lab.start("run", "h1", "caller", PYTHON, "-c", code, ready="calls",
                   options=["--no-accelerator"]):
        shown = lab.ctl("h1", "endpoint", "show", "caller")["endpoint"]
        pids = (pathlib.Path(shown["cgroup"]) / "program" / "cgroup.procs").read_text().split()
        for core in cores * 3:
            for pid in pids:
                os.sched_setaffinity(int(pid), {core})
            wait_until(lambda: on(shown["broker_pid"]) == str(core), f"the broker on core {core}")


def test_a_broker_that_dies(lab, c):
    """The program notices nothing; the next broker is asked for another queue."""
    ask_for_queue(lab, c)
    for _ in range(3):
        killed = broker_of(lab, c.name)
        os.kill(killed, signal.SIGKILL)
        c.do("some = make(200)")
        assert c("len({inode(s) for s in some}), all_swapped(some)") == (200, True)
        wait_until(lambda old=killed: broker_of(lab, c.name) != old, "another broker")
        c.do("[s.close() for s in some]; [s.close() for s in make(3)]")
        assert c("len(queues())") == 1
        settle(lab, c.name)
        with no_broker(lab, c.name):
            c.do("make(10)")  # a queue is filled up again when a quarter is left


def test_more_users_than_queues(lab, c):
    """What a container's queues hold is bounded; the others' sockets come from the broker."""
    pid = broker_of(lab, c.name)
    c.do("""
def user(uid):
    os.setuid(uid)
    some = make(5)
    queue = len(queues())
    signal.pause()
pids = []
for uid in range(1000, 1030):
    pid = os.fork()
    if pid == 0:
        user(uid)
    pids.append(pid)
""")
    descriptors = pathlib.Path(f"/proc/{pid}/fd")

    def pairs():
        found = 0
        for f in descriptors.iterdir():
            with contextlib.suppress(FileNotFoundError):
                found += os.readlink(f).startswith("socket:")
        return found

    wait_until(lambda: c("all(sockets_of(p) >= 5 for p in pids)"), "all of them to have sockets")
    # Two ends and a spare socket each, beside the pool, which has 16 of each family, and the
    # sockets that the broker asks the container's namespace by.
    assert pairs() <= QUEUES * 3 + 2 * 16 + 4
    c.do("[os.kill(p, signal.SIGKILL) for p in pids]; [os.waitpid(p, 0) for p in pids]")


# Options that a Unix socket has natively, each of which the queue refuses to set.
OPTIONS = [(socket.SOL_SOCKET, n) for n in (2, 7, 8, 16, 20, 21, 34, 42, 76, 9999)]


def test_what_a_program_can_do_to_its_queue(lab, c):
    """It learns nothing of the broker by it, and harms nobody but the container."""
    ask_for_queue(lab, c)
    c.do("""
q = socket.socket(fileno=os.dup(queues()[0]))
def outcome(f, *a):
    try:
        return f(*a)
    except OSError as e:
        return errno.errorcode[e.errno]
""")
    for level, name in OPTIONS:
        assert c(f"outcome(q.setsockopt, {level}, {name}, 1)") == "EPERM"
    assert c("outcome(q.send, b'x')") in ("EPIPE", "ENOTCONN")
    assert c("outcome(q.listen, 5)") == "EINVAL"
    # Credentials: of no process of the container's.
    assert c("struct.unpack('3i', q.getsockopt(1, 17, 12))[0]") == 0
    # An interface ioctl on it is about the container's interfaces.
    c.do("ifr = bytearray(4096); addr = ctypes.addressof(ctypes.c_char.from_buffer(ifr))\n"
         "conf = struct.pack('iP', 4096, addr); conf = bytearray(conf.ljust(16, b'\\0'))\n"
         "fcntl.ioctl(q.fileno(), 0x8912, conf)\n"
         "n = struct.unpack_from('i', conf)[0]\n"
         "seen = sorted({bytes(ifr[i:i + 16]).split(b'\\0')[0] for i in range(0, n, 40)})")
    assert set(c("seen")) <= {b"lo", b"eth0"}
    assert c("q.getsockname(), q.getpeername()") == ("", "")
    # Shut down: the queue ends, and there is another one.
    c.do("q.shutdown(socket.SHUT_RD); [s.close() for s in make(200)]")
    settle(lab, c.name)
    c.do("some = make(3)")
    with no_broker(lab, c.name):
        c.do("some += make(10)")
    assert c("all_swapped(some)")


def test_a_queue_in_another_container(lab, c):
    """Its sockets keep the identity of the container that they were made for."""
    ask_for_queue(lab, c)
    place = f"/run/slim-lab/{lab.id}/queue.socket"
    with container(lab, "taker") as other:
        other.do(f"u = socket.socket(socket.AF_UNIX); u.bind({place!r}); u.listen()")
        c.do(f"u = socket.socket(socket.AF_UNIX); u.connect({place!r}); "
             "socket.send_fds(u, [b'x'], [queues()[0]])")
        other.do("a = u.accept()[0]; q = socket.socket(fileno=socket.recv_fds(a, 1, 1)[1][0])\n"
                 "s = socket.socket(fileno=socket.recv_fds(q, 1, 1)[1][0])\n"
                 "s.bind(('', 7777)); s.listen()")
        assert other("s.getsockname()") == ("0.0.0.0", 7777)
        assert c(f"connect_error('{lab.ip(c.name)}', 7777)") == "connected"
        assert c(f"connect_error('{lab.ip('taker')}', 7777)") == "ECONNREFUSED"
    os.unlink(place)


# Many more sockets at once than there are made ahead, with a signal every 0.2 ms whose handler does not restart calls.
SIGNALS = """
import ctypes, errno, json, os, signal, socket
libc = ctypes.CDLL(None, use_errno=True)
came = []
signal.signal(signal.SIGALRM, lambda *a: came.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
wrong, made = [], 0
for _ in range(10):
    fds = [libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0) for _ in range(300)]
    wrong += [ctypes.get_errno() for fd in fds if fd < 0]
    made += len(fds)
    for fd in fds:
        os.close(fd)
signal.setitimer(signal.ITIMER_REAL, 0)
print(json.dumps([made, wrong, len(came)]))
"""


def test_no_socket_fails_by_a_signal(lab):
    made, wrong, came = lab.python("h1", "signals", SIGNALS)
    assert made == 3000 and wrong == [] and came > 20
