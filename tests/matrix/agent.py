# SPDX-License-Identifier: Apache-2.0
"""
One party of a case: a process on a host or in a container that makes the socket calls which the
driver (peers.py) names, one line of Python literals each way.

    ("new", NAME, args)          inside.NAME(*args), or socket.socket's: what it returns is kept
    ("call", handle, NAME, args) a method of something kept
    ("free",)                    closes all that is kept, and ends what was started

Sockets, epolls and the like stay here and travel as {"handle": N}. An OSError travels as its
errno's name. A call that does not come back travels as "hangs".
"""

import ast
import os
import signal
import socket
import sys

import inside

# What a call may take before it is taken to hang. Not a claim of speed: no case depends on it.
PATIENCE = 15

PLAIN = (int, float, str, bytes, bool, type(None))


class Hangs(BaseException):
    pass


def _alarm(number, frame):
    raise Hangs


class Agent:
    def __init__(self):
        self.kept = {}
        self.count = 0

    def out(self, value):
        """A value as it travels."""
        if isinstance(value, (socket.AddressFamily, socket.SocketKind)):
            return int(value)
        if isinstance(value, PLAIN):
            return value
        if isinstance(value, bytearray):
            return bytes(value)
        if isinstance(value, (tuple, list)):
            return type(value)([self.out(v) for v in value]) if isinstance(value, list) \
                else tuple(self.out(v) for v in value)
        if isinstance(value, dict):
            return {k: self.out(v) for k, v in value.items()}
        self.count += 1
        self.kept[self.count] = value
        return {"handle": self.count}

    def into(self, value):
        if isinstance(value, dict) and "handle" in value:
            return self.kept[value["handle"]]
        if isinstance(value, (tuple, list)):
            return type(value)(self.into(v) for v in value)
        return value

    def perform(self, request):
        kind = request[0]
        if kind == "free":
            for thing in self.kept.values():
                try:
                    thing.close()
                except (OSError, AttributeError):
                    pass
            self.kept.clear()
            inside.clear_up()
            return None
        if kind == "new":
            return getattr(inside, request[1])(*self.into(request[2]))
        return getattr(self.kept[request[1]], request[2])(*self.into(request[3]))

    def answer(self, request):
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        try:
            return ("ok", self.out(self.perform(request)))
        except OSError as e:
            return ("errno", inside.errname(e))
        except Hangs:
            return ("errno", "hangs")
        except Exception as e:  # a mistake in a case: the driver says where
            return ("bug", repr(e))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def main():
    signal.signal(signal.SIGALRM, _alarm)
    agent = Agent()
    print(repr(("ok", os.getpid())), flush=True)
    for line in sys.stdin:
        print(repr(agent.answer(ast.literal_eval(line))), flush=True)


main()
