//! Scripts that are folders: modules, data, and packages.

use std::{fs, path::Path, process::Command};

use pqhost::{
    domain::{exchange::AuthMode, script::SourceFile},
    publish::PublishError,
};
use serde_json::{Value, json};

use crate::support::TestApp;

fn files(all: &[(&str, &str)]) -> Vec<SourceFile> {
    all.iter().map(|(name, text)| SourceFile { name: (*name).to_owned(), content: text.as_bytes().to_vec() }).collect()
}

/// Answers with what `expression` gives.
fn evaluating(expression: &str) -> String {
    format!("import importlib.resources, os, pathlib, pkgutil\ndef handler(request):\n    return [{expression}]\n")
}

/// Runs a command beside the host, which goes on meanwhile, as it may hold the same database; returns whether it succeeded, and what it said.
async fn pqhost(app: &TestApp, change: impl FnOnce(&mut Command) + Send, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pqhost"));
    command.arg("--data").arg(app.workspace.data.path()).args(arguments);
    change(&mut command);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (output.status.success(), text)
}

fn write(folder: &Path, all: &[(&str, &str)]) {
    for (name, text) in all {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

#[tokio::test]
async fn modules_and_data_of_a_folder_are_there() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    let data = [
        ("data/names.json", "[\"Ada\", \"Bôb\"]"),
        (
            "util.py",
            "import json\nVALUE = 'util'\ndef names():\n    with open('data/names.json') as f: return json.load(f)\n",
        ),
        ("lib/deep/part.py", "VALUE = 'namespace'\n"),
        ("pack/__init__.py", "from .inner import VALUE\nfrom . import other\n"),
        ("pack/inner.py", "VALUE = 'inner'\n"),
        ("pack/other.py", "import pathlib\nTEXT = (pathlib.Path(__file__).parent / 'text.txt').read_text()\n"),
        ("pack/text.txt", "text of pack\n"),
        ("pack/sub/bytes.bin", "\0\u{1}"),
        ("never_imported.py", "this is no Python"),
    ];
    for (index, (expression, expected)) in [
        ("__import__('util').VALUE, __import__('util').names()", json!(["util", ["Ada", "Bôb"]])),
        ("__import__('lib.deep.part').deep.part.VALUE", json!(["namespace"])),
        ("__import__('pack').VALUE, __import__('pack').other.TEXT", json!(["inner", "text of pack\n"])),
        ("open(os.path.join(os.path.dirname(__file__), 'pack', 'text.txt')).read()", json!(["text of pack\n"])),
        ("open(os.path.abspath('pack/sub/../text.txt'), 'rb').read().decode()", json!(["text of pack\n"])),
        ("[line for line in open(pathlib.Path('data') / 'names.json', encoding='utf-8')]", json!([["[\"Ada\", \"Bôb\"]"]])),
        ("pkgutil.get_data('pack', 'sub/bytes.bin') == b'\\x00\\x01'", json!([true])),
        ("importlib.resources.files('pack').joinpath('text.txt').read_text()", json!(["text of pack\n"])),
        (
            "sorted(p.name for p in importlib.resources.files('pack').iterdir())",
            json!([["__init__.py", "inner.py", "other.py", "sub", "text.txt"]]),
        ),
        (
            "[os.path.exists('data'), os.path.isdir('data'), os.path.isfile('util.py'), os.path.getsize('pack/sub/bytes.bin'), \
              os.path.exists('nope'), pathlib.Path('util.py').is_file(), os.listdir('data')]",
            json!([[true, true, true, 2, false, true, ["names.json"]]]),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("f{index}");
        let mut all = files(&[("handler.py", &evaluating(expression))]);
        all.extend(files(&data));
        app.try_publish_files(&acme, &name, all).await.unwrap();
        app.endpoint(&acme, "GET", &format!("/{name}"), &name, AuthMode::Public).await;
        let answer = app.get(&format!("/acme/{name}")).await;
        let record = app.invocation(&acme, answer.headers["x-request-id"].to_str().unwrap()).await;
        assert_eq!(answer.status, 200, "{expression}: {}", record.traceback.unwrap_or_default());
        assert_eq!(answer.json(), expected, "{expression}");
    }
    for (name, expression, told) in [
        ("w", "open('util.py', 'w')", "OSError: [Errno 69] the script's files are read-only"),
        ("n", "open('nope.txt')", "nope.txt"),
        ("b", "__import__('never_imported')", "File \"never_imported.py\", line 1"),
        ("m", "__import__('nope')", "No module named 'nope'"),
    ] {
        let mut all = files(&[("handler.py", &evaluating(expression))]);
        all.extend(files(&data));
        app.try_publish_files(&acme, name, all).await.unwrap();
        app.endpoint(&acme, "GET", &format!("/{name}"), name, AuthMode::Public).await;
        let answer = app.get(&format!("/acme/{name}")).await;
        let record = app.invocation(&acme, answer.headers["x-request-id"].to_str().unwrap()).await;
        let traceback = record.traceback.unwrap();
        assert!(traceback.contains(told), "{expression}: {traceback}");
        assert_eq!(answer.status, 500);
    }
    app.assert_rewound();
}

#[tokio::test]
async fn folders_that_are_not_sound_are_not_published() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    let handler = ("handler.py", "def handler(request): return 1");
    let refused = async |all: Vec<SourceFile>| match app.try_publish_files(&acme, "bad", all).await.unwrap_err() {
        PublishError::Rejected(failure) => failure.message,
        error => error.to_string(),
    };
    for (file, told) in [
        ("queue.py", "queue.py has the name of the module `queue`"),
        ("json/__init__.py", "the module `json`"),
        ("../x.py", "`../x.py` is no name of a script's file"),
        ("/x.py", "`/x.py` is no name of a script's file"),
        ("a\\x.py", "is no name of a script's file"),
    ] {
        let message = refused(files(&[handler, (file, "")])).await;
        assert!(message.contains(told), "{file}: {message}");
    }
    assert!(refused(files(&[handler, ("a.py", ""), ("a.py", "")])).await.contains("already a file `a.py`"));
    let many: Vec<_> = (0..4001).map(|n| SourceFile { name: format!("{n}.txt"), content: Vec::new() }).collect();
    assert!(refused(many).await.contains("4001 files"));
    // The largest script that there may be.
    let mut largest = files(&[("handler.py", "def handler(request): return [len(open('large.bin', 'rb').read())]")]);
    largest.push(SourceFile { name: "large.bin".to_owned(), content: vec![7; (16 << 20) - 100] });
    app.try_publish_files(&acme, "large", largest).await.unwrap();
    app.endpoint(&acme, "GET", "/large", "large", AuthMode::Public).await;
    assert_eq!(app.get("/acme/large").await.json(), json!([(16 << 20) - 100]));
}

const PACKAGES: [(&str, &str, &str); 9] = [
    (
        "attrs==26.1.0",
        "[a.x for a in [__import__('attr').make_class('A', ['x'])(x=5)]] + [__import__('importlib.metadata').metadata.version('attrs')]",
        "[5,\"26.1.0\"]",
    ),
    (
        "jinja2==3.1.6",
        "__import__('jinja2').Environment(autoescape=True, loader=__import__('jinja2').FileSystemLoader('templates')).get_template('a.html').render(name='<Ada>')",
        "\"Hello &lt;Ada&gt;!\"",
    ),
    (
        "pydantic==1.10.27",
        "__import__('pydantic').create_model('M', x=(int, ...), y=(list[str], []))(x='5', y=['a']).dict()",
        "{\"x\":5,\"y\":[\"a\"]}",
    ),
    ("markupsafe==3.0.4", "__import__('markupsafe').escape('<')", "\"&lt;\""),
    (
        "python-dateutil==2.9.0.post0",
        "str(__import__('dateutil.parser').parser.parse('1 Feb 2024') + __import__('dateutil.relativedelta').relativedelta.relativedelta(months=1))",
        "\"2024-03-01 00:00:00\"",
    ),
    ("pyyaml==6.0.3", "__import__('yaml').safe_load('a: [1, {b: 2.5}]')", "{\"a\":[1,{\"b\":2.5}]}"),
    (
        "tabulate==0.9.0",
        "__import__('tabulate').tabulate([[1, 'a']], headers=['n', 't'], tablefmt='github')",
        "\"|   n | t   |\\n|-----|-----|\\n|   1 | a   |\"",
    ),
    (
        "markdown==3.9",
        "__import__('markdown').markdown('# Hi *you*', extensions=['tables'])",
        "\"<h1>Hi <em>you</em></h1>\"",
    ),
    (
        "charset-normalizer==3.4.4",
        "__import__('charset_normalizer').from_bytes('grün'.encode()).best().encoding",
        "\"utf_8\"",
    ),
];

#[tokio::test]
async fn popular_pure_python_packages_run() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    let folder = tempfile::tempdir().unwrap();
    let requirements: String = PACKAGES.iter().map(|(requirement, ..)| format!("{requirement}\n")).collect();
    let cases: String = PACKAGES.iter().map(|(_, expression, _)| format!("        lambda: {expression},\n")).collect();
    let handler = format!("def handler(request):\n    return [case() for case in [\n{cases}    ]]\n");
    write(
        folder.path(),
        &[("handler.py", &handler), ("requirements.txt", &requirements), ("templates/a.html", "Hello {{ name }}!")],
    );
    let arguments = ["script", "publish", "acme", "pack", folder.path().to_str().unwrap()];
    let (done, told) = pqhost(&app, |_| (), &arguments).await;
    assert!(done, "{told}");
    assert!(told.contains("markupsafe 3.0.4") && told.contains("published `pack` version 1"), "{told}");
    app.endpoint(&acme, "GET", "/pack", "pack", AuthMode::Public).await;
    let answer = app.get("/acme/pack").await;
    let record = app.invocation(&acme, answer.headers["x-request-id"].to_str().unwrap()).await;
    assert_eq!(answer.status, 200, "{}", record.traceback.unwrap_or_default());
    let expected: Vec<Value> = PACKAGES.iter().map(|(.., json)| serde_json::from_str(json).unwrap()).collect();
    assert_eq!(answer.json(), Value::Array(expected));
    app.assert_rewound();
}

#[tokio::test]
async fn packages_that_cannot_be_had_are_named() {
    let app = TestApp::new().await;
    let folder = tempfile::tempdir().unwrap();
    let publish = async |requirement: &str, change: fn(&mut Command)| {
        let all = [("handler.py", "def handler(request): return 1"), ("requirements.txt", requirement)];
        write(folder.path(), &all);
        let arguments = ["script", "publish", "acme", "bad", folder.path().to_str().unwrap()];
        let (done, told) = pqhost(&app, change, &arguments).await;
        assert!(!done, "{told}");
        told
    };
    let told = publish("xxhash==3.6.0", |_| ()).await;
    assert!(told.contains("the package xxhash 3.6.0 has native code (xxhash/_xxhash"), "{told}");
    let told = publish("tabulate==0.0.0.dev1234", |_| ()).await;
    assert!(told.contains("pip cannot fetch the packages") && told.contains("tabulate==0.0.0.dev1234"), "{told}");
    let told = publish("tabulate==0.9.0", |command| _ = command.env("PATH", "/nonexistent")).await;
    assert!(told.contains("no python3 on the PATH"), "{told}");
    let scripts = app.workspace.db.scripts().list_scripts(app.acme().await.id).await.unwrap();
    assert_eq!(scripts, [], "nothing was stored");
}
