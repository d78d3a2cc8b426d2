//! `DELETE /tokens/{id}`

use actix_web::{HttpResponse, web};

use crate::http::api::Api;
use crate::http::auth::SignedIn;
use crate::http::path::PathSegments;
use crate::http::problem::{Problem, ProblemCode};
use crate::http::query::Query;

/// Revokes a personal token of one's own: it is no good from now on.
#[utoipa::path(delete, path = "/api/v1/comfyui/tokens/{id}", operation_id = "deleteToken", tag = "tokens",
    params(("id" = Uuid, Path, description = "The token's id.")),
    responses((status = 204, description = "It is revoked.")))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    SignedIn(actor): SignedIn,
    path: PathSegments,
    query: Query,
) -> Result<HttpResponse, Problem> {
    query.finish()?;
    if api.ports().tokens.revoke(&actor, path.id()?).await? {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(Problem::new(
            ProblemCode::TokenNotFound,
            "You have no token with this id.",
        ))
    }
}
