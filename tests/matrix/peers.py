# SPDX-License-Identifier: Apache-2.0
"""
The three environments of the matrix and, for a case, who talks to whom in them.

    Party       an agent (agent.py) somewhere; sockets are made by it and used from here as if
                they were local: every method gives its value, "ok" for None, or the errno's name
    World       an environment: a server's host, a client's host, and a second party beside the
                server, each with its own address
    Talk        what a case gets: a server and a client of a World along one path, fresh ports
"""

import ast
import contextlib
import enum
import pathlib
import select
import subprocess
import tempfile

from registry import ALL, LOOPBACK, REMOTE

HERE = pathlib.Path(__file__).resolve().parent
PYTHON = "/usr/bin/python3"
PATIENCE = 60

# Below every ephemeral range, and no two cases have one in common: TIME_WAIT of one is not in the
# way of another.
FIRST_PORT, PORTS, MOST_CASES = 10000, 3, 1000


class MatrixError(Exception):
    """The matrix itself does not work; one line."""


class Thing:
    """A socket (or an epoll, a file, a process) that lives in a Party."""

    def __init__(self, party, handle):
        self._party = party
        self._handle = handle

    def __getattr__(self, name):
        return lambda *args: self._party.ask(("call", self._handle, name, args))


class Party:
    """See above. Its functions are those of inside.py."""

    def __init__(self, name, words, address):
        self.name = name
        self.address = address
        self.address6 = None
        self._log = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen([*words, PYTHON, str(HERE / "agent.py")], text=True,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=self._log)
        self._sent = "start"
        try:
            self.answer()
        except MatrixError:
            self.end()
            raise

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args: self.ask(("new", name, args))

    def ask(self, request):
        self.begin(request)
        return self.answer()

    def begin(self, request):
        self._sent = request
        try:
            self._process.stdin.write(repr(self._into(request)) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise MatrixError(f"{self.name} has ended: {self._said()}") from None

    def later(self, thing, method, *args):
        """Starts a call that may block, and returns what gives its answer. Nothing else in between."""
        self.begin(("call", thing._handle, method, args) if thing else ("new", method, args))
        return self.answer

    def answer(self):
        # An answer is one line, and nothing is sent before it is here: no buffer holds another.
        if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
            raise MatrixError(f"{self.name} does not come back from {self._sent}: {self._said()}")
        line = self._process.stdout.readline()
        if not line:
            raise MatrixError(f"{self.name} ended at {self._sent}: {self._said()}")
        kind, value = ast.literal_eval(line)
        if kind == "bug":
            raise MatrixError(f"{self.name}, {self._sent}: {value}")
        return self._out(value) if kind == "ok" else value

    def _said(self):
        self._log.seek(0)
        return self._log.read().strip()

    def _into(self, value):
        if isinstance(value, Thing):
            return {"handle": value._handle}
        if isinstance(value, (tuple, list)):
            return type(value)(self._into(v) for v in value)
        return int(value) if isinstance(value, (enum.IntEnum, enum.IntFlag)) else value

    def _out(self, value):
        if value is None:
            return "ok"
        if isinstance(value, dict) and set(value) == {"handle"}:
            return Thing(self, value["handle"])
        if isinstance(value, (tuple, list)):
            return type(value)(self._out(v) for v in value)
        return value

    def free(self):
        self.ask(("free",))

    def end(self):
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)  # it ends at the end of its input
        except subprocess.TimeoutExpired:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process.stdout.close()
        self._log.close()


class World:
    """kind: native, baseline or slim. server and beside are on h1, client on h2."""

    PLACES = {"server": "h1", "beside": "h1", "client": "h2"}

    def __init__(self, lab_words, directory, kind):
        """lab_words: the start of a command of tools/lab. directory: for sockets with a path."""
        self.kind = kind
        self.directory = directory
        self.parties = {}
        self._lab = lab_words
        try:
            for role, host in self.PLACES.items():
                self.parties[role] = self._party(role, host)
            for party in self.parties.values():
                party.address6 = party.global6() or None
        except BaseException:
            self.end()
            raise
        self.server = self.parties["server"]
        self.beside = self.parties["beside"]
        self.client = self.parties["client"]
        # An address of the network where nobody is.
        self.absent = self.client.address.rpartition(".")[0] + ".199"

    def _words(self, *words):
        return [*self._lab, *words]

    def _ip(self, *words):
        done = subprocess.run(self._words("ip", *words), text=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode != 0:
            raise MatrixError(done.stderr.strip())
        return done.stdout.strip()

    def _party(self, role, host):
        name = f"{self.kind}-{role}"
        if self.kind == "native":
            return Party(name, self._words("host", host, "--"), f"192.0.2.{host[1:]}")
        if self.kind == "baseline":
            address = self._ip("--baseline", name, "--host", host)
            return Party(name, self._words("baseline", host, name, "--"), address)
        return Party(name, self._words("run", host, name, "--"), self._ip(name))

    def has(self, path):
        """Can a case be run along this path?"""
        return not path.endswith("6") or path == "loopback6" or \
            bool(self.server.address6 and self.client.address6)

    def names(self):
        """What addresses are called in results. One party beside itself is "own", see Talk."""
        beside = "server" if self.kind == "native" else "beside"
        found = {self.beside.address: beside, self.beside.address6: beside, self.absent: "absent"}
        for party, name in (self.server, "server"), (self.client, "client"):
            found |= {party.address: name, party.address6: name}
        return {address: name for address, name in found.items() if address}

    def free(self):
        for party in self.parties.values():
            party.free()

    def end(self):
        for party in self.parties.values():
            party.end()


class Talk:
    """
    server, client: Parties. family: of their sockets. address: the server's as the client has it.
    own: the client's. any: the wildcard. port: one of the case's own, port2 and port3 two more.
    mapped: the IPv4 address as an AF_INET6 socket has it.
    """

    def __init__(self, world, path, number):
        self.world = world
        self.path = path
        self.server = world.server
        self.client = world.client if path in REMOTE else world.server
        self.beside = world.beside
        v6 = path.endswith("6")
        self.family = 10 if v6 else 2
        self.any = "::" if v6 else "0.0.0.0"
        self.loopback = "::1" if v6 else "127.0.0.1"
        self.own = self.client.address6 if v6 else self.client.address
        self.address = self.loopback if path in LOOPBACK else \
            self.server.address6 if v6 else self.server.address
        self.mapped = "::ffff:" + self.address
        self.absent = world.absent
        assert number < MOST_CASES
        self.port = FIRST_PORT + PORTS * (number + MOST_CASES * ALL.index(path))
        self.port2, self.port3 = self.port + 1, self.port + 2
        self.names = world.names()
        if path not in REMOTE:
            self.names |= {a: "own" for a in (self.server.address, self.server.address6) if a}

    @property
    def to(self):
        return (self.address, self.port)

    @property
    def to6(self):
        return (self.mapped, self.port)

    def listen(self, backlog=8, family=None, address=None, port=None, reuse=()):
        """A listener of the server; on the wildcard unless told otherwise."""
        family = family or self.family
        listener = self.server.socket(family, 1)
        for level, option in reuse:
            listener.setsockopt(level, option, 1)
        any_address = "0.0.0.0" if family == 2 else "::"
        said = listener.bind((any_address if address is None else address, port or self.port))
        if said != "ok":
            raise MatrixError(f"cannot bind to port {port or self.port}: {said}")
        said = listener.listen(backlog)
        if said != "ok":
            raise MatrixError(f"cannot listen on port {port or self.port}: {said}")
        return listener

    def connected(self, listener=None):
        """(the client's socket, the server's socket) of a connection."""
        listener = listener or self.listen()
        c = self.client.socket(self.family, 1)
        said = c.connect(self.to)
        if said != "ok":
            raise MatrixError(f"cannot connect: {said}")
        return c, listener.accept()[0]
