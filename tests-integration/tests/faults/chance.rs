//! Chance that can be had again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Sets the seed; the moments of processes are their own, so a repetition is a similar one.
const VARIABLE: &str = "ATELIER_FAULTS_SEED";

/// Random numbers (`SplitMix64`) from a seed that is another one each time.
#[derive(Debug)]
pub(crate) struct Chance {
    seed: u64,
    state: u64,
}

impl Chance {
    pub(crate) fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let clock = since.map_or(0, |since| u64::from(since.subsec_nanos()));
        let given = std::env::var_os(VARIABLE).and_then(|text| text.to_str()?.parse().ok());
        let seed = given.unwrap_or(clock);
        Self { seed, state: seed }
    }

    /// What a failing test is to tell, to be tried again.
    pub(crate) fn told(&self) -> String {
        format!("{VARIABLE}={}", self.seed)
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("a small number");
        usize::try_from(self.next() % end).expect("it is below the end")
    }

    /// A time below `end`.
    pub(crate) fn pause(&mut self, end: Duration) -> Duration {
        let micros = u64::try_from(end.as_micros()).expect("a short time");
        Duration::from_micros(self.next() % micros)
    }

    /// One number out of each of `count` equal parts of `0..total`, in order: random, and all
    /// over the range.
    pub(crate) fn spread(&mut self, count: usize, total: usize) -> Vec<usize> {
        let part = total / count;
        (0..count)
            .map(|index| index * part + self.below(part))
            .collect()
    }
}

#[test]
fn the_same_seed_gives_the_same_moments() {
    let moments = |seed| {
        let mut chance = Chance { seed, state: seed };
        chance.spread(20, 200)
    };

    assert_eq!(moments(1), moments(1));
    assert_ne!(moments(1), moments(2));
    assert!(moments(1).is_sorted());
    assert!(moments(1).iter().all(|&moment| moment < 200));
}
