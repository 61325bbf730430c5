# SPDX-License-Identifier: Apache-2.0
"""
What a case does with processes, threads, signals and users, in an agent (inside.py).
"""

import ast
import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import signal
import socket as _socket
import struct
import subprocess
import sys
import threading
import time

from system import Child, errname, in_child, started

_libc = ctypes.CDLL(None, use_errno=True)


def _sum_up(sock):
    sock.sendall(b"child")
    return sock.recv(100)


def use_in_child(sock):
    """The child uses a socket that its parent made."""
    return in_child(lambda: _sum_up(sock))


def close_in_child(sock):
    """The child closes its copy: the parent's is open still."""
    return in_child(lambda: sock.close() or "closed")


def listen_in_child(port):
    """A listener of a process that ends: it goes with it."""
    def child():
        s = _socket.socket()
        s.bind(("0.0.0.0", port))
        s.listen()
        return "listened"
    return in_child(child)


# --- exec -----------------------------------------------------------------------------------------

_NAMES = """
import socket, sys
s = socket.socket(fileno=int(sys.argv[1]))
print(repr((s.getsockname()[:2], s.getpeername()[:2])), flush=True)
s.sendall(b"exec")
"""

_LISTENER = """
import socket, sys
s = socket.socket(fileno=int(sys.argv[1]))
print(repr(s.getsockname()[:2]), flush=True)
c, a = s.accept()
print(repr(a[:2]), flush=True)
c.sendall(b"served")
"""


def _python(code, *arguments, **kwargs):
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **kwargs)
    started.append(process)
    return process


def names_after_exec(sock):
    """The names that a program finds which was executed with the socket open."""
    process = _python(_NAMES, sock.fileno(), pass_fds=[sock.fileno()])
    line = process.stdout.readline()
    process.wait()
    return list(ast.literal_eval(line))


def listen_after_exec(sock):
    """A program that was executed with a listener serves one connection."""
    process = _python(_LISTENER, sock.fileno(), pass_fds=[sock.fileno()])
    return ast.literal_eval(process.stdout.readline())


def served_name():
    return ast.literal_eval(started[-1].stdout.readline())


def open_after_exec(sock, inheritable):
    """Is the descriptor open in a program executed with it?"""
    sock.set_inheritable(inheritable)
    code = "import os, sys\ntry: os.fstat(int(sys.argv[1])); print('open')\n" \
           "except OSError: print('closed')"
    done = subprocess.run([sys.executable, "-c", code, str(sock.fileno())], close_fds=False,
                          stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, check=True)
    return done.stdout.strip()


# --- limits, users, signals -----------------------------------------------------------------------


def socket_at_limit(family):
    """socket() with every descriptor that the process may have in use."""
    def child():
        fd = os.dup(0)
        os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (fd, fd))
        return _socket.socket(family, _socket.SOCK_STREAM) and "made"
    return in_child(child)


def accept_at_limit(listener):
    def child():
        fd = os.dup(0)
        os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (fd, fd))
        return listener.accept() and "accepted"
    return in_child(child)


def as_user(uid, what, port=0):
    """socket(), or bind() to a port, as another user: what fstat() says, or "bound"."""
    def child():
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        s = _socket.socket()
        if what == "socket":
            st = os.fstat(s.fileno())
            return f"uid={st.st_uid} gid={st.st_gid}"
        if what == "option":
            s.setsockopt(_socket.SOL_SOCKET, _socket.SO_DEBUG, 1)
            return "set"
        if what == "mark":
            s.setsockopt(_socket.SOL_SOCKET, 36, 1)
            return "set"
        if what == "force":
            s.setsockopt(_socket.SOL_SOCKET, 33, 1 << 20)
            return "set"
        if what == "transparent":
            s.setsockopt(_socket.IPPROTO_IP, 19, 1)
            return "set"
        if what == "ioctl":  # SIOCSIFFLAGS, to what lo is
            fcntl.ioctl(s, 0x8914, struct.pack("16sh22x", b"lo", 1 | 64))
            return "set"
        if what == "priority":
            s.setsockopt(_socket.SOL_SOCKET, _socket.SO_PRIORITY, 7)
            return "set"
        s.bind(("0.0.0.0", port))
        return "bound"
    return in_child(child)


def send_after_reset(sock):
    """Two sends to a socket whose peer is gone, with SIGPIPE at its default."""
    def child():
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        for _ in range(2):
            sock.send(b"x")
        return "sent"
    return in_child(child)


def interrupted(sock, method, *arguments):
    """A signal in the middle of a call that blocks, its handler without SA_RESTART: EINTR."""
    def child():
        hits = []

        def handler(number, frame):
            hits.append(number)
        signal.signal(signal.SIGUSR1, handler)
        signal.siginterrupt(signal.SIGUSR1, True)
        thread = threading.main_thread().ident
        done = threading.Event()

        def nag():
            # Until it was in the call: one that comes too early is lost.
            while not done.wait(0.05):
                signal.pthread_kill(thread, signal.SIGUSR1)
        nagger = threading.Thread(target=nag)
        nagger.start()
        if method == "accept":
            r = _libc.accept(sock.fileno(), None, None)
        elif method == "recv":
            r = _libc.recv(sock.fileno(), ctypes.create_string_buffer(1), 1, 0)
        else:
            raw = arguments[0]
            r = _libc.connect(sock.fileno(), raw, len(raw))
        number = ctypes.get_errno()
        done.set()
        nagger.join()
        return errno.errorcode[number] if r < 0 else "returned"
    return in_child(child)


def sigio(sock):
    """O_ASYNC: does SIGIO come for what is there to read? Waits for it."""
    got = threading.Event()
    old = signal.signal(signal.SIGIO, lambda *_: got.set())
    fcntl.fcntl(sock.fileno(), fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(sock.fileno(), fcntl.F_SETFL,
                fcntl.fcntl(sock.fileno(), fcntl.F_GETFL) | os.O_ASYNC)
    return _Sigio(got, old, sock)


class _Sigio:
    def __init__(self, got, old, sock):
        self.got, self.old, self.sock = got, old, sock

    def wait(self):
        end = time.monotonic() + 10
        while not self.got.is_set() and time.monotonic() < end:
            time.sleep(0.01)
        fcntl.fcntl(self.sock.fileno(), fcntl.F_SETFL, 0)
        signal.signal(signal.SIGIO, self.old)
        return "SIGIO" if self.got.is_set() else "no signal"

    def close(self):
        pass


# --- threads --------------------------------------------------------------------------------------


def many_threads(count, each):
    """socket(), bind() and close() by many threads at once: how many failed, of how many."""
    failures = []

    def work():
        for _ in range(each):
            try:
                with _socket.socket() as s:
                    s.bind(("127.0.0.1", 0))
                    s.getsockname()
            except OSError as e:
                failures.append(errname(e))
    threads = [threading.Thread(target=work) for _ in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return [sorted(set(failures)), f"{count * each - len(failures)} made"]


def threads_connect(address, port, count):
    """As many connections at once as there are threads: how many got an echo of their own word."""
    good = []

    def work(n):
        with _socket.create_connection((address, port)) as s:
            s.sendall(b"%08d" % n)
            if s.recv(8, _socket.MSG_WAITALL) == b"%08d" % n:
                good.append(n)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return f"{len(good)} echoed"


def echo_server(listener, count):
    """Echoes eight bytes to each of so many connections, in a child process."""
    pid = os.fork()
    if pid == 0:
        signal.setitimer(signal.ITIMER_REAL, 0)
        with contextlib.suppress(BaseException):
            for _ in range(count):
                c, _a = listener.accept()
                c.sendall(c.recv(8, _socket.MSG_WAITALL))
                c.close()
        os._exit(0)
    return Child(pid)


def close_while_reading(sock):
    """shutdown() in one thread wakes another one's recv()."""
    said = []

    def reader():
        try:
            said.append(sock.recv(1))
        except OSError as e:
            said.append(errname(e))
    thread = threading.Thread(target=reader)
    thread.start()
    time.sleep(0.05)  # so that it usually blocks; the result is the same if it does not yet
    sock.shutdown(_socket.SHUT_RDWR)
    thread.join()
    return said[0]
