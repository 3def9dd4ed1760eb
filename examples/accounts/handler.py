"""Returns rows of a table, all of them or those of one industry."""

from urllib.parse import parse_qs


def handler(request):
    import json

    industry = parse_qs(request["query_string"]).get("industry", [None])[0]
    if request["data"]:
        try:
            industry = json.loads(request["data"]).get("industry", industry)
        except (ValueError, AttributeError):
            raise pq.HTTPError(400, "the body must be a JSON object") from None

    dbconn = pq.dbconnect("dw_2")
    if industry is None:
        # Returned untouched, the rows stream from the database to the caller and never enter the sandbox.
        return dbconn.fetch("dw_2", "salesforce", "accounts")
    return dbconn.fetch("dw_2", "salesforce", "accounts", where={"industry": industry}, order_by="id")
