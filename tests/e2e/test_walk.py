# SPDX-License-Identifier: Apache-2.0
"""
A socket's states: random walks over the calls of a few sockets, and one descriptor's way through
all of its states, in a plain container (the kernel's own sockets) and in a Slim container. Each
call has the same outcome, and after each the sockets have the same names.
"""

import collections
import concurrent.futures
import json
import pathlib

PROGRAM = pathlib.Path(__file__).parent / "programs" / "walk.py"

SEED = 3
WALKS = 200
PATIENCE = 240


def both(lab, *arguments):
    """What walk.py prints in a plain and in a Slim container, at the same time."""
    runs = {"plain-walk": (lab.plain, "h2"), "slim-walk": (lab.run, "h1")}
    with concurrent.futures.ThreadPoolExecutor(len(runs)) as pool:
        futures = [pool.submit(verb, host, name, "/usr/bin/python3", PROGRAM, lab.ip(name),
                               *arguments, timeout=PATIENCE)
                   for name, (verb, host) in runs.items()]
        return [json.loads(future.result().stdout) for future in futures]


def first_difference(native, slim):
    """The index of the first step that differs, or None."""
    assert len(native) == len(slim)
    return next((i for i, (one, other) in enumerate(zip(native, slim)) if one != other), None)


def is_known(native, slim, at):
    """Is it one of the differences that docs/datapath.md lists?"""
    called, outcome, names = native[at]
    words = called.split(": ")[1].split()
    if words[0] == "bind" and (outcome, slim[at][1]) == ("EADDRINUSE", None):
        # Only a connection has the port, or had it.
        return any(s and s[0][1] == words[2] and s[1] != "ENOTCONN"
                   for _, _, before in native[:at] for s in before)
    if words[0] == "bind" and (outcome, slim[at][1]) == (None, "EADDRINUSE"):
        # Another socket is bound to the wildcard, but has connected and with it chosen an address.
        return any(s and s[0][1] == words[2] and s[0][0] not in ("0.0.0.0", "::") and not s[2]
                   for s in native[at - 1][2])
    if words[0] == "connect" and outcome == slim[at][1]:
        # Bound to the v4-mapped wildcard: the kernel keeps the source of the connection before.
        moved = [(a[0][0], b[0][0]) for a, b in zip(names, slim[at][2]) if a and b and a != b]
        return moved == [("::ffff:ME", "::ffff:127.0.0.1")] and any(
            step[0].endswith("bind ::ffff:0.0.0.0 0") for step in native[:at])
    return False


def report(native, slim, at):
    steps = "\n".join(f"  {step[:2]}" for step in native[:at + 1])
    return f"{steps}\nnative {native[at]}\nSlim   {slim[at]}"


def test_random_walks(lab):
    numbers = range(WALKS)
    natives, slims = both(lab, "walks", SEED, *numbers)
    differ = [n for n, *walks in zip(numbers, natives, slims)
              if first_difference(*walks) is not None]
    outcomes = collections.Counter(str(step[1]) for walk in slims for step in walk)
    print(f"{len(differ)} of {WALKS} walks differ;", outcomes.most_common(12))
    # Automatic ports are random: two of a walk may happen to be equal in one place. Not twice.
    again = both(lab, "walks", SEED, *differ) if differ else ([], [])
    found = []
    for n, native, slim in zip(differ, *again):
        at = first_difference(native, slim)
        if at is not None and not is_known(native, slim, at):
            found.append(f"walk {n}\n{report(native, slim, at)}")
    assert not found, "\n\n".join(found)
    # They were no walks through errors alone.
    assert outcomes["connected"] > WALKS / 4
    assert sum(1 for walk in slims for step in walk if isinstance(step[1], list)) > WALKS / 10
    assert len(differ) < WALKS / 10
    maps = lab.ctl("h1", "status")["maps"]
    assert {name: maps[name] for name in ("ports", "listeners", "syns")} == {
        "ports": 0, "listeners": 0, "syns": 0}


def test_one_descriptor_through_all_states(lab):
    def differing():
        natives, slims = both(lab, "cycles")
        assert len(natives) == 10
        found = {}
        for i, (native, slim) in enumerate(zip(natives, slims)):
            at = first_difference(native, slim)
            if at is not None:
                found[i] = report(native, slim, at)
        return found

    # As above: a random port that two sockets have by chance is not had twice.
    found = differing()
    again = differing() if found else {}
    assert not found.keys() & again.keys(), "\n\n".join(again.values())
