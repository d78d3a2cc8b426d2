//! What `atelier doctor` looks at.

use std::path::PathBuf;
use std::sync::Arc;

use atelier_domain::ports::{Clock, IdGen};
use tokio::runtime::Handle;

use super::{database_options, google_drive, open_backends, open_blobs};
use crate::clock::{RandomIds, SystemClock};
use crate::config::Mistakes;
use crate::config::identity::IdentityConfig;
use crate::config::work::WorkConfig;
use crate::doctor::{Patient, PatientBackend};

/// Builds what a server would stand on, for whoever looks at it; without `identity`, a worker alone.
///
/// # Errors
/// Everything that the adapters find wrong with their options.
pub(crate) fn patient(
    work: WorkConfig,
    identity: Option<IdentityConfig>,
    io: &Handle,
) -> Result<Patient, Mistakes> {
    let mut mistakes = Mistakes::default();
    let ids: Arc<dyn IdGen> = Arc::new(RandomIds);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let folders: Vec<(String, PathBuf, u64)> = work
        .comfyui
        .backends
        .iter()
        .map(|backend| {
            let folder = backend.loras_dir.clone();
            (backend.name.clone(), folder, backend.lora_keep_free_bytes)
        })
        .collect();
    let blobs = open_blobs(work.blob, io, &mut mistakes);
    let drive = google_drive(&work.drive, &clock, io, &mut mistakes);
    let backends = open_backends(work.comfyui, &ids, io, &mut mistakes);
    let (blobs, drive) = mistakes.check(blobs.zip(drive))?;
    let backends = backends.into_iter().filter_map(|backend| {
        let (_, loras_dir, keep_free_bytes) =
            folders.iter().find(|(name, ..)| *name == backend.name)?;
        Some(PatientBackend {
            loras_dir: loras_dir.clone(),
            keep_free_bytes: *keep_free_bytes,
            backend,
        })
    });
    Ok(Patient {
        database: database_options(&work.database),
        blobs,
        backends: backends.collect(),
        drive,
        identity,
        clock,
    })
}
