//! Ten thousand requests of two people and of the workers, over a pool that is too small for them, many of them dropped
//! half-way: every answer is the asker's, and every connection comes back as nobody.

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use atelier_domain::actor::Actor;
use atelier_domain::api_token::NewApiToken;
use atelier_domain::ids::WorkflowId;
use atelier_domain::page::PageRequest;
use atelier_domain::ports::{ApiTokens, RunQueue, UsageRepo, WorkflowRepo, WriteOutcome};
use atelier_domain::usage::Usage;
use atelier_domain::workflow::{NewWorkflow, WorkflowFilter};
use atelier_local_postgres::{Cluster, ClusterOptions};
use atelier_testkit::build::{a_new_api_token, a_workflow, an_actor};
use diesel::QueryableByName;
use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::statement::Statement;
use crate::{PgOptions, PgStore, migrate};

const CONNECTIONS: usize = 4;
const TASKS: u32 = 16;
const REQUESTS: u32 = 10_000;

/// What one person has, and how they are known.
struct Person {
    actor: Actor,
    workflow: WorkflowId,
    token: NewApiToken,
}

/// Numbers that look random and are the same in every run (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// Polls a future so often at the most, then drops it.
async fn cut_off<F: Future>(polls: u64, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

/// One request of `me`, whose answer must be theirs.
async fn request(store: &PgStore, kind: u64, me: &Person, you: &Person) {
    let workflows = store.workflows();
    let actor = &me.actor;
    match kind {
        0 => {
            let mine = workflows.get(actor, me.workflow).await.unwrap().unwrap();
            assert_eq!(mine.user_id, actor.user_id());
        }
        1 => {
            let yours = workflows.get(actor, you.workflow).await.unwrap();
            assert_eq!(yours, None, "the other person's workflow");
        }
        2 => {
            let filter = WorkflowFilter::default();
            let list = workflows.list(actor, filter, PageRequest::default()).await;
            let owners: BTreeSet<_> = list
                .unwrap()
                .items
                .iter()
                .map(|item| item.user_id)
                .collect();
            assert_eq!(owners, BTreeSet::from([actor.user_id()]));
        }
        3 => {
            let outcome = workflows.delete(actor, you.workflow, None).await.unwrap();
            assert_eq!(outcome, WriteOutcome::NotFound);
        }
        4 => {
            let new = NewWorkflow {
                id: WorkflowId::new(atelier_testkit::random_id()),
                ..a_workflow()
            };
            let made = workflows.create(actor, new).await.unwrap();
            assert_eq!(made.user_id, actor.user_id());
        }
        5 => {
            let tokens = store.api_tokens();
            let listed = tokens.list(actor, PageRequest::default()).await.unwrap();
            let ids: Vec<_> = listed.items.iter().map(|token| token.id).collect();
            assert_eq!(ids, [me.token.id]);
        }
        6 => {
            let grant = store.api_tokens().find(&me.token.digest).await.unwrap();
            assert_eq!(grant.map(|grant| grant.user_id), Some(actor.user_id()));
        }
        7 => assert_eq!(store.usage().of(actor).await.unwrap(), Usage::default()),
        _ => assert_eq!(store.queue().figures().await.unwrap().running, 0),
    }
}

#[derive(Debug, PartialEq, QueryableByName)]
struct Standing {
    #[diesel(sql_type = Text)]
    who: String,
    #[diesel(sql_type = Text)]
    role: String,
    #[diesel(sql_type = Text)]
    claims: String,
}

const STANDING: &str = "\
    select current_user::text as who, current_setting('role') as role, \
      coalesce(current_setting('request.jwt.claims', true), '') as claims";

/// What each of the pool's connections is outside of a transaction.
async fn assert_nobody_is_left(store: &PgStore) {
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        held.push(store.pool().get().await.unwrap());
    }
    for connection in &mut held {
        let standing: Standing = Statement::new(STANDING)
            .get_result(connection)
            .await
            .unwrap();
        let nobody = Standing {
            who: "atelier_app".to_owned(),
            role: "none".to_owned(),
            claims: String::new(),
        };
        assert_eq!(standing, nobody);
    }
}

async fn person(store: &PgStore) -> Person {
    let actor = an_actor();
    let workflow = store.workflows().create(&actor, a_workflow()).await;
    let token = a_new_api_token(&atelier_testkit::random_id().to_string());
    let tokens = store.api_tokens();
    tokens.create(&actor, token.clone()).await.unwrap().unwrap();
    Person {
        actor,
        workflow: workflow.unwrap().id,
        token,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_ever_acts_as_somebody_else() {
    let cluster = tokio::task::spawn_blocking(|| {
        Cluster::start(&ClusterOptions::in_temporary_directory(), &mut |_| {})
    });
    let cluster = cluster.await.unwrap().unwrap();
    let owner = PgOptions::new(cluster.url("postgres"));
    migrate(&owner, None).await.unwrap();
    let options = PgOptions {
        max_connections: CONNECTIONS,
        wait_timeout: Duration::from_mins(1),
        ..PgOptions::new(cluster.url_for("atelier_app", "postgres"))
    };
    let store = PgStore::connect(&options, Handle::current()).unwrap();
    let people = Arc::new([person(&store).await, person(&store).await]);
    let (answered, dropped) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (store, people) = (store.clone(), Arc::clone(&people));
        let (answered, dropped) = (Arc::clone(&answered), Arc::clone(&dropped));
        tasks.spawn(async move {
            let mut dice = Dice(task.into());
            for _ in 0..REQUESTS / TASKS {
                let [alice, bob] = &*people;
                let (me, you) = if dice.below(2) == 0 {
                    (alice, bob)
                } else {
                    (bob, alice)
                };
                let request = request(&store, dice.below(9), me, you);
                // Up to what the longest of them takes: every point of each is met.
                let polls = if dice.below(4) == 0 {
                    dice.below(9)
                } else {
                    u64::MAX
                };
                let count = match cut_off(polls, request).await {
                    Some(()) => &answered,
                    None => &dropped,
                };
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }

    let (answered, dropped) = (
        AtomicU32::load(&answered, Ordering::Relaxed),
        AtomicU32::load(&dropped, Ordering::Relaxed),
    );
    assert_eq!(answered + dropped, REQUESTS);
    assert!(
        dropped > 500 && answered > 5_000,
        "{dropped} dropped, {answered} answered"
    );
    assert_nobody_is_left(&store).await;
    for person in people.iter() {
        let workflow = store.workflows().get(&person.actor, person.workflow).await;
        assert!(workflow.unwrap().is_some(), "somebody else deleted it");
    }
}
