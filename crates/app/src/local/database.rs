//! The private Postgres of `atelier local`.

use std::path::PathBuf;

use atelier_local_postgres::{Cluster, ClusterOptions};

use super::LocalError;
use crate::terminal;

const DATABASE: &str = "postgres";
const APPLICATION_ROLE: &str = "atelier_app";

/// A private Postgres that ends with this process, however that ends.
#[derive(Debug)]
pub(super) struct LocalDatabase(Cluster);

impl LocalDatabase {
    /// Starts it in a directory, and tells each step.
    pub(super) async fn start(directory: PathBuf) -> Result<Self, LocalError> {
        // It runs programs and waits for them.
        tokio::task::spawn_blocking(|| {
            let options = ClusterOptions::new(directory);
            Cluster::start(&options, &mut |step| {
                terminal::tell(&format!("database: {step}"));
            })
        })
        .await
        .map_err(LocalError::BrokenOff)?
        .map(Self)
        .map_err(LocalError::Database)
    }

    pub(super) fn owner_url(&self) -> String {
        self.0.url(DATABASE)
    }

    pub(super) fn application_url(&self) -> String {
        self.0.url_for(APPLICATION_ROLE, DATABASE)
    }

    pub(super) async fn stop(self) -> Result<(), LocalError> {
        tokio::task::spawn_blocking(|| self.0.stop())
            .await
            .map_err(LocalError::BrokenOff)?
            .map_err(LocalError::Database)
    }
}
