use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use atelier_domain::identity::{ExternalIdentity, Identity, ServiceIdentity};
use atelier_domain::ports::{Clock, IdentityError, TokenVerifier};
use tokio::runtime::Handle;

use super::claims::{Bearer, Claims};
use super::options::{CloudflareOptions, CloudflareOptionsError};
use crate::algorithm::SignatureAlgorithm;
use crate::jws::Jws;
use crate::keys::{RemoteKeys, RemoteKeysOptions};
use crate::refusal::{Failure, Refusal};

/// Cloudflare signs with nothing else.
const ACCEPTED: [SignatureAlgorithm; 1] = [SignatureAlgorithm::Rs256];

/// Verifies the assertions that Cloudflare Access sends along
/// (`Cf-Access-Jwt-Assertion`), by the rules of `reference/platform/PROTOCOLS.md` section 3.
///
/// A person becomes [`Identity::External`], to be linked to a user by (issuer, subject); a service
/// token becomes [`Identity::Service`], to be mapped by configuration.
pub struct CloudflareAccess {
    issuer: String,
    audiences: Vec<String>,
    keys: RemoteKeys,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for CloudflareAccess {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CloudflareAccess")
            .field("issuer", &self.issuer)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl CloudflareAccess {
    /// Takes the options; nothing is fetched yet. `clock` judges what is expired, of assertions
    /// and of keys; keys are fetched on the runtime `io`, whichever runtime asks.
    ///
    /// # Errors
    /// What is wrong with the options.
    pub fn new(
        options: CloudflareOptions,
        clock: Arc<dyn Clock>,
        io: Handle,
    ) -> Result<Self, CloudflareOptionsError> {
        let issuer = options.issuer()?;
        let audiences = options.audiences()?;
        let certs = options
            .certs
            .unwrap_or_else(|| RemoteKeysOptions::at(format!("{issuer}/cdn-cgi/access/certs")));
        let keys = RemoteKeys::new(&certs, Arc::clone(&clock), io)
            .map_err(CloudflareOptionsError::Keys)?;
        Ok(Self {
            issuer,
            audiences,
            keys,
            clock,
        })
    }

    /// Who issues the assertions that are good here: `https://{team}.cloudflareaccess.com`.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// How many usable keys the team publishes: what a self-check asks, and what fetches them
    /// before the first assertion comes.
    ///
    /// # Errors
    /// [`IdentityError::Unavailable`] if the keys cannot be fetched; it says why.
    pub async fn check_keys(&self) -> Result<usize, IdentityError> {
        Ok(self.keys.count().await.map_err(Failure::from)?)
    }

    async fn identity_of(&self, token: &str) -> Result<Identity, Failure> {
        let jws = Jws::parse(token, &ACCEPTED)?;
        let key = self.keys.key_of(&jws).await?;
        jws.verify(&key)?;
        Ok(self.judge(jws.claims()?)?)
    }

    fn judge(&self, claims: Claims) -> Result<Identity, Refusal> {
        if claims.iss.as_ref() != Some(&self.issuer) {
            return Err(Refusal::Issuer);
        }
        let is_for_us = claims
            .aud
            .as_ref()
            .is_some_and(|aud| self.audiences.iter().any(|audience| aud.contains(audience)));
        if !is_for_us {
            return Err(Refusal::OtherApplication);
        }
        claims.times().judge(self.clock.now())?;
        if claims.kind.as_deref() != Some("app") {
            return Err(Refusal::NotForApplication);
        }
        let issuer = self.issuer.clone();
        Ok(match claims.bearer()? {
            Bearer::Person { subject, email } => Identity::External(ExternalIdentity {
                issuer,
                subject,
                email,
            }),
            Bearer::Service { client_id } => {
                Identity::Service(ServiceIdentity { issuer, client_id })
            }
        })
    }
}

#[async_trait]
impl TokenVerifier for CloudflareAccess {
    async fn verify(&self, token: &str) -> Result<Identity, IdentityError> {
        self.identity_of(token).await.map_err(IdentityError::from)
    }
}
