# SPDX-License-Identifier: Apache-2.0
"""
SO_REUSEPORT groups in a container: what becomes of the others' connections when a member exits or
is shut down.
"""

import contextlib

import pytest

PYTHON = "/usr/bin/python3"

# Each member is a process with a listening socket of its own. It tells a client its number and does
# what the client says: "." nothing, "s" shut its listening socket down, "x" exit.
MEMBERS = """
import os, signal, socket, sys
for number in range(int(sys.argv[1])):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("0.0.0.0", 8000))
    s.listen(1024)
    if os.fork() == 0:
        while True:
            try:
                c, _ = s.accept()
            except OSError:
                signal.pause()                      # it was shut down
            what = c.recv(1)
            if what == b"s":
                s.shutdown(socket.SHUT_RDWR)
            c.sendall(b"%d" % number)
            if what == b"x":
                os._exit(0)                         # closes the listening socket before the other
            c.close()
    s.close()
print("ready", flush=True)
signal.pause()
"""

# Counts who answers; with a second argument: tells the first who answers to do that before.
COUNT = """
import collections, json, socket, sys
address, count, what = (sys.argv[1], 8000), int(sys.argv[2]), sys.argv[3].encode()
def ask(what):
    with socket.create_connection(address, timeout=30) as s:
        s.sendall(what)
        return int(s.makefile().read())
gone = None if what == b"." else ask(what)
seen = collections.Counter()
for _ in range(count):
    try:
        seen[str(ask(b"."))] += 1
    except OSError as e:
        seen[repr(e)] += 1
print(json.dumps([gone, seen]))
"""


@contextlib.contextmanager
def members(lab, count):
    """A group of so many; gives a function that has connections counted."""
    with lab.start("run", "h2", "group", PYTHON, "-c", MEMBERS, count, ready="ready"):
        def ask(connections, what="."):
            gone, seen = lab.python("h1", "client", COUNT, lab.ip("group"), connections, what,
                                    timeout=240)
            assert all(name.isdigit() for name in seen), seen
            assert sum(seen.values()) == connections
            return gone, {int(name): n for name, n in seen.items()}
        yield ask


@pytest.mark.parametrize("what", ["x", "s"], ids=["exits", "shut-down"])
def test_a_member_leaves(lab, what):
    with members(lab, 4) as ask:
        everybody = set(range(4))
        for _ in range(3):
            gone, seen = ask(400, what)
            everybody.discard(gone)
            assert set(seen) == everybody
