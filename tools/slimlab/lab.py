# SPDX-License-Identifier: Apache-2.0
"""
A lab as a whole: up, down, what it looks like, and how a program gets into it.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time

from . import baseline, daemon, system, underlay
from .state import (BASE, FAMILIES, HOSTS_MAX, PREFIXES, State, check_name, host_address,
                    host_address6, host_index, labs)
from .system import LabError


def default_build():
    """The repository's build directory."""
    tools = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    return os.environ.get("SLIM_BUILD") or f"{os.path.dirname(tools)}/build"


# --- up and down ----------------------------------------------------------------------------------


def up(state, hosts, slim, build, wires="4", overlay="4"):
    """wires: of which families the hosts' underlay addresses are, as --underlay says it."""
    if not 1 <= hosts <= HOSTS_MAX:
        raise LabError(f"--hosts {hosts}: a lab has 1 to {HOSTS_MAX} hosts")
    families = underlay_families(wires, hosts)
    if overlay not in FAMILIES:
        raise LabError(f'--overlay "{overlay}": one of 4, 6 and 46')
    build = os.path.abspath(build or default_build())
    if slim:
        for name in ("slimd", "slim-broker", "slimctl"):
            daemon.binary(build, name)
    with state.locked(make=True):
        if state.data is not None and state.data["up"]:
            raise LabError(f"lab {state.id} is up already: tools/lab --lab {state.id} down")
        if state.data is not None or underlay.namespaces(state):
            raise LabError(f"lab {state.id} is left over from an attempt that was killed: "
                           f"tools/lab --lab {state.id} down")
        try:
            state.begin(hosts, slim, build, families, overlay)
            _build(state, slim)
            state.data["up"] = True
        except BaseException:
            # An interrupt as well. What cannot be cleaned up is said by the next down.
            with contextlib.suppress(LabError):
                _clear(state)
            raise


def underlay_families(text, hosts):
    """"46,4" → ["46", "4", "4", …]: the last one is that of all further hosts too."""
    families = text.split(",")
    if len(families) > hosts or any(f not in FAMILIES for f in families):
        raise LabError(f'--underlay "{text}": 4, 6 or 46, or one for each host with commas between')
    return families + families[-1:] * (hosts - len(families))


def _make_default_network(state):
    """slimd's own has IPv4 alone."""
    command = [daemon.binary(state.data["build"], "slimctl"), "--run-dir", state.run_dir("h1"),
               "network", "create", "default"]
    for family, option in (("4", "--prefix"), ("6", "--prefix6")):
        if family in state.data["overlay"]:
            command += [option, PREFIXES[family]]
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise LabError(f"cannot make the default network: {done.stdout.strip()}")


def _build(state, slim):
    hosts = state.data["hosts"]
    root = system.cgroup2_root()
    system.cgroup_make(_programs(state, root, underlay.MIDDLE))
    for host in hosts:
        system.cgroup_make(_programs(state, root, host))
    underlay.build(state, hosts)
    if slim:
        for host in hosts:
            daemon.start(state, host)
        daemon.wait_ready(state, hosts)
        if state.data["overlay"] != "4":
            _make_default_network(state)


def down(state):
    """Takes away all that there is, whatever there is."""
    with state.locked(make=True):
        _clear(state)


def _clear(state):
    # Processes first, so that nobody makes anew what is being removed: those of the lab's cgroup,
    # and those that somebody took into a host's namespace by other means.
    root = state.cgroup(system.cgroup2_root())
    _leave(root)
    system.cgroup_kill(root)
    _kill_inhabitants(underlay.namespaces(state))
    system.cgroup_remove(root)
    underlay.remove(state)
    bpffs = system.bpffs_root()
    if bpffs:
        shutil.rmtree(state.pins(bpffs), ignore_errors=True)
        if os.path.isdir(state.pins(bpffs)):
            raise LabError(f"{state.pins(bpffs)} cannot be removed")
    shutil.rmtree(state.dir, ignore_errors=True)
    if state.exists():
        raise LabError(f"{state.dir} cannot be removed")
    with contextlib.suppress(OSError):
        os.rmdir(BASE)


def _leave(root):
    """This very process must not be killed when it runs in the lab it takes down."""
    if os.getpid() in system.cgroup_pids(root):
        system.cgroup_join(system.cgroup2_root())


def _kill_inhabitants(names):
    deadline = time.monotonic() + 10
    while True:
        pids = [p for p in underlay.inhabitants(names)
                if p != os.getpid() and system.process_started(p) is not None]
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise LabError(f"processes of {', '.join(names)} do not end: "
                           f"{', '.join(map(str, pids))}")
        time.sleep(0.02)


# --- programs -------------------------------------------------------------------------------------


def _programs(state, root, host):
    """The cgroup of what the verbs start on a host."""
    return f"{state.host_cgroup(root, host)}/programs"


def _join(state, host, name=None):
    """This process becomes one of those that the verbs start; name: of a cgroup for it alone."""
    path = _programs(state, system.cgroup2_root(), host)
    if name is not None:
        path += f"/{check_name(name)}"
        system.cgroup_make(path)
    system.cgroup_join(path)


def _enter(state, host, cgroup=None):
    """This process becomes one of a host's, in its network namespace."""
    _join(state, host, cgroup)
    system.enter_netns(state.netns(host))


def run_slim(state, host, name, argv, plain=False, network=None, address=None, cpus=None,
             several=None, accelerator=True, build=None):
    """Becomes slimctl, which runs the program and ends with its status. several: options of its `run`
    and the values that each is given with."""
    with state.locked():
        state.check_host(host)
        state.check_slim()
        if not address and network in (None, "default"):
            address = state.addresses(name).values()
        slimctl = daemon.binary(build or state.data["build"], "slimctl")
    command = [slimctl, "--run-dir", state.run_dir(host), "run", "--name", name]
    if network is not None:
        command += ["--network", network]
    for one in address or ():
        command += ["--address", one]
    if plain:
        command.append("--plain")
    if not accelerator:
        command.append("--no-accelerator")
    if cpus is not None:
        system.parse_cpus(cpus)
        command += ["--cpus", cpus]
    for option, values in (several or {}).items():
        for value in values:
            command += [f"--{option}", value]
    _enter(state, host)
    system.exec_program(command + ["--"] + argv)


def run_ctl(state, host, args, build=None):
    """Becomes slimctl."""
    with state.locked():
        state.check_host(host)
        state.check_slim()
        slimctl = daemon.binary(build or state.data["build"], "slimctl")
    _enter(state, host)
    system.exec_program([slimctl, "--run-dir", state.run_dir(host)] + args)


def run_host(state, host, argv, cpus=None, cgroup=None):
    """Becomes the program, in the host's namespace, or in that of the underlay ("net"). cgroup: the
    name of one of its own."""
    with state.locked():
        if host == underlay.MIDDLE:
            state.check_up()
        else:
            state.check_host(host)
    wanted = system.parse_cpus(cpus) if cpus is not None else None
    _enter(state, host, cgroup)
    if wanted:
        os.sched_setaffinity(0, wanted)
    system.exec_program(argv)


def run_baseline(state, host, name, argv, cpus=None):
    """Runs the program in a baseline container and returns its status."""
    wanted = system.parse_cpus(cpus) if cpus is not None else None
    with state.locked():
        state.check_host(host)
        address = state.baseline_address(name, host)
        baseline.ensure_host(state, host)
        lock = baseline.claim(state, name)
    # Not a process of the host: there is no Slim where the baseline is used.
    _join(state, underlay.MIDDLE, name)
    try:
        return baseline.run(state, host, name, address, argv, wanted)
    finally:
        os.close(lock)


# --- looking --------------------------------------------------------------------------------------


def status(state):
    """Lines for a person."""
    with state.locked():
        data = state.data
        if data is None or not data["up"]:
            return [f"lab {state.id}: did not come up wholly"]
        lines = [f"lab {state.id}: {len(data['hosts'])} hosts, "
                 f"{'Slim from ' + data['build'] if data['slim'] else 'without Slim'}"]
        for host in data["hosts"]:
            number = host_index(host)
            own = " ".join({"4": host_address, "6": host_address6}[f](number)
                           for f in data["underlay"][host])
            line = f"  {host:5} {own:14} {state.netns(host)}"
            if data["slim"]:
                found = daemon.running(state, host)
                ready = found and daemon.is_ready(state, host)
                line += (f"  slimd {found[0]}{'' if ready else ', not ready'}" if found
                         else f"  slimd does not run: {daemon.last_words(state, host)}")
            lines.append(line)
        lines += [f"  {name:20} {' '.join(found.values())}"
                  for name, found in data["names"].items()]
        lines += [f"  {name:20} {n['address']} (baseline, {n['host']})"
                  for name, n in data["baseline_names"].items()]
        programs = system.cgroup_pids(state.cgroup(system.cgroup2_root()))
        daemons = [d[0] for d in data["daemons"].values()]
        lines.append(f"  processes: {len([p for p in programs if p not in daemons])}")
        return lines


def listing():
    lines = []
    for lab_id in labs():
        try:
            data = State(lab_id).load()
        except LabError:
            data = None
        if data is None or not data["up"]:
            lines.append(f"{lab_id:20} not wholly up")
        else:
            lines.append(f"{lab_id:20} {len(data['hosts'])} hosts"
                         f"{'' if data['slim'] else ', without Slim'}")
    return lines
