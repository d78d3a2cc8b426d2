//! What one person takes up, and may.

/// What one person takes up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of LoRAs, every version; those on their way count with what is
    /// known of their size.
    pub lora_bytes: u64,
    /// Bytes of uploaded pictures.
    pub input_bytes: u64,
    /// Bytes that runs left behind.
    pub output_bytes: u64,
    /// Runs that wait.
    pub pending_runs: u64,
    /// Runs under way.
    pub running_runs: u64,
}

/// What one person may take up; `None` for as much as there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Bytes of LoRAs.
    pub lora_bytes: Option<u64>,
    /// Bytes of uploaded pictures.
    pub input_bytes: Option<u64>,
    /// Bytes that runs leave behind. A run is not begun beyond it; what it
    /// leaves is kept.
    pub output_bytes: Option<u64>,
}

/// More than a person may take up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} would take {wanted} bytes of the {allowed} that you may have")]
pub struct QuotaExceeded {
    /// What takes it up, such as `your LoRAs`.
    pub what: &'static str,
    /// How many bytes it would be.
    pub wanted: u64,
    /// How many it may be.
    pub allowed: u64,
}

impl Quotas {
    /// Whether `more` bytes of LoRAs fit.
    ///
    /// # Errors
    /// [`QuotaExceeded`].
    pub fn check_loras(&self, usage: &Usage, more: u64) -> Result<(), QuotaExceeded> {
        fits("your LoRAs", usage.lora_bytes, more, self.lora_bytes)
    }

    /// Whether `more` bytes of pictures fit.
    ///
    /// # Errors
    /// [`QuotaExceeded`].
    pub fn check_inputs(&self, usage: &Usage, more: u64) -> Result<(), QuotaExceeded> {
        fits(
            "your input files",
            usage.input_bytes,
            more,
            self.input_bytes,
        )
    }

    /// Whether there is room for any more outputs.
    ///
    /// # Errors
    /// [`QuotaExceeded`].
    pub fn check_outputs(&self, usage: &Usage) -> Result<(), QuotaExceeded> {
        fits(
            "the outputs of your runs",
            usage.output_bytes,
            1,
            self.output_bytes,
        )
    }
}

fn fits(
    what: &'static str,
    taken: u64,
    more: u64,
    allowed: Option<u64>,
) -> Result<(), QuotaExceeded> {
    let wanted = taken.saturating_add(more);
    match allowed {
        Some(allowed) if wanted > allowed => Err(QuotaExceeded {
            what,
            wanted,
            allowed,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_exactly_fits() {
        let quotas = Quotas {
            lora_bytes: Some(10),
            ..Quotas::default()
        };
        let usage = Usage {
            lora_bytes: 7,
            ..Usage::default()
        };

        assert_eq!(quotas.check_loras(&usage, 3), Ok(()));
        assert!(quotas.check_loras(&usage, 4).is_err());
        assert_eq!(quotas.check_inputs(&usage, u64::MAX), Ok(()));
    }
}
