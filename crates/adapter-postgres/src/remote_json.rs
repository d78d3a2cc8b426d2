//! Files that lie somewhere else, as a transfer keeps them.

use atelier_domain::lora::LoraSource;
use atelier_domain::ports::{RemoteFile, RepoError};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::error::inconsistent;
use crate::json_text::JsonText;

/// A file's metadata as JSON. There is no credential in them.
pub(crate) fn remote_json(file: &RemoteFile) -> JsonText {
    let (file_id, url) = match &file.source {
        LoraSource::Upload => (None, None),
        LoraSource::GoogleDrive { file_id } => (Some(file_id), None),
        LoraSource::Url { url } => (None, Some(url)),
    };
    JsonText::of(&json!({
        "google_drive_file_id": file_id,
        "url": url,
        "resource_key": file.resource_key,
        "name": file.name,
        "size_bytes": file.size_bytes,
        "revision": file.revision,
        "md5": file.md5,
        "sha256": file.sha256.map(|digest| digest.to_string()),
    }))
}

/// Reads them back.
pub(crate) fn remote_file(text: &JsonText, lora: Uuid) -> Result<RemoteFile, RepoError> {
    let broken = || inconsistent("comfyui_lora_transfers", "remote", lora);
    let stored: Value = serde_json::from_str(&text.0).map_err(|_broken| broken())?;
    let word = |name| stored.get(name).and_then(Value::as_str).map(str::to_owned);
    let source = match (word("google_drive_file_id"), word("url")) {
        (Some(file_id), _) => LoraSource::GoogleDrive { file_id },
        (None, Some(url)) => LoraSource::Url { url },
        (None, None) => return Err(broken()),
    };
    Ok(RemoteFile {
        source,
        resource_key: word("resource_key"),
        name: word("name"),
        size_bytes: stored.get("size_bytes").and_then(Value::as_u64),
        revision: word("revision"),
        md5: word("md5"),
        sha256: word("sha256")
            .map(|digits| digits.parse())
            .transpose()
            .map_err(|_broken| broken())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use atelier_domain::digest::Sha256Digest;

    #[test]
    fn a_file_is_read_back_as_it_was() {
        let drive = RemoteFile {
            source: LoraSource::GoogleDrive {
                file_id: "1AbC".to_owned(),
            },
            resource_key: Some("0-key".to_owned()),
            name: Some("a \0 \"name\".safetensors".to_owned()),
            size_bytes: Some(u64::MAX),
            revision: Some("r7".to_owned()),
            md5: Some("0".repeat(32)),
            sha256: Some(Sha256Digest::new([7; 32])),
        };
        let web = RemoteFile {
            source: LoraSource::Url {
                url: "https://example.org/a?b=c#d".to_owned(),
            },
            resource_key: None,
            name: None,
            size_bytes: None,
            revision: None,
            md5: None,
            sha256: None,
        };
        for file in [drive, web] {
            let read = remote_file(&remote_json(&file), Uuid::nil());
            assert_eq!(read.unwrap(), file);
        }
    }

    #[test]
    fn what_is_no_file_is_an_inconsistent_row() {
        for text in ["{}", "[]", r#"{"url": "https://a", "sha256": "x"}"#] {
            let read = remote_file(&JsonText(text.to_owned()), Uuid::nil());
            assert!(
                matches!(read, Err(RepoError::Inconsistent { .. })),
                "{text}"
            );
        }
    }
}
