//! Several ways to the same thing, taken in turns so that whatever else the machine does falls on all of them.

use std::net::SocketAddr;
use std::time::Duration;

use crate::load::{self, Request};
use crate::pgbench::Script;

/// One of several that do the same.
#[derive(Clone, Debug)]
pub(crate) enum Contender {
    /// A server that is asked on a connection for each request.
    Http {
        address: SocketAddr,
        requests: Vec<Request>,
        status: u16,
    },
    /// `pgbench` with so many clients.
    Pgbench { script: Script, clients: usize },
}

impl Contender {
    pub(crate) async fn rate(&self, time: Duration) -> f64 {
        match self {
            Self::Http {
                address,
                requests,
                status,
            } => load::rate(*address, requests.clone(), *status, time).await,
            Self::Pgbench { script, clients } => script.rate(*clients, time).await,
        }
    }
}

/// How long is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Each measurement.
    pub(crate) time: Duration,
    /// How many of each.
    pub(crate) rounds: usize,
}

/// The rates of all contenders, round by round.
#[derive(Debug)]
pub(crate) struct Rates(Vec<Vec<f64>>);

impl Rates {
    /// Lets them run in turns, after one turn that warms up.
    pub(crate) async fn measure(pace: Pace, contenders: &[Contender]) -> Self {
        for contender in contenders {
            contender.rate(Duration::from_secs(1)).await;
        }
        let mut rounds = Vec::new();
        for _ in 0..pace.rounds {
            let mut round = Vec::new();
            for contender in contenders {
                round.push(contender.rate(pace.time).await);
            }
            rounds.push(round);
        }
        Self(rounds)
    }

    /// The median rate of one.
    pub(crate) fn of(&self, contender: usize) -> f64 {
        median(self.0.iter().map(|round| round[contender]).collect())
    }

    /// The median of how much faster one was than another in the same round.
    pub(crate) fn ratio(&self, one: usize, other: usize) -> f64 {
        median(
            self.0
                .iter()
                .map(|round| round[one] / round[other])
                .collect(),
        )
    }
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
