//! Processes that tests start, watch and kill.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::guard::Guard;

/// How often a wait looks again where nothing wakes it.
const GLANCE: Duration = Duration::from_millis(10);

/// A running program. Killed when dropped, and when the test process ends.
#[derive(Debug)]
pub struct Process {
    // Called off first, so that it never meets another process of the same number.
    guard: Option<Guard>,
    child: Child,
    output: Arc<Output>,
}

#[derive(Debug, Default)]
struct Output {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

impl Process {
    /// Starts a program and collects what it prints, on both channels.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let guard = Guard::new(r#"kill -KILL "$0""#, &child.id().to_string());
        let output = Arc::new(Output::default());
        let channels: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("piped")),
            Box::new(child.stderr.take().expect("piped")),
        ];
        for channel in channels {
            let output = Arc::clone(&output);
            thread::spawn(move || {
                for line in BufReader::new(channel).lines().map_while(Result::ok) {
                    output.lines.lock().unwrap().push(line);
                    output.grown.notify_all();
                }
            });
        }
        Self {
            guard: Some(guard),
            child,
            output,
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it has printed so far.
    pub fn printed(&self) -> String {
        self.output.lines.lock().unwrap().join("\n")
    }

    /// Waits for a line of its output from which `find` makes something.
    pub fn wait_for_line<T>(&mut self, patience: Duration, find: impl Fn(&str) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            let exited = self.child.try_wait().unwrap();
            let lines = self.output.lines.lock().unwrap();
            if let Some(found) = lines.iter().find_map(|line| find(line)) {
                return found;
            }
            assert!(
                exited.is_none() && begun.elapsed() < patience,
                "the line did not come (exit: {exited:?}); printed:\n{}",
                lines.join("\n")
            );
            drop(self.output.grown.wait_timeout(lines, GLANCE).unwrap());
        }
    }

    /// The most memory that it ever had in use, in KiB (Linux: `VmHWM`).
    pub fn peak_memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .expect("the process is running");
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .and_then(|number| number.parse().ok())
            .expect("Linux tells the peak")
    }

    /// Ends it at once, as a crash would (`SIGKILL`).
    pub fn kill(&mut self) {
        self.guard = None;
        self.child.kill().expect("it can be signalled");
        self.child.wait().expect("it ends");
    }

    /// Asks it to stop (`SIGTERM`) and waits for its end.
    pub fn terminate(&mut self, patience: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(patience)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), signal).expect("it can be signalled");
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.guard = None;
                return status;
            }
            assert!(
                begun.elapsed() < patience,
                "it does not end; printed:\n{}",
                self.printed()
            );
            thread::park_timeout(GLANCE);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.guard = None;
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whether a process is running: it exists and is not merely waiting to be noticed as dead.
pub fn is_running(pid: u32) -> bool {
    // The state follows the name, which stands in brackets and may hold anything.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    })
}
