"""The script's own files: imported as modules, and read with `open`.

There is no file system in the sandbox. A script's files are known by their paths relative to its folder; packages that
its `requirements.txt` names lie below `site-packages/`. Only what is imported is compiled.
"""

import builtins
import errno
import html.parser
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.readers
import importlib.util
import io
import os
import pathlib
import posixpath
import re
import stat
import sys
import tokenize
import types
from collections.abc import Callable, Iterator

VENDORED = "site-packages/"

_ROOTS = ("", VENDORED)


class Files(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """The files of the script that is loaded."""

    def __init__(self) -> None:
        self.replace({}, None)

    def replace(self, sources: dict[str, bytes], compile_file: Callable[[str, bytes], types.CodeType] | None) -> None:
        """From now on these are the files."""
        self._sources = sources
        self._compile = compile_file
        folders: dict[str, set[str]] = {"": set()}
        for name in sources:
            child = name
            while child:
                parent, _, base = child.rpartition("/")
                folders.setdefault(parent, set()).add(base)
                child = parent
        self._folders = folders

    def find(self, path: object) -> str | None:
        """The name of the script's file or folder at `path`, if there is one."""
        if isinstance(path, int):
            return None
        path = os.fsdecode(path)
        name = posixpath.normpath(path.lstrip("/")) if path.strip("/") else "."
        name = "" if name == "." else name
        return name if name in self._sources or name in self._folders else None

    def content(self, name: str) -> bytes | None:
        """The file of this name."""
        return self._sources.get(name)

    def children(self, name: str) -> list[str] | None:
        """Names in the folder of this name."""
        names = self._folders.get(name)
        return None if names is None else sorted(names)

    # Modules

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> object:
        """Says where a module is."""
        base = name.replace(".", "/")
        for root in _ROOTS:
            for file, is_package in ((f"{root}{base}/__init__.py", True), (f"{root}{base}.py", False)):
                if file in self._sources:
                    spec = importlib.util.spec_from_loader(name, self, origin=file, is_package=is_package)
                    if is_package:
                        spec.submodule_search_locations = [f"{root}{base}"]
                    return spec
        folders = [f"{root}{base}" for root in _ROOTS if f"{root}{base}" in self._folders]
        if not folders:
            return None
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)  # a namespace package
        spec.submodule_search_locations = folders
        return spec

    def exec_module(self, module: types.ModuleType) -> None:
        """Runs a module."""
        file = module.__spec__.origin
        module.__file__ = file
        exec(self._compile(file, self._sources[file]), module.__dict__)

    def is_package(self, name: str) -> bool:
        """Whether a module has submodules."""
        return self._origin(name).endswith("/__init__.py")

    def get_filename(self, name: str) -> str:
        """The file of a module."""
        return self._origin(name)

    def get_source(self, name: str) -> str:
        """The text of a module."""
        return importlib.util.decode_source(self._sources[self._origin(name)])

    def _origin(self, name: str) -> str:
        spec = self.find_spec(name)
        if spec is None or spec.origin is None:
            raise ImportError(f"the script has no file for the module {name!r}", name=name)
        return spec.origin

    # Data

    def get_data(self, path: str) -> bytes:
        """For `pkgutil.get_data`."""
        content = self.content(self.find(path) or "")
        if content is None:
            raise FileNotFoundError(errno.ENOENT, "the script has no such file", path)
        return content

    def get_resource_reader(self, name: str) -> object:
        """For `importlib.resources`."""
        return importlib.readers.FileReader(types.SimpleNamespace(path=self._origin(name)))

    def find_distributions(self, context: object) -> Iterator[importlib.metadata.Distribution]:
        """For `importlib.metadata`: the packages below `site-packages/`."""
        for folder in self._folders.get(VENDORED.rstrip("/"), ()):
            if folder.endswith(".dist-info"):
                distribution = _Distribution(f"{VENDORED}{folder}")
                if context.name is None or _normalized(context.name) == _normalized(distribution.name):
                    yield distribution


class _Distribution(importlib.metadata.Distribution):
    def __init__(self, folder: str) -> None:
        self._folder = folder

    def read_text(self, filename: str) -> str | None:
        content = FILES.content(f"{self._folder}/{filename}")
        return None if content is None else content.decode()

    def locate_file(self, path: object) -> pathlib.PurePosixPath:
        return pathlib.PurePosixPath(VENDORED, path)


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


FILES = Files()


def _open(
    file: object,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: object = None,
) -> io.IOBase:
    """`open`, which knows the script's files; nobody can write to them."""
    name = FILES.find(file)
    content = None if name is None else FILES.content(name)
    if content is None:
        return _SYSTEM.open(file, mode, buffering, encoding, errors, newline, closefd, opener)
    if not set(mode) <= set("rbt"):
        raise OSError(
            errno.EROFS, "the script's files are read-only; keep data with pq.set_state() or a database", file
        )
    raw = io.BytesIO(content)
    raw.name = name
    return raw if "b" in mode else io.TextIOWrapper(raw, encoding or "utf-8", errors, newline)


def _stat(path: object, *, dir_fd: object = None, follow_symlinks: bool = True) -> os.stat_result:
    """`os.stat`, which knows the script's files: `os.path.exists` and the like follow from it."""
    name = FILES.find(path) if dir_fd is None else None
    if name is None:
        return _SYSTEM.stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
    content = FILES.content(name)
    if content is None:
        return os.stat_result((stat.S_IFDIR | 0o555, 0, 0, 1, 0, 0, 0, 0, 0, 0))
    return os.stat_result((stat.S_IFREG | 0o444, 0, 0, 1, 0, 0, len(content), 0, 0, 0))


def _listdir(path: object = ".") -> list[str]:
    """`os.listdir`, which knows the script's folders."""
    children = _children(path)
    return _SYSTEM.listdir(path) if children is None else children


def _children(path: object) -> list[str] | None:
    """Names in one of the script's folders; `None` if the script has nothing at `path`."""
    name = FILES.find(path)
    if name is not None and FILES.content(name) is not None:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    return None if name is None else FILES.children(name)


class _Entry:
    """One of `os.scandir`."""

    def __init__(self, folder: str, name: str) -> None:
        self.name = name
        self.path = posixpath.join(folder, name)

    def __fspath__(self) -> str:
        return self.path

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return _stat(self.path)

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return stat.S_ISDIR(_stat(self.path).st_mode)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return not self.is_dir()

    def is_symlink(self) -> bool:
        return False


class _Entries(list):
    """What `os.scandir` gives."""

    def __enter__(self) -> "_Entries":
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def close(self) -> None:
        pass


def _scandir(path: object = ".") -> object:
    """`os.scandir`, which knows the script's folders."""
    children = _children(path)
    if children is None:
        return _SYSTEM.scandir(path)
    folder = os.fsdecode(path)
    return _Entries(_Entry(folder, child) for child in children)


def _module_source(loader: object, path: str) -> bytes:
    """`get_data` of the loader of Python's own modules, which has no files any more once the runtime is built."""
    kept = _KEPT_SOURCES.get(path)
    return _SYSTEM.get_data(loader, path) if kept is None else kept


_FileLoader = importlib.machinery.SourceFileLoader.__mro__[1]

_SYSTEM = types.SimpleNamespace(
    open=builtins.open, stat=os.stat, listdir=os.listdir, scandir=os.scandir, get_data=_FileLoader.get_data
)

# Of modules that packages load a second time, as one of their own: `markdown` does.
_KEPT_SOURCES: dict[str, bytes] = {}


def install() -> None:
    """Lets `import`, `open` and `os` know the script's files."""
    sys.meta_path.insert(0, FILES)
    builtins.open = io.open = tokenize._builtin_open = _open
    os.stat = _stat
    os.listdir = _listdir
    os.scandir = _scandir
    with _SYSTEM.open(html.parser.__file__, "rb") as file:
        _KEPT_SOURCES[html.parser.__file__] = file.read()
    _FileLoader.get_data = _module_source
