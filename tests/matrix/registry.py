# SPDX-License-Identifier: Apache-2.0
"""
The cases and what is left of their results when all that must differ is taken out.

    @case("connect() to a closed port")             in all its paths: remote, own, loopback, …6
    @case("socket({type})", paths=LOCAL, type=[…])  one for each value, in the server alone

A case is a function of a Talk (peers.py) and returns a list of what it saw.
"""

import itertools
import re

# The ways to a server: on another host, the own address, loopback; by IPv4 and by IPv6.
V4 = ("remote", "own", "loopback")
ALL = V4 + ("remote6", "own6", "loopback6")
REMOTE = ("remote", "remote6")
OWN = ("own", "own6")
LOOPBACK = ("loopback", "loopback6")
LOCAL = ("own",)  # no matter of addresses


class Case:
    def __init__(self, group, title, paths, function, arguments, number):
        self.group = group
        self.title = title
        self.paths = paths
        self.function = function
        self.arguments = arguments
        self.number = number

    def run(self, talk):
        return render(self.function(talk, **self.arguments), talk)


cases = []
_group = [""]


def group(title):
    """The heading of the cases that follow."""
    _group[0] = title


def case(title, paths=ALL, **parameters):
    """parameters: name=[values], or name={label: value}, where the title has {name}."""
    def register(function):
        axes = [[(name, *(v if isinstance(values, dict) else (v, v))) for v in
                 (values.items() if isinstance(values, dict) else values)]
                for name, values in parameters.items()]
        for chosen in itertools.product(*axes):
            labels = {name: label for name, label, _ in chosen}
            arguments = {name: value for name, _, value in chosen}
            name = title.format(**labels)
            assert name not in {c.title for c in cases}, name
            cases.append(Case(_group[0], name, paths, function, arguments, len(cases)))
        return function
    return register


# --- results ---------------------------------------------------------------------------------------


class _Ports:
    """The case's own ports are P, P2, P3; others are a, b, c, … in the order they are seen in."""

    def __init__(self, talk):
        self.known = {talk.port: "P", talk.port2: "P2", talk.port3: "P3", 0: "0"}

    def name(self, port):
        if port not in self.known:
            fresh = len([n for n in self.known.values() if n.islower()])
            self.known[port] = "abcdefghijklmnopqrstuvwxyz"[fresh % 26]
        return self.known[port]


def render(value, talk):
    """A result as text, the same in every environment where only names, numbers and addresses differ."""
    ports = _Ports(talk)
    names = sorted(talk.names.items(), key=lambda pair: -len(pair[0]))

    def text(s):
        for address, name in names:
            s = re.sub(r"(?<![\d.])" + re.escape(address) + r"(?![\d.])", name, s)
        return s

    def one(v):
        if isinstance(v, bytes):
            return repr(v) if len(v) < 40 else f"{len(v)} bytes"
        if isinstance(v, bool):
            return "yes" if v else "no"
        if isinstance(v, str):
            return text(v)
        if isinstance(v, (list, tuple)):
            if len(v) in (2, 4) and isinstance(v[0], str) and isinstance(v[1], int) \
                    and re.fullmatch(r"[0-9a-f.:]+", v[0]):
                host = text(v[0])
                return (f"[{host}]" if ":" in host else host) + ":" + ports.name(v[1])
            inner = ", ".join(one(x) for x in v)
            return f"({inner})" if isinstance(v, tuple) else inner
        if isinstance(v, dict):
            return ", ".join(f"{k}={one(x)}" for k, x in v.items())
        return str(v)

    return "; ".join(one(v) for v in value) if isinstance(value, list) else one(value)
