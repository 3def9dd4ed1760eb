//! Users of the control API.

use crate::{
    db::{Db, DbError, error::Unique, now_ms},
    domain::{names::UserId, people::Email},
};

const EMAIL_TAKEN: Unique = Unique { name: "user_account_email_taken", columns: "user_account.email" };

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Its address, by which it logs in.
    pub email: Email,
    /// Argon2id, in PHC format.
    pub password_hash: String,
    /// When it was created, in milliseconds since 1970.
    pub created_at_ms: i64,
}

type Row = (i64, String, String, i64);

/// Statements about users.
#[derive(Debug, Clone, Copy)]
pub struct Users<'a>(pub(super) &'a Db);

impl Users<'_> {
    /// Creates a user.
    ///
    /// # Errors
    /// [`DbError::NameTaken`], or the database fails.
    pub async fn create_user(self, email: &Email, password_hash: &str) -> Result<UserId, DbError> {
        let mut tx = self.0.begin_change_of_people(None, "create_user", email.as_str()).await?;
        let id = sqlx::query_scalar(
            "INSERT INTO user_account (email, password_hash, created_at_ms) VALUES ($1, $2, $3) RETURNING id",
        )
        .bind(email.as_str())
        .bind(password_hash)
        .bind(now_ms())
        .fetch_one(&mut *tx)
        .await
        .map_err(|error| match EMAIL_TAKEN.is_violated(&error) {
            true => DbError::NameTaken { what: "user", name: email.to_string() },
            false => error.into(),
        })?;
        tx.commit().await?;
        Ok(UserId(id))
    }

    /// The user of this address.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_user(self, email: &Email) -> Result<Option<User>, DbError> {
        sqlx::query_as::<_, Row>("SELECT id, email, password_hash, created_at_ms FROM user_account WHERE email = $1")
            .bind(email.as_str())
            .fetch_optional(&self.0.readers)
            .await?
            .map(user)
            .transpose()
    }

    /// Users by address, those behind `after` if given.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_users(self, after: Option<&str>, limit: u32) -> Result<Vec<User>, DbError> {
        sqlx::query_as::<_, Row>(
            "SELECT id, email, password_hash, created_at_ms FROM user_account WHERE email > $1 ORDER BY email LIMIT $2",
        )
        .bind(after.unwrap_or(""))
        .bind(i64::from(limit))
        .fetch_all(&self.0.readers)
        .await?
        .into_iter()
        .map(user)
        .collect()
    }

    /// Sets a new password, if the old one's hash is still `expected` (`None` for any), and ends the user's sessions and tokens: whoever
    /// knew the old one may have made them.
    ///
    /// # Errors
    /// [`DbError::Stale`] when it is not, [`DbError::Unknown`] when there is no such user, or the database fails.
    pub async fn set_password(
        self,
        user: UserId,
        email: &Email,
        password_hash: &str,
        expected: Option<&str>,
    ) -> Result<(), DbError> {
        let mut tx = self.0.begin_change_of_people(None, "set_password", email.as_str()).await?;
        let current: Option<String> = sqlx::query_scalar("SELECT password_hash FROM user_account WHERE id = $1")
            .bind(user.0)
            .fetch_optional(&mut *tx)
            .await?;
        let current = current.ok_or(DbError::Unknown { what: "user", id: user.0 })?;
        if expected.is_some_and(|expected| expected != current) {
            return Err(DbError::Stale);
        }
        sqlx::query("UPDATE user_account SET password_hash = $2 WHERE id = $1")
            .bind(user.0)
            .bind(password_hash)
            .execute(&mut *tx)
            .await?;
        sqlx::query("DELETE FROM credential WHERE user_id = $1").bind(user.0).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Deletes a user with its memberships and credentials; `false` when there is none.
    ///
    /// # Errors
    /// [`DbError::InUse`] when a tenant would lose its only owner, or the database fails.
    pub async fn delete_user(self, user: UserId, email: &Email) -> Result<bool, DbError> {
        let mut tx = self.0.begin_change_of_people(None, "delete_user", email.as_str()).await?;
        let owned: Option<String> = sqlx::query_scalar(
            "SELECT t.name FROM tenant t JOIN member m ON m.tenant_id = t.id
             WHERE m.user_id = $1 AND m.role = 'owner' AND NOT EXISTS (
                 SELECT 1 FROM member o WHERE o.tenant_id = t.id AND o.role = 'owner' AND o.user_id <> $1)
             ORDER BY t.name LIMIT 1",
        )
        .bind(user.0)
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(tenant) = owned {
            let by = format!("it is the only owner of tenant `{tenant}`; make somebody else its owner first");
            return Err(DbError::InUse { what: "user", name: email.to_string(), by });
        }
        for table in ["DELETE FROM credential WHERE user_id = $1", "DELETE FROM member WHERE user_id = $1"] {
            sqlx::query(table).bind(user.0).execute(&mut *tx).await?;
        }
        let deleted = sqlx::query("DELETE FROM user_account WHERE id = $1").bind(user.0).execute(&mut *tx).await?;
        if deleted.rows_affected() == 0 {
            return Ok(false);
        }
        tx.commit().await?;
        Ok(true)
    }
}

fn user((id, email, password_hash, created_at_ms): Row) -> Result<User, DbError> {
    Ok(User {
        id: UserId(id),
        email: email.try_into().map_err(|error| DbError::corrupt("e-mail address", error))?,
        password_hash,
        created_at_ms,
    })
}
