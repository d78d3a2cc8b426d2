//! Brings the bytes of LoRAs to where they belong, without their owners: from
//! Google Drive and the web, and out of the pieces of resumable uploads.

mod bytes;
mod carrying;
mod outcome;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use atelier_domain::ids::ClaimToken;
use atelier_domain::lora::{Lora, LoraSource};
use atelier_domain::ports::{
    BlobStore, ClaimedTransfer, IdGen, LoraTransfers, RemoteFile, RemoteSource, RemoteToken,
    RunSignals, RunTopic, TransferClaim, TransferWork,
};
use futures_util::StreamExt as _;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::Instrument as _;

use crate::opaque::opaque_debug;
use carrying::Carrying;

/// Where the files lie, by the kind of their source.
#[derive(Clone)]
pub struct RemoteSources {
    /// Google Drive.
    pub google_drive: Arc<dyn RemoteSource>,
    /// The web.
    pub web: Arc<dyn RemoteSource>,
}

impl fmt::Debug for RemoteSources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RemoteSources")
            .finish_non_exhaustive()
    }
}

impl RemoteSources {
    /// Where such a file lies; `None` for what its owner sends.
    fn of(&self, source: &LoraSource) -> Option<&Arc<dyn RemoteSource>> {
        match source {
            LoraSource::GoogleDrive { .. } => Some(&self.google_drive),
            LoraSource::Url { .. } => Some(&self.web),
            LoraSource::Upload => None,
        }
    }
}

/// How transfers are carried out.
#[derive(Clone, Debug)]
pub struct TransferSettings {
    /// Names the process, for people who look at the table.
    pub worker: String,
    /// How many bytes a file may have.
    pub max_bytes: u64,
    /// How long a claim holds without a sign of life.
    pub lease: Duration,
    /// How many transfers go on at once.
    pub at_once: usize,
    /// How often further transfers are looked for where nothing wakes us.
    pub poll: Duration,
    /// How long a source that gives nothing is asked again and again before the
    /// transfer is put off.
    pub patience: Duration,
    /// How often a transfer is begun at most.
    pub attempts: u32,
}

impl Default for TransferSettings {
    fn default() -> Self {
        Self {
            worker: "atelier".to_owned(),
            max_bytes: 16 * 1024 * 1024 * 1024,
            lease: Duration::from_secs(30),
            at_once: 2,
            poll: Duration::from_secs(5),
            patience: Duration::from_mins(2),
            attempts: 10,
        }
    }
}

/// Carries transfers out.
pub struct Transferring {
    transfers: Arc<dyn LoraTransfers>,
    blobs: Arc<dyn BlobStore>,
    signals: Arc<dyn RunSignals>,
    ids: Arc<dyn IdGen>,
    sources: RemoteSources,
    settings: TransferSettings,
    held: Held,
}

opaque_debug!(Transferring);

impl Transferring {
    /// Takes transfers from `transfers`, writes into `blobs`.
    pub fn new(
        transfers: Arc<dyn LoraTransfers>,
        blobs: Arc<dyn BlobStore>,
        signals: Arc<dyn RunSignals>,
        ids: Arc<dyn IdGen>,
        sources: RemoteSources,
        settings: TransferSettings,
    ) -> Self {
        Self {
            transfers,
            blobs,
            signals,
            ids,
            sources,
            settings,
            held: Held::default(),
        }
    }

    /// A claim that nobody else has.
    pub(crate) fn new_claim(&self) -> TransferClaim {
        TransferClaim {
            token: ClaimToken::new(self.ids.new_id()),
            worker: self.settings.worker.clone(),
            lease: self.settings.lease,
        }
    }

    /// Carries out whatever waits, several at once, until `stop` holds `true` or
    /// its sender is gone; then gives back what is under way.
    pub async fn serve(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let room = Arc::new(Semaphore::new(self.settings.at_once.max(1)));
        let mut underway = JoinSet::new();
        let mut signal = self.signals.watch(RunTopic::Queue);
        loop {
            let free = tokio::select! {
                biased;
                // An error says that the sender is gone, which stops us too.
                _stopped = stop.wait_for(|stopped| *stopped) => break,
                free = Arc::clone(&room).acquire_owned() => free,
            };
            let Ok(free) = free else { break };
            match self.transfers.claim(self.new_claim()).await {
                Ok(Some(claimed)) => {
                    let (transferring, stop) = (Arc::clone(&self), stop.clone());
                    let carrying = async move {
                        Box::pin(transferring.carry_out(claimed, None, stop)).await;
                        drop(free);
                    };
                    underway.spawn(carrying.in_current_span());
                    while underway.try_join_next().is_some() {}
                    continue;
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "transfers were not looked for"
                ),
            }
            drop(free);
            tokio::select! {
                biased;
                _stopped = stop.wait_for(|stopped| *stopped) => break,
                // Woken or not, we look again.
                _woken = timeout(self.settings.poll, signal.next()) => {}
            }
        }
        while underway.join_next().await.is_some() {}
    }

    /// Carries out a transfer whose credential is in this process alone.
    pub(crate) async fn carry_out_held(
        &self,
        claim: TransferClaim,
        lora: Lora,
        file: RemoteFile,
        token: RemoteToken,
    ) {
        let claimed = ClaimedTransfer {
            token: claim.token,
            lora,
            work: TransferWork::Remote(file),
            attempt: 1,
        };
        let _counted = self.held.count();
        let stop = self.held.leaving.subscribe();
        Box::pin(self.carry_out(claimed, Some(token), stop)).await;
    }

    /// Waits for what only this process can carry out, because it ends; what is
    /// not done by `until` is given up, and so is what begins from then on.
    /// Comes back when nothing is left.
    ///
    /// # Cancellation
    /// Dropping the future leaves the rest to the end of its leases.
    pub async fn finish_held(&self, until: Instant) {
        let mut underway = self.held.underway.subscribe();
        // The sender is ours: it is there.
        drop(timeout_at(until, underway.wait_for(|count| *count == 0)).await);
        self.held.leaving.send_replace(true);
        drop(underway.wait_for(|count| *count == 0).await);
    }

    #[tracing::instrument(skip_all, fields(lora.id = %claimed.lora.id, attempt = claimed.attempt))]
    async fn carry_out(
        &self,
        claimed: ClaimedTransfer,
        token: Option<RemoteToken>,
        mut stop: watch::Receiver<bool>,
    ) {
        let carrying = Carrying::new(self, &claimed, token);
        let ended = tokio::select! {
            biased;
            _stopped = stop.wait_for(|stopped| *stopped) => None,
            lost = carrying.keep_the_claim() => Some(Err(lost)),
            ended = carrying.bring_home() => Some(ended),
        };
        let (id, claim) = (claimed.lora.id, claimed.token);
        let told = match ended {
            None if carrying.is_held() => {
                tracing::info!("the process ends, and with it the credential of a transfer");
                self.transfers
                    .fail(id, claim, outcome::credential_gone())
                    .await
            }
            None => self.transfers.postpone(id, claim, Duration::ZERO).await,
            Some(Ok(())) => return,
            Some(Err(trouble)) => {
                let is_held = carrying.is_held();
                match trouble.verdict(claimed.attempt, self.settings.attempts, is_held) {
                    outcome::Verdict::Nothing => return,
                    outcome::Verdict::Fail(failure) => {
                        tracing::info!(code = failure.code, "a transfer failed");
                        self.transfers.fail(id, claim, failure).await
                    }
                    outcome::Verdict::Postpone(pause) => {
                        tracing::info!(pause_s = pause.as_secs(), "a transfer is put off");
                        self.transfers.postpone(id, claim, pause).await
                    }
                }
            }
        };
        if let Err(error) = told {
            // The lease runs out, and another attempt follows.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the end of a transfer was not recorded"
            );
        }
    }
}

/// The transfers whose credentials are in this process alone.
#[derive(Default)]
struct Held {
    leaving: watch::Sender<bool>,
    underway: watch::Sender<usize>,
}

impl Held {
    /// Counts one as long as what it gives lives.
    fn count(&self) -> Counted<'_> {
        self.underway.send_modify(|count| *count += 1);
        Counted(&self.underway)
    }
}

struct Counted<'a>(&'a watch::Sender<usize>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Waits between two tries that went wrong.
async fn pause(tries: u32, asked: Option<Duration>) {
    let doubled = Duration::from_millis(250) * 2_u32.saturating_pow(tries.min(7));
    sleep(
        asked
            .unwrap_or(doubled)
            .clamp(doubled.min(Duration::from_secs(1)), Duration::from_secs(64)),
    )
    .await;
}
