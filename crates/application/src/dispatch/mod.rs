//! Executes runs: claims them, puts their LoRAs on a backend's disk, submits
//! them, follows them, brings their outputs home.
//!
//! A [`Worker`] serves any number of backends; any number of workers on any
//! number of machines serve one queue. What holds them together is the claim:
//! every write carries it, and whoever lost it stops at once.
//!
//! For each backend a worker keeps one event link and one claim loop:
//!
//! - The event link keeps a WebSocket open and hands what it hears to whoever
//!   follows the prompt. It only makes things fast; what is true, the backend's
//!   own records say, which are asked when a prompt is said to have ended, after
//!   a lost connection, and after a silence.
//! - The claim loop takes a run while there is room and the backend answers, and
//!   gives it to a task of its own: LoRAs, a last look at what the graph names,
//!   submission under the run's own id, following, collecting. A task that finds
//!   an earlier attempt alive on its backend follows that one instead.
//!
//! What is the graph's fault fails the run at once, in our own words. What is
//! the machinery's fault gives the run back, so that another attempt can be
//! made. One janitor per worker gives runs of dead workers back and cleans away
//! what nothing needs any more.
//!
//! A prompt that succeeds without leaving anything to store completes its run
//! with no outputs, unless its graph has a node whose outputs ComfyUI lists
//! (such as `SaveImage`): then the run fails with `no_outputs`.

mod attempt;
mod attendance;
mod backoff;
mod claims;
mod collection;
mod ending;
mod event_link;
mod failure_words;
mod following;
mod heartbeat;
mod janitor;
mod ledger;
mod lora_check;
mod mailbox;
mod media;
mod output_names;
mod reporter;
mod run_task;
mod settings;
mod stage;
mod station;
mod submission;
mod worker;

pub use settings::{Backend, WorkerParts, WorkerSettings};
pub use worker::Worker;
