//! Programs that run for us, as another user if need be, and that end with us.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;
use std::{env, thread};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::account::Account;
use crate::error::Error;

/// Variables of our environment which the programs see. The others stay with us: they may hold
/// secrets, or settings meant for another server.
const ENVIRONMENT: [&str; 4] = ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZDIR"];

/// The locale of server and cluster, so that nothing depends on what the machine has set.
pub(crate) const LOCALE: &str = if cfg!(target_os = "linux") {
    "C.UTF-8"
} else {
    "C"
};

/// Prepares a program of PostgreSQL to run as `account`, out of reach of the terminal's Ctrl-C, and
/// to get `on_parent_death` when the thread which starts it ends.
pub(crate) fn command(
    program: &Path,
    account: Option<&Account>,
    on_parent_death: Signal,
) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("LC_ALL", LOCALE)
        .stdin(Stdio::null())
        .current_dir("/")
        .process_group(0);
    for name in ENVIRONMENT {
        if let Some(value) = env::var_os(name) {
            command.env(name, value);
        }
    }
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    tie_to_parent(&mut command, on_parent_death);
    command
}

/// Has the kernel send `signal` to the program when the thread that started it ends, for whatever
/// reason.
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "nothing but code between fork and exec can ask for the parent-death signal"
)]
fn tie_to_parent(command: &mut Command, signal: Signal) {
    let parent = i32::try_from(std::process::id())
        .ok()
        .and_then(Pid::from_raw);
    // The standard library runs this after it has changed the user, which would clear the setting.
    let before_exec = move || {
        rustix::process::set_parent_process_death_signal(Some(signal))?;
        // Had the parent died before that call, no signal would ever come.
        if rustix::process::getppid() == parent {
            Ok(())
        } else {
            Err(io::Error::from(Errno::SRCH))
        }
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. The closure makes two
    // plain system calls, allocates nothing (an `io::Error` made from an error number is a number),
    // takes no lock, and owns only `Copy` data.
    unsafe {
        command.pre_exec(before_exec);
    }
}

#[cfg(not(target_os = "linux"))]
fn tie_to_parent(_command: &mut Command, _signal: Signal) {}

/// Runs a program that should answer at once, and returns what it wrote to its standard output.
///
/// # Errors
/// A sentence, when it cannot be run, fails, or takes longer than `patience`; it is killed then.
pub(crate) fn answer(command: &mut Command, patience: Duration) -> Result<String, String> {
    const LONGEST: u64 = 64 * 1024;
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("it cannot be run: {error}"))?;
    let (sender, receiver) = mpsc::channel();
    if let Some(output) = child.stdout.take() {
        // A thread of its own, as the pipe may stay open for longer than we want to wait.
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let read = output.take(LONGEST).read_to_end(&mut bytes);
            drop(sender.send(read.map(|_| bytes)));
        });
    }
    let answered = receiver.recv_timeout(patience);
    if answered.is_err() {
        drop(child.kill());
    }
    let status = child
        .wait()
        .map_err(|error| format!("it cannot be waited for: {error}"))?;
    match answered {
        Ok(Ok(bytes)) if status.success() => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Ok(Ok(_)) => Err(format!("it failed with {status}")),
        Ok(Err(error)) => Err(format!("its answer cannot be read: {error}")),
        Err(_) => Err(format!("it gave no answer within {} s", patience.as_secs())),
    }
}

/// The running server.
///
/// The parent-death signal comes when the *thread* that started the program ends, so a thread of
/// its own starts the server and then waits for its end.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    pid: Pid,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    exited: Mutex<bool>,
    changed: Condvar,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.exited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerProcess {
    pub(crate) fn spawn(mut command: Command) -> Result<Self, Error> {
        let program = Path::new(command.get_program()).to_path_buf();
        let failed = |source| Error::Run {
            program: program.clone(),
            source,
        };
        let state = Arc::new(State::default());
        let watched = Arc::clone(&state);
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new()
            .name("postgres".to_owned())
            .spawn(move || match command.spawn() {
                Ok(mut child) => {
                    drop(sender.send(Ok(child.id())));
                    watch(&mut child, &watched);
                }
                Err(error) => drop(sender.send(Err(error))),
            })
            .map_err(failed)?;
        let spawned = receiver
            .recv()
            .map_err(io::Error::other)
            .and_then(|spawned| spawned);
        let pid = spawned.map_err(failed)?;
        let pid = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| failed(io::Error::from(Errno::SRCH)))?;
        Ok(Self { pid, state })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    pub(crate) fn has_exited(&self) -> bool {
        *self.state.lock()
    }

    /// Sends each signal in turn and waits the time given with it, until the server has ended.
    ///
    /// # Errors
    /// [`Error::DoesNotStop`] if it runs still after the last one.
    pub(crate) fn stop(&self, signals: &[(Signal, Duration)]) -> Result<(), Error> {
        for (signal, patience) in signals {
            self.send(*signal);
            if self.wait(*patience) {
                return Ok(());
            }
        }
        Err(Error::DoesNotStop { pid: self.pid() })
    }

    fn send(&self, signal: Signal) {
        // Under the lock the process is ours: its number is given back only after `exited` is set.
        let exited = self.state.lock();
        if !*exited {
            kill_process(self.pid, signal).ok();
        }
    }

    /// Waits for the end of the server; `false` if it did not come in time.
    pub(crate) fn wait(&self, patience: Duration) -> bool {
        let guard = self.state.lock();
        let waited = self
            .state
            .changed
            .wait_timeout_while(guard, patience, |exited| !*exited);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if !self.has_exited() {
            drop(self.stop(&[
                (Signal::QUIT, Duration::from_secs(10)),
                (Signal::KILL, Duration::from_secs(5)),
            ]));
        }
    }
}

/// Waits for the end of `child`, without giving its number back before everybody here knows that it
/// has ended.
fn watch(child: &mut Child, state: &State) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let events = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(pid), events).is_err_and(|error| error == Errno::INTR) {}
    }
    let mut exited = state.lock();
    drop(child.wait());
    *exited = true;
    state.changed.notify_all();
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = command(Path::new("/bin/sh"), None, Signal::KILL);
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_that_hangs_is_given_up() {
        let error = answer(&mut shell("exec sleep 60"), Duration::from_millis(50)).unwrap_err();

        assert!(error.contains("no answer"), "{error}");
    }

    #[test]
    fn a_program_that_fails_is_no_answer() {
        let error = answer(&mut shell("echo fine; exit 3"), Duration::from_secs(10)).unwrap_err();

        assert!(error.contains('3'), "{error}");
    }

    #[test]
    fn nothing_of_our_environment_but_the_needed_reaches_the_program() {
        let seen = answer(&mut shell("env"), Duration::from_secs(10)).unwrap();

        assert!(seen.contains("LC_ALL="), "{seen}");
        assert!(!seen.contains("CARGO"), "{seen}");
    }

    #[test]
    fn a_stubborn_program_is_killed_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready");
        let script = format!(
            "trap '' QUIT; : > {}; while :; do sleep 1; done",
            ready.display()
        );
        let server = ServerProcess::spawn(shell(&script)).unwrap();
        let begun = Instant::now();
        while !ready.exists() {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "the shell did not start"
            );
            thread::yield_now();
        }

        server
            .stop(&[(Signal::QUIT, Duration::from_millis(50))])
            .unwrap_err();
        server
            .stop(&[(Signal::KILL, Duration::from_secs(10))])
            .unwrap();

        assert!(server.has_exited());
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = ServerProcess::spawn(Command::new("/nonexistent/postgres")).unwrap_err();

        assert!(
            error.to_string().contains("/nonexistent/postgres"),
            "{error}"
        );
    }
}
