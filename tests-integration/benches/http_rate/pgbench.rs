//! The database alone: `pgbench`, which lies beside Postgres, with the same transaction.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use atelier_local_postgres::Cluster;
use atelier_tests_integration::scratch;

use crate::sql;

/// One kind of transaction for `pgbench`.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    program: PathBuf,
    file: PathBuf,
    variables: Vec<String>,
    connection: Vec<String>,
}

/// How the statements of a transaction are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sent {
    /// Each is answered before the next one goes out.
    OneByOne,
    /// All of them at once.
    Together,
}

impl Script {
    /// A transaction of `preamble` and `statement` after `setup`, which are pgbench's own commands.
    pub(crate) fn new(
        cluster: &Cluster,
        database: &str,
        sent: Sent,
        (setup, preamble, statement): (&str, &str, &str),
    ) -> Self {
        let transaction = format!("begin;\n{preamble};\n{statement};\ncommit;\n");
        let text = match sent {
            Sent::OneByOne => format!("{setup}\n{transaction}"),
            Sent::Together => format!("{setup}\n\\startpipeline\n{transaction}\\endpipeline\n"),
        };
        let file = scratch::folder("pgbench").join("transaction.sql");
        std::fs::write(&file, text).expect("the folder is new");
        let socket = cluster.socket_directory();
        let program = cluster.binaries().program("pgbench");
        assert!(
            program.is_file(),
            "{} is missing: install the package of Postgres that holds pgbench",
            program.display()
        );
        Self {
            program,
            file,
            variables: Vec::new(),
            connection: [
                "-h",
                socket.to_str().expect("a path in ASCII"),
                "-p",
                &cluster.port().to_string(),
                "-U",
                "atelier_app",
                database,
            ]
            .map(str::to_owned)
            .to_vec(),
        }
    }

    /// Gives the script a variable.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push(format!("--define={name}={value}"));
        self
    }

    /// Runs it with so many clients, and says how many transactions were done a second. The first second is left out:
    /// connections are made and statements prepared then.
    pub(crate) async fn rate(&self, clients: usize, time: Duration) -> f64 {
        let mut command = Command::new(&self.program);
        command
            .args(["-n", "-M", "prepared", "-j", "2", "-P", "1"])
            .arg(format!("--client={clients}"))
            .arg(format!("--time={}", time.as_secs() + 1))
            .arg("-f")
            .arg(&self.file)
            .args(&self.variables)
            .args(&self.connection)
            .env("PGOPTIONS", sql::SETTINGS);
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .expect("it does not panic")
            .expect("pgbench starts");
        let (out, told) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success() && out.contains("number of failed transactions: 0 "),
            "pgbench failed: {out}{told}"
        );
        let rates: Vec<f64> = told.lines().filter_map(progress).collect();
        // A machine that is too busy for a line each second may give no more than one.
        let rates = if rates.len() > 1 { &rates[1..] } else { &rates };
        assert!(!rates.is_empty(), "pgbench told no progress: {told}");
        rates.iter().sum::<f64>() / f64::from(u32::try_from(rates.len()).expect("some"))
    }
}

/// The rate in `progress: 1.0 s, 14211.9 tps, lat ...`.
fn progress(line: &str) -> Option<f64> {
    let (_, rest) = line.strip_prefix("progress: ")?.split_once(" s, ")?;
    rest.split_once(" tps")?.0.parse().ok()
}
