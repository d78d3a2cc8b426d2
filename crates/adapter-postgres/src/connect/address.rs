//! Reads a database's address.

use std::path::PathBuf;

use tokio_postgres::Config;

use crate::options::PgOpenError;

/// How much TLS is asked for, in the words of libpq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SslMode {
    /// None.
    Disable,
    /// If the server has it; nothing is verified.
    Prefer,
    /// Encrypts, and verifies only where root certificates are named, as libpq does.
    Require,
    /// The certificate must be signed by a root.
    VerifyCa,
    /// And it must be the host's.
    VerifyFull,
}

impl SslMode {
    const WORDS: [(&'static str, Self); 5] = [
        ("disable", Self::Disable),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];

    fn parse(word: &str) -> Option<Self> {
        Self::WORDS
            .iter()
            .find(|(known, _)| *known == word)
            .map(|(_, mode)| *mode)
    }
}

/// Which roots to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RootCertificate {
    /// Those of a PEM file.
    File(PathBuf),
    /// Those of the operating system.
    System,
}

/// An address, taken apart.
pub(super) struct Address {
    pub(super) config: Config,
    pub(super) mode: SslMode,
    pub(super) root_certificate: Option<RootCertificate>,
}

impl Address {
    /// Reads `postgres://...`. What tokio-postgres does not know, `verify-*` and `sslrootcert`, is taken out first.
    pub(super) fn parse(url: &str) -> Result<Self, PgOpenError> {
        let refuse = |reason: &str| PgOpenError::Address(reason.to_owned());
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(refuse("it must begin with postgres://"));
        }
        // The name and the password end at the first "@", and may hold a "?".
        let (front, rest) = url.split_at(url.find('@').unwrap_or(0));
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));

        let mut mode = SslMode::Prefer;
        let mut root_certificate = None;
        let mut kept = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = url::form_urlencoded::parse(pair.as_bytes())
                .next()
                .unwrap_or_default();
            match &*key {
                "sslmode" => {
                    mode = SslMode::parse(&value).ok_or_else(|| {
                        refuse("sslmode must be disable, prefer, require, verify-ca or verify-full")
                    })?;
                }
                "sslrootcert" if value == "system" => {
                    root_certificate = Some(RootCertificate::System);
                }
                "sslrootcert" => {
                    root_certificate =
                        Some(RootCertificate::File(PathBuf::from(value.into_owned())));
                }
                _ => kept.push(pair),
            }
        }
        let plain = if kept.is_empty() {
            format!("{front}{place}")
        } else {
            format!("{front}{place}?{}", kept.join("&"))
        };
        let config: Config = plain.parse().map_err(|error: tokio_postgres::Error| {
            // The cause names the option at fault, never a value.
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            PgOpenError::Address(cause.unwrap_or_else(|| error.to_string()))
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(refuse("it names no host"));
        }
        Ok(Self {
            config,
            mode,
            root_certificate,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_postgres::config::Host;

    fn refusal(url: &str) -> String {
        Address::parse(url).err().expect("a refusal").to_string()
    }

    #[test]
    fn tls_options_are_taken_out_and_others_kept() {
        let address = Address::parse(
            "postgres://app:p%40ss?word@db.example:6000/atelier?sslmode=verify-full&application_name=x\
             &sslrootcert=%2Fetc%2Fca.pem",
        )
        .unwrap();

        assert_eq!(address.mode, SslMode::VerifyFull);
        assert_eq!(
            address.root_certificate,
            Some(RootCertificate::File("/etc/ca.pem".into()))
        );
        assert_eq!(address.config.get_application_name(), Some("x"));
        assert_eq!(address.config.get_password(), Some(b"p@ss?word".as_slice()));
        assert_eq!(address.config.get_ports(), [6000]);
    }

    #[test]
    fn a_socket_folder_is_a_host() {
        let address = Address::parse("postgres://u@%2Ftmp%2Fx/db").unwrap();

        assert_eq!(address.config.get_hosts(), [Host::Unix("/tmp/x".into())]);
        assert_eq!(address.mode, SslMode::Prefer);
    }

    #[test]
    fn refusals_say_what_is_wrong_without_the_password() {
        for (url, part) in [
            ("mysql://u:hunter2@h/d", "postgres://"),
            ("postgres://u:hunter2@h/d?sslmode=sometimes", "sslmode"),
            ("postgres://u:hunter2@h/d?pgbouncer=true", "pgbouncer"),
            ("postgres://u:hunter2@h:port/d", "port"),
            ("postgres:///d", "host"),
        ] {
            let text = refusal(url);
            assert!(text.contains(part), "{url}: {text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
