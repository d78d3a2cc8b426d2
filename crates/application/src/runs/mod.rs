//! Runs: asking for them, waiting for them and following them. Who executes
//! them, see [`dispatch`](crate::dispatch).

mod await_run;
mod enqueueing;
mod feed;
mod file_references;
mod follow;
mod judging;
mod limits;
mod lora_references;
mod preflight;
mod retry;
mod submit;

pub use await_run::AwaitRun;
pub use enqueueing::{EnqueueError, OnceOnly, RunAnswer, Submission};
pub use follow::{FollowRun, Following, RunEvents, final_status};
pub use limits::RunLimits;
pub use preflight::{
    LoraResolution, Preflight, PreflightBackend, PreflightError, PreflightLora, PreflightParameter,
    PreflightWorkflow,
};
pub use retry::{RetryRequest, RetryRun, RetryRunError};
pub use submit::{SubmitRequest, SubmitRun, SubmitRunError};
