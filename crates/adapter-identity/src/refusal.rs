use atelier_domain::ports::IdentityError;
use thiserror::Error;

use crate::keys::KeysUnavailable;

/// Why a token is refused, in words for its bearer. What the token holds is never repeated.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    #[error(
        "this is a Supabase API key, not a user's access token: sign in and send the \
         access_token of the session (an API key belongs in the header `apikey`)"
    )]
    ApiKey,
    #[error("the token is longer than any access token")]
    TooLong,
    #[error("the token is not a JSON Web Token of three parts")]
    Malformed,
    #[error("the token demands extensions (`crit`) that this server does not know")]
    Critical,
    #[error("the token is not signed with an algorithm that this server accepts: {accepted}")]
    Algorithm { accepted: String },
    #[error("the token does not say which key it is signed with (`kid`)")]
    NoKeyId,
    #[error(
        "the token is signed with a key that this server does not know: it is from another \
         project, or its key was revoked; sign in again"
    )]
    UnknownKey,
    #[error("the token's algorithm does not fit the key that it names")]
    KeyMismatch,
    #[error("the token's signature is not good")]
    Signature,
    #[error("the token's claims are not those of an access token")]
    Claims,
    #[error("the token has no time of expiry")]
    NoExpiry,
    #[error("the token has expired: sign in again, or refresh the session")]
    Expired,
    #[error("the token is not good yet: check the clocks")]
    NotYet,
    #[error("the token was issued by somebody else than this server trusts")]
    Issuer,
    #[error("the token is for another audience than `authenticated`")]
    Audience,
    #[error(
        "the token's role is not `authenticated`: project keys and service roles do not sign \
         anybody in"
    )]
    Role,
    #[error("the token's subject is not the UUID of a user")]
    Subject,
    #[error("anonymous users cannot use this server: sign in first")]
    Anonymous,
    #[error("this server asks for a second factor (aal2): sign in with it")]
    SecondFactor,
    #[error("the assertion is for another application behind Cloudflare Access")]
    OtherApplication,
    #[error(
        "the assertion is not one for an application (`type` is not `app`): a session of the \
         whole organisation signs nobody in here"
    )]
    NotForApplication,
    #[error(
        "the assertion names neither one person (an e-mail address and a subject) nor one \
         service token (a common name and no subject)"
    )]
    NeitherPersonNorService,
}

/// Why a token does not become an identity.
#[derive(Debug)]
pub(crate) enum Failure {
    Refused(Refusal),
    Unavailable(KeysUnavailable),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<KeysUnavailable> for Failure {
    fn from(unavailable: KeysUnavailable) -> Self {
        Self::Unavailable(unavailable)
    }
}

impl From<Failure> for IdentityError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => Self::Refused(refusal.to_string()),
            Failure::Unavailable(unavailable) => Self::Unavailable(Box::new(unavailable)),
        }
    }
}
