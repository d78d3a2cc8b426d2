use std::sync::Arc;
use std::time::Duration;

use atelier_domain::address::Network;
use thiserror::Error;

use crate::guard::{GuardError, GuardOptions};
use crate::host_rule::{HostRule, InvalidHostRule};
use crate::resolver::{Resolver, SystemResolver};

/// Where people download LoRAs: Hugging Face, and Civitai under both its names.
const HOSTS: [&str; 3] = ["huggingface.co", "civitai.com", "civitai.red"];

/// Where these send a download on to. Hugging Face publishes its storage
/// hosts, all below `hf.co`, and the older ones below its own name; Civitai
/// stores behind names of its own and in its account of a cloud's storage.
const DOWNLOAD_HOSTS: [&str; 7] = [
    "*.hf.co",
    "cdn-lfs.huggingface.co",
    "cdn-lfs-us-1.huggingface.co",
    "cdn-lfs-eu-1.huggingface.co",
    "*.civitai.com",
    "*.civitai.red",
    "*.5ac0637cfd0766c97916cefa3764fbdf.r2.cloudflarestorage.com",
];

/// From where LoRAs are imported, and how patient to be.
#[derive(Clone, Debug)]
pub struct WebOptions {
    /// Whose addresses people may give, and who may be redirected to. By
    /// default those of [`default_hosts`](Self::default_hosts).
    pub allowed_hosts: Vec<HostRule>,
    /// Who may be redirected to besides, and not be named by people. By
    /// default the storage hosts that belong to the default hosts.
    pub download_hosts: Vec<HostRule>,
    /// Networks that may be gone to though they are not on the public
    /// Internet, for closed networks. None by default.
    pub open_networks: Vec<Network>,
    /// Whether `http://` addresses will do, for closed networks. Not by
    /// default.
    pub plain_http: bool,
    /// Certificates, as PEM, that are trusted besides those of the system.
    pub root_certificates: Option<String>,
    /// How many redirects are followed. Default 5; Hugging Face uses 2.
    pub max_redirects: usize,
    /// How long a connection may take. Default 5 seconds.
    pub connect_timeout: Duration,
    /// How long an answer may take to begin, redirects included. Default 20
    /// seconds.
    pub answer_timeout: Duration,
    /// The longest silence in the middle of a download. Default 30 seconds.
    pub stall_timeout: Duration,
    /// Who knows the addresses of hosts. Default the machine's own resolver.
    pub resolver: Arc<dyn Resolver>,
}

/// What is wrong with [`WebOptions`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WebOptionsError {
    /// The guarded client refuses them.
    #[error(transparent)]
    Guard(#[from] GuardError),
}

impl WebOptions {
    /// Whose addresses people may give if nothing else is configured:
    /// `huggingface.co`, `civitai.com` and `civitai.red`.
    pub fn default_hosts() -> Vec<HostRule> {
        rules(&HOSTS)
    }

    /// The storage hosts that the default hosts redirect a download to.
    pub fn default_download_hosts() -> Vec<HostRule> {
        rules(&DOWNLOAD_HOSTS)
    }

    pub(crate) fn guard(&self) -> GuardOptions {
        GuardOptions {
            open_networks: self.open_networks.clone(),
            plain_http: self.plain_http,
            root_certificates: self.root_certificates.clone(),
            connect_timeout: self.connect_timeout,
            resolver: Arc::clone(&self.resolver),
        }
    }
}

impl Default for WebOptions {
    fn default() -> Self {
        Self {
            allowed_hosts: Self::default_hosts(),
            download_hosts: Self::default_download_hosts(),
            open_networks: Vec::new(),
            plain_http: false,
            root_certificates: None,
            max_redirects: 5,
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_secs(30),
            resolver: Arc::new(SystemResolver),
        }
    }
}

#[expect(
    clippy::expect_used,
    reason = "the texts stand above, and a test reads them"
)]
fn rules(texts: &[&str]) -> Vec<HostRule> {
    let parsed: Result<_, InvalidHostRule> =
        texts.iter().map(|text| HostRule::parse(text)).collect();
    parsed.expect("the defaults are rules")
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn any_covers(rules: &[HostRule], host: &str) -> bool {
        let url = Url::parse(&format!("https://{host}/")).unwrap();
        rules.iter().any(|rule| rule.covers(&url))
    }

    #[test]
    fn the_default_hosts_are_those_that_people_know() {
        let hosts = WebOptions::default().allowed_hosts;

        for host in HOSTS {
            assert!(any_covers(&hosts, host), "{host}");
        }
        for host in [
            "hf.co",
            "cas-bridge.xethub.hf.co",
            "b2.civitai.com",
            "civitai.co",
        ] {
            assert!(!any_covers(&hosts, host), "{host}");
        }
    }

    #[test]
    fn downloads_are_followed_to_the_storage_of_the_default_hosts_alone() {
        let hosts = WebOptions::default().download_hosts;

        for host in [
            "cdn-lfs.hf.co",
            "cdn-lfs-us-1.hf.co",
            "cas-bridge.xethub.hf.co",
            "us.aws.cdn.hf.co",
            "cdn-lfs-us-1.huggingface.co",
            "b2.civitai.com",
            "civitai-delivery-worker-prod.5ac0637cfd0766c97916cefa3764fbdf.r2.cloudflarestorage.com",
        ] {
            assert!(any_covers(&hosts, host), "{host}");
        }
        for host in [
            "hf.co",
            "evilhf.co",
            "somebody.hf.space",
            "bucket.0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com",
            "r2.cloudflarestorage.com",
            "storage.googleapis.com",
        ] {
            assert!(!any_covers(&hosts, host), "{host}");
        }
    }
}
