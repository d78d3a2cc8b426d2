//! `POST /upload/image`.

use std::path::Path;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest as _, Multipart, Request};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::{reply, request};
use crate::instance::Instance;
use crate::output::normalize;

/// The fields of the form.
#[derive(Debug, Default)]
struct Form {
    image: Option<(String, Bytes)>,
    kind: Option<String>,
    subfolder: String,
    overwrite: bool,
}

/// Stores a file below `input`, `temp` or `output` and answers the name it got.
pub(super) async fn image(instance: &Instance, request: Request) -> Response {
    let form = match read(instance, request).await {
        Ok(form) => form,
        Err(refusal) => return refusal,
    };
    let Some((name, content)) = form.image.as_ref().filter(|(name, _)| !name.is_empty()) else {
        return reply::empty(StatusCode::BAD_REQUEST);
    };
    let kind = form.kind.as_deref().unwrap_or("input");
    if !["input", "temp", "output"].contains(&kind) {
        return reply::crash();
    }
    let subfolder = normalize(&form.subfolder);
    let subfolder = if subfolder == "." {
        String::new()
    } else {
        subfolder
    };
    let relative = normalize(&format!("{subfolder}/./{name}"));
    let outside = |path: &str| path.starts_with('/') || path == ".." || path.starts_with("../");
    if outside(&subfolder) || outside(relative.trim_start_matches('/')) || relative.contains('\0') {
        return reply::empty(StatusCode::BAD_REQUEST);
    }
    let folder = instance.options.base_dir.join(kind).join(&subfolder);
    match store(&folder, name, content, form.overwrite) {
        Ok(name) => reply::json(&json!({"name": name, "subfolder": form.subfolder, "type": kind})),
        Err(error) => {
            tracing::warn!("an uploaded file could not be stored: {error}");
            reply::crash()
        }
    }
}

/// Writes the file under its name or, if another file has that, under `name (1).png` and so on.
fn store(folder: &Path, name: &str, content: &[u8], overwrite: bool) -> std::io::Result<String> {
    std::fs::create_dir_all(folder)?;
    let mut candidate = name.to_owned();
    if !overwrite {
        let (stem, extension) = name.rfind('.').map_or((name, ""), |dot| name.split_at(dot));
        let mut count = 0_u32;
        while folder.join(&candidate).exists() {
            if std::fs::read(folder.join(&candidate))? == content {
                return Ok(candidate);
            }
            count += 1;
            candidate = format!("{stem} ({count}){extension}");
        }
    }
    std::fs::write(folder.join(&candidate), content)?;
    Ok(candidate)
}

async fn read(instance: &Instance, request: Request) -> Result<Form, Response> {
    let (parts, body) = request.into_parts();
    let mut head = Request::new(body);
    *head.headers_mut() = parts.headers.clone();
    let bytes = request::body(instance, head).await?;
    let mut form = Form::default();
    let Ok(mut fields) =
        Multipart::from_request(Request::from_parts(parts, Body::from(bytes)), &()).await
    else {
        return Ok(form);
    };
    while let Ok(Some(field)) = fields.next_field().await {
        let (name, file_name) = (
            field.name().unwrap_or_default().to_owned(),
            field.file_name().map(str::to_owned),
        );
        let Ok(content) = field.bytes().await else {
            return Err(reply::crash());
        };
        let text = || String::from_utf8_lossy(&content).into_owned();
        match name.as_str() {
            "image" => form.image = file_name.map(|file_name| (file_name, content.clone())),
            "type" => form.kind = Some(text()),
            "subfolder" => form.subfolder = text(),
            "overwrite" => form.overwrite = ["true", "1"].contains(&text().as_str()),
            _ => {}
        }
    }
    Ok(form)
}
