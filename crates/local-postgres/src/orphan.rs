//! Servers left by a process that was killed.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::Error;
use crate::step::{Progress, Step};

const POLL: Duration = Duration::from_millis(10);

/// Stops whatever serves `data`, then removes the process file it may have left.
///
/// Only for the holder of the directory's lock: nobody else starts servers there, so what runs is
/// nobody's. The process file alone proves nothing, as its number may belong to another process by
/// now; believing it would end a stranger, and leaving it would keep the new server from starting.
///
/// # Errors
/// [`Error::DoesNotStop`] after `patience`.
pub(crate) fn stop(
    data: &Path,
    gently: Signal,
    patience: Duration,
    progress: &mut Progress<'_>,
) -> Result<(), Error> {
    let begun = Instant::now();
    let mut signalled = Vec::new();
    loop {
        let running = servers(data);
        let Some(first) = running.first() else { break };
        if begun.elapsed() > patience {
            return Err(Error::DoesNotStop { pid: *first });
        }
        let main = recorded_pid(data).filter(|pid| running.contains(pid));
        // Without their main process the others have nobody to tell them gently.
        let (targets, signal) = main.map_or((running, Signal::QUIT), |pid| (vec![pid], gently));
        for pid in targets {
            if !signalled.contains(&pid) {
                progress(&Step::StoppingOrphan { pid });
                send(pid, signal);
                signalled.push(pid);
            }
        }
        thread::sleep(POLL);
    }
    let file = data.join("postmaster.pid");
    if fs::remove_file(&file).is_ok() {
        progress(&Step::RemovedStaleProcessFile { path: file });
    }
    Ok(())
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself meanwhile: the next look at the processes tells.
        kill_process(pid, signal).ok();
    }
}

/// Returns the process number in the first line of the server's process file.
pub(crate) fn recorded_pid(data: &Path) -> Option<u32> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    text.lines()
        .next()?
        .trim()
        .parse()
        .ok()
        .filter(|pid| *pid > 1)
}

/// Lists the server processes of `data`: each has it as its working directory.
#[cfg(target_os = "linux")]
pub(crate) fn servers(data: &Path) -> Vec<u32> {
    let Ok(data) = fs::canonicalize(data) else {
        return Vec::new();
    };
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|directory| directory == data)
                && fs::read_to_string(format!("/proc/{pid}/comm"))
                    .is_ok_and(|name| name.trim() == "postgres")
        })
        .collect()
}

/// Lists the main server process of `data`: its command line names the directory.
#[cfg(not(target_os = "linux"))]
pub(crate) fn servers(data: &Path) -> Vec<u32> {
    let Some(pid) = recorded_pid(data) else {
        return Vec::new();
    };
    let listed = std::process::Command::new("ps")
        .args(["-o", "command=", "-p", &pid.to_string()])
        .output();
    let ours = listed.is_ok_and(|output| {
        let line = String::from_utf8_lossy(&output.stdout).into_owned();
        line.contains("postgres") && line.contains(&data.display().to_string())
    });
    if ours { vec![pid] } else { Vec::new() }
}
