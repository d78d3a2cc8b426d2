use std::sync::Arc;
use std::time::Duration;

use atelier_domain::address::Network;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Method, RequestBuilder};
use thiserror::Error;
use url::{Host, Url};

use crate::resolver::{GuardedResolver, Resolver, SystemResolver};

/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);

/// Where a [`GuardedClient`] may go.
#[derive(Clone, Debug)]
pub struct GuardOptions {
    /// Networks that may be gone to though they are not on the public Internet.
    /// None by default.
    pub open_networks: Vec<Network>,
    /// Whether `http://` will do. Not by default.
    pub plain_http: bool,
    /// Certificates, as PEM, that are trusted besides those of the system.
    pub root_certificates: Option<String>,
    /// How long a connection may take. Default 5 seconds.
    pub connect_timeout: Duration,
    /// Who knows the addresses of hosts. Default the machine's own resolver.
    pub resolver: Arc<dyn Resolver>,
}

impl Default for GuardOptions {
    fn default() -> Self {
        Self {
            open_networks: Vec::new(),
            plain_http: false,
            root_certificates: None,
            connect_timeout: Duration::from_secs(5),
            resolver: Arc::new(SystemResolver),
        }
    }
}

/// What is wrong with [`GuardOptions`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GuardError {
    /// The certificates cannot be read.
    #[error("the root certificates for the web are not PEM")]
    Certificates(#[source] reqwest::Error),
    /// The HTTP client cannot be made.
    #[error("the HTTP client for the web cannot be set up")]
    Client(#[source] reqwest::Error),
}

/// Why an address is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UrlRefusal {
    /// It is not `https://`.
    #[error("it must begin with https://")]
    Scheme,
    /// It carries a user name or a password.
    #[error("it must not carry a user name or a password")]
    Credentials,
    /// Its host is a number.
    #[error("it must name its host, not give the host's IP address")]
    Number,
}

/// An HTTP client for addresses that people give. It connects to public
/// addresses alone, each looked at when the connection is made; it follows no
/// redirect, takes no proxy from the environment, keeps no cookies and
/// unpacks nothing. Whoever follows a redirect does it with another
/// [`request`](Self::request), so that each hop is judged anew.
#[derive(Clone, Debug)]
pub struct GuardedClient {
    client: Client,
    plain_http: bool,
}

impl GuardedClient {
    /// Sets up a client.
    pub fn new(options: &GuardOptions) -> Result<Self, GuardError> {
        let resolver = GuardedResolver::new(Arc::clone(&options.resolver), &options.open_networks);
        let pem = options.root_certificates.as_deref().unwrap_or_default();
        let certificates =
            Certificate::from_pem_bundle(pem.as_bytes()).map_err(GuardError::Certificates)?;
        let client = Client::builder()
            .dns_resolver(resolver)
            .https_only(!options.plain_http)
            .tls_certs_merge(certificates)
            .redirect(Policy::none())
            .referer(false)
            .no_proxy()
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .user_agent(concat!("atelier/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.connect_timeout)
            .pool_idle_timeout(IDLE)
            .build()
            .map_err(GuardError::Client)?;
        Ok(Self {
            client,
            plain_http: options.plain_http,
        })
    }

    /// Judges an address by what it says. What its host's addresses are is
    /// judged when it is asked.
    pub fn judge(&self, url: &Url) -> Result<(), UrlRefusal> {
        match url.scheme() {
            "https" => {}
            "http" if self.plain_http => {}
            _ => return Err(UrlRefusal::Scheme),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlRefusal::Credentials);
        }
        match url.host() {
            Some(Host::Domain(_)) => Ok(()),
            _ => Err(UrlRefusal::Number),
        }
    }

    /// Begins a request. If sending it fails because the host has no public
    /// address, [`leads_nowhere_public`](crate::leads_nowhere_public) says so.
    pub fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, UrlRefusal> {
        self.judge(&url)?;
        Ok(self.client.request(method, url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(plain_http: bool, url: &str) -> Result<(), UrlRefusal> {
        let options = GuardOptions {
            plain_http,
            ..GuardOptions::default()
        };
        GuardedClient::new(&options)
            .unwrap()
            .judge(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_host_is_named_over_https_and_without_credentials() {
        for (url, verdict) in [
            ("https://models.example/a", Ok(())),
            ("https://models.example:8443/a", Ok(())),
            ("http://models.example/a", Err(UrlRefusal::Scheme)),
            ("ftp://models.example/a", Err(UrlRefusal::Scheme)),
            ("file:///etc/passwd", Err(UrlRefusal::Scheme)),
            ("data:text/plain,a", Err(UrlRefusal::Scheme)),
            ("https://a@models.example/", Err(UrlRefusal::Credentials)),
            ("https://:b@models.example/", Err(UrlRefusal::Credentials)),
            ("https://127.0.0.1/", Err(UrlRefusal::Number)),
            ("https://2130706433/", Err(UrlRefusal::Number)),
            ("https://0x7f.1/", Err(UrlRefusal::Number)),
            ("https://0177.0.0.1/", Err(UrlRefusal::Number)),
            ("https://[::1]/", Err(UrlRefusal::Number)),
            ("https://[::ffff:127.0.0.1]/", Err(UrlRefusal::Number)),
            ("https://93.184.215.14/", Err(UrlRefusal::Number)),
            ("https://①②⑦.0.0.1/", Err(UrlRefusal::Number)),
        ] {
            assert_eq!(judged(false, url), verdict, "{url}");
        }
    }

    #[test]
    fn plain_http_has_to_be_switched_on() {
        assert_eq!(judged(true, "http://models.example/a"), Ok(()));
        assert_eq!(judged(true, "http://127.0.0.1/"), Err(UrlRefusal::Number));
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let options = GuardOptions {
            root_certificates: Some(
                "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_owned(),
            ),
            ..GuardOptions::default()
        };

        assert!(GuardedClient::new(&options).is_err());
    }
}
