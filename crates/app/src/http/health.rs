//! Whether the server lives, and whether it can do its work.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpResponse, web};
use futures_util::future::{BoxFuture, join_all};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::api::Api;
use super::problem::{Problem, ProblemCode};
use crate::logging::Chain;

/// The longest that one check may take.
const CHECK_WAIT: Duration = Duration::from_secs(2);
/// How long a report is given out again: whoever asks in a loop, and anybody
/// may, does not load what is behind.
const REPORT_AGE: Duration = Duration::from_secs(1);

type Probe = Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Something that the server needs.
pub struct Check {
    name: &'static str,
    probe: Probe,
}

impl Check {
    /// Asks whether something works, called `name`, such as `database`.
    ///
    /// The error's own words, without its causes, are told to anybody.
    pub fn new<F, Fut, E>(name: &'static str, probe: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + 'static,
    {
        let probe = move || -> BoxFuture<'static, Result<(), String>> {
            let asked = probe();
            Box::pin(async move {
                asked.await.map_err(|error| {
                    tracing::warn!(check = name, error = %Chain(&error), "{name} is down");
                    error.to_string()
                })
            })
        };
        Self {
            name,
            probe: Box::new(probe),
        }
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Check")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Everything that the server needs.
#[derive(Debug)]
pub struct Readiness {
    checks: Vec<Check>,
    draining: CancellationToken,
    latest: Mutex<Option<(Instant, Arc<[CheckResult]>)>>,
}

impl Readiness {
    /// Needs all of `checks`, and is never ready once `draining` is cancelled.
    pub fn new(checks: Vec<Check>, draining: CancellationToken) -> Self {
        Self {
            checks,
            draining,
            latest: Mutex::new(None),
        }
    }

    /// A report of at most a second's age. Whoever comes while it is being
    /// made waits for it.
    async fn report(&self) -> Arc<[CheckResult]> {
        let mut latest = self.latest.lock().await;
        if let Some((made, report)) = latest.as_ref()
            && made.elapsed() < REPORT_AGE
        {
            return Arc::clone(report);
        }
        let report: Arc<[CheckResult]> = join_all(self.checks.iter().map(run)).await.into();
        *latest = Some((Instant::now(), Arc::clone(&report)));
        report
    }
}

async fn run(check: &Check) -> CheckResult {
    let outcome = match timeout(CHECK_WAIT, (check.probe)()).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Err(format!("gave no answer within {} s", CHECK_WAIT.as_secs())),
    };
    CheckResult {
        name: check.name,
        up: outcome.is_ok(),
        detail: outcome.err(),
    }
}

/// Whether the server lives.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// Always `ok`.
    status: &'static str,
}

/// Whether the server can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReadinessReport {
    /// Always `ready`; a server that is not answers with a problem whose
    /// member `checks` says why.
    status: &'static str,
    /// What was asked.
    #[schema(value_type = Vec<CheckResult>)]
    checks: Arc<[CheckResult]>,
}

/// How something that the server needs is doing.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct CheckResult {
    /// What it is.
    #[schema(example = "database")]
    name: &'static str,
    /// Whether it works.
    up: bool,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Answers as long as the process lives.
#[utoipa::path(get, path = "/healthz", tag = "server", security(()),
    responses((status = 200, description = "The process lives.", body = Health)))]
pub(crate) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(Health { status: "ok" })
}

/// Asks database, blob store and backends whether the server can do its work.
///
/// A report is at most one second old.
#[utoipa::path(get, path = "/readyz", tag = "server", security(()),
    responses(
        (status = 200, description = "Everything works.", body = ReadinessReport),
        (status = 503, response = super::openapi::ProblemResponse)))]
pub(crate) async fn readyz(api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let readiness = api.readiness();
    if readiness.draining.is_cancelled() {
        return Err(Problem::new(ProblemCode::NotReady, "The server stops."));
    }
    let checks = readiness.report().await;
    let down: Vec<&str> = checks
        .iter()
        .filter(|check| !check.up)
        .map(|check| check.name)
        .collect();
    if down.is_empty() {
        return Ok(HttpResponse::Ok().json(ReadinessReport {
            status: "ready",
            checks,
        }));
    }
    let detail = format!("Down: {}.", down.join(", "));
    let checks = serde_json::to_value(&checks).map_err(Problem::internal)?;
    Err(Problem::new(ProblemCode::NotReady, detail)
        .with_member("checks", checks)
        .retry_after(CHECK_WAIT))
}
