//! Tails: answers that do not end by themselves, how many there are, and whether their callers may still see them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    auth::people::{PeopleError, Principal},
    control::{Control, Needs, access::InTenant},
    db::credentials::Holder,
    problem::api::ApiError,
};

/// Tails of one user, of the tokens of one tenant, or of one operator's token: some windows, on some machines.
const TAILS_OF_ONE_MAX: usize = 8;

/// Tails of all. Each is a connection, of which the control listener has four times as many, and a dozen small reads a second.
const TAILS_MAX: usize = 256;

/// The tails that there are, by whose they are.
#[derive(Debug, Default)]
pub(super) struct Tails(Mutex<HashMap<String, usize>>);

/// Permission for one tail, until it is dropped.
#[derive(Debug)]
pub(super) struct Tail {
    tails: Arc<Tails>,
    whose: String,
}

impl Tails {
    fn counts(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// [`ApiError::TooManyTails`].
    pub(super) fn begin(self: &Arc<Self>, principal: &Principal) -> Result<Tail, ApiError> {
        let whose = match principal {
            Principal::Local => String::new(),
            Principal::Bearer(credential) => match &credential.holder {
                // A user is one, however often it has logged in.
                Holder::User { user, .. } | Holder::Session { user, .. } => format!("user {user}"),
                // A tenant's owners make as many tokens as they like.
                Holder::Tenant { tenant, .. } => format!("tenant {tenant}"),
                Holder::Operator => format!("token {}", credential.id),
            },
        };
        let mut counts = self.counts();
        if counts.values().sum::<usize>() >= TAILS_MAX {
            return Err(ApiError::TooManyTails { whose: "there are", limit: TAILS_MAX });
        }
        let count = counts.entry(whose.clone()).or_default();
        if *count >= TAILS_OF_ONE_MAX {
            return Err(ApiError::TooManyTails { whose: "you have", limit: TAILS_OF_ONE_MAX });
        }
        *count += 1;
        drop(counts);
        Ok(Tail { tails: Arc::clone(self), whose })
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let mut counts = self.tails.counts();
        match counts.get_mut(&self.whose) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => drop(counts.remove(&self.whose)),
        }
    }
}

impl Control {
    /// Whether somebody who was let into a tenant still would be: its credential, its role or the tenant may be gone since.
    ///
    /// # Errors
    /// If the control database fails.
    pub(super) async fn is_still_let_in(&self, scope: &InTenant, needs: Needs) -> Result<bool, ApiError> {
        let principal = match self.people.renew(&scope.principal).await {
            Ok(principal) => principal,
            Err(PeopleError::Unauthenticated) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        match self.let_in(&principal, needs, Some(scope.tenant.name.as_str())).await {
            Ok((tenant, _)) => Ok(tenant.is_some_and(|tenant| tenant.id == scope.id())),
            Err(ApiError::Forbidden { .. } | ApiError::Unknown { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        db::credentials::Credential,
        domain::{
            names::{TenantId, UserId},
            people::Role,
        },
    };

    fn bearer(id: &str, holder: Holder) -> Principal {
        let (id, name) = (id.to_owned(), String::new());
        let (created_at_ms, expires_at_ms, last_used_at_ms, revoked_at_ms) = (0, i64::MAX, None, None);
        Principal::Bearer(Credential { id, holder, name, created_at_ms, expires_at_ms, last_used_at_ms, revoked_at_ms })
    }

    #[test]
    fn nobody_takes_the_tails_of_others() {
        let tails = Arc::new(Tails::default());
        let email = || "ann@acme.example".parse().unwrap();
        let session = bearer("a", Holder::Session { user: UserId(1), email: email() });
        let token = bearer("b", Holder::User { user: UserId(1), email: email() });
        let mut held: Vec<_> = (0..TAILS_OF_ONE_MAX - 1).map(|_| tails.begin(&session).unwrap()).collect();
        held.push(tails.begin(&token).unwrap());
        for principal in [&session, &token] {
            let refused = tails.begin(principal).unwrap_err();
            assert_eq!(refused.to_string(), "you have 8 live tails, which is the limit: end one");
        }
        let other = tails.begin(&bearer("c", Holder::Operator)).unwrap();
        drop(held.pop());
        held.push(tails.begin(&session).unwrap());
        drop((held, other));
        assert!(tails.counts().is_empty(), "{tails:?}");

        // A tenant is one, however many tokens its owners make.
        let of_tenant = |id: &str| bearer(id, Holder::Tenant { tenant: TenantId(1), role: Role::Viewer });
        let held: Vec<_> = (0..TAILS_OF_ONE_MAX).map(|n| tails.begin(&of_tenant(&n.to_string())).unwrap()).collect();
        tails.begin(&of_tenant("z")).unwrap_err();
        tails.begin(&bearer("z", Holder::Tenant { tenant: TenantId(2), role: Role::Viewer })).unwrap();
        drop(held);

        let each = |n: usize| tails.begin(&bearer(&n.to_string(), Holder::Operator));
        let all: Vec<_> = (0..TAILS_MAX).map(|n| each(n).unwrap()).collect();
        assert_eq!(each(TAILS_MAX).unwrap_err().to_string(), "there are 256 live tails, which is the limit: end one");
        drop(all);
        each(TAILS_MAX).unwrap();
    }
}
