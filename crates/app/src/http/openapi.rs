//! The OpenAPI 3.1 document.

mod conventions;
mod nullable;
pub(crate) mod parameters;
mod problems;
mod security;
pub(crate) mod values;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;

use super::problem::{ProblemDocument, ProblemItem};
use super::{docs, health, metrics, v1};

use conventions::Conventions;
pub(crate) use problems::ProblemResponse;

/// The document, made once.
pub fn document() -> &'static OpenApi {
    static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(ApiDocument::openapi);
    &DOCUMENT
}

/// The document as text, for people and files.
pub fn document_text() -> String {
    document().to_pretty_json().unwrap_or_default()
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Atelier",
        description = "A multi-user server in front of ComfyUI: people keep workflows and LoRAs, and run them. \
            What is somebody else's is as absent as what never was: 404. Every error is a problem document (RFC 9457). \
            A path answers HEAD as it does GET, without the body, and 405 to a method that it does not have, with `Allow`. \
            Parameters and members that an operation does not have are refused.",
    ),
    paths(
        docs::document,
        docs::redirect,
        health::healthz,
        health::readyz,
        metrics::handler,
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
        v1::inputs::upload::handler,
        v1::inputs::list::handler,
        v1::inputs::get::handler,
        v1::inputs::content::handler,
        v1::inputs::delete::handler,
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
        v1::tokens::create::handler,
        v1::usage::handler,
        v1::tokens::list::handler,
        v1::tokens::delete::handler,
    ),
    components(
        schemas(
            ProblemDocument<'_>,
            ProblemItem<'_>,
            v1::workflows::dto::SummaryBody<'_>,
            values::PromptNode,
            values::ScopeWord,
            values::Tag,
        ),
    ),
    tags(
        (name = "workflows", description = "ComfyUI prompts that people keep."),
        (name = "runs", description = "Executions of workflows, and what they leave behind."),
        (name = "inputs", description = "Pictures for one's own workflows to load."),
        (name = "loras", description = "LoRA models for one's own runs."),
        (name = "uploads", description = "LoRAs in pieces, over bad lines: tus 1.0.0."),
        (name = "tokens", description = "Personal tokens, by which scripts act for one."),
        (name = "server", description = "The server itself."),
    ),
    modifiers(&Conventions),
)]
struct ApiDocument;

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
