//! A file's metadata: `reference/platform/PROTOCOLS.md` section 4.3.

use atelier_domain::digest::Sha256Digest;
use atelier_domain::lora::LoraSource;
use atelier_domain::ports::{RemoteError, RemoteFile, RemoteToken};
use serde::Deserialize;
use thiserror::Error;

use crate::reference::{FileReference, is_id, is_resource_key};
use crate::requests::Requests;

/// Without this list, next to nothing is told.
const FIELDS: &str = "id,name,size,md5Checksum,sha256Checksum,mimeType,trashed,resourceKey,headRevisionId,capabilities/canDownload,shortcutDetails";

const SHORTCUT: &str = "application/vnd.google-apps.shortcut";
const FOLDER: &str = "application/vnd.google-apps.folder";
const NATIVE: &str = "application/vnd.google-apps.";

#[derive(Debug, Error)]
#[error("the metadata of the file make no sense: {0}")]
struct Nonsense(&'static str);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FileResource {
    id: String,
    name: Option<String>,
    size: Option<Size>,
    md5_checksum: Option<String>,
    sha256_checksum: Option<String>,
    mime_type: String,
    #[serde(default)]
    trashed: bool,
    resource_key: Option<String>,
    head_revision_id: Option<String>,
    capabilities: Option<Capabilities>,
    shortcut_details: Option<Target>,
}

/// Drive writes it as a string.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Size {
    Text(String),
    Number(u64),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Capabilities {
    can_download: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    target_id: Option<String>,
    target_resource_key: Option<String>,
}

impl Requests {
    /// Reads a file's metadata, behind a shortcut if it is one.
    pub(crate) async fn file(
        &self,
        reference: FileReference,
        lent: Option<&RemoteToken>,
    ) -> Result<RemoteFile, RemoteError> {
        let found = self.resource(&reference, lent).await?;
        let Some(target) = found.target()? else {
            return found.into_file(reference);
        };
        let behind = self
            .resource(&target, lent)
            .await
            .map_err(behind_a_shortcut)?;
        if behind.mime_type == SHORTCUT {
            return refused("this shortcut leads to another shortcut: give the link of the file");
        }
        behind.into_file(target)
    }

    async fn resource(
        &self,
        reference: &FileReference,
        lent: Option<&RemoteToken>,
    ) -> Result<FileResource, RemoteError> {
        let body = self.attempts(lent)?.body(reference, FIELDS).await?;
        let resource: FileResource =
            serde_json::from_slice(&body).map_err(|_detail| nonsense("they are not in form"))?;
        if resource.id != reference.id {
            return Err(nonsense("they are another file's"));
        }
        Ok(resource)
    }
}

impl FileResource {
    fn target(&self) -> Result<Option<FileReference>, RemoteError> {
        if self.mime_type != SHORTCUT {
            return Ok(None);
        }
        if self.trashed {
            return refused("this shortcut lies in the trash: give the link of the file");
        }
        let details = self.shortcut_details.as_ref();
        let id = details
            .and_then(|details| details.target_id.clone())
            .filter(|id| is_id(id))
            .ok_or_else(|| nonsense("the shortcut leads nowhere"))?;
        let resource_key = details
            .and_then(|details| details.target_resource_key.clone())
            .filter(|key| is_resource_key(key));
        Ok(Some(FileReference { id, resource_key }))
    }

    fn into_file(self, reference: FileReference) -> Result<RemoteFile, RemoteError> {
        self.can_be_imported()?;
        let md5 = self.md5_checksum.map(|text| md5(&text)).transpose()?;
        let sha256 = self.sha256_checksum.map(|text| sha256(&text)).transpose()?;
        let own_key = self.resource_key.filter(|key| is_resource_key(key));
        Ok(RemoteFile {
            source: LoraSource::GoogleDrive {
                file_id: reference.id,
            },
            resource_key: reference.resource_key.or(own_key),
            name: self.name.filter(|name| !name.trim().is_empty()),
            size_bytes: self.size.map(Size::bytes).transpose()?,
            revision: self.head_revision_id.or_else(|| md5.clone()),
            md5,
            sha256,
        })
    }

    fn can_be_imported(&self) -> Result<(), RemoteError> {
        if self.trashed {
            return refused("this file lies in the trash: its owner must restore it first");
        }
        if self.mime_type == FOLDER {
            return refused("this is a folder: open it and give the link of one file in it");
        }
        if self.mime_type.starts_with(NATIVE) {
            return refused(
                "this is a document of Google's own, not a file with bytes: give the link of a model file",
            );
        }
        if self.mime_type == "text/html" {
            return refused(
                "this is a web page, not a model file: give the link of the file itself",
            );
        }
        let can_download = self
            .capabilities
            .as_ref()
            .and_then(|able| able.can_download);
        if can_download == Some(false) {
            return refused(
                "the owner of this file does not let others download it: ask them to allow downloads for viewers",
            );
        }
        Ok(())
    }
}

impl Size {
    fn bytes(self) -> Result<u64, RemoteError> {
        match self {
            Self::Number(bytes) => Ok(bytes),
            Self::Text(text) => text
                .parse()
                .map_err(|_detail| nonsense("the size is no number")),
        }
    }
}

fn md5(text: &str) -> Result<String, RemoteError> {
    let is_md5 = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_md5
        .then(|| text.to_ascii_lowercase())
        .ok_or_else(|| nonsense("the MD5 digest is none"))
}

fn sha256(text: &str) -> Result<Sha256Digest, RemoteError> {
    text.parse()
        .map_err(|_detail| nonsense("the SHA-256 digest is none"))
}

fn behind_a_shortcut(error: RemoteError) -> RemoteError {
    match error {
        RemoteError::NotFound(words) => {
            RemoteError::NotFound(format!("behind this shortcut, {words}"))
        }
        other => other,
    }
}

fn refused<T>(words: &str) -> Result<T, RemoteError> {
    Err(RemoteError::Refused(words.to_owned()))
}

fn nonsense(words: &'static str) -> RemoteError {
    RemoteError::Backend(Box::new(Nonsense(words)))
}
