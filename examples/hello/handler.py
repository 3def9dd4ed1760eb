"""Says hello: the smallest useful handler."""


def handler(request):
    name = request["query"].get("name", "world")
    return {"hello": name, "path": request["path"]}
