# SPDX-License-Identifier: Apache-2.0
"""slimd itself: what it refuses and how, what its API answers, the store, and its end."""

import array
import contextlib
import hashlib
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import uuid

import pytest

from conftest import PATIENCE, ROOT, descriptors, lab_up, read_line, wait_until

BUILD = pathlib.Path(os.environ.get("SLIM_BUILD") or ROOT / "build").resolve()
SLIMD = BUILD / "src" / "slimd" / "slimd"
SLIMCTL = BUILD / "src" / "slimctl" / "slimctl"


def cgroup2():
    for line in open("/proc/self/mountinfo"):
        left, _, right = line.partition(" - ")
        if right.split()[0] == "cgroup2":
            return left.split()[4]
    return pytest.fail("cgroup2 is not mounted")


def output(*argv):
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout


# --- a host of its own ----------------------------------------------------------------------------


class Host:
    """A network namespace with an underlay device, and places for one slimd."""

    def __init__(self, name=None, directory=None):
        self.name = name or "slimd-t" + uuid.uuid4().hex[:8]
        self.dir = pathlib.Path(directory or tempfile.mkdtemp(prefix="slimd-t"))
        self.run = self.dir / "run"
        self.store = self.dir / "store"
        self.host_cgroup = pathlib.Path(cgroup2()) / self.name
        self.cgroup = self.host_cgroup / "slim"
        self.bpf = pathlib.Path("/sys/fs/bpf") / self.name

    def make(self):
        self.host_cgroup.mkdir()
        output("ip", "netns", "add", self.name)
        output("ip", "-n", self.name, "link", "add", "uplink", "type", "bridge")
        output("ip", "-n", self.name, "addr", "add", "198.51.100.1/24", "dev", "uplink")
        output("ip", "-n", self.name, "link", "set", "uplink", "up")
        output("ip", "-n", self.name, "link", "set", "lo", "up")

    def remove(self):
        """Also after a run that was killed, whose slimd lives."""
        with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
            pid = json.loads(self.ctl("--json", "status").stdout)["pid"]
            pidfd = os.pidfd_open(pid)
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            select.select([pidfd], [], [], PATIENCE)
            os.close(pidfd)
        with contextlib.suppress(OSError):
            (self.cgroup / "cgroup.kill").write_text("1")
        subprocess.run(self.argv("--teardown"), stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=PATIENCE)
        subprocess.run(["ip", "netns", "del", self.name], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)
        shutil.rmtree(self.bpf, ignore_errors=True)
        for directory, _, _ in os.walk(self.host_cgroup, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)

    def argv(self, *more, **options):
        values = {"run-dir": self.run, "bpf-dir": self.bpf, "cgroup": self.cgroup,
                  "host-cgroup": self.host_cgroup, "store": f"sqlite:{self.store}", "host-name": "lonely", "underlay": "uplink"}
        values.update({k.replace("_", "-"): v for k, v in options.items()})
        words = [w for k, v in values.items() if v is not None for w in (f"--{k}", str(v))]
        return ["nsenter", f"--net=/run/netns/{self.name}", str(SLIMD), *words, *more]

    def call(self, argv, **kwargs):
        return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=PATIENCE, cwd="/",
                              **kwargs)

    @contextlib.contextmanager
    def slimd(self):
        with open(self.dir / "log", "w") as log:
            process = subprocess.Popen(self.argv(), stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=log, cwd="/")
        try:
            wait_until(lambda: self.answers() or process.poll() is not None, "slimd to be ready")
            assert process.poll() is None, (self.dir / "log").read_text()
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(PATIENCE)

    def answers(self):
        return self.ctl("status").returncode == 0

    def ctl(self, *words):
        return self.call(["nsenter", f"--net=/run/netns/{self.name}", str(SLIMCTL), "--run-dir",
                          str(self.run), *words])

    def traces(self):
        """All that a slimd could leave."""
        def tree(path):
            return sorted(str(p) for p in [path, *path.rglob("*")]) if path.exists() else []

        rules = subprocess.run(["ip", "netns", "exec", self.name, "nft", "list", "tables"],
                               stdout=subprocess.PIPE, text=True).stdout
        return {
            "links": sorted(x["ifname"] for x in json.loads(output("ip", "-n", self.name, "-j",
                                                                   "link"))),
            "routes": output("ip", "-n", self.name, "route", "show", "table", "all",
                             "type", "unreachable"),
            "filters": output("tc", "-n", self.name, "filter", "show", "dev", "uplink", "ingress"),
            "nft": rules,
            "pins": tree(self.bpf),
            "cgroups": [p for p in tree(self.cgroup) if os.path.isdir(p)],
            "files": [p for p in tree(self.dir) if not p.endswith("/log")],
            "stray": sorted(os.listdir("/sys/fs/bpf")) if self.bpf.exists() else [],
        }


@contextlib.contextmanager
def a_host():
    host = Host()
    # Ends when the test run does, however it does, and then clears up.
    reaper = subprocess.Popen(
        [sys.executable, "-c", "import os, sys; os.setsid(); sys.path[:0] = sys.argv[1:2]; "
         "os.read(0, 1); import test_daemon; test_daemon.Host(*sys.argv[2:]).remove()",
         str(pathlib.Path(__file__).parent), host.name, str(host.dir)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        host.make()
        yield host
    finally:
        reaper.stdin.close()
        reaper.wait(2 * PATIENCE)


@pytest.fixture(scope="module")
def host():
    with a_host() as made:
        yield made


def refused(host, done, *named, status=1):
    """One line on standard error, which has each of the texts."""
    lines = done.stderr.splitlines()
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    assert len(lines) == 1, done.stderr
    assert done.stdout == ""
    for text in named:
        assert text in lines[0], done.stderr


BAD_VALUES = [
    ("host_name", "Bad_Name", ["--host-name", "Bad_Name"]),
    ("host_name", "", ["--host-name"]),
    ("host_name", "a" * 64, ["--host-name", "a" * 64]),
    ("host_name", "-a", ["--host-name", "-a"]),
    ("host_name", "a..b", ["--host-name", "a..b"]),
    ("underlay", "nosuch0", ["--underlay", "nosuch0", "no such device"]),
    ("underlay", "", ["--underlay"]),
    ("underlay", "x" * 40, ["--underlay", "x" * 40]),
    ("underlay", "lo", ["--underlay", "lo", "address"]),
    ("cgroup", "", ["--cgroup"]),
    ("cgroup", "relative/path", ["--cgroup", "relative/path"]),
    ("cgroup", "/tmp/slimd-no/cgroup", ["--cgroup", "/tmp/slimd-no/cgroup", "cgroup2"]),
    ("cgroup", "/etc/passwd", ["--cgroup", "/etc/passwd"]),
    ("cgroup", "/" + "x" * 5000, ["--cgroup"]),
    ("host_cgroup", "", ["--host-cgroup"]),
    ("host_cgroup", "/tmp", ["--host-cgroup", "/tmp", "cgroup2"]),
    ("host_cgroup", "/tmp/slimd-no", ["--host-cgroup", "/tmp/slimd-no", "cgroup2"]),
    ("cgroup", cgroup2() + "/elsewhere", ["--cgroup", "elsewhere", "below --host-cgroup"]),
    ("bpf_dir", "", ["--bpf-dir"]),
    ("bpf_dir", "relative", ["--bpf-dir", "relative"]),
    ("bpf_dir", "/tmp/slimd-no/bpf", ["--bpf-dir", "/tmp/slimd-no/bpf", "bpf"]),
    ("bpf_dir", "/etc/passwd/x", ["--bpf-dir", "/etc/passwd/x"]),
    ("run_dir", "", ["--run-dir"]),
    ("run_dir", "/" + "x" * 200, ["--run-dir", "x" * 200]),
    ("run_dir", "/nonexistent/a/b", ["--run-dir", "/nonexistent/a/b"]),
    ("run_dir", "/etc/passwd", ["--run-dir", "/etc/passwd"]),
    ("store", "", ["--store"]),
    ("store", "nonsense", ["--store", "nonsense"]),
    ("store", "etcd:127.0.0.1:2379", ["--store", "etcd:127.0.0.1:2379"]),
    ("store", "sqlite:", ["sqlite:"]),
    ("store", "sqlite:/nonexistent/dir/store", ["/nonexistent/dir/store"]),
    ("store", "sqlite:/etc", ["sqlite:/etc"]),
    ("broker", "", ["--broker"]),
    ("broker", "/nonexistent/broker", ["--broker", "/nonexistent/broker"]),
    *(("metrics", value, ["--metrics", value[:100]]) for value in
      ("", "9511", ":9511", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:-1",
       "localhost:9511", "::1:9511", "[::1]", "[::1:9511", "[]:9511", "[127.0.0.1]:9511", "[", "x" * 5000 + ":1",
       "203.0.113.9:9511")),
]


@pytest.mark.parametrize("option, value, named", BAD_VALUES,
                         ids=[f"{o}={v[:24]}" for o, v, _ in BAD_VALUES])
def test_bad_values_are_refused_and_leave_nothing(host, option, value, named):
    before = host.traces()
    refused(host, host.call(host.argv(**{option: value})), *named)
    assert host.traces() == before
    assert not os.path.exists("/tmp/slimd-no")


@pytest.mark.parametrize("words, named", [
    (["--nope"], "nope"),
    (["--run-dir"], "run-dir"),
    (["--teardown=1"], "teardown"),
    (["surplus"], "surplus"),
    (["-x"], "x"),
    (["--max-sockets", "1023"], "1023"),
    (["--max-ports", "65536"], "65536"),
    (["--max-listeners", "0"], "max-listeners"),
    (["--max-listeners", "many"], "many"),
])
def test_wrong_command_lines_are_usage_errors(host, words, named):
    before = host.traces()
    refused(host, host.call(host.argv(*words)), named, status=2)
    assert host.traces() == before


def test_help_and_version(host):
    done = host.call([str(SLIMD), "--help"])
    assert done.returncode == 0 and done.stderr == ""
    for option in ("--run-dir", "--bpf-dir", "--cgroup", "--host-cgroup", "--store", "--host-name", "--underlay",
                   "--metrics", "--max-sockets", "--max-ports", "--max-listeners",
                   "--no-masquerade", "--notrack"):
        assert option in done.stdout
    done = host.call([str(SLIMD), "--version"])
    assert done.returncode == 0 and done.stdout.startswith("slimd ")


def test_not_root(host):
    before = host.traces()
    argv = host.argv()
    argv[2:2] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    refused(host, host.call(argv), "root")
    assert host.traces() == before


@pytest.mark.parametrize("given", [True, False])
def test_no_cgroup2(host, given):
    before = host.traces()
    argv = host.argv() if given else host.argv(cgroup=None)
    script = f"umount -l {cgroup2()} && exec \"$@\""
    done = host.call(["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", *argv])
    refused(host, done, "cgroup2")
    assert host.traces() == before


# --- stores that are refused ----------------------------------------------------------------------


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def real_store(host):
    """A store as slimd makes it, closed."""
    with host.slimd():
        pass
    assert host.call(host.argv("--teardown")).returncode == 0
    yield host.store
    for path in host.dir.glob("store*"):
        path.unlink()


def test_a_store_of_a_newer_version_is_refused_unchanged(host, real_store):
    with contextlib.closing(sqlite3.connect(real_store)) as db:
        version, = db.execute("PRAGMA user_version").fetchone()
        db.execute(f"PRAGMA user_version = {version + 1}")
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before, content = host.traces(), digest(real_store)
    refused(host, host.call(host.argv()), str(real_store), "newer version")
    assert digest(real_store) == content
    assert host.traces() == before


@pytest.mark.parametrize("content", [b"garbage\n" * 100, b"x", b"SQLite format 3\0" + b"\0" * 84])
def test_a_garbage_store_is_refused_unchanged(host, content):
    host.store.write_bytes(content)
    try:
        before = host.traces()
        refused(host, host.call(host.argv()), str(host.store), "not a store")
        assert host.store.read_bytes() == content
        assert host.traces() == before
    finally:
        host.store.unlink()


def test_a_database_of_another_program_is_refused_unchanged(host):
    with contextlib.closing(sqlite3.connect(host.store)) as db:
        db.execute("CREATE TABLE books (title TEXT)")
        db.commit()
    try:
        before, content = host.traces(), digest(host.store)
        refused(host, host.call(host.argv()), str(host.store), "not a store")
        assert digest(host.store) == content
        assert host.traces() == before
    finally:
        host.store.unlink()


# --- two of them ----------------------------------------------------------------------------------


def state_dir(lab, host=None):
    base = pathlib.Path("/run/slim-lab") / lab.id
    return base / host / "run" if host else base


def test_a_taken_host_name_is_refused(host, lab):
    before, inside = host.traces(), lab.ctl("h1", "status")
    done = host.call(host.argv(host_name="h1", store=f"sqlite:{state_dir(lab)}/store"))
    refused(host, done, '"h1"', "192.0.2.1")
    assert host.traces() == before
    assert lab.ctl("h1", "status")["hosts"] == inside["hosts"]


def daemon_argv(lab, name):
    pid = lab.verb("daemon", name, "pid").stdout.strip()
    words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    return ["nsenter", f"--net=/run/netns/slim-{lab.id}-{name}", *(w.decode() for w in words)]


@pytest.mark.parametrize("more", [[], ["--teardown"]])
def test_a_second_slimd_on_the_same_run_dir_is_refused(host, lab, more):
    run_dir = state_dir(lab, "h1")
    with lab.start("run", "h1", "bystander", "sleep", "1000"):
        wait_until(lambda: any(e["name"] == "bystander"
                               for e in lab.ctl("h1", "endpoint", "ls")["endpoints"]), "bystander")
        before = lab.ctl("h1", "status")
        shown = lab.ctl("h1", "endpoint", "show", "bystander")
        links = output("ip", "-n", f"slim-{lab.id}-h1", "-br", "link")
        refused(host, host.call(daemon_argv(lab, "h1") + more), str(run_dir))
        assert (run_dir / "slimd.sock").exists()
        after = lab.ctl("h1", "status")
        assert (after["pid"], after["maps"]) == (before["pid"], before["maps"])
        assert lab.ctl("h1", "endpoint", "show", "bystander") == shown
        assert output("ip", "-n", f"slim-{lab.id}-h1", "-br", "link") == links


# --- the API --------------------------------------------------------------------------------------


class Client:
    def __init__(self, lab, host="h1"):
        self.socket = socket.socket(socket.AF_UNIX)
        # With a time-out set, connecting would not wait while slimd has others to accept first.
        self.socket.connect(str(state_dir(lab, host) / "slimd.sock"))
        self.socket.settimeout(PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, raw, fds=()):
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        done = self.socket.sendmsg([raw], rights)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(raw[done:])  # slimd may have had enough of it

    def answer(self):
        """None: the connection ended with no answer."""
        got = b""
        while not got.endswith(b"\0"):
            try:
                part = self.socket.recv(65536)
            except ConnectionResetError:
                part = b""
            if not part:
                assert got == b""
                return None
            got += part
        return json.loads(got[:-1])

    def call(self, method, parameters=None, fds=()):
        message = {"method": method}
        if parameters is not None:
            message["parameters"] = parameters
        self.send(json.dumps(message).encode() + b"\0", fds)
        return self.answer()


@contextlib.contextmanager
def unharmed(lab):
    """slimd is the same process afterwards, with as many descriptors, devices and endpoints."""
    def look():
        status = lab.ctl("h1", "status")
        return (status["pid"], status["endpoints"], status["networks"], status["maps"],
                descriptors(status["pid"]),
                output("ip", "-n", f"slim-{lab.id}-h1", "-br", "link"))

    before = look()
    with Client(lab) as bystander:
        bystander.call("Status")
        yield
        assert "parameters" in bystander.call("Status")
    wait_until(lambda: look() == before, "slimd to be as it was")


def is_error(answer, number=None):
    assert set(answer) == {"error", "errno"}
    assert isinstance(answer["error"], str) and answer["error"]
    assert "\n" not in answer["error"]
    assert isinstance(answer["errno"], int) and answer["errno"] > 0
    if number is not None:
        assert answer["errno"] == number, answer
    return True


GARBAGE = {
    "text": b"hello\0",
    "nothing": b"\0",
    "array": b"[]\0",
    "number": b"17\0",
    "twice": b'{"method": "Status", "method": "Status"}\0',
    "truncated": b'{"method": "Status"\0',
    "not utf-8": b'{"method": "\xff\xfe"}\0',
    "deep": b"[" * 100000 + b"\0",
    "no method": b"{}\0",
    "method is a number": b'{"method": 5}\0',
    "parameters are an array": b'{"method": "Status", "parameters": []}\0',
    "parameters are null": b'{"method": "Status", "parameters": null}\0',
    "huge": b"x" * (20 << 20),
}


@pytest.mark.parametrize("raw", GARBAGE.values(), ids=GARBAGE)
def test_garbage_gets_an_error_answer(lab, raw):
    with unharmed(lab), Client(lab) as client:
        client.send(raw)
        assert is_error(client.answer())


def test_half_a_call_and_gone(lab):
    with unharmed(lab):
        for raw in (b"", b"{", b'{"method": "Status"}'):
            with Client(lab) as client:
                client.send(raw) if raw else None


EINVAL, ENOENT, ENOSYS, E2BIG, EEXIST = 22, 2, 38, 7, 17
WRONG_CALLS = [
    ("Nothing.AtAll", {}, ENOSYS, "Nothing.AtAll"),
    ("", {}, ENOSYS, ""),
    ("Status", {"surplus": 1}, EINVAL, "surplus"),
    ("Network.Create", {}, EINVAL, "name"),
    ("Network.Create", {"name": "n"}, EINVAL, "prefix"),
    ("Network.Create", {"name": 7, "prefix": "10.99.0.0/16"}, EINVAL, ""),
    ("Network.Create", {"name": "n", "prefix": 7}, EINVAL, ""),
    ("Network.Create", {"name": "n", "prefix": "10.99.0.0/16", "more": 1}, EINVAL, "more"),
    ("Network.Create", {"name": "N!", "prefix": "10.99.0.0/16"}, EINVAL, "N!"),
    ("Network.Create", {"name": "", "prefix": "10.99.0.0/16"}, EINVAL, "name"),
    ("Network.Create", {"name": "n/m", "prefix": "10.99.0.0/16"}, EINVAL, "n/m"),
    ("Network.Create", {"name": "n", "prefix": "10.99.0.0"}, EINVAL, "10.99.0.0"),
    ("Network.Create", {"name": "n", "prefix": "10.99.0.1/16"}, EINVAL, "10.99.0.1/16"),
    ("Network.Create", {"name": "n", "prefix": "10.99.0.0/33"}, EINVAL, "10.99.0.0/33"),
    ("Network.Create", {"name": "n", "prefix": "10.99.0.0/16", "block_bits": "26"}, EINVAL, ""),
    ("Network.Create", {"name": "n", "prefix": "10.99.0.0/16", "block_bits": 33}, EINVAL, "33"),
    ("Network.Create", {"name": "n", "prefix": "10.99.0.0/16", "block_bits": 15}, EINVAL, "15"),
    ("Network.Create", {"name": "n", "prefix": "10.99.0.0/16", "block_bits": -2}, EINVAL, "-2"),
    ("Network.Create", {"name": "n", "prefix": "10.99.0.0/16", "block_bits": 1 << 40}, EINVAL, ""),
    ("Network.Create", {"name": "n", "prefix": "10.99.0.0/16", "block_bits": 1 << 32 | 24}, EINVAL,
     ""),
    ("Network.List", {"name": "n"}, EINVAL, "name"),
    ("Network.Remove", {}, EINVAL, "name"),
    ("Network.Remove", {"name": "nosuch"}, ENOENT, "nosuch"),
    ("Endpoint.List", {"network": "nosuch"}, ENOENT, "nosuch"),
    ("Endpoint.List", {"network": 1}, EINVAL, ""),
    ("Endpoint.Show", {}, EINVAL, "name"),
    ("Endpoint.Show", {"name": "nosuch"}, ENOENT, "nosuch"),
    ("Endpoint.Show", {"name": "../x"}, EINVAL, "../x"),
    ("Connection.List", {"network": "nosuch"}, ENOENT, "nosuch"),
    ("Connection.List", {"name": []}, EINVAL, ""),
    ("Endpoint.Add", {"name": "e", "kind": "slim", "pid": 1}, EINVAL, "3 descriptors"),
    ("Endpoint.Add", {"name": "e", "kind": "plain", "pid": 1}, EINVAL, "2 descriptors"),
    ("Endpoint.Add", {"name": "e", "kind": "thick", "pid": 1}, EINVAL, "thick"),
    ("Endpoint.Add", {"name": "e", "kind": "slim", "pid": -1}, EINVAL, "-1"),
    ("Endpoint.Add", {"name": "e", "kind": "slim", "pid": 1 << 40}, EINVAL, str(1 << 40)),
    ("Endpoint.Add", {"name": "e", "kind": "slim", "pid": "1"}, EINVAL, ""),
    ("Endpoint.Add", {"name": "e", "kind": "slim", "pid": 1, "address": "10.77"}, EINVAL, "10.77"),
    ("Endpoint.Add", {"name": "e", "kind": "slim", "pid": 1, "publish": "80:80"}, EINVAL, "publish"),
    ("Endpoint.Add", {"name": "e", "kind": "slim", "pid": 1, "publish": [80]}, EINVAL, "publish"),
    ("Endpoint.Add", {"name": "e", "kind": "slim", "pid": 1, "publish": ["80"]}, EINVAL, '"80"'),
    ("Endpoint.Add", {"name": "e", "kind": "slim", "pid": 1, "publish": ["1-999:1-999"]}, E2BIG,
     "256 ports"),
    ("Endpoint.Add", {"name": "e", "kind": "slim", "pid": 1, "publish": ["80:1", "80:2"]}, EEXIST,
     '"80:2"'),
    ("Endpoint.Add", {"name": "e" * 64, "kind": "slim", "pid": 1}, EINVAL, "e" * 64),
]


def test_wrong_calls_name_what_is_wrong(lab):
    with unharmed(lab), Client(lab) as client:
        for method, parameters, number, named in WRONG_CALLS:
            answer = client.call(method, parameters)
            assert is_error(answer, number), (method, parameters, answer)
            assert named in answer["error"], (method, parameters, answer)


@contextlib.contextmanager
def a_process():
    """A process in a network namespace of its own: its pid, and descriptors of both."""
    process = subprocess.Popen(["unshare", "-n", "sleep", "1000"])
    fds = {}
    try:
        def unshared():
            return os.readlink(f"/proc/{process.pid}/ns/net") != os.readlink("/proc/self/ns/net")
        wait_until(unshared, "the process")
        fds["net"] = os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY)
        fds["uts"] = os.open(f"/proc/{process.pid}/ns/uts", os.O_RDONLY)
        fds["pidfd"] = os.pidfd_open(process.pid)
        fds["other pidfd"] = os.pidfd_open(os.getpid())
        fds["pipe"], fds["pipe's end"] = os.pipe()
        fds["file"] = os.open("/etc/passwd", os.O_RDONLY)
        yield process.pid, fds
    finally:
        for fd in fds.values():
            os.close(fd)
        process.kill()
        process.wait()


@pytest.mark.parametrize("kind, sent", [
    ("plain", ["pipe", "pidfd"]),
    ("plain", ["uts", "pidfd"]),
    ("plain", ["file", "pidfd"]),
    ("plain", ["net", "pipe"]),
    ("plain", ["net", "other pidfd"]),
    ("plain", ["net", "net"]),
    ("plain", ["pidfd", "net"]),
    ("plain", ["net"]),
    ("plain", ["net", "pidfd", "pipe"]),
    ("slim", ["net", "pidfd"]),
    ("slim", ["net", "pidfd", "pipe"]),
    ("slim", ["net", "pidfd", "pidfd"]),
    ("slim", ["net", "pidfd", "file"]),
    ("slim", ["net", "pidfd", "file", "file"]),
])
def test_wrong_descriptors(lab, kind, sent):
    with a_process() as (pid, fds), unharmed(lab), Client(lab) as client:
        answer = client.call("Endpoint.Add", {"name": "wrong", "kind": kind, "pid": pid},
                             [fds[s] for s in sent])
        assert is_error(answer, EINVAL)


def test_more_descriptors_than_any_call_has(lab):
    with a_process() as (_, fds), unharmed(lab), Client(lab) as client:
        assert is_error(client.call("Status", {}, [fds["pipe"]] * 100))


def test_a_process_that_has_ended(lab):
    with a_process() as (pid, fds), unharmed(lab), Client(lab) as client:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PIDFD, fds["pidfd"], os.WEXITED)
        answer = client.call("Endpoint.Add", {"name": "dead", "kind": "plain", "pid": pid},
                             [fds["net"], fds["pidfd"]])
        assert is_error(answer)


def test_taken_name_and_address(lab):
    with lab.start("run", "h2", "taken", "sleep", "1000"):
        wait_until(lambda: "taken" in [e["name"] for e in
                                       lab.ctl("h1", "endpoint", "ls")["endpoints"]], "taken")
        address = lab.ip("taken")
        done = lab.run("h1", "taken", "true", check=False)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert '"taken"' in done.stderr and "h2" in done.stderr
        done = lab.verb("run", "--address", address, "h1", "other", "--", "true", check=False)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert address in done.stderr
        done = lab.verb("run", "--address", "192.168.7.7", "h1", "other", "--", "true", check=False)
        assert done.returncode == 1 and "192.168.7.7" in done.stderr
        assert [e["name"] for e in lab.ctl("h1", "endpoint", "ls")["endpoints"]] == ["taken"]


def test_three_hundred_idle_clients(lab):
    pid = lab.ctl("h1", "status")["pid"]
    before = len(os.listdir(f"/proc/{pid}/fd"))
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(Client(lab))
        assert lab.ctl("h1", "status")["pid"] == pid
        with Client(lab) as client:
            assert "parameters" in client.call("Status")
        lab.run("h1", "among-idlers", "true")
        # Those that talk are not the ones to be cut off.
        talker = stack.enter_context(Client(lab))
        for _ in range(300):
            stack.enter_context(Client(lab))
            if _ % 100 == 0:
                assert "parameters" in talker.call("Status")
        assert "parameters" in talker.call("Status")
    wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= before, "slimd to close them")


def test_only_root_may_call(lab):
    path = state_dir(lab, "h1") / "slimd.sock"
    assert path.stat().st_mode & 0o777 == 0o600


# --- the store goes and comes ---------------------------------------------------------------------

SERVER = """
import socket
s = socket.create_server(("0.0.0.0", 8080))
print("ready", flush=True)
while True:
    c, a = s.accept()
    c.sendall(a[0].encode())
    c.close()
"""
CLIENT = """
import json, socket, sys
s = socket.create_connection((sys.argv[1], 8080), timeout=20)
print(json.dumps(s.recv(100).decode()))
"""
PYTHON = "/usr/bin/python3"


def test_the_store_moves_away_and_back(lab):
    store, away = state_dir(lab) / "store", state_dir(lab) / "away"
    # Shells that make a connection for each line they are given: containers that run already.
    loop = f"while read line; do {PYTHON} -c '{CLIENT}' {lab.ip('still')}; done"
    names = ("h1", "h2")
    with lab.start("run", "h2", "still", PYTHON, "-c", SERVER, ready="ready"), \
            lab.start("run", "h1", "ends", "sleep", "1000") as ends, \
            subprocess.Popen(lab.command("run", "h1", "asker", "--", "sh", "-c", loop), text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE) as asker:
        try:
            def ask():
                asker.stdin.write("\n")
                asker.stdin.flush()
                return json.loads(read_line(asker))

            assert ask() == lab.ip("asker")
            wait_until(lambda: len(lab.ctl("h1", "endpoint", "ls")["endpoints"]) == 3, "all three")
            maps = [lab.ctl(h, "status")["maps"]["endpoints"] for h in names]
            store.rename(away)
            for h in names:
                wait_until(lambda: lab.ctl(h, "status")["store_error"], "an error")
                assert lab.ctl(h, "status")["store_down_since"].endswith("Z")
                assert "does not answer" in lab.verb("ctl", h, "--", "status").stdout
            assert not store.exists()  # and nobody makes an empty one in its place
            assert [lab.ctl(h, "status")["maps"]["endpoints"] for h in names] == maps
            assert ask() == lab.ip("asker")
            refusal = lab.run("h1", "newcomer", "true", check=False)
            assert refusal.returncode == 1 and "store" in refusal.stderr
            assert len(refusal.stderr.splitlines()) == 1
            ends.terminate()
            ends.wait(PATIENCE)

            away.rename(store)
            for h in names:
                wait_until(lambda: lab.ctl(h, "status")["store_error"] is None, "the store")
                assert lab.ctl(h, "status")["store_down_since"] is None
            assert ask() == lab.ip("asker")
            # What ended meanwhile goes, on both hosts.
            for h in names:
                wait_until(lambda: sorted(e["name"] for e in lab.ctl(h, "endpoint", "ls")
                                          ["endpoints"]) == ["asker", "still"], "ends to go")
            lab.run("h2", "ends", "true")
        finally:
            asker.stdin.close()
            asker.wait(PATIENCE)


def test_the_store_is_replaced(lab):
    """By another file with the same content: each slimd opens that one instead."""
    store, copy = state_dir(lab) / "store", state_dir(lab) / "copy"
    with lab.start("run", "h2", "still", PYTHON, "-c", SERVER, ready="ready"):
        with contextlib.closing(sqlite3.connect(store)) as db, \
                contextlib.closing(sqlite3.connect(copy)) as to:
            db.backup(to)
        inode = copy.stat().st_ino
        for leftover in state_dir(lab).glob("store*"):
            leftover.unlink()
        copy.rename(store)
        for h in ("h1", "h2"):
            wait_until(lambda: lab.ctl(h, "status")["store_error"] is None, "the store")
            assert len(lab.ctl(h, "status")["hosts"]) == 2
        assert store.stat().st_ino == inode
        # Both are on the same store again: what one writes the other sees, without being asked.
        lab.ctl("h1", "network", "create", "replaced", "--prefix", "10.98.0.0/16")
        assert "replaced" in [n["name"] for n in lab.ctl("h2", "network", "ls")["networks"]]
        lab.ctl("h2", "network", "rm", "replaced")
        assert lab.python("h1", "asker", CLIENT, lab.ip("still")) == lab.ip("asker")


# --- the end --------------------------------------------------------------------------------------


def run_container(host, name="guest"):
    return subprocess.Popen(["nsenter", f"--net=/run/netns/{host.name}", str(SLIMCTL), "--run-dir",
                             str(host.run), "run", "--name", name, "--", "sh", "-c",
                             "echo ready; sleep 1000"], stdout=subprocess.PIPE, text=True,
                            stdin=subprocess.DEVNULL)


def check_torn_down(host, before):
    after = host.traces()
    # The store is the cluster's; all that is this host's goes.
    after["files"] = [f for f in after["files"] if not f.startswith(str(host.store))]
    assert after == before


@pytest.mark.parametrize("killed", ["stopped", "killed"])
def test_teardown_removes_everything(killed):
    with a_host() as host:
        before = host.traces()
        with host.slimd() as slimd:
            container = run_container(host)
            assert read_line(container) == "ready\n"
            during = host.traces()
            for what in ("links", "routes", "filters", "pins", "cgroups", "files"):
                assert during[what] != before[what], what
            (slimd.kill if killed == "killed" else slimd.terminate)()
            slimd.wait(PATIENCE)
        assert container.poll() is None
        done = host.call(host.argv("--teardown"))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert container.wait(PATIENCE) != 0
        check_torn_down(host, before)
        # Twice is fine, and so is coming back: the name is free.
        assert host.call(host.argv("--teardown")).returncode == 0
        with host.slimd():
            assert "guest" not in host.ctl("endpoint", "ls").stdout
            assert host.ctl("run", "--name", "guest", "--", "true").returncode == 0


def test_teardown_takes_forgotten_containers_and_no_one_elses():
    """A container that no file tells of, and cgroups in the same directory that are not Slim's."""
    with a_host() as host:
        with host.slimd() as slimd:
            container = run_container(host)
            assert read_line(container) == "ready\n"
            slimd.kill()
            slimd.wait(PATIENCE)
        [forgotten] = [p for p in host.cgroup.iterdir() if p.is_dir()]
        assert forgotten.name.isdecimal() and (forgotten / "program" / "cgroup.procs").read_text()
        shutil.rmtree(host.run)
        others = [host.cgroup / "4711", host.cgroup / "4711" / "inside", host.cgroup / "12a"]
        for other in others:
            other.mkdir()
        (others[2] / "program").mkdir()
        (host.cgroup / "4712").mkdir()  # as a slimd that was killed while it made one leaves it
        with subprocess.Popen(["sleep", "1000"]) as process:
            try:
                (others[1] / "cgroup.procs").write_text(str(process.pid))
                done = host.call(host.argv("--teardown"))
                assert container.wait(PATIENCE) != 0 and not forgotten.exists()
                assert not (host.cgroup / "4712").exists()
                assert all(other.exists() for other in others) and process.poll() is None
                assert done.returncode == 0 and f"cannot remove the cgroup {host.cgroup}" in done.stderr
            finally:
                process.kill()


def test_pressure_is_accounted_once_for_a_container():
    with a_host() as host, host.slimd():
        with run_container(host) as container:
            assert read_line(container) == "ready\n"
            [top] = [p for p in host.cgroup.iterdir() if p.is_dir()]
            if (top / "cgroup.pressure").exists():
                assert {p.parent.name: p.read_text() for p in top.glob("*/cgroup.pressure")} == \
                    {"program": "0\n", "broker": "0\n"}
                assert (top / "cgroup.pressure").read_text() == "1\n"
            (top / "program" / "cgroup.kill").write_text("1")
        wait_until(lambda: not top.exists(), "the end of the container")


def test_teardown_works_where_starting_does_not():
    """The pinned maps are of another version and the store is gone."""
    with a_host() as host:
        before = host.traces()
        with host.slimd() as slimd:
            container = run_container(host)
            assert read_line(container) == "ready\n"
            slimd.kill()
            slimd.wait(PATIENCE)
        pin = host.bpf / "maps" / "ports"
        pin.unlink()
        output("bpftool", "map", "create", str(pin), "type", "hash", "key", "4", "value", "4",
               "entries", "4", "name", "ports")
        refused(host, host.call(host.argv()), str(host.bpf))
        assert (host.bpf / "links").exists()  # a failed restart takes nothing away
        assert container.poll() is None
        for path in host.dir.glob("store*"):
            path.unlink()
        assert host.call(host.argv("--teardown")).returncode == 0
        assert container.wait(PATIENCE) != 0
        check_torn_down(host, before)


def test_a_start_that_fails_late_leaves_nothing(host):
    """The kernel refuses the data path: a map of another version is where it is to be pinned."""
    host.bpf.mkdir()
    (host.bpf / "maps").mkdir()
    pin = host.bpf / "maps" / "ports"
    output("bpftool", "map", "create", str(pin), "type", "hash", "key", "4", "value", "4",
           "entries", "4", "name", "ports")
    try:
        before = host.traces()
        refused(host, host.call(host.argv()), str(host.bpf))
        after = host.traces()
        for what in ("links", "routes", "filters", "nft", "cgroups"):
            assert after[what] == before[what], what
    finally:
        shutil.rmtree(host.bpf, ignore_errors=True)
        for path in host.dir.glob("store*"):
            path.unlink()


def lab_traces(lab_id):
    found = []
    for line in output("ip", "netns", "list").splitlines():
        found += [line] if lab_id in line else []
    found += [x["ifname"] for x in json.loads(output("ip", "-j", "link")) if lab_id in x["ifname"]]
    for base in ("/sys/fs/bpf", cgroup2(), "/run/slim-lab", "/run/netns"):
        found += [f"{base}/{n}" for n in os.listdir(base) if lab_id in n] \
            if os.path.isdir(base) else []
    found += [line for line in open("/proc/self/mountinfo") if lab_id in line]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            text = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
            text += pathlib.Path(f"/proc/{pid}/cgroup").read_text()
            # The fixture's reaper, which waits to take the lab down, has its id as well.
            if lab_id in text and "os.setsid()" not in text:
                found.append(text)
    return found


@pytest.mark.parametrize("killed", [False, True])
def test_lab_down_leaves_nothing(killed):
    with lab_up(hosts=2) as lab:
        programs = [subprocess.Popen(lab.command(verb, h, name, "--", "sh", "-c",
                                                 "echo ready; sleep 1000"),
                                     stdout=subprocess.PIPE, text=True)
                    for verb, h, name in (("run", "h1", "one"), ("plain", "h2", "two"),
                                          ("baseline", "h1", "three"))]
        for program in programs:
            assert read_line(program) == "ready\n"
        assert lab_traces(lab.id)
        if killed:
            root = f"{cgroup2()}/slim-lab-{lab.id}"
            pids = [int(pid) for top, _, _ in os.walk(root)
                    for pid in open(f"{top}/cgroup.procs").read().split()]
            assert len(pids) >= 8
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        lab.verb("down")
        for program in programs:
            assert program.wait(PATIENCE) != 0
            program.stdout.close()
        wait_until(lambda: not lab_traces(lab.id), f"nothing to be left: {lab_traces(lab.id)}")
