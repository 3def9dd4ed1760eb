"""Types of `pq`, for editors and type checkers. What the calls do is documented where they are, in `src/pq`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, NoReturn, TypeAlias, TypeVar

from pq.exceptions import OperationNotSupported as OperationNotSupported
from pq.exceptions import PeliqanClientException as PeliqanClientException
from pq.exceptions import PeliqanJsonSerializerException as PeliqanJsonSerializerException

DW_NAME: str | None
DW_ID: int | None
INTERFACE_ID: int

_Row: TypeAlias = dict[str, Any]
_Params: TypeAlias = Sequence[Any] | Mapping[str, Any]
_State = TypeVar("_State")

class HTTPError(Exception):
    status: int
    message: str
    headers: dict[str, str]
    def __init__(self, status: int, message: str = "", headers: dict[str, str] | None = None) -> None: ...

class Rows(list[_Row]): ...

class Connection:
    def fetch(
        self,
        db_name: str = "",
        schema_name: str | None = None,
        table_name: str | None = None,
        query: str | None = None,
        df: bool = False,
        fillna_with: object = None,
        fillnat_with: object = None,
        enable_python_types: bool = True,
        enable_datetime_as_string: bool = True,
        tz: str = "UTC",
        *,
        params: _Params | None = None,
        limit: int | None = None,
        offset: int | None = None,
        order_by: str | list[str] | None = None,
        where: dict[str, Any] | None = None,
        decimals: bool = False,
    ) -> list[_Row]: ...
    def fetch_stream(
        self,
        db_name: str = "",
        schema_name: str | None = None,
        table_name: str | None = None,
        query: str | None = None,
        df: bool = False,
        fillna_with: object = None,
        fillnat_with: object = None,
        enable_python_types: bool = True,
        enable_datetime_as_string: bool = True,
        tz: str = "UTC",
        *,
        params: _Params | None = None,
        limit: int | None = None,
        offset: int | None = None,
        order_by: str | list[str] | None = None,
        where: dict[str, Any] | None = None,
        decimals: bool = False,
    ) -> Iterator[list[_Row]]: ...
    def execute(self, db_name: str, query: str, params: _Params | None = None) -> dict[str, Any]: ...
    def execute_stream(self, db_name: str, query: str, params: _Params | None = None) -> Iterator[dict[str, Any]]: ...
    def insert(
        self, db_name: str, schema_name: str | None, table_name: str, *args: _Row | list[_Row], **kwargs: Any
    ) -> dict[str, Any]: ...
    def update(
        self, db_name: str, schema_name: str | None, table_name: str, pk: Any = ..., *args: _Row, **kwargs: Any
    ) -> dict[str, Any]: ...
    def upsert(
        self, db_name: str, schema_name: str | None, table_name: str, pk: Any = ..., *args: _Row, **kwargs: Any
    ) -> dict[str, Any]: ...
    def delete(self, db_name: str, schema_name: str | None, table_name: str, pk: Any = ...) -> dict[str, Any]: ...
    def write(
        self,
        schema_name: str | None,
        table_name: str,
        records: _Row | Sequence[_Row],
        object_schema: dict[str, Any] | None = None,
        pk: str | list[str] | None = None,
        db_name: str | None = None,
        transformer_mode: str = "lossless",
        decimal_separator: str = ".",
    ) -> dict[str, Any]: ...
    def create_schema(self, db_name: str, schema_name: str) -> dict[str, Any]: ...
    def create_table(
        self,
        db_name: str,
        schema_name: str | None,
        table_name: str,
        fields: dict[str, str] | list[dict[str, Any]] | None = None,
        pk: str | list[str] | None = None,
    ) -> dict[str, Any]: ...
    def get_table_schema(self, db_name: str, schema_name: str | None, table_name: str) -> dict[str, Any]: ...
    def transaction(self) -> Transaction: ...

class Transaction:
    def __enter__(self) -> Connection: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

class TrinoConnection:
    def fetch(
        self,
        db_name: str | None = None,
        schema_name: str | None = None,
        table_name: str | None = None,
        query: str | None = None,
        table_id: str | None = None,
        df: bool = False,
        **options: Any,
    ) -> list[_Row]: ...
    def execute(self, query: str, params: _Params | None = None) -> dict[str, Any]: ...

class Connector:
    def apicall(
        self,
        path: str,
        method: str = "get",
        body: Any = None,
        *,
        params: dict[str, Any] | list[Any] | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | tuple[float, float] | None = None,
    ) -> Any: ...
    def get(self, object_name: str, id: Any = None, **params: Any) -> Any: ...
    def findone(self, object_name: str, **params: Any) -> Any: ...
    def list(self, object_name: str, **params: Any) -> Any: ...
    def add(self, object_name: str, *args: dict[str, Any], **kwargs: Any) -> dict[str, Any]: ...
    def update(self, object_name: str, *args: dict[str, Any], **kwargs: Any) -> dict[str, Any]: ...
    def upsert(self, object_name: str, *args: dict[str, Any], **kwargs: Any) -> dict[str, Any]: ...
    def delete(self, object_name: str, id: Any) -> dict[str, Any]: ...

def dbconnect(connection: str | None = None) -> Connection: ...
def trinoconnect() -> TrinoConnection: ...
def load_table(
    db_name: str | None = None,
    schema_name: str | None = None,
    table_name: str | None = None,
    query: str | None = None,
    table_id: str | None = None,
    df: bool = False,
    **options: Any,
) -> list[_Row]: ...
def connect(connection: str | None = None) -> Connector: ...
def get_state() -> Any: ...
def set_state(data: Any) -> None: ...
def update_state(fn: Callable[[Any], _State]) -> _State: ...
def get_interface_state(interface_id: int) -> Any: ...
def set_interface_state(interface_id: int, state: Any) -> None: ...
def get_secret(connection: str) -> str: ...
def list_connections() -> list[dict[str, Any]]: ...
def list_scripts() -> list[dict[str, Any]]: ...
def list_databases() -> list[dict[str, Any]]: ...
def get_schema(schema_id: str) -> dict[str, Any]: ...
def get_table(table_id: str) -> dict[str, Any]: ...
def configure(url: str | None = None, token: str | None = None, script: str | None = None) -> None: ...
def sftpconnect(*args: object, **kwargs: object) -> NoReturn: ...
def aiconnect(*args: object, **kwargs: object) -> NoReturn: ...
