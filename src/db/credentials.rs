//! What the control API accepts: tokens and sessions, by the hash of their text.

use sqlx::FromRow;

use crate::{
    db::{Db, DbError, now_ms, uses::USE_STEP_MS},
    domain::{
        names::{TenantId, UserId},
        people::{Email, Role},
    },
};

/// Who a credential speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// The operator: everything.
    Operator,
    /// A program that may do what the role may, in one tenant.
    Tenant {
        /// Which.
        tenant: TenantId,
        /// What it may do.
        role: Role,
    },
    /// A user, by a token.
    User {
        /// Its id.
        user: UserId,
        /// Its address.
        email: Email,
    },
    /// A user who has logged in.
    Session {
        /// Its id.
        user: UserId,
        /// Its address.
        email: Email,
    },
}

/// A credential as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// To revoke it by.
    pub id: String,
    /// Who it speaks for.
    pub holder: Holder,
    /// What people call it.
    pub name: String,
    /// Milliseconds since 1970.
    pub created_at_ms: i64,
    /// Milliseconds since 1970.
    pub expires_at_ms: i64,
    /// Milliseconds since 1970, to the minute.
    pub last_used_at_ms: Option<i64>,
    /// Milliseconds since 1970; `None` while it is good.
    pub revoked_at_ms: Option<i64>,
}

/// A credential to be recorded before it is given out.
#[derive(Debug, Clone)]
pub struct NewCredential {
    /// Its id.
    pub id: String,
    /// Who it speaks for.
    pub holder: Holder,
    /// What people call it.
    pub name: String,
    /// Hash of its text, in hexadecimal.
    pub hash: String,
    /// Milliseconds since 1970.
    pub expires_at_ms: i64,
}

/// What must still be so when a credential is recorded. Hashing a password takes long enough for it to change.
#[derive(Debug, Clone, Copy)]
pub enum Grounds<'a> {
    /// Nothing.
    None,
    /// The user's password has this hash.
    Password(&'a str),
    /// The credential of this id, by which the user has asked for another one, is there.
    Credential(&'a str),
}

/// Which credentials to list.
#[derive(Debug, Clone, Copy)]
pub enum CredentialsOf {
    /// Operators' tokens.
    Operators,
    /// Tokens of a tenant.
    Tenant(TenantId),
    /// Tokens and sessions of a user.
    User(UserId),
}

#[derive(FromRow)]
struct Row {
    id: String,
    kind: String,
    user_id: Option<i64>,
    email: Option<String>,
    tenant_id: Option<i64>,
    role: Option<String>,
    name: String,
    created_at_ms: i64,
    expires_at_ms: i64,
    last_used_at_ms: Option<i64>,
    revoked_at_ms: Option<i64>,
}

/// Selects [`Row`]s of `credential c`; the rest begins with the user's `email`.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT c.id, c.kind, c.user_id, c.tenant_id, c.role, c.name, c.created_at_ms, c.expires_at_ms,
                    c.last_used_at_ms, c.revoked_at_ms, ",
            $rest
        )
    };
}

/// How long lists show tokens that are over, in milliseconds: who wonders why a program stopped finds the reason for a month.
pub(super) const TOKENS_SHOWN_MS: i64 = 30 * 86_400_000;

/// Statements about credentials.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'a>(pub(super) &'a Db);

impl Credentials<'_> {
    /// Records a credential.
    ///
    /// # Errors
    /// [`DbError::Stale`] when its grounds are gone, or the database fails.
    pub async fn insert_credential(self, new: &NewCredential, grounds: Grounds<'_>) -> Result<(), DbError> {
        let NewCredential { id, holder, name, hash, expires_at_ms } = new;
        let (kind, action, user, tenant, role) = match holder {
            Holder::Operator => ("operator", "create_operator_token", None, None, None),
            Holder::Tenant { tenant, role } => ("tenant", "create_api_token", None, Some(*tenant), Some(*role)),
            Holder::User { user, .. } => ("user", "create_api_token", Some(*user), None, None),
            Holder::Session { user, .. } => ("session", "log_in", Some(*user), None, None),
        };
        let target = match holder {
            Holder::Tenant { role, .. } => format!("{id} {name} ({role})"),
            Holder::Operator | Holder::User { .. } => format!("{id} {name}").trim_end().to_owned(),
            Holder::Session { email, .. } => format!("{id} {email}"),
        };
        let mut tx = self.0.begin_change_of_people(tenant, action, &target).await?;
        let user = user.map(|user| user.0);
        let ground = match grounds {
            Grounds::None => None,
            Grounds::Password(hash) => {
                Some(("SELECT COUNT(*) FROM user_account WHERE id = $1 AND password_hash = $2", hash))
            }
            Grounds::Credential(id) => {
                Some(("SELECT COUNT(*) FROM credential WHERE user_id = $1 AND id = $2 AND revoked_at_ms IS NULL", id))
            }
        };
        if let Some((sql, subject)) = ground {
            let found: i64 = sqlx::query_scalar(sql).bind(user).bind(subject).fetch_one(&mut *tx).await?;
            if found == 0 {
                return Err(DbError::Stale);
            }
        }
        sqlx::query(
            "INSERT INTO credential (id, kind, user_id, tenant_id, role, name, hash, created_at_ms, expires_at_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(id)
        .bind(kind)
        .bind(user)
        .bind(tenant.map(|tenant| tenant.0))
        .bind(role.map(Role::as_str))
        .bind(name)
        .bind(hash)
        .bind(now_ms())
        .bind(expires_at_ms)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// The credential whose text has this hash, revoked and expired ones too.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_by_hash(self, hash: &str) -> Result<Option<Credential>, DbError> {
        sqlx::query_as::<_, Row>(select!(
            "u.email FROM credential c LEFT JOIN user_account u ON u.id = c.user_id WHERE c.hash = $1"
        ))
        .bind(hash)
        .fetch_optional(&self.0.readers)
        .await?
        .map(Credential::try_from)
        .transpose()
    }

    /// The credential of this id, even if it is revoked or has expired.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_by_id(self, id: &str) -> Result<Option<Credential>, DbError> {
        sqlx::query_as::<_, Row>(select!(
            "u.email FROM credential c LEFT JOIN user_account u ON u.id = c.user_id WHERE c.id = $1"
        ))
        .bind(id)
        .fetch_optional(&self.0.readers)
        .await?
        .map(Credential::try_from)
        .transpose()
    }

    /// Notes that a credential was used, unless that was noted in the last minute.
    ///
    /// # Errors
    /// The database fails.
    pub async fn note_use(self, credential: &Credential) -> Result<(), DbError> {
        let now = now_ms();
        if credential.last_used_at_ms.is_some_and(|last| now - last < USE_STEP_MS) {
            return Ok(());
        }
        sqlx::query("UPDATE credential SET last_used_at_ms = $2 WHERE id = $1")
            .bind(&credential.id)
            .bind(now)
            .execute(&self.0.log_writer)
            .await?;
        Ok(())
    }

    /// Credentials by id, those behind `after` if given.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_credentials(
        self,
        of: CredentialsOf,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Credential>, DbError> {
        let (sql, id) = match of {
            CredentialsOf::Operators => (
                select!(
                    "NULL AS email FROM credential c
                     WHERE c.kind = 'operator' AND $1 = 0 AND c.id > $2 ORDER BY c.id LIMIT $3"
                ),
                0,
            ),
            CredentialsOf::Tenant(tenant) => (
                select!("NULL AS email FROM credential c WHERE c.tenant_id = $1 AND c.id > $2 ORDER BY c.id LIMIT $3"),
                tenant.0,
            ),
            CredentialsOf::User(user) => (
                select!(
                    "u.email FROM credential c JOIN user_account u ON u.id = c.user_id
                     WHERE c.user_id = $1 AND c.id > $2 ORDER BY c.id LIMIT $3"
                ),
                user.0,
            ),
        };
        sqlx::query_as::<_, Row>(sql)
            .bind(id)
            .bind(after.unwrap_or(""))
            .bind(i64::from(limit))
            .fetch_all(&self.0.readers)
            .await?
            .into_iter()
            .map(Credential::try_from)
            .collect()
    }

    /// Revokes a credential for ever; `false` when there is none of this id there. Revoking twice keeps the first time.
    ///
    /// # Errors
    /// The database fails.
    pub async fn revoke_credential(self, of: CredentialsOf, id: &str) -> Result<bool, DbError> {
        let (sql, tenant, owner) = match of {
            CredentialsOf::Operators => (
                "UPDATE credential SET revoked_at_ms = COALESCE(revoked_at_ms, $3)
                 WHERE id = $1 AND kind = 'operator' AND $2 = 0",
                None,
                0,
            ),
            CredentialsOf::Tenant(tenant) => (
                "UPDATE credential SET revoked_at_ms = COALESCE(revoked_at_ms, $3) WHERE id = $1 AND tenant_id = $2",
                Some(tenant),
                tenant.0,
            ),
            CredentialsOf::User(user) => (
                "UPDATE credential SET revoked_at_ms = COALESCE(revoked_at_ms, $3) WHERE id = $1 AND user_id = $2",
                None,
                user.0,
            ),
        };
        let mut tx = self.0.begin_change_of_people(tenant, "revoke_api_token", id).await?;
        let updated = sqlx::query(sql).bind(id).bind(owner).bind(now_ms()).execute(&mut *tx).await?;
        if updated.rows_affected() == 0 {
            return Ok(false);
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Deletes sessions that ended or expired before a time, and tokens that did so a month earlier, at most `delete_max` of both. Gives the
    /// number that were deleted.
    ///
    /// # Errors
    /// The database fails.
    pub async fn prune_expired(self, before_ms: i64, delete_max: u32) -> Result<u64, DbError> {
        let deleted = sqlx::query(
            "DELETE FROM credential WHERE id IN (
                 SELECT id FROM credential WHERE COALESCE(revoked_at_ms, expires_at_ms) < CASE kind WHEN 'session' THEN $1 ELSE $2 END
                 LIMIT $3)",
        )
        .bind(before_ms)
        .bind(before_ms - TOKENS_SHOWN_MS)
        .bind(i64::from(delete_max))
        .execute(&self.0.log_writer)
        .await?;
        Ok(deleted.rows_affected())
    }
}

impl TryFrom<Row> for Credential {
    type Error = DbError;

    fn try_from(row: Row) -> Result<Self, DbError> {
        let user = || -> Result<(UserId, Email), DbError> {
            let missing = || DbError::corrupt("credential", "it has no user");
            let email = row.email.clone().ok_or_else(missing)?;
            let email = email.try_into().map_err(|error| DbError::corrupt("e-mail address", error))?;
            Ok((UserId(row.user_id.ok_or_else(missing)?), email))
        };
        let holder = match (row.kind.as_str(), row.tenant_id, &row.role) {
            ("operator", _, _) => Holder::Operator,
            ("tenant", Some(tenant), Some(role)) => Holder::Tenant {
                tenant: TenantId(tenant),
                role: role.parse().map_err(|error| DbError::corrupt("role", error))?,
            },
            ("user", _, _) => user().map(|(user, email)| Holder::User { user, email })?,
            ("session", _, _) => user().map(|(user, email)| Holder::Session { user, email })?,
            (kind, _, _) => return Err(DbError::corrupt("credential", kind)),
        };
        Ok(Self {
            id: row.id,
            holder,
            name: row.name,
            created_at_ms: row.created_at_ms,
            expires_at_ms: row.expires_at_ms,
            last_used_at_ms: row.last_used_at_ms,
            revoked_at_ms: row.revoked_at_ms,
        })
    }
}
