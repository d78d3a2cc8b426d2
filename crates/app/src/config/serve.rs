//! What a server needs: all that a worker does, a place to listen, who may sign in, and what they
//! may ask for.

use super::Mistakes;
use super::identity::{IdentityArguments, IdentityConfig};
use super::inputs::{InputArguments, InputConfig};
use super::intake::{IntakeArguments, IntakeConfig};
use super::limits::{LimitsArguments, LimitsConfig};
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
    /// Input pictures.
    #[command(flatten)]
    pub inputs: InputArguments,
    /// How much one person may ask for and take up.
    #[command(flatten)]
    pub limits: LimitsArguments,
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
    /// Input pictures.
    pub inputs: InputConfig,
    /// How much one person may ask for and take up.
    pub limits: LimitsConfig,
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
        let inputs = self.inputs.check(&mut mistakes);
        let work = self.work.check(&mut mistakes);
        let limits = self.limits.check(&mut mistakes);
        let people = runs.zip(intake.zip(inputs)).zip(limits);
        let ((server, identity), (((runs, (intake, inputs)), limits), work)) =
            mistakes.check(server.zip(identity).zip(people.zip(work)))?;
        Ok(ServeConfig {
            server,
            identity,
            runs,
            intake,
            inputs,
            limits,
            work,
            with_worker,
        })
    }
}
