//! What every [`ExternalIdentities`] must do, where people have accounts.

use std::sync::Arc;

use atelier_domain::identity::{ExternalIdentity, IdentityLink};
use atelier_domain::ids::UserId;
use atelier_domain::ports::ExternalIdentities;
use futures_util::future::BoxFuture;
use tokio::task::JoinSet;

use super::KeepAlive;
use crate::build::an_identity;
use crate::random_id;

/// Gives a person an account with a confirmed e-mail address, past the ports.
pub type AddAccount = Arc<dyn Fn(UserId, String) -> BoxFuture<'static, ()> + Send + Sync>;

/// A store under test, with accounts.
pub struct Harness {
    /// The identities under test.
    pub identities: Arc<dyn ExternalIdentities>,
    /// Gives a person an account.
    pub add_account: AddAccount,
    /// What must live as long as the harness.
    pub keep_alive: KeepAlive,
}

super::opaque_debug!(Harness);

impl Harness {
    /// Somebody with an account at this address.
    async fn account(&self, email: &str) -> UserId {
        let id = UserId::new(random_id());
        (self.add_account)(id, email.to_owned()).await;
        id
    }

    /// What comes of an identity, though a person may be made.
    async fn resolved(&self, identity: &ExternalIdentity) -> IdentityLink {
        let fresh = Some(UserId::new(random_id()));
        self.identities.resolve(identity, fresh).await.unwrap()
    }
}

/// At first sight, whatever the case; ever after it is known.
pub async fn an_identity_is_linked_to_the_account_of_its_address(h: &Harness) {
    let identity = an_identity();
    let alice = h.account(&identity.email.to_uppercase()).await;
    h.account(&an_identity().email).await;

    assert_eq!(h.resolved(&identity).await, IdentityLink::Linked(alice));

    assert_eq!(h.resolved(&identity).await, IdentityLink::Known(alice));
    let link = h.identities.resolve(&identity, None).await.unwrap();
    assert_eq!(link, IdentityLink::Known(alice));
}

/// Nor does an account that takes the address over.
pub async fn another_address_links_nobody_anew(h: &Harness) {
    let identity = an_identity();
    let alice = h.account(&identity.email).await;
    assert_eq!(h.resolved(&identity).await, IdentityLink::Linked(alice));
    let other_address = an_identity().email;
    h.account(&other_address).await;
    let moved = ExternalIdentity {
        email: other_address,
        ..identity
    };

    assert_eq!(h.resolved(&moved).await, IdentityLink::Known(alice));
}

/// Nobody can tell which of the accounts is meant.
pub async fn an_address_of_several_accounts_links_nobody(h: &Harness) {
    let identity = an_identity();
    h.account(&identity.email).await;
    h.account(&identity.email.to_uppercase()).await;

    for _ in 0..2 {
        assert_eq!(h.resolved(&identity).await, IdentityLink::Ambiguous);
    }
}

/// The provider may have given the address to somebody else; other providers
/// have subjects of their own.
pub async fn one_subject_of_a_provider_is_linked_to_an_account(h: &Harness) {
    let identity = an_identity();
    let alice = h.account(&identity.email).await;
    assert_eq!(h.resolved(&identity).await, IdentityLink::Linked(alice));
    let second = ExternalIdentity {
        subject: an_identity().subject,
        ..identity.clone()
    };
    let elsewhere = ExternalIdentity {
        issuer: "https://other.cloudflareaccess.example".to_owned(),
        ..second.clone()
    };

    assert_eq!(h.resolved(&second).await, IdentityLink::Taken);
    assert_eq!(h.resolved(&elsewhere).await, IdentityLink::Linked(alice));
    assert_eq!(h.resolved(&second).await, IdentityLink::Taken);
}

/// Eight subjects at one address at once: one is linked.
pub async fn first_sights_at_once_link_one_subject(h: &Harness) {
    let identity = an_identity();
    let alice = h.account(&identity.email).await;
    let mut sights = JoinSet::new();
    for _ in 0..8 {
        let identities = Arc::clone(&h.identities);
        let subject = ExternalIdentity {
            subject: an_identity().subject,
            ..identity.clone()
        };
        sights.spawn(async move { identities.resolve(&subject, None).await.unwrap() });
    }

    let links = sights.join_all().await;

    let count = |wanted: IdentityLink| links.iter().filter(|link| **link == wanted).count();
    assert_eq!(count(IdentityLink::Linked(alice)), 1, "{links:?}");
    assert_eq!(count(IdentityLink::Taken), 7, "{links:?}");
}

/// Who was made before the account came stays who they are.
pub async fn a_provisioned_person_is_never_linked(h: &Harness) {
    let identity = an_identity();
    let IdentityLink::Provisioned(person) = h.resolved(&identity).await else {
        panic!("somebody new was known");
    };
    h.account(&identity.email).await;

    assert_eq!(h.resolved(&identity).await, IdentityLink::Known(person));
}

/// Tests an `ExternalIdentities` where people have accounts; see
/// [`conformance`](crate::conformance).
#[macro_export]
macro_rules! account_links_conformance {
    ($harness:expr) => {
        $crate::__cases! { account_links in account_links_conformance, $harness;
            an_identity_is_linked_to_the_account_of_its_address,
            another_address_links_nobody_anew,
            an_address_of_several_accounts_links_nobody,
            one_subject_of_a_provider_is_linked_to_an_account,
            first_sights_at_once_link_one_subject,
            a_provisioned_person_is_never_linked,
        }
    };
}
