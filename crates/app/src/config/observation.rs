//! What is seen of a process from outside.
//!
//! - `ATELIER_METRICS_TOKEN`: the bearer token that opens `/metrics`; anybody who reaches the address
//!   may read it if not set. It holds no data of people's.
//! - `ATELIER_WORKER_LISTEN`: where `atelier worker` serves `/metrics`, `/healthz` and `/readyz`;
//!   nowhere if not set. `atelier serve` has them where the API is.

use std::net::SocketAddr;

use super::{Mistakes, Secret, or_variables};

pub(crate) const METRICS_TOKEN: &str = "ATELIER_METRICS_TOKEN";
pub(crate) const WORKER_LISTEN: &str = "ATELIER_WORKER_LISTEN";

/// Who may read measurements.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct MetricsArguments {
    /// The bearer token that opens /metrics; it is open to anybody if not set.
    #[arg(
        long,
        env = METRICS_TOKEN,
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub metrics_token: Option<String>,
}

/// Who may read measurements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricsConfig {
    /// The bearer token that opens them; `None` for anybody.
    pub token: Option<Secret>,
}

impl MetricsArguments {
    /// Checks the arguments.
    pub fn check(self, mistakes: &mut Mistakes) -> Option<MetricsConfig> {
        Some(MetricsConfig {
            token: mistakes.secret(self.metrics_token, &[METRICS_TOKEN]),
        })
    }
}

/// Where a worker listens.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct WorkerListenArguments {
    /// Where a worker serves /metrics, /healthz and /readyz; nowhere if not set.
    #[arg(long, env = WORKER_LISTEN, value_name = "ADDRESS")]
    pub worker_listen: Option<String>,
}

impl WorkerListenArguments {
    /// Checks the arguments.
    pub fn check(self, mistakes: &mut Mistakes) -> Option<Option<SocketAddr>> {
        match or_variables(self.worker_listen, &[]) {
            None => Some(None),
            Some(text) => mistakes
                .parse(
                    WORKER_LISTEN,
                    &text,
                    "an address and a port, such as 0.0.0.0:9090",
                    |_| true,
                )
                .map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Result<Option<SocketAddr>, String> {
        let arguments = WorkerListenArguments {
            worker_listen: Some(text.to_owned()),
        };
        let mut mistakes = Mistakes::default();
        let address = arguments.check(&mut mistakes);
        mistakes.check(address).map_err(|all| all.to_string())
    }

    #[test]
    fn a_worker_listens_where_it_is_told_or_nowhere() {
        assert_eq!(listen(""), Ok(None));
        assert_eq!(
            listen("127.0.0.1:9090"),
            Ok(Some(SocketAddr::from(([127, 0, 0, 1], 9090))))
        );
        let told = listen("9090").expect_err("a port alone is no address");
        assert!(
            told.contains("\n  ATELIER_WORKER_LISTEN: must be "),
            "{told}"
        );
    }
}
