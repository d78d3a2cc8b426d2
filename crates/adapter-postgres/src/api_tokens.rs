//! Personal tokens.

use std::collections::BTreeSet;

use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::api_token::{ApiToken, ApiTokenGrant, NewApiToken, Scope};
use atelier_domain::digest::Sha256Digest;
use atelier_domain::ids::ApiTokenId;
use atelier_domain::page::{Page, PageRequest};
use atelier_domain::ports::{ApiTokens, MAX_API_TOKENS, RepoError};
use atelier_domain::text::Name;
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::prelude::OptionalExtension;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use futures_util::FutureExt;
use uuid::Uuid;

use crate::error::inconsistent;
use crate::page::{before, rows_to_fetch};
use crate::statement::Statement;
use crate::store::PgStore;
use crate::transaction::Role;

const TABLE: &str = "comfyui_api_tokens";

/// Implements [`ApiTokens`].
#[derive(Clone, Debug)]
pub struct PgApiTokens {
    store: PgStore,
}

macro_rules! token_columns {
    () => {
        "token.id, token.user_id, token.name, token.scopes, token.created_at, token.expires_at, token.last_used_at"
    };
}

/// One person makes one token at a time, so that none is counted too late.
const LOCK_OWN: &str = "\
    select pg_advisory_xact_lock(hashtextextended(jsonb_build_array('atelier.api_tokens', $1)::text, 0))";

const COUNT_OWN: &str =
    "select count(*) as tokens from public.comfyui_api_tokens as token where token.user_id = $1";

const CREATE: &str = concat!(
    "insert into public.comfyui_api_tokens as token \
       (id, user_id, name, token_sha256, scopes, created_at, expires_at) \
     values ($1, $2, $3, $4, $5, $6, $7) returning ",
    token_columns!()
);

const LIST: &str = concat!(
    "select ",
    token_columns!(),
    " from public.comfyui_api_tokens as token \
     where token.user_id = $1 and (token.created_at, token.id) < ($2, $3) \
     order by token.created_at desc, token.id desc limit $4"
);

const REVOKE: &str = "delete from public.comfyui_api_tokens where id = $1";

const USE: &str = "select * from atelier.use_api_token($1)";

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = BigInt)]
    tokens: i64,
}

#[derive(QueryableByName)]
struct TokenRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Array<Text>)]
    scopes: Vec<String>,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    expires_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    last_used_at: Option<DateTime<Utc>>,
}

impl TryFrom<TokenRow> for ApiToken {
    type Error = RepoError;

    fn try_from(row: TokenRow) -> Result<Self, RepoError> {
        Ok(Self {
            id: row.id.into(),
            user_id: row.user_id.into(),
            name: Name::parse(row.name).map_err(|_broken| inconsistent(TABLE, "name", row.id))?,
            scopes: scopes_of(&row.scopes, row.id)?,
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
        })
    }
}

#[derive(QueryableByName)]
struct GrantRow {
    #[diesel(sql_type = SqlUuid)]
    token_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    person: Uuid,
    #[diesel(sql_type = Array<Text>)]
    granted: Vec<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    expires: Option<DateTime<Utc>>,
}

impl TryFrom<GrantRow> for ApiTokenGrant {
    type Error = RepoError;

    fn try_from(row: GrantRow) -> Result<Self, RepoError> {
        Ok(Self {
            id: row.token_id.into(),
            user_id: row.person.into(),
            scopes: scopes_of(&row.granted, row.token_id)?,
            expires_at: row.expires,
        })
    }
}

fn scopes_of(words: &[String], token: Uuid) -> Result<BTreeSet<Scope>, RepoError> {
    words
        .iter()
        .map(|word| {
            word.parse()
                .map_err(|_unknown| inconsistent(TABLE, "scopes", token))
        })
        .collect()
}

impl PgApiTokens {
    pub(crate) fn new(store: PgStore) -> Self {
        Self { store }
    }
}

#[async_trait]
impl ApiTokens for PgApiTokens {
    async fn create(&self, actor: &Actor, new: NewApiToken) -> Result<Option<ApiToken>, RepoError> {
        let owner = actor.user_id().as_uuid();
        let about = |sql| Statement::new(sql).bind::<SqlUuid, _>(owner);
        let (lock, count) = (about(LOCK_OWN), about(COUNT_OWN));
        let scopes: Vec<&'static str> = new.scopes.iter().map(|scope| scope.as_str()).collect();
        let create = Statement::new(CREATE)
            .bind::<SqlUuid, _>(new.id.as_uuid())
            .bind::<SqlUuid, _>(owner)
            .bind::<Text, _>(new.name.as_str().to_owned())
            .bind::<Text, _>(new.digest.to_string())
            .bind::<Array<Text>, _>(scopes)
            .bind::<Timestamptz, _>(new.created_at)
            .bind::<Nullable<Timestamptz>, _>(new.expires_at);
        let row: Option<TokenRow> = self
            .store
            .transact(Role::Writer(actor), |mut connection| {
                async move {
                    lock.execute(&mut connection).await?;
                    let CountRow { tokens } = count.get_result(&mut connection).await?;
                    if tokens >= i64::from(MAX_API_TOKENS) {
                        return Ok(None);
                    }
                    create.get_result(&mut connection).await.map(Some)
                }
                .boxed()
            })
            .await?;
        row.map(ApiToken::try_from).transpose()
    }

    async fn list(&self, actor: &Actor, page: PageRequest) -> Result<Page<ApiToken>, RepoError> {
        let (created_at, id) = before(&page);
        let statement = Statement::new(LIST)
            .bind::<SqlUuid, _>(actor.user_id().as_uuid())
            .bind::<Timestamptz, _>(created_at)
            .bind::<SqlUuid, _>(id)
            .bind::<BigInt, _>(rows_to_fetch(&page));
        let rows: Vec<TokenRow> = self
            .store
            .transact(Role::Person(actor), |mut connection| {
                async move { statement.load(&mut connection).await }.boxed()
            })
            .await?;
        let tokens = rows
            .into_iter()
            .map(ApiToken::try_from)
            .collect::<Result<_, _>>()?;
        Ok(Page::from_rows(tokens, page.limit, ApiToken::cursor))
    }

    async fn revoke(&self, actor: &Actor, id: ApiTokenId) -> Result<bool, RepoError> {
        let statement = Statement::new(REVOKE).bind::<SqlUuid, _>(id.as_uuid());
        let revoked = self
            .store
            .transact(Role::Writer(actor), |mut connection| {
                async move { statement.execute(&mut connection).await }.boxed()
            })
            .await?;
        Ok(revoked > 0)
    }

    async fn find(&self, digest: &Sha256Digest) -> Result<Option<ApiTokenGrant>, RepoError> {
        let statement = Statement::new(USE).bind::<Text, _>(digest.to_string());
        let row: Option<GrantRow> = self
            .store
            .transact(Role::Service, |mut connection| {
                async move { statement.get_result(&mut connection).await.optional() }.boxed()
            })
            .await?;
        row.map(ApiTokenGrant::try_from).transpose()
    }
}
