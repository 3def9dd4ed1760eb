"""Runs modules of CPython's own tests, and answers with what became of each test."""

import fnmatch
import importlib
import io
import pathlib
import sys
import tempfile
import traceback
import types
import unittest
import zoneinfo

from test import support
from test.support import import_helper

_LOADER = unittest.TestLoader()


def handler(request):
    """Takes `{"modules": [...], "without": [pattern, ...]}`; gives `{test: [outcome, why]}`."""
    job = request["json"]
    result = _Result(job["without"])
    support.run_unittest = lambda *cases: result.run(map(_LOADER.loadTestsFromTestCase, cases))
    for name in job["modules"]:
        try:
            module = importlib.import_module(name)
            if hasattr(module, "ZONEINFO_JSON"):
                _use_zones_of_the_sandbox(module)
            main = getattr(module, "test_main", None)
            if main is None:
                result.run(_LOADER.loadTestsFromName(name))
            else:
                main()
        except unittest.SkipTest as reason:
            result.outcomes[name] = ["skipped", str(reason)]
    return result.outcomes


class _Result(unittest.TestResult):
    """Keeps one outcome of each test: ok, skipped, failed, or not run."""

    def __init__(self, without):
        super().__init__()
        self.without = without
        self.outcomes = {}

    def run(self, tests):
        """Runs tests, suites of tests, suites of suites."""
        suite = unittest.TestSuite()
        for test in _flat(tests):
            pattern = next((p for p in self.without if fnmatch.fnmatchcase(test.id(), p)), None)
            if pattern is None:
                suite.addTest(test)
            else:
                self.outcomes[test.id()] = ["not run", pattern]
        suite.run(self)

    def addSuccess(self, test):
        self.outcomes.setdefault(test.id(), ["ok", ""])

    def addSkip(self, test, reason):
        # A subtest that skips itself leaves its test as it is.
        if not hasattr(test, "test_case"):
            self.outcomes.setdefault(test.id(), ["skipped", reason])

    def addFailure(self, test, error):
        self.outcomes[test.id()] = ["failed", traceback.format_exception_only(error[1])[-1].strip()[:300]]

    addError = addFailure

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.addFailure(test, error)

    def addExpectedFailure(self, test, error):
        self.addSuccess(test)

    def addUnexpectedSuccess(self, test):
        self.outcomes[test.id()] = ["failed", "succeeded, which CPython does not expect"]


def _flat(tests):
    """The tests in nested suites."""
    for test in tests:
        if isinstance(test, unittest.TestCase):
            yield test
        else:
            yield from _flat(test)


def _import_fresh_module(name, fresh=(), blocked=(), **_options):
    """Stands for what imports a module anew. Of Python's own modules the sandbox has no sources: each is there once."""
    if name.startswith("test."):
        kept = sys.modules.pop(name, None)
        module = importlib.import_module(name)
        if kept is not None:
            sys.modules[name] = kept
        return module
    try:
        for needed in fresh:
            importlib.import_module(needed)
    except ImportError:
        return None
    return importlib.import_module(name)


def _temporary_file(mode="w+b", _buffering=-1, encoding=None, newline=None, **_options):
    """Stands for `TemporaryFile`: most tests of `csv` need a file only to read what they wrote."""
    file = io.BytesIO()
    return file if "b" in mode else io.TextIOWrapper(file, encoding, newline=newline)


def _use_zones_of_the_sandbox(module):
    """Has `test_zoneinfo` use the zones that scripts have: it cannot write its own to files."""
    module.setUpModule = module.tearDownModule = lambda: None
    folder = pathlib.Path("/there-are-no-files")
    data = types.SimpleNamespace(
        tzpath=folder, keys=sorted(zoneinfo.available_timezones()), path_from_key=folder.joinpath
    )
    module.ZONEINFO_DATA = module.ZONEINFO_DATA_V1 = data


support.use_resources = []
support.run_doctest = lambda *_arguments, **_options: None  # it reads sources of Python's own modules
import_helper.import_fresh_module = _import_fresh_module
tempfile.TemporaryFile = _temporary_file
sys.modules.setdefault("lzma", types.ModuleType("lzma"))  # `test_zoneinfo` packs its zones with it
