use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atelier_domain::ids::RunId;
use atelier_domain::ports::PreviewImage;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::pieces::{Piece, Unfinished, payloads};

/// How often a watched run is wished for.
pub(super) const WISH_EVERY: Duration = Duration::from_secs(5);

/// How long a wish counts: two may get lost.
const WISH_COUNTS: Duration = Duration::from_secs(12);

/// How long the pieces of a picture are waited for.
const PICTURE_TAKES: Duration = Duration::from_secs(5);

/// How many wishes of other processes are kept: whoever floods the channel must not fill the memory.
const MOST_WISHES: usize = 10_000;

/// Who watches which run, in this process and in others.
pub(crate) struct PreviewHub {
    /// Tells this process's own notifications from others'.
    sender: u64,
    pictures_sent: AtomicU64,
    state: Mutex<State>,
    /// Whether pictures of other processes are heard: before that, they would be sent in vain.
    listens: AtomicBool,
    /// A run is watched that was not.
    pub(super) new_wish: Notify,
}

#[derive(Default)]
struct State {
    /// Runs that are watched in this process.
    watched: HashMap<RunId, Watched>,
    /// Runs that are watched in others, and when that was last heard.
    elsewhere: HashMap<RunId, Instant>,
}

#[derive(Default)]
struct Watched {
    pictures: watch::Sender<Option<PreviewImage>>,
    wished_at: Option<Instant>,
    unfinished: Option<(Unfinished, Instant)>,
}

impl Default for PreviewHub {
    fn default() -> Self {
        Self {
            // Its keys are random: nothing else is asked of the number.
            sender: RandomState::new().build_hasher().finish(),
            pictures_sent: AtomicU64::default(),
            state: Mutex::default(),
            listens: AtomicBool::default(),
            new_wish: Notify::new(),
        }
    }
}

impl PreviewHub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn watch(&self, run: RunId) -> watch::Receiver<Option<PreviewImage>> {
        let mut state = self.state();
        let watched = state.watched.entry(run).or_default();
        let is_new = watched.pictures.receiver_count() == 0;
        if is_new {
            watched.wished_at = None;
        }
        let pictures = watched.pictures.subscribe();
        drop(state);
        if is_new {
            self.new_wish.notify_one();
        }
        pictures
    }

    pub(super) fn is_watched(&self) -> bool {
        !self.state().watched.is_empty()
    }

    pub(super) fn is_wanted(&self, run: RunId) -> bool {
        let state = self.state();
        state.is_watched(run) || state.is_wanted_elsewhere(run)
    }

    pub(super) fn is_wanted_elsewhere(&self, run: RunId) -> bool {
        self.state().is_wanted_elsewhere(run)
    }

    /// Gives a picture to whoever watches in this process.
    pub(super) fn show(&self, run: RunId, image: &PreviewImage) {
        if let Some(watched) = self.state().watched.get(&run) {
            watched.pictures.send_replace(Some(image.clone()));
        }
    }

    /// The notifications that carry a picture to other processes.
    pub(super) fn pieces(&self, run: RunId, image: &PreviewImage) -> Vec<String> {
        let picture = self.pictures_sent.fetch_add(1, Ordering::Relaxed);
        payloads(self.sender, picture, run, image)
    }

    /// The wishes that are to be said, or to be said again, by now; forgets what nobody watches any more and pictures
    /// whose rest does not come.
    pub(super) fn due_wishes(&self) -> Vec<String> {
        let now = Instant::now();
        let mut state = self.state();
        state
            .watched
            .retain(|_, watched| watched.pictures.receiver_count() > 0);
        let listens = self.listens.load(Ordering::Acquire);
        let mut wishes = Vec::new();
        for (run, watched) in &mut state.watched {
            watched.forget_old_pieces(now);
            if listens && watched.wished_at.is_none_or(|at| now >= at + WISH_EVERY) {
                watched.wished_at = Some(now);
                wishes.push(format!("{} {run}", self.sender));
            }
        }
        wishes
    }

    /// Pictures of other processes are heard from now on, or no more.
    pub(crate) fn listens(&self, listens: bool) {
        self.listens.store(listens, Ordering::Release);
        if listens {
            self.new_wish.notify_one();
        }
    }

    /// Hears what another process wishes, or this one.
    pub(crate) fn hear_wish(&self, payload: &str) {
        let Some((sender, run)) = payload.split_once(' ') else {
            return;
        };
        let (Ok(sender), Ok(run)) = (sender.parse::<u64>(), run.parse::<RunId>()) else {
            return;
        };
        if sender == self.sender {
            return;
        }
        let now = Instant::now();
        let elsewhere = &mut self.state().elsewhere;
        if elsewhere.len() >= MOST_WISHES {
            elsewhere.retain(|_, heard| now < *heard + WISH_COUNTS);
        }
        if elsewhere.len() < MOST_WISHES {
            elsewhere.insert(run, now);
        }
    }

    /// Hears a piece of a picture, of another process or of this one.
    pub(crate) fn hear_piece(&self, payload: &str) {
        let Some(piece) = Piece::parse(payload) else {
            return;
        };
        if piece.sender == self.sender {
            return;
        }
        if let Some(watched) = self.state().watched.get_mut(&piece.run) {
            watched.add(&piece);
        }
    }
}

impl State {
    fn is_watched(&self, run: RunId) -> bool {
        self.watched
            .get(&run)
            .is_some_and(|watched| watched.pictures.receiver_count() > 0)
    }

    fn is_wanted_elsewhere(&self, run: RunId) -> bool {
        self.elsewhere
            .get(&run)
            .is_some_and(|heard| Instant::now() < *heard + WISH_COUNTS)
    }
}

impl Watched {
    fn forget_old_pieces(&mut self, now: Instant) {
        self.unfinished
            .take_if(|(_, begun)| now >= *begun + PICTURE_TAKES);
    }

    fn add(&mut self, piece: &Piece) {
        let now = Instant::now();
        self.forget_old_pieces(now);
        if let Some(begun) = Unfinished::begin(piece) {
            self.unfinished = Some((begun, now));
        }
        let Some((unfinished, _)) = &mut self.unfinished else {
            return;
        };
        if !unfinished.add(piece) {
            self.unfinished = None;
        } else if let Some(image) = unfinished.finish() {
            self.unfinished = None;
            self.pictures.send_replace(Some(image));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atelier_domain::ports::PreviewFormat;
    use bytes::Bytes;
    use uuid::Uuid;

    fn run(number: u128) -> RunId {
        RunId::new(Uuid::from_u128(number))
    }

    fn picture(fill: u8) -> PreviewImage {
        PreviewImage {
            content_type: PreviewFormat::Jpeg,
            bytes: Bytes::from(vec![fill; 20_000]),
        }
    }

    fn latest(pictures: &mut watch::Receiver<Option<PreviewImage>>) -> Option<PreviewImage> {
        let changed = pictures.has_changed().unwrap();
        let latest = pictures.borrow_and_update().clone();
        latest.filter(|_| changed)
    }

    #[tokio::test(start_paused = true)]
    async fn a_wish_counts_for_twelve_seconds() {
        let (watching, working) = (PreviewHub::default(), PreviewHub::default());
        let _pictures = watching.watch(run(1));
        assert_eq!(watching.due_wishes(), [] as [String; 0], "it is deaf");
        watching.listens(true);
        for wish in watching.due_wishes() {
            working.hear_wish(&wish);
            watching.hear_wish(&wish);
        }
        assert!(working.is_wanted(run(1)) && working.is_wanted_elsewhere(run(1)));
        assert!(!watching.is_wanted_elsewhere(run(1)), "its own wish");
        assert_eq!(watching.due_wishes(), [] as [String; 0]);

        tokio::time::advance(WISH_EVERY).await;
        assert_eq!(watching.due_wishes().len(), 1);
        assert!(working.is_wanted(run(1)));

        tokio::time::advance(WISH_COUNTS).await;
        assert!(!working.is_wanted(run(1)));
    }

    #[tokio::test]
    async fn what_nobody_watches_is_forgotten() {
        let hub = PreviewHub::default();
        drop(hub.watch(run(1)));
        assert!(!hub.is_wanted(run(1)));

        assert_eq!(hub.due_wishes(), [] as [String; 0]);

        assert!(!hub.is_watched());
    }

    #[tokio::test(start_paused = true)]
    async fn a_picture_comes_whole_or_not_at_all() {
        let (watching, working) = (PreviewHub::default(), PreviewHub::default());
        let mut pictures = watching.watch(run(1));
        let [first, second, third, fourth] = [1, 2, 3, 4].map(|fill| {
            let pieces = working.pieces(run(1), &picture(fill));
            assert!(pieces.len() > 2);
            pieces
        });
        // One lacks a piece, one is mixed up with another, one breaks off.
        for piece in first.iter().skip(1).chain(&second[..2]).chain(&third[2..]) {
            watching.hear_piece(piece);
        }
        assert_eq!(latest(&mut pictures), None);
        watching.hear_piece(&fourth[0]);
        tokio::time::advance(PICTURE_TAKES).await;
        for piece in &fourth[1..] {
            watching.hear_piece(piece);
        }
        assert_eq!(latest(&mut pictures), None);

        for piece in &fourth {
            watching.hear_piece(piece);
            working.hear_piece(piece);
        }
        assert_eq!(latest(&mut pictures), Some(picture(4)));
        assert_eq!(latest(&mut pictures), None, "once");
    }

    #[tokio::test(start_paused = true)]
    async fn floods_and_rubbish_leave_no_trace() {
        let hub = PreviewHub::default();
        for number in 0..20_000 {
            hub.hear_wish(&format!("1 {}", run(number)));
        }
        for payload in ["", "1", "x y", "1 run", "1 1 1 1 1 1 1"] {
            hub.hear_wish(payload);
            hub.hear_piece(payload);
        }
        for piece in PreviewHub::default().pieces(run(1), &picture(1)) {
            hub.hear_piece(&piece);
        }

        assert_eq!(hub.state().elsewhere.len(), MOST_WISHES);
        assert!(!hub.is_watched());
    }
}
