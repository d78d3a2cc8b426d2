//! The things that go wrong in the field, each behind a switch that can be thrown while the simulator runs.

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::options::Front;

/// What goes wrong. The default is nothing.
///
/// The JSON form, with the same names, is the body of the control route `POST /sim/faults`; missing members mean "does not go wrong".
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each one is a switch of its own"
)]
pub struct Faults {
    /// Sockets are accepted, but no frame is ever sent on them.
    pub deaf_sockets: bool,
    /// The publish loop hangs: no events for anybody, while HTTP and execution go on (`reference/comfyui/PROTOCOL.md` section 6,
    /// head-of-line blocking). Frames are not lost, they come when the switch is turned off.
    pub stall_publisher: bool,
    /// Every WebSocket is cut, without a close frame, this many milliseconds after it was opened.
    pub cut_sockets_every_ms: Option<u64>,
    /// Every HTTP answer comes this many milliseconds late.
    pub delay_answers_ms: u64,
    /// This share of the requests, in percent, is answered with 500 and not processed. The pattern is the same in every run.
    pub fail_percent: u8,
    /// Chooses another pattern for [`fail_percent`](Self::fail_percent).
    pub fail_seed: u64,
    /// This many `POST /prompt` requests are processed, and then the connection is cut instead of an answer. Counts down.
    pub lose_prompt_answers: u32,
    /// Nodes of this class, or the node with this id, raise an error when they run.
    pub error_at: Option<String>,
    /// A proxy in front that wants credentials.
    pub front: Option<Front>,
    /// History entries become readable this many milliseconds after the prompt's last frame was sent.
    pub history_delay_ms: u64,
    /// Every `executed` frame is sent twice.
    pub duplicate_executed: bool,
    /// Every request below `/api/jobs` is answered with 500.
    pub jobs_api_fails: bool,
}

/// Reads and changes the [`Faults`] of a running simulator. Clones share the same switches.
#[derive(Clone, Debug)]
pub struct FaultsHandle {
    switches: watch::Sender<Faults>,
}

impl FaultsHandle {
    pub(crate) fn new(faults: Faults) -> Self {
        Self {
            switches: watch::Sender::new(faults),
        }
    }

    /// What currently goes wrong.
    pub fn current(&self) -> Faults {
        self.switches.borrow().clone()
    }

    /// Replaces all switches at once.
    pub fn set(&self, faults: Faults) {
        self.switches.send_replace(faults);
    }

    /// Turns everything off.
    pub fn clear(&self) {
        self.set(Faults::default());
    }

    /// Changes some switches and leaves the others.
    pub fn change(&self, change: impl FnOnce(&mut Faults)) {
        self.switches.send_modify(change);
    }

    /// Follows the switches, for those who have to react at once.
    pub(crate) fn follow(&self) -> watch::Receiver<Faults> {
        self.switches.subscribe()
    }

    /// Whether this answer to `POST /prompt` is to be lost; uses up one of the announced losses.
    pub(crate) fn take_lost_answer(&self) -> bool {
        let mut lost = false;
        self.switches.send_if_modified(|faults| {
            lost = faults.lose_prompt_answers > 0;
            faults.lose_prompt_answers = faults.lose_prompt_answers.saturating_sub(1);
            lost
        });
        lost
    }
}
