"""Looks up a contact in an API whose address and credentials the script never sees."""


def handler(request):
    crm = pq.connect("crm")
    contact = crm.get("contacts", request["query"].get("id", "7"))

    # What the API refuses does not raise: the script decides what it means for its own caller.
    if contact.get("status") == "error":
        missing = contact["detail"]["status_code"] == 404
        raise pq.HTTPError(404 if missing else 502, contact["detail"]["message"])
    return {"name": contact["name"]}
