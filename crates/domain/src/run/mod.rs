//! Runs: one execution of a workflow, and the states that it goes through.
//!
//! ```text
//!            claim                    complete
//! pending ----------> running ----------------------> completed
//!    ^  \\                |  \
//!    |   \\               |   \---- fail, time out ---> failed
//!    |    \\--- time out -|------------------------------^
//!    |     \             |    \--- cancel -----------> cancelled
//!    |      \--- cancel -|------------------------------^
//!    \-- hand over, lose-/   (while the budget lasts, else failed)
//! ```
//!
//! These transitions live here and nowhere else; the database refuses the
//! same words that this module does not know.

mod entity;
mod event;
mod failure;
mod loss;
mod priority;
mod progress;
mod status;

pub use entity::*;
pub use event::*;
pub use failure::*;
pub use loss::*;
pub use priority::*;
pub use progress::*;
pub use status::*;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_loss_of_a_budget_ends_in_failure() {
        for loss in RunLoss::ALL {
            let lost = |count| RunStatus::Running.after(RunTransition::Lose { loss, count });

            assert_eq!(lost(loss.budget() - 1), Ok(RunStatus::Pending));
            assert_eq!(lost(loss.budget()), Ok(RunStatus::Failed));
        }
    }

    #[test]
    fn priorities_beyond_ten_are_none() {
        assert_eq!(RunPriority::new(10), Some(RunPriority::HIGHEST));
        assert_eq!(RunPriority::new(-11), None);
        assert_eq!(RunPriority::new(256), None);
    }

    #[test]
    fn a_finished_run_cannot_be_cancelled() {
        assert!(RunStatus::Completed.after(RunTransition::Cancel).is_err());
    }

    #[test]
    fn every_word_is_read_back() {
        for status in RunStatus::ALL {
            assert_eq!(RunStatus::parse(status.as_str()), Some(status));
        }
        for phase in RunPhase::ALL {
            assert_eq!(RunPhase::parse(phase.as_str()), Some(phase));
        }
        for kind in RunEventKind::ALL {
            assert_eq!(RunEventKind::parse(kind.as_str()), Some(kind));
        }
        for code in RunFailureCode::ALL {
            assert_eq!(RunFailureCode::parse(code.as_str()), Some(*code));
        }
    }

    /// A transition; what is lost is counted by whoever applies it.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Plain(RunTransition),
        Lose(RunLoss),
    }

    fn steps() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Plain(RunTransition::Claim)),
            Just(Step::Plain(RunTransition::Complete)),
            Just(Step::Plain(RunTransition::Fail)),
            Just(Step::Plain(RunTransition::Cancel)),
            Just(Step::Plain(RunTransition::TimeOut)),
            Just(Step::Plain(RunTransition::HandOver)),
            prop::sample::select(RunLoss::ALL.to_vec()).prop_map(Step::Lose),
        ]
    }

    #[derive(Default)]
    struct Losses([u32; 3]);

    impl Losses {
        fn transition(&self, step: Step) -> RunTransition {
            match step {
                Step::Plain(transition) => transition,
                Step::Lose(loss) => RunTransition::Lose {
                    loss,
                    count: self.0[loss as usize] + 1,
                },
            }
        }

        fn count(&mut self, transition: RunTransition) {
            if let RunTransition::Lose { loss, count } = transition {
                self.0[loss as usize] = count;
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_over_stays_over(order in prop::collection::vec(steps(), 0..60)) {
            let (mut status, mut losses, mut ends) = (RunStatus::Pending, Losses::default(), 0);
            for step in order {
                let transition = losses.transition(step);
                let before = status;
                if let Ok(next) = status.after(transition) {
                    prop_assert!(!before.is_final());
                    losses.count(transition);
                    status = next;
                    ends += u32::from(next.is_final());
                }
            }
            prop_assert!(ends <= 1);
            prop_assert_eq!(ends == 1, status.is_final());
        }

        #[test]
        fn no_order_of_events_leaves_a_run_stuck(order in prop::collection::vec(steps(), 0..60)) {
            let (mut status, mut losses) = (RunStatus::Pending, Losses::default());
            for step in order {
                let transition = losses.transition(step);
                if let Ok(next) = status.after(transition) {
                    losses.count(transition);
                    status = next;
                }
            }
            if status == RunStatus::Pending {
                status = status.after(RunTransition::Claim).expect("what waits can be claimed");
            }
            if status == RunStatus::Running {
                for end in [
                    RunTransition::Complete,
                    RunTransition::Fail,
                    RunTransition::Cancel,
                    RunTransition::TimeOut,
                ] {
                    prop_assert!(status.after(end).is_ok_and(RunStatus::is_final));
                }
            }
        }

        #[test]
        fn losses_alone_end_a_run(order in prop::collection::vec(
            prop::sample::select(RunLoss::ALL.to_vec()), 30,
        )) {
            let (mut status, mut losses) = (RunStatus::Running, Losses::default());
            for loss in order {
                let transition = losses.transition(Step::Lose(loss));
                if let Ok(next) = status.after(transition) {
                    losses.count(transition);
                    status = next.after(RunTransition::Claim).unwrap_or(next);
                }
            }
            prop_assert_eq!(status, RunStatus::Failed);
        }
    }
}
