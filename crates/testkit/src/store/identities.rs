use async_trait::async_trait;
use atelier_domain::identity::{ExternalIdentity, IdentityLink};
use atelier_domain::ids::UserId;
use atelier_domain::ports::{ExternalIdentities, RepoError};

use super::{FakeStore, State};

/// Whom other providers' identities stand for in a [`FakeStore`].
#[derive(Clone, Debug)]
pub struct FakeExternalIdentities(pub(super) FakeStore);

/// An account with a confirmed e-mail address.
pub(super) struct Account {
    pub(super) id: UserId,
    pub(super) email: String,
}

/// An identity that was seen.
pub(super) struct IdentityRow {
    identity: ExternalIdentity,
    user_id: UserId,
}

impl State {
    fn accounts_of(&self, email: &str) -> Vec<UserId> {
        let email = email.to_lowercase();
        self.accounts
            .iter()
            .filter(|account| account.email.to_lowercase() == email)
            .map(|account| account.id)
            .collect()
    }

    fn remember(&mut self, identity: &ExternalIdentity, user_id: UserId) {
        self.identities.push(IdentityRow {
            identity: identity.clone(),
            user_id,
        });
    }
}

#[async_trait]
impl ExternalIdentities for FakeExternalIdentities {
    async fn resolve(
        &self,
        identity: &ExternalIdentity,
        provision: Option<UserId>,
    ) -> Result<IdentityLink, RepoError> {
        let mut state = self.0.open()?;
        let known = state.identities.iter().find(|row| {
            row.identity.issuer == identity.issuer && row.identity.subject == identity.subject
        });
        if let Some(row) = known {
            return Ok(IdentityLink::Known(row.user_id));
        }
        match *state.accounts_of(&identity.email).as_slice() {
            [account] => {
                let is_taken = state
                    .identities
                    .iter()
                    .any(|row| row.user_id == account && row.identity.issuer == identity.issuer);
                if is_taken {
                    return Ok(IdentityLink::Taken);
                }
                state.remember(identity, account);
                Ok(IdentityLink::Linked(account))
            }
            [] => {
                let Some(person) = provision else {
                    return Ok(IdentityLink::Unknown);
                };
                state.remember(identity, person);
                Ok(IdentityLink::Provisioned(person))
            }
            _ => Ok(IdentityLink::Ambiguous),
        }
    }
}
