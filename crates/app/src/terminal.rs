//! What commands print for people.

use std::io::Write;

/// Prints a line on the standard output. Nobody may be there to read it: that is no reason to
/// stop.
pub(crate) fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

/// Prints a line on the standard error.
pub(crate) fn warn(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}
