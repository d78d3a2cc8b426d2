//! What has to happen when the test process is gone, however it went.

use std::process::{Child, Command, Stdio};

/// A shell that waits for the end of this process, then runs one line. Dropping it calls it off.
#[derive(Debug)]
pub(crate) struct Guard(Child);

impl Guard {
    /// The line has `subject` as `$0`.
    pub(crate) fn new(line: &str, subject: &str) -> Self {
        let child = Command::new("sh")
            // Nobody writes to its input, so reading ends when our end of the pipe is closed.
            .args(["-c", &format!("read -r _; {line}"), subject])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is a shell");
        Self(child)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
