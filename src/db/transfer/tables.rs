//! What of each table is moved.

use crate::domain::names::TenantId;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::db) enum Kind {
    /// The row's id, which is another one where it is moved to.
    Id,
    /// The id of a row of this table, which was moved before.
    Of(&'static str),
    /// The id of a row of this table, which is moved after this row.
    Late(&'static str),
    /// The id of a row of this table, which may be gone: 0 then.
    Past(&'static str),
    /// A number.
    Integer,
    /// Text.
    Text,
    /// Bytes.
    Blob,
    /// Bytes that the vault has sealed for this row.
    Sealed,
}

/// Who needs a table's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::db) enum Part {
    /// Whoever serves the tenant.
    Tenant,
    /// Callers of the tenant, and who bills it: they know it by its name, so a copy under another name has none.
    Callers,
    /// People and programs that manage: they belong to their host.
    People,
    /// Readers of the invocation log.
    Log,
}

/// Which rows there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::db) enum Rows {
    /// Of the host, before all tenants.
    Host,
    /// Of each tenant.
    Tenant,
    /// Of each tenant, and after all tenants, those that belong to none.
    TenantAndHost,
}

/// A table that is moved.
#[derive(Debug)]
pub(in crate::db) struct Table {
    pub(in crate::db) name: &'static str,
    pub(in crate::db) part: Part,
    pub(in crate::db) rows: Rows,
    /// What finds a tenant's rows by an index, where that is not by `tenant_id`: a host may have 10,000 tenants.
    pub(in crate::db) found_by: &'static str,
    /// Rows are moved in this order.
    pub(in crate::db) order: &'static str,
    pub(in crate::db) columns: &'static [(&'static str, Kind)],
}

impl Table {
    /// SQL for a tenant's rows, or for those of no tenant. `$1` is the tenant, or 0.
    pub(in crate::db) fn select(&self, tenant: Option<TenantId>) -> String {
        let Self { name, part: _, rows, found_by, order, columns } = self;
        let columns: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
        let condition = match (tenant, rows) {
            (Some(_), _) if *name == "tenant" => "id = $1".to_owned(),
            (Some(_), _) => format!("tenant_id = $1{found_by}"),
            (None, Rows::TenantAndHost) => "tenant_id IS NULL AND $1 = 0".to_owned(),
            (None, Rows::Host | Rows::Tenant) => "$1 = 0".to_owned(),
        };
        format!("SELECT {} FROM {name} WHERE {condition} ORDER BY {order}", columns.join(", "))
    }
}

/// Tables that are not moved: answers to requests that are sent twice within a day, what counts changes, and what tells the
/// key of a host.
#[cfg(test)]
pub(in crate::db) const LEFT_OUT: [&str; 4] = ["idempotency", "change", "tenant_change", "vault_check"];

use Kind::{Blob, Id, Integer, Late, Of, Past, Sealed, Text};

const fn table(
    name: &'static str,
    part: Part,
    rows: Rows,
    order: &'static str,
    columns: &'static [(&'static str, Kind)],
) -> Table {
    Table { name, part, rows, found_by: found_by(name), order, columns }
}

const fn found_by(table: &str) -> &'static str {
    match table.as_bytes() {
        b"version_file" => " AND version_id IN (SELECT id FROM version WHERE tenant_id = $1)",
        b"consumer_key_endpoint" => " AND key_id IN (SELECT id FROM consumer_key WHERE tenant_id = $1)",
        b"token_endpoint" => " AND token_id IN (SELECT id FROM token WHERE tenant_id = $1)",
        b"script_draft" => " AND script_id IN (SELECT id FROM script WHERE tenant_id = $1)",
        _ => "",
    }
}

/// All tables, so that a row stands behind those that it refers to. A test compares them with the schema.
pub(in crate::db) const TABLES: &[Table] = &[
    table(
        "user_account",
        Part::People,
        Rows::Host,
        "id",
        &[("id", Id), ("email", Text), ("password_hash", Text), ("created_at_ms", Integer)],
    ),
    table(
        "tenant",
        Part::Tenant,
        Rows::Tenant,
        "id",
        &[
            ("id", Id),
            ("name", Text),
            ("default_connection_id", Late("connection")),
            ("created_at_ms", Integer),
            ("public_document", Integer),
            ("quotas", Text),
        ],
    ),
    table(
        "connection",
        Part::Tenant,
        Rows::Tenant,
        "id",
        &[
            ("id", Id),
            ("tenant_id", Of("tenant")),
            ("name", Text),
            ("revision", Integer),
            ("sealed_url", Sealed),
            ("created_at_ms", Integer),
            ("kind", Text),
            ("restricted", Integer),
        ],
    ),
    table(
        "egress_rule",
        Part::Tenant,
        Rows::Tenant,
        "id",
        &[("id", Id), ("tenant_id", Of("tenant")), ("rule", Text), ("created_at_ms", Integer)],
    ),
    table(
        "script",
        Part::Tenant,
        Rows::Tenant,
        "id",
        &[
            ("id", Id),
            ("tenant_id", Of("tenant")),
            ("name", Text),
            ("created_at_ms", Integer),
            ("live_version_id", Late("version")),
            ("previous_version_id", Late("version")),
        ],
    ),
    table(
        "version",
        Part::Tenant,
        Rows::Tenant,
        "id",
        &[
            ("id", Id),
            ("tenant_id", Of("tenant")),
            ("script_id", Of("script")),
            ("number", Integer),
            ("content_hash", Text),
            ("load_mode", Text),
            ("load_reason", Text),
            ("image_hash", Text),
            ("image_bytes", Integer),
            ("runtime_hash", Text),
            ("created_at_ms", Integer),
            ("author", Text),
            ("message", Text),
            ("source_bytes", Integer),
            ("purged_at_ms", Integer),
        ],
    ),
    table(
        "version_file",
        Part::Tenant,
        Rows::Tenant,
        "version_id, position",
        &[
            ("tenant_id", Of("tenant")),
            ("version_id", Of("version")),
            ("position", Integer),
            ("name", Text),
            ("content", Blob),
        ],
    ),
    table(
        "endpoint",
        Part::Tenant,
        Rows::Tenant,
        "id",
        &[
            ("id", Id),
            ("tenant_id", Of("tenant")),
            ("methods", Text),
            ("route", Text),
            ("script_id", Of("script")),
            ("auth", Text),
            ("created_at_ms", Integer),
            ("version_id", Of("version")),
            ("revision", Integer),
            ("record", Integer),
            ("source", Text),
            ("enabled", Integer),
            ("settings", Text),
        ],
    ),
    table(
        "script_state",
        Part::Tenant,
        Rows::Tenant,
        "script_id",
        &[
            ("tenant_id", Of("tenant")),
            ("script_id", Of("script")),
            ("value", Text),
            ("revision", Integer),
            ("updated_at_ms", Integer),
        ],
    ),
    table(
        "script_draft",
        Part::Tenant,
        Rows::Tenant,
        "script_id",
        &[
            ("tenant_id", Of("tenant")),
            ("script_id", Of("script")),
            ("files", Text),
            ("revision", Integer),
            ("updated_at_ms", Integer),
        ],
    ),
    table(
        "connection_grant",
        Part::Tenant,
        Rows::Tenant,
        "connection_id, script_id",
        &[("tenant_id", Of("tenant")), ("connection_id", Of("connection")), ("script_id", Of("script"))],
    ),
    table(
        "secret",
        Part::Tenant,
        Rows::Tenant,
        "id",
        &[
            ("id", Id),
            ("tenant_id", Of("tenant")),
            ("name", Text),
            ("sealed", Sealed),
            ("restricted", Integer),
            ("created_at_ms", Integer),
            ("updated_at_ms", Integer),
        ],
    ),
    table(
        "secret_grant",
        Part::Tenant,
        Rows::Tenant,
        "secret_id, script_id",
        &[("tenant_id", Of("tenant")), ("secret_id", Of("secret")), ("script_id", Of("script"))],
    ),
    table(
        "signing_key",
        Part::Callers,
        Rows::Tenant,
        "id",
        &[
            ("id", Id),
            ("tenant_id", Of("tenant")),
            ("kid", Text),
            ("sealed", Sealed),
            ("created_at_ms", Integer),
            ("algorithm", Text),
            ("public_key", Blob),
            ("verifies_until_ms", Integer),
        ],
    ),
    table(
        "issuer",
        Part::Callers,
        Rows::Tenant,
        "id",
        &[
            ("id", Id),
            ("tenant_id", Of("tenant")),
            ("issuer", Text),
            ("jwks_url", Text),
            ("audience", Text),
            ("created_at_ms", Integer),
            ("row_filters", Text),
        ],
    ),
    table(
        "token",
        Part::Callers,
        Rows::Tenant,
        "id",
        &[
            ("id", Text),
            ("tenant_id", Of("tenant")),
            ("name", Text),
            ("endpoint_route", Text),
            ("created_at_ms", Integer),
            ("expires_at_ms", Integer),
            ("revoked_at_ms", Integer),
            ("methods", Text),
            ("claims", Text),
            ("last_used_at_ms", Integer),
            ("row_filters", Text),
        ],
    ),
    table(
        "token_endpoint",
        Part::Callers,
        Rows::Tenant,
        "token_id, endpoint_id",
        &[("token_id", Text), ("tenant_id", Of("tenant")), ("endpoint_id", Of("endpoint"))],
    ),
    table(
        "consumer_key",
        Part::Callers,
        Rows::Tenant,
        "id",
        &[
            ("id", Text),
            ("tenant_id", Of("tenant")),
            ("name", Text),
            ("hash", Text),
            ("methods", Text),
            ("restricted", Integer),
            ("attributes", Text),
            ("row_filters", Text),
            ("rate_limit", Text),
            ("revision", Integer),
            ("created_at_ms", Integer),
            ("expires_at_ms", Integer),
            ("last_used_at_ms", Integer),
            ("revoked_at_ms", Integer),
        ],
    ),
    table(
        "consumer_key_endpoint",
        Part::Callers,
        Rows::Tenant,
        "key_id, endpoint_id",
        &[("key_id", Text), ("tenant_id", Of("tenant")), ("endpoint_id", Of("endpoint"))],
    ),
    table(
        "preview",
        Part::Callers,
        Rows::Tenant,
        "hash",
        &[
            ("hash", Text),
            ("tenant_id", Of("tenant")),
            ("version_id", Of("version")),
            ("created_at_ms", Integer),
            ("expires_at_ms", Integer),
        ],
    ),
    table(
        "member",
        Part::People,
        Rows::Tenant,
        "user_id",
        &[("tenant_id", Of("tenant")), ("user_id", Of("user_account")), ("role", Text), ("created_at_ms", Integer)],
    ),
    table(
        "credential",
        Part::People,
        Rows::TenantAndHost,
        "id",
        &[
            ("id", Text),
            ("kind", Text),
            ("user_id", Of("user_account")),
            ("tenant_id", Of("tenant")),
            ("role", Text),
            ("name", Text),
            ("hash", Text),
            ("created_at_ms", Integer),
            ("expires_at_ms", Integer),
            ("last_used_at_ms", Integer),
            ("revoked_at_ms", Integer),
        ],
    ),
    table(
        "audit",
        Part::People,
        Rows::TenantAndHost,
        "seq",
        &[
            ("seq", Id),
            ("tenant_id", Of("tenant")),
            ("actor", Text),
            ("action", Text),
            ("target", Text),
            ("at_ms", Integer),
        ],
    ),
    table(
        "tenant_usage",
        Part::Callers,
        Rows::Tenant,
        "day",
        &[
            ("tenant_id", Of("tenant")),
            ("day", Integer),
            ("requests", Integer),
            ("failed", Integer),
            ("refused", Integer),
            ("fuel", Integer),
            ("duration_us", Integer),
            ("row_count", Integer),
            ("answer_bytes", Integer),
        ],
    ),
    table(
        "recording_key",
        Part::Log,
        Rows::Tenant,
        "id",
        &[("id", Id), ("tenant_id", Of("tenant")), ("sealed", Sealed), ("created_at_ms", Integer)],
    ),
    table(
        "invocation",
        Part::Log,
        Rows::Tenant,
        "seq",
        &[
            ("seq", Id),
            ("tenant_id", Of("tenant")),
            ("id", Text),
            ("script_id", Past("script")),
            ("version_id", Past("version")),
            ("endpoint_id", Past("endpoint")),
            ("method", Text),
            ("path", Text),
            ("status", Integer),
            ("code", Text),
            ("started_at_ms", Integer),
            ("duration_us", Integer),
            ("fuel", Integer),
            ("dirty_pages", Integer),
            ("row_count", Integer),
            ("answer_bytes", Integer),
            ("log", Text),
            ("traceback", Text),
            ("rerun_of", Text),
            ("rerun_by", Text),
            ("recording_bytes", Integer),
            ("recording", Blob),
        ],
    ),
];
