//! A `ComfyUI` server without a GPU: the same HTTP routes, the same WebSocket frames, the same files on disk, and pictures that depend on
//! every input that would matter to the real one.
//!
//! What it imitates, and which peculiarities it keeps on purpose, is written down in `reference/comfyui/PROTOCOL.md`; section 14 there is
//! the contract. Two versions can be imitated, see [`Version`].
//!
//! ```no_run
//! # async fn example() -> Result<(), atelier_comfyui_sim::StartError> {
//! use atelier_comfyui_sim::{Simulator, SimulatorOptions};
//!
//! let simulator = Simulator::start(SimulatorOptions::in_dir("/tmp/comfyui")).await?;
//! assert!(simulator.url().starts_with("http://127.0.0.1:"));
//! simulator.faults().change(|faults| faults.lose_prompt_answers = 1);
//! simulator.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! The pieces, from the outside in:
//!
//! * [`Simulator`] owns the listening socket, and survives a simulated restart;
//! * `Instance` is one server process: queue, history, sockets, caches; a restart throws it away and makes the next one;
//! * `server` answers HTTP, `events` feeds the `WebSockets`, `validation` decides what may be queued, `executor` runs it, `nodes` are the
//!   node classes, `models` lists the model folders;
//! * [`Faults`] are the things that go wrong in the field, each behind a switch.

mod events;
mod executor;
mod faults;
mod gate;
mod graph;
mod history;
mod instance;
mod json;
mod models;
mod nodes;
mod options;
mod output;
mod picture;
mod python;
mod queue;
mod server;
mod simulator;
mod tally;
mod validation;

pub use faults::{Faults, FaultsHandle};
pub use options::{Credentials, Front, PreviewMethod, SimulatorOptions, Version};
pub use simulator::{Simulator, StartError};
