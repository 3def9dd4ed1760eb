//! Who uses the control API: passwords, sessions and API tokens.
//!
//! Invariants: passwords are kept as Argon2id hashes, tokens as hashes of 32 random bytes; a wrong password and an unknown
//! address take the same time and look the same.

use std::time::Duration;

use argon2::{
    Argon2,
    password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString},
};
use tokio::sync::Semaphore;

use crate::{
    auth::throttle::Throttle,
    db::{
        self, Db, DbError,
        credentials::{Credential, Grounds, Holder, NewCredential},
        tenants::VisibleTenants,
        users::User,
    },
    domain::{
        client::ClientAddress,
        names::{TenantId, UserId},
        people::{Email, PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN, Role},
        secret::Secret,
    },
};

/// In front of every API token and session, so that people and scanners recognise a leaked one.
pub const TOKEN_PREFIX: &str = "pqh_";

/// Longest time an API token may be valid: a year, so that forgotten ones end.
pub const TOKEN_TIME_MAX: Duration = Duration::from_secs(366 * 86400);

/// How long somebody stays logged in.
pub const SESSION_TIME: Duration = Duration::from_secs(14 * 86400);

/// Passwords hashed at a time. Each takes 19 MiB and some 20 milliseconds of a core.
const HASHES_AT_ONCE: usize = 2;

const TOKEN_BYTES: usize = 32;

/// Why somebody is not let in, or a credential not made.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// Nothing was presented, or nothing that is valid here and now.
    #[error("no valid API token or session was sent")]
    Unauthenticated,
    /// The address or the password is wrong; nobody is told which.
    #[error("the e-mail address or the password is wrong")]
    WrongPassword,
    /// Too many wrong passwords.
    #[error("too many attempts to log in")]
    TooManyAttempts {
        /// When another one is looked at.
        retry_after: Duration,
    },
    /// The password may not be used.
    #[error("a password has {PASSWORD_CHARS_MIN} characters or more, and at most {PASSWORD_BYTES_MAX} bytes")]
    UnfitPassword,
    /// The lifetime is too long.
    #[error("a token is valid for at most 366 days")]
    LifetimeTooLong,
    /// The control database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// Hashing failed: a bug.
    #[error("hashing a password: {0}")]
    Hashing(String),
}

/// A credential whose text is shown once.
#[derive(Debug)]
pub struct IssuedCredential {
    /// To revoke it by.
    pub id: String,
    /// To be presented.
    pub text: Secret,
    /// Milliseconds since 1970.
    pub expires_at_ms: i64,
}

/// Who calls the control API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A command on the host's machine, which could as well change the files.
    Local,
    /// The bearer of a credential.
    Bearer(Credential),
}

impl Principal {
    /// Whether everything is allowed.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        match self {
            Self::Local => true,
            Self::Bearer(credential) => credential.holder == Holder::Operator,
        }
    }

    /// The user behind it, if there is one.
    #[must_use]
    pub fn user(&self) -> Option<(UserId, &Email)> {
        match self {
            Self::Bearer(Credential {
                holder: Holder::User { user, email } | Holder::Session { user, email }, ..
            }) => Some((*user, email)),
            Self::Local | Self::Bearer(_) => None,
        }
    }

    /// The tenants that it may know of.
    #[must_use]
    pub fn visible_tenants(&self) -> VisibleTenants {
        match self {
            Self::Local => VisibleTenants::All,
            Self::Bearer(credential) => match &credential.holder {
                Holder::Operator => VisibleTenants::All,
                Holder::Tenant { tenant, .. } => VisibleTenants::Only(*tenant),
                Holder::User { user, .. } | Holder::Session { user, .. } => VisibleTenants::Of(*user),
            },
        }
    }

    /// As the audit log names it.
    #[must_use]
    pub fn actor(&self) -> String {
        match self {
            Self::Local => db::LOCAL_ACTOR.to_owned(),
            Self::Bearer(Credential { id, name, holder, .. }) => match holder {
                Holder::User { email, .. } | Holder::Session { email, .. } => format!("user {email}"),
                Holder::Operator => format!("operator token {id} {name}").trim_end().to_owned(),
                Holder::Tenant { .. } => format!("API token {id} {name}").trim_end().to_owned(),
            },
        }
    }
}

/// Lets people and their programs in.
#[derive(Debug)]
pub struct People {
    db: Db,
    throttle: Throttle,
    hashing: Semaphore,
}

impl People {
    /// People who are kept in `db`.
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self { db, throttle: Throttle::new(), hashing: Semaphore::new(HASHES_AT_ONCE) }
    }

    /// Who presents this text.
    ///
    /// # Errors
    /// [`PeopleError::Unauthenticated`] when it is unknown, expired or revoked, or the database fails.
    pub async fn authenticate(&self, text: &str) -> Result<Principal, PeopleError> {
        if !text.starts_with(TOKEN_PREFIX) || text.len() > TOKEN_PREFIX.len() + 2 * TOKEN_BYTES {
            return Err(PeopleError::Unauthenticated);
        }
        let found = self.db.credentials().find_by_hash(&hash_of(text)).await?;
        let credential = valid(found)?;
        if let Err(error) = self.db.credentials().note_use(&credential).await {
            tracing::warn!(%error, "the use of a token cannot be noted"); // a full disk keeps nobody from looking
        }
        Ok(Principal::Bearer(credential))
    }

    /// The same principal, if its credential is still valid.
    ///
    /// # Errors
    /// [`PeopleError::Unauthenticated`] when it has expired or was revoked since, or the database fails.
    pub async fn renew(&self, principal: &Principal) -> Result<Principal, PeopleError> {
        let Principal::Bearer(credential) = principal else { return Ok(Principal::Local) };
        let found = self.db.credentials().find_by_id(&credential.id).await?;
        valid(found).map(Principal::Bearer)
    }

    /// What `principal` may do in a tenant; `None` for nothing.
    ///
    /// # Errors
    /// The database fails.
    pub async fn role_in(&self, principal: &Principal, tenant: TenantId) -> Result<Option<Role>, PeopleError> {
        let holder = match principal {
            Principal::Local => return Ok(Some(Role::Owner)),
            Principal::Bearer(credential) => &credential.holder,
        };
        Ok(match holder {
            Holder::Operator => Some(Role::Owner),
            Holder::Tenant { tenant: theirs, role } => (*theirs == tenant).then_some(*role),
            Holder::User { user, .. } | Holder::Session { user, .. } => {
                self.db.members().find_role(tenant, *user).await?
            }
        })
    }

    /// Begins a session, if the password is right.
    ///
    /// # Errors
    /// [`PeopleError::WrongPassword`], [`PeopleError::TooManyAttempts`], or the database fails.
    pub async fn log_in(
        &self,
        email: &Email,
        password: Secret,
        client: Option<ClientAddress>,
    ) -> Result<IssuedCredential, PeopleError> {
        let user = self.check_password(email, password, client).await?;
        self.begin_session(user).await
    }

    /// Begins a session of a user whose password was found right.
    async fn begin_session(&self, user: User) -> Result<IssuedCredential, PeopleError> {
        let User { id, email, password_hash, .. } = user;
        let db = self.db.acting_as(&format!("user {email}"));
        let holder = Holder::Session { user: id, email };
        let issued = issue(&db, holder, String::new(), SESSION_TIME, Grounds::Password(&password_hash)).await;
        // The password was right, and is not any more.
        issued.map_err(|error| if is_stale(&error) { PeopleError::WrongPassword } else { error })
    }

    /// The user of this address, if this is its password.
    ///
    /// # Errors
    /// [`PeopleError::WrongPassword`], [`PeopleError::TooManyAttempts`], or the database fails.
    pub async fn check_password(
        &self,
        email: &Email,
        password: Secret,
        client: Option<ClientAddress>,
    ) -> Result<User, PeopleError> {
        let attempt = self.throttle.attempt(email, client);
        let attempt = attempt.map_err(|retry_after| PeopleError::TooManyAttempts { retry_after })?;
        tokio::time::sleep(attempt.wait).await;
        let user = self.db.users().find_user(email).await?;
        // Without such a user the same work is done, so that time does not tell.
        let hash = user.as_ref().map_or_else(|| UNKNOWN_USER.to_owned(), |user| user.password_hash.clone());
        let is_right = self.hash(move || is_password(&password, &hash)).await??;
        let Some(user) = user.filter(|_| is_right) else { return Err(PeopleError::WrongPassword) };
        attempt.succeeded();
        Ok(user)
    }

    /// The hash of a new password.
    ///
    /// # Errors
    /// [`PeopleError::UnfitPassword`].
    pub async fn hash_password(&self, password: Secret) -> Result<String, PeopleError> {
        let is_fit = password.expose().len() <= PASSWORD_BYTES_MAX
            && password.expose_str().is_ok_and(|text| text.chars().count() >= PASSWORD_CHARS_MIN);
        if !is_fit {
            return Err(PeopleError::UnfitPassword);
        }
        self.hash(move || hash_password(&password)).await?
    }

    /// Makes a token; `db` tells who does.
    ///
    /// # Errors
    /// [`PeopleError::LifetimeTooLong`], [`PeopleError::Unauthenticated`] when its grounds are gone, or the database fails.
    pub async fn create_token(
        &self,
        db: &Db,
        holder: Holder,
        name: String,
        expires_in: Duration,
        grounds: Grounds<'_>,
    ) -> Result<IssuedCredential, PeopleError> {
        if expires_in > TOKEN_TIME_MAX {
            return Err(PeopleError::LifetimeTooLong);
        }
        let issued = issue(db, holder, name, expires_in, grounds).await;
        issued.map_err(|error| if is_stale(&error) { PeopleError::Unauthenticated } else { error })
    }

    /// Does the slow work of hashing beside the threads that serve, and not too much of it at once.
    async fn hash<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, PeopleError> {
        let _permit = self.hashing.acquire().await.expect("the semaphore is never closed");
        tokio::task::spawn_blocking(work).await.map_err(|error| PeopleError::Hashing(error.to_string()))
    }
}

fn valid(found: Option<Credential>) -> Result<Credential, PeopleError> {
    let is_valid =
        |credential: &Credential| credential.revoked_at_ms.is_none() && credential.expires_at_ms > db::now_ms();
    found.filter(is_valid).ok_or(PeopleError::Unauthenticated)
}

fn is_stale(error: &PeopleError) -> bool {
    matches!(error, PeopleError::Db(DbError::Stale))
}

async fn issue(
    db: &Db,
    holder: Holder,
    name: String,
    expires_in: Duration,
    grounds: Grounds<'_>,
) -> Result<IssuedCredential, PeopleError> {
    let mut bytes = [0_u8; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| PeopleError::Hashing(error.to_string()))?;
    let text = format!("{TOKEN_PREFIX}{}", hex::encode(bytes));
    let id = uuid::Uuid::now_v7().simple().to_string();
    let expires_at_ms = db::now_ms() + i64::try_from(expires_in.as_millis()).unwrap_or(i64::MAX / 2);
    let new = NewCredential { id: id.clone(), holder, name, hash: hash_of(&text), expires_at_ms };
    db.credentials().insert_credential(&new, grounds).await?;
    Ok(IssuedCredential { id, text: Secret::from(text), expires_at_ms })
}

/// Fast, unlike that of a password: nobody guesses 32 random bytes.
fn hash_of(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// A hash of nobody's password with the parameters of [`hash_password`].
const UNKNOWN_USER: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$7hYPdcJHbGmVlH4y0CxLXvjcPuXVcFz6FVKsVBkYqLc";

fn hash_password(password: &Secret) -> Result<String, PeopleError> {
    let mut salt = [0_u8; 16];
    getrandom::fill(&mut salt).map_err(|error| PeopleError::Hashing(error.to_string()))?;
    let failed = |error: argon2::password_hash::Error| PeopleError::Hashing(error.to_string());
    let salt = SaltString::encode_b64(&salt).map_err(failed)?;
    Ok(Argon2::default().hash_password(password.expose(), &salt).map_err(failed)?.to_string())
}

fn is_password(password: &Secret, hash: &str) -> Result<bool, PeopleError> {
    let hash = PasswordHash::new(hash).map_err(|error| PeopleError::Hashing(error.to_string()))?;
    Ok(Argon2::default().verify_password(password.expose(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::control_database::ControlDatabase;

    #[test]
    fn an_unknown_user_costs_what_a_known_one_costs() {
        let unknown = PasswordHash::new(UNKNOWN_USER).unwrap();
        let known = hash_password(&Secret::from("correct horse battery".to_owned())).unwrap();
        let known = PasswordHash::new(&known).unwrap();
        assert_eq!((unknown.algorithm, unknown.version), (known.algorithm, known.version));
        assert_eq!(unknown.params.to_string(), known.params.to_string());
        assert!(!is_password(&Secret::from(String::new()), UNKNOWN_USER).unwrap());
    }

    #[tokio::test]
    async fn sessions_and_tokens_are_known_by_their_text_until_they_end() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&ControlDatabase::File(dir.path().join("pqhost.db"))).await.unwrap();
        let people = People::new(db.clone());
        let email: Email = "ann@acme.example".parse().unwrap();
        let secret = |text: &str| Secret::from(text.to_owned());
        assert!(matches!(people.hash_password(secret("short")).await, Err(PeopleError::UnfitPassword)));
        let hash = people.hash_password(secret("correct horse battery")).await.unwrap();
        let user = db.users().create_user(&email, &hash).await.unwrap();

        let wrong = people.log_in(&email, secret("wrong horse battery"), None).await;
        assert!(matches!(wrong, Err(PeopleError::WrongPassword)), "{wrong:?}");
        let unknown = people.log_in(&"bob@acme.example".parse().unwrap(), secret("x"), None).await;
        assert!(matches!(unknown, Err(PeopleError::WrongPassword)), "{unknown:?}");
        let session = people.log_in(&email, secret("correct horse battery"), None).await.unwrap();
        let text = session.text.expose_str().unwrap();
        let principal = people.authenticate(text).await.unwrap();
        assert_eq!(principal.user(), Some((user, &email)));
        assert_eq!(principal.actor(), "user ann@acme.example");

        // A new password ends sessions and tokens.
        let holder = Holder::User { user, email: email.clone() };
        let create = |time, grounds| people.create_token(&db, holder.clone(), "ci".to_owned(), time, grounds);
        let token = create(Duration::from_secs(60), Grounds::None).await.unwrap();
        db.users().set_password(user, &email, &hash, None).await.unwrap();
        assert!(matches!(people.authenticate(text).await, Err(PeopleError::Unauthenticated)));
        let ended = people.authenticate(token.text.expose_str().unwrap()).await;
        assert!(matches!(ended, Err(PeopleError::Unauthenticated)), "{ended:?}");

        let expired = create(Duration::ZERO, Grounds::None).await.unwrap();
        for bad in ["", "pqh_", "pqh_00", &"pqh_0".repeat(100), expired.text.expose_str().unwrap()] {
            assert!(matches!(people.authenticate(bad).await, Err(PeopleError::Unauthenticated)), "{bad}");
        }
    }

    #[tokio::test]
    async fn who_is_faster_than_a_change_of_the_password_gets_nothing_by_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&ControlDatabase::File(dir.path().join("pqhost.db"))).await.unwrap();
        let people = People::new(db.clone());
        let email: Email = "ann@acme.example".parse().unwrap();
        let secret = |text: &str| Secret::from(text.to_owned());
        let (old, new) = ("correct horse battery", "another horse battery");
        let old_hash = people.hash_password(secret(old)).await.unwrap();
        let id = db.users().create_user(&email, &old_hash).await.unwrap();
        let session = people.log_in(&email, secret(old), None).await.unwrap();
        let principal = people.authenticate(session.text.expose_str().unwrap()).await.unwrap();

        // All three have been let in when the password changes.
        let user = people.check_password(&email, secret(old), None).await.unwrap();
        let new_hash = people.hash_password(secret(new)).await.unwrap();
        db.users().set_password(id, &email, &new_hash, Some(&old_hash)).await.unwrap();
        let late = people.begin_session(user).await;
        assert!(matches!(late, Err(PeopleError::WrongPassword)), "{late:?}");
        let (holder, grounds) = (Holder::User { user: id, email: email.clone() }, Grounds::Credential(&session.id));
        let late = people.create_token(&db, holder, String::new(), Duration::from_secs(60), grounds).await;
        assert!(matches!(late, Err(PeopleError::Unauthenticated)), "{late:?}");
        let late = db.users().set_password(id, &email, &old_hash, Some(&old_hash)).await;
        assert!(matches!(late, Err(DbError::Stale)), "{late:?}");
        let renewed = people.renew(&principal).await;
        assert!(matches!(renewed, Err(PeopleError::Unauthenticated)), "{renewed:?}");
        people.log_in(&email, secret(new), None).await.unwrap();
    }
}
