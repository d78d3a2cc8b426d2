//! Prompts and model files.

use serde_json::{Value, json};

/// An empty picture of one colour, saved under a prefix.
pub(crate) fn empty_to_save(color: u32, prefix: &str) -> Value {
    json!({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": color}, "_meta": {"title": "Empty"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
    })
}

/// An SD 1.5 graph with one LoRA.
pub(crate) fn with_lora(lora_name: &str, strength: f64, seed: u64) -> Value {
    json!({
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sim-sd15.safetensors"}},
        "10": {"class_type": "LoraLoader", "inputs": {
            "model": ["4", 0], "clip": ["4", 1], "lora_name": lora_name, "strength_model": strength, "strength_clip": strength,
        }},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a photo of a cat", "clip": ["10", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "bad", "clip": ["10", 1]}},
        "3": {"class_type": "KSampler", "inputs": {
            "seed": seed, "steps": 3, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
            "model": ["10", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0],
        }},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "lora"}},
    })
}

/// A whole safetensors file with one tensor of this content.
pub(crate) fn lora_file(content: &[u8]) -> Vec<u8> {
    let header = json!({
        "__metadata__": {"note": "tiny"},
        "lora_unet.down.weight": {"dtype": "U8", "shape": [content.len()], "data_offsets": [0, content.len()]},
    });
    let header = header.to_string();
    let length = u64::try_from(header.len()).unwrap_or(u64::MAX);
    [length.to_le_bytes().as_slice(), header.as_bytes(), content].concat()
}

/// The same graph without a LoRA.
pub(crate) fn without_lora(seed: u64) -> Value {
    let mut graph = with_lora("", 0.0, seed);
    graph.as_object_mut().unwrap().remove("10");
    graph["6"]["inputs"]["clip"] = json!(["4", 1]);
    graph["7"]["inputs"]["clip"] = json!(["4", 1]);
    graph["3"]["inputs"]["model"] = json!(["4", 0]);
    graph
}

/// A sampler with this many steps: with a step delay, something that runs for a while.
pub(crate) fn long(steps: u32, seed: u64) -> Value {
    let mut graph = without_lora(seed);
    graph["3"]["inputs"]["steps"] = json!(steps);
    graph
}
