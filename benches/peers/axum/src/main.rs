//! What pqhost is compared with: the same answers from axum and sqlx.
//!
//! Owns: nothing but what such a service needs: a pool, typed rows, prepared statements, which sqlx keeps per connection.

#![expect(clippy::disallowed_methods, reason = "a program of its own; the database's URL may hold a password")]

use std::{env, error::Error, fmt::Display, net::Ipv4Addr, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use serde::{Deserialize, Serialize, Serializer};
use sqlx::{AssertSqlSafe, FromRow, PgPool, SqlSafeStr as _, SqlStr, postgres::PgPoolOptions};
use tokio::net::TcpListener;
use uuid::Uuid;

/// As many as pqhost has to one database.
const CONNECTIONS: u32 = 8;

/// The statements, with the schema of this run in them.
#[derive(Debug)]
struct Statements {
    accounts: SqlStr,
    wide: SqlStr,
    insert: SqlStr,
}

#[derive(Debug, Clone)]
struct Peer {
    pool: PgPool,
    statements: Arc<Statements>,
}

#[derive(Debug, Serialize, FromRow)]
struct Wide {
    id: i64,
    quantity: i32,
    name: String,
    city: Option<String>,
    note: String,
    price: f64,
    active: bool,
    #[serde(serialize_with = "text")]
    day: NaiveDate,
    #[serde(serialize_with = "rfc3339")]
    updated_at: DateTime<Utc>,
    reference: Uuid,
}

#[derive(Debug, Serialize, FromRow)]
struct Account {
    id: i32,
    name: String,
    industry: Option<String>,
    revenue: Option<f64>,
    active: bool,
    #[serde(serialize_with = "iso8601")]
    created_at: NaiveDateTime,
}

#[derive(Debug, Deserialize)]
struct NewOrder {
    customer: String,
    quantity: i32,
    price: f64,
}

#[derive(Debug, Serialize, FromRow)]
struct Order {
    id: i64,
    customer: String,
    quantity: i32,
    price: f64,
    #[serde(serialize_with = "rfc3339")]
    created_at: DateTime<Utc>,
}

// chrono's own, without its feature `serde`, which pqhost does not use.
fn text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn rfc3339<S: Serializer>(moment: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&moment.to_rfc3339())
}

fn iso8601<S: Serializer>(moment: &NaiveDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&moment.format("%Y-%m-%dT%H:%M:%S"))
}

type Answer<T> = Result<Json<T>, (StatusCode, String)>;

fn failed(error: sqlx::Error) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

async fn list_wide(State(Peer { pool, statements }): State<Peer>) -> Answer<Vec<Wide>> {
    sqlx::query_as(statements.wide.clone()).fetch_all(&pool).await.map(Json).map_err(failed)
}

async fn list_accounts(State(Peer { pool, statements }): State<Peer>) -> Answer<Vec<Account>> {
    sqlx::query_as(statements.accounts.clone()).fetch_all(&pool).await.map(Json).map_err(failed)
}

async fn create_order(State(Peer { pool, statements }): State<Peer>, Json(new): Json<NewOrder>) -> Answer<Order> {
    let NewOrder { customer, quantity, price } = new;
    let insert = sqlx::query_as(statements.insert.clone()).bind(customer).bind(quantity).bind(price);
    insert.fetch_one(&pool).await.map(Json).map_err(failed)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = env::args().nth(1).ok_or("give a port")?.parse()?;
    // Made by the harness from characters that need no quoting.
    let schema = env::var("BENCH_SCHEMA")?;
    let statements = Statements {
        accounts: AssertSqlSafe(format!("SELECT * FROM {schema}.accounts ORDER BY id LIMIT 1000")).into_sql_str(),
        wide: AssertSqlSafe(format!("SELECT * FROM {schema}.wide")).into_sql_str(),
        insert: AssertSqlSafe(format!(
            "INSERT INTO {schema}.orders (customer, quantity, price) VALUES ($1, $2, $3) RETURNING *"
        ))
        .into_sql_str(),
    };
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(&env::var("BENCH_POSTGRES")?).await?;
    let router = Router::new()
        .route("/accounts", get(list_accounts))
        .route("/wide", get(list_wide))
        .route("/orders", post(create_order))
        .with_state(Peer { pool, statements: Arc::new(statements) });
    axum::serve(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?, router).await?;
    Ok(())
}
