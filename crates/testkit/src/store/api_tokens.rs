use std::time::Duration;

use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::api_token::{ApiToken, ApiTokenGrant, NewApiToken};
use atelier_domain::digest::Sha256Digest;
use atelier_domain::ids::ApiTokenId;
use atelier_domain::page::{Page, PageRequest};
use atelier_domain::ports::{ApiTokens, Conflict, MAX_API_TOKENS, RepoError};

use super::FakeStore;
use super::paging::page_of;

/// The personal tokens of a [`FakeStore`].
#[derive(Clone, Debug)]
pub struct FakeApiTokens(pub(super) FakeStore);

/// A token as the store keeps it.
pub(super) struct ApiTokenRow {
    token: ApiToken,
    digest: Sha256Digest,
}

/// How exactly the last use is known.
const USE_IS_KNOWN_TO: Duration = Duration::from_mins(1);

#[async_trait]
impl ApiTokens for FakeApiTokens {
    async fn create(&self, actor: &Actor, new: NewApiToken) -> Result<Option<ApiToken>, RepoError> {
        let mut state = self.0.open()?;
        if state.api_tokens.contains_key(&new.id) {
            return Err(RepoError::Conflict(Conflict::Id));
        }
        let rows = || state.api_tokens.values();
        if rows().any(|row| row.digest == new.digest) {
            return Err(RepoError::Backend("two tokens are the same".into()));
        }
        let own = rows().filter(|row| row.token.user_id == actor.user_id());
        if own.count() >= usize::from(MAX_API_TOKENS) {
            return Ok(None);
        }
        let token = ApiToken {
            id: new.id,
            user_id: actor.user_id(),
            name: new.name,
            scopes: new.scopes,
            created_at: new.created_at,
            expires_at: new.expires_at,
            last_used_at: None,
        };
        let row = ApiTokenRow {
            token: token.clone(),
            digest: new.digest,
        };
        state.api_tokens.insert(token.id, row);
        Ok(Some(token))
    }

    async fn list(&self, actor: &Actor, page: PageRequest) -> Result<Page<ApiToken>, RepoError> {
        let state = self.0.open()?;
        let own = state
            .api_tokens
            .values()
            .filter(|row| row.token.user_id == actor.user_id())
            .map(|row| row.token.clone());
        Ok(page_of(own, page, ApiToken::cursor))
    }

    async fn revoke(&self, actor: &Actor, id: ApiTokenId) -> Result<bool, RepoError> {
        let mut state = self.0.open()?;
        let is_own = state
            .api_tokens
            .get(&id)
            .is_some_and(|row| row.token.user_id == actor.user_id());
        Ok(is_own && state.api_tokens.remove(&id).is_some())
    }

    async fn find(&self, digest: &Sha256Digest) -> Result<Option<ApiTokenGrant>, RepoError> {
        let now = self.0.now();
        let mut state = self.0.open()?;
        let mut rows = state.api_tokens.values_mut();
        let Some(row) = rows.find(|row| row.digest == *digest) else {
            return Ok(None);
        };
        let token = &mut row.token;
        let is_good = token.expires_at.is_none_or(|end| end > now);
        let is_news = token
            .last_used_at
            .is_none_or(|last| last + USE_IS_KNOWN_TO < now);
        if is_good && is_news {
            token.last_used_at = Some(now);
        }
        Ok(Some(ApiTokenGrant {
            id: token.id,
            user_id: token.user_id,
            scopes: token.scopes.clone(),
            expires_at: token.expires_at,
        }))
    }
}
