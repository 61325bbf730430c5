# SPDX-License-Identifier: Apache-2.0
"""
The slimd of each host: starting, waiting until it is ready, stopping, killing.

It runs in its host's network namespace, in a cgroup of its own below the host's, and outlives the
command that started it.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time

from .system import (LabError, bpffs_mount, cgroup2_root, cgroup_join, cgroup_make, enter_netns,
                     process_started, reset_signals, wait_gone)

READY_SECONDS = 60
STOP_SECONDS = 20

_PLACES = {"slimd": "src/slimd/slimd", "slimctl": "src/slimctl/slimctl",
           "slim-broker": "src/broker/slim-broker"}


def binary(build, name):
    path = f"{build}/{_PLACES[name]}"
    if not os.access(path, os.X_OK):
        raise LabError(f"{path} is not there: build it with make, or name another build directory "
                       "with --bin DIR or $SLIM_BUILD")
    return path


def command(state, host):
    """The whole command line of a host's slimd."""
    build = state.data["build"]
    return [binary(build, "slimd"),
            "--run-dir", state.run_dir(host),
            "--bpf-dir", f"{state.pins(bpffs_mount())}/{host}",
            "--cgroup", f"{state.host_cgroup(cgroup2_root(), host)}/slim",
            "--host-cgroup", state.host_cgroup(cgroup2_root(), host),
            "--store", f"sqlite:{state.store_path()}",
            "--host-name", host,
            "--underlay", "uplink",
            "--broker", binary(build, "slim-broker")]


def running(state, host):
    """(pid, started) of a host's slimd, None if it does not run."""
    known = state.data["daemons"].get(host)
    if known and process_started(known[0]) == known[1]:
        return tuple(known)
    return None


def start(state, host, options=()):
    """Starts it, with further options for this time, and does not wait. LabError if it runs already."""
    if running(state, host):
        raise LabError(f"slimd of {host} runs already, process {running(state, host)[0]}")
    argv = [*command(state, host), *options]
    cgroup = f"{state.host_cgroup(cgroup2_root(), host)}/daemon"
    cgroup_make(cgroup)
    os.makedirs(state.host_dir(host), mode=0o755, exist_ok=True)

    def prepare():
        cgroup_join(cgroup)
        enter_netns(state.netns(host))
        reset_signals()

    with open(state.log_path(host), "ab") as log:
        try:
            child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                     cwd="/", start_new_session=True, preexec_fn=prepare)
        except (OSError, subprocess.SubprocessError) as e:
            raise LabError(f"cannot start slimd of {host}: {e}") from None
    state.data["daemons"][host] = [child.pid, process_started(child.pid)]
    state.save()
    child.returncode = 0  # it is meant to outlive us: no warning when this object goes


def last_words(state, host):
    """The last line of its log."""
    with contextlib.suppress(OSError):
        with open(state.log_path(host), "rb") as f:
            f.seek(max(0, os.fstat(f.fileno()).st_size - 4096))
            lines = f.read().decode(errors="replace").split("\n")
        for line in reversed(lines):
            if line.strip():
                return line.strip()
    return "it said nothing"


def is_ready(state, host):
    """Whether its API socket takes a connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as s:
        s.settimeout(5)
        try:
            s.connect(f"{state.run_dir(host)}/slimd.sock")
        except OSError:
            return False
    return True


def wait_ready(state, hosts):
    deadline = time.monotonic() + READY_SECONDS + len(hosts)
    for host in hosts:
        while not is_ready(state, host):
            if not running(state, host):
                raise LabError(f"slimd of {host} ended at its start: {last_words(state, host)}")
            if time.monotonic() > deadline:
                raise LabError(f"slimd of {host} is not ready: {last_words(state, host)}")
            time.sleep(0.02)


def end(state, host, number):
    """Sends it a signal and waits until it has ended."""
    found = running(state, host)
    if not found:
        raise LabError(f"slimd of {host} does not run")
    with contextlib.suppress(ProcessLookupError):
        os.kill(found[0], number)
    if not wait_gone(*found, STOP_SECONDS):
        raise LabError(f"slimd of {host}, process {found[0]}, does not end after "
                       f"{signal.Signals(number).name}")
    with contextlib.suppress(ChildProcessError):
        os.waitpid(found[0], os.WNOHANG)
    state.data["daemons"].pop(host, None)
