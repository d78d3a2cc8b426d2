//! One trace over a request and the run that it asked for, as a collector gets it.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::http::Method;
use actix_web::{App, HttpResponse, HttpServer, web};
use atelier::config::traces::{TraceSampler, TracesConfig};
use atelier::telemetry::{Traces, W3cTraces};
use atelier_application::dispatch::{Backend, Worker, WorkerParts, WorkerSettings};
use atelier_application::observation::NotObserved;
use atelier_testkit::build::a_workflow;
use atelier_testkit::{InMemoryLoraFolder, SequentialIds, wait_until};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::support::{SOON, World, as_user, workflow_path};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SENDER: &str = "b7ad6b7169203331";

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

impl Collector {
    /// Listens; says where.
    fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let kept = web::Data::new(self.clone());
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::Data::clone(&kept))
                .route("/v1/traces", web::post().to(keep))
        });
        let server = server.workers(1).listen(listener).unwrap().run();
        drop(tokio::spawn(server));
        format!("http://{address}/v1/traces")
    }

    fn spans(&self) -> Vec<Span> {
        let batches = self.0.lock().unwrap();
        let scopes = batches
            .iter()
            .flat_map(|batch| &batch.resource_spans)
            .flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    /// The names that the sender goes by.
    fn services(&self) -> Vec<String> {
        let batches = self.0.lock().unwrap();
        let resources = batches
            .iter()
            .flat_map(|batch| &batch.resource_spans)
            .filter_map(|resource| resource.resource.as_ref());
        let attributes = resources.flat_map(|resource| &resource.attributes);
        let names = attributes.filter(|attribute| attribute.key == "service.name");
        names.map(|name| format!("{:?}", name.value)).collect()
    }
}

async fn keep(collector: web::Data<Collector>, body: web::Bytes) -> HttpResponse {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    collector.0.lock().unwrap().push(request);
    HttpResponse::Ok().finish()
}

fn traces_to(endpoint: &str) -> Traces {
    let config = TracesConfig {
        endpoint: endpoint.parse().unwrap(),
        service_name: Some("studio".to_owned()),
        sampler: TraceSampler::default(),
    };
    Traces::open(&config, Handle::current()).unwrap()
}

/// Works on what waits, until the guard is dropped.
fn work(world: &World) -> watch::Sender<bool> {
    let (stop, stopped) = watch::channel(false);
    let worker = Worker::new(WorkerParts {
        queue: Arc::new(world.store.queue()),
        loras: Arc::new(world.store.loras()),
        inputs: Arc::new(world.store.inputs()),
        uploads: Arc::new(world.store.uploads()),
        copies: Arc::new(world.store.copies()),
        transferring: world.transferring(),
        blobs: Arc::new(world.blobs.clone()),
        signals: Arc::new(world.store.signals()),
        previews: Arc::new(world.previews.clone()),
        catalogue: world.catalogue(),
        policy: Arc::default(),
        telemetry: Arc::new(NotObserved),
        traces: Arc::new(W3cTraces),
        clock: Arc::clone(&world.clock) as _,
        ids: Arc::new(SequentialIds::new()),
        backends: vec![Backend {
            name: "comfyui".to_owned(),
            client: Arc::new(world.comfy.clone()),
            folder: Arc::new(InMemoryLoraFolder::new()),
            max_in_flight: 1,
        }],
        settings: WorkerSettings {
            poll: Duration::from_millis(10),
            ..WorkerSettings::default()
        },
    });
    drop(tokio::spawn(worker.run(stopped)));
    stop
}

#[actix_web::test]
async fn one_trace_leads_from_the_sender_to_the_pictures() {
    let collector = Collector::default();
    let traces = traces_to(&collector.start());
    let subscriber = tracing_subscriber::registry().with(traces.layer());
    let guard = tracing::subscriber::set_default(subscriber);
    let world = World::new();
    let server = world.server().await;
    let workflow = world.keep(&world.alice, a_workflow()).await;
    let path = format!("{}/run", workflow_path(workflow.id));
    let request = as_user("alice", Method::POST, &path)
        .insert_header(("traceparent", format!("00-{TRACE}-{SENDER}-01")))
        .set_json(json!({}));

    let run = server.send(request).await.json();
    let worker = work(&world);
    let address = format!("/runs/{}", run["id"].as_str().unwrap());
    wait_until("the run to be over", SOON, async || {
        let status = server.get(&address).await.json()["status"].clone();
        status == "completed" || status == "failed"
    })
    .await;
    worker.send_replace(true);
    let named = |name: &str| collector.spans().into_iter().find(|span| span.name == name);
    // The span of the run is over a moment after the run.
    drop(guard);
    traces.close(SOON).await;

    let spans: HashMap<String, Span> = collector
        .spans()
        .into_iter()
        .filter(|span| hex(&span.trace_id) == TRACE)
        .map(|span| (span.name.clone(), span))
        .collect();
    let names: Vec<&String> = spans.keys().collect();
    let request = spans
        .get("POST /api/v1/comfyui/workflows/{id}/run")
        .unwrap_or_else(|| panic!("{names:?}"));
    assert_eq!(hex(&request.parent_span_id), SENDER);
    let parent_of = |name: &str| {
        let span = spans
            .get(name)
            .unwrap_or_else(|| panic!("{name}: {names:?}"));
        hex(&span.parent_span_id)
    };
    assert_eq!(parent_of("runs.submit"), hex(&request.span_id));
    for step in ["submit", "follow", "collect"] {
        assert_eq!(parent_of(step), hex(&spans["run"].span_id), "{step}");
    }
    assert_eq!(parent_of("run"), hex(&request.span_id));
    // What nobody asked to be traced is in traces of its own.
    assert_ne!(
        named("GET /api/v1/comfyui/runs/{id}").map(|span| hex(&span.trace_id)),
        Some(TRACE.to_owned())
    );
    let services = collector.services();
    assert!(
        services.iter().all(|name| name.contains("studio")),
        "{services:?}"
    );
}

#[actix_web::test]
async fn problems_name_the_trace_where_there_is_one() {
    let world = World::new();
    let server = world.server().await;
    let refused = || {
        as_user("alice", Method::GET, "/runs/none")
            .insert_header(("traceparent", format!("00-{TRACE}-{SENDER}-01")))
    };
    let untraced = server.send(refused()).await.json();
    let collector = Collector::default();
    let traces = traces_to(&collector.start());
    let subscriber = tracing_subscriber::registry().with(traces.layer());
    let _guard = tracing::subscriber::set_default(subscriber);

    let traced = server.send(refused()).await.json();

    assert_eq!(untraced["trace_id"], Value::Null, "{untraced}");
    assert_eq!(traced["trace_id"], TRACE, "{traced}");
}

#[actix_web::test]
async fn a_collector_that_is_away_costs_no_request_and_no_time() {
    let traces = traces_to("http://127.0.0.1:1/v1/traces");
    let subscriber = tracing_subscriber::registry().with(traces.layer());
    let _guard = tracing::subscriber::set_default(subscriber);
    let world = World::new();
    let server = world.server().await;

    for _ in 0..100 {
        assert_eq!(server.get("/runs").await.status, 200);
    }

    let closing = traces.close(Duration::from_millis(200));
    tokio::time::timeout(SOON, closing).await.unwrap();
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
