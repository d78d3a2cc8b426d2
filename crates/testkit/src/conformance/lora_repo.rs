//! What every [`LoraRepo`] must do.

mod cleaning;
mod lists;
mod paths;
mod reservations;
mod uses;
mod versions;

use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::ids::LoraId;
use atelier_domain::lora::{Lora, LoraFailure, LoraFilename, LoraPath, NewLora, ReceivedLora};
use atelier_domain::ports::{LoraName, LoraRepo, RunQueue, RunRepo, WorkflowRepo, WriteOutcome};

pub use cleaning::*;
pub use lists::*;
pub use paths::*;
pub use reservations::*;
pub use uses::*;
pub use versions::*;

use super::{AbandonReservation, KeepAlive};
use crate::build::{a_new_lora, received};

/// A store under test. It must be this harness's alone: what is due for
/// cleaning is looked for among everybody's LoRAs, and so cases that share a
/// store would be each other's janitors.
pub struct Harness {
    /// The LoRAs under test.
    pub loras: Arc<dyn LoraRepo>,
    /// Runs in the same store.
    pub runs: Arc<dyn RunRepo>,
    /// Its queue.
    pub queue: Arc<dyn RunQueue>,
    /// Workflows in the same store.
    pub workflows: Arc<dyn WorkflowRepo>,
    /// Makes a reservation look as if its bytes had stopped coming long ago.
    pub abandon_reservation: AbandonReservation,
    /// What must live as long as the harness.
    pub keep_alive: KeepAlive,
}

super::opaque_debug!(Harness);

impl Harness {
    async fn reserved(&self, owner: &Actor, filename: &str) -> Lora {
        let new = a_new_lora(filename);
        self.loras.reserve(owner, new).await.unwrap()
    }

    /// A ready LoRA of these bytes.
    async fn ready(&self, owner: &Actor, filename: &str, bytes: &[u8]) -> Lora {
        self.ready_from(owner, a_new_lora(filename), received(bytes))
            .await
    }

    async fn ready_from(&self, owner: &Actor, new: NewLora, received: ReceivedLora) -> Lora {
        let lora = self.loras.reserve(owner, new).await.unwrap();
        let outcome = self.loras.mark_ready(owner, lora.id, received).await;
        match outcome.unwrap() {
            WriteOutcome::Done(lora) => lora,
            other => panic!("the reserved LoRA did not become ready: {other:?}"),
        }
    }

    /// A LoRA that was given up.
    async fn failed(&self, owner: &Actor, filename: &str) -> Lora {
        let lora = self.reserved(owner, filename).await;
        let outcome = self.loras.mark_failed(owner, lora.id, a_failure()).await;
        match outcome.unwrap() {
            WriteOutcome::Done(lora) => lora,
            other => panic!("the reserved LoRA was not given up: {other:?}"),
        }
    }

    async fn get(&self, actor: &Actor, id: LoraId) -> Option<Lora> {
        self.loras.get(actor, id).await.unwrap()
    }

    async fn deleted(&self, owner: &Actor, id: LoraId) {
        let outcome = self.loras.delete(owner, id).await.unwrap();
        assert_eq!(outcome, WriteOutcome::Done(()));
    }

    async fn abandoned(&self, id: LoraId) {
        (self.abandon_reservation)(id).await;
    }

    /// Whether a LoRA is due for cleaning.
    async fn is_due(&self, id: LoraId) -> bool {
        let due = self.loras.due_for_cleaning(u16::MAX).await.unwrap();
        due.iter().any(|lora| lora.id == id)
    }

    /// Whether the row is still there for workers.
    async fn is_kept(&self, id: LoraId) -> bool {
        let kept = self.loras.load_for_sync(vec![id]).await.unwrap();
        kept.iter().any(|lora| lora.id == id)
    }
}

fn a_failure() -> LoraFailure {
    LoraFailure {
        code: "not_safetensors".to_owned(),
        message: "The file is no safetensors file; export it as one.".to_owned(),
    }
}

/// The name of what stands under a filename at the moment.
fn latest(filename: &str) -> LoraName {
    LoraName::Latest(LoraFilename::parse(filename).expect("the case gives a good name"))
}

fn path_of(lora: &Lora) -> LoraPath {
    let content = lora.content.as_ref().expect("a ready LoRA has content");
    content.comfyui_path.clone()
}

/// Tests a `LoraRepo`; see [`conformance`](crate::conformance).
#[macro_export]
macro_rules! lora_repo_conformance {
    ($harness:expr) => {
        $crate::__cases! { lora_repo in lora_repo_conformance, $harness;
            a_reserved_lora_is_read_back,
            an_import_is_reserved_as_importing,
            a_taken_lora_id_is_a_conflict,
            a_taken_filename_is_a_conflict_for_its_owner_alone,
            of_two_reservations_at_once_one_wins,
            a_failed_lora_gives_way,
            a_reservation_whose_bytes_stopped_coming_gives_way,
            progress_keeps_a_reservation_alive,
            progress_is_read_back,
            a_received_lora_is_ready,
            only_a_reserved_lora_becomes_ready,
            only_a_reserved_lora_is_given_up,
            another_tenant_sees_and_changes_no_lora,
            an_absent_lora_is_not_found,
            no_two_loras_share_a_blob_key,
            the_first_bytes_get_the_plain_path,
            other_bytes_get_a_path_of_their_own,
            the_same_bytes_again_get_their_old_path,
            a_path_outlives_every_row,
            a_failed_upload_takes_no_path,
            a_version_path_that_is_taken_is_not_given_again,
            tenants_do_not_share_paths,
            of_two_uploads_at_once_none_gets_the_others_path,
            pages_of_loras_join_to_the_whole_list,
            lora_filters_narrow_the_list,
            loras_are_listed_by_base_model,
            loras_are_listed_by_hash,
            a_lora_text_filter_takes_wildcards_for_what_they_are,
            ready_loras_are_found_by_filename,
            a_deleted_lora_is_gone_at_once,
            a_deleted_lora_is_loaded_until_forgotten,
            a_ready_or_reserved_lora_is_not_due,
            a_deleted_lora_is_due_and_forgotten,
            a_failed_lora_is_due_and_stays_for_its_owner,
            an_abandoned_lora_is_due_and_never_becomes_ready,
            what_gave_way_is_due,
            a_lora_that_an_unfinished_run_needs_is_not_due,
            cleaning_takes_at_most_its_limit,
            forgetting_spares_what_is_in_use,
            a_replacement_takes_over_when_it_is_ready,
            a_replacement_of_nothing_is_the_first_version,
            a_plain_reservation_replaces_nothing,
            versions_are_read_the_latest_first,
            deleting_the_latest_deletes_every_version,
            an_earlier_version_is_deleted_alone,
            a_replacement_that_fails_changes_nothing,
            an_earlier_versions_bytes_share_its_path,
            whoever_is_overtaken_takes_its_turn,
            replacements_at_once_all_end_well,
            deleting_and_replacing_at_once_leave_no_orphan,
            paths_are_in_use_while_a_run_may_be_alive,
            a_run_that_was_given_back_uses_no_path,
            a_paths_content_outlives_its_lora,
            owners_of_objects_are_known,
            an_installation_has_one_name,
        }
    };
}
