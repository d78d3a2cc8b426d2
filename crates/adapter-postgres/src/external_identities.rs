//! Whom the identities of other providers stand for.

use async_trait::async_trait;
use atelier_domain::identity::{ExternalIdentity, IdentityLink};
use atelier_domain::ids::UserId;
use atelier_domain::ports::{ExternalIdentities, RepoError};
use diesel::QueryableByName;
use diesel::sql_types::{Bool, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use futures_util::FutureExt;
use uuid::Uuid;

use crate::statement::Statement;
use crate::store::PgStore;
use crate::transaction::Role;

/// Implements [`ExternalIdentities`].
#[derive(Clone, Debug)]
pub struct PgExternalIdentities {
    store: PgStore,
}

/// In the database, which alone sees the accounts.
const RESOLVE: &str = "select * from atelier.resolve_identity($1, $2, $3, $4, $5)";

#[derive(QueryableByName)]
struct LinkRow {
    #[diesel(sql_type = Text)]
    outcome: String,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    person: Option<Uuid>,
}

impl TryFrom<LinkRow> for IdentityLink {
    type Error = RepoError;

    fn try_from(row: LinkRow) -> Result<Self, RepoError> {
        match (row.outcome.as_str(), row.person.map(UserId::new)) {
            ("known", Some(person)) => Ok(Self::Known(person)),
            ("linked", Some(person)) => Ok(Self::Linked(person)),
            ("provisioned", Some(person)) => Ok(Self::Provisioned(person)),
            ("unknown", None) => Ok(Self::Unknown),
            ("ambiguous", None) => Ok(Self::Ambiguous),
            ("taken", None) => Ok(Self::Taken),
            (other, _) => Err(RepoError::Backend(
                format!("the database said `{other}` of an identity").into(),
            )),
        }
    }
}

impl PgExternalIdentities {
    pub(crate) fn new(store: PgStore) -> Self {
        Self { store }
    }
}

#[async_trait]
impl ExternalIdentities for PgExternalIdentities {
    async fn resolve(
        &self,
        identity: &ExternalIdentity,
        provision: Option<UserId>,
    ) -> Result<IdentityLink, RepoError> {
        let statement = Statement::new(RESOLVE)
            .bind::<Text, _>(identity.issuer.clone())
            .bind::<Text, _>(identity.subject.clone())
            .bind::<Text, _>(identity.email.clone())
            .bind::<Nullable<SqlUuid>, _>(provision.map(UserId::as_uuid))
            .bind::<Bool, _>(provision.is_some());
        let row: LinkRow = self
            .store
            .transact(Role::Service, |mut connection| {
                async move { statement.get_result(&mut connection).await }.boxed()
            })
            .await?;
        row.try_into()
    }
}
