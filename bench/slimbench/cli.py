# SPDX-License-Identifier: Apache-2.0
"""
The command line of bench/bench. Errors are one line; exit status 1, and 2 for a wrong command line.
"""

import os
import sys

from slimlab import lab, place, program
from slimlab.program import between
from slimlab.system import LabError

from . import compare, flood, limits, profile, programs, report, results, runner, scale, workloads

USAGE = """bench/bench VERB …

  run --json FILE          measure, and write the results there
      [--networks LIST]    of host, filtered (host networking with a seccomp filter), baseline, plain,
                           slim-slow (without the accelerator) and slim, with commas between (all but
                           filtered and slim-slow)
      [--workloads LIST]   keys and groups of `list`, with commas between (all)
      [--rounds N]         how often each measurement is taken (4); a multiple of the networks'
                           number has each of them first, second and last equally often
      [--seconds N]        how long one takes (2)
      [--load PERCENT]     of the fixed rates (100): less on a slow machine
      [--within]           servers and clients on one host, not on two
      [--bin DIR]          the build directory
  scale --json FILE        measure how it goes on with more endpoints, listeners, connections and
                           containers, and write the results there
      [--curves LIST]      of endpoints, listeners, connections and containers (all)
      [--max N]            no point above N
      [--networks LIST]    of those above (host, baseline and slim)
      [--rounds N] [--seconds N] [--bin DIR]   as above (4, 1)
  flood --json FILE        measure nginx on a host and on Slim while their hosts are flooded, and the memory
                           of Slim, and write the results there
      [--kinds LIST]       of quiet, none, random, truncated, valid, plain, vxlan, garbage and icmp (all)
      [--rate N]           packets a second (50000)
      [--notrack] [--no-masquerade]
                           with slimd's options of these names
      [--rounds N] [--seconds N] [--bin DIR]   as above (4, 2)
  report FILE [--dir DIR]  results as Markdown on standard output; with --dir, report.md and
                           charts there
  compare OLD NEW [--all]  what became clearly worse or better between two runs; exit status 1 when
                           something became worse, 2 when they cannot be compared
  programs [--bin DIR]     which of Slim's BPF programs run for a round trip and for a connection, how
                           often and for how long
  profile WORKLOAD         which functions the server's core is in, on two networks, and where they
                           differ most
      [--networks A,B]     (host,slim)   [--within] [--rounds N] [--seconds N] [--bin DIR]
                           as above (10, 2)
  limits                   how well limits of bandwidth are held, and what they cost those that
                           have none   [--rounds N] [--seconds N] [--bin DIR]   as above (5, 3)
  list                     the workloads

docs/bench.md says what is measured and how."""


def _parser():
    parser = program.Parser(prog="bench", hint="bench/bench", usage=USAGE)
    parser.add_argument("--help", "-h", action="store_true")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB",
                                  parser_class=lambda **kw: program.Parser(
                                      hint="bench/bench", **{**kw, "prog": "bench"}))
    p = verbs.add_parser("run")
    p.add_argument("--json", metavar="FILE", required=True)
    p.add_argument("--networks", default=",".join(place.USUAL))
    p.add_argument("--workloads", default=",".join(workloads.GROUPS))
    p.add_argument("--rounds", type=between(1, 1000), default=4)
    p.add_argument("--seconds", type=between(1, 3600), default=2)
    p.add_argument("--load", type=between(1, 1000), default=100)
    p.add_argument("--within", action="store_true")
    p.add_argument("--bin", metavar="DIR")
    p = verbs.add_parser("scale")
    p.add_argument("--json", metavar="FILE", required=True)
    p.add_argument("--curves", default=",".join(scale.CURVES))
    p.add_argument("--max", type=between(1, 1000000), default=1000000)
    p.add_argument("--networks", default=",".join(scale.NETWORKS))
    p.add_argument("--rounds", type=between(1, 1000), default=4)
    p.add_argument("--seconds", type=between(1, 3600), default=1)
    p.add_argument("--bin", metavar="DIR")
    p = verbs.add_parser("flood")
    p.add_argument("--json", metavar="FILE", required=True)
    p.add_argument("--kinds", default=",".join(flood.KINDS))
    p.add_argument("--rate", type=between(1, 10000000), default=50000)
    for option in flood.SLIMD_OPTIONS:
        p.add_argument(option, action="append_const", dest="slimd", const=option, default=[])
    p.add_argument("--rounds", type=between(1, 1000), default=4)
    p.add_argument("--seconds", type=between(1, 3600), default=2)
    p.add_argument("--bin", metavar="DIR")
    p = verbs.add_parser("report")
    p.add_argument("file")
    p.add_argument("--dir")
    p = verbs.add_parser("compare")
    p.add_argument("old")
    p.add_argument("new")
    p.add_argument("--all", action="store_true")
    verbs.add_parser("programs").add_argument("--bin", metavar="DIR")
    p = verbs.add_parser("profile")
    p.add_argument("workloads", metavar="WORKLOAD")
    p.add_argument("--networks", default="host,slim")
    p.add_argument("--within", action="store_true")
    p.add_argument("--rounds", type=between(1, 1000), default=10)
    p.add_argument("--seconds", type=between(1, 3600), default=2)
    p.add_argument("--bin", metavar="DIR")
    p = verbs.add_parser("limits")
    p.add_argument("--rounds", type=between(1, 1000), default=5)
    p.add_argument("--seconds", type=between(1, 3600), default=3)
    p.add_argument("--bin", metavar="DIR")
    verbs.add_parser("list")
    return parser


def _prepare(args, programs):
    """What has to be there before a lab is; the build directory."""
    program.need_root()
    build = os.path.abspath(args.bin or lab.default_build())
    program.check_build(build)
    program.check_programs(programs, "bench")
    for prefix in runner.PREFIXES:
        program.clear_leftovers(prefix)
    return build


def _check_writable(path):
    """Now, and not when half an hour is over; what is in the file stays there until then."""
    there = os.path.exists(path)
    try:
        with open(path, "a", encoding="utf-8"):
            pass
        if not there:
            os.unlink(path)
    except OSError as e:
        raise LabError(f"{path}: {e.strerror}") from None


def _finish(found, path):
    with open(path, "w", encoding="utf-8") as stream:
        results.write(found, stream)
    print(report.markdown(found), end="")
    for each in found.get("missing", ()):
        print(f"bench: {each['key']} is not there: {each['why']}", file=sys.stderr)
    return 1 if found.get("missing") else 0


def _run(args):
    programs = sorted({p for w in args.workloads for p in w.programs})
    build = _prepare(args, programs)
    _check_writable(args.json)
    found = runner.run(args.networks, args.workloads, args.rounds, args.within,
                       workloads.Settings(args.seconds, build, args.load))
    return _finish(found, args.json)


def _scale(args):
    build = _prepare(args, ["bpftool"])
    _check_writable(args.json)
    found = scale.run(args.networks, args.curves, args.rounds, args.max,
                      workloads.Settings(args.seconds, build))
    return _finish(found, args.json)


def _flood(args):
    build = _prepare(args, ["bpftool", "nginx", "ss", "wrk"])
    _check_writable(args.json)
    return _finish(flood.run(args.kinds, args.rounds, args.rate, workloads.Settings(args.seconds, build),
                             args.slimd), args.json)


def _report(args):
    found = results.read(args.file, ("run", "scale", "flood"))
    if args.dir:
        report.write(found, args.dir)
    else:
        print(report.markdown(found), end="")
    return 0


def _compare(args):
    found = compare.changes(results.read(args.old), results.read(args.new))
    print(compare.text(found, args.all))
    return 1 if any(c.verdict == "worse" for c in found) else 0


def _programs(args):
    build = _prepare(args, ["bpftool"])
    print(programs.markdown(programs.run(build)), end="")
    return 0


def _limits(args):
    build = _prepare(args, ["iperf3"])
    print(limits.markdown(limits.run(args.rounds, args.seconds, build)), end="")
    return 0


def _profile(args):
    if len(args.workloads) != 1 or len(args.networks) != 2:
        raise LabError("a profile is of one workload on two networks")
    workload = args.workloads[0]
    build = _prepare(args, ["perf", *workload.programs])
    found = profile.run(args.networks, workload, args.rounds, args.within,
                        workloads.Settings(args.seconds, build, 100))
    print(profile.markdown(found, workload), end="")
    return 0


def _list(args):
    for w in workloads.WORKLOADS.values():
        print(f"{w.key:21} {w.group:12} {w.title}{f', {w.rate:,}/s' if w.rate else ''}")
    return 0


def main(argv):
    parser = _parser()
    args = parser.parse_args(argv)
    if args.help or args.verb is None:
        (sys.stdout if args.help else sys.stderr).write(USAGE + "\n")
        return 0 if args.help else 2
    for option, parse in (("networks", lambda t: place.parse_networks(t, place.NETWORKS)),
                          ("workloads", workloads.parse), ("curves", scale.parse),
                          ("kinds", flood.parse)):
        if hasattr(args, option):
            try:
                setattr(args, option, parse(getattr(args, option)))
            except ValueError as e:
                parser.error(f"--{option}: {e}")
    verbs = {"run": _run, "scale": _scale, "flood": _flood, "report": _report, "compare": _compare,
             "programs": _programs, "profile": _profile, "limits": _limits, "list": _list}
    return program.run("bench", lambda: verbs[args.verb](args),
                       failure=2 if args.verb == "compare" else 1)
