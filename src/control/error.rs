//! Errors of the layers below as errors of the API.

use crate::{
    app::StartError,
    auth::{AuthError, people::PeopleError},
    db::DbError,
    problem::api::ApiError,
    publish::PublishError,
    vault::VaultError,
};

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::NameTaken { .. } => Self::NameTaken(error.to_string()),
            DbError::RouteTaken(_) => Self::RouteTaken(error.to_string()),
            DbError::InUse { .. } => Self::InUse(error.to_string()),
            DbError::LastOwner => Self::InUse(error.to_string()),
            DbError::QuotaUsedUp(quota) => Self::QuotaUsedUp(quota),
            DbError::Stale => Self::Stale,
            DbError::Unknown { what, id } => Self::Unknown { what, name: id.to_string() },
            DbError::Busy | DbError::DiskFull => Self::Unavailable(error.to_string()),
            DbError::NulInText | DbError::TooMany { .. } => Self::Invalid(error.to_string()),
            DbError::Unreachable(_) => {
                tracing::error!(%error, "the control database cannot be used");
                Self::Unavailable("the control database cannot be reached; try again".to_owned()) // where it is, callers need not know
            }
            DbError::Corrupt { .. } | DbError::File { .. } | DbError::Open { .. } | DbError::Failed(_) => {
                Self::Host(error.to_string())
            }
        }
    }
}

impl From<PeopleError> for ApiError {
    fn from(error: PeopleError) -> Self {
        match error {
            PeopleError::Unauthenticated => Self::Unauthenticated,
            PeopleError::WrongPassword => Self::WrongPassword,
            PeopleError::TooManyAttempts { retry_after } => Self::TooManyAttempts { retry_after },
            PeopleError::UnfitPassword | PeopleError::LifetimeTooLong => Self::Invalid(error.to_string()),
            PeopleError::Db(error) => error.into(),
            PeopleError::Hashing(_) => Self::Host(error.to_string()),
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::InvalidExpiry
            | AuthError::NoRows(_)
            | AuthError::ReservedClaim(_)
            | AuthError::ClaimsTooLarge { .. }
            | AuthError::TokenTooLarge { .. } => Self::Invalid(error.to_string()),
            AuthError::Db(error) => error.into(),
            AuthError::MissingToken
            | AuthError::InvalidToken { .. }
            | AuthError::TokenNotForEndpoint
            | AuthError::MissingKey
            | AuthError::InvalidKey { .. }
            | AuthError::KeyNotForEndpoint
            | AuthError::TokenNotForMethod
            | AuthError::IssuerUnavailable { .. }
            | AuthError::TooManyLookUps { .. }
            | AuthError::Vault(_)
            | AuthError::Signing(_) => Self::Host(error.to_string()),
        }
    }
}

impl From<VaultError> for ApiError {
    fn from(error: VaultError) -> Self {
        Self::Host(error.to_string())
    }
}

impl From<StartError> for ApiError {
    fn from(error: StartError) -> Self {
        Self::Host(error.to_string())
    }
}

impl From<PublishError> for ApiError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Rejected(failure) => Self::ScriptRejected {
                message: format!("{}: {}", failure.type_name, failure.message),
                traceback: Some(failure.traceback),
            },
            PublishError::TooLarge { .. }
            | PublishError::TooManyFiles { .. }
            | PublishError::InvalidFileName { .. }
            | PublishError::Empty
            | PublishError::LimitExceeded { .. } => {
                Self::ScriptRejected { message: error.to_string(), traceback: None }
            }
            PublishError::Db(error) => error.into(),
            PublishError::Image(_) | PublishError::Runtime(_) | PublishError::Panicked => Self::Host(error.to_string()),
        }
    }
}
