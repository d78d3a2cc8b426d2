//! What would become of a run, without running.

use std::sync::Arc;

use atelier_application::catalogue::CatalogueCache;
use atelier_application::runs::{
    LoraResolution, Preflight, PreflightBackend, PreflightError, PreflightWorkflow,
};
use atelier_domain::actor::Actor;
use atelier_domain::ports::{BackendReport, ComfyClient, RunQueue as _};
use atelier_testkit::ScriptedComfy;
use atelier_testkit::build::{an_actor, safetensors_bytes};
use serde_json::{Value, json};

use crate::support::{House, graph_with, lora_graph, plain_graph};

const LORA: &str = "/workflow_json/7/inputs/lora_name";

fn use_case(house: &House) -> PreflightWorkflow {
    PreflightWorkflow {
        workflows: Arc::new(house.store.workflows()),
        loras: Arc::new(house.store.loras()),
        inputs: Arc::new(house.store.inputs()),
        policy: Arc::clone(&house.policy),
        copies: Arc::new(house.store.copies()),
        catalogue: Arc::clone(&house.catalogue),
        ids: Arc::clone(&house.ids) as _,
    }
}

/// What the actor hears of a graph of theirs.
async fn look(house: &House, graph: &Value) -> Preflight {
    let workflow = house.workflow(graph).await;
    let use_case = use_case(house);
    use_case.execute(&house.actor, workflow).await.unwrap()
}

/// The same of several backends.
async fn look_at(house: &House, backends: &[(&str, &ScriptedComfy)], graph: &Value) -> Preflight {
    let workflow = house.workflow(graph).await;
    let backends = backends.iter().map(|(name, comfy)| {
        let client: Arc<dyn ComfyClient> = Arc::new(ScriptedComfy::clone(comfy));
        ((*name).to_owned(), client)
    });
    let use_case = PreflightWorkflow {
        catalogue: Arc::new(CatalogueCache::new(backends.collect())),
        ..use_case(house)
    };
    use_case.execute(&house.actor, workflow).await.unwrap()
}

/// A backend that has what the graphs here are made of.
fn capable() -> ScriptedComfy {
    let comfy = ScriptedComfy::new();
    comfy.offer_classes(["EmptyImage", "SaveImage", "CLIPTextEncode"]);
    comfy.offer_lora_inputs([("LoraLoader", "lora_name")]);
    comfy.offer_models(
        "CheckpointLoaderSimple",
        "ckpt_name",
        ["xl.safetensors", "one.safetensors"],
    );
    comfy
}

fn checkpoint_graph(checkpoint: &str, lora: &str) -> Value {
    let mut graph = lora_graph(lora);
    graph["4"] =
        json!({"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}});
    graph
}

fn named<'a>(preflight: &'a Preflight, name: &str) -> &'a PreflightBackend {
    let mut backends = preflight.backends.iter();
    backends.find(|backend| backend.name == name).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_graph_that_would_run_has_no_faults_and_says_what_its_loras_are() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    let comfy = capable();
    comfy.offer_loras(["system.safetensors"]);
    let mut graph = lora_graph("a.safetensors");
    graph["8"] = lora_graph("system.safetensors")["7"].clone();

    let preflight = look_at(&house, &[("main", &comfy)], &graph).await;

    assert!(preflight.can_run(), "{preflight:?}");
    assert_eq!((preflight.faults.len(), preflight.warnings.len()), (0, 0));
    let own = &preflight.loras[0];
    assert_eq!((own.pointer.as_str(), own.node_id.as_str()), (LORA, "7"));
    assert_eq!(own.class_type, "LoraLoader");
    assert_eq!(own.value.as_deref(), Some("a.safetensors"));
    assert_eq!(own.resolution, Some(LoraResolution::Own(Box::new(lora))));
    assert_eq!(preflight.loras[1].resolution, Some(LoraResolution::System));
}

#[tokio::test(start_paused = true)]
async fn the_faults_are_those_that_a_run_would_be_refused_for() {
    let house = House::new();
    house.lora("a.safetensors", 1).await;
    house.offer(&["system.safetensors"]);
    for graph in [
        lora_graph("no-such.safetensors"),
        lora_graph("../a.safetensors"),
        lora_graph("a.safetensors@2"),
        graph_with("LoraLoader", &json!({"lora_name": ["1", 0]})),
        graph_with("LoadImage", &json!({"image": "../../secret.png"})),
        graph_with("LoadImage", &json!({"image": "never-sent.png"})),
        graph_with("SRL Eval", &json!({"code": "return 1"})),
    ] {
        let preflight = look(&house, &graph).await;

        assert!(!preflight.can_run(), "{graph}");
        assert_eq!(preflight.faults, house.refusal(&graph).await, "{graph}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_graph_that_is_none_is_told_as_such() {
    let house = House::new();

    let preflight = look(&house, &json!({"1": {"class_type": 5, "inputs": {}}})).await;

    assert!(!preflight.faults.is_empty());
    assert!(preflight.faults[0].pointer.starts_with("/workflow_json/1"));
    assert!(!preflight.can_run());
}

#[tokio::test(start_paused = true)]
async fn a_lora_for_another_family_is_warned_of_and_no_fault() {
    let house = House::new();
    house.lora("sd15.safetensors", 1).await;
    let comfy = capable();
    let of = |file, architecture| {
        comfy.set_checkpoint_metadata(file, [("modelspec.architecture", architecture)]);
    };
    of("xl.safetensors", "stable-diffusion-xl-v1-base");
    of("one.safetensors", "stable-diffusion-v1");

    let graph = checkpoint_graph("xl.safetensors", "sd15.safetensors");
    let other = look_at(&house, &[("main", &comfy)], &graph).await;
    let graph = checkpoint_graph("one.safetensors", "sd15.safetensors");
    let same = look_at(&house, &[("main", &comfy)], &graph).await;

    assert!(other.can_run(), "{other:?}");
    assert_eq!(other.warnings.len(), 1);
    assert_eq!(other.warnings[0].pointer, LORA);
    let words = &other.warnings[0].detail;
    assert!(
        words.contains("SD 1.x") && words.contains("SDXL"),
        "{words}"
    );
    assert_eq!(same.warnings, []);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_says_nothing_of_itself_is_warned_of_never() {
    let house = House::new();
    house.lora("sd15.safetensors", 1).await;
    let graph = checkpoint_graph("xl.safetensors", "sd15.safetensors");

    let preflight = look_at(&house, &[("main", &capable())], &graph).await;

    assert_eq!(preflight.warnings, []);
}

#[tokio::test(start_paused = true)]
async fn each_backend_says_what_it_lacks() {
    let house = House::new();
    let (full, poor) = (capable(), ScriptedComfy::new());
    full.offer_loras(["system.safetensors"]);
    poor.offer_classes(["EmptyImage", "SaveImage"]);
    poor.offer_lora_inputs([("LoraLoader", "lora_name")]);
    poor.offer_models("CheckpointLoaderSimple", "ckpt_name", ["other.safetensors"]);
    let mut graph = checkpoint_graph("xl.safetensors", "system.safetensors");
    graph["a/b"] = json!({"class_type": "CLIPTextEncode", "inputs": {"text": "a house"}});

    let preflight = look_at(&house, &[("full", &full), ("poor", &poor)], &graph).await;

    assert!(preflight.can_run(), "one backend is enough: {preflight:?}");
    let full = named(&preflight, "full");
    assert!(full.can_run() && full.is_known, "{full:?}");
    let poor = named(&preflight, "poor");
    assert!(!poor.can_run());
    assert_eq!(
        poor.missing_classes,
        [(
            "/workflow_json/a~1b/class_type".to_owned(),
            "CLIPTextEncode".to_owned()
        )]
    );
    assert_eq!(
        poor.missing_models,
        [
            (
                "/workflow_json/4/inputs/ckpt_name".to_owned(),
                "xl.safetensors".to_owned()
            ),
            (LORA.to_owned(), "system.safetensors".to_owned()),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_no_backend_can_run_cannot_run() {
    let house = House::new();
    let graph = checkpoint_graph("no-such.safetensors", "a.safetensors");
    house.lora("a.safetensors", 1).await;

    let preflight = look_at(&house, &[("main", &capable())], &graph).await;

    assert_eq!(preflight.faults, []);
    assert!(!preflight.can_run());
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_never_answered_lacks_nothing_that_is_known() {
    let house = House::new();
    let away = ScriptedComfy::new();
    away.outage().begin();

    let graph = lora_graph("perhaps.safetensors");
    let preflight = look_at(&house, &[("away", &away)], &graph).await;

    let away = named(&preflight, "away");
    assert!(!away.is_known && away.can_run(), "{away:?}");
    assert_eq!(preflight.faults, []);
    assert_eq!(preflight.loras[0].resolution, None);
}

#[tokio::test(start_paused = true)]
async fn the_bytes_that_a_backend_has_to_get_are_counted() {
    let house = House::new();
    let a = house.lora("a.safetensors", 1).await;
    house.lora("b.safetensors", 2).await;
    let mut graph = lora_graph("a.safetensors");
    graph["8"] = lora_graph("b.safetensors")["7"].clone();
    // The same file twice is copied once.
    graph["9"] = graph["8"].clone();
    let queue = house.store.queue();
    for backend in ["first", "second"] {
        let report = BackendReport {
            backend: backend.to_owned(),
            worker: "w".to_owned(),
            answers: true,
            max_in_flight: 1,
            foreign_prompts: 0,
            checkpoint: None,
        };
        queue.tell_backend(report).await.unwrap();
    }
    queue.tell_loras("first", vec![a.id]).await.unwrap();
    let (first, second) = (capable(), capable());

    let preflight = look_at(&house, &[("first", &first), ("second", &second)], &graph).await;

    let size = safetensors_bytes(1).len() as u64;
    assert_eq!(named(&preflight, "first").bytes_to_sync, size);
    assert_eq!(named(&preflight, "second").bytes_to_sync, 2 * size);
}

#[tokio::test(start_paused = true)]
async fn the_parameters_are_named_with_what_they_are_unless_set() {
    let house = House::new();
    let mut graph = plain_graph();
    graph["2"]["_meta"] = json!({"parameters": {"prefix": "filename_prefix"}});

    let preflight = look(&house, &graph).await;

    assert_eq!(preflight.parameters.len(), 1);
    let parameter = &preflight.parameters[0];
    assert_eq!(parameter.name, "prefix");
    assert_eq!(parameter.address.to_string(), "2.filename_prefix");
    assert_eq!(parameter.default, json!("plain"));
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_public_workflow_is_looked_at_with_ones_own_loras() {
    let house = House::new();
    let mine = house.lora("a.safetensors", 1).await;
    let stranger: Actor = an_actor();
    let graph = lora_graph("a.safetensors");
    let public = house.workflow_of(&stranger, &graph, true).await;
    let private = house.workflow_of(&stranger, &graph, false).await;
    let use_case = use_case(&house);

    let seen = use_case.execute(&house.actor, public).await.unwrap();
    let unseen = use_case.execute(&house.actor, private).await;

    assert_eq!(
        seen.loras[0].resolution,
        Some(LoraResolution::Own(Box::new(mine)))
    );
    // Its owner has no such LoRA.
    house.catalogue.refresh().await;
    let owners = use_case.execute(&stranger, public).await.unwrap();
    assert_eq!(owners.faults[0].pointer, LORA);
    assert!(
        matches!(unseen, Err(PreflightError::WorkflowNotFound)),
        "{unseen:?}"
    );
}
