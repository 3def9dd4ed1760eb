"""Imports libraries while the component is built: afterwards there is no file system to import from."""

import contextlib
import importlib
import io
import pkgutil
import sys
import warnings

from pqhost_runtime import libraries, timezones

# Not importable here, or not meant to be imported.
_SKIPPED = {
    "__main__",
    "antigravity",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "test",
    "tests",
    "this",
    "tkinter",
    "turtle",
    "turtledemo",
}


def preload() -> None:
    """Imports every module of the standard library that can be imported here, and the libraries that scripts expect."""
    output = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        warnings.simplefilter("ignore")
        for name in sorted(sys.stdlib_module_names - _SKIPPED):
            _import(name)
    timezones.install()
    libraries.install()


def _import(name: str) -> None:
    with contextlib.suppress(Exception, SystemExit):
        importlib.import_module(name)
    module = sys.modules.get(name)
    for child in pkgutil.iter_modules(getattr(module, "__path__", ())):
        if child.name not in _SKIPPED:
            _import(f"{name}.{child.name}")
