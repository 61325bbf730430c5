#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Every socket call and option on hosts (native), in containers of an ordinary overlay (baseline) and in
Slim containers, and what differs.

    matrix.py --lab ID --programs DIR [--only TEXT]  runs the cases; exit status 1: something is
                                                     different that differences.txt does not list,
                                                     or it lists something that is not different
              --write                                writes docs/sockets.md as well
              --check                                docs/sockets.md has to say what was found

The lab (tools/lab up) has hosts h1 and h2. Called without --lab, it brings one up for itself.
"""

import argparse
import concurrent.futures
import contextlib
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(1, str(ROOT / "tests" / "e2e"))

import cases  # noqa: E402,F401: its import registers them
import registry  # noqa: E402
from conftest import lab_up  # noqa: E402
from peers import MatrixError, Talk, World  # noqa: E402
from table import NOT_RUN, Differences, Table  # noqa: E402

LAB = ROOT / "tools" / "lab"
DOCUMENT = ROOT / "docs" / "sockets.md"
KINDS = ("native", "baseline", "slim")


def run_world(words, directory, kind, chosen, verbose):
    """{(case's number, path): result} of one environment."""
    results = {}
    world = World(words, directory, kind)
    try:
        for one in chosen:
            for path in filter(world.has, one.paths):
                started = time.monotonic()
                talk = Talk(world, path, one.number)
                try:
                    results[one.number, path] = one.run(talk)
                except (MatrixError, AttributeError, TypeError, ValueError) as e:
                    # What was to be a socket, say, was an errno's name.
                    results[one.number, path] = registry.render(f"cannot go on: {e}", talk)
                try:
                    world.free()
                except MatrixError as e:
                    raise MatrixError(f"after {one.title} [{path}]: {e}") from None
                took = time.monotonic() - started
                if verbose and took > 0.5:
                    print(f"{kind}: {one.title} [{path}]: {took:.1f} s", file=sys.stderr)
    finally:
        world.end()
    return results


def run(words, directory, chosen, verbose=False):
    """{(number, path): {kind: result}}"""
    with concurrent.futures.ThreadPoolExecutor(len(KINDS)) as pool:
        futures = {kind: pool.submit(run_world, words, directory, kind, chosen, verbose)
                   for kind in KINDS}
        results = {kind: future.result() for kind, future in futures.items()}
    return {key: {kind: results[kind].get(key, NOT_RUN) for kind in KINDS}
            for key in results["native"] if key in results["slim"]}


def give_ipv6(words):
    """The hosts' underlay has IPv4 only unless it was made with IPv6: for the native cases."""
    for number, host in enumerate(("h1", "h2"), 1):
        inside = [*words, "host", host, "--", "ip", "-6", "addr"]
        has = subprocess.run([*inside, "show", "dev", "uplink", "scope", "global"], check=True,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE).stdout
        if not has:
            subprocess.run([*inside, "add", f"fd51:6d61::{number}/64", "dev", "uplink", "nodad"],
                           check=True, stdin=subprocess.DEVNULL)


@contextlib.contextmanager
def own_lab():
    """A lab's id; the lab goes whatever becomes of this process."""
    with lab_up(underlay="46", overlay="46") as lab:
        yield lab.id


def measure(lab, programs, only=None, verbose=False):
    """A Table of what a lab says."""
    os.environ["SLIM_MATRIX_PROGRAMS"] = str(programs)
    chosen = [c for c in registry.cases if not only or only in c.title or only in c.group]
    if not chosen:
        raise MatrixError(f"no case has {only!r} in its title")
    words = [str(LAB), "--lab", lab]
    give_ipv6(words)
    return Table(chosen, run(words, f"/run/slim-lab/{lab}", chosen, verbose), Differences.read())


def main(argv):
    parser = argparse.ArgumentParser(prog="matrix.py", allow_abbrev=False)
    parser.add_argument("--lab")
    parser.add_argument("--programs", default=ROOT / "build" / "tests" / "matrix")
    parser.add_argument("--only")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args(argv)
    try:
        with contextlib.nullcontext(args.lab) if args.lab else own_lab() as lab:
            table = measure(lab, args.programs, args.only, args.verbose)
    except (MatrixError, subprocess.CalledProcessError) as e:
        print(f"matrix: {e}", file=sys.stderr)
        return 1
    complaints = table.complaints(whole=not args.only)
    if args.check:
        complaints += table.stale(DOCUMENT.read_text() if DOCUMENT.exists() else "")
    if args.write and not args.only:
        DOCUMENT.write_text(table.document())
    print("\n".join([*complaints, table.summary()]))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
