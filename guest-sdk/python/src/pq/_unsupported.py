"""Calls of the Peliqan client that have no meaning here. Each says why, or what to use."""

from typing import NoReturn

from pq.exceptions import OperationNotSupported

_ADMINISTRATION = "scripts do not administer the host; use the command `pqhost`"
_PIPELINES = "there are no pipelines here; scripts read and write databases with pq.dbconnect()"
_RUNS = "a handler answers requests; it does not run other scripts"
_CATALOGUE = "tables are changed with SQL: pq.dbconnect(...).execute(...)"
_WRITEBACK = "there are no change logs here; write with pq.dbconnect(...).update(...)"

REASONS = {
    "configure": "a script in its sandbox has its host; this is for programs outside of one",
    "sftpconnect": "scripts have no file transfer; call an HTTP API that has the file",
    "aiconnect": "there are no AI connections; call the provider's HTTP API",
    **dict.fromkeys(
        [
            "add_subaccount",
            "list_subaccounts",
            "get_subaccount",
            "get_subaccount_token",
            "get_subaccount_info",
            "get_subaccount_instance",
            "subaccount_materialize",
            "call_api",
            "find_resource",
            "update_connection",
            "update_connector",
            "send_connection_invite",
            "add_script",
            "get_script",
            "update_script",
        ],
        _ADMINISTRATION,
    ),
    **dict.fromkeys(
        [
            "discover_pipeline",
            "discover_object_schema",
            "run_pipeline",
            "full_resync",
            "get_connection_state",
            "set_connection_state",
            "get_connection_schema",
            "set_connection_schema",
            "refresh_connection",
            "refresh_database",
            "refresh_schema",
            "refresh_table",
            "get_refresh_connection_status",
            "get_refresh_database_status",
            "get_refresh_schema_status",
            "get_refresh_table_status",
            "get_pipeline_logs",
            "get_pipeline_run",
            "get_pipeline_runs",
            "replicate",
            "materialize",
        ],
        _PIPELINES,
    ),
    **dict.fromkeys(
        [
            "run_script",
            "stop_script_run",
            "get_script_run",
            "get_script_runs",
            "get_script_run_logs",
            "get_script_run_status",
        ],
        _RUNS,
    ),
    **dict.fromkeys(
        [
            "add_query",
            "upsert_query",
            "get_final_query",
            "generate_sql_union",
            "hide_table",
            "update_field",
            "update_table",
            "update_schema",
            "update_database",
            "get_or_create_schema",
            "delete_schema",
            "delete_table",
        ],
        _CATALOGUE,
    ),
    **dict.fromkeys(
        [
            "update_cell",
            "create_row",
            "update_row",
            "delete_row",
            "list_changes",
            "update_writeback_status",
        ],
        _WRITEBACK,
    ),
}


def refusal(name: str) -> object | None:
    """The function that refuses the call `name`; None if the Peliqan client has no such call either."""
    reason = REASONS.get(name) or (_RUNS if name.startswith("run_") else None)
    if reason is None:
        return None

    def refuse(*_args: object, **_kwargs: object) -> NoReturn:
        raise OperationNotSupported(f"pq.{name}() is not supported: {reason}")

    refuse.__name__ = name
    return refuse
