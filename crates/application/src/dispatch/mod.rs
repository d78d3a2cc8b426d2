//! Executes runs: claims them, puts their LoRAs on a backend's disk, submits
//! them, follows them, brings their outputs home.
//!
//! A [`Worker`] serves any number of backends; any number of workers on any
//! number of machines serve one queue. What holds them together is the claim:
//! every write carries it, and whoever lost it stops at once.
//!
//! For each backend a worker keeps an event link, a claim loop and an
//! attendant:
//!
//! - The event link keeps a WebSocket open and hands what it hears to whoever
//!   follows the prompt. It only makes things fast; what is true, the backend's
//!   own records say, which are asked when a prompt is said to have ended, after
//!   a lost connection, and after a silence. A socket that tells nothing while
//!   the records say that a prompt runs is replaced, under a fresh client id.
//! - The claim loop takes a run while there is room and the backend works, and
//!   gives it to a task of its own: LoRAs, pictures, a last look at what the graph names,
//!   submission under the run's own id, following, collecting. A run that may be
//!   alive on the backend already is looked up first, and followed if it is.
//! - The attendant looks whether the backend answers and what is in its queue,
//!   takes prompts out whose runs are over or elsewhere, and tells the run queue
//!   how the backend is, so that runs are placed well.
//!
//! A backend that fails is down. It is asked with growing pauses whether it
//! answers, and then one run tries it out before others follow.
//!
//! What is the graph's fault fails the run at once, in our own words. What is
//! the machinery's fault gives the run back, under the budget of what was lost
//! ([`RunLoss`](atelier_domain::run::RunLoss)). A run that may be alive on a
//! backend waits for that backend alone, for as long as
//! [`WorkerSettings::patience`]; so it is not executed twice when only its worker
//! died. A prompt that its backend does not know is lost, unless the backend still
//! knows an older one: then it was not restarted, and the history is merely late.
//! One janitor per worker gives runs of dead workers back, frees those whose
//! backend stays away, ends those that take longer than they may, and cleans away
//! what nothing needs any more. One caretaker per backend looks after its LoRA
//! folder. Objects that belong to nothing are swept from a store that is known to
//! be this database's alone.
//!
//! A prompt that succeeds without leaving anything to store completes its run
//! with no outputs, unless its graph has a node whose outputs ComfyUI lists
//! (such as `SaveImage`): then the run fails with `no_outputs`.

mod attempt;
mod attendance;
mod backoff;
mod caretaker;
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
mod orphans;
mod output_names;
mod placing;
mod reporter;
mod run_task;
mod settings;
mod stage;
mod station;
mod submission;
mod worker;

pub use settings::{Backend, WorkerParts, WorkerSettings};
pub use worker::Worker;
