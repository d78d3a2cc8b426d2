//! The HTTP server.
//!
//! - `ATELIER_LISTEN`: where the API listens.
//! - `ATELIER_HTTP_THREADS`: how many threads answer requests; as many as there are processors if
//!   not set.

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use super::{Mistakes, or_variables};

const LISTEN: &str = "ATELIER_LISTEN";
const THREADS: &str = "ATELIER_HTTP_THREADS";

const DEFAULT_LISTEN: &str = "127.0.0.1:8080";

/// How the server is told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ServerArguments {
    /// Where the API listens.
    ///
    /// Default: 127.0.0.1:8080.
    #[arg(long, env = LISTEN, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// How many threads answer requests; one a processor if not set.
    #[arg(long, env = THREADS, value_name = "COUNT")]
    pub http_threads: Option<String>,
}

/// How the server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where.
    pub listen: SocketAddr,
    /// How many threads answer requests; `None` for one a processor.
    pub threads: Option<NonZeroUsize>,
}

impl ServerArguments {
    /// The address to listen on, if it is given.
    pub(crate) fn given_listen(&self) -> Option<String> {
        or_variables(self.listen.clone(), &[])
    }

    /// Checks the arguments.
    pub fn check(self, mistakes: &mut Mistakes) -> Option<ServerConfig> {
        let listen = self
            .given_listen()
            .unwrap_or_else(|| DEFAULT_LISTEN.to_owned());
        let listen = mistakes.parse(
            LISTEN,
            &listen,
            "an address and a port, such as 0.0.0.0:8080",
            |_| true,
        );
        let threads = match or_variables(self.http_threads, &[]) {
            None => Some(None),
            Some(text) => mistakes
                .parse(
                    THREADS,
                    &text,
                    "a number from 1 to 1024",
                    |count: &NonZeroUsize| count.get() <= 1_024,
                )
                .map(Some),
        };
        Some(ServerConfig {
            listen: listen?,
            threads: threads?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_or_empty_has_a_default() {
        let arguments = ServerArguments {
            listen: Some(String::new()),
            ..ServerArguments::default()
        };
        let mut mistakes = Mistakes::default();

        let config = arguments.check(&mut mistakes);

        let config = mistakes.check(config).expect("nothing is wrong");
        assert_eq!(config.listen, SocketAddr::from(([127, 0, 0, 1], 8080)));
        assert_eq!(config.threads, None);
    }

    #[test]
    fn every_mistake_is_told() {
        let arguments = ServerArguments {
            listen: Some("8080".to_owned()),
            http_threads: Some("many".to_owned()),
        };
        let mut mistakes = Mistakes::default();

        let config = arguments.check(&mut mistakes);

        let told = mistakes
            .check(config)
            .expect_err("two mistakes")
            .to_string();
        for variable in [LISTEN, THREADS] {
            assert!(
                told.contains(&format!("\n  {variable}: must be ")),
                "{told}"
            );
        }
    }
}
