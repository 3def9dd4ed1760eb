"""Partners see their own orders. Their tokens are kept, hashed, in a table of yours: see README.md."""

import hashlib
import hmac

DB = "dw_2"


def handler(request):
    # Step 2, once: pq.set_state({"secret": "a long random text"})
    # Step 3, once for each partner: add_new_token("ada", "the token that Ada will send")
    partner = partner_of(request["headers"].get("Authorization", ""))
    if partner is None:
        raise pq.HTTPError(401, "send your token in the field Authorization", {"WWW-Authenticate": "Token"})
    return pq.dbconnect(DB).fetch(DB, "sales", "orders", where={"partner": partner}, order_by="id")


def partner_of(token):
    """Step 5: whose token it is, or None."""
    keys = pq.dbconnect(DB).fetch(DB, "tokens", "api_keys", where={"token": hashed(token)}, limit=1)
    return keys[0]["id"] if keys else None


def add_new_token(partner, token):
    pq.dbconnect(DB).insert(DB, "tokens", "api_keys", {"id": partner, "token": hashed(token)})


def hashed(token):
    """What is kept of a token: whoever reads the table, but not the script's state, can neither use nor guess it."""
    secret = pq.get_state()["secret"]
    return hmac.new(secret.encode(), token.encode(), hashlib.sha256).hexdigest()
