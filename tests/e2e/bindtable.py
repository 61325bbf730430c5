# SPDX-License-Identifier: Apache-2.0
"""
A program, not a test: tries every pair of (address, options) on one port and prints what the second
bind() and listen() say, as JSON. test_bind.py runs it on a host, where the kernel itself answers, and
in a container, where Slim does.

    bindtable.py OWN_ADDRESS
"""

import errno
import itertools
import json
import socket
import sys

PORT = 20123

V4, V6 = socket.AF_INET, socket.AF_INET6
ADDRESSES = {
    "0.0.0.0": (V4, "0.0.0.0"),
    "own": (V4, sys.argv[1]),
    "127.0.0.1": (V4, "127.0.0.1"),
    "127.0.0.2": (V4, "127.0.0.2"),
    "::": (V6, "::"),
    ":: v6only": (V6, "::"),
    "::1": (V6, "::1"),
    "mapped own": (V6, "::ffff:" + sys.argv[1]),
    "mapped 127.0.0.1": (V6, "::ffff:127.0.0.1"),
    "mapped 0.0.0.0": (V6, "::ffff:0.0.0.0"),
}
OPTIONS = {
    "": (),
    "addr": (socket.SO_REUSEADDR,),
    "port": (socket.SO_REUSEPORT,),
    "addr+port": (socket.SO_REUSEADDR, socket.SO_REUSEPORT),
}


def make(address, options):
    family, _ = ADDRESSES[address]
    s = socket.socket(family)
    if family == V6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address.endswith("v6only"))
    for option in OPTIONS[options]:
        s.setsockopt(socket.SOL_SOCKET, option, 1)
    return s


def attempt(call, *args):
    try:
        call(*args)
    except OSError as e:
        return errno.errorcode[e.errno]
    return "ok"


def pair(first, second, listening):
    """
    [the first one's bind(), the second one's bind(), the first one's and the second's listen()], and
    how it is when one of them was refused. "reversed": the second listens before the first.
    """
    with make(*first) as a, make(*second) as b:
        said = [attempt(a.bind, (ADDRESSES[first[0]][1], PORT))]
        if said != ["ok"]:
            return said
        if listening == "before":
            said.append("listen " + attempt(a.listen))
        said.append(attempt(b.bind, (ADDRESSES[second[0]][1], PORT)))
        if said[-1] != "ok":
            return said
        if listening == "after":
            said.append("listen " + attempt(a.listen))
        if listening:
            said.append("listen " + attempt(b.listen))
        if listening == "reversed":
            said.append("listen " + attempt(a.listen))
        if listening:
            # What was refused is as it was: it can listen once the other is gone.
            said.append(a.getsockname()[1] == b.getsockname()[1] == PORT)
            if said[-2] != "listen ok":
                first, last = (b, a) if listening == "reversed" else (a, b)
                first.close()
                said.append("listen " + attempt(last.listen))
    return said


kinds = list(itertools.product(ADDRESSES, OPTIONS))
table = {}
for one, two in itertools.product(kinds, kinds):
    for listens in ("", "before", "after", "reversed"):
        key = f"{one[0]} [{one[1]}]; {two[0]} [{two[1]}]" + (listens and f"; listen {listens}")
        table[key] = pair(one, two, listens)
print(json.dumps(table))
