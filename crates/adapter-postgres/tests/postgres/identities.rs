//! Identities of other providers beside the accounts of Supabase Auth, and what is left when an account goes.

use atelier_domain::actor::Actor;
use atelier_domain::identity::{ExternalIdentity, IdentityLink};
use atelier_domain::ids::UserId;
use atelier_domain::lora::NewLora;
use atelier_domain::page::PageRequest;
use atelier_domain::ports::{
    ApiTokens, EnqueueTerms, ExternalIdentities, InputRepo, LoraRepo, LoraTransfers, LoraUploads,
    RepoError, RunRepo, WorkflowRepo,
};
use atelier_domain::run::NewRun;
use atelier_postgres::{MIGRATIONS, PgStore};
use atelier_testkit::build::{
    a_new_api_token, a_new_lora, a_new_run, a_request_under, a_workflow, an_actor, an_answer,
    an_identity, an_import, an_input, import_terms, next_time, terms,
};
use atelier_testkit::random_id;
use diesel_async::{AsyncConnection, AsyncMigrationHarness, AsyncPgConnection};
use diesel_migrations::MigrationHarness;
use tokio_postgres::Client;

use crate::support::{Database, Kind, scalar};

/// A confirmed account; `more` changes it.
async fn account(admin: &Client, email: &str, more: &str) -> UserId {
    let id = UserId::new(random_id());
    let sql = format!(
        "insert into auth.users (id, email, email_confirmed_at) values ('{id}', '{email}', now());
         update auth.users set {more} where id = '{id}'"
    );
    admin.batch_execute(&sql).await.unwrap();
    id
}

async fn delete_account(admin: &Client, id: UserId) {
    let sql = format!(
        "set role supabase_auth_admin; delete from auth.users where id = '{id}'; reset role"
    );
    admin.batch_execute(&sql).await.unwrap();
}

async fn change(admin: &Client, id: UserId, change: &str) {
    let sql = format!("update auth.users set {change} where id = '{id}'");
    admin.batch_execute(&sql).await.unwrap();
}

async fn resolved(store: &PgStore, identity: &ExternalIdentity) -> IdentityLink {
    let identities = store.external_identities();
    identities.resolve(identity, None).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_prove_nothing_are_not_linked() {
    let database = Database::new(Kind::Supabase).await;
    let admin = database.admin().await;
    let store = database.store();
    for more in [
        "deleted_at = now()",
        "is_sso_user = true",
        "is_anonymous = true",
        "email_confirmed_at = null, phone = '1', phone_confirmed_at = now()",
        "banned_until = now() + interval '1 day'",
    ] {
        let identity = an_identity();
        let id = account(&admin, &identity.email, more).await;
        assert_eq!(
            resolved(&store, &identity).await,
            IdentityLink::Unknown,
            "{more}"
        );
        admin
            .batch_execute(&format!("delete from auth.users where id = '{id}'"))
            .await
            .unwrap();
        // The same account with nothing wrong is.
        let good = account(
            &admin,
            &identity.email,
            "banned_until = now() - interval '1 day'",
        )
        .await;
        assert_eq!(
            resolved(&store, &identity).await,
            IdentityLink::Linked(good),
            "{more}"
        );
    }
}

/// Of two at one address, the one that proves it.
#[tokio::test(flavor = "multi_thread")]
async fn an_sso_account_does_not_stand_in_the_way() {
    let database = Database::new(Kind::Supabase).await;
    let admin = database.admin().await;
    let identity = an_identity();
    account(&admin, &identity.email, "is_sso_user = true").await;
    let alice = account(&admin, &identity.email, "role = role").await;

    let link = resolved(&database.store(), &identity).await;

    assert_eq!(link, IdentityLink::Linked(alice));
}

/// An address that goes from one account to another takes nothing along.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_keeps_its_identity_when_its_address_changes() {
    let database = Database::new(Kind::Supabase).await;
    let admin = database.admin().await;
    let store = database.store();
    let identity = an_identity();
    let alice = account(&admin, &identity.email, "role = role").await;
    assert_eq!(
        resolved(&store, &identity).await,
        IdentityLink::Linked(alice)
    );
    change(&admin, alice, "email = 'elsewhere@example.com'").await;
    let bob = account(&admin, &identity.email, "role = role").await;

    assert_eq!(
        resolved(&store, &identity).await,
        IdentityLink::Known(alice)
    );
    let second = ExternalIdentity {
        subject: an_identity().subject,
        ..identity
    };
    assert_eq!(resolved(&store, &second).await, IdentityLink::Linked(bob));
}

/// And come back as strangers.
#[tokio::test(flavor = "multi_thread")]
async fn identities_go_with_their_account() {
    let database = Database::new(Kind::Supabase).await;
    let admin = database.admin().await;
    let store = database.store();
    let identity = an_identity();
    let alice = account(&admin, &identity.email, "role = role").await;
    assert_eq!(
        resolved(&store, &identity).await,
        IdentityLink::Linked(alice)
    );

    delete_account(&admin, alice).await;

    assert_eq!(resolved(&store, &identity).await, IdentityLink::Unknown);
    for table in ["comfyui_users", "comfyui_external_identities"] {
        let left = scalar(&admin, &format!("select count(*) from public.{table}")).await;
        assert_eq!(left.as_deref(), Some("0"), "{table}");
    }
}

/// Until the ban ends. Access tokens end by themselves; these would not.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_stands_for_a_barred_account() {
    let database = Database::new(Kind::Supabase).await;
    let admin = database.admin().await;
    let store = database.store();
    let (identity, token) = (an_identity(), a_new_api_token("secret"));
    let id = account(&admin, &identity.email, "role = role").await;
    assert_eq!(resolved(&store, &identity).await, IdentityLink::Linked(id));
    let tokens = store.api_tokens();
    tokens.create(&Actor::new(id), token.clone()).await.unwrap();
    for (bar, lift) in [
        (
            "banned_until = now() + interval '1 day'",
            "banned_until = now()",
        ),
        ("deleted_at = now()", "deleted_at = null"),
    ] {
        change(&admin, id, bar).await;
        assert_eq!(
            resolved(&store, &identity).await,
            IdentityLink::Unknown,
            "{bar}"
        );
        assert_eq!(tokens.find(&token.digest).await.unwrap(), None, "{bar}");

        change(&admin, id, lift).await;
        assert_eq!(
            resolved(&store, &identity).await,
            IdentityLink::Known(id),
            "{lift}"
        );
        assert!(
            tokens.find(&token.digest).await.unwrap().is_some(),
            "{lift}"
        );
    }
}

/// Everything that makes a row of a person's.
async fn writes(store: &PgStore, actor: &Actor) -> Vec<(&'static str, RepoError)> {
    let mut refused = Vec::new();
    let mut note = |what, outcome: Result<(), RepoError>| match outcome {
        Err(error) => refused.push((what, error)),
        Ok(()) => panic!("{what} was written"),
    };
    let run = || NewRun {
        workflow_id: None,
        ..a_new_run(random_id().into())
    };
    let once = EnqueueTerms {
        idempotency: Some((a_request_under("key", "body"), an_answer("mine"))),
        ..terms()
    };
    let upload = NewLora {
        bytes_total: Some(4),
        ..a_new_lora("b.safetensors")
    };
    note(
        "a workflow",
        store
            .workflows()
            .create(actor, a_workflow())
            .await
            .map(drop),
    );
    note(
        "a run",
        store.runs().enqueue(actor, run(), terms()).await.map(drop),
    );
    note(
        "a run, once",
        store.runs().enqueue(actor, run(), once).await.map(drop),
    );
    note(
        "a lora",
        store
            .loras()
            .reserve(actor, a_new_lora("a.safetensors"))
            .await
            .map(drop),
    );
    note(
        "an import",
        store
            .transfers()
            .begin(actor, an_import("c.safetensors"), import_terms())
            .await
            .map(drop),
    );
    note(
        "an upload",
        store
            .uploads()
            .create(actor, upload, String::new(), next_time())
            .await
            .map(drop),
    );
    note(
        "an input",
        store
            .inputs()
            .add(actor, an_input(actor, "a.png", b"a"))
            .await
            .map(drop),
    );
    let token = a_new_api_token("another secret");
    note(
        "a token",
        store.api_tokens().create(actor, token).await.map(drop),
    );
    refused
}

/// Neither does one of somebody who never had an account.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_outlived_its_account_writes_nothing() {
    let database = Database::new(Kind::Supabase).await;
    let admin = database.admin().await;
    let store = database.store();
    let alice = Actor::new(account(&admin, "alice@example.com", "role = role").await);
    store
        .workflows()
        .create(&alice, a_workflow())
        .await
        .unwrap();
    delete_account(&admin, alice.user_id()).await;

    for actor in [&alice, &an_actor()] {
        let refused = writes(&store, actor).await;

        assert_eq!(refused.len(), 8);
        for (what, error) in refused {
            assert!(matches!(error, RepoError::AccountGone), "{what}: {error:?}");
        }
        let left = scalar(&admin, "select count(*) from public.comfyui_users").await;
        assert_eq!(left.as_deref(), Some("0"));
        let page = store.api_tokens().list(actor, PageRequest::default()).await;
        assert_eq!(page.unwrap().items, []);
    }
}

/// There and back: people of before keep their accounts, and go with them.
#[tokio::test(flavor = "multi_thread")]
async fn people_of_before_keep_their_accounts() {
    let database = Database::unmigrated(Kind::Supabase).await;
    let connection = AsyncPgConnection::establish(&database.owner_url()).await;
    let mut harness = AsyncMigrationHarness::new(connection.unwrap());
    for _ in 0..6 {
        harness.run_next_migration(MIGRATIONS).unwrap();
    }
    let admin = database.admin().await;
    let mut people = Vec::new();
    for email in ["a@example.com", "b@example.com", "c@example.com"] {
        let id = account(&admin, email, "role = role").await;
        let sql = format!("insert into public.comfyui_users (id) values ('{id}')");
        admin.batch_execute(&sql).await.unwrap();
        people.push(id);
    }

    harness.run_pending_migrations(MIGRATIONS).unwrap();

    delete_account(&admin, people[0]).await;
    let left = "select count(*) from public.comfyui_users where account_id = id";
    assert_eq!(scalar(&admin, left).await.as_deref(), Some("2"));
    let person = Some(UserId::new(random_id()));
    let identities = database.store().external_identities();
    identities.resolve(&an_identity(), person).await.unwrap();
    for _ in 0..2 {
        harness.revert_last_migration(MIGRATIONS).unwrap();
    }
    // The older shape has no room for whoever has no account.
    delete_account(&admin, people[1]).await;
    let left = scalar(
        &admin,
        "select string_agg(id::text, ',') from public.comfyui_users",
    )
    .await;
    assert_eq!(left, Some(people[2].to_string()));
    harness.run_pending_migrations(MIGRATIONS).unwrap();
}
