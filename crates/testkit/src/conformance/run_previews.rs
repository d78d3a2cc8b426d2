//! What every [`RunPreviews`] must do.

use std::sync::Arc;
use std::time::Duration;

use atelier_domain::ids::RunId;
use atelier_domain::ports::{PreviewFormat, PreviewImage, PreviewStream, RunPreviews};
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::KeepAlive;
use crate::{PATIENCE, random_id, wait_until};

/// Both ends of the previews under test; they may be one.
pub struct Harness {
    /// Where people watch.
    pub watching: Arc<dyn RunPreviews>,
    /// Where workers publish.
    pub publishing: Arc<dyn RunPreviews>,
    /// What must live as long as the harness.
    pub keep_alive: KeepAlive,
}

super::opaque_debug!(Harness);

impl Harness {
    /// Begins to watch a run, once the worker knows.
    async fn watched(&self) -> (RunId, PreviewStream) {
        let run = RunId::new(random_id());
        let stream = self.watching.watch(run);
        wait_until("the wish is known", PATIENCE, async || {
            self.publishing.is_wanted(run)
        })
        .await;
        (run, stream)
    }

    async fn publish(&self, run: RunId, image: PreviewImage) {
        self.publishing.publish(run, image).await.unwrap();
    }
}

/// A picture of so many bytes, all of them `fill` but the first ones, which
/// count.
fn a_picture(fill: u8, size: usize) -> PreviewImage {
    let bytes: Vec<u8> = (0..size)
        .map(|place| u8::try_from(place % 251).unwrap().wrapping_add(fill))
        .collect();
    PreviewImage {
        content_type: PreviewFormat::Jpeg,
        bytes: Bytes::from(bytes),
    }
}

async fn next(stream: &mut PreviewStream) -> PreviewImage {
    let item = tokio::time::timeout(PATIENCE, stream.next()).await;
    item.expect("no preview comes").expect("the stream ended")
}

/// Nobody watches until somebody does.
pub async fn nothing_is_wanted_that_nobody_watches(h: &Harness) {
    let (run, _stream) = h.watched().await;

    assert!(h.watching.is_wanted(run));
    assert!(!h.publishing.is_wanted(RunId::new(random_id())));
}

/// Of any size, every byte of them, in every format.
pub async fn pictures_of_any_size_arrive_whole(h: &Harness) {
    let (run, mut stream) = h.watched().await;
    for size in [0, 1, 2, 3, 7_999, 8_000, 100_000, PreviewImage::MAX_BYTES] {
        let picture = a_picture(1, size);
        h.publish(run, picture.clone()).await;
        assert_eq!(next(&mut stream).await, picture, "{size} bytes");
    }
    for content_type in PreviewFormat::ALL {
        let picture = PreviewImage {
            content_type,
            ..a_picture(2, 10)
        };
        h.publish(run, picture.clone()).await;
        assert_eq!(next(&mut stream).await, picture);
    }
}

/// A watcher who is slow gets the latest.
pub async fn the_latest_picture_wins(h: &Harness) {
    let (run, mut stream) = h.watched().await;
    for fill in 0..20 {
        h.publish(run, a_picture(fill, 20_000)).await;
    }
    let last = a_picture(20, 20_000);
    h.publish(run, last.clone()).await;

    let mut taken = 1;
    while next(&mut stream).await != last {
        taken += 1;
    }

    assert!(taken <= 21, "{taken} pictures");
}

/// Each picture comes once.
pub async fn no_picture_comes_twice(h: &Harness) {
    let (run, mut stream) = h.watched().await;
    for fill in 0..5 {
        let picture = a_picture(fill, 9_000);
        h.publish(run, picture.clone()).await;
        assert_eq!(next(&mut stream).await, picture);
    }

    let quiet = Duration::from_millis(200);
    let more = tokio::time::timeout(quiet, stream.next()).await;

    assert!(more.is_err(), "one more: {more:?}");
}

/// Everybody who watches a run gets its pictures, and nobody else's.
pub async fn all_watchers_of_a_run_get_its_pictures(h: &Harness) {
    let (first, mut stream) = h.watched().await;
    let (second, mut other) = h.watched().await;
    let mut again = h.watching.watch(first);
    drop(h.watching.watch(first));

    h.publish(first, a_picture(1, 10)).await;
    h.publish(second, a_picture(2, 10)).await;

    assert_eq!(next(&mut stream).await, a_picture(1, 10));
    assert_eq!(next(&mut again).await, a_picture(1, 10));
    assert_eq!(next(&mut other).await, a_picture(2, 10));
}

/// Larger ones than there may be are dropped, and the next one comes.
pub async fn a_picture_that_is_too_large_is_dropped(h: &Harness) {
    let (run, mut stream) = h.watched().await;

    h.publish(run, a_picture(1, PreviewImage::MAX_BYTES + 1))
        .await;
    h.publish(run, a_picture(2, 10)).await;

    assert_eq!(next(&mut stream).await, a_picture(2, 10));
}

/// To publish what nobody watches is no error.
pub async fn publishing_to_nobody_is_no_error(h: &Harness) {
    h.publish(RunId::new(random_id()), a_picture(1, 10)).await;
}

/// Tests a `RunPreviews`; see [`conformance`](crate::conformance).
#[macro_export]
macro_rules! run_previews_conformance {
    ($harness:expr) => {
        $crate::__cases! { run_previews in run_previews_conformance, $harness;
            nothing_is_wanted_that_nobody_watches,
            pictures_of_any_size_arrive_whole,
            the_latest_picture_wins,
            no_picture_comes_twice,
            all_watchers_of_a_run_get_its_pictures,
            a_picture_that_is_too_large_is_dropped,
            publishing_to_nobody_is_no_error,
        }
    };
}
