//! Runs: asking for them and waiting for them. Who executes them, see
//! [`dispatch`](crate::dispatch).

mod await_run;
mod lora_references;
mod submit;

pub use await_run::AwaitRun;
pub use submit::{SubmitRun, SubmitRunError};
