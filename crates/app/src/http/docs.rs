//! The API's description, for machines and for people.

use std::sync::Arc;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, LOCATION};
use actix_web::{HttpResponse, web};
use utoipa_swagger_ui::Config;

use super::openapi;
use super::problem::Problem;

/// The pages load their own files alone; the styles that Swagger UI writes
/// into its elements are the one exception.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; font-src 'self' data:; connect-src 'self'; frame-ancestors 'none'";

/// Answers with the OpenAPI document.
#[utoipa::path(get, path = "/openapi.json", tag = "server", security(()),
    responses((status = 200, description = "This document.", content_type = "application/json")))]
pub(crate) async fn document() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-cache"))
        .json(openapi::document())
}

/// Shows the OpenAPI document to people.
#[utoipa::path(get, path = "/docs", tag = "server", security(()),
    responses((status = 308, description = "The pages are at `/docs/`.")))]
pub(crate) async fn redirect() -> HttpResponse {
    HttpResponse::PermanentRedirect()
        .insert_header((LOCATION, "/docs/"))
        .finish()
}

/// Serves Swagger UI.
pub(crate) async fn pages(path: web::Path<String>) -> Result<HttpResponse, Problem> {
    let config = Arc::new(Config::from("/openapi.json"));
    let file = utoipa_swagger_ui::serve(&path, config)
        .map_err(|error| Problem::internal(error.to_string()))?
        .ok_or_else(Problem::nothing_here)?;
    let mut response = HttpResponse::Ok();
    response
        .content_type(file.content_type)
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header((CONTENT_SECURITY_POLICY, PAGE_POLICY));
    if file.gzpipped {
        response.insert_header((CONTENT_ENCODING, "gzip"));
    }
    Ok(response.body(file.bytes.into_owned()))
}
