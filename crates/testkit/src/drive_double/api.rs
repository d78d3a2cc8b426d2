use serde_json::{Value, json};

use super::answer::{Answer, Ending};
use super::content::Content;
use super::fault::{Endpoint, Fault};
use super::file::DriveFile;
use super::log::DriveRequest;
use super::state::State;

/// What Drive answers to a request for a file.
pub(super) fn answer(
    state: &State,
    request: &DriveRequest,
    endpoint: Endpoint,
    fault: Option<&Fault>,
) -> Answer {
    let known = request
        .bearer
        .as_ref()
        .is_some_and(|bearer| state.access_tokens.contains(bearer));
    if !known {
        return error(401, "authError", "Invalid Credentials");
    }
    let Some(file) = visible(state, request) else {
        return error(404, "notFound", "File not found.");
    };
    match endpoint {
        Endpoint::Download => download(file, request, matches!(fault, Some(Fault::IgnoreRange))),
        Endpoint::Metadata | Endpoint::Token => {
            Answer::json(200, &file.metadata(request.parameter("fields").as_deref()))
        }
    }
}

fn visible<'state>(state: &'state State, request: &DriveRequest) -> Option<&'state DriveFile> {
    let file = state.files.get(request.file_id()?)?;
    let may_read = file.readers.as_ref().is_none_or(|readers| {
        request
            .bearer
            .as_ref()
            .is_some_and(|bearer| readers.contains(bearer))
    });
    let has_key = file.resource_key.as_ref().is_none_or(|key| {
        let wanted = format!("{}/{key}", file.id);
        let given = request.resource_keys.as_deref().unwrap_or_default();
        given.split(',').any(|pair| pair.trim() == wanted)
    });
    let reaches = file.drive_id.is_none()
        || request.parameter("supportsAllDrives").as_deref() == Some("true");
    (may_read && has_key && reaches).then_some(file)
}

fn download(file: &DriveFile, request: &DriveRequest, ignores_range: bool) -> Answer {
    let Some(content) = &file.content else {
        return error(
            403,
            "fileNotDownloadable",
            "Only files with binary content.",
        );
    };
    if !file.can_download {
        return error(403, "cannotDownloadFile", "This file cannot be downloaded.");
    }
    let size = content.size_bytes();
    let asked = request.range.as_deref().filter(|_range| !ignores_range);
    let Some(begin) = asked.and_then(first_byte) else {
        return bytes(file, content, 0, 200, Vec::new());
    };
    if begin >= size {
        return error(
            416,
            "requestedRangeNotSatisfiable",
            "Request range not satisfiable",
        );
    }
    let range = format!("bytes {begin}-{}/{size}", size - 1);
    let headers = vec![("content-range".to_owned(), range)];
    bytes(file, content, begin, 206, headers)
}

fn bytes(
    file: &DriveFile,
    content: &Content,
    begin: u64,
    status: u16,
    mut headers: Vec<(String, String)>,
) -> Answer {
    headers.push(("content-type".to_owned(), file.mime_type.clone()));
    Answer {
        status,
        headers,
        content: content.clone(),
        begin,
        ending: Ending::Well,
    }
}

/// Of `bytes=7-`: the only form that anybody sends here.
fn first_byte(range: &str) -> Option<u64> {
    range
        .strip_prefix("bytes=")?
        .strip_suffix('-')?
        .parse()
        .ok()
}

fn error(status: u16, reason: &str, message: &str) -> Answer {
    let told: Value = json!({"domain": "global", "reason": reason, "message": message});
    Answer::json(
        status,
        &json!({"error": {"code": status, "message": message, "errors": [told]}}),
    )
}
