//! Makes valid entities; change what a test is about with `..`:
//!
//! ```
//! use atelier_domain::workflow::NewWorkflow;
//! use atelier_testkit::build::a_workflow;
//!
//! let public = NewWorkflow {
//!     is_public: true,
//!     ..a_workflow()
//! };
//! assert!(public.is_public);
//! ```

mod people;
mod pictures;

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use atelier_domain::actor::Actor;
use atelier_domain::digest::Sha256Digest;
use atelier_domain::graph::GraphJson;
use atelier_domain::idempotency::{IdempotencyKey, IdempotentRequest, StoredAnswer};
use atelier_domain::ids::{ClaimToken, LoraId, RunId, UserId, WorkflowId};
use atelier_domain::lora::{
    LoraFacts, LoraFilename, LoraHashes, LoraSource, NewLora, ReceivedLora,
};
use atelier_domain::output::{OutputKind, RunOutput};
use atelier_domain::ports::{
    BlobKey, ClaimRequest, EnqueueTerms, ImportTerms, NewImport, PreviewFormat, PreviewImage,
    RemoteFile, TransferClaim, UploadPiece,
};
use atelier_domain::run::{NewRun, RunPriority};
use atelier_domain::text::{Name, Tags};
use atelier_domain::workflow::NewWorkflow;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, json};
use sha2::{Digest as _, Sha256};

pub use people::{a_new_api_token, an_identity};
pub use pictures::an_input;

use crate::random_id;

/// The first of January 2026, 00:00 UTC: where built entities begin.
pub const EPOCH: DateTime<Utc> =
    DateTime::from_timestamp(1_767_225_600, 0).expect("a time that exists");

/// A time after every one that was given before.
pub fn next_time() -> DateTime<Utc> {
    static COUNT: AtomicI64 = AtomicI64::new(1);
    EPOCH + TimeDelta::microseconds(COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Somebody who was never seen before.
pub fn an_actor() -> Actor {
    Actor::new(UserId::new(random_id()))
}

/// A small text-to-image graph in ComfyUI's API format: seven nodes, with
/// literal inputs `seed`, `steps` and `text` to bind.
pub fn a_graph() -> GraphJson {
    let graph = json!({
        "3": {"class_type": "KSampler", "inputs": {
            "seed": 1, "steps": 4, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
            "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sim-sd15.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a house by a lake", "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurred", "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "house", "images": ["8", 0]}}
    });
    GraphJson::from_trusted(graph.to_string())
}

/// The same graph with a `LoraLoader`, node `10`, that names `lora_name`.
pub fn a_graph_with_lora(lora_name: &str) -> GraphJson {
    let mut graph: Map<_, _> =
        serde_json::from_str(a_graph().as_str()).expect("the graph above is an object");
    graph.insert(
        "10".to_owned(),
        json!({"class_type": "LoraLoader", "inputs": {
            "lora_name": lora_name, "strength_model": 1.0, "strength_clip": 1.0,
            "model": ["4", 0], "clip": ["4", 1]}}),
    );
    let model = graph
        .get_mut("3")
        .and_then(|sampler| sampler.pointer_mut("/inputs/model"));
    *model.expect("the sampler above has a model") = json!(["10", 0]);
    GraphJson::from_trusted(serde_json::Value::from(graph).to_string())
}

/// A private workflow of [`a_graph`], named and without tags.
pub fn a_workflow() -> NewWorkflow {
    NewWorkflow {
        id: WorkflowId::new(random_id()),
        name: name("House by a lake"),
        description: None,
        workflow_json: a_graph(),
        is_public: false,
        tags: Tags::default(),
        created_at: next_time(),
    }
}

/// A run of a workflow, without LoRAs, that may take an hour.
pub fn a_new_run(workflow: WorkflowId) -> NewRun {
    let mut input_params = Map::new();
    input_params.insert("seed".to_owned(), json!(7));
    NewRun {
        id: RunId::new(random_id()),
        workflow_id: Some(workflow),
        input_params,
        graph: a_graph(),
        nodes_total: 7,
        lora_ids: Vec::new(),
        input_ids: Vec::new(),
        checkpoint: None,
        priority: RunPriority::default(),
        timeout_s: 3_600,
        retry_of: None,
        trace_parent: None,
        created_at: next_time(),
    }
}

/// Room for as many waiting runs as a test could have, and nothing to be
/// carried out only once.
pub fn terms() -> EnqueueTerms {
    EnqueueTerms {
        max_pending: 1_000_000,
        idempotency: None,
    }
}

/// A request to run something that is carried out once, under `key`; its body
/// is `body`.
pub fn a_request_under(key: &str, body: &str) -> IdempotentRequest {
    IdempotentRequest {
        key: IdempotencyKey::parse(key).expect("the test gives a good key"),
        method: "POST".to_owned(),
        path: "/workflows/1/run".to_owned(),
        fingerprint: sha256_of(body.as_bytes()),
    }
}

/// An answer whose body is `body`.
pub fn an_answer(body: &str) -> StoredAnswer {
    StoredAnswer {
        status: 202,
        location: Some("/runs/1".to_owned()),
        body: body.to_owned(),
    }
}

/// A LoRA whose bytes are about to be uploaded.
pub fn a_new_lora(filename: &str) -> NewLora {
    NewLora {
        id: LoraId::new(random_id()),
        name: name("A style"),
        filename: LoraFilename::parse(filename).expect("the test names a good file name"),
        description: None,
        tags: Tags::default(),
        source: LoraSource::Upload,
        bytes_total: None,
        replaces: false,
        created_at: next_time(),
    }
}

/// A LoRA whose bytes are about to be uploaded in the place of another's.
pub fn a_replacement(filename: &str) -> NewLora {
    NewLora {
        replaces: true,
        ..a_new_lora(filename)
    }
}

/// A file of Google Drive's, of which nothing but its id is known.
pub fn a_remote_file() -> RemoteFile {
    RemoteFile {
        source: LoraSource::GoogleDrive {
            file_id: random_id().simple().to_string(),
        },
        resource_key: None,
        name: None,
        size_bytes: None,
        revision: None,
        md5: None,
        sha256: None,
    }
}

/// A LoRA that any worker may import.
pub fn an_import(filename: &str) -> NewImport {
    let file = a_remote_file();
    NewImport {
        lora: NewLora {
            source: file.source.clone(),
            ..a_new_lora(filename)
        },
        file,
        held: None,
    }
}

/// Room for as many imports as a test could have, and nothing to be carried
/// out only once.
pub fn import_terms() -> ImportTerms {
    ImportTerms {
        max_unfinished: 1_000_000,
        idempotency: None,
    }
}

/// A wish for a transfer, under a claim that holds for a minute.
pub fn a_transfer_claim() -> TransferClaim {
    TransferClaim {
        token: ClaimToken::new(random_id()),
        worker: "worker of a test".to_owned(),
        lease: Duration::from_mins(1),
    }
}

/// A piece of an upload of `owner`'s, under a key of its own.
pub fn a_piece(owner: &Actor, upload: LoraId, starts_at: u64, size_bytes: u64) -> UploadPiece {
    let key = format!(
        "user-{}/uploads/{upload}/{}",
        owner.user_id(),
        random_id().simple()
    );
    UploadPiece {
        starts_at,
        size_bytes,
        blob_key: BlobKey::parse(key).expect("a good key"),
    }
}

/// What is recorded of a LoRA whose bytes are `bytes`.
pub fn received(bytes: &[u8]) -> ReceivedLora {
    ReceivedLora {
        name: name("A style"),
        description: None,
        tags: Tags::default(),
        file_size: bytes.len() as u64,
        hashes: hashes_of(bytes),
        facts: LoraFacts::default(),
    }
}

/// The digests of bytes whose SHA-256 alone is known, as of those that came
/// before there were others.
pub fn hashes_of(bytes: &[u8]) -> LoraHashes {
    LoraHashes {
        sha256: sha256_of(bytes),
        blake3: None,
        tensors_sha256: None,
    }
}

/// A stored picture of a run.
pub fn an_output(run: RunId, index: u32) -> RunOutput {
    let filename = format!("house_{index:05}_.png");
    let key = format!("user-{}/runs/{run}/{filename}", random_id());
    RunOutput {
        index,
        node_id: "9".to_owned(),
        kind: OutputKind::Image,
        content_type: "image/png".to_owned(),
        size_bytes: 1_234,
        sha256: sha256_of(filename.as_bytes()),
        dimensions: Some([64, 64]),
        blob_key: BlobKey::parse(key).expect("a good key"),
        filename,
    }
}

/// A small preview, no picture in truth; another `fill` is another one.
pub fn a_preview(fill: u8) -> PreviewImage {
    PreviewImage {
        content_type: PreviewFormat::Jpeg,
        bytes: Bytes::from(vec![fill; 64]),
    }
}

/// A wish for a run, for backend `backend`, under a claim that holds for a
/// minute: the backend takes as many as there are, and none is left to another
/// one.
pub fn a_claim(backend: &str) -> ClaimRequest {
    ClaimRequest {
        token: ClaimToken::new(random_id()),
        worker: "worker of a test".to_owned(),
        backend: backend.to_owned(),
        max_in_flight: 1_000_000,
        lease: Duration::from_mins(1),
        affinity: Duration::ZERO,
        max_running: None,
    }
}

/// A name.
pub fn name(text: &str) -> Name {
    Name::parse(text).expect("the test gives a good name")
}

/// Some tags.
pub fn tags(words: &[&str]) -> Tags {
    Tags::parse(words.iter().copied()).expect("the test gives good tags")
}

/// The SHA-256 digest of some bytes.
pub fn sha256_of(bytes: &[u8]) -> Sha256Digest {
    Sha256Digest::new(Sha256::digest(bytes).into())
}

/// A LoRA file as kohya's trainer writes it for SD 1.5: rank 4, one attention
/// projection, metadata with a base model and the trigger word
/// `trigger_word`; the weights are all `fill`, so that files of another `fill`
/// are other bytes.
pub fn safetensors_bytes(fill: u8) -> Bytes {
    const MODULE: &str = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";
    const MATRIX_BYTES: usize = 4 * 320 * 2;
    const DATA_BYTES: usize = 2 + 2 * MATRIX_BYTES;
    let header = json!({
        "__metadata__": {
            "ss_base_model_version": "sd_v1-4",
            "ss_sd_model_name": "v1-5-pruned-emaonly.safetensors",
            "ss_network_module": "networks.lora",
            "ss_network_dim": "4",
            "ss_network_alpha": "4",
            "ss_output_name": "a_style",
            "ss_tag_frequency": "{\"10_style\": {\"trigger_word\": 10, \"house\": 3}}"
        },
        format!("{MODULE}.alpha"):
            {"dtype": "F16", "shape": [], "data_offsets": [0, 2]},
        format!("{MODULE}.lora_down.weight"):
            {"dtype": "F16", "shape": [4, 320], "data_offsets": [2, 2 + MATRIX_BYTES]},
        format!("{MODULE}.lora_up.weight"):
            {"dtype": "F16", "shape": [320, 4], "data_offsets": [2 + MATRIX_BYTES, DATA_BYTES]}
    });
    let mut header = header.to_string();
    // Trainers align the data to eight bytes with blanks.
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut bytes = Vec::with_capacity(8 + header.len() + DATA_BYTES);
    bytes.extend((header.len() as u64).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + DATA_BYTES, fill);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use atelier_domain::safetensors::{HeaderReader, lora_facts};

    #[test]
    fn the_graphs_are_graphs() {
        assert_eq!(
            a_graph().parse().map(|graph| graph.to_json()),
            Ok(a_graph())
        );
        assert!(a_graph_with_lora("a.safetensors").parse().is_ok());
    }

    #[test]
    fn the_lora_file_is_one_by_the_rules_of_the_domain() {
        let bytes = safetensors_bytes(1);
        let mut reader = HeaderReader::new();
        reader.feed(&bytes).unwrap();

        let header = reader.finish(bytes.len() as u64).unwrap();

        let facts = lora_facts(&header);
        assert!(facts.base_model.is_some(), "{facts:?}");
        assert_eq!(
            facts.trigger_words.first().map(String::as_str),
            Some("trigger_word")
        );
        assert_ne!(bytes, safetensors_bytes(2));
    }
}
