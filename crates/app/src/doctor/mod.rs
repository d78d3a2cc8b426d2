//! `atelier doctor`: looks at everything that a server needs, and says what is wrong with it and how
//! to mend it.

mod blobs;
mod comfyui;
mod database;
mod report;
mod sign_in;

use std::path::PathBuf;
use std::sync::Arc;

use atelier_domain::ports::{BlobStore, Clock};
use clap::Args;
use thiserror::Error;
use tokio::runtime::Handle;

use crate::config::identity::IdentityConfig;
use crate::config::serve::ServeArguments;
use crate::config::{Mistakes, or_variables};
use crate::logging::Chain;
use crate::terminal;
use crate::wiring::{self, GoogleDrive, PgOptions};

use report::{Finding, Report};

/// What `doctor` can be told.
#[derive(Clone, Debug, Args)]
pub(crate) struct DoctorArguments {
    /// Says it as JSON, for programs.
    #[arg(long)]
    json: bool,
    /// Looks at what the API alone needs: no LoRA folder.
    #[arg(long, env = "ATELIER_NO_WORKER")]
    no_worker: bool,
    /// Looks at what a worker alone needs: nobody signs in there.
    #[arg(long, conflicts_with = "no_worker")]
    worker: bool,
    #[command(flatten)]
    serve: ServeArguments,
}

/// Why the doctor is not content.
#[derive(Debug, Error)]
pub(crate) enum DoctorError {
    /// A configuration that cannot work.
    #[error(transparent)]
    Configuration(#[from] Mistakes),
    /// Something does not work.
    #[error("{0} of the checks failed")]
    Failed(usize),
}

/// All that is looked at.
pub(crate) struct Patient {
    pub(crate) database: PgOptions,
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) backends: Vec<PatientBackend>,
    pub(crate) drive: GoogleDrive,
    /// `None` where nobody signs in.
    pub(crate) identity: Option<IdentityConfig>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// One ComfyUI.
pub(crate) struct PatientBackend {
    pub(crate) backend: atelier_application::dispatch::Backend,
    pub(crate) loras_dir: PathBuf,
    pub(crate) keep_free_bytes: u64,
}

/// Looks at everything, and tells what it found.
///
/// # Errors
/// [`DoctorError::Failed`] if something does not work.
pub(crate) async fn run(arguments: DoctorArguments) -> Result<(), DoctorError> {
    let log_filter = or_variables(None, &["RUST_LOG"]);
    let with_worker = !arguments.no_worker;
    let (work, identity) = if arguments.worker {
        let mut mistakes = Mistakes::default();
        let work = arguments.serve.work.check(&mut mistakes);
        (mistakes.check(work)?, None)
    } else {
        let config = arguments.serve.check(with_worker)?;
        (config.work, Some(config.identity))
    };
    let patient = wiring::patient(work, identity, &Handle::current())?;
    let report = examine(&patient, with_worker, log_filter.as_deref()).await;
    terminal::tell(&if arguments.json {
        report.to_json()
    } else {
        report.to_text()
    });
    match report.failures() {
        0 => Ok(()),
        failures => Err(DoctorError::Failed(failures)),
    }
}

async fn examine(patient: &Patient, with_worker: bool, log_filter: Option<&str>) -> Report {
    let mut report = Report::default();
    report.add(Finding::fine(
        "configuration",
        "every setting is understood",
    ));
    report.add(log(log_filter));
    let (database, blobs, sign_in, drive, backends) = tokio::join!(
        database::examine(&patient.database, patient.clock.as_ref()),
        blobs::examine(patient.blobs.as_ref()),
        async {
            match &patient.identity {
                Some(identity) => sign_in::examine(identity).await,
                None => Vec::new(),
            }
        },
        drive(&patient.drive),
        async {
            if with_worker {
                comfyui::examine(&patient.backends).await
            } else {
                comfyui::examine_from_afar(&patient.backends).await
            }
        },
    );
    report.extend(database);
    report.extend(blobs);
    report.extend(sign_in);
    report.add(drive);
    report.extend(backends);
    report
}

/// Whether the log is one for every day.
fn log(filter: Option<&str>) -> Finding {
    match filter {
        Some(text) if text.contains("debug") || text.contains("trace") => Finding::doubtful(
            "log",
            format!("RUST_LOG is `{text}`: it slows the server down and fills disks"),
            "set it to info, and to more only while something is looked for",
        ),
        _ => Finding::fine("log", "what is logged suits every day"),
    }
}

async fn drive(drive: &GoogleDrive) -> Finding {
    const CHECK: &str = "Google Drive";
    if !drive.is_configured() {
        return Finding::fine(
            CHECK,
            "not configured: people lend tokens of their own, as they may",
        );
    }
    match drive.check_credentials().await {
        Ok(()) => Finding::fine(CHECK, "Google takes the credentials"),
        Err(error) => Finding::broken(
            CHECK,
            Chain(&error).to_string(),
            "check GDOC_TOKEN and the OAuth client (GDOC_CLIENT, or GOOGLE_CLIENT_ID with \
             GOOGLE_CLIENT_SECRET); sign in again where the token was revoked",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::report::Verdict;
    use super::*;

    #[test]
    fn a_talkative_log_is_doubtful() {
        for (filter, verdict) in [
            (None, Verdict::Ok),
            (Some("info"), Verdict::Ok),
            (Some("atelier=debug"), Verdict::Warning),
            (Some("trace"), Verdict::Warning),
        ] {
            assert_eq!(log(filter).verdict, verdict, "{filter:?}");
        }
    }
}
