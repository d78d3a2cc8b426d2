use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::idempotency::{EarlierRequest, IdempotentRequest};
use atelier_domain::ids::{ClaimToken, LoraId};
use atelier_domain::lora::{Lora, LoraFailure, ReceivedLora};
use atelier_domain::ports::{
    ClaimedTransfer, ImportOutcome, ImportTerms, LoraTransfers, NewImport, RepoError, TransferClaim,
};
use atelier_testkit::FakeLoraTransfers;

/// Remembers what is told about transfers, and can take claims away.
#[derive(Clone)]
pub(crate) struct RecordingTransfers {
    inner: FakeLoraTransfers,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Everything that was handed over for keeping, as it looks.
    kept: String,
    pauses: Vec<Duration>,
    ends: Vec<&'static str>,
    claims_lost: bool,
}

impl RecordingTransfers {
    pub(crate) fn new(inner: FakeLoraTransfers) -> Self {
        Self {
            inner,
            state: Arc::default(),
        }
    }

    /// For how long transfers were put off, in seconds.
    pub(crate) fn pauses(&self) -> Vec<u64> {
        let state = self.state.lock().unwrap();
        state.pauses.iter().map(Duration::as_secs).collect()
    }

    /// How transfers ended, in order.
    pub(crate) fn ends(&self) -> Vec<&'static str> {
        self.state.lock().unwrap().ends.clone()
    }

    /// Everything that was handed over for keeping, as it looks.
    pub(crate) fn kept(&self) -> String {
        self.state.lock().unwrap().kept.clone()
    }

    /// From now on every claim is somebody else's.
    pub(crate) fn lose_claims(&self) {
        self.state.lock().unwrap().claims_lost = true;
    }

    fn end(&self, how: &'static str) {
        self.state.lock().unwrap().ends.push(how);
    }
}

#[async_trait]
impl LoraTransfers for RecordingTransfers {
    async fn earlier_request(
        &self,
        actor: &Actor,
        request: &IdempotentRequest,
    ) -> Result<Option<EarlierRequest>, RepoError> {
        self.inner.earlier_request(actor, request).await
    }

    async fn begin(
        &self,
        actor: &Actor,
        new: NewImport,
        terms: ImportTerms,
    ) -> Result<ImportOutcome, RepoError> {
        let kept = format!("{new:?} {terms:?}");
        self.state.lock().unwrap().kept.push_str(&kept);
        self.inner.begin(actor, new, terms).await
    }

    async fn claim(&self, claim: TransferClaim) -> Result<Option<ClaimedTransfer>, RepoError> {
        self.inner.claim(claim).await
    }

    async fn report(
        &self,
        lora: LoraId,
        token: ClaimToken,
        bytes_done: u64,
        bytes_total: Option<u64>,
        lease: Duration,
    ) -> Result<bool, RepoError> {
        if self.state.lock().unwrap().claims_lost {
            return Ok(false);
        }
        self.inner
            .report(lora, token, bytes_done, bytes_total, lease)
            .await
    }

    async fn complete(
        &self,
        lora: LoraId,
        token: ClaimToken,
        received: ReceivedLora,
    ) -> Result<Option<Lora>, RepoError> {
        self.end("complete");
        self.inner.complete(lora, token, received).await
    }

    async fn fail(
        &self,
        lora: LoraId,
        token: ClaimToken,
        failure: LoraFailure,
    ) -> Result<(), RepoError> {
        self.end("fail");
        self.inner.fail(lora, token, failure).await
    }

    async fn postpone(
        &self,
        lora: LoraId,
        token: ClaimToken,
        pause: Duration,
    ) -> Result<(), RepoError> {
        self.end("postpone");
        self.state.lock().unwrap().pauses.push(pause);
        self.inner.postpone(lora, token, pause).await
    }
}
