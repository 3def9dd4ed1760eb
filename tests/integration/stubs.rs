//! The types of `pq` that editors are told are those of `pq`.

use std::path::Path;

use pqhost::domain::{exchange::AuthMode, script::SourceFile};
use serde_json::json;

use crate::support::TestApp;

/// Compares names and parameters of the stub, read from the script's own files, with the real module.
const COMPARE: &str = r#"
import ast, inspect, sys

def of_stub(node):
    a = node.args
    positional = a.posonlyargs + a.args
    n_required = len(positional) - len(a.defaults)
    found = [(p.arg, index >= n_required) for index, p in enumerate(positional)]
    found += [("*", True)] * (a.vararg is not None)
    found += [(p.arg, default is not None) for p, default in zip(a.kwonlyargs, a.kw_defaults)]
    return found + [("**", True)] * (a.kwarg is not None)

def of_runtime(function):
    found = []
    for p in inspect.signature(function).parameters.values():
        name = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, p.name)
        found.append((name, name in ("*", "**") or p.default is not p.empty))
    return found

def only_refuses(function):
    return of_runtime(function) == [("*", True), ("**", True)]

def compare_class(node, cls):
    stub = {n.name: n for n in node.body if isinstance(n, ast.FunctionDef)}
    for name in dir(cls):
        method = getattr(cls, name)
        if not name.startswith("_") and inspect.isfunction(method) and name not in stub:
            yield f"{cls.__name__}.{name} is missing in the stub"
    for name, function in stub.items():
        if name == "__exit__":
            continue
        method = getattr(cls, name, None)
        if method is None:
            if not hasattr(cls("x"), name):
                yield f"{cls.__name__}.{name} is in the stub only"
        elif of_stub(function) != of_runtime(method):
            yield f"{cls.__name__}.{name}: {of_stub(function)} is {of_runtime(method)}"

def problems():
    tree = ast.parse(open("stub.pyi").read())
    functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    classes = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef)}
    values = {n.target.id for n in tree.body if isinstance(n, ast.AnnAssign)}
    for name in pq.__all__:
        if name not in functions and name not in classes:
            yield f"pq.{name} is missing in the stub"
    for name, function in functions.items():
        real = getattr(pq, name, None)
        if real is None:
            yield f"pq.{name} is in the stub only"
        elif not only_refuses(real) and of_stub(function) != of_runtime(real):
            yield f"pq.{name}: {of_stub(function)} is {of_runtime(real)}"
    for name in ("DW_NAME", "DW_ID", "INTERFACE_ID"):
        if name not in values or not hasattr(pq, name):
            yield name
    modules = [module for key, module in sys.modules.items() if key == "pq" or key.startswith("pq.")]
    for name, node in classes.items():
        if name == "Rows":
            continue  # it says that it is a list
        for cls in [vars(module)[name] for module in modules if name in vars(module)][:1]:
            yield from compare_class(node, cls)

def handler(request):
    return list(problems())
"#;

#[tokio::test]
async fn the_stub_of_pq_has_its_names_and_parameters() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    let stub = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-sdk/python/stubs/pq/__init__.pyi");
    let stub = std::fs::read_to_string(stub).unwrap();
    for (name, stub, expected) in [
        ("same", stub.clone(), json!([])),
        (
            "other",
            stub.replace("def get_secret(connection: str)", "def get_secret(name: str)")
                .replace("def set_state(", "def put_state("),
            json!([
                "pq.set_state is missing in the stub",
                "pq.put_state is in the stub only",
                "pq.get_secret: [('name', False)] is [('connection', False)]",
            ]),
        ),
    ] {
        let file = |name: &str, text: &str| SourceFile { name: name.to_owned(), content: text.as_bytes().to_vec() };
        let files = vec![file("handler.py", COMPARE), file("stub.pyi", &stub)];
        app.try_publish_files(&acme, name, files).await.unwrap();
        app.endpoint(&acme, "GET", &format!("/{name}"), name, AuthMode::Public).await;
        let answer = app.get(&format!("/acme/{name}")).await;
        let record = app.invocation(&acme, answer.headers["x-request-id"].to_str().unwrap()).await;
        assert_eq!(answer.status, 200, "{}", record.traceback.unwrap_or_default());
        assert_eq!(answer.json(), expected);
    }
}
