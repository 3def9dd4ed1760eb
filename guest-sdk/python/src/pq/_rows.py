"""The result of `fetch`: a list of dicts that is read only when somebody looks."""

import collections.abc
import copy
import datetime
import decimal
import json.encoder
import zoneinfo

from pq._errors import from_host, invalid
from pq._host import IN_SANDBOX, Err, read_rows, sql

_DATES = {"DATE", "TIME", "TIMESTAMP", "TIMESTAMP_TZ"}


class Conversion:
    """What is done to values after reading them. `None` where nothing is to be done."""

    __slots__ = ("datetimes", "decimals", "fill_dates", "fill_others", "zone")

    @classmethod
    def wanted(
        cls, fillna: object, fillnat: object, dates_as_text: bool, tz: str, decimals: bool
    ) -> "Conversion | None":
        """The conversion for these arguments of `fetch`."""
        if fillna is None and fillnat is None and dates_as_text and not decimals:
            return None
        self = cls()
        self.fill_dates = fillna if fillnat is None else fillnat
        self.fill_others = fillna
        self.datetimes = not dates_as_text
        self.decimals = decimals
        self.zone = None
        if self.datetimes:
            self.zone = datetime.UTC if tz == "UTC" else _zone(tz)
        return self

    @property
    def is_for_python_only(self) -> bool:
        """Whether it changes nothing that a caller sees: of decimals the host writes all digits itself."""
        return self.fill_dates is None and self.fill_others is None and not self.datetimes

    def apply(self, rows: list[dict], columns: list) -> None:
        """Converts in place."""
        for column in columns:
            name, kind = column.name, column.kind.name
            fill = self.fill_dates if kind in _DATES else self.fill_others
            convert = self._converter(kind)
            if fill is None and convert is None:
                continue
            for row in rows:
                value = row[name]
                if value is None:
                    row[name] = fill
                elif convert is not None:
                    row[name] = convert(value)

    def _converter(self, kind: str) -> object:
        if kind == "DECIMAL":
            return decimal.Decimal
        if not self.datetimes:
            return None
        return {
            "DATE": _date,
            "TIME": _time,
            "TIMESTAMP": self._moment,
            "TIMESTAMP_TZ": self._moment,
        }.get(kind)

    def _moment(self, text: str) -> object:
        try:
            moment = datetime.datetime.fromisoformat(text)
        except ValueError:
            return text  # 'infinity', a date of zeros, or a year that Python's datetime cannot hold
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        return moment.astimezone(self.zone)


def _date(text: str) -> object:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        return text


def _time(text: str) -> object:
    try:
        return datetime.time.fromisoformat(text)
    except ValueError:
        return text  # MySQL's TIME is a span: '-01:30:00', '100:00:00'


def _zone(name: str) -> datetime.tzinfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, TypeError):
        raise invalid(f"tz {name!r} is not a known time zone") from None


class Rows(collections.abc.MutableSequence):
    """A list of dicts that stays in the database until somebody looks at it.

    It says that it is a `list` and does what a list does. Returned from the handler untouched, its rows go from the
    database to the caller without entering the sandbox.
    """

    __slots__ = ("_conversion", "_list", "_opened")
    __hash__ = None

    def __init__(self, opened: object, conversion: Conversion | None) -> None:
        self._opened = opened
        self._conversion = conversion
        self._list = None

    @property
    def __class__(self) -> type:
        return list

    def untouched_cursor(self) -> int | None:
        """The cursor, if the host may stream the rows: nobody has looked at them and nothing is to be converted."""
        if self._list is not None:
            return None
        if self._conversion is not None and not self._conversion.is_for_python_only:
            return None
        return self._opened.cursor

    def touch(self) -> list:
        """The rows as a list, read now if they have not been."""
        rows = self._list
        if rows is None:
            rows = []
            cursor = self._opened.cursor
            try:
                while batch := sql.next(cursor):
                    rows += read_rows(batch)
            except Err as error:
                raise from_host(error.value) from None
            if self._conversion is not None:
                self._conversion.apply(rows, self._opened.columns)
            self._list = rows
        return rows

    def __deepcopy__(self, memo: dict) -> list:
        return copy.deepcopy(self.touch(), memo)

    def __copy__(self) -> list:
        return self.touch().copy()

    def __reduce_ex__(self, _protocol: int) -> tuple:
        return list, (self.touch(),)

    def __iadd__(self, other: object) -> "Rows":
        self.touch().__iadd__(_plain(other))
        return self

    def __imul__(self, times: int) -> "Rows":
        self.touch().__imul__(times)
        return self

    def __radd__(self, other: object) -> list:
        return _plain(other) + self.touch()


def _plain(value: object) -> object:
    return value.touch() if type(value) is Rows else value


def _delegate(name: str) -> object:
    method = getattr(list, name)

    def call(self: Rows, *args: object, **kwargs: object) -> object:
        return method(self.touch(), *map(_plain, args), **kwargs)

    call.__name__ = name
    return call


for _name in [
    "__len__",
    "__getitem__",
    "__setitem__",
    "__delitem__",
    "__iter__",
    "__reversed__",
    "__contains__",
    "__repr__",
    "__add__",
    "__mul__",
    "__rmul__",
    "__eq__",
    "__ne__",
    "__lt__",
    "__le__",
    "__gt__",
    "__ge__",
    "append",
    "clear",
    "copy",
    "count",
    "extend",
    "index",
    "insert",
    "pop",
    "remove",
    "reverse",
    "sort",
]:
    setattr(Rows, _name, _delegate(_name))
Rows.__abstractmethods__ = frozenset()


def _teach_json() -> None:
    """Makes `json.dumps` see a list in `Rows` even if it is given a `default` of its own, such as `str`."""
    make_encoder = json.encoder.c_make_encoder

    def make_encoder_for_rows(markers: object, default: object, *rest: object) -> object:
        return make_encoder(markers, lambda value: value.touch() if type(value) is Rows else default(value), *rest)

    json.encoder.c_make_encoder = make_encoder_for_rows


if IN_SANDBOX:  # elsewhere scripts get a list
    _teach_json()
