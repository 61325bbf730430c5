# SPDX-License-Identifier: Apache-2.0
"""
The system below the lab: system calls that Python 3.11 lacks, mounts, cgroups, processes, ip(8).

Nothing here knows of labs. What fails raises LabError, whose text is one line for a person.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import time

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000

PR_SET_PDEATHSIG = 1

NETNS_DIR = "/run/netns"

_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """Something that a person has to know, in one line."""


def _call(what, result):
    if result != 0:
        number = ctypes.get_errno()
        raise LabError(f"{what}: {os.strerror(number)}")


# --- namespaces and mounts ------------------------------------------------------------------------


def setns(fd, kind, what):
    _call(f"cannot enter {what}", _libc.setns(fd, kind))


def unshare(flags):
    _call("cannot make namespaces", _libc.unshare(flags))


def mount(source, target, fstype, flags, data=None):
    def text(s):
        return None if s is None else s.encode()

    _call(f"cannot mount {fstype or source} on {target}",
          _libc.mount(text(source), text(target), text(fstype), ctypes.c_ulong(flags), text(data)))


def sethostname(name):
    raw = name.encode()
    _call("cannot set the host name", _libc.sethostname(raw, len(raw)))


def die_with_parent(parent):
    """SIGKILL for this process when `parent`, which started it, ends, however it ends."""
    _call("cannot ask for a signal at the parent's end",
          _libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0))
    # In a new PID namespace the parent shows as 0; there the caller has a pipe to know by.
    if os.getppid() not in (parent, 0):
        os._exit(1)


def enter_netns(name):
    """For good; programs started from here on are in the namespace. /sys stays what it is."""
    try:
        fd = os.open(f"{NETNS_DIR}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise LabError(f"network namespace {name}: {e.strerror}") from None
    try:
        setns(fd, CLONE_NEWNET, f"network namespace {name}")
    finally:
        os.close(fd)


@contextlib.contextmanager
def netns(name):
    """This process is in the network namespace while the block runs."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter_netns(name)
        try:
            yield
        finally:
            setns(home, CLONE_NEWNET, "the network namespace this began in")
    finally:
        os.close(home)


def sysctl(path, value):
    """Sets /proc/sys/PATH, of the current network namespace. Missing ones are no error: not every
    kernel has every module."""
    with contextlib.suppress(FileNotFoundError):
        with open(f"/proc/sys/{path}", "w") as f:
            f.write(value)


def _mounts():
    """(mount point, root, type) of each mount."""
    with open("/proc/self/mountinfo") as f:
        for line in f:
            left, _, right = line.partition(" - ")
            fields = left.split()
            point = fields[4].encode().decode("unicode_escape")
            yield point, fields[3], right.split()[0]


def cgroup2_root():
    """Where cgroup2 is mounted: /sys/fs/cgroup, or /sys/fs/cgroup/unified on a hybrid layout."""
    points = [p for p, root, kind in _mounts() if kind == "cgroup2"]
    for usual in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        if usual in points:
            return usual
    if not points:
        raise LabError("cgroup2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")
    return points[0]


def bpffs_root():
    """Where bpffs is mounted; None if nowhere."""
    points = [p for p, root, kind in _mounts() if kind == "bpf"]
    if "/sys/fs/bpf" in points:
        return "/sys/fs/bpf"
    return points[0] if points else None


def bpffs_mount():
    """As bpffs_root(), mounted where systemd has it if it was not. It stays: it is the machine's."""
    root = bpffs_root()
    if root is None:
        root = "/sys/fs/bpf"
        mount("bpf", root, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=700")
    return root


# --- processes ------------------------------------------------------------------------------------


def process_started(pid):
    """When a process was started, in clock ticks after boot; None if it is gone or a zombie. The
    pair (pid, started) is a process for ever, a pid is not."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def wait_gone(pid, started, seconds):
    """Waits until the process has ended. False: it has not."""
    deadline = time.monotonic() + seconds
    while process_started(pid) == started:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def reset_signals():
    """For just before an exec, which resets handlers itself. Python ignores SIGPIPE and SIGXFSZ."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def parse_cpus(text):
    """"0,2-3" as a set of numbers; LabError unless this machine has them all."""
    cpus = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not (first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
            raise LabError(f"--cpus {text}: not a list of CPUs such as 0,2-3")
        if len(first) > 6 or len(last) > 6 or int(first) > int(last):
            raise LabError(f"--cpus {text}: {part} is not a range of CPUs")
        cpus.update(range(int(first), int(last) + 1))
    missing = cpus - os.sched_getaffinity(0)
    if missing:
        raise LabError(f"--cpus {text}: this machine has no CPU {min(missing)} for us")
    return cpus


def exec_program(argv):
    """Becomes the program. Ends with 127 (not found) or 126 (cannot run) as a shell does."""
    reset_signals()
    try:
        os.execvp(argv[0], argv)
    except (OSError, ValueError) as e:
        text = e.strerror if isinstance(e, OSError) else str(e)
        os.write(2, f"lab: cannot run {argv[0]}: {text}\n".encode())
        os._exit(127 if isinstance(e, FileNotFoundError) else 126)


# --- cgroups --------------------------------------------------------------------------------------


def cgroup_make(path):
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as e:
        raise LabError(f"cannot make cgroup {path}: {e.strerror}") from None


def cgroup_join(path):
    """Moves this process."""
    try:
        with open(f"{path}/cgroup.procs", "w") as f:
            f.write("0")
    except OSError as e:
        raise LabError(f"cannot join cgroup {path}: {e.strerror}") from None


def cgroup_pids(path):
    """Of the cgroup and all below it."""
    pids = []
    for directory, _, _ in os.walk(path):
        with contextlib.suppress(OSError):
            with open(f"{directory}/cgroup.procs") as f:
                pids += [int(line) for line in f]
    return pids


def cgroup_kill(path):
    """SIGKILL for all in it and below it."""
    try:
        with open(f"{path}/cgroup.kill", "w") as f:
            f.write("1")
        return
    except FileNotFoundError:
        if not os.path.isdir(path):
            return
    for pid in cgroup_pids(path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def cgroup_remove(path, seconds=10):
    """Kills what is in a cgroup and removes it with all below it."""
    deadline = time.monotonic() + seconds
    while os.path.isdir(path):
        cgroup_kill(path)
        for directory, _, _ in os.walk(path, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
        if not os.path.isdir(path):
            return
        if time.monotonic() > deadline:
            raise LabError(f"cgroup {path} cannot be removed: processes in it do not end "
                           f"({', '.join(map(str, cgroup_pids(path))) or 'none shown'})")
        time.sleep(0.02)


# --- ip(8) ----------------------------------------------------------------------------------------


def ip(lines):
    """Runs ip(8) commands, in the current network namespace, and stops at the first that fails."""
    if isinstance(lines, str):
        lines = [lines]
    try:
        done = subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    except FileNotFoundError:
        raise LabError("ip(8) is missing: apt-get install iproute2") from None
    if done.returncode == 0:
        return
    said = [s for s in done.stderr.splitlines() if s]
    command = ""
    if said and said[-1].startswith("Command failed -:"):
        number = said.pop().rpartition(":")[2]
        if number.isdigit() and 0 < int(number) <= len(lines):
            command = lines[int(number) - 1]
    raise LabError(f"ip {command}: {said[-1] if said else 'failed'}")
