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
    name: String,
    asks: Asks,
}

enum Asks {
    Itself(Probe),
    OneOf(Vec<Check>),
}

impl Check {
    /// Asks whether something works, called `name`, such as `database`.
    ///
    /// The error's own words, without its causes, are told to anybody.
    pub fn new<F, Fut, E>(name: impl Into<String>, probe: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + 'static,
    {
        let name = name.into();
        let told = name.clone();
        let probe = move || -> BoxFuture<'static, Result<(), String>> {
            let asked = probe();
            let name = told.clone();
            Box::pin(async move {
                asked.await.map_err(|error| {
                    tracing::warn!(check = name, error = %Chain(&error), "{name} is down");
                    error.to_string()
                })
            })
        };
        Self {
            name,
            asks: Asks::Itself(Box::new(probe)),
        }
    }

    /// Asks several that can do each other's work, such as backends: it works if one of them does.
    ///
    /// Of each of them, anybody is told its name and whether it works, and nothing else.
    pub fn one_of(name: impl Into<String>, checks: Vec<Self>) -> Self {
        Self {
            name: name.into(),
            asks: Asks::OneOf(checks),
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

fn run(check: &Check) -> BoxFuture<'_, CheckResult> {
    Box::pin(async move {
        let name = check.name.clone();
        match &check.asks {
            Asks::Itself(probe) => {
                let outcome = match timeout(CHECK_WAIT, probe()).await {
                    Ok(outcome) => outcome,
                    Err(_elapsed) => {
                        Err(format!("gave no answer within {} s", CHECK_WAIT.as_secs()))
                    }
                };
                CheckResult {
                    name,
                    up: outcome.is_ok(),
                    detail: outcome.err(),
                    backends: Vec::new(),
                }
            }
            Asks::OneOf(checks) => {
                let results = join_all(checks.iter().map(run)).await;
                let up = results.iter().any(|result| result.up);
                CheckResult {
                    name,
                    up,
                    detail: (!up).then(|| "none of its backends works".to_owned()),
                    backends: results.into_iter().map(BackendResult::from).collect(),
                }
            }
        }
    })
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
    name: String,
    /// Whether it works.
    up: bool,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// Those that it consists of, where one that works is enough.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    backends: Vec<BackendResult>,
}

/// How one of several is doing.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct BackendResult {
    /// What it is called; runs name the one that executes them.
    #[schema(example = "comfyui")]
    name: String,
    /// Whether it works.
    up: bool,
}

impl From<CheckResult> for BackendResult {
    fn from(result: CheckResult) -> Self {
        Self {
            name: result.name,
            up: result.up,
        }
    }
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
    answer(api.readiness()).await
}

/// Whether everything works that is needed.
pub(super) async fn answer(readiness: &Readiness) -> Result<HttpResponse, Problem> {
    if readiness.draining.is_cancelled() {
        return Err(Problem::new(ProblemCode::NotReady, "The server stops."));
    }
    let checks = readiness.report().await;
    let down: Vec<&str> = checks
        .iter()
        .filter(|check| !check.up)
        .map(|check| check.name.as_str())
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn backend(name: &str, fails: bool) -> Check {
        Check::new(name, move || async move {
            if fails {
                Err(std::io::Error::other("http://10.0.0.5:8188 is gone"))
            } else {
                Ok(())
            }
        })
    }

    async fn report(backends: Vec<Check>) -> Value {
        let checks = vec![Check::one_of("comfyui", backends)];
        let readiness = Readiness::new(checks, CancellationToken::new());
        serde_json::to_value(readiness.report().await.as_ref()).expect("it is JSON")
    }

    #[tokio::test]
    async fn one_backend_that_works_is_enough() {
        let report = report(vec![backend("gpu-1", true), backend("gpu-2", false)]).await;

        let backends = json!([{"name": "gpu-1", "up": false}, {"name": "gpu-2", "up": true}]);
        assert_eq!(
            report,
            json!([{"name": "comfyui", "up": true, "backends": backends}])
        );
    }

    #[tokio::test]
    async fn where_no_backend_works_their_names_are_told_and_no_more() {
        let report = report(vec![backend("gpu-1", true), backend("gpu-2", true)]).await;

        let backends = json!([{"name": "gpu-1", "up": false}, {"name": "gpu-2", "up": false}]);
        let detail = "none of its backends works";
        assert_eq!(
            report,
            json!([{"name": "comfyui", "up": false, "detail": detail, "backends": backends}])
        );
    }

    #[tokio::test]
    async fn without_any_backend_nothing_works() {
        let report = report(Vec::new()).await;

        assert_eq!(report[0]["up"], json!(false));
    }
}
