//! The OpenAPI 3.1 document.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Array, Content, Object, OpenApi, Ref, RefOr, Response, ResponseBuilder, Schema,
};
use utoipa::{Modify, OpenApi as _, ToResponse};

use super::problem::{PROBLEM_JSON, ProblemDocument, ProblemItem};
use super::{docs, health, v1};

/// The name of the security scheme.
const BEARER: &str = "bearer";

/// The document, made once.
pub fn document() -> &'static OpenApi {
    static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(ApiDocument::openapi);
    &DOCUMENT
}

/// The document as text, for people and files.
pub fn document_text() -> String {
    document().to_pretty_json().unwrap_or_default()
}

/// Any error: one shape for all.
#[derive(Debug)]
pub(crate) struct ProblemResponse;

impl<'r> ToResponse<'r> for ProblemResponse {
    fn response() -> (&'r str, RefOr<Response>) {
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        let response = ResponseBuilder::new()
            .description("What went wrong, as RFC 9457 says. The member `code` is for programs.")
            .content(PROBLEM_JSON, content)
            .build();
        ("Problem", RefOr::T(response))
    }
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Atelier",
        description = "A multi-user server in front of ComfyUI: people keep workflows and LoRAs, and run them. \
            What is somebody else's is as absent as what never was: 404. Every error is a problem document (RFC 9457).",
    ),
    paths(
        docs::document,
        docs::redirect,
        health::healthz,
        health::readyz,
        v1::workflows::create::handler,
        v1::workflows::list::handler,
        v1::workflows::get::handler,
        v1::workflows::replace::handler,
        v1::workflows::patch::handler,
        v1::workflows::delete::handler,
        v1::workflows::preflight::handler,
        v1::workflows::run::handler,
        v1::workflows::runs::handler,
        v1::runs::list::handler,
        v1::runs::get::handler,
        v1::runs::cancel::handler,
        v1::runs::retry::handler,
        v1::runs::events::handler,
        v1::runs::output::handler,
        v1::loras::upload::handler,
        v1::loras::uploads::options::handler,
        v1::loras::uploads::create::handler,
        v1::loras::uploads::get::handler,
        v1::loras::uploads::head::handler,
        v1::loras::uploads::append::handler,
        v1::loras::uploads::delete::handler,
        v1::loras::import_from_google_drive::handler,
        v1::loras::import_from_url::handler,
        v1::loras::list::handler,
        v1::loras::system::handler,
        v1::loras::get::handler,
        v1::loras::content::handler,
        v1::loras::versions::handler,
        v1::loras::prefetch::handler,
        v1::loras::delete::handler,
    ),
    components(
        schemas(ProblemDocument<'_>, ProblemItem<'_>, v1::workflows::dto::SummaryBody<'_>),
        responses(ProblemResponse),
    ),
    tags(
        (name = "workflows", description = "ComfyUI prompts that people keep."),
        (name = "runs", description = "Executions of workflows, and what they leave behind."),
        (name = "loras", description = "LoRA models for one's own runs."),
        (name = "uploads", description = "LoRAs in pieces, over bad lines: tus 1.0.0."),
        (name = "server", description = "The server itself."),
    ),
    modifiers(&Conventions),
)]
struct ApiDocument;

/// What holds for every operation.
struct Conventions;

impl Modify for Conventions {
    fn modify(&self, document: &mut OpenApi) {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.bearer_format = Some("JWT".to_owned());
        scheme.description = Some("A Supabase access token.".to_owned());
        document
            .components
            .get_or_insert_default()
            .security_schemes
            .insert(BEARER.to_owned(), RefOr::T(SecurityScheme::Http(scheme)));
        document.security = Some(vec![SecurityRequirement::new(BEARER, Vec::<String>::new())]);
        name_items_of_pages(document);
        require_what_is_always_there(document);
        for operation in document.paths.paths.values_mut().flat_map(operations) {
            // The bodies that may be left out.
            if matches!(
                operation.operation_id.as_deref(),
                Some("runWorkflow" | "retryRun" | "createLoraUpload")
            ) && let Some(RefOr::T(body)) = operation.request_body.as_mut()
            {
                body.required = None;
            }
            operation
                .responses
                .responses
                .entry("default".to_owned())
                .or_insert_with(|| RefOr::Ref(Ref::from_response_name("Problem")));
        }
    }
}

/// Pages hold their items by name, not a copy of the items' schema each.
fn name_items_of_pages(document: &mut OpenApi) {
    for (name, schema) in schemas(document) {
        if let Some(item) = name.strip_prefix("Page_")
            && let Some(items) = schema.properties.get_mut("items")
        {
            let items_of = Array::new(Ref::from_schema_name(item));
            *items = RefOr::T(Schema::Array(items_of));
        }
    }
}

/// A member that may be null is there all the same, in everything but what
/// people send and what is left out where there is none.
fn require_what_is_always_there(document: &mut OpenApi) {
    for (name, schema) in schemas(document) {
        let left_out: &[&str] = match name.as_str() {
            "WorkflowDraft" | "WorkflowPatch" | "RunRequest" | "RetryRequest" | "LoraUpload"
            | "GoogleDriveImport" | "UrlImport" => {
                continue;
            }
            "Problem" => &["instance", "errors"],
            "CheckResult" => &["backends", "detail"],
            "LoraSource" => &["google_drive_file_id", "url"],
            _ => &[],
        };
        let members = schema.properties.keys();
        schema.required = members
            .filter(|member| !left_out.contains(&member.as_str()))
            .cloned()
            .collect();
    }
}

fn schemas(document: &mut OpenApi) -> impl Iterator<Item = (&String, &mut Object)> {
    document
        .components
        .iter_mut()
        .flat_map(|components| components.schemas.iter_mut())
        .filter_map(|(name, schema)| match schema {
            RefOr::T(Schema::Object(object)) => Some((name, object)),
            _ => None,
        })
}

fn operations(
    item: &mut utoipa::openapi::PathItem,
) -> impl Iterator<Item = &mut utoipa::openapi::path::Operation> {
    [
        item.get.as_mut(),
        item.put.as_mut(),
        item.post.as_mut(),
        item.patch.as_mut(),
        item.delete.as_mut(),
        item.head.as_mut(),
        item.options.as_mut(),
    ]
    .into_iter()
    .flatten()
}

/// The methods of every path in the document, such as `("/healthz", ["get"])`.
pub fn methods() -> BTreeMap<String, Vec<&'static str>> {
    document()
        .paths
        .paths
        .iter()
        .map(|(path, item)| {
            let methods = [
                ("get", item.get.is_some()),
                ("put", item.put.is_some()),
                ("post", item.post.is_some()),
                ("patch", item.patch.is_some()),
                ("delete", item.delete.is_some()),
                ("head", item.head.is_some()),
            ];
            let there = methods.into_iter().filter(|(_, there)| *there);
            (path.clone(), there.map(|(method, _)| method).collect())
        })
        .collect()
}
