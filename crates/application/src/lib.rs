//! The use cases of Atelier: what is decided, and where several ports meet.
//!
//! | use case | what it does |
//! |---|---|
//! | [`identity::SignIn`] | finds out who sends a request |
//! | [`identity::CreateToken`] | makes a personal token for scripts |
//! | [`workflows::CreateWorkflow`] | checks a workflow and stores it |
//! | [`workflows::UpdateWorkflow`] | replaces a workflow, or changes members of it |
//! | [`runs::SubmitRun`] | turns a workflow and parameters into a graph that may run, and puts it into the queue |
//! | [`runs::RetryRun`] | puts what an earlier run did into the queue again |
//! | [`runs::AwaitRun`] | waits, for a bounded time, until a run is over |
//! | [`runs::FollowRun`] | tells what happens to a run, to any number of followers |
//! | [`loras::UploadLora`] | takes a LoRA in, piece by piece, in constant memory |
//! | [`inputs::UploadInput`] | takes a picture in that graphs may name, piece by piece |
//! | [`runs::PreflightWorkflow`] | says what would become of a run, without running |
//! | [`loras::ResumableUploads`] | takes LoRAs in over bad lines, in any number of requests |
//! | [`loras::ImportLora`] | looks at a file somewhere else, and begins to bring it |
//! | [`transfers::Transferring`] | brings imports, and the pieces of uploads, to where they belong |
//! | [`catalogue::CatalogueCache`] | knows what the backends offer by themselves |
//! | [`sync::LoraSync`] | puts LoRAs into a backend's folder, one copy at a time per file, and makes room for them |
//! | [`dispatch::Worker`] | claims runs, syncs, submits, follows, collects; cleans up behind everybody |
//!
//! A plain read needs no use case: ask the port.
//!
//! # Embedding
//!
//! A use case is a struct of ports, `Arc<dyn ...>` of the traits in
//! [`atelier_domain::ports`]; bring adapters of your own, put them in, call
//! `execute`. Nothing here knows of HTTP, of a database, or of the environment.
//!
//! ```
//! use std::sync::Arc;
//!
//! use atelier_application::workflows::{CreateWorkflow, WorkflowDraft, WorkflowError};
//! use atelier_domain::actor::Actor;
//! use atelier_domain::ports::{Clock, IdGen, WorkflowRepo};
//! use atelier_domain::workflow::Workflow;
//!
//! async fn keep_my_graph(
//!     workflows: Arc<dyn WorkflowRepo>,
//!     clock: Arc<dyn Clock>,
//!     ids: Arc<dyn IdGen>,
//!     actor: &Actor,
//!     graph: String,
//! ) -> Result<Workflow, WorkflowError> {
//!     let draft = WorkflowDraft {
//!         name: "My graph".to_owned(),
//!         description: None,
//!         workflow_json: graph,
//!         is_public: false,
//!         tags: Vec::new(),
//!     };
//!     CreateWorkflow { workflows, clock, ids }.execute(actor, draft).await
//! }
//! ```
//!
//! Runs are executed by whoever runs a [`dispatch::Worker`], in the same
//! process or in another one: workers meet in the `RunQueue` alone.
//!
//! Everything that waits uses tokio's clock and needs a tokio runtime with its
//! timers enabled.

pub mod allowance;
pub mod catalogue;
pub mod dispatch;
mod fields;
pub mod identity;
pub mod inputs;
pub mod loras;
pub mod observation;
mod opaque;
mod picture;
pub mod runs;
pub mod sync;
pub mod transfers;
pub mod workflows;
