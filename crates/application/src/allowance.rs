//! What one person may take up.

use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::ports::{RepoError, UsageRepo};
use atelier_domain::usage::{QuotaExceeded, Quotas};
use thiserror::Error;

use crate::opaque::opaque_debug;

/// Why something more was not taken in.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AllowanceError {
    /// It would be more than the person may take up.
    #[error(transparent)]
    Exceeded(#[from] QuotaExceeded),
    /// What the person takes up could not be found out.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

/// Holds people to their quotas. Where none is set, nobody is asked.
#[derive(Clone)]
pub struct Allowance {
    /// Knows what people take up.
    pub usage: Arc<dyn UsageRepo>,
    /// What they may take up.
    pub quotas: Quotas,
}

opaque_debug!(Allowance);

impl Allowance {
    /// Whether `more` bytes of LoRAs fit, besides those that are there and on
    /// their way.
    ///
    /// # Errors
    /// [`AllowanceError::Exceeded`] with the figures.
    pub async fn loras(&self, actor: &Actor, more: u64) -> Result<(), AllowanceError> {
        if self.quotas.lora_bytes.is_some() {
            let usage = self.usage.of(actor).await?;
            self.quotas.check_loras(&usage, more)?;
        }
        Ok(())
    }

    /// Whether `more` bytes of input files fit.
    ///
    /// # Errors
    /// As [`Allowance::loras`].
    pub async fn inputs(&self, actor: &Actor, more: u64) -> Result<(), AllowanceError> {
        if self.quotas.input_bytes.is_some() {
            let usage = self.usage.of(actor).await?;
            self.quotas.check_inputs(&usage, more)?;
        }
        Ok(())
    }

    /// Whether there is room for what another run leaves.
    ///
    /// # Errors
    /// As [`Allowance::loras`].
    pub async fn outputs(&self, actor: &Actor) -> Result<(), AllowanceError> {
        if self.quotas.output_bytes.is_some() {
            let usage = self.usage.of(actor).await?;
            self.quotas.check_outputs(&usage)?;
        }
        Ok(())
    }
}
