//! What the server tells about itself: version, node classes, models (`reference/comfyui/PROTOCOL.md` section 2).

use std::time::UNIX_EPOCH;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::reply;
use crate::instance::Instance;
use crate::json::Ordered;

/// Memory that the pretended machine has, in bytes.
const RAM_BYTES: u64 = 25_276_510_208;

/// `GET /system_stats`.
pub(super) fn system_stats(instance: &Instance) -> Response {
    let version = instance.options.version;
    let packages = [
        ("comfyui-frontend-package", "1.49.6"),
        ("comfyui-workflow-templates", "0.11.44"),
        ("comfyui-embedded-docs", "0.5.10"),
    ];
    let mut system = json!({
        "os": if version.is_current() { "linux" } else { "posix" },
        "ram_total": RAM_BYTES,
        "ram_free": RAM_BYTES,
        "comfyui_version": version.number(),
        "required_frontend_version": if version.is_current() { "1.49.6" } else { "1.27.10" },
        "installed_templates_version": if version.is_current() { "0.11.44" } else { "0.1.95" },
        "required_templates_version": if version.is_current() { "0.11.44" } else { "0.1.95" },
        "python_version": "3.11.7 (simulated)",
        "pytorch_version": "2.8.0+cpu",
        "embedded_python": false,
        "argv": ["main.py", "--cpu"],
    });
    if version.is_current()
        && let Some(members) = system.as_object_mut()
    {
        let packages = packages.map(
            |(name, version)| json!({"name": name, "installed": version, "required": version}),
        );
        members.insert("comfy_package_versions".to_owned(), json!(packages));
        members.insert("deploy_environment".to_owned(), json!("local-git"));
    }
    let device = json!({
        "name": "cpu",
        "type": "cpu",
        "index": null,
        "vram_total": RAM_BYTES,
        "vram_free": RAM_BYTES,
        "torch_vram_total": RAM_BYTES,
        "torch_vram_free": RAM_BYTES,
    });
    reply::json(&json!({"system": system, "devices": [device]}))
}

/// `GET /object_info`.
pub(super) fn all_classes(instance: &Instance) -> Response {
    let classes = instance.catalogue.all().map(|class| {
        let definition = &class.definition;
        (
            definition.class_type.to_owned(),
            definition.object_info(instance.options.version, |source| instance.choices(source)),
        )
    });
    reply::json(&Ordered(classes.collect()))
}

/// `GET /object_info/{class}`: `{}` for an unknown class.
pub(super) fn one_class(instance: &Instance, class_type: &str) -> Response {
    let class = instance.catalogue.get(class_type).into_iter().map(|class| {
        let info = class
            .definition
            .object_info(instance.options.version, |source| instance.choices(source));
        (class_type.to_owned(), info)
    });
    reply::json(&Ordered(class.collect()))
}

/// `GET /models/{folder}`.
pub(super) fn models(instance: &Instance, folder: &str) -> Response {
    match instance.models.list(folder) {
        Some(names) => reply::json(&names),
        None => reply::empty(StatusCode::NOT_FOUND),
    }
}

/// `GET /experiment/models/{folder}`: with size and time, without hidden files.
pub(super) fn models_with_details(instance: &Instance, folder: &str) -> Response {
    let Some(names) = instance.models.list(folder) else {
        return reply::empty(StatusCode::NOT_FOUND);
    };
    let visible = names
        .iter()
        .filter(|name| !name.split('/').any(|segment| segment.starts_with('.')));
    let described = visible.filter_map(|name| {
        let (path_index, metadata) = instance.models.metadata(folder, name)?;
        let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(json!({"name": name, "pathIndex": path_index, "modified": modified.as_secs_f64(), "created": modified.as_secs_f64(), "size": metadata.len()}))
    });
    reply::json(&described.collect::<Vec<Value>>())
}

/// `GET /embeddings`: names without extension.
pub(super) fn embeddings(instance: &Instance) -> Response {
    let names = instance.models.list("embeddings").unwrap_or_default();
    let names: Vec<&str> = names
        .iter()
        .map(|name| {
            name.rsplit_once('.')
                .map_or(name.as_str(), |(stem, _)| stem)
        })
        .collect();
    reply::json(&names)
}

/// `GET /users`.
pub(super) fn users() -> Response {
    let mut answer = Map::new();
    answer.insert("storage".to_owned(), json!("server"));
    answer.insert("migrated".to_owned(), json!(false));
    reply::json(&answer)
}
