//! By what people sign in, and which scope of a personal token an operation needs.

use atelier_domain::api_token::Scope;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{OpenApi, RefOr};

use crate::http::PREFIX;

const BEARER: &str = "bearer";
const PERSONAL_TOKEN: &str = "personalToken";
const CLOUDFLARE_ACCESS: &str = "cloudflareAccess";

/// Declares the schemes, and says of every operation which of them open it.
pub(super) fn describe(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    for (name, scheme) in schemes() {
        components
            .security_schemes
            .insert(name.to_owned(), RefOr::T(scheme));
    }
    for (path, item) in &mut document.paths.paths {
        for (reads, operation) in operations(item) {
            // Those that are open to everybody say so by themselves.
            if operation.security.is_none() {
                let path = path.strip_prefix(PREFIX).unwrap_or(path);
                operation.security = Some(requirements(scope(path, reads)));
            }
        }
    }
}

/// The scope that a personal token needs for an operation below [`PREFIX`];
/// `None` where none will do.
fn scope(path: &str, reads: bool) -> Option<Scope> {
    let mut segments = path.trim_start_matches('/').split('/');
    let (collection, _id, action) = (segments.next(), segments.next(), segments.next());
    Some(match (collection?, action, reads) {
        ("workflows", Some("run"), _) | ("runs" | "inputs", _, false) => Scope::RunsWrite,
        ("workflows", Some("runs"), _) | ("runs" | "inputs" | "usage", _, true) => Scope::RunsRead,
        ("workflows", _, true) => Scope::WorkflowsRead,
        ("workflows", _, false) => Scope::WorkflowsWrite,
        // Who sends pieces asks how far they are.
        ("loras", _, true) if !path.starts_with("/loras/uploads") => Scope::LorasRead,
        ("loras", _, _) => Scope::LorasWrite,
        _ => return None,
    })
}

fn requirements(scope: Option<Scope>) -> Vec<SecurityRequirement> {
    let nothing: [&str; 0] = [];
    let mut ways = vec![SecurityRequirement::new(BEARER, nothing)];
    if let Some(scope) = scope {
        ways.push(SecurityRequirement::new(PERSONAL_TOKEN, [scope.as_str()]));
    }
    ways.push(SecurityRequirement::new(CLOUDFLARE_ACCESS, nothing));
    ways
}

fn schemes() -> [(&'static str, SecurityScheme); 3] {
    let mut bearer = Http::new(HttpAuthScheme::Bearer);
    bearer.bearer_format = Some("JWT".to_owned());
    bearer.description = Some("An access token of Supabase Auth.".to_owned());
    let mut token = Http::new(HttpAuthScheme::Bearer);
    token.bearer_format = Some("atl_…".to_owned());
    token.description = Some(
        "A personal token, made by `POST /tokens`. It does what its scopes allow and no more; operations name the \
         scope that they need."
            .to_owned(),
    );
    let assertion = ApiKeyValue::with_description(
        "Cf-Access-Jwt-Assertion",
        "What Cloudflare Access adds to requests, where this server stands behind it. The cookie `CF_Authorization` \
         will do too.",
    );
    [
        (BEARER, SecurityScheme::Http(bearer)),
        (PERSONAL_TOKEN, SecurityScheme::Http(token)),
        (
            CLOUDFLARE_ACCESS,
            SecurityScheme::ApiKey(ApiKey::Header(assertion)),
        ),
    ]
}

/// The operations of a path, and whether each only reads.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (bool, &mut Operation)> {
    let reading = [item.get.as_mut(), item.head.as_mut(), item.options.as_mut()];
    let writing = [
        item.put.as_mut(),
        item.post.as_mut(),
        item.patch.as_mut(),
        item.delete.as_mut(),
    ];
    let reading = reading
        .into_iter()
        .flatten()
        .map(|operation| (true, operation));
    let writing = writing
        .into_iter()
        .flatten()
        .map(|operation| (false, operation));
    reading.chain(writing)
}
