//! What holds for every operation, said once.

use std::collections::BTreeSet;

use utoipa::Modify;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn, PathItem};
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{Array, Object, OpenApi, Ref, RefOr, Required, Response, Schema};

use super::nullable::take_null;
use super::{problems, security};

const SCHEMAS: &str = "#/components/schemas/";

/// Adds to the document what the handlers need not say one by one.
pub(super) struct Conventions;

impl Modify for Conventions {
    fn modify(&self, document: &mut OpenApi) {
        security::describe(document);
        let components = document.components.get_or_insert_default();
        problems::describe(components);
        let mut sent = BTreeSet::new();
        for operation in document.paths.paths.values_mut().flat_map(operations) {
            for parameter in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(parameter) = parameter {
                    settle_parameter(parameter);
                }
            }
            if let Some(RefOr::T(body)) = operation.request_body.as_mut() {
                settle_body(body, &mut sent);
            }
            add_problems(operation);
            for response in operation.responses.responses.values_mut() {
                if let RefOr::T(response) = response {
                    settle_headers(response);
                }
            }
        }
        name_items_of_pages(document);
        require_what_is_always_there(document, &sent);
    }
}

/// A parameter that may be missing is never null, and one of a query may be
/// empty: that is as good as none.
fn settle_parameter(parameter: &mut Parameter) {
    if let Some(schema) = parameter.schema.as_mut() {
        take_null(schema);
    }
    if parameter.parameter_in == ParameterIn::Query && parameter.required != Required::True {
        let extensions = parameter.extensions.get_or_insert_default();
        extensions.merge(Extensions::from_iter([("allowEmptyValue", true)]));
    }
}

/// A body that may be missing is never null. Collects the names of what people
/// send.
fn settle_body(body: &mut RequestBody, sent: &mut BTreeSet<String>) {
    for content in body.content.values_mut() {
        let RefOr::T(content) = content else { continue };
        let Some(schema) = content.schema.as_mut() else {
            continue;
        };
        if take_null(schema) {
            body.required = None;
        }
        if let RefOr::Ref(reference) = schema
            && let Some(name) = reference.ref_location.strip_prefix(SCHEMAS)
        {
            sent.insert(name.to_owned());
        }
    }
}

/// A header that may be null may be missing; any other is always there, and so
/// is the request's id.
fn settle_headers(response: &mut Response) {
    for header in response.headers.values_mut() {
        let RefOr::T(header) = header else { continue };
        let may_be_missing = header.schema.as_mut().is_some_and(take_null);
        if !may_be_missing {
            *header = problems::always(header.clone());
        }
    }
    let request_id = Ref::new(format!("#/components/headers/{}", problems::REQUEST_ID));
    response
        .headers
        .insert("X-Request-Id".to_owned(), RefOr::Ref(request_id));
}

/// Adds the problems that follow from what an operation is given, and names all
/// by their status.
fn add_problems(operation: &mut Operation) {
    let statuses = expected(operation);
    let responses = &mut operation.responses.responses;
    for (status, response) in responses.iter_mut() {
        if problems::is_any(response) {
            *response = problems::problems_of(status);
        }
    }
    for status in statuses {
        responses
            .entry(status.to_owned())
            .or_insert_with(|| problems::problems_of(status));
    }
}

fn expected(operation: &Operation) -> BTreeSet<&'static str> {
    let mut statuses = BTreeSet::from(["500"]);
    let nobody = SecurityRequirement::default();
    let is_open = operation
        .security
        .as_ref()
        .is_some_and(|accepted| accepted.contains(&nobody));
    if !is_open {
        // Who it is and what it may, a parameter that does not exist, too many requests, a
        // database that is down.
        statuses.extend(["401", "403", "422", "429", "503"]);
    }
    if operation.request_body.is_some() {
        // A body that breaks off, is too slow, too large, or of another type.
        statuses.extend(["400", "408", "413", "415"]);
    }
    for parameter in operation.parameters.iter().flatten() {
        match parameter {
            RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Path => {
                statuses.extend(["400", "404"]);
            }
            RefOr::T(parameter) if parameter.name == "cursor" => {
                statuses.insert("400");
            }
            _ => {}
        }
    }
    statuses
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
/// people send and what is left out where there is none: that is never null.
fn require_what_is_always_there(document: &mut OpenApi, sent: &BTreeSet<String>) {
    for (name, schema) in schemas(document) {
        if sent.contains(name) || schema.properties.is_empty() {
            continue;
        }
        let left_out: &[&str] = match name.as_str() {
            "PromptNode" => &["_meta"],
            "Problem" => &["instance", "errors", "trace_id"],
            "CheckResult" => &["backends", "detail"],
            "LoraSource" => &["google_drive_file_id", "url"],
            "RunEvent" => &["id", "event", "retry"],
            _ => &[],
        };
        schema.required.clear();
        for (member, of) in &mut schema.properties {
            if left_out.contains(&member.as_str()) {
                take_null(of);
            } else {
                schema.required.push(member.clone());
            }
        }
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

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
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
