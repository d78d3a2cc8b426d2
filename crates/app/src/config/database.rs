//! The database.
//!
//! - `DATABASE_URL` (or `SUPABASE_DB_URL`): Postgres, as the role `atelier_app`. The direct
//!   connection or session mode: transaction mode has no notifications.
//! - `DATABASE_ROOT_CERTIFICATE`: a PEM file with the certificate that the server's must lead to.
//! - `ATELIER_DATABASE_CONNECTIONS`: the most connections at once. Too few, and requests wait;
//!   too many, and the server refuses other clients.
//! - `ATELIER_MIGRATE_URL`: Postgres, as the owner of the tables; for `migrate` alone.
//! - `ATELIER_APP_PASSWORD`: the password that `migrate` gives the role `atelier_app`; it is left
//!   as it is if not set.
#![expect(clippy::doc_markdown, reason = "clap prints these texts as they stand")]

use std::path::PathBuf;

use super::{Mistakes, Secret, is_secret_given, or_variables};

const URL: &str = "DATABASE_URL";
/// Its names, the first that is given counts.
const URLS: [&str; 2] = [URL, "SUPABASE_DB_URL"];
const MIGRATE_URL: &str = "ATELIER_MIGRATE_URL";
const APP_PASSWORD: &str = "ATELIER_APP_PASSWORD";
const CONNECTIONS: &str = "ATELIER_DATABASE_CONNECTIONS";

const DEFAULT_CONNECTIONS: usize = 16;

/// How the database is told.
#[derive(Clone, Debug, clap::Args)]
pub struct DatabaseArguments {
    /// Postgres, as the role `atelier_app`; SUPABASE_DB_URL works too.
    #[arg(long, env = URL, hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// A PEM file with the certificate that the database's must lead to.
    #[arg(long, env = "DATABASE_ROOT_CERTIFICATE", value_name = "FILE")]
    pub database_root_certificate: Option<PathBuf>,
    /// The most connections to the database at once.
    ///
    /// Default: 16.
    #[arg(long, env = CONNECTIONS, value_name = "COUNT")]
    pub database_connections: Option<String>,
}

/// Where the database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseConfig {
    /// Its address, with the password.
    pub url: Secret,
    /// The certificate that its own must lead to.
    pub root_certificate: Option<PathBuf>,
    /// The most connections at once.
    pub connections: usize,
}

impl DatabaseArguments {
    /// Whether the address is given, under whichever of its names, or in a file.
    pub(crate) fn is_url_given(&self) -> bool {
        is_secret_given(self.database_url.as_ref(), &URLS)
    }

    /// Checks the arguments.
    pub fn check(self, mistakes: &mut Mistakes) -> Option<DatabaseConfig> {
        let given = mistakes.secret(self.database_url, &URLS);
        let connections = match or_variables(self.database_connections, &[]) {
            None => Some(DEFAULT_CONNECTIONS),
            Some(text) => {
                mistakes.parse(CONNECTIONS, &text, "a number from 2", |count| *count >= 2)
            }
        };
        Some(DatabaseConfig {
            url: postgres_url(URL, given, mistakes)?,
            root_certificate: self.database_root_certificate,
            connections: connections?,
        })
    }
}

/// How the database is told to `migrate`.
#[derive(Clone, Debug, clap::Args)]
pub struct MigrateArguments {
    /// Postgres, as the owner of the tables.
    #[arg(long, env = MIGRATE_URL, hide_env_values = true, value_name = "URL")]
    pub migrate_url: Option<String>,
    /// The password that the role `atelier_app` gets; left as it is if not set.
    #[arg(
        long,
        env = APP_PASSWORD,
        hide_env_values = true,
        value_name = "PASSWORD"
    )]
    pub app_password: Option<String>,
    /// A PEM file with the certificate that the database's must lead to.
    #[arg(long, env = "DATABASE_ROOT_CERTIFICATE", value_name = "FILE")]
    pub database_root_certificate: Option<PathBuf>,
}

/// What `migrate` works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrateConfig {
    /// The database, as its owner.
    pub database: DatabaseConfig,
    /// The password that the role `atelier_app` gets.
    pub app_password: Option<Secret>,
}

impl MigrateArguments {
    /// Checks the arguments.
    pub fn check(self, mistakes: &mut Mistakes) -> Option<MigrateConfig> {
        let given = mistakes.secret(self.migrate_url, &[MIGRATE_URL]);
        let url = postgres_url(MIGRATE_URL, given, mistakes);
        let app_password = mistakes.secret(self.app_password, &[APP_PASSWORD]);
        Some(MigrateConfig {
            database: DatabaseConfig {
                url: url?,
                root_certificate: self.database_root_certificate,
                connections: 1,
            },
            app_password,
        })
    }
}

fn postgres_url(
    variable: &'static str,
    given: Option<Secret>,
    mistakes: &mut Mistakes,
) -> Option<Secret> {
    let Some(url) = given else {
        mistakes.add(
            variable,
            "is required: postgres://user:password@host:5432/database",
        );
        return None;
    };
    let is_postgres =
        |text: &str| text.starts_with("postgres://") || text.starts_with("postgresql://");
    if !is_postgres(url.expose()) {
        mistakes.add(variable, "must begin with postgres://");
        return None;
    }
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_something_else_is_refused_without_showing_it() {
        let arguments = DatabaseArguments {
            database_url: Some("mysql://root:hunter2@host/db".to_owned()),
            database_root_certificate: None,
            database_connections: Some("1".to_owned()),
        };
        let mut mistakes = Mistakes::default();

        let config = arguments.check(&mut mistakes);

        let told = mistakes
            .check(config)
            .expect_err("two mistakes")
            .to_string();
        assert!(told.contains("DATABASE_URL: must begin with postgres://"));
        assert!(told.contains("ATELIER_DATABASE_CONNECTIONS: must be a number from 2, is `1`"));
        assert!(!told.contains("hunter2"));
    }
}
