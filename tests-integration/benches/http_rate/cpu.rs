//! Who used the processors.

use std::fs;

use atelier_local_postgres::Cluster;

/// What one process used until a moment, and what Postgres and this process did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    server: u64,
    postgres: u64,
    generator: u64,
}

impl Used {
    /// As of now (Linux: `/proc`).
    pub(crate) fn now(server: u32, cluster: &Cluster) -> Self {
        let children = fs::read_dir("/proc")
            .expect("Linux shows its processes")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(stat)
            .filter(|process| process.parent == cluster.pid());
        Self {
            server: stat(server).map_or(0, |process| process.used),
            postgres: children.map(|process| process.used).sum(),
            generator: stat(std::process::id()).map_or(0, |process| process.used),
        }
    }

    /// What a request cost since `earlier`, in words.
    pub(crate) fn since(self, earlier: Self, requests: f64) -> String {
        // A hundredth of a second is the kernel's unit here.
        let each = |now: u64, then: u64| {
            f64::from(u32::try_from(now.saturating_sub(then)).unwrap_or(u32::MAX)) * 1e4 / requests
        };
        format!(
            "a request takes {:.0} us of the server, {:.0} us of Postgres, {:.0} us of the load generator",
            each(self.server, earlier.server),
            each(self.postgres, earlier.postgres),
            each(self.generator, earlier.generator),
        )
    }
}

struct Stat {
    parent: u32,
    used: u64,
}

fn stat(process: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name stands in brackets and may hold anything; the state follows it.
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(number(1)?).ok()?,
        used: number(11)? + number(12)?,
    })
}
