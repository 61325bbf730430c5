# SPDX-License-Identifier: Apache-2.0
"""
What the demo and the benchmark have in common as programs: a lab of their own that goes with them,
errors of one line, and endings.
"""

import argparse
import os
import re
import shutil
import signal
import sys

from . import lab
from .servers import load_program
from .state import State, labs
from .system import LabError, process_started


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line. hint: what shows the help, with --help."""

    def __init__(self, *args, hint=None, **kwargs):
        self.hint = hint
        super().__init__(*args, add_help=False, allow_abbrev=False, **kwargs)

    def error(self, message):
        sys.stderr.write(f"{self.prog.split()[0]}: {message} ({self.hint} --help)\n")
        sys.exit(2)


def between(low, high):
    """A type for argparse: a number within."""
    def number(text):
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f'"{text}" is no number from {low} to {high}')
        return int(text)
    return number


def progress(text):
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def check_build(build):
    load = load_program(build)
    if not os.access(load, os.X_OK):
        raise LabError(f"{load} is not there: build it with make, or name another build directory "
                       "with --bin DIR or $SLIM_BUILD")


def check_programs(programs, group):
    """Those that are run; afterwards they are found by their names."""
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    for program in programs:
        if not shutil.which(program):
            raise LabError(f"{program} is missing: tools/install-packages {group}")


def lab_id(prefix):
    return f"{prefix}-{os.getpid()}"


def clear_leftovers(prefix):
    """The labs of those that were killed."""
    for one in labs():
        found = re.fullmatch(prefix + r"-([0-9]+)", one)
        if found and process_started(int(found[1])) is None:
            lab.down(State(one))


def run(name, function, failure=1):
    """The exit status of a program: its function's, or that of a failure, which is said."""
    def interrupted(number, frame):
        for ending in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(ending, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, interrupted)
    try:
        return function()
    except (LabError, OSError) as e:
        progress("")
        sys.stderr.write(f"{name}: {e}\n")
        return failure
    except KeyboardInterrupt:
        progress("")
        sys.stderr.write(f"{name}: interrupted\n")
        return 130


def need_root():
    if os.geteuid() != 0:
        raise LabError("only root can make network namespaces: run it as root")
