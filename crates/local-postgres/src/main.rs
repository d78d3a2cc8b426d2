//! Runs a private PostgreSQL server until this program ends, in whatever way it ends.
//!
//! `atelier-local-postgres [--throw-away] [DIRECTORY]` runs a durable one in the directory, or a
//! throw-away one there or else in a temporary directory. Its address is the only line on the
//! standard output; what happens is told on the standard error.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::{env, error, io, iter, thread};

use atelier_local_postgres::{Cluster, ClusterOptions, Durability};

fn main() -> ExitCode {
    let Some(options) = options(env::args_os().skip(1)) else {
        tell("usage: atelier-local-postgres DIRECTORY | --throw-away [DIRECTORY]");
        return ExitCode::from(2);
    };
    match run(&options) {
        Ok(never) => match never {},
        Err(error) => {
            let causes = iter::successors(error.source(), |cause| cause.source());
            let told = causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"));
            tell(&format!("error: {told}"));
            ExitCode::FAILURE
        }
    }
}

fn options(arguments: impl Iterator<Item = OsString>) -> Option<ClusterOptions> {
    let (flags, directories): (Vec<_>, Vec<_>) =
        arguments.partition(|argument| argument.as_encoded_bytes().starts_with(b"-"));
    let throw_away = match flags.as_slice() {
        [] => false,
        [flag] if flag == "--throw-away" => true,
        _ => return None,
    };
    match directories.as_slice() {
        [] if throw_away => Some(ClusterOptions::in_temporary_directory()),
        [directory] if throw_away => {
            Some(ClusterOptions::new(directory).durability(Durability::ThrowAway))
        }
        [directory] => Some(ClusterOptions::new(directory)),
        _ => None,
    }
}

fn run(options: &ClusterOptions) -> Result<std::convert::Infallible, Box<dyn error::Error>> {
    let cluster = Cluster::start(options, &mut |step| tell(&step.to_string()))?;
    writeln!(io::stdout(), "{}", cluster.url("postgres"))?;
    loop {
        thread::park();
    }
}

fn tell(line: &str) {
    // Nobody reads the standard error any more: the server goes on nevertheless.
    drop(writeln!(io::stderr(), "{line}"));
}
