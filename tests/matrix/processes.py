# SPDX-License-Identifier: Apache-2.0
"""
What a case does with processes, threads, signals and namespaces, in an agent (inside.py).

A process that is left over is ended by clear_up(), which knows it by its id.
"""

import array
import contextlib
import ctypes
import errno
import fcntl
import os
import pathlib
import resource
import signal
import socket as _socket
import struct
import subprocess
import sys
import threading
import time

_started = []

CLONE_NEWNET = 0x40000000


def clear_up():
    for process in _started:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in process.stdin, process.stdout:
            if stream:
                stream.close()
    _started.clear()


def errname(e):
    """Python's own table has ENOTSUP for a number that Linux calls EOPNOTSUPP."""
    return "EOPNOTSUPP" if e.errno == errno.EOPNOTSUPP else errno.errorcode.get(e.errno, str(e))


def in_child(function):
    """What function() returns or raises in a fork of this process, as text; or how that ended."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = "no answer"
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
            text = str(function())
        except OSError as e:
            text = errname(e)
        except BaseException as e:
            text = repr(e)
        finally:
            os.write(w, text.encode())
            os._exit(0)
    os.close(w)
    with os.fdopen(r) as f:
        text = f.read()
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return text


def _sum_up(sock):
    sock.sendall(b"child")
    return sock.recv(100)


def use_in_child(sock):
    """The child uses a socket that its parent made."""
    return in_child(lambda: _sum_up(sock))


def names_in_child(sock):
    return in_child(lambda: (sock.getsockname() + sock.getpeername()) and "named")


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


# --- exec ------------------------------------------------------------------------------------------

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
    _started.append(process)
    return process


def names_after_exec(sock):
    """The names that a program finds which was executed with the socket open."""
    import ast
    process = _python(_NAMES, sock.fileno(), pass_fds=[sock.fileno()])
    line = process.stdout.readline()
    process.wait()
    return list(ast.literal_eval(line))


def listen_after_exec(sock):
    """A program that was executed with a listener serves one connection."""
    import ast
    process = _python(_LISTENER, sock.fileno(), pass_fds=[sock.fileno()])
    return ast.literal_eval(process.stdout.readline())


def served_name():
    import ast
    return ast.literal_eval(_started[-1].stdout.readline())


def open_after_exec(sock, inheritable):
    """Is the descriptor open in a program executed with it?"""
    sock.set_inheritable(inheritable)
    code = "import os, sys\ntry: os.fstat(int(sys.argv[1])); print('open')\n" \
           "except OSError: print('closed')"
    done = subprocess.run([sys.executable, "-c", code, str(sock.fileno())], close_fds=False,
                          stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, check=True)
    return done.stdout.strip()


# --- limits, users, signals ---------------------------------------------------------------------------


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
    libc = ctypes.CDLL(None, use_errno=True)

    def child():
        hits = []

        def handler(number, frame):
            hits.append(number)
        signal.signal(signal.SIGUSR1, handler)
        signal.siginterrupt(signal.SIGUSR1, True)
        me, thread = os.getpid(), threading.main_thread().ident
        done = threading.Event()

        def nag():
            # Until it was in the call: one that comes too early is lost.
            while not done.wait(0.05):
                signal.pthread_kill(thread, signal.SIGUSR1)
        nagger = threading.Thread(target=nag)
        nagger.start()
        if method == "accept":
            r = libc.accept(sock.fileno(), None, None)
        elif method == "recv":
            r = libc.recv(sock.fileno(), ctypes.create_string_buffer(1), 1, 0)
        else:
            raw = arguments[0]
            r = libc.connect(sock.fileno(), raw, len(raw))
        number = ctypes.get_errno()
        done.set()
        nagger.join()
        del me
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


# --- threads -----------------------------------------------------------------------------------------


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
    return _Child(pid)


class _Child:
    def __init__(self, pid):
        self.pid = pid
        self.ended = False

    def wait(self):
        self.ended = True
        return os.waitpid(self.pid, 0)[1]

    def close(self):
        if not self.ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait()


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


# --- descriptors that travel --------------------------------------------------------------------------


def send_fd(path, sock):
    """Hands the socket to whoever has called receive_fd(); they meet at a path."""
    with _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM) as u:
        u.sendmsg([b"x"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS,
                            array.array("i", [sock.fileno()]))], 0, path)


def fd_box(path):
    """Where a socket can be sent to."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    u = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    u.bind(path)
    os.chmod(path, 0o666)
    return u


def receive_fd(box):
    _, ancillary, _, _ = box.recvmsg(1, _socket.CMSG_SPACE(4))
    path = box.getsockname()
    box.close()
    os.unlink(path)
    return _socket.socket(fileno=array.array("i", ancillary[0][2][:4])[0])


def fd_through_fork(sock):
    """SCM_RIGHTS to a child, which looks at the names."""
    a, b = _socket.socketpair()
    a.sendmsg([b"x"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", [sock.fileno()]))])

    def child():
        _, ancillary, _, _ = b.recvmsg(1, _socket.CMSG_SPACE(4))
        s = _socket.socket(fileno=array.array("i", ancillary[0][2][:4])[0])
        return "the same" if (s.getsockname(), s.getpeername()) == \
            (sock.getsockname(), sock.getpeername()) else "others"
    said = in_child(child)
    a.close()
    b.close()
    return said


def pidfd_copy(sock):
    """pidfd_getfd() of one's own socket: the same open socket."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(os.getpid())
    try:
        fd = libc.syscall(438, pidfd, sock.fileno(), 0)
        if fd < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
        return _socket.socket(fileno=fd)
    finally:
        os.close(pidfd)


# --- a namespace inside ------------------------------------------------------------------------------


def in_new_netns(port):
    """
    A child with a network namespace of its own makes a listener and connects to it by loopback,
    and finds its parent's listener on that port not there.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def child():
        if libc.unshare(CLONE_NEWNET) < 0:
            return errno.errorcode[ctypes.get_errno()]
        said = []
        with _socket.socket() as s:
            s.setblocking(True)
            try:
                s.connect(("127.0.0.1", port))
                said.append("reached its parent")
            except OSError as e:
                said.append(errname(e))
        with _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM) as s:  # ip link set lo up
            fcntl.ioctl(s, 0x8914, struct.pack("16sh22x", b"lo", 1 | 64))
        with _socket.socket() as s:
            try:
                s.connect(("127.0.0.1", port))
                said.append("reached its parent")
            except OSError as e:
                said.append(errname(e))
        listener = _socket.create_server(("127.0.0.1", port))
        c = _socket.create_connection(("127.0.0.1", port))
        s, a = listener.accept()
        said.append("names agree" if a == c.getsockname() and s.getsockname() == c.getpeername()
                    else "names differ")
        c.sendall(b"nested")
        said.append(s.recv(6).decode())
        return ", ".join(said)
    return in_child(child)


def made_before_unshare(port):
    """A socket made before its process unshares keeps its namespace: it reaches the listener."""
    libc = ctypes.CDLL(None, use_errno=True)

    def child():
        s = _socket.socket()
        if libc.unshare(CLONE_NEWNET) < 0:
            return errno.errorcode[ctypes.get_errno()]
        s.connect(("127.0.0.1", port))
        return "connected"
    return in_child(child)


# --- other programs ------------------------------------------------------------------------------------


def program(name, *arguments):
    """A program of the build directory, to its end: its output, or what went wrong."""
    path = os.path.join(os.environ.get("SLIM_MATRIX_PROGRAMS", ""), name)
    if not pathlib.Path(path).exists():
        return "not built"
    done = subprocess.run([path, *map(str, arguments)], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout.strip().replace("\n", ", ") or f"exit {done.returncode}"


def start_program(name, *arguments):
    """A program that serves; it says "ready" first."""
    path = os.path.join(os.environ.get("SLIM_MATRIX_PROGRAMS", ""), name)
    process = subprocess.Popen([path, *map(str, arguments)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    _started.append(process)
    return process.stdout.readline().strip()


def program_said():
    process = _started[-1]
    said = process.stdout.read().strip().replace("\n", ", ")
    process.wait()
    return said
