//! `pqhost demo`: a tenant with a table, four endpoints and a token.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt as _, path::Path};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    cli::{
        args::ListenArgs,
        client::{Client, in_tenant, is_missing},
        output::Output,
        serve::{self, Ready},
    },
    config::{Config, DataDir, make_private_folder},
    domain::{exchange::AuthMode, names::TenantName, script::MAIN_FILE},
};

const TENANT: &str = "demo";
const CONNECTION: &str = "dw_2";
/// Below the data directory's folder of SQLite connections.
const FOLDER: &str = "demo/dw_2";
const ROWS: u32 = 1000;

/// Script, method, authorization, source. The route is the script's name.
const EXAMPLES: [(&str, &str, AuthMode, &str); 3] = [
    ("hello", "GET", AuthMode::Jwt, include_str!("../../examples/hello/handler.py")),
    ("accounts", "GET,POST", AuthMode::Jwt, include_str!("../../examples/accounts/handler.py")),
    ("webhook", "POST", AuthMode::Public, include_str!("../../examples/webhook/handler.py")),
];

/// Route of the endpoint that serves the table without a script.
const TABLE_ROUTE: &str = "/table";

pub(super) async fn demo(data: DataDir, args: ListenArgs, output: Output) -> Result<()> {
    let mut config = Config::new(data);
    config.ingress = args.ingress;
    config.control = args.control;
    let ready = serve::start(config, output).await?;
    let client = Client::of_host(&ready.host);
    set_up(&client, &ready.host.workspace.data).await.context("setting up the demo")?;
    ready.admit_callers();
    announce(&ready, &client, output).await?;
    ready.serve().await
}

/// Makes what is not there yet, so that the demo can be started again on the same data.
async fn set_up(client: &Client, data: &DataDir) -> Result<()> {
    let tenant: TenantName = TENANT.parse()?;
    if let Err(error) = client.get(&in_tenant(&tenant, &[])).await {
        if !is_missing(&error) {
            return Err(error);
        }
        client.post("/tenants", &json!({ "name": TENANT })).await?;
    }
    let connections = in_tenant(&tenant, &["connections"]);
    if client.list(&connections).await?.is_empty() {
        let folder = data.sqlite().join(FOLDER);
        tokio::task::spawn_blocking(move || fill_table(&folder)).await??;
        client.post(&connections, &json!({ "name": CONNECTION, "url": format!("sqlite:{FOLDER}") })).await?;
    }
    let endpoints = client.list(&in_tenant(&tenant, &["endpoints"])).await?;
    let scripts = client.list(&in_tenant(&tenant, &["scripts"])).await?;
    for (script, methods, auth, source) in EXAMPLES {
        // A version of the source that this binary carries: an older demo's data gets the newer example.
        let versions = in_tenant(&tenant, &["scripts", script, "versions"]);
        let latest =
            scripts.iter().find(|known| known["name"] == script).and_then(|known| known["latest_version"].as_i64());
        let current = match latest {
            Some(number) => client.get(&format!("{versions}/{number}/files")).await?["files"][0]["text"].take(),
            None => Value::Null,
        };
        if current != source {
            client.post(&versions, &json!({ "files": [{ "name": MAIN_FILE, "text": source }] })).await?;
        }
        let route = format!("/{script}");
        if !endpoints.iter().any(|endpoint| endpoint["route"] == route.as_str()) {
            let endpoint = json!({ "methods": methods, "route": route, "script": script, "auth": auth });
            client.post(&in_tenant(&tenant, &["endpoints"]), &endpoint).await?;
        }
    }
    if !endpoints.iter().any(|endpoint| endpoint["route"] == TABLE_ROUTE) {
        let source = json!({ "connection": CONNECTION, "schema": "salesforce", "table": "accounts" });
        let endpoint = json!({ "methods": "GET", "route": TABLE_ROUTE, "source": source });
        client.post(&in_tenant(&tenant, &["endpoints"]), &endpoint).await?;
    }
    Ok(())
}

/// A schema `salesforce` with a table `accounts` of varied rows.
fn fill_table(folder: &Path) -> Result<()> {
    const INDUSTRIES: [&str; 6] = ["Retail", "Énergie", "Software", "建設", "Logistics", "Healthcare"];
    make_private_folder(folder)?;
    let file = folder.join("salesforce.db");
    // SQLite gives the files beside it the same mode.
    OpenOptions::new().create(true).append(true).mode(0o600).open(&file)?;
    let mut database = rusqlite::Connection::open(file)?;
    let transaction = database.transaction()?;
    transaction.execute_batch(
        "DROP TABLE IF EXISTS accounts;
         CREATE TABLE accounts (id INTEGER PRIMARY KEY, name TEXT NOT NULL, industry TEXT, revenue REAL,
                                active BOOLEAN NOT NULL, created_at TIMESTAMP NOT NULL)",
    )?;
    {
        let mut insert = transaction.prepare("INSERT INTO accounts VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        for id in 1..=ROWS {
            let industry = (id % 7 != 0).then(|| INDUSTRIES[id as usize % INDUSTRIES.len()]);
            let revenue = (id % 5 != 0).then(|| f64::from(id * 7919 % 1_000_003) / 100.0);
            let created = format!("2024-{:02}-{:02}T{:02}:{:02}:00", id % 12 + 1, id % 28 + 1, id % 24, id % 60);
            insert.execute((id, format!("Account {id}"), industry, revenue, id % 3 != 0, created))?;
        }
    }
    transaction.commit()?;
    Ok(())
}

async fn announce(ready: &Ready, client: &Client, output: Output) -> Result<()> {
    let token = json!({ "name": "pqhost demo", "expires_in": 30 * 86400 });
    let token = client.post(&format!("/tenants/{TENANT}/tokens"), &token).await?;
    let token = token["token"].as_str().context("the host gave no token")?;
    let ingress = ready.ingress_url();
    let url = |route: &str| format!("{ingress}/{TENANT}{route}");
    let mut endpoints: Vec<_> = EXAMPLES
        .iter()
        .map(|(script, methods, auth, _)| {
            let route = format!("/{script}");
            json!({ "method": methods, "route": route, "url": url(&route), "auth": auth, "script": script })
        })
        .collect();
    endpoints.push(json!({ "method": "GET", "route": TABLE_ROUTE, "url": url(TABLE_ROUTE), "auth": AuthMode::Jwt }));
    let sentence = format!(
        "pqhost demo is ready. Callers: {ingress}  Operators: {control}\n\n\
         TOKEN={token}\n\n\
         curl -H \"Authorization: JWT $TOKEN\" {hello}?name=you\n\
         curl -H \"Authorization: JWT $TOKEN\" {accounts}\n\
         curl -H \"Authorization: JWT $TOKEN\" '{accounts}?industry=Software'\n\
         curl -H \"Authorization: JWT $TOKEN\" '{table}?industry=eq.Software&order=-revenue&limit=3'\n\
         BODY='{{\"event\":\"paid\"}}'; curl -d \"$BODY\" -H \"X-Signature: $(printf %s \"$BODY\" | openssl dgst -sha256 -hmac demo-secret -r | cut -d' ' -f1)\" {webhook}\n\n\
         The scripts are in examples/. What they print: pqhost logs {TENANT} --data {data}\n\
         Stop with Ctrl-C.",
        control = ready.control_url(),
        hello = url("/hello"),
        accounts = url("/accounts"),
        table = url(TABLE_ROUTE),
        webhook = url("/webhook"),
        data = ready.host.workspace.data.path().display(),
    );
    output.done(
        &sentence,
        &json!({ "ingress": ingress, "control": ready.control_url(), "token": token, "endpoints": endpoints }),
    );
    Ok(())
}
