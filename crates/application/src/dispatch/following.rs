use std::time::Duration;

use atelier_domain::ports::{CancelOutcome, PromptResult, PromptState};
use atelier_domain::run::RunPhase;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::backoff::Backoff;
use super::event_link::Follower;
use super::reporter::Reporter;
use super::station::{Station, bounded};

/// How often a prompt that its backend does not know is asked for again.
const UNKNOWN_LOOKS: u32 = 2;

/// The same for a prompt that was said to have ended: its history may be late
/// (`reference/comfyui/PROTOCOL.md` section 6).
const ENDED_LOOKS: u32 = 8;

/// What became of a prompt.
#[derive(Debug)]
pub(super) enum Followed {
    Finished(PromptResult),
    /// Its backend does not know it any more.
    Lost,
    /// Its backend has not answered for too long.
    Away,
    /// It was to be cancelled and cannot be, or its backend does not get to it.
    LeftAlone,
}

/// Follows one prompt to its end.
///
/// What the socket tells moves the progress and says when to ask; only the
/// backend's own records say that the prompt is over.
pub(super) struct Following<'a> {
    pub(super) station: &'a Station,
    pub(super) follower: &'a Follower,
    pub(super) reporter: &'a Reporter,
    pub(super) nodes_total: u32,
    pub(super) silence: Duration,
    pub(super) patience: Duration,
}

/// What is kept between two looks.
struct Looks {
    next: Instant,
    /// Grows while no socket tells anything.
    unlinked: Backoff,
    /// Grows while the backend does not answer, or its history is late.
    retry: Backoff,
    unknown: u32,
    away_since: Option<Instant>,
    ended_seen: bool,
    linked: bool,
    cancel_until: Option<Instant>,
    cancel_told: bool,
}

impl Following<'_> {
    pub(super) async fn to_the_end(&self, cancel: &mut watch::Receiver<bool>) -> Followed {
        let mut looks = self.first_look();
        loop {
            let cancelling = looks.cancel_until.is_some();
            tokio::select! {
                biased;
                // An error says that nobody is left to ask for it.
                Ok(_) = cancel.wait_for(|cancelled| *cancelled), if !cancelling => {
                    looks.cancel_until = Some(Instant::now() + self.patience);
                }
                () = self.follower.changed() => {
                    if !self.hear(&mut looks) {
                        continue;
                    }
                }
                () = sleep_until(looks.next) => {}
            }
            if looks
                .cancel_until
                .is_some_and(|until| Instant::now() >= until)
            {
                return Followed::LeftAlone;
            }
            if looks.cancel_until.is_some() && !looks.cancel_told && !self.cancel(&mut looks).await
            {
                return Followed::LeftAlone;
            }
            if let Some(followed) = self.look(&mut looks).await {
                return followed;
            }
        }
    }

    fn first_look(&self) -> Looks {
        let linked = self.follower.is_linked();
        let mut unlinked = Backoff::new(Duration::from_millis(100).min(self.silence), self.silence);
        let pause = if linked {
            self.silence
        } else {
            unlinked.next()
        };
        Looks {
            next: Instant::now() + pause,
            unlinked,
            retry: Backoff::new(Duration::from_millis(20), Duration::from_secs(2)),
            unknown: 0,
            away_since: None,
            ended_seen: false,
            linked,
            cancel_until: None,
            cancel_told: false,
        }
    }

    /// Takes what the socket told; whether the backend is to be asked now.
    fn hear(&self, looks: &mut Looks) -> bool {
        let snapshot = self.follower.read(self.nodes_total);
        if snapshot.began {
            self.reporter.phase(RunPhase::Executing);
            self.reporter.progress(snapshot.progress);
        }
        let ended = snapshot.ended && !looks.ended_seen;
        looks.ended_seen |= snapshot.ended;
        let lost_link = looks.linked && !self.follower.is_linked();
        looks.linked &= !lost_link;
        if ended || lost_link {
            return true;
        }
        if looks.linked
            && !looks.ended_seen
            && looks.cancel_until.is_none()
            && looks.away_since.is_none()
        {
            looks.next = Instant::now() + self.silence;
        }
        false
    }

    async fn look(&self, looks: &mut Looks) -> Option<Followed> {
        let state = self.station.prompt_state(self.follower.prompt_id()).await;
        let now = Instant::now();
        let state = match state {
            Ok(state) => {
                looks.away_since = None;
                state
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a backend did not say where a prompt stands"
                );
                self.station.mark_unreachable();
                let since = *looks.away_since.get_or_insert(now);
                if now.duration_since(since) >= self.patience {
                    return Some(Followed::Away);
                }
                looks.next = now + looks.retry.next();
                return None;
            }
        };
        match state {
            PromptState::Finished(result) => {
                if !looks.ended_seen {
                    self.follower.doubt_link(self.silence);
                }
                return Some(Followed::Finished(result));
            }
            PromptState::Unknown => {
                looks.unknown += 1;
                let most = if looks.ended_seen {
                    ENDED_LOOKS
                } else {
                    UNKNOWN_LOOKS
                };
                if looks.unknown >= most {
                    return Some(Followed::Lost);
                }
                let pause = if looks.ended_seen {
                    looks.retry.next()
                } else {
                    Duration::from_millis(200)
                };
                looks.next = now + pause;
                return None;
            }
            PromptState::Pending { .. } => self.reporter.phase(RunPhase::Queued),
            PromptState::Running => self.reporter.phase(RunPhase::Executing),
        }
        looks.unknown = 0;
        looks.next = now + self.pause(looks);
        None
    }

    fn pause(&self, looks: &mut Looks) -> Duration {
        if looks.ended_seen {
            return looks.retry.next();
        }
        looks.retry.reset();
        if looks.cancel_until.is_some() {
            Duration::from_millis(250).min(self.silence)
        } else if looks.linked {
            self.silence
        } else {
            looks.unlinked.next()
        }
    }

    /// Asks the backend to stop the prompt; `false` if it cannot.
    async fn cancel(&self, looks: &mut Looks) -> bool {
        match bounded(self.station.client.cancel(self.follower.prompt_id())).await {
            Ok(CancelOutcome::Requested) => {
                looks.cancel_told = true;
                true
            }
            Ok(CancelOutcome::Unsupported) => false,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a backend did not take a cancellation; trying again"
                );
                true
            }
        }
    }
}
