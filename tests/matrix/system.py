# SPDX-License-Identifier: Apache-2.0
"""
What the parts of an agent (inside.py) have in common: calls of the C library, errors by name, child
processes. One that is left over is ended by clear_up(), which knows it by its id.
"""

import contextlib
import ctypes
import errno
import os
import signal

_libc = ctypes.CDLL(None, use_errno=True)

started = []  # programs (subprocess.Popen)


def libc(name, *arguments):
    """A function of the C library: its result, or OSError."""
    result = getattr(_libc, name)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def errname(e):
    """Python's own table has ENOTSUP for a number that Linux calls EOPNOTSUPP."""
    return "EOPNOTSUPP" if e.errno == errno.EOPNOTSUPP else errno.errorcode.get(e.errno, str(e))


def clear_up():
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in process.stdin, process.stdout:
            if stream:
                stream.close()
    started.clear()


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
    try:
        with os.fdopen(r) as f:
            text = f.read()
    except BaseException:  # it hangs
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return text


class Child:
    """A fork of this process that may outlive the call that made it, but not the case."""

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
