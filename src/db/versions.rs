//! Versions of scripts: numbered from 1 without gaps, never changed but for what is derived from their source.

use std::{fmt, str::FromStr};

use sqlx::FromRow;

use crate::{
    db::{
        Db, DbError,
        error::{Unique, is_missing_reference},
        from_column, now_ms,
        scripts::Script,
        to_column,
    },
    domain::{
        names::{ScriptId, ScriptName, TenantId, VersionId},
        script::SourceFile,
    },
};

const FILE_NAME_TAKEN: Unique =
    Unique { name: "version_file_name_taken", columns: "version_file.version_id, version_file.name" };

/// How an invocation gets the script's module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadMode {
    /// Module-level code ran when the version was published: its image is mounted.
    Image,
    /// It observed the world, so it runs in each invocation.
    PerRequest,
}

impl LoadMode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::PerRequest => "per_request",
        }
    }
}

impl fmt::Display for LoadMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LoadMode {
    type Err = DbError;

    fn from_str(text: &str) -> Result<Self, DbError> {
        match text {
            "image" => Ok(Self::Image),
            "per_request" => Ok(Self::PerRequest),
            other => Err(DbError::corrupt("load mode", other)),
        }
    }
}

/// An image file, by what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRef {
    /// Hash of its content, in hexadecimal.
    pub hash: String,
    /// Its size.
    pub bytes: u64,
}

/// What publishing made of the source with one build of the runtime. Made again when the runtime is another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// How an invocation gets the module.
    pub mode: LoadMode,
    /// For the author: what made it [`LoadMode::PerRequest`], and where.
    pub reason: Option<String>,
    /// The image, if there is one.
    pub image: Option<ImageRef>,
    /// Hash of the runtime that made it, in hexadecimal.
    pub runtime_hash: String,
}

/// A version to be published.
#[derive(Debug, Clone)]
pub struct NewVersion {
    /// Whose version it will be.
    pub script: ScriptId,
    /// The script's name.
    pub script_name: ScriptName,
    /// The source; the first file defines `handler`.
    pub files: Vec<SourceFile>,
    /// BLAKE3 hash of the source, in hexadecimal.
    pub content_hash: String,
    /// What publishing made of it.
    pub loaded: Loaded,
    /// What its author says about it.
    pub message: String,
    /// Whether endpoints serve it at once, unless they name another version.
    pub promote: bool,
}

/// A published version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its id, unique over all tenants.
    pub id: VersionId,
    /// Whose version it is.
    pub script: ScriptId,
    /// 1 for the script's first version, then counting.
    pub number: i64,
    /// BLAKE3 hash of the source, in hexadecimal.
    pub content_hash: String,
    /// What publishing made of it.
    pub loaded: Loaded,
    /// Who published it.
    pub author: String,
    /// What its author says about it.
    pub message: String,
    /// When it was published, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// When its source was destroyed, in milliseconds since 1970.
    pub purged_at_ms: Option<i64>,
}

#[derive(FromRow)]
struct Row {
    id: i64,
    script_id: i64,
    number: i64,
    content_hash: String,
    load_mode: String,
    load_reason: Option<String>,
    image_hash: Option<String>,
    image_bytes: Option<i64>,
    runtime_hash: String,
    author: String,
    message: String,
    created_at_ms: i64,
    purged_at_ms: Option<i64>,
}

/// Selects [`Row`]s.
macro_rules! select {
    ($condition:literal) => {
        concat!(
            "SELECT id, script_id, number, content_hash, load_mode, load_reason, image_hash, image_bytes, runtime_hash,
                    author, message, created_at_ms, purged_at_ms
             FROM version ",
            $condition
        )
    };
}

/// Statements about versions.
#[derive(Debug, Clone, Copy)]
pub struct Versions<'a>(pub(super) &'a Db);

impl Versions<'_> {
    /// Publishes a version under the script's next number.
    ///
    /// # Errors
    /// [`DbError::Unknown`] when the tenant has no such script, [`DbError::NameTaken`] when two files have the same name,
    /// or the database fails.
    pub async fn insert_version(self, tenant: TenantId, new: NewVersion) -> Result<Version, DbError> {
        let NewVersion { script, script_name, files, content_hash, loaded, message, promote } = new;
        let author = self.0.actor().to_owned();
        let created_at_ms = now_ms();
        let mut tx = self.0.begin_change(tenant, "publish_version", script_name.as_str()).await?; // from here on nobody else can take the number
        let (id, number) = sqlx::query_as::<_, (i64, i64)>(
            "INSERT INTO version (tenant_id, script_id, number, content_hash, load_mode, load_reason, image_hash,
                                  image_bytes, runtime_hash, created_at_ms, author, message, source_bytes)
             VALUES ($1, $2, (SELECT COALESCE(MAX(number), 0) + 1 FROM version WHERE script_id = $2),
                     $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             RETURNING id, number",
        )
        .bind(tenant.0)
        .bind(script.0)
        .bind(&content_hash)
        .bind(loaded.mode.as_str())
        .bind(&loaded.reason)
        .bind(loaded.image.as_ref().map(|image| &image.hash))
        .bind(loaded.image.as_ref().map(|image| to_column(image.bytes)))
        .bind(&loaded.runtime_hash)
        .bind(created_at_ms)
        .bind(&author)
        .bind(&message)
        .bind(to_column(files.iter().map(|file| file.content.len() as u64).sum()))
        .fetch_one(&mut *tx)
        .await
        .map_err(|error| match is_missing_reference(&error) {
            true => DbError::Unknown { what: "script", id: script.0 },
            false => error.into(),
        })?;
        for (position, file) in files.into_iter().enumerate() {
            let SourceFile { name, content } = file;
            sqlx::query(
                "INSERT INTO version_file (tenant_id, version_id, position, name, content) VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(tenant.0)
            .bind(id)
            .bind(to_column(position as u64))
            .bind(&name)
            .bind(content)
            .execute(&mut *tx)
            .await
            .map_err(|error| match FILE_NAME_TAKEN.is_violated(&error) {
                true => DbError::NameTaken { what: "file", name },
                false => error.into(),
            })?;
        }
        if promote {
            sqlx::query(
                "UPDATE script SET previous_version_id = live_version_id, live_version_id = $3
                 WHERE tenant_id = $1 AND id = $2",
            )
            .bind(tenant.0)
            .bind(script.0)
            .bind(id)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(Version {
            id: VersionId(id),
            script,
            number,
            content_hash,
            loaded,
            author,
            message,
            created_at_ms,
            purged_at_ms: None,
        })
    }

    /// A version of the tenant.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_version(self, tenant: TenantId, version: VersionId) -> Result<Option<Version>, DbError> {
        sqlx::query_as::<_, Row>(select!("WHERE tenant_id = $1 AND id = $2"))
            .bind(tenant.0)
            .bind(version.0)
            .fetch_optional(&self.0.readers)
            .await?
            .map(Version::try_from)
            .transpose()
    }

    /// The source of a version; empty when the tenant has no such version.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_files(self, tenant: TenantId, version: VersionId) -> Result<Vec<SourceFile>, DbError> {
        let rows = sqlx::query_as::<_, (String, Vec<u8>)>(
            "SELECT name, content FROM version_file WHERE tenant_id = $1 AND version_id = $2 ORDER BY position",
        )
        .bind(tenant.0)
        .bind(version.0)
        .fetch_all(&self.0.readers)
        .await?;
        Ok(rows.into_iter().map(|(name, content)| SourceFile { name, content }).collect())
    }

    /// The version of a script with this number.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_version_numbered(
        self,
        tenant: TenantId,
        script: ScriptId,
        number: i64,
    ) -> Result<Option<Version>, DbError> {
        sqlx::query_as::<_, Row>(select!("WHERE tenant_id = $1 AND script_id = $2 AND number = $3"))
            .bind(tenant.0)
            .bind(script.0)
            .bind(number)
            .fetch_optional(&self.0.readers)
            .await?
            .map(Version::try_from)
            .transpose()
    }

    /// Versions of a script, newest first, below number `before` if given.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_versions(
        self,
        tenant: TenantId,
        script: ScriptId,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Version>, DbError> {
        sqlx::query_as::<_, Row>(select!(
            "WHERE tenant_id = $1 AND script_id = $2 AND number < $3 ORDER BY number DESC LIMIT $4"
        ))
        .bind(tenant.0)
        .bind(script.0)
        .bind(before.unwrap_or(i64::MAX))
        .bind(i64::from(limit))
        .fetch_all(&self.0.readers)
        .await?
        .into_iter()
        .map(Version::try_from)
        .collect()
    }

    /// Destroys the source of a version, and ends its previews. Its number, hash, author and message stay.
    ///
    /// # Errors
    /// [`DbError::InUse`] while endpoints serve it, [`DbError::Unknown`] when it is gone or was purged, or the database fails.
    pub async fn purge_version(self, tenant: TenantId, script: &Script, version: &Version) -> Result<(), DbError> {
        let name = format!("{} version {}", script.name, version.number);
        let mut tx = self.0.begin_change(tenant, "purge_version", &name).await?; // from here on nobody else can promote or pin it
        let in_use = |by: String| DbError::InUse { what: "version", name: name.clone(), by };
        let n_live: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM script WHERE tenant_id = $1 AND live_version_id = $2")
                .bind(tenant.0)
                .bind(version.id.0)
                .fetch_one(&mut *tx)
                .await?;
        if n_live > 0 {
            return Err(in_use("it is live".to_owned()));
        }
        let pinned: Option<(String, String)> = sqlx::query_as(
            "SELECT methods, route FROM endpoint WHERE tenant_id = $1 AND version_id = $2 ORDER BY route, methods LIMIT 1",
        )
        .bind(tenant.0)
        .bind(version.id.0)
        .fetch_optional(&mut *tx)
        .await?;
        if let Some((methods, route)) = pinned {
            return Err(in_use(format!("endpoint {methods} {route} is pinned to it")));
        }
        for sql in [
            "DELETE FROM preview WHERE tenant_id = $1 AND version_id = $2",
            "DELETE FROM version_file WHERE tenant_id = $1 AND version_id = $2",
            "UPDATE script SET previous_version_id = NULL WHERE tenant_id = $1 AND previous_version_id = $2",
        ] {
            sqlx::query(sql).bind(tenant.0).bind(version.id.0).execute(&mut *tx).await?;
        }
        let purged = sqlx::query(
            "UPDATE version SET purged_at_ms = $3, source_bytes = 0, image_hash = NULL, image_bytes = NULL
             WHERE tenant_id = $1 AND id = $2 AND purged_at_ms IS NULL",
        )
        .bind(tenant.0)
        .bind(version.id.0)
        .bind(now_ms())
        .execute(&mut *tx)
        .await?;
        if purged.rows_affected() == 0 {
            return Err(DbError::Unknown { what: "version", id: version.id.0 });
        }
        tx.commit().await?;
        Ok(())
    }

    /// Replaces what publishing made of a version, because the runtime is another one or the image file is gone.
    ///
    /// # Errors
    /// [`DbError::Unknown`] when the tenant has no such version or it was purged, or the database fails.
    pub async fn update_image(self, tenant: TenantId, version: VersionId, loaded: &Loaded) -> Result<(), DbError> {
        let Loaded { mode, reason, image, runtime_hash } = loaded;
        let mut tx = self.0.begin_derived_change(tenant).await?;
        let updated = sqlx::query(
            "UPDATE version SET load_mode = $3, load_reason = $4, image_hash = $5, image_bytes = $6, runtime_hash = $7
             WHERE tenant_id = $1 AND id = $2 AND purged_at_ms IS NULL",
        )
        .bind(tenant.0)
        .bind(version.0)
        .bind(mode.as_str())
        .bind(reason)
        .bind(image.as_ref().map(|image| &image.hash))
        .bind(image.as_ref().map(|image| to_column(image.bytes)))
        .bind(runtime_hash)
        .execute(&mut *tx)
        .await?;
        if updated.rows_affected() == 0 {
            return Err(DbError::Unknown { what: "version", id: version.0 });
        }
        tx.commit().await?;
        Ok(())
    }
}

impl TryFrom<Row> for Version {
    type Error = DbError;

    fn try_from(row: Row) -> Result<Self, DbError> {
        let image = row.image_hash.zip(row.image_bytes);
        Ok(Self {
            id: VersionId(row.id),
            script: ScriptId(row.script_id),
            number: row.number,
            content_hash: row.content_hash,
            loaded: Loaded {
                mode: row.load_mode.parse()?,
                reason: row.load_reason,
                image: image.map(|(hash, bytes)| ImageRef { hash, bytes: from_column(bytes) }),
                runtime_hash: row.runtime_hash,
            },
            author: row.author,
            message: row.message,
            created_at_ms: row.created_at_ms,
            purged_at_ms: row.purged_at_ms,
        })
    }
}
