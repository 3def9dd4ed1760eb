//! Who may use which operation.
//!
//! Each operation has its [`Needs`] in the table of `operations.rs`; this is where they are enforced, before the operation
//! sees anything of the request.

use axum::{
    extract::{FromRequestParts, RawPathParams, Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, Method, header, request::Parts};
use serde::Serialize;

use crate::{
    auth::people::Principal,
    control::Control,
    db::{Db, credentials::Holder, tenants::Tenant},
    domain::{
        client::{ClientAddress, Scheme},
        names::{TenantId, TenantName},
        people::{Role, SESSION_COOKIE},
        shown,
    },
    problem::api::ApiError,
};

/// What only scripts of our own pages send: other origins cannot without asking first (CORS).
const SAME_SITE_FIELD: &str = "x-requested-with";

/// What an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// Any valid credential.
    Anyone,
    /// A user, by a session or a token of its own.
    User,
    /// The role of a viewer in the tenant of the path.
    Viewer,
    /// The role of an author there.
    Author,
    /// The role of an owner there.
    Owner,
    /// An operator's token.
    Operator,
}

impl Needs {
    /// As documents and errors say it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Anyone => "anyone",
            Self::User => "user",
            Self::Viewer => "viewer",
            Self::Author => "author",
            Self::Owner => "owner",
            Self::Operator => "operator",
        }
    }

    /// The least role in the tenant, if a role is needed.
    fn role(self) -> Option<Role> {
        match self {
            Self::Viewer => Some(Role::Viewer),
            Self::Author => Some(Role::Author),
            Self::Owner => Some(Role::Owner),
            Self::Nothing | Self::Anyone | Self::User | Self::Operator => None,
        }
    }
}

/// Who calls, once it has been let in.
#[derive(Debug, Clone)]
pub(super) struct Access {
    pub(super) principal: Principal,
    /// The control database, which notes who changes it.
    pub(super) db: Db,
    tenant: Option<Tenant>,
    role: Option<Role>,
}

/// The tenant of the path, in which the caller has the role that the operation needs.
#[derive(Debug, Clone)]
pub(super) struct InTenant {
    pub(super) principal: Principal,
    pub(super) db: Db,
    pub(super) tenant: Tenant,
    /// What the caller may do.
    pub(super) role: Role,
}

impl InTenant {
    pub(super) fn id(&self) -> TenantId {
        self.tenant.id
    }
}

impl<S: Sync> FromRequestParts<S> for Access {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or(ApiError::Unauthenticated)
    }
}

impl<S: Sync> FromRequestParts<S> for InTenant {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Access { principal, db, tenant, role } = Access::from_request_parts(parts, state).await?;
        let (tenant, role) = tenant.zip(role).ok_or(ApiError::Unauthenticated)?;
        Ok(Self { principal, db, tenant, role })
    }
}

/// Lets a request through to its operation if its caller has what that needs.
pub(super) async fn authorize(
    State((control, needs)): State<(Control, Needs)>,
    params: RawPathParams,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let is_change = !request.method().is_safe();
    if needs != Needs::Nothing {
        let tenant = params.iter().find(|(name, _)| *name == "tenant").map(|(_, value)| value);
        let access = control.admit(needs, tenant, request.method(), request.headers(), request.extensions()).await?;
        request.extensions_mut().insert(access);
    }
    let response = next.run(request).await;
    if is_change && response.status().is_success() {
        // A host in this process shows it at once; others see it when they look.
        control.db.look_for_changes().await?;
    }
    Ok(response)
}

impl Control {
    async fn admit(
        &self,
        needs: Needs,
        tenant: Option<&str>,
        method: &Method,
        headers: &HeaderMap,
        extensions: &http::Extensions,
    ) -> Result<Access, ApiError> {
        let principal = match extensions.get::<Principal>() {
            Some(principal) => principal.clone(), // in this process: the command line
            None => self.principal(method, headers).await?,
        };
        let (tenant, role) = self.let_in(&principal, needs, tenant).await?;
        let db = self.db.acting_as(&principal.actor());
        Ok(Access { principal, db, tenant, role })
    }

    /// The tenant of the path and the caller's role there, if the operation needs a role.
    ///
    /// # Errors
    /// If the caller has not what the operation needs.
    pub(super) async fn let_in(
        &self,
        principal: &Principal,
        needs: Needs,
        tenant: Option<&str>,
    ) -> Result<(Option<Tenant>, Option<Role>), ApiError> {
        let forbidden = Err(ApiError::Forbidden { needs: needs.as_str() });
        if needs == Needs::Operator && !principal.is_operator() {
            return forbidden;
        }
        if needs == Needs::User && principal.user().is_none() {
            return forbidden;
        }
        let Some(least) = needs.role() else { return Ok((None, None)) };
        let text = tenant.unwrap_or_default();
        let unknown = || ApiError::Unknown { what: "tenant", name: shown(text) };
        let name: TenantName = text.parse().map_err(|_| unknown())?;
        let tenant = self.db.tenants().find_tenant(&name).await?.ok_or_else(unknown)?;
        // Who may do nothing there is not told that it exists.
        let role = self.people.role_in(principal, tenant.id).await?.ok_or_else(unknown)?;
        if role < least {
            return forbidden;
        }
        Ok((Some(tenant), Some(role)))
    }

    /// Who presents the request's token or session.
    async fn principal(&self, method: &Method, headers: &HeaderMap) -> Result<Principal, ApiError> {
        let mut fields = headers.get_all(header::AUTHORIZATION).iter();
        if let Some(field) = fields.next() {
            if fields.next().is_some() {
                return Err(ApiError::InvalidParameter(
                    "the header field `Authorization` was sent more than once".into(),
                ));
            }
            let text = field.to_str().ok().and_then(|text| text.split_once(' '));
            let (_, token) =
                text.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).ok_or(ApiError::Unauthenticated)?;
            return Ok(self.people.authenticate(token.trim()).await?);
        }
        let session = cookie(headers, SESSION_COOKIE).ok_or(ApiError::Unauthenticated)?;
        let principal = self.people.authenticate(session).await?;
        // A browser sends the cookie whoever makes it send a request.
        if !method.is_safe() && headers.get(SAME_SITE_FIELD).is_none_or(|value| value != "pqhost") {
            return Err(ApiError::CrossSite);
        }
        match &principal {
            Principal::Bearer(credential) if matches!(credential.holder, Holder::Session { .. }) => Ok(principal),
            Principal::Bearer(_) | Principal::Local => Err(ApiError::Unauthenticated),
        }
    }
}

/// The value of a cookie, if it was sent once.
fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let fields = headers.get_all(header::COOKIE).iter().filter_map(|field| field.to_str().ok());
    let mut values = fields.flat_map(|field| field.split(';')).filter_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name).then_some(value)
    });
    let value = values.next();
    value.filter(|_| values.next().is_none())
}

/// The protocol that whoever sent the request speaks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spoken(pub(super) Scheme);

impl<S: Sync> FromRequestParts<S> for Spoken {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get().copied().unwrap_or_default()))
    }
}

/// The address of whoever sent the request; nobody's is that of a command in this process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client(pub(super) Option<ClientAddress>);

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get().copied()))
    }
}
