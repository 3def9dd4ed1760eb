"""Keeps incoming events in a table that grows with them."""

DB, SCHEMA, TABLE = "dw_2", "webhooks", "events"


def handler(request):
    event = request["json"]
    if not isinstance(event, dict) or not event.get("id"):
        raise pq.HTTPError(400, "the body must be a JSON object with an id")

    # Makes schema, table and columns as they are needed. An event that is delivered twice is kept once.
    pq.dbconnect(DB).write(SCHEMA, TABLE, event, pk="id")
    return {"stored": event["id"]}, 202
