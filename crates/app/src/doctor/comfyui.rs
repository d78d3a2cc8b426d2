use std::collections::BTreeSet;

use atelier_application::dispatch::Backend;
use atelier_domain::ports::{ComfyError, LoraFolderError};

use super::PatientBackend;
use super::report::Finding;
use crate::logging::Chain;

/// Looks at every backend and its LoRA folder.
pub(super) async fn examine(backends: &[PatientBackend]) -> Vec<Finding> {
    let mut all = Vec::new();
    for patient in backends {
        let name = &patient.backend.name;
        all.push(answers(&patient.backend).await);
        let folder = folder(patient).await;
        let is_usable = folder.is_usable();
        all.push(folder);
        if is_usable {
            all.push(space(patient).await);
            all.push(sees_folder(&patient.backend, format!("ComfyUI {name} and its folder")).await);
        }
    }
    all
}

/// Looks at every backend from a machine that has none of their LoRA folders.
pub(super) async fn examine_from_afar(backends: &[PatientBackend]) -> Vec<Finding> {
    let mut all = Vec::new();
    for patient in backends {
        all.push(answers(&patient.backend).await);
    }
    all
}

async fn answers(backend: &Backend) -> Finding {
    let check = format!("ComfyUI {}", backend.name);
    match backend.client.information().await {
        Ok(information) => Finding::fine(check, format!("version {} answers", information.version)),
        Err(error) => {
            let remedy = match &error {
                ComfyError::Unauthorized { .. } => {
                    "set COMFYUI_WEB_USER and COMFYUI_WEB_PASSWORD, or COMFYUI_WEB_TOKEN, for what stands in front \
                     of it; a login page in front needs a way past it for programs"
                }
                ComfyError::Protocol(_) => {
                    "check that COMFYUI_URL leads to ComfyUI itself, and that it is not too old"
                }
                _ => {
                    "start it with --listen, and check COMFYUI_URL: from this machine, in this container's network"
                }
            };
            Finding::broken(check, Chain(&error).to_string(), remedy)
        }
    }
}

async fn folder(patient: &PatientBackend) -> Finding {
    let check = format!("LoRA folder of {}", patient.backend.name);
    let place = patient.loras_dir.display();
    match patient.backend.folder.check().await {
        Ok(()) => Finding::fine(check, format!("{place} is there and can be written")),
        Err(error) => Finding::broken(
            check,
            format!("{place}: {}", Chain(&error)),
            "mount the folder models/loras of that ComfyUI there (COMFYUI_LORAS_DIR), writable for this user",
        ),
    }
}

async fn space(patient: &PatientBackend) -> Finding {
    let check = format!("disk of {}", patient.backend.name);
    match patient.backend.folder.usage().await {
        Ok(usage) if usage.free_bytes < patient.keep_free_bytes => Finding::doubtful(
            check,
            format!(
                "{} bytes are free, fewer than the {} that are to stay free: LoRAs are brought only where others go",
                usage.free_bytes, patient.keep_free_bytes
            ),
            "make room, or set ATELIER_LORA_KEEP_FREE_BYTES",
        ),
        Ok(usage) => Finding::fine(
            check,
            format!(
                "{} bytes are free, {} hold LoRAs of this server",
                usage.free_bytes, usage.ours_bytes
            ),
        ),
        Err(error) => Finding::broken(
            check,
            Chain(&error).to_string(),
            "check that the disk is there",
        ),
    }
}

/// Whether what lies in the folder is what ComfyUI offers. Nothing is put there to find out.
async fn sees_folder(backend: &Backend, check: String) -> Finding {
    let installed = match backend.folder.installed().await {
        Ok(installed) => installed,
        Err(error) => return unread(check, &error),
    };
    if installed.is_empty() {
        return Finding::fine(
            check,
            "there is no LoRA of this server in it yet to tell by",
        );
    }
    let offered: BTreeSet<String> = match backend.client.lora_catalogue().await {
        Ok(catalogue) => catalogue.files.into_iter().collect(),
        Err(_told_before) => {
            return Finding::fine(check, "not known while ComfyUI does not answer");
        }
    };
    let seen = installed
        .iter()
        .filter(|lora| offered.contains(&lora.file.path.to_string()))
        .count();
    let told = format!("ComfyUI offers {seen} of {} LoRAs in it", installed.len());
    if seen > 0 {
        return Finding::fine(check, told);
    }
    Finding::broken(
        check,
        told,
        "COMFYUI_LORAS_DIR is not the folder that ComfyUI reads: mount the same one in both",
    )
}

fn unread(check: String, error: &LoraFolderError) -> Finding {
    Finding::broken(
        check,
        Chain(error).to_string(),
        "check who may read the folder",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use atelier_testkit::{InMemoryLoraFolder, ScriptedComfy};

    use super::super::report::Verdict;
    use super::*;

    fn patient(comfy: &ScriptedComfy) -> PatientBackend {
        PatientBackend {
            backend: Backend {
                name: "gpu-1".to_owned(),
                client: Arc::new(comfy.clone()),
                folder: Arc::new(InMemoryLoraFolder::new()),
                max_in_flight: 1,
            },
            loras_dir: "/loras".into(),
            keep_free_bytes: 0,
        }
    }

    fn verdicts(found: &[Finding]) -> Vec<Verdict> {
        found.iter().map(|finding| finding.verdict).collect()
    }

    #[tokio::test]
    async fn a_backend_that_answers_with_a_folder_that_works_is_fine() {
        let comfy = ScriptedComfy::new();

        let found = examine(&[patient(&comfy)]).await;

        assert_eq!(verdicts(&found), [Verdict::Ok; 4], "{found:?}");
    }

    #[tokio::test]
    async fn one_that_is_away_is_broken() {
        let comfy = ScriptedComfy::new();
        comfy.outage().begin();

        let found = examine(&[patient(&comfy)]).await;

        assert_eq!(found[0].verdict, Verdict::Failed, "{found:?}");
        assert!(
            found[0]
                .remedy
                .as_deref()
                .is_some_and(|told| told.contains("COMFYUI_URL"))
        );
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_is_broken_and_named() {
        let comfy = ScriptedComfy::new();
        let folder = InMemoryLoraFolder::new();
        folder.outage().begin();
        let mut patient = patient(&comfy);
        patient.backend.folder = Arc::new(folder);

        let found = examine(&[patient]).await;

        assert_eq!(found[1].verdict, Verdict::Failed, "{found:?}");
        assert!(found[1].detail.contains("/loras"), "{found:?}");
    }

    #[tokio::test]
    async fn from_afar_no_folder_is_looked_at() {
        let comfy = ScriptedComfy::new();
        let folder = InMemoryLoraFolder::new();
        folder.outage().begin();
        let mut patient = patient(&comfy);
        patient.backend.folder = Arc::new(folder);

        let found = examine_from_afar(&[patient]).await;

        assert_eq!(verdicts(&found), [Verdict::Ok], "{found:?}");
    }
}
