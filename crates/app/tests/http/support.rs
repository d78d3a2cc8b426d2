//! A server on fakes, and a client for it.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::{BoxBody, to_bytes};
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use actix_web::http::{Method, StatusCode};
use actix_web::test::TestRequest;
use actix_web::{Error, test, web};
use atelier::http::health::{Check, Readiness};
use atelier::http::{self, Api, Limits, Ports};
use atelier_application::catalogue::CatalogueCache;
use atelier_application::identity::AccessSignIn;
use atelier_application::transfers::{RemoteSources, TransferSettings, Transferring};
use atelier_domain::actor::Actor;
use atelier_domain::graph::NodePolicy;
use atelier_domain::ids::{RunId, WorkflowId};
use atelier_domain::output::RunOutput;
use atelier_domain::ports::{
    ClaimOutcome, ClaimedRun, RunQueue as _, TokenVerifier, WorkflowRepo as _,
};
use atelier_domain::workflow::{NewWorkflow, Workflow};
use atelier_testkit::build::{a_claim, an_actor};
use atelier_testkit::{
    FakeRemote, FakeStore, FixedSecrets, FixedTokens, InMemoryBlobs, InMemoryPreviews, ManualClock,
    ScriptedComfy, SequentialIds, wait_until,
};
use bytes::Bytes;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) const API: &str = "/api/v1/comfyui";

/// The most bytes of a LoRA file in these tests.
pub(crate) const MAX_LORA_BYTES: u64 = 100_000;

pub(crate) struct World {
    pub(crate) store: FakeStore,
    pub(crate) blobs: InMemoryBlobs,
    pub(crate) comfy: ScriptedComfy,
    pub(crate) drive: FakeRemote,
    pub(crate) web: FakeRemote,
    pub(crate) previews: InMemoryPreviews,
    pub(crate) tokens: FixedTokens,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) alice: Actor,
    pub(crate) bob: Actor,
    pub(crate) stopping: CancellationToken,
    pub(crate) limits: Limits,
    /// Judges assertions of Cloudflare Access.
    pub(crate) assertions: FixedTokens,
    pub(crate) rate_limit: Option<NonZeroU32>,
    pub(crate) cors_origins: Vec<String>,
}

impl World {
    pub(crate) fn new() -> Self {
        let (alice, bob) = (an_actor(), an_actor());
        let clock = Arc::new(ManualClock::default());
        Self {
            store: FakeStore::with_clock(Arc::clone(&clock) as _),
            blobs: InMemoryBlobs::new(),
            comfy: ScriptedComfy::new(),
            drive: FakeRemote::drive(),
            web: FakeRemote::web(),
            previews: InMemoryPreviews::new(),
            tokens: FixedTokens::new().with("alice", &alice).with("bob", &bob),
            clock,
            alice,
            bob,
            stopping: CancellationToken::new(),
            limits: Limits {
                lora_bytes: MAX_LORA_BYTES,
                ..Limits::default()
            },
            assertions: FixedTokens::new(),
            rate_limit: None,
            cors_origins: Vec::new(),
        }
    }

    pub(crate) fn api(&self) -> web::Data<Api> {
        self.api_with(Arc::new(self.tokens.clone()))
    }

    pub(crate) fn api_with(&self, verifier: Arc<dyn TokenVerifier>) -> web::Data<Api> {
        web::Data::new(
            self.bare_api(verifier)
                .with_rate_limit(self.rate_limit)
                .with_cors_origins(self.cors_origins.clone()),
        )
    }

    pub(crate) fn bare_api(&self, verifier: Arc<dyn TokenVerifier>) -> Api {
        let ports = Ports {
            supabase: Some(verifier),
            access: Some(AccessSignIn {
                verifier: Arc::new(self.assertions.clone()),
                provision: true,
                services: HashMap::from([("robot.access".to_owned(), self.bob.user_id())]),
            }),
            identities: Arc::new(self.store.external_identities()),
            tokens: Arc::new(self.store.api_tokens()),
            audit: Arc::new(self.store.audit_trail()),
            usage: Arc::new(self.store.usage()),
            inputs: Arc::new(self.store.inputs()),
            policy: Arc::new(NodePolicy::default()),
            secrets: Arc::new(FixedSecrets::new()),
            workflows: Arc::new(self.store.workflows()),
            runs: Arc::new(self.store.runs()),
            loras: Arc::new(self.store.loras()),
            transfers: Arc::new(self.store.transfers()),
            uploads: Arc::new(self.store.uploads()),
            copies: Arc::new(self.store.copies()),
            sources: self.sources(),
            transferring: self.transferring(),
            blobs: Arc::new(self.blobs.clone()),
            signals: Arc::new(self.store.signals()),
            previews: Arc::new(self.previews.clone()),
            catalogue: self.catalogue(),
            clock: Arc::clone(&self.clock) as _,
            ids: Arc::new(SequentialIds::new()),
        };
        let blobs = self.blobs.clone();
        let check = Check::new("blob_store", move || {
            use atelier_domain::ports::BlobStore as _;

            let blobs = blobs.clone();
            async move { blobs.check().await }
        });
        Api::new(
            ports,
            self.limits,
            Readiness::new(vec![check], self.stopping.clone()),
            self.stopping.clone(),
            Handle::current(),
        )
    }

    pub(crate) fn catalogue(&self) -> Arc<CatalogueCache> {
        Arc::new(CatalogueCache::new(vec![(
            "comfyui".to_owned(),
            Arc::new(self.comfy.clone()) as _,
        )]))
    }

    fn sources(&self) -> RemoteSources {
        RemoteSources {
            google_drive: Arc::new(self.drive.clone()),
            web: Arc::new(self.web.clone()),
        }
    }

    pub(crate) fn transferring(&self) -> Arc<Transferring> {
        Arc::new(Transferring::new(
            Arc::new(self.store.transfers()),
            Arc::new(self.blobs.clone()),
            Arc::new(self.store.signals()),
            Arc::new(SequentialIds::new()),
            self.sources(),
            TransferSettings {
                poll: Duration::from_millis(10),
                ..TransferSettings::default()
            },
        ))
    }

    /// Carries transfers out until the guard is dropped.
    pub(crate) fn carry_transfers(&self) -> watch::Sender<bool> {
        let (stop, stopped) = watch::channel(false);
        drop(tokio::spawn(self.transferring().serve(stopped)));
        stop
    }

    pub(crate) async fn server(&self) -> Server {
        serve(self.api()).await
    }

    /// Stores a workflow for somebody, past the API.
    pub(crate) async fn keep(&self, owner: &Actor, new: NewWorkflow) -> Workflow {
        self.store.workflows().create(owner, new).await.unwrap()
    }

    /// Gives the next run of the queue to a worker.
    pub(crate) async fn claim_next(&self) -> ClaimedRun {
        let queue = self.store.queue();
        match queue.claim(a_claim("comfyui")).await.unwrap() {
            ClaimOutcome::Claimed(claimed) => *claimed,
            other => panic!("no run waits: {other:?}"),
        }
    }

    /// Ends the next run of the queue, with these outputs.
    pub(crate) async fn complete_next(&self, outputs: impl FnOnce(RunId) -> Vec<RunOutput>) {
        let claimed = self.claim_next().await;
        let outputs = outputs(claimed.run_id);
        let queue = self.store.queue();
        queue
            .complete(claimed.run_id, claimed.token, outputs)
            .await
            .unwrap();
    }
}

/// Serves `api` for requests made in this test.
pub(crate) async fn serve(api: web::Data<Api>) -> Server {
    let service = Rc::new(test::init_service(http::app(api)).await);
    Server(Box::new(move |request| {
        let service = Rc::clone(&service);
        Box::pin(async move { service.call(request.to_request()).await })
    }))
}

type Answering = Pin<Box<dyn Future<Output = Result<ServiceResponse<BoxBody>, Error>>>>;

pub(crate) struct Server(Box<dyn Fn(TestRequest) -> Answering>);

impl Server {
    /// Sends a request as it is.
    pub(crate) async fn send(&self, request: TestRequest) -> Answer {
        let (mut answer, body) = self.open(request).await;
        answer.body = to_bytes(body).await.map_err(|error| error.to_string());
        answer
    }

    /// Sends a request and leaves the body where it is.
    pub(crate) async fn open(&self, request: TestRequest) -> (Answer, BoxBody) {
        let response = match (self.0)(request).await {
            Ok(response) => response.into_parts().1,
            Err(error) => error.error_response(),
        };
        let (head, body) = response.into_parts();
        let answer = Answer {
            status: head.status(),
            headers: head.headers().clone(),
            body: Ok(Bytes::new()),
        };
        (answer, body)
    }

    /// Asks as Alice.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(as_user("alice", Method::GET, path)).await
    }

    /// Waits until a LoRA of Alice's is neither uploading nor importing.
    pub(crate) async fn settled(&self, path: &str) -> Value {
        let mut lora = Value::Null;
        wait_until("the LoRA is ready or failed", SOON, async || {
            lora = self.get(path).await.json();
            lora["status"] == "ready" || lora["status"] == "failed"
        })
        .await;
        lora
    }

    /// Sends JSON as Alice.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(as_user("alice", Method::POST, path).set_json(body))
            .await
    }
}

/// A request of `token`'s below the API's prefix.
pub(crate) fn as_user(token: &str, method: Method, path: &str) -> TestRequest {
    TestRequest::with_uri(&format!("{API}{path}"))
        .method(method)
        .insert_header((AUTHORIZATION, format!("Bearer {token}")))
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Result<Bytes, String>,
}

impl Answer {
    pub(crate) fn bytes(&self) -> &Bytes {
        self.body.as_ref().expect("the body came whole")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(self.bytes())
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.bytes()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Checks that this is a problem document that is whole and honest, and
    /// gives its status, code and pointers.
    #[track_caller]
    pub(crate) fn problem(&self) -> (u16, String, Vec<String>) {
        assert_eq!(
            self.header(CONTENT_TYPE.as_str()),
            Some("application/problem+json"),
            "{self:?}"
        );
        let problem = self.json();
        let text = |name: &str| {
            problem[name]
                .as_str()
                .unwrap_or_else(|| panic!("{name}: {problem}"))
                .to_owned()
        };
        assert_eq!(problem["status"], self.status.as_u16(), "{problem}");
        assert_eq!(
            text("type"),
            format!("urn:atelier:problem:{}", text("code"))
        );
        assert!(
            !text("title").is_empty() && !text("detail").is_empty(),
            "{problem}"
        );
        let request_id = self.header("x-request-id").expect("every answer has one");
        assert_eq!(text("instance"), format!("urn:uuid:{request_id}"));
        let pointers = problem["errors"].as_array().into_iter().flatten();
        let pointers = pointers.map(|error| {
            assert!(!error["detail"].as_str().unwrap().is_empty());
            error["pointer"].as_str().unwrap().to_owned()
        });
        (self.status.as_u16(), text("code"), pointers.collect())
    }

    /// Checks that this is the problem of that status and code at exactly
    /// those pointers.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, code: &str, pointers: &[&str]) {
        assert_eq!(
            self.problem(),
            (
                status,
                code.to_owned(),
                pointers.iter().map(|text| (*text).to_owned()).collect()
            ),
            "{}",
            self.json()
        );
    }
}

/// The address of a workflow.
pub(crate) fn workflow_path(id: WorkflowId) -> String {
    format!("/workflows/{id}")
}

/// Longer than any test waits for what is to happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A form with these parts: `(head, body)`, where the head is what follows
/// `form-data; `.
pub(crate) fn form(parts: &[(&str, &[u8])]) -> (&'static str, Vec<u8>) {
    let mut body = Vec::new();
    for (head, content) in parts {
        body.extend_from_slice(b"--frontier\r\nContent-Disposition: form-data; ");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(b"\r\n\r\n");
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--frontier--\r\n");
    ("multipart/form-data; boundary=frontier", body)
}
