"""Fetches pure-Python packages for a script; `pqhost script publish` runs this with its user's own python3.

usage: python3 - REQUIREMENTS FOLDER

Resolves the requirements file with pip, as the sandbox's Python would, and unpacks the wheels into FOLDER. Prints a
line for each package. Ends with 1 and a sentence on stderr if a package cannot run in the sandbox.
"""

import importlib.util
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile

# The Python of the sandbox.
PYTHON = "3.14"

# Has wheels for everything; what is native in them is looked at here and goes nowhere.
PLATFORMS = ["manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64", "linux_x86_64", "any"]

# Their native code makes them faster. They have the same in Python, and take that when the other is not there.
NATIVE_IS_OPTIONAL = {"markupsafe", "pyyaml"}

NATIVE = re.compile(r"\.(so|pyd|dll|dylib)(\.[0-9.]+)?$")
NEEDLESS = re.compile(r"\.(pyc|pyi|pyx|pxd|c|h|cpp|hpp|exe)$")
# What importlib.metadata reads.
METADATA = {"METADATA", "entry_points.txt", "top_level.txt"}


def main(requirements, folder):
    if importlib.util.find_spec("pip") is None:
        fail(f"{sys.executable} has no pip, which fetches packages; on Debian: apt-get install python3-pip")
    with tempfile.TemporaryDirectory() as wheels:
        abis = [argument for abi in (f"cp{PYTHON.replace('.', '')}", "abi3", "none") for argument in ("--abi", abi)]
        platforms = [argument for platform in PLATFORMS for argument in ("--platform", platform)]
        problem = pip(wheels, "--implementation", "cp", *abis, *platforms, "-r", requirements)
        if problem is not None:
            fail("pip cannot fetch the packages as wheels:\n  " + "\n  ".join(problem.splitlines()[-8:]))
        for wheel in sorted(pathlib.Path(wheels).glob("*.whl")):
            name, version = wheel.name.split("-")[:2]
            with tempfile.TemporaryDirectory() as pure:
                unpack(runnable(wheel, name, version, pure), folder)
            print(f"{name} {version}")


def runnable(wheel, name, version, folder):
    """The wheel itself, or one of the same version, that runs in the sandbox."""
    native = native_files(wheel)
    if not native:
        return wheel
    pure = find_pure(name, version, folder)
    if pure is None and normalized(name) not in NATIVE_IS_OPTIONAL:
        fail(
            f"the package {name} {version} has native code ({native[0]}), which cannot run in the sandbox; "
            "use a package that is all Python"
        )
    return pure or wheel


def pip(folder, *arguments):
    """Downloads wheels. Returns what pip had to say if that failed."""
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
    wheels = ["--only-binary", ":all:", "--python-version", PYTHON, "--dest", folder]
    command = [sys.executable, "-m", "pip", "download", *quiet, *wheels, *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return done.stderr.decode(errors="replace").strip() if done.returncode else None


def find_pure(name, version, folder):
    """The wheel of the same version without native code, if there is one."""
    pip(folder, "--no-deps", "--implementation", "py", "--abi", "none", "--platform", "any", f"{name}=={version}")
    wheels = [wheel for wheel in pathlib.Path(folder).glob("*.whl") if not native_files(wheel)]
    return wheels[0] if wheels else None


def native_files(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return [name for name in archive.namelist() if NATIVE.search(name)]


def unpack(wheel, folder):
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            target = destination(member.filename)
            if target is None or member.is_dir():
                continue
            path = pathlib.Path(folder, *target)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(member))


def destination(name):
    """Where a file of a wheel goes below the folder; None if the sandbox has no use for it."""
    parts = name.split("/")
    if parts[0].endswith(".data"):
        if len(parts) < 3 or parts[1] not in ("purelib", "platlib"):
            return None
        parts = parts[2:]
    if any(part in ("", "..", "__pycache__") for part in parts):
        return None
    if parts[0].endswith(".dist-info") and (len(parts) > 2 or parts[-1] not in METADATA):
        return None
    if NATIVE.search(name) or NEEDLESS.search(name):
        return None
    return parts


def normalized(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def fail(sentence):
    print(sentence, file=sys.stderr)
    sys.exit(1)


main(*sys.argv[1:])
