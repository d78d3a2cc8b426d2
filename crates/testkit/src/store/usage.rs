use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::lora::LoraStatus;
use atelier_domain::ports::{RepoError, UsageRepo};
use atelier_domain::usage::Usage;

use super::FakeStore;

/// What the people of a [`FakeStore`] take up.
#[derive(Clone, Debug)]
pub struct FakeUsageRepo(pub(super) FakeStore);

#[async_trait]
impl UsageRepo for FakeUsageRepo {
    async fn of(&self, actor: &Actor) -> Result<Usage, RepoError> {
        let state = self.0.open()?;
        let loras = state
            .loras
            .values()
            .filter(|row| row.is_of(actor) && row.lora.status != LoraStatus::Failed)
            .map(|row| match &row.lora.content {
                Some(content) => content.file_size,
                None => row.lora.bytes_total.unwrap_or(row.lora.bytes_done),
            });
        let inputs = state.inputs.values().filter(|row| row.is_of(actor));
        let runs = || {
            let rows = state.runs.values();
            rows.filter(|row| row.run.user_id == actor.user_id())
        };
        Ok(Usage {
            lora_bytes: loras.sum(),
            input_bytes: inputs.map(|row| row.input.size_bytes).sum(),
            output_bytes: runs()
                .flat_map(|row| &row.run.outputs)
                .map(|output| output.size_bytes)
                .sum(),
            pending_runs: runs().filter(|row| row.waits()).count() as u64,
            running_runs: runs().filter(|row| row.runs()).count() as u64,
        })
    }
}
