# SPDX-License-Identifier: Apache-2.0
"""
A program, not a test: sets and gets every socket option by its number, on fresh TCP sockets, and
prints what came of it, as JSON. test_sockopt.py runs it in a plain container, where the kernel itself
answers, and in a Slim one.

    optiontable.py [UID]    after setuid(UID), as a program without privileges
"""

import ctypes
import errno
import json
import os
import socket
import struct
import sys

LEVELS = {"socket": 1, "ip": 0, "tcp": 6, "ipv6": 41, "udp": 17, "icmpv6": 58, "sctp": 132,
          "raw": 255, "netlink": 270, "mptcp": 284, "negative": -1}
NUMBERS = [*range(-1, 132), 200, 201, 202, 209, 210, 255, 256, 1153, 65536 + 1, 2**31 - 1]
VALUES = {"0": struct.pack("i", 0), "1": struct.pack("i", 1), "2": struct.pack("i", 2),
          "7": struct.pack("i", 7), "-1": struct.pack("i", -1), "byte": b"\x01", "empty": b"",
          "name": b"cubic\0", "long": struct.pack("i", 1) + bytes(200), "page": bytes(5000)}

# Whose value tells of the moment or of the socket, so that only the length is printed.
VARYING = {("socket", n) for n in (15, 49, 55, 57, 71)} | {("tcp", n) for n in (11, 24, 33)}

libc = ctypes.CDLL(None, use_errno=True)


def call(function, *args):
    return "ok" if function(*args) == 0 else errno.errorcode[ctypes.get_errno()]


def get(s, level, number, size=64):
    value = ctypes.create_string_buffer(b"\xa5" * size, size)
    length = ctypes.c_uint(size)
    said = call(libc.getsockopt, s.fileno(), level, number, value, ctypes.byref(length))
    return said, value.raw[:length.value] if said == "ok" else b""


def main():
    if len(sys.argv) > 1:
        os.setgid(int(sys.argv[1]))
        os.setuid(int(sys.argv[1]))
    said = {}
    for family in socket.AF_INET, socket.AF_INET6:
        for level, level_number in LEVELS.items():
            for number in NUMBERS:
                for name, value in VALUES.items():
                    with socket.socket(family) as s:
                        was = call(libc.setsockopt, s.fileno(), level_number, number, value,
                                   len(value))
                        got, shown = get(s, level_number, number)
                    if (level, number) in VARYING:
                        shown = shown[:0] + str(len(shown)).encode()
                    key = f"{family.name} {level} {number} {name}"
                    said[key] = [was, got, shown.hex()]
    print(json.dumps(said))


main()
