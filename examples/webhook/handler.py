"""Takes in a webhook, after checking that its sender knows the shared secret."""

import hashlib
import hmac

# Shared with the sender. For the example only: whoever reads the source knows it.
SECRET = b"demo-secret"


def handler(request):
    # The signature covers the exact bytes of the body, so nothing may parse and re-encode it first.
    expected = hmac.new(SECRET, request["body"], hashlib.sha256).hexdigest()
    given = request["headers"].get("X-Signature", "")
    if not hmac.compare_digest(expected, given.lower()):
        raise pq.HTTPError(401, "the signature in X-Signature does not match the body")

    event = request["json"]
    print("received", event)
    return {"accepted": True}, 202
