//! The control database.
//!
//! Owns: all control-plane SQL, one file per entity, and how the database file is opened and shared. Never: decides what
//! to do with what it stores.
//! Invariants: every statement that touches a tenant's rows filters by the tenant in SQL; a write that was acknowledged
//! survives `kill -9` and, but for the invocation log, a power failure; every change but of logs and usage, of scripts' state, of keys of
//! recordings and of when something was last used is one that [`Db::look_for_changes`] sees.
//!
//! It is an SQLite file or a database of a PostgreSQL server ([`ControlDatabase`]). SQL text is what both understand, and
//! only `connect` and the migrations know which it is. Several processes use it at once: the command line beside a running
//! host, and on a server, several hosts. Readers never wait. Changes take turns: on SQLite a transaction asks for the write
//! lock when it begins (`BEGIN IMMEDIATE`), on PostgreSQL it begins by locking the row of the change counter; both wait
//! [`BUSY_TIMEOUT`], so that none fails halfway because another process wrote.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sqlx::{Any, Connection as _};

pub use crate::db::error::DbError;
use crate::{
    db::{
        audit::AuditLog,
        cache::Changes,
        connect::{Connector, Pool, Purpose},
        connections::Connections,
        consumer_keys::ConsumerKeys,
        credentials::Credentials,
        drafts::Drafts,
        egress::Egress,
        endpoints::Endpoints,
        idempotency::Idempotency,
        invocations::Invocations,
        issuers::Issuers,
        members::Members,
        previews::Previews,
        recordings::Recordings,
        scripts::Scripts,
        sealed::Sealed,
        secrets::Secrets,
        signing_keys::SigningKeys,
        state::State,
        tenants::Tenants,
        tokens::Tokens,
        transfer::Transfer,
        usage::UsageLog,
        users::Users,
        uses::Uses,
        versions::Versions,
    },
    domain::{control_database::ControlDatabase, names::TenantId},
};

pub mod audit;
pub mod cache;
mod connect;
pub mod connections;
pub mod consumer_keys;
pub mod credentials;
pub mod drafts;
pub mod egress;
pub mod endpoints;
mod error;
pub mod idempotency;
pub mod invocations;
pub mod issuers;
mod json;
pub mod members;
pub mod migrations;
pub mod previews;
pub mod recordings;
pub mod scripts;
pub mod sealed;
pub mod secrets;
pub mod signing_keys;
pub mod state;
pub mod tenants;
#[cfg(test)]
mod tests;
pub mod tokens;
pub mod transfer;
pub mod usage;
pub mod users;
pub mod uses;
pub mod versions;

/// How long a statement waits for another process or task that writes.
///
/// SQLite's lock is not fair: who waits polls, up to 0.1 s apart. Beside a log that is written without any pause, a write
/// was seen to wait 2.2 s at worst; at 6,000 records a second, 0.1 s. Ten seconds leave room for a slow disk; after that
/// [`DbError::Busy`] is more useful than silence.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

type Tx = sqlx::Transaction<'static, Any>;

/// The control database; clones share its connections.
#[derive(Debug, Clone)]
pub struct Db {
    readers: Pool,
    /// What [`Self::for_control`] reads with.
    control_readers: Pool,
    writer: Pool,
    /// For scripts' state. On a server it is a pool of its own: those of [`Self::writer`] may all wait for the change counter's row.
    state_writer: Pool,
    log_writer: Pool,
    changes: Arc<Changes>,
    /// Who makes the changes, for the audit log.
    actor: Arc<str>,
}

/// The actor of changes that a command on this machine makes.
pub const LOCAL_ACTOR: &str = "local command";

impl Db {
    /// Opens the database, and brings its schema up to date. A file is created (mode 0600) when there is none.
    ///
    /// # Errors
    /// It cannot be used or reached, is no database of pqhost, or stays locked for [`BUSY_TIMEOUT`].
    pub async fn open(database: &ControlDatabase) -> Result<Self, DbError> {
        let connector = Connector::new(database)?;
        // Held until the end: changing into WAL mode and creating the schema are not made for several processes at once.
        let _opening = match database.clone() {
            ControlDatabase::File(path) => Some(
                tokio::task::spawn_blocking(move || connect::prepare_file(&path).map_err(|cause| (path, cause)))
                    .await
                    .expect("prepare_file does not panic")
                    .map_err(|(path, cause)| DbError::File { path, cause })?,
            ),
            ControlDatabase::Server(_) => None, // it has locks of its own
        };
        let open = |cause: sqlx::Error| DbError::open(database, cause);
        let mut first = connector.connect(Purpose::Migrating).await.map_err(open)?;
        migrations::apply(database, &mut first).await?;
        first.close().await.map_err(open)?;
        let writer = connector.pool(Purpose::Writing);
        Ok(Self {
            readers: connector.pool(Purpose::Reading),
            control_readers: connector.pool(Purpose::Showing),
            state_writer: if writer.is_server() { connector.pool(Purpose::Writing) } else { writer.clone() },
            writer,
            log_writer: connector.pool(Purpose::Logging),
            changes: Arc::new(Changes::new()),
            actor: LOCAL_ACTOR.into(),
        })
    }

    /// The same database, read by way of other connections: what the control API reads, however long that takes, keeps no invocation waiting.
    #[must_use]
    pub fn for_control(&self) -> Self {
        Self { readers: self.control_readers.clone(), ..self.clone() }
    }

    /// The same database; the audit log will say that `actor` made its changes.
    #[must_use]
    pub fn acting_as(&self, actor: &str) -> Self {
        Self { actor: actor.into(), ..self.clone() }
    }

    /// Who makes changes through this handle.
    #[must_use]
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// Users of the control API.
    #[must_use]
    pub fn users(&self) -> Users<'_> {
        Users(self)
    }

    /// What users may do in tenants.
    #[must_use]
    pub fn members(&self) -> Members<'_> {
        Members(self)
    }

    /// What the control API accepts.
    #[must_use]
    pub fn credentials(&self) -> Credentials<'_> {
        Credentials(self)
    }

    /// Who changed what.
    #[must_use]
    pub fn audit(&self) -> AuditLog<'_> {
        AuditLog(self)
    }

    /// Answers to requests that may be sent twice.
    #[must_use]
    pub fn idempotency(&self) -> Idempotency<'_> {
        Idempotency(self)
    }

    /// Drafts of scripts.
    #[must_use]
    pub fn drafts(&self) -> Drafts<'_> {
        Drafts(self)
    }

    /// Addresses of versions that are not served yet.
    #[must_use]
    pub fn previews(&self) -> Previews<'_> {
        Previews(self)
    }

    /// Keys of recordings.
    #[must_use]
    pub fn recordings(&self) -> Recordings<'_> {
        Recordings(self)
    }

    /// Tenants.
    #[must_use]
    pub fn tenants(&self) -> Tenants<'_> {
        Tenants(self)
    }

    /// Scripts.
    #[must_use]
    pub fn scripts(&self) -> Scripts<'_> {
        Scripts(self)
    }

    /// Versions of scripts.
    #[must_use]
    pub fn versions(&self) -> Versions<'_> {
        Versions(self)
    }

    /// Endpoints.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints<'_> {
        Endpoints(self)
    }

    /// Keys of consumers.
    #[must_use]
    pub fn consumer_keys(&self) -> ConsumerKeys<'_> {
        ConsumerKeys(self)
    }

    /// Tokens that were issued.
    #[must_use]
    pub fn tokens(&self) -> Tokens<'_> {
        Tokens(self)
    }

    /// Statements about uses of tokens and consumer keys.
    #[must_use]
    pub fn uses(&self) -> Uses<'_> {
        Uses(self)
    }

    /// Keys that sign tokens.
    #[must_use]
    pub fn signing_keys(&self) -> SigningKeys<'_> {
        SigningKeys(self)
    }

    /// Issuers whose tokens tenants accept.
    #[must_use]
    pub fn issuers(&self) -> Issuers<'_> {
        Issuers(self)
    }

    /// Connections to tenants' databases.
    #[must_use]
    pub fn connections(&self) -> Connections<'_> {
        Connections(self)
    }

    /// Hosts that tenants' scripts may call.
    #[must_use]
    pub fn egress(&self) -> Egress<'_> {
        Egress(self)
    }

    /// Secrets of scripts.
    #[must_use]
    pub fn secrets(&self) -> Secrets<'_> {
        Secrets(self)
    }

    /// Everything that the vault has sealed.
    #[must_use]
    pub fn sealed(&self) -> Sealed<'_> {
        Sealed(self)
    }

    /// Moving rows to another database.
    #[must_use]
    pub fn transfer(&self) -> Transfer<'_> {
        Transfer(self)
    }

    /// What scripts remember.
    #[must_use]
    pub fn state(&self) -> State<'_> {
        State(self)
    }

    /// The invocation log.
    #[must_use]
    pub fn invocations(&self) -> Invocations<'_> {
        Invocations(self)
    }

    /// What tenants used, and what is kept for them.
    #[must_use]
    pub fn usage(&self) -> UsageLog<'_> {
        UsageLog(self)
    }

    /// Closes all connections after their current statement; the last process to close also empties the write-ahead log.
    pub async fn close(&self) {
        let Self { readers, control_readers, writer, state_writer, log_writer, changes: _, actor: _ } = self;
        readers.close().await;
        control_readers.close().await;
        log_writer.close().await;
        state_writer.close().await;
        writer.close().await;
    }

    /// Begins a transaction that changes something, and notes in it who did what. Dropping it undoes everything.
    async fn begin_change(
        &self,
        tenant: impl Into<Option<TenantId>>,
        action: &str,
        target: &str,
    ) -> Result<Tx, DbError> {
        let tenant = tenant.into();
        let mut tx = self.begin_derived_change(tenant).await?;
        self.note_change(&mut tx, tenant, action, target).await?;
        Ok(tx)
    }

    /// The same for users and credentials of the control API, which are looked at in every request: hosts remember nothing of them.
    async fn begin_change_of_people(
        &self,
        tenant: Option<TenantId>,
        action: &str,
        target: &str,
    ) -> Result<Tx, DbError> {
        let mut tx = self.begin_derived_change(None).await?;
        self.attribute(&mut tx, None).await?;
        self.note_change(&mut tx, tenant, action, target).await?;
        Ok(tx)
    }

    /// Notes who did what, when only the transaction can tell what it was done to.
    async fn note_change(
        &self,
        tx: &mut Tx,
        tenant: impl Into<Option<TenantId>>,
        action: &str,
        target: &str,
    ) -> Result<(), DbError> {
        sqlx::query("INSERT INTO audit (tenant_id, actor, action, target, at_ms) VALUES ($1, $2, $3, $4, $5)")
            .bind(tenant.into().map(|tenant| tenant.0))
            .bind(&*self.actor)
            .bind(action)
            .bind(target)
            .bind(now_ms())
            .execute(&mut **tx)
            .await?;
        Ok(())
    }

    /// Begins a transaction that changes what follows from something else, so that nobody did it, or that calls [`Self::note_change`] itself.
    /// Without a tenant it concerns all of them, unless it calls [`Self::attribute`].
    ///
    /// The counter's row also makes such transactions take turns where the database itself would not (PostgreSQL).
    async fn begin_derived_change(&self, tenant: impl Into<Option<TenantId>>) -> Result<Tx, DbError> {
        let mut tx = self.writer.begin().await?;
        // Read from a row: `PRAGMA data_version` would be cheaper, but it also moves with each batch of the log.
        sqlx::query("UPDATE change SET counter = counter + 1 WHERE id = 1").execute(&mut *tx).await?;
        if let Some(tenant) = tenant.into() {
            self.attribute(&mut tx, Some(tenant)).await?;
        }
        Ok(tx)
    }

    /// Notes, once in a transaction, that its change concerns this tenant only, or without one, nothing that hosts remember.
    async fn attribute(&self, tx: &mut Tx, tenant: Option<TenantId>) -> Result<(), DbError> {
        sqlx::query("UPDATE change SET attributed = attributed + 1 WHERE id = 1").execute(&mut **tx).await?;
        let Some(tenant) = tenant else { return Ok(()) };
        sqlx::query(
            "INSERT INTO tenant_change (tenant_id, counter) SELECT $1, counter FROM change WHERE id = 1
             ON CONFLICT (tenant_id) DO UPDATE SET counter = excluded.counter",
        )
        .bind(tenant.0)
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    /// Begins a transaction that writes the invocation log.
    ///
    /// Such transactions take turns too, so that entries become visible in the order of their numbers: who follows the
    /// log would miss what is committed behind its back.
    async fn begin_log(&self) -> Result<Tx, DbError> {
        let mut tx = self.log_writer.begin().await?;
        if self.log_writer.is_server() {
            let lock = "SELECT pg_advisory_xact_lock('invocation'::regclass::oid::bigint)";
            sqlx::query(lock).execute(&mut *tx).await?;
        }
        Ok(tx)
    }
}

/// Now, in milliseconds since 1970, as the control database has times.
#[must_use]
pub fn now_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

/// Placeholders for rows: `($1, $2), ($3, $4)`.
fn placeholders(n_rows: usize, n_columns: usize) -> String {
    let row = |row: usize| {
        let row: Vec<_> = (1..=n_columns).map(|column| format!("${}", row * n_columns + column)).collect();
        format!("({})", row.join(", "))
    };
    (0..n_rows).map(row).collect::<Vec<_>>().join(", ")
}

/// For columns: SQL integers are signed. No count of ours comes near the limit.
fn to_column(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Back from [`to_column`].
fn from_column(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
