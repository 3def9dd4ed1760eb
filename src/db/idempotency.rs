//! Answers to requests that may be sent twice.

use crate::db::{Db, DbError, error::Unique, now_ms};

const KEY_TAKEN: Unique = Unique { name: "idempotency_key_taken", columns: "idempotency.key_hash" };

/// How long an answer is kept, in milliseconds: a day, longer than programs retry.
const KEPT_MS: i64 = 24 * 3600 * 1000;

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remembered {
    /// Nothing: the request may run now, and nobody else may with this key.
    Fresh,
    /// The request ran.
    Answered {
        /// Hash of the request that ran.
        request_hash: String,
        /// Status of its answer.
        status: i64,
        /// The answer; absent when it held a secret.
        body: Option<Vec<u8>>,
    },
    /// It runs, or the host died while it ran.
    Unfinished,
}

/// Statements about remembered answers.
#[derive(Debug, Clone, Copy)]
pub struct Idempotency<'a>(pub(super) &'a Db);

impl Idempotency<'_> {
    /// Takes a key for a request, unless it is taken.
    ///
    /// # Errors
    /// The database fails.
    pub async fn begin(self, key_hash: &str, request_hash: &str) -> Result<Remembered, DbError> {
        let inserted =
            sqlx::query("INSERT INTO idempotency (key_hash, request_hash, created_at_ms) VALUES ($1, $2, $3)")
                .bind(key_hash)
                .bind(request_hash)
                .bind(now_ms())
                .execute(&self.0.writer)
                .await;
        match inserted {
            Ok(_) => return Ok(Remembered::Fresh),
            Err(error) if KEY_TAKEN.is_violated(&error) => {}
            Err(error) => return Err(error.into()),
        }
        let row = sqlx::query_as::<_, (String, Option<i64>, Option<Vec<u8>>)>(
            "SELECT request_hash, status, body FROM idempotency WHERE key_hash = $1",
        )
        .bind(key_hash)
        .fetch_optional(&self.0.readers)
        .await?;
        Ok(match row {
            Some((request_hash, Some(status), body)) => Remembered::Answered { request_hash, status, body },
            Some((_, None, _)) | None => Remembered::Unfinished,
        })
    }

    /// Keeps the answer, without its body if that holds a secret.
    ///
    /// # Errors
    /// The database fails.
    pub async fn finish(self, key_hash: &str, status: u16, body: Option<&[u8]>) -> Result<(), DbError> {
        sqlx::query("UPDATE idempotency SET status = $2, body = $3 WHERE key_hash = $1")
            .bind(key_hash)
            .bind(i64::from(status))
            .bind(body)
            .execute(&self.0.writer)
            .await?;
        Ok(())
    }

    /// Forgets keys that were taken a day before a time, at most `delete_max`. Gives the number that were forgotten.
    ///
    /// # Errors
    /// The database fails.
    pub async fn prune_expired(self, before_ms: i64, delete_max: u32) -> Result<u64, DbError> {
        let deleted = sqlx::query(
            "DELETE FROM idempotency WHERE id IN (SELECT id FROM idempotency WHERE created_at_ms < $1 LIMIT $2)",
        )
        .bind(before_ms - KEPT_MS)
        .bind(i64::from(delete_max))
        .execute(&self.0.log_writer)
        .await?;
        Ok(deleted.rows_affected())
    }

    /// Forgets a key, because its request changed nothing.
    ///
    /// # Errors
    /// The database fails.
    pub async fn forget(self, key_hash: &str) -> Result<(), DbError> {
        sqlx::query("DELETE FROM idempotency WHERE key_hash = $1").bind(key_hash).execute(&self.0.writer).await?;
        Ok(())
    }
}
