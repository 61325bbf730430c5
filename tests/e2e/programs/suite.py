# SPDX-License-Identifier: Apache-2.0
"""
suite.py trial|unittest REPORT MODULE… [-METHOD…]

Runs the tests of Python modules by Twisted's runner or by unittest's, and writes what became of
each to REPORT, as JSON: {test: outcome}. Of several outcomes (subtests, an error in tearDown after
a pass) the worst counts. With unittest, tests of the name METHOD are left out.
"""

import json
import os
import sys
import unittest

ORDER = ["passed", "expected", "skipped", "failed"]


class Outcomes:
    def __init__(self):
        self.found = {}

    def add(self, test, outcome):
        name = test.id()
        before = self.found.get(name, ORDER[0])
        self.found[name] = max(before, outcome, key=ORDER.index)


OUTCOMES = Outcomes()


class Recorder:
    """What both unittest's and trial's results are told, noted on the way."""

    def addSuccess(self, test):
        OUTCOMES.add(test, "passed")
        super().addSuccess(test)

    def addSkip(self, test, reason):
        OUTCOMES.add(test, "skipped")
        super().addSkip(test, reason)

    def addError(self, test, error):
        OUTCOMES.add(test, "failed")
        super().addError(test, error)

    def addFailure(self, test, failure):
        OUTCOMES.add(test, "failed")
        super().addFailure(test, failure)

    def addExpectedFailure(self, test, *rest):
        OUTCOMES.add(test, "expected")
        super().addExpectedFailure(test, *rest)

    def addUnexpectedSuccess(self, test, *rest):
        OUTCOMES.add(test, "failed")
        super().addUnexpectedSuccess(test, *rest)


def run_trial(modules):
    from twisted.trial import reporter, runner

    class Reporter(Recorder, reporter.TreeReporter):
        pass

    loader = runner.TestLoader()
    runner.TrialRunner(Reporter, workingDirectory=os.path.abspath("trial")).run(
        loader.loadByNames(modules))


def flat(tests):
    for test in tests:
        if isinstance(test, unittest.TestSuite):
            yield from flat(test)
        else:
            yield test


def run_unittest(modules):
    class Result(Recorder, unittest.TextTestResult):
        def addSubTest(self, test, subtest, error):
            if error is not None:
                OUTCOMES.add(test, "failed")
            super().addSubTest(test, subtest, error)

    without = {name[1:] for name in modules if name.startswith("-")}
    loaded = unittest.defaultTestLoader.loadTestsFromNames(
        [name for name in modules if not name.startswith("-")])
    tests = unittest.TestSuite(test for test in flat(loaded)
                               if test.id().rsplit(".", 1)[1] not in without)
    unittest.TextTestRunner(resultclass=Result).run(tests)


def main(how, report, *modules):
    {"trial": run_trial, "unittest": run_unittest}[how](modules)
    with open(report, "w") as f:
        json.dump(OUTCOMES.found, f)


main(*sys.argv[1:])
