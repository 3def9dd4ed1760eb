"""Values of `wit/` as JSON: a record is an object, a case of an enum its name in PascalCase, bytes are base64."""

import base64
import dataclasses
import functools
import re
import types
import typing


class Err(Exception):
    """The error of a function, as in the sandbox: `value` is what `wit/` says."""

    def __init__(self, value: object) -> None:
        super().__init__(value)
        self.value = value


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A case of an enum. Those that a newer host may have are not known here, so there are no lists of them."""

    name: str


def encode(value: object) -> object:
    """The JSON of an argument."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if isinstance(value, Case):
        return value.name.title().replace("_", "")
    if dataclasses.is_dataclass(value):
        return {name: encode(getattr(value, name)) for name in _fields(type(value))}
    return value


def decode(kind: object, value: object) -> object:
    """The value of a type from its JSON. Fields that the type does not have are left out."""
    if kind is bytes:
        return base64.b64decode(value)
    if kind is Case:
        return Case(re.sub(r"(?<=.)(?=[A-Z])", "_", value).upper())
    if isinstance(kind, types.UnionType):
        [present] = (part for part in kind.__args__ if part is not types.NoneType)
        return None if value is None else decode(present, value)
    if isinstance(kind, types.GenericAlias):
        return [decode(kind.__args__[0], item) for item in value]
    if dataclasses.is_dataclass(kind):
        return kind(**{name: decode(part, value[name]) for name, part in _fields(kind).items()})
    return value


@functools.cache
def _fields(kind: type) -> dict[str, object]:
    return typing.get_type_hints(kind)
