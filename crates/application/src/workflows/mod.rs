//! Workflows: storing them and changing them.

mod create;
mod draft;
mod error;
mod update;

pub use create::CreateWorkflow;
pub use draft::{WorkflowDraft, WorkflowPatch};
pub use error::WorkflowError;
pub use update::UpdateWorkflow;
