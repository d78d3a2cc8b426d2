use atelier_domain::ports::RepoError;
use atelier_domain::validation::Violation;
use thiserror::Error;

/// Why a workflow was not stored.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WorkflowError {
    /// Everything that is wrong with it; pointers as in the request: `/name`,
    /// `/description`, `/tags/3`, `/workflow_json/10/inputs/seed`.
    #[error("the workflow is not valid")]
    Invalid(Vec<Violation>),
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
}
