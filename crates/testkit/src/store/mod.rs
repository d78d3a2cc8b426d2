//! Every repository, the run queue and the signals, over one shared state.

mod answers;
mod api_tokens;
mod audit;
mod copies;
mod identities;
mod inputs;
mod lora_row;
mod loras;
mod paging;
mod placement;
mod queue;
mod run_row;
mod runs;
mod signals;
mod transfers;
mod uploads;
mod usage;
mod workflows;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use atelier_domain::digest::Sha256Digest;
use atelier_domain::ids::{ApiTokenId, InputId, LoraId, RunId, UserId, WorkflowId};
use atelier_domain::lora::LoraPath;
use atelier_domain::ports::{AuditEvent, Clock, RepoError};
use atelier_domain::workflow::Workflow;
use chrono::{DateTime, Utc};
use uuid::Uuid;

pub use api_tokens::FakeApiTokens;
pub use audit::FakeAuditTrail;
pub use copies::FakeLoraCopies;
pub use identities::FakeExternalIdentities;
pub use inputs::FakeInputRepo;
pub use loras::FakeLoraRepo;
pub use queue::FakeRunQueue;
pub use runs::FakeRunRepo;
pub use signals::FakeRunSignals;
pub use transfers::FakeLoraTransfers;
pub use uploads::FakeLoraUploads;
pub use usage::FakeUsageRepo;
pub use workflows::FakeWorkflowRepo;

use answers::{AnswerKey, AnswerRow};
use api_tokens::ApiTokenRow;
use copies::WantedCopy;
use identities::{Account, IdentityRow};
use inputs::InputRow;
use lora_row::LoraRow;
use placement::Told;
use run_row::RunRow;
use signals::Watcher;
use transfers::TransferRow;
use uploads::UploadRow;

use crate::{Outage, WallClock, random_id};

/// How long after its last sign of life a reservation of the [`FakeStore`]
/// gives way.
pub const ABANDONED_AFTER: Duration = Duration::from_hours(1);

/// A database in memory. Clones share it.
///
/// It keeps the ports' contracts, tenancy, fencing, leases and events
/// included, and passes the same conformance suites as the real one.
#[derive(Clone)]
pub struct FakeStore {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    outage: Outage,
}

#[derive(Default)]
struct State {
    workflows: HashMap<WorkflowId, Workflow>,
    runs: HashMap<RunId, RunRow>,
    loras: HashMap<LoraId, LoraRow>,
    transfers: HashMap<LoraId, TransferRow>,
    uploads: HashMap<LoraId, UploadRow>,
    /// Which bytes a path was given to; never taken back.
    paths: HashMap<LoraPath, Sha256Digest>,
    /// When each user was served last, as a count of claims.
    served: HashMap<UserId, u64>,
    claims: u64,
    answers: HashMap<AnswerKey, AnswerRow>,
    /// What each worker said of each backend: backend, worker.
    backends: HashMap<(String, String), Told>,
    /// Which LoRAs are on which backend's disk.
    copies: HashSet<(LoraId, String)>,
    /// Which are asked for, the oldest first.
    wanted_copies: Vec<WantedCopy>,
    inputs: HashMap<InputId, InputRow>,
    api_tokens: HashMap<ApiTokenId, ApiTokenRow>,
    accounts: Vec<Account>,
    identities: Vec<IdentityRow>,
    audit_events: Vec<AuditEvent>,
    /// What tells this store from every other.
    installation: Uuid,
    watchers: Vec<Watcher>,
}

impl FakeStore {
    /// An empty store whose leases go by the machine's clock.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(WallClock))
    }

    /// An empty store whose leases go by `clock`.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    installation: random_id(),
                    ..State::default()
                }),
                clock,
                outage: Outage::default(),
            }),
        }
    }

    /// Its workflows.
    pub fn workflows(&self) -> FakeWorkflowRepo {
        FakeWorkflowRepo(self.clone())
    }

    /// Its runs, for their owners.
    pub fn runs(&self) -> FakeRunRepo {
        FakeRunRepo(self.clone())
    }

    /// Its runs, for workers.
    pub fn queue(&self) -> FakeRunQueue {
        FakeRunQueue(self.clone())
    }

    /// Its LoRAs.
    pub fn loras(&self) -> FakeLoraRepo {
        FakeLoraRepo(self.clone())
    }

    /// Its transfers of LoRAs.
    pub fn transfers(&self) -> FakeLoraTransfers {
        FakeLoraTransfers(self.clone())
    }

    /// Its uploads of LoRAs in pieces.
    pub fn uploads(&self) -> FakeLoraUploads {
        FakeLoraUploads(self.clone())
    }

    /// Where its LoRAs are on backends' disks.
    pub fn copies(&self) -> FakeLoraCopies {
        FakeLoraCopies(self.clone())
    }

    /// Its pictures.
    pub fn inputs(&self) -> FakeInputRepo {
        FakeInputRepo(self.clone())
    }

    /// What its people take up.
    pub fn usage(&self) -> FakeUsageRepo {
        FakeUsageRepo(self.clone())
    }

    /// Its personal tokens.
    pub fn api_tokens(&self) -> FakeApiTokens {
        FakeApiTokens(self.clone())
    }

    /// Whom other providers' identities stand for.
    pub fn external_identities(&self) -> FakeExternalIdentities {
        FakeExternalIdentities(self.clone())
    }

    /// Its audit trail.
    pub fn audit_trail(&self) -> FakeAuditTrail {
        FakeAuditTrail(self.clone())
    }

    /// What wakes whoever waits for its runs, and for transfers.
    pub fn signals(&self) -> FakeRunSignals {
        FakeRunSignals(self.clone())
    }

    /// Makes the store unreachable: every repository and the queue then say
    /// `Unavailable`.
    pub fn outage(&self) -> &Outage {
        &self.shared.outage
    }

    /// Gives somebody an account with a confirmed e-mail address, as at Supabase
    /// Auth.
    pub fn add_account(&self, id: UserId, email: &str) {
        let email = email.to_owned();
        self.lock().accounts.push(Account { id, email });
    }

    /// What was recorded in its audit trail, in order.
    pub fn audit_events(&self) -> Vec<AuditEvent> {
        self.lock().audit_events.clone()
    }

    /// Makes a reserved LoRA's last sign of life older than it is waited for.
    pub fn abandon_reservation(&self, id: LoraId) {
        let long_ago = self.now() - ABANDONED_AFTER * 2;
        if let Some(row) = self.lock().loras.get_mut(&id) {
            row.expires_at = long_ago;
        }
    }

    /// Makes the answers to a person's idempotent requests older than they are
    /// kept.
    pub fn age_answers(&self, owner: UserId) {
        let long_ago = self.now() - answers::KEPT - answers::KEPT;
        self.lock().age_answers(owner, long_ago);
    }

    fn now(&self) -> DateTime<Utc> {
        self.shared.clock.now()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    fn open(&self) -> Result<MutexGuard<'_, State>, RepoError> {
        match self.shared.outage.source() {
            Some(source) => Err(RepoError::Unavailable(source)),
            None => Ok(self.lock()),
        }
    }
}

impl Default for FakeStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for FakeStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FakeStore").finish_non_exhaustive()
    }
}
