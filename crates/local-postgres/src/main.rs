//! Runs a private PostgreSQL server until this program ends, in whatever way it ends.
//!
//! `atelier-local-postgres DIRECTORY` runs a durable one, `atelier-local-postgres --throw-away` one in a temporary
//! directory. Its address is the only line on the standard output; what happens is told on the standard error.

use std::io::Write;
use std::process::ExitCode;
use std::{env, error, io, iter, thread};

use atelier_local_postgres::{Cluster, ClusterOptions};

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let options = match (arguments.next(), arguments.next()) {
        (Some(argument), None) if argument == "--throw-away" => {
            ClusterOptions::in_temporary_directory()
        }
        (Some(directory), None) if !directory.as_encoded_bytes().starts_with(b"-") => {
            ClusterOptions::new(directory)
        }
        _ => {
            tell("usage: atelier-local-postgres DIRECTORY | --throw-away");
            return ExitCode::from(2);
        }
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
