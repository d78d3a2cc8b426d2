//! `GET /metrics`

use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use actix_web::{HttpRequest, HttpResponse, web};
use sha2::{Digest as _, Sha256};

use super::api::Api;
use super::problem::Problem;
use crate::config::Secret;
use crate::telemetry::Metrics;
use crate::telemetry::figures::{FigureReader, Figures};

/// The text format of `OpenMetrics` 1.0, which Prometheus reads.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is seen of the process from outside, and by whom.
#[derive(Debug, Default)]
pub struct Observation {
    /// What it measures.
    pub metrics: Metrics,
    /// What only the database knows; `None` leaves it out.
    pub figures: Option<FigureReader>,
    /// The bearer token that opens the measurements; anybody may read them without one.
    pub token: Option<Secret>,
}

impl Observation {
    /// The measurements, for whoever may read them.
    pub(crate) async fn answer(&self, headers: &HeaderMap) -> Result<HttpResponse, Problem> {
        if !self.is_open_to(headers) {
            return Err(Problem::unauthenticated(
                "Bearer",
                "Send the token of ATELIER_METRICS_TOKEN as a bearer token.",
            ));
        }
        let figures = match &self.figures {
            Some(figures) => figures.read().await,
            None => Figures::default(),
        };
        let text = self.metrics.text(figures).map_err(Problem::internal)?;
        Ok(HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, OPEN_METRICS))
            .body(text))
    }

    fn is_open_to(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        let bearer = headers.get(AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        // Hashes tell nothing of where the two differ, however long it takes.
        bearer.is_some_and(|given| Sha256::digest(given) == Sha256::digest(token.expose()))
    }
}

/// How this process does, for Prometheus.
///
/// Counts, gauges and histograms in the text format of `OpenMetrics` 1.0: requests by route, runs by
/// phase and end, the queue, copies of LoRAs, backends, connections. No names and no texts of
/// people's. Where the server has a token for it (`ATELIER_METRICS_TOKEN`), it is asked for as a
/// bearer token.
#[utoipa::path(get, path = "/metrics", operation_id = "readMetrics", tag = "server", security(()),
    responses(
        (status = 200, description = "The measurements.", body = String, content_type = "application/openmetrics-text"),
        (status = 401, response = super::openapi::ProblemResponse)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    api.observation().answer(request.headers()).await
}
