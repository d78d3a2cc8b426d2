//! This process, under the names that every Prometheus client gives these figures.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::param::{clock_ticks_per_second, page_size};

/// Reads `/proc/self` whenever it is asked; where that is not there, it says nothing.
#[derive(Debug)]
pub(super) struct ProcessFigures;

impl Collector for ProcessFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(stat) = Stat::read() {
            tell(
                &mut encoder,
                "process_cpu_seconds",
                "Time on the processors, in seconds",
                &ConstCounter::new(stat.cpu_seconds),
            )?;
            tell(
                &mut encoder,
                "process_resident_memory_bytes",
                "Memory that is really there",
                &ConstGauge::new(stat.resident_bytes),
            )?;
            if let Some(booted) = boot_time() {
                tell(
                    &mut encoder,
                    "process_start_time_seconds",
                    "When the process began, as Unix time",
                    &ConstGauge::new(booted + stat.began_seconds),
                )?;
            }
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            tell(
                &mut encoder,
                "process_open_fds",
                "Files and sockets that are open",
                &ConstGauge::new(u64::try_from(files.count()).unwrap_or(u64::MAX)),
            )?;
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        match limit.current {
            Some(most) => tell(
                &mut encoder,
                "process_max_fds",
                "Files and sockets that may be open",
                &ConstGauge::new(most),
            ),
            None => Ok(()),
        }
    }
}

fn tell(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

struct Stat {
    cpu_seconds: f64,
    resident_bytes: u64,
    /// Since the machine was booted.
    began_seconds: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// The fields are counted as in `proc_pid_stat(5)`, from 1; the second is the program's name in
    /// parentheses, which may hold anything.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        #[expect(
            clippy::cast_precision_loss,
            reason = "a clock that ran for 2^53 ticks does not exist"
        )]
        let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second() as f64;
        Some(Self {
            cpu_seconds: seconds(field(14)?.checked_add(field(15)?)?),
            began_seconds: seconds(field(22)?),
            resident_bytes: field(24)?.checked_mul(u64::try_from(page_size()).ok()?)?,
        })
    }
}

/// When the machine was booted, in seconds since 1970.
fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_there() {
        let stat = Stat::read().expect("Linux has /proc");

        assert!(stat.resident_bytes > 100_000, "{}", stat.resident_bytes);
        assert!(stat.began_seconds > 0.0);
        assert!(boot_time().is_some_and(|time| time > 1e9));
    }

    #[test]
    fn a_name_that_looks_like_more_fields_confuses_nobody() {
        let numbers: Vec<String> = (4..=52).map(|number| number.to_string()).collect();
        let text = format!("1 (a) R 9 (b) S {}", numbers.join(" "));

        let stat = Stat::parse(&text).expect("it is well-formed");

        let per_second = u32::try_from(clock_ticks_per_second()).expect("there are few");
        assert!((stat.cpu_seconds * f64::from(per_second) - 29.0).abs() < 1e-6);
        assert_eq!(stat.resident_bytes, 24 * page_size() as u64);
    }
}
