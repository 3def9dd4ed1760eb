//! `pqhost demo`: a tenant with a table, three endpoints and a token.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::{
    auth::TokenRequest,
    cli::{
        args::ListenArgs,
        nouns,
        output::Output,
        serve::{self, Ready, data_dir},
    },
    config::Config,
    db::tenants::Tenant,
    domain::{exchange::AuthMode, names::TenantName, script::SourceFile},
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

pub(super) async fn demo(data: &Path, args: ListenArgs, output: Output) -> Result<()> {
    let mut config = Config::new(data_dir(data));
    config.ingress = args.ingress;
    config.control = args.control;
    let ready = serve::start(config, output).await?;
    let tenant = set_up(&ready).await.context("setting up the demo")?;
    ready.admit_callers();
    announce(&ready, &tenant, output).await?;
    ready.serve().await
}

/// Makes what is not there yet, so that the demo can be started again on the same data.
async fn set_up(ready: &Ready) -> Result<Tenant> {
    let workspace = &ready.host.workspace;
    let name: TenantName = TENANT.parse()?;
    if workspace.db.tenants().find_tenant(&name).await?.is_none() {
        workspace.db.tenants().create_tenant(&name).await?;
    }
    let tenant = nouns::find_tenant(workspace, &name).await?;
    if workspace.db.connections().find_connection(tenant.id, &CONNECTION.parse()?).await?.is_none() {
        let folder = workspace.data.sqlite().join(FOLDER);
        tokio::task::spawn_blocking(move || fill_table(&folder)).await??;
        nouns::create_connection(workspace, &tenant, &CONNECTION.parse()?, &format!("sqlite:{FOLDER}")).await?;
    }
    for (script, methods, auth, source) in EXAMPLES {
        let name = script.parse()?;
        // A version of the source that this binary carries: an older demo's data gets the newer example.
        let published =
            workspace.db.scripts().find_script(tenant.id, &name).await?.and_then(|script| script.latest_version);
        let current = match published {
            Some((version, _)) => workspace.db.versions().list_files(tenant.id, version).await?,
            None => Vec::new(),
        };
        if !current.iter().any(|file| file.content == source.as_bytes()) {
            let files = vec![SourceFile { name: "handler.py".to_owned(), content: source.as_bytes().to_vec() }];
            ready.host.guests.publisher.publish(tenant.id, &name, files).await?;
        }
        let route = format!("/{script}");
        let endpoints = workspace.db.endpoints().list_endpoints(tenant.id).await?;
        if !endpoints.iter().any(|endpoint| endpoint.route == route) {
            nouns::create_endpoint(workspace, &tenant, methods.parse()?, &route.parse()?, &name, auth).await?;
        }
    }
    ready.host.invoker.forget();
    nouns::find_tenant(workspace, &tenant.name).await
}

/// A schema `salesforce` with a table `accounts` of varied rows.
fn fill_table(folder: &Path) -> Result<()> {
    const INDUSTRIES: [&str; 6] = ["Retail", "Énergie", "Software", "建設", "Logistics", "Healthcare"];
    std::fs::create_dir_all(folder)?;
    let mut database = rusqlite::Connection::open(folder.join("salesforce.db"))?;
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

async fn announce(ready: &Ready, tenant: &Tenant, output: Output) -> Result<()> {
    let workspace = &ready.host.workspace;
    let request = TokenRequest {
        name: "pqhost demo".to_owned(),
        expires_in: Duration::from_secs(30 * 86400),
        endpoint_route: None,
    };
    let token = workspace.auth.create_token(tenant.id, &tenant.name, request).await?;
    let token = token.text.expose_str()?;
    let ingress = ready.ingress_url();
    let url = |route: &str| format!("{ingress}/{TENANT}{route}");
    let endpoints: Vec<_> = EXAMPLES
        .iter()
        .map(|(script, methods, auth, _)| {
            let route = format!("/{script}");
            json!({ "method": methods, "route": route, "url": url(&route), "auth": auth, "script": script })
        })
        .collect();
    let sentence = format!(
        "pqhost demo is ready. Callers: {ingress}  Operators: {control}\n\n\
         TOKEN={token}\n\n\
         curl -H \"Authorization: JWT $TOKEN\" {hello}?name=you\n\
         curl -H \"Authorization: JWT $TOKEN\" {accounts}\n\
         curl -H \"Authorization: JWT $TOKEN\" '{accounts}?industry=Software'\n\
         BODY='{{\"event\":\"paid\"}}'; curl -d \"$BODY\" -H \"X-Signature: $(printf %s \"$BODY\" | openssl dgst -sha256 -hmac demo-secret -r | cut -d' ' -f1)\" {webhook}\n\n\
         The scripts are in examples/. What they print: pqhost logs {TENANT} --data {data}\n\
         Stop with Ctrl-C.",
        control = ready.control_url(),
        hello = url("/hello"),
        accounts = url("/accounts"),
        webhook = url("/webhook"),
        data = workspace.data.path().display(),
    );
    output.done(
        &sentence,
        &json!({ "ingress": ingress, "control": ready.control_url(), "token": token, "endpoints": endpoints }),
    );
    Ok(())
}
