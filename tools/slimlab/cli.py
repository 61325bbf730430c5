# SPDX-License-Identifier: Apache-2.0
"""
The command line of tools/lab. Errors are one line; exit status 1, and 2 for a wrong command line.
"""

import argparse
import os
import signal
import sys

from . import daemon, lab
from .state import State
from .system import LabError

USAGE = """tools/lab [--lab ID] [--bin DIR] VERB …

  up [--hosts N] [--no-slim]             bring a lab up: h1, h2, … (2 hosts unless N is given)
     [--underlay 4|6|46[,…]]             which families the hosts' own addresses are of (4), and
     [--overlay 4|6|46]                  those of the default network (4)
  down                                   take it away, whatever there is of it
  ls                                     the labs of this machine
  status                                 hosts, daemons and names of the lab

  run HOST NAME -- CMD…                  in a Slim container   [--network NET] [--address ADDR]…
                                         [--publish [ADDR:]PORT:PORT[/udp]]… [--label K=V]…
                                         [--port NAME=PORT[/udp]]… [--no-accelerator]
                                         [--egress RATE] [--ingress RATE] [--dscp DSCP]
                                         [--priority N]
  plain HOST NAME -- CMD…                in a container on the encapsulated path only (the same)
  baseline HOST NAME -- CMD…             in a container on bridge + VXLAN + veth
  host HOST -- CMD…                      on the host itself ("net": another machine of the underlay)
                                         [--cgroup NAME]; all four: [--cpus LIST]
  ip [--family 4|6] NAME                 the overlay address of a name
  ip --baseline NAME [--host HOST]       its address on the baseline
  ctl HOST -- ARGS…                      slimctl of that host
  daemon HOST start|stop|kill|pid|log    its slimd  [start -- OPTION…: with further options of slimd]

--lab ID: $SLIM_LAB or "lab" unless given. --bin DIR: the build directory, $SLIM_BUILD or the
repository's build/ unless given."""


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    def error(self, message):
        sys.stderr.write(f"lab: {message} (tools/lab --help)\n")
        sys.exit(2)


def _parser():
    parser = Parser(prog="lab", usage=USAGE, add_help=False, allow_abbrev=False)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--lab", metavar="ID", default=os.environ.get("SLIM_LAB") or "lab")
    parser.add_argument("--bin", metavar="DIR")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=Parser)

    def verb(name, *positionals):
        p = verbs.add_parser(name, add_help=False, allow_abbrev=False)
        for positional in positionals:
            p.add_argument(positional)
        return p

    p = verb("up")
    p.add_argument("--hosts", type=int, default=2)
    p.add_argument("--no-slim", action="store_true")
    p.add_argument("--underlay", default="4")
    p.add_argument("--overlay", default="4")
    for name in ("down", "ls", "status"):
        verb(name)
    for name in ("run", "plain"):
        p = verb(name, "host", "name")
        p.add_argument("--network")
        p.add_argument("--address", action="append")
        p.add_argument("--cpus")
        for option in _OPTIONS:
            p.add_argument(f"--{option}", action="append", default=[])
        p.add_argument("--no-accelerator", action="store_true")
    verb("baseline", "host", "name").add_argument("--cpus")
    p = verb("host", "host")
    p.add_argument("--cpus")
    p.add_argument("--cgroup")
    p = verb("ip", "name")
    p.add_argument("--baseline", action="store_true")
    p.add_argument("--host")
    p.add_argument("--family", choices=["4", "6"])
    verb("ctl", "host")
    verb("daemon", "host").add_argument("action",
                                        choices=["start", "stop", "kill", "pid", "log"])
    return parser


# Of `slimctl run`, as they are.
_OPTIONS = ("publish", "label", "port", "egress", "ingress", "dscp", "priority")

_TAKES_COMMAND = {"run", "plain", "baseline", "host", "ctl"}


_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def _interrupted(number, frame):
    # An `up` that is told to end cleans up, and is not told twice: timeout(1) is one that does.
    for ending in _ENDING:
        signal.signal(ending, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(argv):
    parser = _parser()
    command = None
    if "--" in argv:
        split = argv.index("--")
        argv, command = argv[:split], argv[split + 1:]
    args = parser.parse_args(argv)
    if args.help or args.verb is None:
        (sys.stdout if args.help else sys.stderr).write(USAGE + "\n")
        return 0 if args.help else 2
    if args.verb in _TAKES_COMMAND:
        if not command and not (args.verb == "ctl" and command is not None):
            parser.error(f"{args.verb}: a command has to follow --")
    elif command is not None and not (args.verb == "daemon" and args.action == "start"):
        parser.error(f"{args.verb} takes no command")
    if args.verb == "ip" and args.host and not args.baseline:
        parser.error("ip: --host goes with --baseline")

    for number in _ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup(1)
            signal.signal(number, _interrupted)
    try:
        return _dispatch(args, command) or 0
    except LabError as e:
        sys.stderr.write(f"lab: {e}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("lab: interrupted\n")
        return 130
    except BrokenPipeError:
        # Nobody reads on: nothing to say, and nothing to flush at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except PermissionError as e:
        sys.stderr.write(f"lab: {e.filename}: {e.strerror}\n")
        return 1


def _dispatch(args, command):
    state = State(args.lab)
    build = os.path.abspath(args.bin) if args.bin else None
    if os.geteuid() != 0:
        raise LabError("only root can make network namespaces: run it as root")
    if args.verb == "up":
        return lab.up(state, args.hosts, not args.no_slim, build, args.underlay, args.overlay)
    if args.verb == "down":
        return lab.down(state)
    if args.verb == "ls":
        print("\n".join(lab.listing() or ["no lab is up"]))
        return 0
    if args.verb == "status":
        print("\n".join(lab.status(state)))
        return 0
    if args.verb in ("run", "plain"):
        return lab.run_slim(state, args.host, args.name, command, plain=args.verb == "plain",
                            network=args.network, address=args.address, cpus=args.cpus,
                            several={option: getattr(args, option) for option in _OPTIONS},
                            accelerator=not args.no_accelerator, build=build)
    if args.verb == "baseline":
        return lab.run_baseline(state, args.host, args.name, command, cpus=args.cpus)
    if args.verb == "host":
        return lab.run_host(state, args.host, command, cpus=args.cpus, cgroup=args.cgroup)
    if args.verb == "ctl":
        return lab.run_ctl(state, args.host, command, build=build)
    if args.verb == "ip":
        return _ip(state, args)
    return _daemon(state, args, command or [], build)


def _ip(state, args):
    with state.locked():
        state.check_up()
        if args.host:
            state.check_host(args.host)
        print(state.baseline_address(args.name, args.host) if args.baseline
              else state.address(args.name, args.family))
    return 0


def _daemon(state, args, options, build):
    host = args.host
    with state.locked():
        state.check_host(host)
        state.check_slim()
        if build:
            state.data["build"] = build
        if args.action == "start":
            daemon.start(state, host, options)
            daemon.wait_ready(state, [host])
        elif args.action == "stop":
            daemon.end(state, host, signal.SIGTERM)
        elif args.action == "kill":
            daemon.end(state, host, signal.SIGKILL)
        elif args.action == "pid":
            found = daemon.running(state, host)
            if not found:
                raise LabError(f"slimd of {host} does not run")
            print(found[0])
        else:
            with open(state.log_path(host), "rb") as f:
                sys.stdout.buffer.write(f.read())
    return 0
