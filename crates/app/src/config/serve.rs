//! What a server needs: all that a worker does, a place to listen, who may sign in, and what they
//! may ask for.

use super::Mistakes;
use super::identity::{IdentityArguments, IdentityConfig};
use super::intake::{IntakeArguments, IntakeConfig};
use super::runs::{RunLimitsArguments, RunLimitsConfig};
use super::server::{ServerArguments, ServerConfig};
use super::work::{WorkArguments, WorkConfig};

/// How a server and its surroundings are told.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArguments {
    /// How it listens.
    #[command(flatten)]
    pub server: ServerArguments,
    /// Who may sign in.
    #[command(flatten)]
    pub identity: IdentityArguments,
    /// What people may ask of runs.
    #[command(flatten)]
    pub runs: RunLimitsArguments,
    /// How much people may bring in at once.
    #[command(flatten)]
    pub intake: IntakeArguments,
    /// What it shares with a worker.
    #[command(flatten)]
    pub work: WorkArguments,
}

/// What a server needs.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// How it listens.
    pub server: ServerConfig,
    /// Who may sign in.
    pub identity: IdentityConfig,
    /// What people may ask of runs.
    pub runs: RunLimitsConfig,
    /// How much people may bring in at once.
    pub intake: IntakeConfig,
    /// What it shares with a worker.
    pub work: WorkConfig,
    /// Whether a worker runs in the same process.
    pub with_worker: bool,
}

impl ServeArguments {
    /// Checks the arguments, each concern even where another is wrong.
    ///
    /// # Errors
    /// All the mistakes at once.
    pub fn check(self, with_worker: bool) -> Result<ServeConfig, Mistakes> {
        let mut mistakes = Mistakes::default();
        let server = self.server.check(&mut mistakes);
        let identity = self.identity.check(&mut mistakes);
        let runs = self.runs.check(&mut mistakes);
        let intake = self.intake.check(&mut mistakes);
        let work = self.work.check(&mut mistakes);
        let ((server, identity), ((runs, intake), work)) =
            mistakes.check(server.zip(identity).zip(runs.zip(intake).zip(work)))?;
        Ok(ServeConfig {
            server,
            identity,
            runs,
            intake,
            work,
            with_worker,
        })
    }
}
