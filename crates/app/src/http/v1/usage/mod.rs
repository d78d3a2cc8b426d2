//! `GET /usage`

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, web};
use atelier_domain::usage::Usage;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::api::{Api, Limits};
use crate::http::auth::ReadsRuns;
use crate::http::problem::Problem;
use crate::http::query::Query;

/// What one takes up, and may.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Usage)]
pub(crate) struct UsageBody {
    /// Bytes of LoRAs, every version; those on their way count with what is known of their size.
    lora_bytes: Share,
    /// Bytes of uploaded pictures.
    input_bytes: Share,
    /// Bytes that runs left behind. Beyond the limit no run is taken.
    output_bytes: Share,
    /// Runs that wait.
    pending_runs: Share,
    /// Runs under way. Beyond the limit, runs wait.
    running_runs: Share,
}

/// How much of something.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Share)]
pub(crate) struct Share {
    /// How much there is.
    used: u64,
    /// How much there may be; null for no limit.
    limit: Option<u64>,
}

fn body(usage: &Usage, limits: &Limits) -> UsageBody {
    let share = |used, limit| Share { used, limit };
    let Usage {
        lora_bytes,
        input_bytes,
        output_bytes,
        pending_runs,
        running_runs,
    } = *usage;
    UsageBody {
        lora_bytes: share(lora_bytes, limits.quotas.lora_bytes),
        input_bytes: share(input_bytes, limits.quotas.input_bytes),
        output_bytes: share(output_bytes, limits.quotas.output_bytes),
        pending_runs: share(pending_runs, Some(limits.runs.max_pending.into())),
        running_runs: share(running_runs, limits.running_runs.map(u64::from)),
    }
}

/// Says what one takes up, and may.
#[utoipa::path(get, path = "/api/v1/comfyui/usage", operation_id = "getUsage", tag = "server",
    responses((status = 200, description = "As of now.", body = UsageBody)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    ReadsRuns(actor): ReadsRuns,
    query: Query,
) -> Result<HttpResponse, Problem> {
    query.finish()?;
    let usage = api.ports().usage.of(&actor).await?;
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "private, no-cache"))
        .json(body(&usage, api.limits())))
}
