//! Version 1 of the API, below [`PREFIX`](super::PREFIX).

pub(crate) mod inputs;
pub(crate) mod loras;
pub(crate) mod runs;
pub(crate) mod tokens;
pub(crate) mod usage;
pub(crate) mod workflows;

use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};

use super::{at, tus};

/// Routes everything. Literal segments stand before `{id}`: the first that
/// matches serves.
pub(crate) fn routes(config: &mut ServiceConfig) {
    config
        .service(
            at("/workflows", "GET, HEAD, POST")
                .route(web::get().to(workflows::list::handler))
                .route(web::head().to(workflows::list::handler))
                .route(web::post().to(workflows::create::handler)),
        )
        .service(
            at("/workflows/{id}", "DELETE, GET, HEAD, PATCH, PUT")
                .route(web::get().to(workflows::get::handler))
                .route(web::head().to(workflows::get::handler))
                .route(web::put().to(workflows::replace::handler))
                .route(web::patch().to(workflows::patch::handler))
                .route(web::delete().to(workflows::delete::handler)),
        )
        .service(at("/workflows/{id}/run", "POST").route(web::post().to(workflows::run::handler)))
        .service(
            at("/workflows/{id}/preflight", "GET, HEAD")
                .route(web::get().to(workflows::preflight::handler))
                .route(web::head().to(workflows::preflight::handler)),
        )
        .service(
            at("/workflows/{id}/runs", "GET, HEAD")
                .route(web::get().to(workflows::runs::handler))
                .route(web::head().to(workflows::runs::handler)),
        )
        .service(
            at("/usage", "GET, HEAD")
                .route(web::get().to(usage::handler))
                .route(web::head().to(usage::handler)),
        )
        .service(
            at("/tokens", "GET, HEAD, POST")
                .route(web::get().to(tokens::list::handler))
                .route(web::head().to(tokens::list::handler))
                .route(web::post().to(tokens::create::handler)),
        )
        .service(at("/tokens/{id}", "DELETE").route(web::delete().to(tokens::delete::handler)))
        .service(
            at("/runs", "GET, HEAD")
                .route(web::get().to(runs::list::handler))
                .route(web::head().to(runs::list::handler)),
        )
        .service(
            at("/runs/{id}", "GET, HEAD")
                .route(web::get().to(runs::get::handler))
                .route(web::head().to(runs::get::handler)),
        )
        .service(at("/runs/{id}/cancel", "POST").route(web::post().to(runs::cancel::handler)))
        .service(at("/runs/{id}/retry", "POST").route(web::post().to(runs::retry::handler)))
        .service(at("/runs/{id}/events", "GET").route(web::get().to(runs::events::handler)))
        .service(
            at("/runs/{id}/outputs/{index}", "GET, HEAD")
                .route(web::get().to(runs::output::handler))
                .route(web::head().to(runs::output::handler)),
        )
        .configure(input_files)
        .service(
            at("/loras", "GET, HEAD, POST")
                .route(web::get().to(loras::list::handler))
                .route(web::head().to(loras::list::handler))
                .route(web::post().to(loras::upload::handler)),
        )
        .service(
            at("/loras/import-from-google-drive", "POST")
                .route(web::post().to(loras::import_from_google_drive::handler)),
        )
        .service(
            at("/loras/import-from-url", "POST")
                .route(web::post().to(loras::import_from_url::handler)),
        )
        .service(
            at("/loras/system", "GET, HEAD")
                .route(web::get().to(loras::system::handler))
                .route(web::head().to(loras::system::handler)),
        )
        .configure(uploads)
        .service(
            at("/loras/{id}", "DELETE, GET, HEAD")
                .route(web::get().to(loras::get::handler))
                .route(web::head().to(loras::get::handler))
                .route(web::delete().to(loras::delete::handler)),
        )
        .service(
            at("/loras/{id}/content", "GET, HEAD")
                .route(web::get().to(loras::content::handler))
                .route(web::head().to(loras::content::handler)),
        )
        .service(at("/loras/{id}/prefetch", "POST").route(web::post().to(loras::prefetch::handler)))
        .service(
            at("/loras/{id}/versions", "GET, HEAD")
                .route(web::get().to(loras::versions::handler))
                .route(web::head().to(loras::versions::handler)),
        );
}

/// Routes input pictures.
fn input_files(config: &mut ServiceConfig) {
    config
        .service(
            at("/inputs", "GET, HEAD, POST")
                .route(web::get().to(inputs::list::handler))
                .route(web::head().to(inputs::list::handler))
                .route(web::post().to(inputs::upload::handler)),
        )
        .service(
            at("/inputs/{id}", "DELETE, GET, HEAD")
                .route(web::get().to(inputs::get::handler))
                .route(web::head().to(inputs::get::handler))
                .route(web::delete().to(inputs::delete::handler)),
        )
        .service(
            at("/inputs/{id}/content", "GET, HEAD")
                .route(web::get().to(inputs::content::handler))
                .route(web::head().to(inputs::content::handler)),
        );
}

/// Routes uploads in pieces. Every answer names the protocol's version.
fn uploads(config: &mut ServiceConfig) {
    use loras::uploads;

    let post_for = |method| web::post().guard(tus::stands_for(method));
    config
        .service(
            at("/loras/uploads", "OPTIONS, POST")
                .route(web::method(Method::OPTIONS).to(uploads::options::handler))
                .route(web::post().to(uploads::create::handler))
                .wrap(from_fn(tus::name_the_version)),
        )
        .service(
            at("/loras/uploads/{id}", "DELETE, GET, HEAD, PATCH")
                .route(web::get().to(uploads::get::handler))
                .route(web::head().to(uploads::head::handler))
                .route(web::patch().to(uploads::append::handler))
                .route(web::delete().to(uploads::delete::handler))
                .route(post_for("HEAD").to(uploads::head::handler))
                .route(post_for("PATCH").to(uploads::append::handler))
                .route(post_for("DELETE").to(uploads::delete::handler))
                .wrap(from_fn(tus::name_the_version)),
        );
}
