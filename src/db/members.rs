//! What users may do in tenants.

use crate::{
    db::{Db, DbError, error::is_missing_reference, now_ms},
    domain::{
        names::{TenantId, TenantName, UserId},
        people::{Email, Role},
    },
};

/// A member of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub email: Email,
    /// What it may do.
    pub role: Role,
    /// Since when, in milliseconds since 1970.
    pub created_at_ms: i64,
}

/// Statements about members.
#[derive(Debug, Clone, Copy)]
pub struct Members<'a>(pub(super) &'a Db);

impl Members<'_> {
    /// Gives a user a role in the tenant, in place of the one it had.
    ///
    /// # Errors
    /// [`DbError::Unknown`] when there is no such tenant or user, [`DbError::LastOwner`] when it was the
    /// tenant's only owner, or the database fails.
    pub async fn set_member(self, tenant: TenantId, user: UserId, email: &Email, role: Role) -> Result<(), DbError> {
        let mut tx = self.0.begin_change(tenant, "set_member", &format!("{email} {role}")).await?;
        let before: Option<String> =
            sqlx::query_scalar("SELECT role FROM member WHERE tenant_id = $1 AND user_id = $2")
                .bind(tenant.0)
                .bind(user.0)
                .fetch_optional(&mut *tx)
                .await?;
        sqlx::query(
            "INSERT INTO member (tenant_id, user_id, role, created_at_ms) VALUES ($1, $2, $3, $4)
             ON CONFLICT (tenant_id, user_id) DO UPDATE SET role = excluded.role",
        )
        .bind(tenant.0)
        .bind(user.0)
        .bind(role.as_str())
        .bind(now_ms())
        .execute(&mut *tx)
        .await
        .map_err(|error| match is_missing_reference(&error) {
            true => DbError::Unknown { what: "user", id: user.0 },
            false => error.into(),
        })?;
        if before.as_deref() == Some(Role::Owner.as_str()) && role != Role::Owner {
            expect_owner(&mut tx, tenant).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Takes a user out of the tenant; `false` when it is no member.
    ///
    /// # Errors
    /// [`DbError::LastOwner`], or the database fails.
    pub async fn remove_member(self, tenant: TenantId, user: UserId, email: &Email) -> Result<bool, DbError> {
        let mut tx = self.0.begin_change(tenant, "remove_member", email.as_str()).await?;
        let role: Option<String> =
            sqlx::query_scalar("DELETE FROM member WHERE tenant_id = $1 AND user_id = $2 RETURNING role")
                .bind(tenant.0)
                .bind(user.0)
                .fetch_optional(&mut *tx)
                .await?;
        let Some(role) = role else { return Ok(false) };
        if role == Role::Owner.as_str() {
            expect_owner(&mut tx, tenant).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// The role of a user in the tenant.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_role(self, tenant: TenantId, user: UserId) -> Result<Option<Role>, DbError> {
        let role: Option<String> = sqlx::query_scalar("SELECT role FROM member WHERE tenant_id = $1 AND user_id = $2")
            .bind(tenant.0)
            .bind(user.0)
            .fetch_optional(&self.0.readers)
            .await?;
        role.map(|role| role.parse().map_err(|error| DbError::corrupt("role", error))).transpose()
    }

    /// The tenant's members by address, those behind `after` if given.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_members(self, tenant: TenantId, after: Option<&str>, limit: u32) -> Result<Vec<Member>, DbError> {
        sqlx::query_as::<_, (String, String, i64)>(
            "SELECT u.email, m.role, m.created_at_ms FROM member m JOIN user_account u ON u.id = m.user_id
             WHERE m.tenant_id = $1 AND u.email > $2 ORDER BY u.email LIMIT $3",
        )
        .bind(tenant.0)
        .bind(after.unwrap_or(""))
        .bind(i64::from(limit))
        .fetch_all(&self.0.readers)
        .await?
        .into_iter()
        .map(|(email, role, created_at_ms)| {
            Ok(Member {
                email: email.try_into().map_err(|error| DbError::corrupt("e-mail address", error))?,
                role: role.parse().map_err(|error| DbError::corrupt("role", error))?,
                created_at_ms,
            })
        })
        .collect()
    }

    /// The tenants of a user with its role in each, by name.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_tenants_of(self, user: UserId) -> Result<Vec<(TenantName, Role)>, DbError> {
        sqlx::query_as::<_, (String, String)>(
            "SELECT t.name, m.role FROM member m JOIN tenant t ON t.id = m.tenant_id WHERE m.user_id = $1 ORDER BY t.name",
        )
        .bind(user.0)
        .fetch_all(&self.0.readers)
        .await?
        .into_iter()
        .map(|(name, role)| {
            Ok((
                name.try_into().map_err(|error| DbError::corrupt("tenant name", error))?,
                role.parse().map_err(|error| DbError::corrupt("role", error))?,
            ))
        })
        .collect()
    }
}

/// Refuses to take away a tenant's last owner: no member could add one.
async fn expect_owner(tx: &mut crate::db::Tx, tenant: TenantId) -> Result<(), DbError> {
    let owners: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM member WHERE tenant_id = $1 AND role = 'owner'")
        .bind(tenant.0)
        .fetch_one(&mut **tx)
        .await?;
    if owners == 0 { Err(DbError::LastOwner) } else { Ok(()) }
}
