"""Checked by mypy, never run: the types of `pq` as scripts use them."""

from typing import Any, assert_type

import peliqan
import pq
from peliqan.exceptions import PeliqanClientException


def handler(request: dict[str, Any]) -> object:
    db = pq.dbconnect(pq.DW_NAME)
    assert_type(db.fetch("dw_2", "salesforce", "accounts", where={"id": [1, 2]}, limit=5), list[dict[str, Any]])
    for batch in db.fetch_stream("dw_2", query="SELECT 1 AS n WHERE %s", params=[True]):
        assert_type(batch[0]["n"], Any)
    with db.transaction() as tx:
        tx.insert("dw_2", "tokens", "keys", {"id": 1}, token="x")
        tx.update("dw_2", "tokens", "keys", 1, token="y")
    pq.update_state(lambda state: (state or 0) + 1)
    assert_type(pq.update_state(lambda state: {"n": 1}), dict[str, int])
    assert_type(pq.get_secret("key"), str)
    pq.set_interface_state(pq.INTERFACE_ID, [script["id"] for script in pq.list_scripts()])
    try:
        peliqan.get_state()
    except PeliqanClientException as error:
        assert_type(error.code, str | None)
        raise pq.HTTPError(404, error.message) from error
    pq.set_state()  # type: ignore[call-arg]
    pq.get_secret(5)  # type: ignore[arg-type]
    pq.nonsense()  # type: ignore[attr-defined]
    return db
