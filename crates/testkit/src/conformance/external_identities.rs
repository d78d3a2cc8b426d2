//! What every [`ExternalIdentities`] must do, where nobody has an account.

use std::collections::BTreeSet;
use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::identity::{ExternalIdentity, IdentityLink};
use atelier_domain::ids::UserId;
use atelier_domain::ports::{ExternalIdentities, WorkflowRepo};
use tokio::task::JoinSet;

use super::KeepAlive;
use crate::build::{a_workflow, an_identity};
use crate::random_id;

/// A store under test.
pub struct Harness {
    /// The identities under test.
    pub identities: Arc<dyn ExternalIdentities>,
    /// Workflows in the same store.
    pub workflows: Arc<dyn WorkflowRepo>,
    /// What must live as long as the harness.
    pub keep_alive: KeepAlive,
}

super::opaque_debug!(Harness);

fn a_person() -> UserId {
    UserId::new(random_id())
}

impl Harness {
    async fn resolved(&self, identity: &ExternalIdentity) -> IdentityLink {
        let link = self.identities.resolve(identity, Some(a_person())).await;
        link.unwrap()
    }
}

/// Unless a person may be made, and none is left behind.
pub async fn an_identity_of_nobodys_is_unknown(h: &Harness) {
    let identity = an_identity();
    for _ in 0..2 {
        let link = h.identities.resolve(&identity, None).await.unwrap();
        assert_eq!(link, IdentityLink::Unknown);
    }
}

/// Whatever the e-mail address is then, and whoever may be made.
pub async fn a_provisioned_person_is_known_ever_after(h: &Harness) {
    let identity = an_identity();
    let person = a_person();
    let first = h.identities.resolve(&identity, Some(person)).await;
    assert_eq!(first.unwrap(), IdentityLink::Provisioned(person));
    let moved = ExternalIdentity {
        email: an_identity().email,
        ..identity.clone()
    };

    for later in [&identity, &moved] {
        assert_eq!(h.resolved(later).await, IdentityLink::Known(person));
        let link = h.identities.resolve(later, None).await.unwrap();
        assert_eq!(link, IdentityLink::Known(person));
    }
}

/// The same subject of another issuer, and another subject at the same
/// address, are somebody else.
pub async fn issuers_and_subjects_tell_people_apart(h: &Harness) {
    let identity = an_identity();
    let elsewhere = ExternalIdentity {
        issuer: "https://other.cloudflareaccess.example".to_owned(),
        ..identity.clone()
    };
    let namesake = ExternalIdentity {
        email: identity.email.clone(),
        ..an_identity()
    };
    let mut people = BTreeSet::new();
    for one in [&identity, &elsewhere, &namesake] {
        let IdentityLink::Provisioned(person) = h.resolved(one).await else {
            panic!("somebody new was known");
        };
        people.insert(person);
    }

    assert_eq!(people.len(), 3);
}

/// Eight first requests at once make one person.
pub async fn a_person_is_provisioned_once(h: &Harness) {
    let identity = an_identity();
    let mut requests = JoinSet::new();
    for _ in 0..8 {
        let (identities, identity) = (Arc::clone(&h.identities), identity.clone());
        requests.spawn(async move {
            let link = identities.resolve(&identity, Some(a_person())).await;
            link.unwrap()
        });
    }

    let links = requests.join_all().await;

    let is_new = |link: &&IdentityLink| matches!(link, IdentityLink::Provisioned(_));
    assert_eq!(links.iter().filter(is_new).count(), 1, "{links:?}");
    let people: BTreeSet<UserId> = links
        .iter()
        .map(|link| match link {
            IdentityLink::Provisioned(person) | IdentityLink::Known(person) => *person,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(people.len(), 1, "{links:?}");
}

/// As anybody can.
pub async fn a_provisioned_person_can_write(h: &Harness) {
    let person = a_person();
    let link = h.identities.resolve(&an_identity(), Some(person)).await;
    assert_eq!(link.unwrap(), IdentityLink::Provisioned(person));
    let actor = Actor::new(person);

    let workflow = h.workflows.create(&actor, a_workflow()).await.unwrap();

    let found = h.workflows.get(&actor, workflow.id).await.unwrap();
    assert_eq!(found.map(|found| found.user_id), Some(person));
}

/// Tests an `ExternalIdentities`; see [`conformance`](crate::conformance).
#[macro_export]
macro_rules! external_identities_conformance {
    ($harness:expr) => {
        $crate::__cases! { external_identities in external_identities_conformance, $harness;
            an_identity_of_nobodys_is_unknown,
            a_provisioned_person_is_known_ever_after,
            issuers_and_subjects_tell_people_apart,
            a_person_is_provisioned_once,
            a_provisioned_person_can_write,
        }
    };
}
