//! Reading files: `/view` and `/view_metadata` (`reference/comfyui/PROTOCOL.md` section 2).

use std::fs::Metadata;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::reply;
use super::request::Parameters;
use crate::instance::Instance;
use crate::output::normalize;
use crate::picture::{decode_png, encode_jpeg, encode_png};

/// Metadata of a longer header is not shown.
const MAX_SHOWN_HEADER_BYTES: u64 = 1024 * 1024;

/// `GET /view`.
pub(super) fn show(instance: &Instance, parameters: &Parameters, headers: &HeaderMap) -> Response {
    let (path, name) = match locate(&instance.options.base_dir, parameters) {
        Ok(located) => located,
        Err(status) => return reply::empty(status),
    };
    let (Ok(content), Ok(metadata)) = (std::fs::read(&path), std::fs::metadata(&path)) else {
        return reply::empty(StatusCode::NOT_FOUND);
    };
    if parameters.get("preview").is_some() || matches!(parameters.get("channel"), Some("rgb" | "a"))
    {
        return converted(&content, &name, parameters);
    }
    let tag = entity_tag(&metadata);
    let mut answer = describe(instance, &name, &tag, &metadata);
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let known = |tags: &str| tags == "*" || tags.split(',').any(|known| known.trim() == tag);
    if text(header::IF_NONE_MATCH).is_some_and(known) {
        return reply::bytes(StatusCode::NOT_MODIFIED, answer, Vec::new());
    }
    add(&mut answer, header::ACCEPT_RANGES, "bytes");
    let whole = content.len();
    let (status, range, body) = match Part::read(text(header::RANGE), whole) {
        Part::Whole => (StatusCode::OK, None, content),
        Part::Bytes(first, last) => {
            let part = content.get(first..=last).unwrap_or_default().to_vec();
            (
                StatusCode::PARTIAL_CONTENT,
                Some(format!("bytes {first}-{last}/{whole}")),
                part,
            )
        }
        Part::Outside => (
            StatusCode::RANGE_NOT_SATISFIABLE,
            Some(format!("bytes */{whole}")),
            Vec::new(),
        ),
    };
    if let Some(range) = range {
        add(&mut answer, header::CONTENT_RANGE, &range);
    }
    reply::bytes(status, answer, body)
}

/// The headers that every answer about a file has.
fn describe(instance: &Instance, name: &str, tag: &str, metadata: &Metadata) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if instance.options.version.is_current() {
        add(&mut headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    }
    add(
        &mut headers,
        header::CONTENT_DISPOSITION,
        &disposition(name),
    );
    add(&mut headers, header::CONTENT_TYPE, content_type(name));
    add(&mut headers, header::ETAG, tag);
    add(
        &mut headers,
        header::LAST_MODIFIED,
        &http_date(metadata.modified().unwrap_or(UNIX_EPOCH)),
    );
    headers
}

/// Adds a header, unless its value cannot be one.
fn add(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// The file that is asked for, and its name; or the status of the refusal.
fn locate(base_dir: &Path, parameters: &Parameters) -> Result<(PathBuf, String), StatusCode> {
    let filename = parameters.get("filename").ok_or(StatusCode::NOT_FOUND)?;
    let annotated = ["input", "output", "temp"].into_iter().find_map(|folder| {
        filename
            .strip_suffix(folder_annotation(folder))
            .map(|filename| (filename, folder))
    });
    let (filename, folder) =
        annotated.unwrap_or((filename, parameters.get("type").unwrap_or("output")));
    if filename.is_empty() || filename.starts_with('/') || filename.contains("..") {
        return Err(StatusCode::BAD_REQUEST);
    }
    if !["input", "output", "temp"].contains(&folder) {
        return Err(StatusCode::BAD_REQUEST);
    }
    let subfolder = normalize(parameters.get("subfolder").unwrap_or_default());
    if subfolder.starts_with('/') || subfolder == ".." || subfolder.starts_with("../") {
        return Err(StatusCode::FORBIDDEN);
    }
    let name = filename.rsplit('/').next().unwrap_or(filename);
    let path = base_dir.join(folder).join(subfolder).join(name);
    if path.is_file() {
        Ok((path, name.to_owned()))
    } else {
        Err(StatusCode::NOT_FOUND)
    }
}

fn folder_annotation(folder: &str) -> &'static str {
    match folder {
        "input" => " [input]",
        "output" => " [output]",
        _ => " [temp]",
    }
}

/// A re-encoded picture: `preview=jpeg` becomes JPEG, every other preview and the channels become PNG.
fn converted(content: &[u8], name: &str, parameters: &Parameters) -> Response {
    let Ok(decoded) = decode_png(content) else {
        return reply::crash();
    };
    let (width, height) = (decoded.width, decoded.height);
    let pixels = match parameters.get("channel") {
        Some("a") => decoded
            .alpha
            .iter()
            .flat_map(|opacity| [*opacity; 3])
            .collect(),
        _ => decoded.rgb,
    };
    let wants_jpeg = parameters
        .get("preview")
        .is_some_and(|preview| preview.starts_with("jpeg"));
    let (kind, file) = if wants_jpeg {
        ("image/jpeg", encode_jpeg(&pixels, width, height))
    } else {
        ("image/png", encode_png(&pixels, width, height, &[]).ok())
    };
    let Some(file) = file else {
        return reply::crash();
    };
    let mut headers = HeaderMap::new();
    add(
        &mut headers,
        header::CONTENT_DISPOSITION,
        &disposition(name),
    );
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    reply::bytes(StatusCode::OK, headers, file)
}

/// `GET /view_metadata/{folder}?filename=`: the `__metadata__` of a safetensors file.
///
/// Any file below the folder is looked at, listed or not; a way out of it leads back in. Only the header is read, so that
/// a file without its tensors has metadata, too. A header that is cut or no JSON makes the real server crash.
pub(super) fn metadata(instance: &Instance, folder: &str, parameters: &Parameters) -> Response {
    let file = parameters
        .get("filename")
        .filter(|name| name.ends_with(".safetensors"))
        .map(|name| normalize(&format!("/{name}")))
        .and_then(|name| instance.models.path(folder, name.trim_start_matches('/')))
        .and_then(|path| std::fs::File::open(path).ok());
    let header = match file.map(read_header) {
        Some(Ok(Some(header))) => header,
        Some(Err(_cut)) => return reply::crash(),
        Some(Ok(None)) | None => return reply::empty(StatusCode::NOT_FOUND),
    };
    match serde_json::from_slice::<Value>(&header) {
        Ok(header) => match header.get("__metadata__") {
            Some(metadata) => reply::json(metadata),
            None => reply::empty(StatusCode::NOT_FOUND),
        },
        Err(_no_json) => reply::crash(),
    }
}

/// The header of a safetensors file; `None` if it is longer than the server wants to read.
fn read_header(mut file: std::fs::File) -> std::io::Result<Option<Vec<u8>>> {
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_SHOWN_HEADER_BYTES {
        return Ok(None);
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header)?;
    Ok(Some(header))
}

/// Modification time in nanoseconds and size, both hexadecimal.
fn entity_tag(metadata: &Metadata) -> String {
    let modified = metadata
        .modified()
        .unwrap_or(UNIX_EPOCH)
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!("\"{:x}-{:x}\"", modified.as_nanos(), metadata.len())
}

fn http_date(time: SystemTime) -> String {
    DateTime::<Utc>::from(time)
        .format("%a, %d %b %Y %H:%M:%S GMT")
        .to_string()
}

fn disposition(name: &str) -> String {
    format!("filename=\"{}\"", name.replace('"', "%22"))
}

/// The type by extension. What a browser could execute is never served as such.
fn content_type(name: &str) -> &'static str {
    match name
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase())
        .as_deref()
    {
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("webp") => "image/webp",
        Some("gif") => "image/gif",
        Some("txt") => "text/plain",
        Some("json") => "application/json",
        Some("mp4") => "video/mp4",
        Some("webm") => "video/webm",
        _ => "application/octet-stream",
    }
}

/// What a `Range` header asks for.
#[derive(Debug, Eq, PartialEq)]
enum Part {
    /// Everything: there is no header, or none that can be read.
    Whole,
    /// First and last byte.
    Bytes(usize, usize),
    /// Nothing that the file has.
    Outside,
}

impl Part {
    fn read(range: Option<&str>, length: usize) -> Self {
        let bounds = range.and_then(|range| range.strip_prefix("bytes="));
        let Some((first, last)) = bounds.and_then(|bounds| bounds.split_once('-')) else {
            return Self::Whole;
        };
        let Some(end) = length.checked_sub(1) else {
            return Self::Outside;
        };
        match (first.parse::<usize>(), last.parse::<usize>()) {
            (Ok(first), _) if first > end => Self::Outside,
            (Ok(first), Ok(last)) if first <= last => Self::Bytes(first, last.min(end)),
            (Ok(first), Err(_)) if last.is_empty() => Self::Bytes(first, end),
            (Err(_), Ok(0)) if first.is_empty() => Self::Outside,
            (Err(_), Ok(wanted)) if first.is_empty() => {
                Self::Bytes(length.saturating_sub(wanted), end)
            }
            _ => Self::Whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Part;

    #[test]
    fn ranges_are_cut_to_the_file() {
        assert_eq!(Part::read(Some("bytes=0-9"), 81), Part::Bytes(0, 9));
        assert_eq!(Part::read(Some("bytes=70-"), 81), Part::Bytes(70, 80));
        assert_eq!(Part::read(Some("bytes=-5"), 81), Part::Bytes(76, 80));
        assert_eq!(Part::read(Some("bytes=81-"), 81), Part::Outside);
        assert_eq!(Part::read(Some("lines=1-2"), 81), Part::Whole);
        assert_eq!(Part::read(None, 81), Part::Whole);
    }
}
