//! The list of operations: what there is, and what each needs.

use axum::{Router, extract::DefaultBodyLimit, middleware};
use serde_json::json;
use utoipa::openapi::{
    Content, Ref, RefOr, Required, ResponseBuilder,
    extensions::ExtensionsBuilder,
    path::{Operation, ParameterBuilder, ParameterIn},
    schema::{ObjectBuilder, Type},
    security::SecurityRequirement,
};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouter},
    routes,
};

use crate::control::{
    Control, Needs, PREFIX, access, api_tokens, audit, connections, consumer_keys, document, egress, endpoints,
    idempotency::{self, Answer},
    invocations, issuers, previews, programs, quotas, reruns, scripts, secrets, sessions, signing_keys, state, tables,
    tenants, tokens, usage, users, versions,
};

/// Largest body of somebody unknown.
const UNKNOWN_BODY_BYTES_MAX: usize = 16 << 10;

/// The OpenAPI document.
#[must_use]
pub fn openapi(parts: super::Parts) -> utoipa::openapi::OpenApi {
    operations(&Control::new(parts)).split().1
}

/// Every operation of the API.
pub(super) fn operations(control: &Control) -> Operations {
    around_scripts(of_scripts(of_people(Operations::new(control.clone()))))
}

/// Operations on people, the host and tenants.
fn of_people(operations: Operations) -> Operations {
    operations
        .add(Needs::Nothing, routes!(sessions::log_in))
        .add(Needs::Anyone, routes!(sessions::show_session))
        .add(Needs::Anyone, routes!(sessions::log_out))
        .add(Needs::User, routes!(sessions::change_password))
        .add(Needs::User, routes!(api_tokens::list_my_api_tokens))
        .issue(Needs::User, routes!(api_tokens::create_my_api_token))
        .add(Needs::User, routes!(api_tokens::revoke_my_api_token))
        // The host.
        .add(Needs::Operator, routes!(users::list_users))
        .add(Needs::Operator, routes!(users::create_user))
        .add(Needs::Operator, routes!(users::set_password))
        .add(Needs::Operator, routes!(users::delete_user))
        .add(Needs::Operator, routes!(api_tokens::list_operator_tokens))
        .issue(Needs::Operator, routes!(api_tokens::create_operator_token))
        .add(Needs::Operator, routes!(api_tokens::revoke_operator_token))
        .add(Needs::Operator, routes!(audit::list_audit))
        .add(Needs::Operator, routes!(usage::list_usage))
        // Tenants.
        .add(Needs::Anyone, routes!(tenants::list_tenants))
        .create(Needs::Operator, routes!(tenants::create_tenant))
        .add(Needs::Viewer, routes!(tenants::show_tenant))
        .add(Needs::Owner, routes!(tenants::update_tenant))
        .add(Needs::Operator, routes!(tenants::delete_tenant))
        .add(Needs::Viewer, routes!(quotas::show_quotas))
        .add(Needs::Operator, routes!(quotas::set_quotas))
        .add(Needs::Viewer, routes!(usage::show_usage))
        .add(Needs::Viewer, routes!(users::list_members))
        .add(Needs::Owner, routes!(users::set_member))
        .add(Needs::Owner, routes!(users::remove_member))
        .add(Needs::Owner, routes!(api_tokens::list_api_tokens))
        .issue(Needs::Owner, routes!(api_tokens::create_api_token))
        .add(Needs::Owner, routes!(api_tokens::revoke_api_token))
        .add(Needs::Owner, routes!(audit::list_tenant_audit))
}

/// Operations on scripts: what authors write.
fn of_scripts(operations: Operations) -> Operations {
    operations
        .add(Needs::Viewer, routes!(scripts::list_scripts))
        .create(Needs::Author, routes!(scripts::create_script))
        .add(Needs::Viewer, routes!(scripts::show_script))
        .add(Needs::Author, routes!(scripts::delete_script))
        .add(Needs::Author, routes!(scripts::show_draft))
        .add(Needs::Author, routes!(scripts::save_draft))
        .add(Needs::Author, routes!(scripts::promote_version))
        .add(Needs::Author, routes!(scripts::roll_back))
        .add(Needs::Viewer, routes!(versions::list_versions))
        .create(Needs::Author, routes!(versions::publish_version))
        .add(Needs::Viewer, routes!(versions::show_version))
        .add(Needs::Author, routes!(versions::download_version))
        .add(Needs::Author, routes!(versions::purge_version))
        .add(Needs::Author, routes!(versions::compare_versions))
        .issue(Needs::Author, routes!(previews::create_preview))
        .add(Needs::Author, routes!(previews::list_previews))
        .add(Needs::Author, routes!(previews::revoke_preview))
        .add(Needs::Author, routes!(state::show_state))
        .add(Needs::Author, routes!(state::set_state))
        .add(Needs::Author, routes!(state::clear_state))
        .add(Needs::Author, routes!(programs::open_session))
        .add(Needs::Author, routes!(programs::call_function))
        .add(Needs::Author, routes!(programs::close_session))
}

/// Operations on what scripts are reached by, what they reach, and what happened.
fn around_scripts(operations: Operations) -> Operations {
    operations
        .add(Needs::Viewer, routes!(endpoints::list_endpoints))
        .create(Needs::Author, routes!(endpoints::create_endpoint))
        .add(Needs::Viewer, routes!(endpoints::show_endpoint))
        .add(Needs::Author, routes!(endpoints::replace_endpoint))
        .add(Needs::Author, routes!(endpoints::delete_endpoint))
        .add(Needs::Owner, routes!(tokens::list_tokens))
        .issue(Needs::Owner, routes!(tokens::create_token))
        .add(Needs::Owner, routes!(tokens::revoke_token))
        .add(Needs::Owner, routes!(consumer_keys::list_consumer_keys))
        .issue(Needs::Owner, routes!(consumer_keys::create_consumer_key))
        .add(Needs::Owner, routes!(consumer_keys::show_consumer_key))
        .add(Needs::Owner, routes!(consumer_keys::replace_consumer_key))
        .add(Needs::Owner, routes!(consumer_keys::revoke_consumer_key))
        .add(Needs::Owner, routes!(signing_keys::list_signing_keys))
        .create(Needs::Owner, routes!(signing_keys::create_signing_key))
        .add(Needs::Owner, routes!(signing_keys::delete_signing_key))
        .add(Needs::Owner, routes!(issuers::list_issuers))
        .create(Needs::Owner, routes!(issuers::add_issuer))
        .add(Needs::Owner, routes!(issuers::remove_issuer))
        // What they reach.
        .add(Needs::Viewer, routes!(connections::list_connections))
        .add(Needs::Owner, routes!(connections::create_connection))
        .add(Needs::Viewer, routes!(connections::show_connection))
        .add(Needs::Owner, routes!(connections::replace_connection))
        .add(Needs::Owner, routes!(connections::delete_connection))
        .add(Needs::Owner, routes!(connections::set_connection_readers))
        .add(Needs::Owner, routes!(connections::add_connection_reader))
        .add(Needs::Owner, routes!(connections::remove_connection_reader))
        .add(Needs::Author, routes!(connections::test_connection))
        .add(Needs::Author, routes!(tables::list_tables))
        .add(Needs::Author, routes!(tables::preview_table))
        .add(Needs::Viewer, routes!(secrets::list_secrets))
        .add(Needs::Owner, routes!(secrets::set_secret))
        .add(Needs::Owner, routes!(secrets::set_readers))
        .add(Needs::Owner, routes!(secrets::add_reader))
        .add(Needs::Owner, routes!(secrets::remove_reader))
        .add(Needs::Owner, routes!(secrets::delete_secret))
        .add(Needs::Viewer, routes!(egress::list_allowed_hosts))
        .create(Needs::Owner, routes!(egress::allow_host))
        .add(Needs::Owner, routes!(egress::deny_host))
        // What happened.
        .add(Needs::Viewer, routes!(invocations::list_invocations))
        .add(Needs::Viewer, routes!(invocations::follow_invocations))
        .add(Needs::Viewer, routes!(invocations::show_invocation))
        .issue(Needs::Author, routes!(reruns::rerun_invocation))
}

/// Operations and their documentation.
pub(super) struct Operations {
    control: Control,
    router: OpenApiRouter<Control>,
}

impl Operations {
    fn new(control: Control) -> Self {
        Self { control, router: OpenApiRouter::with_openapi(document::introduction()) }
    }

    /// Adds an operation that may be repeated without harm.
    fn add(self, needs: Needs, routes: UtoipaMethodRouter<Control>) -> Self {
        self.add_with(needs, None, routes)
    }

    /// Adds an operation that creates something: with an idempotency key it does so once. Not for bodies that hold a secret, of which
    /// a hash would be kept; names that are taken keep those from being carried out twice.
    fn create(self, needs: Needs, routes: UtoipaMethodRouter<Control>) -> Self {
        self.add_with(needs, Some(Answer::Kept), routes)
    }

    /// As [`Self::create`], when the answer holds a secret, which is not kept.
    fn issue(self, needs: Needs, routes: UtoipaMethodRouter<Control>) -> Self {
        self.add_with(needs, Some(Answer::Secret), routes)
    }

    fn add_with(mut self, needs: Needs, answer: Option<Answer>, routes: UtoipaMethodRouter<Control>) -> Self {
        let (schemas, mut paths, mut methods) = routes;
        for (path, item) in &mut paths.paths {
            let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
            for operation in operations.into_iter().flatten() {
                describe(operation, path, needs, answer.is_some());
            }
        }
        if let Some(answer) = answer {
            let state = (self.control.clone(), answer);
            methods = methods.route_layer(middleware::from_fn_with_state(state, idempotency::once));
        }
        let state = (self.control.clone(), needs);
        methods = methods.route_layer(middleware::from_fn_with_state(state, access::authorize));
        if needs == Needs::Nothing {
            methods = methods.route_layer(DefaultBodyLimit::max(UNKNOWN_BODY_BYTES_MAX));
        }
        self.router = self.router.routes((schemas, paths, methods));
        self
    }

    pub(super) fn split(self) -> (Router<Control>, utoipa::openapi::OpenApi) {
        let (router, mut openapi) = OpenApiRouter::new().nest(PREFIX, self.router).split_for_parts();
        openapi.info = document::introduction().info; // nesting keeps that of the outer router
        (router, openapi)
    }
}

/// Documents what is the same for all operations, or follows from the table.
fn describe(operation: &mut Operation, path: &str, needs: Needs, is_create: bool) {
    let extension = ExtensionsBuilder::new().add("x-needs", json!(needs)).build();
    operation.extensions.get_or_insert_default().merge(extension);
    if needs != Needs::Nothing {
        let none: [&str; 0] = [];
        operation.security =
            Some(vec![SecurityRequirement::new("token", none), SecurityRequirement::new("session", none)]);
    }
    let parameters = operation.parameters.get_or_insert_default();
    let text = || RefOr::T(ObjectBuilder::new().schema_type(Type::String).build().into());
    for name in path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}')) {
        let schema = document::path_parameter(name);
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .schema(Some(schema));
        parameters.push(RefOr::T(parameter.build()));
    }
    if is_create {
        let parameter = ParameterBuilder::new()
            .name(idempotency::FIELD)
            .parameter_in(ParameterIn::Header)
            .description(Some("Any text of at most 255 characters; a request that is sent again with it runs once"))
            .schema(Some(text()));
        parameters.push(RefOr::T(parameter.build()));
    }
    let problem = ResponseBuilder::new()
        .description("A problem document (RFC 9457) with a stable `code`")
        .content("application/problem+json", Content::new(Some(Ref::from_schema_name("Problem"))))
        .build();
    operation.responses.responses.insert("default".to_owned(), RefOr::T(problem));
}
