use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

/// How long a test waits for what must happen, before it gives up. Generous:
/// only failing tests wait that long.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Asks again and again until `condition` holds, and panics, naming `what`,
/// if that takes longer than `patience`.
pub async fn wait_until<F>(what: &str, patience: Duration, mut condition: F)
where
    F: AsyncFnMut() -> bool,
{
    let deadline = Instant::now() + patience;
    let mut pulse = interval(Duration::from_millis(5));
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let asking = async {
        loop {
            pulse.tick().await;
            if condition().await {
                return;
            }
        }
    };
    assert!(
        timeout_at(deadline, asking).await.is_ok(),
        "{what}: not within {patience:?}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_ends_as_soon_as_the_condition_holds() {
        let mut asked = 0;

        wait_until("three questions", PATIENCE, async || {
            asked += 1;
            asked == 3
        })
        .await;

        assert_eq!(asked, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "a miracle: not within")]
    async fn waiting_in_vain_names_what_it_waited_for() {
        wait_until("a miracle", Duration::from_millis(20), async || false).await;
    }
}
