//! What tests of Atelier are made of: in-memory fakes of every port, builders
//! of test data, and the conformance suites that the fakes and every adapter
//! pass.
//!
//! - [`FakeStore`] gives every repository, the run queue and the signals over
//!   one shared state; [`InMemoryBlobs`], [`InMemoryLoraFolder`],
//!   [`InMemoryPreviews`], [`ScriptedComfy`], [`FakeRemote`] and [`FixedTokens`] stand for the rest
//!   of the world, [`ManualClock`], [`SequentialIds`] and [`FixedSecrets`] for time and chance.
//! - [`build`] makes valid entities, so that a test names only what it is
//!   about.
//! - [`conformance`] holds one suite a port; a macro such as
//!   [`workflow_repo_conformance!`] stamps its cases as tests.
//!
//! For tests alone: no production crate depends on it.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "everything here runs inside tests, where a panic is the report"
)]

mod blobs;
pub mod build;
mod clock;
mod comfy;
pub mod conformance;
mod drive;
pub mod drive_double;
mod ids;
pub mod jwks_double;
mod lora_folder;
mod outage;
mod previews;
mod queueing;
mod secrets;
mod store;
mod tokens;
mod wait;

pub use blobs::InMemoryBlobs;
pub use clock::{ManualClock, WallClock};
pub use comfy::{PromptScript, ScriptedComfy, SubmitAnswer, Then};
pub use drive::FakeRemote;
pub use ids::{SequentialIds, random_id};
pub use lora_folder::{DirectoryBackdoor, FolderBackdoor, InMemoryLoraFolder};
pub use outage::Outage;
pub use previews::InMemoryPreviews;
pub use queueing::{claim, enqueue};
pub use secrets::FixedSecrets;
pub use store::{
    ABANDONED_AFTER, FakeApiTokens, FakeAuditTrail, FakeExternalIdentities, FakeInputRepo,
    FakeLoraCopies, FakeLoraRepo, FakeLoraTransfers, FakeLoraUploads, FakeRunQueue, FakeRunRepo,
    FakeRunSignals, FakeStore, FakeUsageRepo, FakeWorkflowRepo,
};
pub use tokens::FixedTokens;
pub use wait::{PATIENCE, wait_until};
