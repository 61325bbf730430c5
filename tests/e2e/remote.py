# SPDX-License-Identifier: Apache-2.0
"""
A Python interpreter that stays in a container, or on a host, and does what a test tells it: one
container serves a whole test, and sockets live from one step of it to the next.

    with Remote.slim(lab, "h1", "web") as web:
        web.do("s = socket.create_server(('', 80))")
        name = web("s.getsockname()")

An OSError there is raised here, with its errno. Every socket has a timeout of PATIENCE seconds unless
the test sets another.
"""

import ast
import contextlib
import errno
import json
import pathlib
import select
import subprocess
import tempfile

import pytest

from conftest import PATIENCE

PYTHON = "/usr/bin/python3"

# The names that code in an interpreter finds; also what a test may give to a plain program.
PRELUDE = """
import contextlib, errno, json, os, select, signal, socket, struct, subprocess, sys, threading, time
socket.setdefaulttimeout(%d)

def listen(address, port, family=socket.AF_INET, options=(), backlog=128):
    s = socket.socket(family)
    for level, name in options:
        s.setsockopt(level, name, 1)
    s.bind((address, port))
    s.listen(backlog)
    return s

def connect(address, port, family=socket.AF_INET, source=None):
    s = socket.socket(family)
    if source:
        s.bind(source)
    s.connect((address, port))
    return s

def connect_error(address, port, family=socket.AF_INET, blocking=True):
    # What connect() itself says, without Python's waiting: 0, or an errno's name.
    s = socket.socket(family)
    s.setblocking(blocking)
    try:
        return errno.errorcode.get(s.connect_ex((address, port)), 'connected')
    finally:
        s.close()

def bind_error(address, port, family=socket.AF_INET):
    s = socket.socket(family)
    try:
        s.bind((address, port))
    except OSError as e:
        return errno.errorcode[e.errno]
    finally:
        s.close()
    return 'bound'

def udp_error(address, port):
    # The errno's name that a datagram comes back as. Not one datagram, since the kernel sends few
    # ICMP errors a second; and IP_RECVERR, without which a socket hears of few of them.
    with socket.socket(type=socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.IPPROTO_IP, 11, 1)
        s.connect((address, port))
        for _ in range(30):
            try:
                s.send(b'x')
                if select.select([s], [], [], 1)[0]:
                    s.recv(1)
            except OSError as e:
                return errno.errorcode[e.errno]
    return 'nothing'

def names(s):
    return s.getsockname()[:2], s.getpeername()[:2]

def accept(s):
    # The socket, the address that accept() gave, and its names.
    c, a = s.accept()
    return c, a[:2], names(c)

def pending(s):
    # Is there a connection to accept, now?
    return bool(select.select([s], [], [], 0)[0])
""" % (PATIENCE // 2)

AGENT = PRELUDE + """
def _serve():
    for line in sys.stdin:
        kind, code = json.loads(line)
        answer = {'value': 'None'}
        try:
            if kind == 'do':
                exec(code, globals())
            else:
                answer['value'] = repr(eval(code, globals()))
        except OSError as e:
            answer = {'errno': e.errno, 'error': repr(e)}
        except BaseException as e:
            answer = {'error': repr(e)}
        print(json.dumps(answer), flush=True)

print(json.dumps({'value': str(os.getpid())}), flush=True)
_serve()
"""


class Remote:
    """One interpreter. pid: its process id, as its own PID namespace counts."""

    def __init__(self, name, process, log):
        self.name = name
        self._process = process
        self._log = log
        self.pid = self._answer("start")

    def _answer(self, code):
        # An answer is one line and nothing is sent before it has come, so nothing is left in a buffer.
        if not select.select([self._process.stdout], [], [], 4 * PATIENCE)[0]:
            pytest.fail(f"{self.name} does not come back from {code!r}: "
                        f"{pathlib.Path(self._log).read_text()}")
        line = self._process.stdout.readline()
        if not line:
            pytest.fail(f"{self.name} ended at {code!r}: {pathlib.Path(self._log).read_text()}")
        answer = json.loads(line)
        if answer.get("errno") is not None:
            raise OSError(answer["errno"], f"{self.name}, {code!r}: {answer['error']}")
        if "error" in answer:
            if "TimeoutError" in answer["error"] or "timed out" in answer["error"]:
                raise TimeoutError(errno.ETIMEDOUT, f"{self.name}, {code!r}: {answer['error']}")
            pytest.fail(f"{self.name}, {code!r}: {answer['error']}")
        return ast.literal_eval(answer["value"])

    def send(self, kind, code):
        """Starts a step and does not wait; receive() gives what came of it."""
        self._process.stdin.write(json.dumps([kind, code]) + "\n")
        self._process.stdin.flush()
        self._sent = code

    def receive(self):
        return self._answer(self._sent)

    @property
    def stdout(self):
        """Readable when a step that was started has ended."""
        return self._process.stdout

    def do(self, code):
        """Statements."""
        self.send("do", code)
        self.receive()

    def __call__(self, code):
        """An expression, and its value (of Python's literals)."""
        self.send("eval", code)
        return self.receive()

    @classmethod
    @contextlib.contextmanager
    def started(cls, name, words):
        with tempfile.NamedTemporaryFile("w+", suffix=".log") as log:
            process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       stderr=log, text=True)
            try:
                yield cls(name, process, log.name)
            finally:
                with contextlib.suppress(OSError):
                    process.stdin.close()
                try:
                    process.wait(5)  # it ends at the end of its input, unless it hangs in a step
                except subprocess.TimeoutExpired:
                    process.terminate()
                    try:
                        process.wait(PATIENCE)
                    except subprocess.TimeoutExpired:
                        process.kill()
                        process.wait()
                process.stdout.close()

    @classmethod
    def slim(cls, lab, host, name, network=None, options=(), by=()):
        """by: a program and its options that starts the interpreter."""
        words = ["run", host, name, *options] + (["--network", network] if network else [])
        return cls.started(name, lab.command(*words, "--", *by, PYTHON, "-c", AGENT))

    @classmethod
    def plain(cls, lab, host, name, network=None, options=()):
        words = ["plain", host, name, *options] + (["--network", network] if network else [])
        return cls.started(name, lab.command(*words, "--", PYTHON, "-c", AGENT))

    @classmethod
    def host(cls, lab, host):
        return cls.started(host, lab.command("host", host, "--", PYTHON, "-c", AGENT))

    @classmethod
    def behind(cls, lab, host):
        """In a network namespace of its own, which lasts as long as the interpreter."""
        return cls.started(f"behind {host}", lab.command("host", host, "--", "unshare", "--net",
                                                         PYTHON, "-c", AGENT))


def counters(lab, host):
    return lab.ctl(host, "status")["counters"]


class Moved:
    """How far the counters of a host moved since this was made."""

    def __init__(self, lab, host):
        self._lab, self._host = lab, host
        self._before = counters(lab, host)

    def __call__(self, *wanted):
        """{reason: N} of those that moved, or of those that are asked for."""
        now = counters(self._lab, self._host)
        moved = {r: n - self._before[r] for r, n in now.items()}
        return {r: n for r, n in moved.items() if (r in wanted if wanted else n)}
