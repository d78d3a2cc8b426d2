use std::sync::Arc;
use std::time::Duration;

use atelier_application::allowance::Allowance;
use atelier_application::loras::{
    ImportLora, ImportRequest, Imported, LoraDetails, NewUpload, ResumableUploads, UploadLimits,
};
use atelier_application::transfers::{RemoteSources, TransferSettings, Transferring};
use atelier_domain::actor::Actor;
use atelier_domain::ids::LoraId;
use atelier_domain::lora::{Lora, LoraStatus};
use atelier_domain::ports::{Clock, LoraRepo as _, LoraTransfers, RemoteSource, ResumableUpload};
use atelier_domain::usage::Quotas;
use atelier_testkit::build::{EPOCH, an_actor};
use atelier_testkit::{FakeRemote, FakeStore, InMemoryBlobs, SequentialIds, wait_until};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{LONG, RecordingTransfers};

/// Goes as fast as tokio's clock, so that leases run out and pauses end.
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> DateTime<Utc> {
        EPOCH + TimeDelta::from_std(self.0.elapsed()).unwrap()
    }
}

/// Everything that brings LoRAs in, on fakes whose clock is tokio's.
pub(crate) struct Depot {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: FakeStore,
    pub(crate) transfers: RecordingTransfers,
    pub(crate) blobs: InMemoryBlobs,
    pub(crate) drive: FakeRemote,
    pub(crate) ids: Arc<SequentialIds>,
    pub(crate) actor: Actor,
}

impl Depot {
    /// Files may have so many bytes.
    pub(crate) const MAX_BYTES: u64 = 1024 * 1024;
    /// A person may have so many unfinished imports.
    pub(crate) const MAX_UNFINISHED: u32 = 3;

    pub(crate) fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock(Instant::now()));
        let store = FakeStore::with_clock(Arc::clone(&clock));
        Self {
            transfers: RecordingTransfers::new(store.transfers()),
            store,
            blobs: InMemoryBlobs::new(),
            drive: FakeRemote::drive(),
            ids: Arc::new(SequentialIds::new()),
            actor: an_actor(),
            clock,
        }
    }

    pub(crate) fn transferring(&self) -> Arc<Transferring> {
        self.transferring_from(Arc::new(self.drive.clone()))
    }

    /// The same with another Drive.
    pub(crate) fn transferring_from(&self, drive: Arc<dyn RemoteSource>) -> Arc<Transferring> {
        Arc::new(Transferring::new(
            Arc::new(self.transfers.clone()),
            Arc::new(self.blobs.clone()),
            Arc::new(self.store.signals()),
            Arc::clone(&self.ids) as _,
            RemoteSources {
                google_drive: drive,
                web: Arc::new(FakeRemote::web()),
            },
            TransferSettings {
                max_bytes: Self::MAX_BYTES,
                ..TransferSettings::default()
            },
        ))
    }

    /// Somebody who carries transfers out.
    pub(crate) fn serve(&self) -> Serving {
        Serving::begin(self.transferring())
    }

    /// As much as there is room for.
    pub(crate) fn allowance(&self) -> Allowance {
        Allowance {
            usage: Arc::new(self.store.usage()),
            quotas: Quotas::default(),
        }
    }

    pub(crate) fn imports(&self) -> ImportLora {
        ImportLora {
            source: Arc::new(self.drive.clone()),
            loras: Arc::new(self.store.loras()),
            transfers: Arc::new(self.transfers.clone()) as Arc<dyn LoraTransfers>,
            transferring: self.transferring(),
            clock: Arc::clone(&self.clock),
            ids: Arc::clone(&self.ids) as _,
            max_bytes: Self::MAX_BYTES,
            max_unfinished: Self::MAX_UNFINISHED,
            allowance: self.allowance(),
            io: Handle::current(),
        }
    }

    /// A wish for the file that the Drive knows by `reference`.
    pub(crate) fn wish(reference: &str) -> ImportRequest<'static> {
        ImportRequest {
            reference: reference.to_owned(),
            filename: None,
            details: LoraDetails::default(),
            replaces: false,
            token: None,
            once: None,
        }
    }

    /// Begins an import of a file that is in the Drive.
    pub(crate) async fn import(&self, reference: &str) -> Lora {
        let imports = self.imports();
        let begun = imports.execute(&self.actor, Self::wish(reference)).await;
        match begun.unwrap() {
            Imported::Begun { lora, .. } => *lora,
            other => panic!("not begun: {other:?}"),
        }
    }

    /// A new instance, as after a restart.
    pub(crate) fn resumable(&self) -> ResumableUploads {
        ResumableUploads {
            uploads: Arc::new(self.store.uploads()),
            loras: Arc::new(self.store.loras()),
            blobs: Arc::new(self.blobs.clone()),
            clock: Arc::clone(&self.clock),
            ids: Arc::clone(&self.ids) as _,
            limits: UploadLimits {
                max_bytes: Self::MAX_BYTES,
                piece_bytes: 3_000,
                max_pieces: 500,
                ..UploadLimits::default()
            },
            allowance: self.allowance(),
            io: Handle::current(),
        }
    }

    /// Creates an upload of so many bytes.
    pub(crate) async fn upload(&self, filename: &str, length: u64) -> ResumableUpload {
        let uploads = self.resumable();
        let created = uploads.create(&self.actor, new_upload(filename, length));
        created.await.unwrap()
    }

    pub(crate) async fn lora(&self, id: LoraId) -> Lora {
        let lora = self.store.loras().get(&self.actor, id).await;
        lora.unwrap().unwrap()
    }

    /// Waits until a LoRA is ready or failed.
    pub(crate) async fn settled(&self, id: LoraId) -> Lora {
        let began_at = Instant::now();
        loop {
            let lora = self.lora(id).await;
            if matches!(lora.status, LoraStatus::Ready | LoraStatus::Failed) {
                return lora;
            }
            assert!(began_at.elapsed() < 3 * LONG, "never settled: {lora:?}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// The code with which a LoRA failed.
    pub(crate) async fn failure(&self, id: LoraId) -> String {
        let lora = self.settled(id).await;
        assert_eq!(lora.status, LoraStatus::Failed, "{lora:?}");
        lora.error.unwrap().code
    }

    /// Waits until so many downloads were begun, and gives their offsets.
    pub(crate) async fn downloads(&self, count: usize) -> Vec<u64> {
        wait_until("downloads", LONG, async || {
            self.drive.downloads().len() >= count
        })
        .await;
        self.offsets()
    }

    /// The offsets of all downloads so far.
    pub(crate) fn offsets(&self) -> Vec<u64> {
        let downloads = self.drive.downloads();
        downloads.into_iter().map(|(_, offset)| offset).collect()
    }
}

pub(crate) fn new_upload(filename: &str, length: u64) -> NewUpload {
    NewUpload {
        filename: filename.to_owned(),
        length,
        details: LoraDetails::default(),
        replaces: false,
        metadata: "filename Zg==".to_owned(),
    }
}

/// Somebody who carries transfers out.
pub(crate) struct Serving {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Serving {
    pub(crate) fn begin(transferring: Arc<Transferring>) -> Self {
        let stop = watch::Sender::new(false);
        Self {
            task: tokio::spawn(transferring.serve(stop.subscribe())),
            stop,
        }
    }

    /// Stops it in good order.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap();
    }

    /// Kills it.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}
