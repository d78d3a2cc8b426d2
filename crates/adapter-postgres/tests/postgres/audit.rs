//! What the database writes into the trail by itself.

use atelier_domain::actor::Actor;
use atelier_domain::ids::UserId;
use atelier_domain::ports::{ApiTokens, ExternalIdentities, LoraRepo, WorkflowRepo, WriteOutcome};
use atelier_domain::workflow::{NewWorkflow, WorkflowChange};
use atelier_testkit::build::{
    a_new_api_token, a_new_lora, a_workflow, an_actor, an_identity, next_time, received,
};
use atelier_testkit::conformance::audit_trail::WrittenEvent;
use atelier_testkit::random_id;
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::{Database, Kind};

/// What is written down of a person, in order.
pub(crate) async fn written(admin: &Client, person: UserId) -> Vec<WrittenEvent> {
    let sql = format!(
        "select action, target, details::text from public.comfyui_audit_events
         where user_id = '{person}' order by id"
    );
    let rows = admin.query(&sql, &[]).await.unwrap();
    rows.iter()
        .map(|row| WrittenEvent {
            action: row.get(0),
            target: row.get(1),
            details: serde_json::from_str(row.get(2)).unwrap(),
        })
        .collect()
}

fn event(action: &str, target: &impl ToString, details: Value) -> WrittenEvent {
    WrittenEvent {
        action: action.to_owned(),
        target: Some(target.to_string()),
        details,
    }
}

async fn database(kind: Kind) -> Database {
    let database = Database::new(kind).await;
    database.give_everybody_accounts().await;
    database
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_written_down_when_they_come_and_go() {
    for kind in [Kind::Bare, Kind::Supabase] {
        let database = database(kind).await;
        let tokens = database.store().api_tokens();
        let (alice, new) = (an_actor(), a_new_api_token("secret"));
        tokens.create(&alice, new.clone()).await.unwrap().unwrap();
        tokens.find(&new.digest).await.unwrap().unwrap();
        assert!(tokens.revoke(&alice, new.id).await.unwrap());

        let events = written(&database.admin().await, alice.user_id()).await;

        let scopes: Vec<&str> = new.scopes.iter().map(|scope| scope.as_str()).collect();
        let details = json!({"name": new.name.as_str(), "scopes": scopes, "expires_at": null});
        let expected = [
            event("token.created", &new.id, details.clone()),
            event("token.revoked", &new.id, details),
        ];
        assert_eq!(events, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn identities_are_written_down_when_they_are_first_seen() {
    let database = Database::new(Kind::Supabase).await;
    let admin = database.admin().await;
    let identities = database.store().external_identities();
    let (known, new) = (an_identity(), an_identity());
    let (alice, bob) = (UserId::new(random_id()), UserId::new(random_id()));
    let account = format!(
        "insert into auth.users (id, email, email_confirmed_at) values ('{alice}', '{}', now())",
        known.email
    );
    admin.batch_execute(&account).await.unwrap();
    for identity in [&known, &new, &known, &new] {
        identities.resolve(identity, Some(bob)).await.unwrap();
    }

    let details = json!({"issuer": known.issuer});
    let linked = event("identity.linked", &known.subject, details.clone());
    assert_eq!(written(&admin, alice).await, [linked]);
    let provisioned = event("identity.provisioned", &new.subject, details);
    assert_eq!(written(&admin, bob).await, [provisioned]);
}

async fn published(database: &Database, alice: &Actor, is_public: bool) -> NewWorkflow {
    let new = NewWorkflow {
        is_public,
        ..a_workflow()
    };
    let workflows = database.store().workflows();
    workflows.create(alice, new.clone()).await.unwrap();
    new
}

/// And nothing else of them.
#[tokio::test(flavor = "multi_thread")]
async fn workflows_are_written_down_when_others_get_to_see_them_or_they_go() {
    let database = database(Kind::Bare).await;
    let workflows = database.store().workflows();
    let alice = an_actor();
    let private = published(&database, &alice, false).await;
    let public = published(&database, &alice, true).await;
    let change = |is_public| WorkflowChange {
        is_public: Some(is_public),
        ..WorkflowChange::default()
    };
    for (id, change) in [
        (private.id, change(false)),
        (private.id, change(true)),
        (public.id, change(false)),
    ] {
        let outcome = workflows.update(&alice, id, change, None, next_time());
        let outcome = outcome.await.unwrap();
        assert!(matches!(outcome, WriteOutcome::Done(_)), "{outcome:?}");
    }
    let deleted = workflows.delete(&alice, public.id, None).await.unwrap();
    assert_eq!(deleted, WriteOutcome::Done(()));

    let events = written(&database.admin().await, alice.user_id()).await;

    let expected = [
        event("workflow.published", &public.id, json!({})),
        event("workflow.published", &private.id, json!({})),
        event("workflow.unpublished", &public.id, json!({})),
        event("workflow.deleted", &public.id, json!({})),
    ];
    assert_eq!(events, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn loras_are_written_down_when_they_go() {
    let database = database(Kind::Bare).await;
    let loras = database.store().loras();
    let alice = an_actor();
    let mut ids = Vec::new();
    for filename in ["ready.safetensors", "reserved.safetensors"] {
        let lora = loras.reserve(&alice, a_new_lora(filename)).await.unwrap();
        ids.push(lora.id);
    }
    let ready = loras.mark_ready(&alice, ids[0], received(b"a")).await;
    assert!(matches!(ready, Ok(WriteOutcome::Done(_))), "{ready:?}");
    for id in &ids {
        let deleted = loras.delete(&alice, *id).await.unwrap();
        assert_eq!(deleted, WriteOutcome::Done(()));
    }

    let events = written(&database.admin().await, alice.user_id()).await;

    let details = json!({"filename": "ready.safetensors"});
    assert_eq!(events, [event("lora.deleted", &ids[0], details)]);
}

/// In the transaction that changes something: neither without the other.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_rolled_back_is_not_written_down() {
    let database = database(Kind::Bare).await;
    let admin = database.admin().await;
    let alice = an_actor();
    published(&database, &alice, true).await;
    let before = written(&admin, alice.user_id()).await;
    admin
        .batch_execute("begin; delete from public.comfyui_workflows")
        .await
        .unwrap();
    let meanwhile = written(&admin, alice.user_id()).await;
    assert_eq!(meanwhile.len(), before.len() + 1);

    admin.batch_execute("rollback").await.unwrap();

    assert_eq!(written(&admin, alice.user_id()).await, before);
    // And the change fails where the trail cannot be written.
    admin
        .batch_execute("alter table public.comfyui_audit_events add constraint full_disk check (action = '')  not valid")
        .await
        .unwrap();
    let outcome = database
        .store()
        .workflows()
        .create(
            &alice,
            NewWorkflow {
                is_public: true,
                ..a_workflow()
            },
        )
        .await;
    assert!(outcome.is_err(), "{outcome:?}");
}

/// Who was deleted is not forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn the_trail_outlives_the_person() {
    let database = database(Kind::Supabase).await;
    let admin = database.admin().await;
    let alice = an_actor();
    let workflow = published(&database, &alice, true).await;
    let token = a_new_api_token("secret");
    let tokens = database.store().api_tokens();
    tokens.create(&alice, token).await.unwrap().unwrap();
    let before = written(&admin, alice.user_id()).await;

    let delete = format!(
        "set role supabase_auth_admin; delete from auth.users where id = '{}'; reset role",
        alice.user_id()
    );
    admin.batch_execute(&delete).await.unwrap();

    let events = written(&admin, alice.user_id()).await;
    assert_eq!(events.get(..before.len()), Some(before.as_slice()));
    let mut actions: Vec<&str> = events[before.len()..]
        .iter()
        .map(|event| event.action.as_str())
        .collect();
    actions.sort_unstable();
    assert_eq!(
        actions,
        ["person.deleted", "token.revoked", "workflow.deleted"]
    );
    let of_workflow = workflow.id.to_string();
    assert!(events.iter().any(|event| event.action == "workflow.deleted"
        && event.target.as_deref() == Some(of_workflow.as_str())));
}
