# SPDX-License-Identifier: Apache-2.0
"""slimctl: what it runs and how, what it says, and what it refuses."""

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest

from conftest import PATIENCE, read_line, wait_until

PYTHON = "/usr/bin/python3"

# A socket of the host's namespace is one that Slim carries; UDP stays in the container's own.
WHOSE = """
import ctypes, errno, fcntl, json, os, socket, sys, threading

def cookie(s):
    return s.getsockopt(socket.SOL_SOCKET, 71, 8)  # SO_NETNS_COOKIE

def is_slim(family=socket.AF_INET, kind=socket.SOCK_STREAM, protocol=0):
    # The sockets of a namespace are in its files; a swapped one is not in this one.
    with socket.socket(family, kind, protocol) as t:
        t.bind(("", 0))
        if kind & 0xf == socket.SOCK_STREAM:
            t.listen()
        mine = " %d " % os.fstat(t.fileno()).st_ino
        files = ["tcp", "tcp6", "udp", "udp6", "raw", "raw6", "unix", "netlink", "packet"]
        return not any(mine in open("/proc/self/net/" + f).read() for f in files
                       if os.path.exists("/proc/self/net/" + f))
"""


def names(lab, host="h1"):
    return sorted(e["name"] for e in lab.ctl(host, "endpoint", "ls")["endpoints"])


@pytest.fixture(autouse=True)
def nothing_is_left(lab):
    yield
    for name in set(networks(lab)) - {"default"}:  # of a test that failed
        ctl(lab, "network", "rm", name)
    wait_until(lambda: names(lab) == [], "the containers to go")


@contextlib.contextmanager
def started(lab, name, code, verb="run", **kwargs):
    """Python in a container of h1, with its standard input and output; it says ready first."""
    process = subprocess.Popen(lab.command(verb, "h1", name, "--", PYTHON, "-c", code), text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, **kwargs)
    try:
        if read_line(process) != "ready\n":
            pytest.fail(f"{name}: {process.stderr.read()}")
        yield process
    finally:
        process.kill()
        process.communicate()


# --- run: the program and its end -----------------------------------------------------------------


@pytest.mark.parametrize("verb", ["run", "plain"])
@pytest.mark.parametrize("argv, status", [
    (["true"], 0),
    (["false"], 1),
    (["sh", "-c", "exit 3"], 3),
    (["sh", "-c", "exit 255"], 255),
    (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM),
    (["sh", "-c", "kill -KILL $$"], 128 + signal.SIGKILL),
    (["sh", "-c", "kill -SEGV $$"], 128 + signal.SIGSEGV),
    (["/nonexistent/program"], 127),
    (["no-such-program-anywhere"], 127),
    (["/etc"], 126),
    (["/etc/passwd"], 126),
])
def test_exit_status(lab, verb, argv, status):
    done = lab.verb(verb, "h1", "status", "--", *argv, check=False)
    assert done.returncode == status, done.stderr
    if status in (126, 127):
        assert len(done.stderr.splitlines()) == 1 and argv[0] in done.stderr
    else:
        assert done.stderr == ""


SAY_SIGNALS = """
import os, signal, sys
def say(number, frame):
    print(signal.Signals(number).name, flush=True)
for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1,
          signal.SIGUSR2, signal.SIGWINCH):
    signal.signal(s, say)
print("ready", flush=True)
sys.stdin.readline()
sys.exit(7)
"""


def test_signals_are_forwarded(lab):
    with started(lab, "signals", SAY_SIGNALS) as p:
        for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1,
                  signal.SIGUSR2, signal.SIGWINCH):
            p.send_signal(s)
            assert read_line(p) == f"{s.name}\n"
        p.stdin.write("\n")
        p.stdin.flush()
        assert p.wait(PATIENCE) == 7


def test_a_program_that_a_signal_ends(lab):
    with started(lab, "ends", "import time; print('ready', flush=True); time.sleep(1000)") as p:
        p.terminate()
        assert p.wait(PATIENCE) == 128 + signal.SIGTERM


def test_ignored_and_blocked_signals_are_the_callers(lab):
    code = ("import json, signal; print(json.dumps([signal.getsignal(signal.SIGUSR1) == "
            "signal.SIG_IGN, signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN, "
            "sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))]))")
    # Python itself ignores SIGPIPE.
    assert lab.python("h1", "defaults", code) == [False, True, []]
    ignoring = lab.verb("run", "h1", "ignores", "--", PYTHON, "-c", code,
                        preexec_fn=lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN))
    assert json.loads(ignoring.stdout) == [True, True, []]


def test_standard_streams(lab):
    data = bytes(range(256)) * 4096
    done = subprocess.run(lab.command("run", "h1", "cat", "--", "cat"), input=data,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, data, b"")
    done = lab.run("h1", "streams", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_environment_directory_and_name(lab, tmp_path):
    done = lab.run("h1", "here", "sh", "-c", "echo $MINE; pwd; hostname; id -u; echo $$",
                   env={**os.environ, "MINE": "yours"}, cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert lines[:4] == ["yours", str(tmp_path), "here", "0"]
    assert int(lines[4]) < 10  # a PID namespace of its own


def test_no_foreign_descriptors(lab):
    code = "import json, os; print(json.dumps(sorted(map(int, os.listdir('/proc/self/fd')))))"
    read, write = os.pipe()
    try:
        done = lab.run("h1", "fds", PYTHON, "-c", code, pass_fds=[read, write])
        assert json.loads(done.stdout) == [0, 1, 2, 3]  # 3: the directory itself
        # And the first process, which stays: the container holds nothing of whoever started it.
        done = lab.run("h1", "fds", PYTHON, "-c", code.replace("self", "1"),
                       pass_fds=[read, write])
        assert json.loads(done.stdout) == [0, 1, 2]
    finally:
        os.close(read)
        os.close(write)


ORPHANS = """
import json, os, time
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        if os.fork() == 0:
            os._exit(0)      # its parent is gone: the first process has to take it
        os._exit(0)
    os.waitpid(pid, 0)
def zombies():
    found = []
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            if open(f"/proc/{p}/stat").read().rpartition(")")[2].split()[0] == "Z":
                found.append(p)
        except OSError:
            pass
    return found
end = time.monotonic() + 30
while zombies() and time.monotonic() < end:
    time.sleep(0.01)
print(json.dumps([os.getppid(), zombies()]))
"""


def test_zombies_are_reaped(lab):
    assert lab.python("h1", "orphans", ORPHANS) == [1, []]


def test_what_the_program_leaves_ends_with_it(lab):
    code = "import os, subprocess; subprocess.Popen(['sleep', '31415'], start_new_session=True)"
    lab.run("h1", "leaves", PYTHON, "-c", code)
    found = [p for p in filter(str.isdigit, os.listdir("/proc")) if cmdline(p) ==
             b"sleep\x0031415\0"]
    assert found == []


def cmdline(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as f:
        return f.read()
    return b""


# --- run: its sockets -----------------------------------------------------------------------------


def test_tcp_sockets_are_slims(lab):
    code = WHOSE + """
print(json.dumps([is_slim(), is_slim(socket.AF_INET6), is_slim(protocol=socket.IPPROTO_TCP),
                  is_slim(kind=socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)]))
"""
    assert lab.python("h1", "slim", code) == [True] * 4
    done = lab.plain("h1", "plain", PYTHON, "-c", code)
    assert json.loads(done.stdout) == [False] * 4


def test_other_users_get_them_too(lab):
    code = WHOSE + "print(json.dumps([os.getuid(), is_slim()]))"
    done = lab.run("h1", "nobody", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                   PYTHON, "-c", code)
    assert json.loads(done.stdout) == [65534, True]
    done = lab.run("h1", "nobody", "su", "-s", "/bin/sh", "nobody", "-c",
                   f"exec {PYTHON} -c '{code}'")
    assert json.loads(done.stdout) == [65534, True]
    code = WHOSE + "os.setuid(65534); print(json.dumps([os.getuid(), is_slim()]))"
    assert lab.python("h1", "nobody", code) == [65534, True]


def test_forks_threads_and_programs_get_them(lab):
    code = WHOSE + """
seen = []
threads = [threading.Thread(target=lambda: seen.append(is_slim())) for _ in range(8)]
for t in threads: t.start()
for t in threads: t.join()
for _ in range(8):
    if os.fork() == 0:
        os._exit(0 if is_slim() else 1)
for _ in range(8):
    seen.append(os.waitstatus_to_exitcode(os.wait()[1]) == 0)
if len(sys.argv) == 1:
    os.execv(sys.executable, [sys.executable, "-c", open("/proc/self/cmdline").read().split("\\0")[2],
                              json.dumps(seen)])
print(json.dumps(json.loads(sys.argv[1]) + seen))
"""
    assert lab.python("h1", "many", code) == [True] * 32


def test_a_socket_outlives_fork_and_exec(lab):
    """The same connection in a child and in a program that the child becomes."""
    code = """
import json, os, socket
s = socket.create_server(("127.0.0.1", 7000))
c = socket.create_connection(("127.0.0.1", 7000))
p, _ = s.accept()
os.set_inheritable(c.fileno(), True)
if os.fork() == 0:
    os.dup2(c.fileno(), 1)
    os.execvp("echo", ["echo", "from a program"])
os.wait()
print(json.dumps(p.recv(100).decode()))
"""
    assert lab.python("h1", "inherits", code) == "from a program\n"


def test_a_nested_namespace_keeps_its_own(lab):
    code = WHOSE + """
s = socket.create_server(("127.0.0.1", 7000))
c = socket.create_connection(("127.0.0.1", 7000), timeout=30)
p, _ = s.accept()
p.sendall(b"inside")
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print(json.dumps([c.recv(10).decode(), is_slim(), is_slim(socket.AF_INET6),
                  [cookie(u) == cookie(x) for x in (s, c, p)], list(p.getsockname())]))
"""
    done = lab.run("h1", "nested", "unshare", "-n", "sh", "-c",
                   'ip link set lo up && exec "$@"', "sh", PYTHON, "-c", code)
    assert json.loads(done.stdout) == ["inside", False, False, [True] * 3, ["127.0.0.1", 7000]]
    # And the container's own listener is not there, nor the nested one outside.
    code = """
import json, socket, subprocess, sys
s = socket.create_server(("127.0.0.1", 7000))
inner = "import socket; s = socket.socket(); print(s.connect_ex(('127.0.0.1', 7000)))"
nested = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", sys.executable]
print(json.dumps([int(subprocess.check_output(nested + ["-c", inner])),
                  socket.socket().connect_ex(("127.0.0.1", 7000))]))
"""
    assert lab.python("h1", "nested", code) == [111, 0]


FLAGS = WHOSE + """
rows = []
for family in (socket.AF_INET, socket.AF_INET6):
    for flags in (0, socket.SOCK_NONBLOCK, socket.SOCK_CLOEXEC,
                  socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC):
        for protocol in (0, socket.IPPROTO_TCP):
            libc = ctypes.CDLL(None, use_errno=True)
            fd = libc.socket(int(family), int(socket.SOCK_STREAM) | int(flags), protocol)
            s = socket.socket(fileno=os.dup(fd))
            rows.append([fcntl.fcntl(fd, fcntl.F_GETFL), fcntl.fcntl(fd, fcntl.F_GETFD), fd,
                         s.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN),
                         s.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE),
                         s.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL)])
            s.close()
            os.close(fd)
print(json.dumps(rows))
"""


def on_the_host(lab, code):
    return json.loads(lab.host("h1", PYTHON, "-c", code).stdout)


def test_flags_are_as_on_the_host(lab):
    got = lab.python("h1", "flags", FLAGS)
    assert got == on_the_host(lab, FLAGS)
    assert {(row[0] & os.O_NONBLOCK, row[1]) for row in got} == {
        (0, 0), (os.O_NONBLOCK, 0), (0, 1), (os.O_NONBLOCK, 1)}


ERRORS = WHOSE + """
libc = ctypes.CDLL(None, use_errno=True)
rows = []
for family, kind, protocol in json.loads(sys.argv[1]):
    fd = libc.socket(ctypes.c_int(family), ctypes.c_int(kind), ctypes.c_int(protocol))
    rows.append(0 if fd >= 0 else ctypes.get_errno())
    if fd >= 0:
        os.close(fd)
print(json.dumps(rows))
"""

BAD_SOCKETS = [
    (2, 1 | 0x10, 0), (2, 1 | 0x40000000, 0), (2, 1 | 0x10 | 0o4000, 0), (10, 1 | 0x100, 6),
    (2, 0, 0), (2, 15, 0), (2, 7, 0), (2, -1, 0), (2, 1, -1), (2, 1, 17), (2, 1, 132),
    (2, 1, 255), (2, 1, 256), (2, 1, 99999), (10, 1, 17), (2, 2, 6), (99, 1, 0), (-1, 1, 0),
    (0, 1, 0), (2, 4, 0), (2, 5, 0), (2, 3, 0), (2, 1, 0), (10, 1, 6), (1, 1, 0),
]


def test_errors_are_as_on_the_host(lab):
    table = json.dumps(BAD_SOCKETS)
    got = lab.python("h1", "errors", ERRORS, table)
    host = json.loads(lab.host("h1", PYTHON, "-c", ERRORS, table).stdout)
    assert list(zip(BAD_SOCKETS, got)) == list(zip(BAD_SOCKETS, host))
    assert got[0] == 22 and got[9] == 93 and got[-3:] == [0, 0, 0]


def test_a_full_descriptor_table_is_emfile(lab):
    code = WHOSE + """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
held, errors = [], []
for _ in range(2):
    while len(held) < 100:
        try:
            held.append(socket.socket())
        except OSError as e:
            errors.append(e.errno)
            break
    held.pop().close()
print(json.dumps([errors == [errno.EMFILE] * 2, len(held) > 5]))
"""
    assert lab.python("h1", "full", code) == [True, True]


# io_uring's own socket operation, by its system calls alone.
IO_URING = WHOSE + """
import mmap, struct
libc = ctypes.CDLL(None, use_errno=True)
params = ctypes.create_string_buffer(120)
ring = libc.syscall(425, 4, params)
if ring < 0:
    print(json.dumps(errno.errorcode[ctypes.get_errno()]))
    sys.exit()
words = struct.unpack("30I", params.raw)
sq_entries, cq_entries = words[0:2]
sq = dict(zip(("head", "tail", "mask", "entries", "flags", "dropped", "array"), words[10:17]))
cq = dict(zip(("head", "tail", "mask", "entries", "overflow", "cqes"), words[20:26]))
ring_map = mmap.mmap(ring, max(sq["array"] + sq_entries * 4, cq["cqes"] + cq_entries * 16),
                     offset=0)
sqes = mmap.mmap(ring, sq_entries * 64, offset=0x10000000)
# opcode IORING_OP_SOCKET; fd: family, off: type, len: protocol.
sqes[0:64] = struct.pack("BBHiQQII", 45, 0, 0, socket.AF_INET, socket.SOCK_STREAM, 0, 0, 0).ljust(
    64, b"\\0")
struct.pack_into("I", ring_map, sq["array"], 0)
struct.pack_into("I", ring_map, sq["tail"], 1)
if libc.syscall(426, ring, 1, 1, 1, None, 0) != 1:
    print(json.dumps(errno.errorcode[ctypes.get_errno()]))
    sys.exit()
_, fd, _ = struct.unpack_from("QiI", ring_map, cq["cqes"])
if fd < 0:
    print(json.dumps(errno.errorcode[-fd]))
    sys.exit()
with socket.socket(fileno=fd) as t, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as u:
    print(json.dumps(cookie(t) == cookie(u)))
"""


def test_io_uring_stays_in_the_container(lab):
    got = lab.python("h1", "uring", IO_URING)
    if got in ("ENOSYS", "EPERM", "EINVAL"):
        pytest.skip(f"no sockets from io_uring here ({got})")
    assert got is True


# --- networks -------------------------------------------------------------------------------------


def one_line(done, *named, status=1):
    lines = done.stderr.splitlines()
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    assert len(lines) == 1 and done.stdout == "", (done.stdout, done.stderr)
    for text in named:
        assert text in lines[0], done.stderr


def slimctl_path(lab):
    with open(f"/run/slim-lab/{lab.id}/state.json") as f:
        return json.load(f)["build"] + "/src/slimctl/slimctl"


def slimctl(lab, *words):
    """h1's without tools/lab around it: it needs no more than the way to slimd's socket."""
    return subprocess.run([slimctl_path(lab), "--run-dir", f"/run/slim-lab/{lab.id}/h1/run",
                           *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=PATIENCE)


def ctl(lab, *words, **kwargs):
    return lab.verb("ctl", "h1", "--", *words, check=False, **kwargs)


NETWORK = {"name", "id", "prefix", "block_bits", "prefix6", "block_bits6", "endpoints", "labels"}


def networks(lab, host="h1"):
    return {n["name"]: n for n in lab.ctl(host, "network", "ls")["networks"]}


def test_networks(lab):
    made = ctl(lab, "network", "create", "blue", "--prefix", "10.90.0.0/16")
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
    blue = networks(lab)["blue"]
    assert (blue["prefix"], blue["block_bits"], blue["endpoints"]) == ("10.90.0.0/16", 26, 0)
    assert networks(lab, "h2")["blue"] == blue
    assert "blue" in ctl(lab, "network", "ls").stdout

    one_line(ctl(lab, "network", "create", "blue", "--prefix", "10.91.0.0/16"), '"blue"')
    for overlapping in ("10.90.0.0/16", "10.90.7.0/24", "10.80.0.0/12", "10.90.0.1/32"):
        one_line(ctl(lab, "network", "create", "red", "--prefix", overlapping), "blue", overlapping)
    # The lab's underlay is no place for one.
    one_line(ctl(lab, "network", "create", "red", "--prefix", "192.0.2.0/24"), "192.0.2.0/24")
    assert "red" not in networks(lab)

    with started_in(lab, "blue", "guest"):
        assert networks(lab)["blue"]["endpoints"] == 1
        one_line(ctl(lab, "network", "rm", "blue"), '"blue"', "endpoints")
        shown = lab.ctl("h1", "endpoint", "show", "guest", "--network", "blue")["endpoint"]
        assert shown["address"].startswith("10.90.")
        one_line(ctl(lab, "endpoint", "show", "guest"), '"guest"', "default")
        listed = lab.ctl("h2", "endpoint", "ls", "--network", "blue")["endpoints"]
        assert [e["name"] for e in listed] == ["guest"]
        assert lab.ctl("h2", "endpoint", "ls", "--network", "default")["endpoints"] == []
    wait_until(lambda: networks(lab)["blue"]["endpoints"] == 0, "the endpoint to go")
    assert ctl(lab, "network", "rm", "blue").returncode == 0
    assert "blue" not in networks(lab) and "blue" not in networks(lab, "h2")
    one_line(ctl(lab, "network", "rm", "blue"), '"blue"')


@contextlib.contextmanager
def started_in(lab, network, name):
    process = subprocess.Popen(lab.command("run", "--network", network, "h1", name, "--", "sh",
                                           "-c", "echo ready; sleep 1000"), text=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    try:
        assert read_line(process) == "ready\n", process.stderr.read()
        yield process
    finally:
        process.kill()
        process.communicate()


def test_block_bits(lab):
    try:
        lab.ctl("h1", "network", "create", "green", "--prefix", "10.92.0.0/28")
        lab.ctl("h1", "network", "create", "tiny", "--prefix", "10.93.0.0/24", "--block-bits", "30")
        assert networks(lab)["green"]["block_bits"] == 28
        assert networks(lab)["tiny"]["block_bits"] == 30
    finally:
        for name in ("green", "tiny"):
            ctl(lab, "network", "rm", name)


def test_a_small_network_is_full_at_its_end(lab):
    lab.ctl("h1", "network", "create", "small", "--prefix", "10.94.0.0/30")
    try:
        with started_in(lab, "small", "one"), started_in(lab, "small", "two"):
            done = lab.verb("run", "--network", "small", "h1", "three", "--", "true", check=False)
            one_line(done, "small", "no free address")
            assert sorted(e["address"] for e in lab.ctl("h1", "endpoint", "ls")["endpoints"]) == [
                "10.94.0.1", "10.94.0.2"]
    finally:
        wait_until(lambda: ctl(lab, "network", "rm", "small").returncode == 0, "small to go")


# --- what it shows --------------------------------------------------------------------------------

ENDPOINT = {"name", "network", "id", "address", "address6", "host", "host_address",
            "host_address6", "kind", "local", "publish", "labels", "ports", "limits"}
LOCAL = {"attachment", "interface", "netns", "device", "cgroup", "broker_pid", "pids"}
CONNECTION = {"endpoint", "network", "state", "local", "peer", "host_local", "host_peer",
              "peer_endpoint", "bytes_sent", "bytes_received", "uid", "cookie"}
STATUS = {"host", "underlay", "underlay_address", "underlay_address6", "version", "pid", "since", "store", "store_error",
          "store_down_since", "networks", "endpoints", "local_endpoints", "policies", "policy_error",
          "hosts", "slim_ports", "monitors", "counters", "maps"}

LISTENER = """
import socket, sys
s = socket.create_server(("0.0.0.0", 7000))
print("ready", flush=True)
c, a = s.accept()
c.sendall(c.recv(5) * 2)
sys.stdin.readline()
"""


def test_json_is_what_the_api_documents(lab):
    done = lab.ctl("h1", "network", "create", "blue", "--prefix", "10.90.0.0/16")
    assert set(done) == {"network"} and set(done["network"]) == NETWORK
    done = lab.ctl("h1", "network", "ls")
    assert set(done) == {"networks"} and all(set(n) == NETWORK for n in done["networks"])
    assert lab.ctl("h1", "network", "rm", "blue") == {}

    with started(lab, "server", LISTENER):
        near = lab.ctl("h1", "endpoint", "show", "server")
        far = lab.ctl("h2", "endpoint", "show", "server")
        assert set(near) == set(far) == {"endpoint"}
        near, far = near["endpoint"], far["endpoint"]
        assert set(near) == ENDPOINT | LOCAL and set(far) == ENDPOINT
        assert {k: near[k] for k in ENDPOINT - {"local"}} == {k: far[k] for k in ENDPOINT - {"local"}}
        assert (near["local"], far["local"]) == (True, False)
        assert near["address"] == lab.ip("server") and near["kind"] == "slim"
        assert (near["host"], near["host_address"]) == ("h1", "192.0.2.1")
        assert near["pids"] == 2 and near["broker_pid"] > 0 and os.path.isdir(near["cgroup"])
        done = lab.ctl("h1", "endpoint", "ls")
        assert set(done) == {"endpoints"} and done["endpoints"] == [near]

        client = """
import socket, sys
s = socket.create_connection((sys.argv[1], 7000), timeout=20)
s.sendall(b"12345")
assert s.recv(10, socket.MSG_WAITALL) == b"1234512345"
print("ready", flush=True)
sys.stdin.readline()
"""
        with subprocess.Popen(lab.command("run", "h2", "client", "--", PYTHON, "-c", client,
                                          lab.ip("server")), text=True, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as other:
            assert read_line(other) == "ready\n"
            done = lab.ctl("h1", "connection", "ls")
            assert set(done) == {"connections"}
            assert all(set(c) == CONNECTION for c in done["connections"])
            by_state = {c["state"]: c for c in done["connections"]}
            assert set(by_state) == {"listen", "established"}
            listener, served = by_state["listen"], by_state["established"]
            assert listener["local"] == "0.0.0.0:7000"
            assert listener["peer"] is listener["host_peer"] is listener["peer_endpoint"] is None
            assert served["endpoint"] == "server" and served["peer_endpoint"] == "client"
            assert served["local"] == f"{lab.ip('server')}:7000"
            assert served["peer"].startswith(lab.ip("client") + ":")
            assert served["host_local"].startswith("192.0.2.1:")
            assert served["host_peer"].startswith("192.0.2.2:")
            assert (served["bytes_sent"], served["bytes_received"]) == (10, 5)
            mine, = lab.ctl("h2", "connection", "ls", "--name", "client")["connections"]
            assert (mine["local"], mine["peer"]) == (served["peer"], served["local"])
            assert (mine["host_local"], mine["host_peer"]) == (served["host_peer"],
                                                               served["host_local"])
            assert (mine["bytes_sent"], mine["bytes_received"]) == (5, 10)
            assert lab.ctl("h2", "connection", "ls", "--name", "nobody") == {"connections": []}
            table = ctl(lab, "connection", "ls").stdout
            for text in ("ENDPOINT", "PEER", served["peer"], served["host_peer"], "established"):
                assert text in table
            other.stdin.close()
        table = ctl(lab, "endpoint", "show", "server").stdout
        assert near["address"] in table and near["device"] in table
        assert "server" in ctl(lab, "endpoint", "ls").stdout

    status = lab.ctl("h1", "status")
    assert set(status) == STATUS
    assert (status["host"], status["underlay"], status["underlay_address"]) == (
        "h1", "uplink", "192.0.2.1")
    assert sorted((h["name"], h["address"]) for h in status["hosts"]) == [
        ("h1", "192.0.2.1"), ("h2", "192.0.2.2")]
    assert status["slim_ports"] == "61440-61695"
    assert set(status["maps"]) == {"ports", "listeners", "syns", "endpoints", "published",
                                   "policy_rules", "policy_cidrs", "policy_subjects"}
    assert all(isinstance(n, int) for n in (*status["maps"].values(), *status["counters"].values()))
    assert status["store_error"] is status["store_down_since"] is None
    assert str(status["pid"]) == lab.verb("daemon", "h1", "pid").stdout.strip()
    table = ctl(lab, "status").stdout
    assert "uplink" in table and "192.0.2.2" in table


def test_run_tells_its_endpoint_on_standard_error(lab):
    done = ctl(lab, "--json", "run", "--name", "told", "--", "echo", "program")
    assert (done.returncode, done.stdout) == (0, "program\n")
    assert set(json.loads(done.stderr)) == ENDPOINT | LOCAL


def test_doctor(lab):
    done = ctl(lab, "doctor")
    assert done.returncode == 0 and done.stderr == "", done.stdout + done.stderr
    rows = json.loads(ctl(lab, "doctor", "--json").stdout)
    assert len(rows) > 20
    for row in rows:
        assert {"id", "required", "found", "what", "detail", "remedy"} <= set(row)
        assert row["found"] or not row["required"], row
    assert [r["found"] for r in rows if r["id"] == "slimd"] == [True]


def test_doctor_without_privileges_says_what_to_do(lab):
    done = lab.host(
        "h1", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", slimctl_path(lab),
        "--run-dir", "/nonexistent", "doctor", "--json", check=False)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    missing = [r for r in json.loads(done.stdout) if r["required"] and not r["found"]]
    assert missing and all(r["remedy"] for r in missing)


# --- what it refuses ------------------------------------------------------------------------------

USAGE = [
    (["nothing"], "nothing"),
    (["network"], "network"),
    (["network", "paint"], "paint"),
    (["--nope", "status"], "--nope"),
    (["-x", "status"], "-x"),
    (["status", "--nope"], "--nope"),
    (["status", "surplus"], "surplus"),
    (["status", "--json=yes"], "--json"),
    (["--run-dir"], "--run-dir"),
    (["--run-dir", "", "status"], "--run-dir"),
    (["network", "create"], "name"),
    (["network", "create", "blue"], "--prefix"),
    (["network", "create", "blue", "--prefix"], "--prefix"),
    (["network", "create", "Blue!", "--prefix", "10.90.0.0/16"], "Blue!"),
    (["network", "create", "", "--prefix", "10.90.0.0/16"], "name"),
    (["network", "create", "b" * 64, "--prefix", "10.90.0.0/16"], "b" * 64),
    (["network", "create", "blue", "--prefix", "10.90.0.0"], "10.90.0.0"),
    (["network", "create", "blue", "--prefix", "10.90.0.0/"], "10.90.0.0/"),
    (["network", "create", "blue", "--prefix", "10.90.0.1/16"], "10.90.0.1/16"),
    (["network", "create", "blue", "--prefix", "10.90.0.0/33"], "10.90.0.0/33"),
    (["network", "create", "blue", "--prefix", "10.90.0.0/-1"], "10.90.0.0/-1"),
    (["network", "create", "blue", "--prefix", "10.90.0.0/16x"], "10.90.0.0/16x"),
    (["network", "create", "blue", "--prefix", "10.90.0.0/99999999999999999999"], "99999"),
    (["network", "create", "blue", "--prefix", "blue/16"], "blue/16"),
    (["network", "create", "blue", "--prefix", "010.90.0.0/16"], "010.90.0.0/16"),
    (["network", "create", "blue", "--prefix", "10.90.0.0/16", "--block-bits", "x"], "x"),
    (["network", "create", "blue", "--prefix", "10.90.0.0/16", "--block-bits", "15"], "15"),
    (["network", "create", "blue", "--prefix", "10.90.0.0/16", "--block-bits", "33"], "33"),
    (["network", "create", "blue", "--prefix", "10.90.0.0/16", "--block-bits", "-1"], "-1"),
    (["network", "create", "blue", "red", "--prefix", "10.90.0.0/16"], "red"),
    (["network", "rm"], "name"),
    (["network", "rm", "../x"], "../x"),
    (["endpoint", "show"], "name"),
    (["endpoint", "show", "NO"], "NO"),
    (["endpoint", "show", "a", "--network", "B"], "B"),
    (["endpoint", "ls", "--network", "a/b"], "a/b"),
    (["connection", "ls", "--name", "a b"], "a b"),
    (["run"], "--name"),
    (["run", "--name"], "--name"),
    (["run", "--name", "x"], "program"),
    (["run", "--name", "x", "--"], "program"),
    (["run", "--name", "x", "true"], "true"),
    (["run", "--name", "X", "--", "true"], "X"),
    (["run", "--name", "x.", "--", "true"], "x."),
    (["run", "--name", "x" * 64, "--", "true"], "x" * 64),
    (["run", "--name", "x", "--network", "N", "--", "true"], "N"),
    (["run", "--name", "x", "--address", "10.77", "--", "true"], "10.77"),
    (["run", "--name", "x", "--address", "10.77.0.300", "--", "true"], "10.77.0.300"),
    (["run", "--name", "x", "--hostname", "a_b", "--", "true"], "a_b"),
    (["run", "--name", "x", "--cpus", "x", "--", "true"], "--cpus"),
    (["run", "--name", "x", "--cpus", "", "--", "true"], "--cpus"),
    (["run", "--name", "x", "--cpus", "3-1", "--", "true"], "3-1"),
    (["run", "--name", "x", "--cpus", "99999999999", "--", "true"], "99999999999"),
    (["run", "--name", "x", "--plain=1", "--", "true"], "--plain"),
]


def test_wrong_command_lines_are_usage_errors(lab):
    before, wrong = networks(lab), []
    for words, named in USAGE:
        done = slimctl(lab, *words)
        if (done.returncode != 2 or done.stdout or len(done.stderr.splitlines()) != 1
                or named not in done.stderr):
            wrong.append((words, named, done.returncode, done.stdout, done.stderr))
    assert wrong == []
    assert networks(lab) == before and names(lab) == []


REFUSED = [
    (["network", "create", "blue", "--prefix", "127.0.0.0/8"], "127.0.0.0/8"),
    (["network", "create", "blue", "--prefix", "224.0.0.0/8"], "224.0.0.0/8"),
    (["network", "create", "blue", "--prefix", "0.0.0.0/0"], "0.0.0.0/0"),
    (["network", "create", "blue", "--prefix6", "fe80::/64"], "fe80::/64"),
    (["network", "rm", "nosuch"], "nosuch"),
    (["endpoint", "show", "nosuch"], "nosuch"),
    (["endpoint", "show", "nosuch", "--network", "nowhere"], "nosuch"),
    (["endpoint", "ls", "--network", "nowhere"], "nowhere"),
    (["connection", "ls", "--network", "nowhere"], "nowhere"),
    (["run", "--name", "x", "--network", "nowhere", "--", "true"], "nowhere"),
    (["run", "--name", "x", "--address", "192.168.1.1", "--", "true"], "192.168.1.1"),
    (["run", "--name", "x", "--address", "10.77.0.0", "--", "true"], "10.77.0.0"),
    (["run", "--name", "x", "--address", "10.77.255.255", "--", "true"], "10.77.255.255"),
    (["run", "--name", "x", "--address", "fd00::1", "--", "true"], "fd00::1"),
]


def test_what_slimd_refuses(lab):
    lab.run("h1", "first", "true")  # so that there is a default network
    before, wrong = networks(lab), []
    for words, named in REFUSED:
        done = slimctl(lab, *words)
        if (done.returncode != 1 or done.stdout or len(done.stderr.splitlines()) != 1
                or named not in done.stderr):
            wrong.append((words, named, done.returncode, done.stdout, done.stderr))
    assert wrong == []
    assert names(lab) == []
    assert networks(lab) == before


def test_taken(lab):
    with started(lab, "taken", "import sys; print('ready', flush=True); sys.stdin.readline()"):
        address = lab.ip("taken")
        one_line(ctl(lab, "run", "--name", "taken", "--", "true"), '"taken"', "h1")
        one_line(ctl(lab, "run", "--name", "other", "--address", address, "--", "true"), address)
        assert names(lab) == ["taken"]


def test_without_slimd(lab, tmp_path):
    for words in (["status"], ["network", "ls"], ["run", "--name", "x", "--", "true"]):
        one_line(lab.host("h1", slimctl_path(lab), "--run-dir", tmp_path, *words, check=False),
                 str(tmp_path), "slimd does not run")
    # A socket that nobody serves any more.
    subprocess.run([sys.executable, "-c", "import socket, sys; socket.socket(socket.AF_UNIX)"
                    f".bind('{tmp_path}/slimd.sock')"], check=True)
    one_line(lab.host("h1", slimctl_path(lab), "--run-dir", tmp_path, "status", check=False),
             str(tmp_path), "slimd does not run")


def test_not_root(lab):
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", slimctl_path(lab),
              "--run-dir", f"/run/slim-lab/{lab.id}/h1/run"]
    for words in (["status"], ["network", "create", "blue", "--prefix", "10.90.0.0/16"],
                  ["run", "--name", "x", "--", "true"]):
        one_line(lab.host("h1", *nobody, *words, check=False), "root")
    assert "blue" not in networks(lab)


def test_help_and_version(lab):
    for words in (["--help"], ["run", "--help"], ["network", "create", "--help"],
                  ["--version"], ["status", "--version"]):
        done = ctl(lab, *words)
        assert done.returncode == 0 and done.stdout and done.stderr == "", words
    assert "network create" in ctl(lab, "--help").stdout


def test_a_full_disk_is_an_error(lab):
    with open("/dev/full", "w") as full:
        done = subprocess.run(lab.command("ctl", "h1", "--", "status"), stdout=full,
                              stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
