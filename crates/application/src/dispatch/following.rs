use std::time::Duration;

use atelier_domain::graph::GraphWork;
use atelier_domain::ports::{ComfyError, PromptResult, PromptState};
use atelier_domain::run::RunPhase;
use tokio::time::{Instant, sleep_until};

use super::backoff::Backoff;
use super::ending::{Wishes, wished};
use super::event_link::Follower;
use super::reporter::Reporter;
use super::station::{Recollection, Station};

/// How often a prompt that its backend does not know is asked for at least.
const UNKNOWN_LOOKS: u32 = 2;

/// How long a history may be late on a backend that has not forgotten anything
/// (`reference/comfyui/PROTOCOL.md` section 6).
const LATE_HISTORY: Duration = Duration::from_secs(20);

/// The same where nothing tells whether it has.
const UNCLEAR_HISTORY: Duration = Duration::from_secs(5);

/// A socket that told nothing for so many times the silence, while a prompt runs
/// that it had told about, is replaced. Loading a model is silent for a while.
const DEAF_SILENCES: u32 = 20;

/// What became of a prompt.
#[derive(Debug)]
pub(super) enum Followed {
    Finished(PromptResult),
    /// Its backend does not know it any more.
    Lost {
        /// Whether it had begun to execute.
        had_begun: bool,
    },
    /// Its backend has not answered for too long.
    Away,
    /// It was to end, and its backend does not get to it.
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
    pub(super) work: &'a GraphWork,
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
    unknown_since: Option<Instant>,
    away_since: Option<Instant>,
    began_at: Instant,
    /// When the socket last told something of this prompt.
    heard_at: Option<Instant>,
    /// Whether it began to execute, by the socket or by the records.
    had_begun: bool,
    ended_seen: bool,
    linked: bool,
    stop: Stopping,
}

/// Whether a prompt is to end before it is done.
#[derive(Clone, Copy)]
enum Stopping {
    No,
    /// The backend has not taken it yet.
    Wished {
        until: Instant,
    },
    /// The backend was told.
    Told {
        until: Instant,
    },
}

impl Stopping {
    /// When the prompt is left to itself.
    fn until(self) -> Option<Instant> {
        match self {
            Self::No => None,
            Self::Wished { until } | Self::Told { until } => Some(until),
        }
    }
}

impl Following<'_> {
    pub(super) async fn to_the_end(&self, wishes: &mut Wishes) -> Followed {
        let mut looks = self.first_look();
        loop {
            let stopping = looks.stop.until().is_some();
            tokio::select! {
                biased;
                _wish = wished(wishes), if !stopping => {
                    looks.stop = Stopping::Wished {
                        until: Instant::now() + self.patience,
                    };
                }
                () = self.follower.changed() => {
                    if !self.hear(&mut looks) {
                        continue;
                    }
                }
                () = sleep_until(looks.next) => {}
            }
            if looks
                .stop
                .until()
                .is_some_and(|until| Instant::now() >= until)
            {
                return Followed::LeftAlone;
            }
            if let Stopping::Wished { until } = looks.stop
                && self.stop().await
            {
                looks.stop = Stopping::Told { until };
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
            unknown_since: None,
            away_since: None,
            began_at: Instant::now(),
            heard_at: None,
            had_begun: false,
            ended_seen: false,
            linked,
            stop: Stopping::No,
        }
    }

    /// Takes what the socket told; whether the backend is to be asked now.
    fn hear(&self, looks: &mut Looks) -> bool {
        let snapshot = self.follower.read(self.work);
        if snapshot.began {
            looks.had_begun = true;
            looks.heard_at = Some(Instant::now());
            self.reporter.phase(RunPhase::Executing);
            self.reporter.progress(snapshot.progress);
        }
        if let Some(image) = snapshot.preview {
            self.reporter.preview(image);
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
            && looks.stop.until().is_none()
            && looks.away_since.is_none()
        {
            looks.next = Instant::now() + self.silence;
        }
        false
    }

    async fn look(&self, looks: &mut Looks) -> Option<Followed> {
        let asked_at = Instant::now();
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
                self.station.mark_down();
                let since = *looks.away_since.get_or_insert(asked_at);
                if now.duration_since(since) >= self.patience {
                    return Some(Followed::Away);
                }
                looks.next = now + looks.retry.next();
                return None;
            }
        };
        match state {
            PromptState::Finished(result) => {
                self.station.mark_up();
                if !looks.ended_seen {
                    self.follower.doubt_link(self.silence);
                }
                return Some(Followed::Finished(result));
            }
            PromptState::Unknown => return self.missing(looks).await,
            PromptState::Pending { .. } => self.reporter.phase(RunPhase::Queued),
            PromptState::Running => {
                looks.had_begun = true;
                self.reporter.phase(RunPhase::Executing);
                self.doubt_silence(looks);
            }
        }
        self.station.mark_up();
        looks.unknown = 0;
        looks.unknown_since = None;
        looks.next = Instant::now() + self.pause(looks);
        None
    }

    /// The backend does not know the prompt: it was lost, or its history is late.
    async fn missing(&self, looks: &mut Looks) -> Option<Followed> {
        looks.unknown += 1;
        let since = *looks.unknown_since.get_or_insert_with(Instant::now);
        if looks.unknown >= UNKNOWN_LOOKS {
            let late = match self.recollection(looks).await {
                // What is taken out of the queue leaves no trace.
                _ if matches!(looks.stop, Stopping::Told { .. }) => Duration::ZERO,
                Ok(Recollection::Intact) => LATE_HISTORY,
                Ok(Recollection::Unclear) => UNCLEAR_HISTORY,
                Ok(Recollection::Gone) => Duration::ZERO,
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "a backend did not say whether it was restarted"
                    );
                    UNCLEAR_HISTORY
                }
            };
            if since.elapsed() >= late {
                return Some(Followed::Lost {
                    had_begun: looks.had_begun,
                });
            }
        }
        looks.next = Instant::now()
            + if looks.ended_seen {
                looks.retry.next()
            } else {
                Duration::from_millis(200)
            };
        None
    }

    async fn recollection(&self, looks: &Looks) -> Result<Recollection, ComfyError> {
        let told = self.station.recollection(self.follower.prompt_id()).await?;
        // A restart cuts every socket.
        let is_linked = looks.linked && self.follower.is_linked();
        Ok(match told {
            Recollection::Unclear if is_linked => Recollection::Intact,
            told => told,
        })
    }

    /// The prompt runs: a socket that tells nothing of it is deaf.
    fn doubt_silence(&self, looks: &Looks) {
        let (heard_at, silence) = match looks.heard_at {
            Some(heard_at) => (heard_at, self.silence * DEAF_SILENCES),
            None => (looks.began_at, self.silence),
        };
        if heard_at.elapsed() >= silence {
            self.follower.doubt_link(silence);
        }
    }

    fn pause(&self, looks: &mut Looks) -> Duration {
        if looks.ended_seen {
            return looks.retry.next();
        }
        looks.retry.reset();
        if looks.stop.until().is_some() {
            Duration::from_millis(250).min(self.silence)
        } else if looks.linked {
            self.silence
        } else {
            looks.unlinked.next()
        }
    }

    /// Asks the backend to stop the prompt; says whether it was told.
    async fn stop(&self) -> bool {
        let told = self
            .station
            .answer(self.station.client.cancel(self.follower.prompt_id()))
            .await;
        if let Err(error) = &told {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "a backend did not take a cancellation; trying again"
            );
        }
        told.is_ok()
    }
}
