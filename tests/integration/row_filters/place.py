"""Where an attempt is made, and all of them by name."""

import pq

ATTEMPTS = {}
DIALECTS = ("postgres", "mysql", "sqlite")


class Place:
    def __init__(self, dialect, schema, other):
        self.dialect, self.schema, self.other = dialect, schema, other
        self.db = pq.dbconnect("dw")
        mark = "`" if dialect == "mysql" else '"'
        self.orders = f"{mark}{schema}{mark}.{mark}orders{mark}"
        self.clients = f"{mark}{schema}{mark}.{mark}clients{mark}"
        self.view = f"{mark}{schema}{mark}.{mark}all_orders{mark}"
        self.elsewhere = f"{mark}{other}{mark}.{mark}orders{mark}"

    def fetch(self, *args, **kwargs):
        return list(self.db.fetch(*args, **kwargs))


def attempt(name, dialects=DIALECTS):
    def add(function):
        assert name not in ATTEMPTS, name
        ATTEMPTS[name] = (dialects, function)
        return function

    return add
