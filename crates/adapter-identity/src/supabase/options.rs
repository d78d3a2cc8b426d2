use std::fmt;

use thiserror::Error;

use crate::algorithm::SignatureAlgorithm;
use crate::keys::{RemoteKeysOptions, RemoteKeysOptionsError};

/// The shortest secret that Supabase itself accepts, in bytes.
const MIN_SECRET_BYTES: usize = 16;

/// Which tokens of Supabase Auth are good. `Debug` leaves the secret out.
#[derive(Clone)]
pub struct SupabaseOptions {
    /// Who must have issued a token, to the letter, such as
    /// `https://{project}.supabase.co/auth/v1`; `None` takes any issuer, which goes with a secret
    /// alone.
    pub issuer: Option<String>,
    /// Where the project publishes its keys, usually `{issuer}/.well-known/jwks.json`. Without it,
    /// ES256 and RS256 are refused.
    pub jwks: Option<RemoteKeysOptions>,
    /// The project's JWT secret. Its UTF-8 bytes are the key. Without it, HS256 is refused.
    pub secret: Option<String>,
    /// The algorithms that are accepted, as far as there are keys for them. Default: all three.
    pub algorithms: Vec<SignatureAlgorithm>,
    /// Whether users may come in who signed in as nobody in particular. Default: no.
    pub allow_anonymous: bool,
    /// Whether a second factor is asked for (`aal2`). Default: no.
    pub require_aal2: bool,
}

/// Has no keys yet: either `jwks` or `secret` is to be filled in.
impl Default for SupabaseOptions {
    fn default() -> Self {
        Self {
            issuer: None,
            jwks: None,
            secret: None,
            algorithms: SignatureAlgorithm::ALL.to_vec(),
            allow_anonymous: false,
            require_aal2: false,
        }
    }
}

impl fmt::Debug for SupabaseOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SupabaseOptions")
            .field("issuer", &self.issuer)
            .field("jwks", &self.jwks)
            .field("secret", &self.secret.as_ref().map(|_secret| "[hidden]"))
            .field("algorithms", &self.algorithms)
            .field("allow_anonymous", &self.allow_anonymous)
            .field("require_aal2", &self.require_aal2)
            .finish()
    }
}

/// What is wrong with [`SupabaseOptions`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SupabaseOptionsError {
    /// A secret that can be guessed.
    #[error("the JWT secret has {bytes} bytes, it needs at least {MIN_SECRET_BYTES}")]
    ShortSecret {
        /// How many bytes it has.
        bytes: usize,
    },
    /// A key that anybody may know in the place of the secret.
    #[error(
        "the JWT secret is a key in PEM or JSON form: HS256 needs the shared secret of the \
         project, public keys are fetched from its JWKS"
    )]
    KeyAsSecret,
    /// Nothing that a token could be verified with.
    #[error(
        "there is no key for any accepted algorithm: ES256 and RS256 need the address of the \
         JWKS, HS256 needs the JWT secret"
    )]
    NoKeys,
    /// Keys from somewhere, and no word on whom to trust.
    #[error(
        "tokens of published keys need the issuer, such as https://{{project}}.supabase.co/auth/v1"
    )]
    NoIssuer,
    /// The JWKS cannot be fetched this way.
    #[error("the JWKS cannot be fetched this way")]
    Keys(#[source] RemoteKeysOptionsError),
}

impl SupabaseOptions {
    pub(super) fn check(&self) -> Result<(), SupabaseOptionsError> {
        if let Some(secret) = &self.secret {
            let bytes = secret.len();
            if bytes < MIN_SECRET_BYTES {
                return Err(SupabaseOptionsError::ShortSecret { bytes });
            }
            // Whoever knows a public key could sign with it, were it the secret.
            if secret.trim_start().starts_with(['{', '[']) || secret.contains("-----BEGIN ") {
                return Err(SupabaseOptionsError::KeyAsSecret);
            }
        }
        if self.accepted().is_empty() {
            return Err(SupabaseOptionsError::NoKeys);
        }
        if self.jwks.is_some() && self.issuer.is_none() {
            return Err(SupabaseOptionsError::NoIssuer);
        }
        Ok(())
    }

    /// The algorithms that are wanted and have keys.
    pub(super) fn accepted(&self) -> Vec<SignatureAlgorithm> {
        let has_keys = |algorithm: &SignatureAlgorithm| match algorithm {
            SignatureAlgorithm::Es256 | SignatureAlgorithm::Rs256 => self.jwks.is_some(),
            SignatureAlgorithm::Hs256 => self.secret.is_some(),
        };
        SignatureAlgorithm::ALL
            .into_iter()
            .filter(|algorithm| self.algorithms.contains(algorithm) && has_keys(algorithm))
            .collect()
    }
}
