"""A hostile handler: ways to reach rows of others, one in each request. See `row_filters.rs`."""

import changes  # noqa: F401 - they add themselves
import reads  # noqa: F401
from place import ATTEMPTS, Place


def handler(request):
    query = request["query"]
    place = Place(query["dialect"], query["schema"], query["other"])
    if "attempt" not in query:
        return [name for name, (dialects, _) in ATTEMPTS.items() if place.dialect in dialects]
    try:
        result = ATTEMPTS[query["attempt"]][1](place)
        return str(result) if result is None or isinstance(result, int) else result
    except BaseException as error:
        return {"error": type(error).__name__, "code": getattr(error, "code", None), "text": str(error)[:2000]}
