# SPDX-License-Identifier: Apache-2.0
"""
walk.py OWN-ADDRESS walks SEED NUMBER…      random walks, by their numbers
walk.py OWN-ADDRESS cycles                  one descriptor's way through all of a socket's states

Calls of a few TCP sockets of one container. Prints a JSON list with one list of steps for each
walk; a step is [what was called, what came of it, the names of all sockets].

A walk depends on nothing but its number, the seed and what its calls say, so two walks are the same
up to the first call that differs. What differs from place to place has a name instead of a value:
the container's own address is ME, and automatic ports are auto1, auto2, … as they come up. Each
walk has fixed ports of its own, so that one walk's TIME_WAIT sockets do not meet another walk.
"""

import errno
import json
import random
import select
import socket
import sys
import time

STEPS = 40
SLOTS = 3
CHILDREN = 4
V4 = ["0.0.0.0", "127.0.0.1", "127.0.0.2", "ME"]
V6 = ["::", "::1", "::ffff:0.0.0.0", "::ffff:127.0.0.1", "::ffff:ME"]
FOREIGN = "10.77.255.254"
OPTIONS = {"reuseaddr": socket.SO_REUSEADDR, "reuseport": socket.SO_REUSEPORT}
HOW = {"rd": socket.SHUT_RD, "wr": socket.SHUT_WR, "rdwr": socket.SHUT_RDWR}
UNSPEC = bytes(16)

# What is called how often.
CALLS = {"bind": 6, "listen": 5, "connect": 8, "accept": 6, "shutdown": 3, "unspec": 2, "error": 2,
         "close": 2, "dup": 1, "reuseaddr": 2, "reuseport": 2, "send": 2, "recv": 2}


def connect_unspec(s):
    """connect() to AF_UNSPEC, which Python's own connect() does not know."""
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.connect(s.fileno(), UNSPEC, len(UNSPEC)) < 0:
        raise OSError(ctypes.get_errno(), "connect")


class Walk:
    def __init__(self, own, number, seed):
        self.own = own
        self.random = random.Random(f"{seed}/{number}")
        self.fixed = [10_000 + 4 * (number % 5000) + i for i in range(3)]
        self.names = {port: f"port{i}" for i, port in enumerate(self.fixed)}
        self.names[0] = 0
        self.automatic = 0
        self.slots = [None] * SLOTS
        self.children = [None] * CHILDREN
        self.steps = []

    # --- normal forms ---

    def port(self, number):
        if number not in self.names:
            self.automatic += 1
            self.names[number] = f"auto{self.automatic}"
        return self.names[number]

    def name(self, address):
        host = address[0].replace(self.own, "ME")
        return [host, self.port(address[1])]

    def attempt(self, call, *arguments):
        try:
            return call(*arguments)
        except OSError as e:
            return errno.errorcode.get(e.errno, str(e.errno))

    def all_names(self):
        found = []
        for s in self.slots + self.children:
            if s is None:
                found.append(None)
                continue
            found.append([self.attempt(lambda: self.name(s.getsockname())),
                          self.attempt(lambda: self.name(s.getpeername())),
                          s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)])
        return found

    # --- calls ---

    def any_address(self, s):
        text = self.random.choice(V4 if s.family == socket.AF_INET else V6)
        return text, text.replace("ME", self.own)

    def any_port(self):
        """A fixed port, or one that came up by itself."""
        known = [port for port, name in self.names.items() if str(name).startswith("auto")]
        if known and self.random.random() < 0.3:
            return self.random.choice(known[-3:])
        return self.random.choice(self.fixed)

    def destination(self, s):
        """Where a connect() goes: where somebody listens, more often than not."""
        listening = [other.getsockname()[1] for other in self.slots
                     if other and other.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)]
        port = self.any_port()
        if listening and self.random.random() < 0.7:
            port = self.random.choice(listening)
        return *self.any_address(s), port

    def is_own(self, address):
        return address.endswith(self.own)

    @staticmethod
    def is_loopback(address):
        return address.startswith(("127.", "::ffff:127.")) or address == "::1"

    def connect(self, s, address):
        s.setblocking(False)
        try:
            s.connect(address)
        except BlockingIOError:
            if not select.select([], [s], [], 2)[1]:
                return "hangs"
            error = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            return errno.errorcode[error] if error else "connected"
        return "connected"

    def accept(self, s):
        s.setblocking(False)
        child, address = s.accept()
        free = [i for i, c in enumerate(self.children) if c is None]
        at = free[0] if free else self.random.randrange(CHILDREN)
        if not free:
            self.children[at].close()
        self.children[at] = child
        return [at, self.name(address)]

    def step(self):
        at = self.random.randrange(SLOTS + CHILDREN)
        group, i = (self.slots, at) if at < SLOTS else (self.children, at - SLOTS)
        if group is self.children and (group[i] is None or self.random.random() < 0.3):
            group, i = self.slots, self.random.randrange(SLOTS)
        s = group[i]
        if s is None:
            family = self.random.choice([socket.AF_INET, socket.AF_INET, socket.AF_INET6])
            group[i] = socket.socket(family, socket.SOCK_STREAM)
            return [f"slot {i}: socket {family.name}", None]
        # The other end of a connection has its say first.
        time.sleep(0.0005)
        where = f"{'slot' if group is self.slots else 'child'} {i}:"
        call = self.random.choices(list(CALLS), CALLS.values())[0]
        if call == "bind":
            text, address = self.any_address(s)
            if s.family == socket.AF_INET and self.random.random() < 0.05:
                text = address = FOREIGN
            port = 0 if self.random.random() < 0.25 else self.any_port()
            return [f"{where} bind {text} {self.names[port]}",
                    self.attempt(s.bind, (address, port))]
        if call == "listen":
            return [f"{where} listen", self.attempt(s.listen, 16)]
        if call == "connect":
            text, address, port = self.destination(s)
            # Cases of their own: a socket's connection with itself, and a source among the loopback
            # addresses with a destination that is none, or the other way round.
            mine = s.getsockname()
            # (From ::ffff:127.0.0.1 the kernel sends to ::1 what nobody answers.)
            if text == "::1" and mine[0].startswith("::ffff:"):
                return [f"{where} no connect from there", None]
            if mine[1] == port:
                return [f"{where} no connect to itself", None]
            if self.is_own(mine[0]) if self.is_loopback(text) else self.is_loopback(mine[0]):
                return [f"{where} no connect from there", None]
            return [f"{where} connect {text} {self.names[port]}",
                    self.attempt(self.connect, s, (address, port))]
        if call == "accept":
            return [f"{where} accept", self.attempt(self.accept, s)]
        if call == "shutdown":
            how = self.random.choice(list(HOW))
            return [f"{where} shutdown {how}", self.attempt(s.shutdown, HOW[how])]
        if call == "unspec":
            return [f"{where} connect AF_UNSPEC", self.attempt(connect_unspec, s)]
        if call == "error":
            error = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            return [f"{where} SO_ERROR", errno.errorcode.get(error, error)]
        if call == "close":
            s.close()
            group[i] = None
            return [f"{where} close", None]
        if call == "dup":
            group[i] = s.dup()
            s.close()
            return [f"{where} dup, close", None]
        if call == "send":
            s.setblocking(False)
            return [f"{where} send", self.attempt(s.send, b"x", socket.MSG_NOSIGNAL)]
        if call == "recv":
            # A listener in a SOCKHASH waits for data, where others say ENOTCONN.
            if s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return [f"{where} no recv from a listener", None]
            s.setblocking(False)
            return [f"{where} recv", self.attempt(lambda: len(s.recv(16)))]
        # They count as they were at bind().
        if s.getsockname()[1]:
            return [f"{where} no option of a bound socket", None]
        value = self.random.randrange(4) > 0
        return [f"{where} {call} {int(value)}",
                self.attempt(s.setsockopt, socket.SOL_SOCKET, OPTIONS[call], value)]

    def run(self):
        for _ in range(STEPS):
            step = self.step()
            time.sleep(0.0005)
            self.steps.append(step + [self.all_names()])
        return self.finish()

    def finish(self):
        for s in self.slots + self.children:
            if s is not None:
                s.close()
        return self.steps


def cycle(own, number, family, address, port):
    """
    Connects in vain, connects, disconnects, listens, shuts down, and all of it again, on one
    descriptor. address, port: what it is bound to first; None: it is not.
    """
    walk = Walk(own, number, "cycle")
    s, server = walk.slots[:2] = [socket.socket(family), socket.socket(family)]
    target = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}[family]
    server.bind((target, 0))
    server.listen(16)
    there, nobody = (target, server.getsockname()[1]), (target, walk.fixed[2])

    def step(what, call, *arguments):
        outcome = walk.attempt(call, *arguments)
        time.sleep(0.001)  # for the other end
        walk.steps.append([what, outcome, walk.all_names()])

    if address is not None:
        step("bind", s.bind, (address.replace("ME", own), port and walk.fixed[0]))
    for _ in range(3):
        step("connect in vain", walk.connect, s, nobody)
        step("the error", s.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR)
        step("connect again", walk.connect, s, there)
        step("and again", walk.connect, s, there)
        step("accept", walk.accept, server)
        step("listen while connected", s.listen, 16)
        step("disconnect", connect_unspec, s)
        step("bind while it may be bound", s.bind, (target, 0))
        step("listen", s.listen, 16)
        step("connect while listening", walk.connect, s, there)
        step("shutdown", s.shutdown, socket.SHUT_RD)
        step("connect", walk.connect, s, there)
        step("accept", walk.accept, server)
        step("shutdown", s.shutdown, socket.SHUT_RDWR)
        step("connect while closing", walk.connect, s, there)
        step("disconnect", connect_unspec, s)
        step("disconnect twice", connect_unspec, s)
        step("connect to the other address", walk.connect, s,
             (own if family == socket.AF_INET else "::ffff:" + own, there[1]))
        step("disconnect", connect_unspec, s)
    return walk.finish()


def cycles(own):
    cases = [(family, address, port) for family, addresses in (
        (socket.AF_INET, [None, "0.0.0.0", "127.0.0.1"]), (socket.AF_INET6, [None, "::", "::1"]))
        for address in addresses for port in ([0] if address is None else [0, 1])]
    return [cycle(own, number, *case) for number, case in enumerate(cases)]


def main(own, what, *arguments):
    if what == "cycles":
        walks = cycles(own)
    else:
        seed, *numbers = arguments
        walks = [Walk(own, int(number), seed).run() for number in numbers]
    print(json.dumps(walks))


if __name__ == "__main__":
    main(*sys.argv[1:])
