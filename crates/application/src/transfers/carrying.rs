use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use atelier_domain::lora::ReceivedLora;
use atelier_domain::ports::{
    ClaimedTransfer, RemoteError, RemoteFile, RemoteToken, RepoError, TransferWork,
};
use futures_util::StreamExt as _;
use md5::{Digest as _, Md5};
use tokio::time::{Instant, interval, timeout};

use super::bytes::{Break, Origin};
use super::outcome::Trouble;
use super::{Transferring, pause};
use crate::loras::{Intake, Received, UploadLoraError};

/// How often a file may change under our hands.
const MAX_CHANGES: u32 = 3;

/// How often the progress is told at least.
const TELLING: Duration = Duration::from_secs(2);

/// How long any source may take for one piece.
const STALL: Duration = Duration::from_mins(1);

/// One transfer being carried out.
pub(super) struct Carrying<'a> {
    transferring: &'a Transferring,
    claimed: &'a ClaimedTransfer,
    token: Option<RemoteToken>,
    bytes_done: AtomicU64,
    /// 0 while it is not known.
    bytes_total: AtomicU64,
}

impl<'a> Carrying<'a> {
    pub(super) fn new(
        transferring: &'a Transferring,
        claimed: &'a ClaimedTransfer,
        token: Option<RemoteToken>,
    ) -> Self {
        Self {
            transferring,
            claimed,
            token,
            bytes_done: AtomicU64::new(0),
            bytes_total: AtomicU64::new(0),
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.token.is_some()
    }

    /// Tells how far it is, again and again, until nobody wants it any more.
    pub(super) async fn keep_the_claim(&self) -> Trouble {
        let settings = &self.transferring.settings;
        let mut ticks = interval(TELLING.min(settings.lease / 3));
        let mut heard_at = Instant::now();
        loop {
            ticks.tick().await;
            let total = self.bytes_total.load(Ordering::Relaxed);
            let told = self.transferring.transfers.report(
                self.claimed.lora.id,
                self.claimed.token,
                self.bytes_done.load(Ordering::Relaxed),
                (total > 0).then_some(total),
                settings.lease,
            );
            match told.await {
                Ok(true) => heard_at = Instant::now(),
                Ok(false) => return Trouble::ClaimLost,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the progress of a transfer was not recorded"
                    );
                    // By now another may have it.
                    if heard_at.elapsed() >= settings.lease {
                        return Trouble::ClaimLost;
                    }
                }
            }
        }
    }

    /// Brings all bytes into their place, and makes the LoRA ready.
    pub(super) async fn bring_home(&self) -> Result<(), Trouble> {
        let received = self.bring().await?;
        self.complete(received).await
    }

    async fn bring(&self) -> Result<Received, Trouble> {
        let mut origin = self.origin()?;
        let mut changes = 0;
        loop {
            match self.bring_once(&origin).await {
                Ok(received) => return Ok(received),
                Err(Break::Changed) if changes < MAX_CHANGES => {
                    changes += 1;
                    tracing::info!("the file changed while it came; beginning anew");
                    match origin.look_again().await {
                        Ok(()) => {}
                        Err(Break::Changed) => return Err(Trouble::KeepsChanging),
                        Err(Break::Pause(trouble) | Break::End(trouble)) => return Err(trouble),
                    }
                }
                Err(Break::Changed) => return Err(Trouble::KeepsChanging),
                Err(Break::Pause(trouble) | Break::End(trouble)) => return Err(trouble),
            }
        }
    }

    fn origin(&self) -> Result<Origin<'a>, Trouble> {
        match &self.claimed.work {
            TransferWork::Pieces(pieces) => Ok(Origin::Pieces {
                blobs: &self.transferring.blobs,
                pieces,
            }),
            TransferWork::Remote(file) => {
                let source = self.transferring.sources.of(&file.source);
                let source = source.ok_or(Trouble::PieceLost)?;
                Ok(Origin::Remote {
                    source,
                    file: file.clone(),
                    token: self.token.clone(),
                })
            }
        }
    }

    async fn bring_once(&self, origin: &Origin<'_>) -> Result<Received, Break> {
        let max_bytes = self.transferring.settings.max_bytes;
        self.bytes_done.store(0, Ordering::Relaxed);
        self.bytes_total
            .store(origin.size_bytes().unwrap_or(0), Ordering::Relaxed);
        let blobs = &self.transferring.blobs;
        let mut intake = Intake::open(blobs, &self.claimed.lora.blob_key, max_bytes)
            .await
            .map_err(|error| Break::End(error.into()))?;
        let mut md5 = expected_md5(origin).map(|expected| (expected, Md5::new()));
        match self.pour(origin, &mut intake, &mut md5).await {
            Ok(()) => {}
            Err(broken) => {
                intake.abort().await;
                return Err(broken);
            }
        }
        let md5 = md5.map(|(expected, hasher)| (expected, hasher.finalize()));
        let received = intake
            .finish(|received| verify(origin, received, md5))
            .await;
        received.map_err(|error| Break::End(error.into()))
    }

    /// Reads to the end, and goes on where the stream broke off as long as it
    /// breaks off ever later, or not for too long at one place.
    async fn pour(
        &self,
        origin: &Origin<'_>,
        intake: &mut Intake,
        md5: &mut Option<(String, Md5)>,
    ) -> Result<(), Break> {
        let mut tries = 0;
        let mut stuck_since = Instant::now();
        loop {
            let before = intake.received_bytes();
            let trouble = match self.pour_once(origin, intake, md5).await {
                Ok(()) => return Ok(()),
                Err(Break::Pause(trouble)) => trouble,
                Err(other) => return Err(other),
            };
            if intake.received_bytes() > before {
                (tries, stuck_since) = (0, Instant::now());
            }
            if stuck_since.elapsed() >= self.transferring.settings.patience {
                return Err(Break::End(trouble));
            }
            tracing::info!(?trouble, "the bytes of a LoRA stopped coming; asking again");
            let asked = match &trouble {
                Trouble::Remote(RemoteError::Unavailable { retry_after, .. }) => *retry_after,
                _ => None,
            };
            pause(tries, asked).await;
            tries += 1;
        }
    }

    async fn pour_once(
        &self,
        origin: &Origin<'_>,
        intake: &mut Intake,
        md5: &mut Option<(String, Md5)>,
    ) -> Result<(), Break> {
        let expected = origin.size_bytes();
        if expected == Some(intake.received_bytes()) {
            return Ok(());
        }
        let opening = origin.open(intake.received_bytes());
        let mut bytes = timeout(STALL, opening).await.map_err(|_late| stalled())??;
        while let Some(piece) = timeout(STALL, bytes.next())
            .await
            .map_err(|_late| stalled())?
        {
            let piece = piece?;
            if let Some((_, hasher)) = md5 {
                hasher.update(&piece);
            }
            intake
                .write(piece)
                .await
                .map_err(|error| Break::End(error.into()))?;
            self.bytes_done
                .store(intake.received_bytes(), Ordering::Relaxed);
        }
        match expected {
            Some(expected) if intake.received_bytes() < expected => Err(short()),
            _ => Ok(()),
        }
    }

    /// The whole file is there, so the database is waited for as long as the
    /// claim holds.
    async fn complete(&self, received: Received) -> Result<(), Trouble> {
        let lora = &self.claimed.lora;
        let received = ReceivedLora {
            name: lora.name.clone(),
            description: lora.description.clone(),
            tags: lora.tags.clone(),
            file_size: received.file_size,
            hashes: received.hashes,
            facts: received.facts,
        };
        let mut tries = 0;
        loop {
            let completing =
                self.transferring
                    .transfers
                    .complete(lora.id, self.claimed.token, received.clone());
            match completing.await {
                Ok(Some(_ready)) => {
                    tracing::info!("a transfer is complete");
                    return Ok(());
                }
                Ok(None) => return Err(Trouble::ClaimLost),
                Err(RepoError::Unavailable(_)) => pause(tries, None).await,
                Err(error) => return Err(error.into()),
            }
            tries += 1;
        }
    }
}

fn expected_md5(origin: &Origin<'_>) -> Option<String> {
    match origin {
        Origin::Remote {
            file: RemoteFile { md5, .. },
            ..
        } => md5.clone(),
        Origin::Pieces { .. } => None,
    }
}

/// Holds what came against what was told.
fn verify(
    origin: &Origin<'_>,
    received: &Received,
    md5: Option<(String, md5::digest::Output<Md5>)>,
) -> Result<(), UploadLoraError> {
    let differs = |what: &str| {
        let text = format!(
            "the bytes that came have another {what} than was told where the file lies; import it again"
        );
        Err(UploadLoraError::WrongBytes(text))
    };
    if origin
        .size_bytes()
        .is_some_and(|size| size != received.file_size)
    {
        return differs("size");
    }
    if let Some((expected, actual)) = md5 {
        let digits = actual.iter().fold(String::new(), |digits, byte| {
            digits + &format!("{byte:02x}")
        });
        if !digits.eq_ignore_ascii_case(&expected) {
            return differs("MD5");
        }
    }
    match origin {
        Origin::Remote { file, .. }
            if file
                .sha256
                .is_some_and(|expected| expected != received.hashes.sha256) =>
        {
            differs("SHA-256")
        }
        _ => Ok(()),
    }
}

fn stalled() -> Break {
    unavailable("no bytes came for a minute")
}

fn short() -> Break {
    unavailable("the stream ended before the file did")
}

fn unavailable(what: &'static str) -> Break {
    Break::Pause(Trouble::Remote(RemoteError::Unavailable {
        retry_after: None,
        source: what.into(),
    }))
}
