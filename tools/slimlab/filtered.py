# SPDX-License-Identifier: Apache-2.0
"""
filtered.py CMD…: becomes a program with a seccomp filter that allows everything, which is the least that any
container with a seccomp profile has. The kernel knows of each system call beforehand that it is allowed.
"""

import ctypes
import os
import sys

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
PR_SET_NO_NEW_PRIVS = 38
BPF_RET_K, SECCOMP_RET_ALLOW = 0x06, 0x7fff0000


class Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32)]


class Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.POINTER(Instruction))]


def main(argv):
    libc = ctypes.CDLL(None, use_errno=True)
    allow = Instruction(BPF_RET_K, 0, 0, SECCOMP_RET_ALLOW)
    program = Program(1, ctypes.pointer(allow))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 or \
            libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) < 0:
        sys.exit(f"filtered: no seccomp filter: {os.strerror(ctypes.get_errno())}")
    try:
        os.execvp(argv[0], argv)
    except OSError as e:
        sys.exit(f"filtered: {argv[0]}: {e.strerror}")


main(sys.argv[1:])
