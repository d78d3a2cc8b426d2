//! The server under test, as a process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::backend::Backend;
use crate::client::Client;
use crate::database::Database;
use crate::people::{JWT_SECRET, Person};
use crate::process::Process;
use crate::scratch;

/// How long a server may take to start, on a busy machine.
const START: Duration = Duration::from_mins(1);

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct ServerSetup {
    program: String,
    variables: Vec<(String, String)>,
    arguments: Vec<String>,
}

impl ServerSetup {
    /// `atelier serve` on a database, a folder for objects, and a backend with its LoRA folder.
    pub fn new(
        program: &str,
        database: &Database,
        objects: &Path,
        comfyui_url: &str,
        loras_dir: &Path,
    ) -> Self {
        let variables = [
            ("ATELIER_LISTEN", "127.0.0.1:0".to_owned()),
            ("BLOB_URL", format!("file://{}", objects.display())),
            ("COMFYUI_LORAS_DIR", loras_dir.display().to_string()),
            ("COMFYUI_URL", comfyui_url.to_owned()),
            ("DATABASE_URL", database.application_url.clone()),
            ("RUST_LOG", "info".to_owned()),
            ("SUPABASE_JWT_SECRET", JWT_SECRET.to_owned()),
        ];
        Self {
            program: program.to_owned(),
            variables: variables
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            arguments: vec!["serve".to_owned()],
        }
    }

    /// Sets, or replaces, a variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.retain(|(other, _)| other != name);
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Unsets a variable.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.variables.retain(|(other, _)| other != name);
        self
    }

    /// Names these backends in a file, instead of one in variables.
    #[must_use]
    pub fn with_backends(self, backends: &[(&str, &Backend)]) -> Self {
        let file = backends_file(&backends_text(backends));
        self.without("COMFYUI_URL")
            .without("COMFYUI_LORAS_DIR")
            .with("ATELIER_CONFIG", file.display().to_string())
    }

    /// Starts another command than `serve`, or adds flags to it.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|&text| text.to_owned()).collect();
        self
    }

    /// Starts the process.
    pub fn spawn(&self) -> Process {
        Process::start(
            Command::new(&self.program)
                .args(&self.arguments)
                .env_clear()
                .envs(self.variables.iter().cloned()),
        )
    }

    /// Starts the server and waits until it listens.
    pub fn start(&self) -> Server {
        let mut process = self.spawn();
        let url = process.wait_for_line(START, address);
        Server { process, url }
    }
}

/// What `atelier.toml` says of backends.
pub fn backends_text(backends: &[(&str, &Backend)]) -> String {
    let tables = backends.iter().map(|(name, backend)| {
        format!(
            "[[backends]]\nname = {name:?}\nurl = {:?}\nloras_dir = {:?}\n",
            backend.url(),
            backend.loras.display().to_string(),
        )
    });
    tables.collect()
}

/// A file called `atelier.toml`, alone in a folder.
pub fn backends_file(text: &str) -> PathBuf {
    let path = scratch::folder("config").join("atelier.toml");
    std::fs::write(&path, text).expect("the folder is new");
    path
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    /// Its process.
    pub process: Process,
    /// Where it listens, such as `http://127.0.0.1:41234`.
    pub url: String,
}

impl Server {
    /// A client for somebody whom no test has met.
    pub fn client(&self) -> Client {
        Client::new(&self.url, Some(Person::new()))
    }

    /// A client that is not signed in.
    pub fn anonymous(&self) -> Client {
        Client::new(&self.url, None)
    }
}

/// The address in a line that tells where the server listens.
fn address(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("http://127.0.0.1:")?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    (line.contains("listening") && !port.is_empty()).then(|| format!("http://127.0.0.1:{port}"))
}
