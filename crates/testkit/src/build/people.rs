use std::collections::BTreeSet;

use atelier_domain::api_token::{NewApiToken, Scope};
use atelier_domain::identity::ExternalIdentity;
use atelier_domain::ids::ApiTokenId;

use super::{name, next_time, sha256_of};
use crate::random_id;

/// A token of every scope that never expires; its digest is that of
/// `atl_{secret}`.
pub fn a_new_api_token(secret: &str) -> NewApiToken {
    NewApiToken {
        id: ApiTokenId::new(random_id()),
        name: name("A script"),
        digest: sha256_of(format!("atl_{secret}").as_bytes()),
        scopes: BTreeSet::from(Scope::ALL),
        created_at: next_time(),
        expires_at: None,
    }
}

/// Somebody whom a provider vouches for, never seen before, at an e-mail
/// address of nobody else's.
pub fn an_identity() -> ExternalIdentity {
    ExternalIdentity {
        issuer: "https://team.cloudflareaccess.example".to_owned(),
        subject: random_id().to_string(),
        email: format!("{}@example.com", random_id().simple()),
    }
}
