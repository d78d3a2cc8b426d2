//! What every [`ApiTokens`] must do.

use std::collections::BTreeSet;
use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::api_token::{ApiToken, ApiTokenGrant, NewApiToken, Scope};
use atelier_domain::ids::ApiTokenId;
use atelier_domain::ports::{ApiTokens, Conflict, MAX_API_TOKENS, RepoError};
use tokio::task::JoinSet;

use super::{KeepAlive, LIMITS, all_pages};
use crate::build::{EPOCH, a_new_api_token, an_actor};
use crate::random_id;

/// A store under test.
pub struct Harness {
    /// The tokens under test.
    pub tokens: Arc<dyn ApiTokens>,
    /// What must live as long as the harness.
    pub keep_alive: KeepAlive,
}

super::opaque_debug!(Harness);

/// One that nobody else has.
fn a_token() -> NewApiToken {
    a_new_api_token(&random_id().to_string())
}

impl Harness {
    async fn created(&self, owner: &Actor, new: NewApiToken) -> ApiToken {
        let created = self.tokens.create(owner, new).await.unwrap();
        created.expect("there is room for another token")
    }

    async fn listed(&self, actor: &Actor, limit: u16) -> Vec<ApiToken> {
        all_pages(limit, async |page| {
            self.tokens.list(actor, page).await.unwrap()
        })
        .await
    }

    async fn found(&self, new: &NewApiToken) -> Option<ApiTokenGrant> {
        self.tokens.find(&new.digest).await.unwrap()
    }
}

/// Whose it is and what it may do; any other digest is nobody's.
pub async fn a_token_is_found_by_its_digest(h: &Harness) {
    let alice = an_actor();
    let new = NewApiToken {
        scopes: BTreeSet::from([Scope::RunsRead, Scope::LorasWrite]),
        expires_at: Some(EPOCH + chrono::TimeDelta::days(36_500)),
        ..a_token()
    };
    h.created(&alice, new.clone()).await;

    let grant = h.found(&new).await;

    let expected = ApiTokenGrant {
        id: new.id,
        user_id: alice.user_id(),
        scopes: new.scopes,
        expires_at: new.expires_at,
    };
    assert_eq!(grant, Some(expected));
    assert_eq!(h.found(&a_token()).await, None);
}

/// With every field, newest first, page by page, to their owner alone.
pub async fn tokens_are_listed_newest_first_to_their_owner(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let mut expected = Vec::new();
    for _ in 0..9 {
        let new = a_token();
        let created = h.created(&alice, new.clone()).await;
        let token = ApiToken {
            id: new.id,
            user_id: alice.user_id(),
            name: new.name,
            scopes: new.scopes,
            created_at: new.created_at,
            expires_at: None,
            last_used_at: None,
        };
        assert_eq!(created, token);
        expected.insert(0, token);
    }

    for limit in LIMITS {
        assert_eq!(h.listed(&alice, limit).await, expected, "{limit} a page");
    }
    assert_eq!(h.listed(&bob, 50).await, []);
}

/// From then on it is nobody's.
pub async fn a_revoked_token_is_no_good(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let new = a_token();
    h.created(&alice, new.clone()).await;
    let revoke = async |actor| h.tokens.revoke(actor, new.id).await.unwrap();

    assert!(!revoke(&bob).await, "bob revoked alice's token");
    assert!(h.found(&new).await.is_some());
    assert!(revoke(&alice).await);

    assert_eq!(h.found(&new).await, None);
    assert_eq!(h.listed(&alice, 50).await, []);
    assert!(!revoke(&alice).await, "it was revoked twice");
    let absent = ApiTokenId::new(random_id());
    assert!(!h.tokens.revoke(&alice, absent).await.unwrap());
}

/// Once; another use in the same minute is no news.
pub async fn the_last_use_of_a_token_is_noted(h: &Harness) {
    let alice = an_actor();
    let new = a_token();
    h.created(&alice, new.clone()).await;
    assert!(h.found(&new).await.is_some());

    let first = h.listed(&alice, 50).await;
    assert!(h.found(&new).await.is_some());
    let second = h.listed(&alice, 50).await;

    assert!(
        first
            .iter()
            .all(|token| token.last_used_at > Some(new.created_at))
    );
    assert_eq!(second, first);
}

/// Whoever asks may say that it is expired, but it was not used.
pub async fn an_expired_token_is_told_and_not_used(h: &Harness) {
    let alice = an_actor();
    let new = NewApiToken {
        expires_at: Some(EPOCH),
        ..a_token()
    };
    h.created(&alice, new.clone()).await;

    let grant = h.found(&new).await.expect("it is there still");

    assert_eq!(grant.expires_at, Some(EPOCH));
    let listed = h.listed(&alice, 50).await;
    assert!(listed.iter().all(|token| token.last_used_at.is_none()));
}

/// An id stands for one token.
pub async fn a_token_id_is_taken_once(h: &Harness) {
    let alice = an_actor();
    let first = h.created(&alice, a_token()).await;
    let second = NewApiToken {
        id: first.id,
        ..a_token()
    };

    let outcome = h.tokens.create(&alice, second).await;

    assert!(
        matches!(outcome, Err(RepoError::Conflict(Conflict::Id))),
        "{outcome:?}"
    );
}

/// However many are made at once, and whatever others have.
pub async fn nobody_has_more_tokens_than_allowed(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    for _ in 1..MAX_API_TOKENS {
        h.created(&alice, a_token()).await;
    }
    let mut makers = JoinSet::new();
    for _ in 0..4 {
        let (tokens, alice) = (Arc::clone(&h.tokens), alice.clone());
        makers.spawn(async move { tokens.create(&alice, a_token()).await.unwrap() });
    }

    let made: Vec<ApiToken> = makers.join_all().await.into_iter().flatten().collect();

    assert_eq!(made.len(), 1, "one place was left");
    h.created(&bob, a_token()).await;
    let [last] = made.as_slice() else {
        unreachable!("counted above");
    };
    assert!(h.tokens.revoke(&alice, last.id).await.unwrap());
    h.created(&alice, a_token()).await;
}

/// Tests an `ApiTokens`; see [`conformance`](crate::conformance).
#[macro_export]
macro_rules! api_tokens_conformance {
    ($harness:expr) => {
        $crate::__cases! { api_tokens in api_tokens_conformance, $harness;
            a_token_is_found_by_its_digest,
            tokens_are_listed_newest_first_to_their_owner,
            a_revoked_token_is_no_good,
            the_last_use_of_a_token_is_noted,
            an_expired_token_is_told_and_not_used,
            a_token_id_is_taken_once,
            nobody_has_more_tokens_than_allowed,
        }
    };
}
