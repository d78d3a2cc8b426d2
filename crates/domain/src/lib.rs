//! The domain of Atelier, a multi-user server in front of ComfyUI.
//!
//! This crate holds what Atelier is about and nothing that it runs on: no HTTP, no SQL, no files.
//! The server is built around it; other services embed it the same way, with adapters of their
//! own.
//!
//! # Vocabulary
//!
//! | word | what it is here |
//! |---|---|
//! | [`Actor`](actor::Actor) | the signed-in person on whose behalf something is done |
//! | [`Workflow`](workflow::Workflow) | a ComfyUI prompt that somebody keeps: private, or public for everybody who is signed in |
//! | [`PromptGraph`](graph::PromptGraph) | the prompt itself, in ComfyUI's API format: nodes with a class type and inputs |
//! | [`Lora`](lora::Lora) | a LoRA file of somebody's, with its path below every backend's LoRA folder |
//! | [`Run`](run::Run) | one execution of a workflow, from `pending` to `completed`, `failed` or `cancelled` |
//! | claim | a worker's hold on a run, under a lease; each write of the worker carries its [`ClaimToken`](ids::ClaimToken) |
//! | backend | one ComfyUI server with its queue, its history and its LoRA folder |
//! | output | what a run left behind, stored as an object under a [`BlobKey`](ports::BlobKey) |
//!
//! # The shape
//!
//! - Values check themselves when they are made: a [`Name`](text::Name), a
//!   [`LoraFilename`](lora::LoraFilename) or a [`PromptGraph`](graph::PromptGraph) that exists is a
//!   good one. What is wrong with an input comes as a list of
//!   [`Violation`](validation::Violation)s, each with a JSON pointer.
//! - The states of a run and the ways between them are in [`run`] and nowhere else.
//! - [`ports`] are traits for everything that is outside. One method is one atomic unit, and its
//!   documentation says what an implementation must hold to.
//! - Whose is what, the store decides. Methods that act for a person take the actor first, and
//!   what the actor may not see is simply not there.
//!
//! Features: `mock` adds a mock of every port, made by `mockall`, for the tests of whoever embeds
//! this crate.
//!
//! # Example: a service with its own store
//!
//! Any store becomes an adapter by implementing a port. This one keeps workflows in memory; it
//! honours the rules that the port's documentation gives, visibility among them.
//!
//! ```
//! use std::sync::Mutex;
//!
//! use async_trait::async_trait;
//! use atelier_domain::actor::Actor;
//! use atelier_domain::graph::PromptGraph;
//! use atelier_domain::ids::{UserId, WorkflowId};
//! use atelier_domain::page::{Page, PageRequest};
//! use atelier_domain::ports::{RepoError, WorkflowRepo, WriteOutcome};
//! use atelier_domain::text::{Name, Tags};
//! use atelier_domain::workflow::{
//!     NewWorkflow, Revision, Workflow, WorkflowChange, WorkflowFilter, WorkflowSummary,
//! };
//! use chrono::{DateTime, Utc};
//! use uuid::Uuid;
//!
//! #[derive(Default)]
//! struct Shelf(Mutex<Vec<Workflow>>);
//!
//! #[async_trait]
//! impl WorkflowRepo for Shelf {
//!     async fn create(&self, actor: &Actor, new: NewWorkflow) -> Result<Workflow, RepoError> {
//!         let workflow = Workflow {
//!             id: new.id,
//!             user_id: actor.user_id(),
//!             name: new.name,
//!             description: new.description,
//!             workflow_json: new.workflow_json,
//!             is_public: new.is_public,
//!             tags: new.tags,
//!             revision: Revision::FIRST,
//!             created_at: new.created_at,
//!             updated_at: new.created_at,
//!         };
//!         self.0.lock().expect("not poisoned").push(workflow.clone());
//!         Ok(workflow)
//!     }
//!
//!     async fn get(&self, actor: &Actor, id: WorkflowId) -> Result<Option<Workflow>, RepoError> {
//!         let shelf = self.0.lock().expect("not poisoned");
//!         let seen = |workflow: &&Workflow| {
//!             workflow.id == id && (workflow.is_public || workflow.user_id == actor.user_id())
//!         };
//!         Ok(shelf.iter().find(seen).cloned())
//!     }
//!     # async fn list(&self, _: &Actor, _: WorkflowFilter, _: PageRequest) -> Result<Page<WorkflowSummary>, RepoError> {
//!     #     Ok(Page { items: Vec::new(), next: None })
//!     # }
//!     # async fn update(&self, _: &Actor, _: WorkflowId, _: WorkflowChange, _: Option<Revision>, _: DateTime<Utc>) -> Result<WriteOutcome<Workflow>, RepoError> {
//!     #     Ok(WriteOutcome::NotFound)
//!     # }
//!     # async fn delete(&self, _: &Actor, _: WorkflowId, _: Option<Revision>) -> Result<WriteOutcome<()>, RepoError> {
//!     #     Ok(WriteOutcome::NotFound)
//!     # }
//!     // list, update and delete in the same way
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let alice = Actor::new(UserId::new(Uuid::from_u128(1)));
//! let bob = Actor::new(UserId::new(Uuid::from_u128(2)));
//! let graph = PromptGraph::parse(
//!     r#"{
//!         "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
//!         "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "hello"}}
//!     }"#,
//! )
//! .expect("a graph in the API format");
//!
//! let shelf = Shelf::default();
//! let workflow = shelf
//!     .create(
//!         &alice,
//!         NewWorkflow {
//!             id: WorkflowId::new(Uuid::from_u128(3)),
//!             name: Name::parse("Hello").expect("a good name"),
//!             description: None,
//!             workflow_json: graph.to_json(),
//!             is_public: false,
//!             tags: Tags::default(),
//!             created_at: DateTime::UNIX_EPOCH,
//!         },
//!     )
//!     .await
//!     .expect("the shelf has room");
//!
//! assert!(shelf.get(&alice, workflow.id).await.expect("it answers").is_some());
//! assert!(shelf.get(&bob, workflow.id).await.expect("it answers").is_none());
//! # }
//! ```

pub mod actor;
pub mod address;
pub mod api_token;
pub mod digest;
pub mod graph;
pub mod idempotency;
pub mod identity;
pub mod ids;
pub mod input;
pub mod lora;
pub mod output;
pub mod page;
pub mod ports;
pub mod run;
pub mod safetensors;
pub mod text;
pub mod usage;
pub mod validation;
pub mod workflow;
