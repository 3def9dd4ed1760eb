"""A REST API over one table: lists, reads, creates, changes and deletes contacts."""

from peliqan.exceptions import PeliqanClientException

DB, SCHEMA, TABLE = "dw_2", "crm", "contacts"
FIELDS = {"id": "integer", "name": "text", "email": "text", "tags": "json"}
STATUSES = {
    "ERROR_ROW_DOES_NOT_EXIST": 404,
    "ERROR_CONSTRAINT_VIOLATED": 409,
    "ERROR_COLUMN_DOES_NOT_EXIST": 400,
    "ERROR_INVALID_ARGUMENT": 400,
}


def handler(request):
    dbconn = pq.dbconnect(DB)
    try:
        try:
            return answer(dbconn, request)
        except PeliqanClientException as error:
            if error.code not in ("ERROR_SCHEMA_DOES_NOT_EXIST", "ERROR_TABLE_DOES_NOT_EXIST"):
                raise
            # The first request ever: make the table and try again.
            dbconn.create_schema(DB, SCHEMA)
            dbconn.create_table(DB, SCHEMA, TABLE, FIELDS, pk="id")
            return answer(dbconn, request)
    except PeliqanClientException as error:
        raise pq.HTTPError(STATUSES.get(error.code, 500), error.message) from None


def answer(dbconn, request):
    contact = request["path_params"].get("id")
    match request["method"], contact:
        case "GET", None:
            return dbconn.fetch(DB, SCHEMA, TABLE, order_by="id", limit=100)
        case "GET", _:
            rows = dbconn.fetch(DB, SCHEMA, TABLE, where={"id": contact})
            if not rows:
                raise pq.HTTPError(404, f"there is no contact {contact}")
            return rows[0]
        case "POST", None:
            return dbconn.insert(DB, SCHEMA, TABLE, body(request))["detail"], 201
        case "PUT", str():
            return dbconn.upsert(DB, SCHEMA, TABLE, contact, body(request))["detail"]
        case "PATCH", str():
            return dbconn.update(DB, SCHEMA, TABLE, contact, body(request))["detail"]
        case "DELETE", str():
            dbconn.delete(DB, SCHEMA, TABLE, contact)
            return None
    raise pq.HTTPError(405, f"{request['method']} is not possible here")


def body(request):
    if not isinstance(request["json"], dict):
        raise pq.HTTPError(400, "the body must be a JSON object")
    return request["json"]
