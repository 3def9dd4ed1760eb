"""Time zones for `zoneinfo`, which looks for them in files: a sandbox has none, so they are kept in memory.

They are those of the package `tzdata`. Zones that differ in name only share their bytes, which makes 0.3 MB.
"""

import io
import zoneinfo
from importlib import resources

_ZONES: dict[str, bytes] = {}


def install() -> None:
    """Reads all zones, while the component is built, and has `zoneinfo` find them."""
    files = resources.files("tzdata")
    contents: dict[bytes, bytes] = {}
    for name in files.joinpath("zones").read_text("utf-8").split():
        content = files.joinpath("zoneinfo", *name.split("/")).read_bytes()
        _ZONES[name] = contents.setdefault(content, content)
    zoneinfo.reset_tzpath(())
    zoneinfo._common.load_tzdata = _load
    zoneinfo.available_timezones = zoneinfo._tzpath.available_timezones = _names


def _load(key: str) -> io.BytesIO:
    content = _ZONES.get(key)
    if content is None:
        raise zoneinfo.ZoneInfoNotFoundError(f"No time zone found with key {key}")
    return io.BytesIO(content)


def _names() -> set[str]:
    return set(_ZONES)
