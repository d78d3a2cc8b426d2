use serde_json::{Map, Value, json};

use super::content::Content;

const SHORTCUT: &str = "application/vnd.google-apps.shortcut";
const FOLDER: &str = "application/vnd.google-apps.folder";
const DOCUMENT: &str = "application/vnd.google-apps.document";

/// Content up to this size is digested when it is put; more is not, unless
/// [`DriveFile::digested`] asks for it.
const DIGESTED_BYTES: u64 = 64 * 1024 * 1024;

/// A file on the double, with what is told of it. Change the fields for a file
/// of which less, or something wrong, is told.
#[derive(Clone, Debug)]
pub struct DriveFile {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its MIME type.
    pub mime_type: String,
    /// Its bytes; `None` for what is no file with bytes.
    pub content: Option<Content>,
    /// Whether its size is told.
    pub tells_size: bool,
    /// The MD5 digest that is told.
    pub md5: Option<String>,
    /// The SHA-256 digest that is told.
    pub sha256: Option<String>,
    /// The revision that is told.
    pub revision: Option<String>,
    /// Whether it lies in the trash.
    pub trashed: bool,
    /// Whether readers may download it.
    pub can_download: bool,
    /// The key that every request for it must carry.
    pub resource_key: Option<String>,
    /// The shared drive that it lies on: such a file is not found by those who
    /// do not say that they know of shared drives.
    pub drive_id: Option<String>,
    /// Where a shortcut leads: an id, and the key that it wants.
    pub target: Option<(String, Option<String>)>,
    /// The access tokens that it shows itself to; `None` for all.
    pub readers: Option<Vec<String>>,
}

impl DriveFile {
    /// A file with bytes. Its digests are told unless it has more than 64 MiB.
    #[must_use]
    pub fn blob(id: &str, name: &str, content: Content) -> Self {
        let small = content.size_bytes() <= DIGESTED_BYTES;
        let file = Self {
            content: Some(content),
            tells_size: true,
            revision: Some("revision-0".to_owned()),
            ..Self::bare(id, name, "application/octet-stream")
        };
        if small { file.digested() } else { file }
    }

    /// A shortcut to another file.
    #[must_use]
    pub fn shortcut(id: &str, target: &str) -> Self {
        Self {
            target: Some((target.to_owned(), None)),
            can_download: false,
            ..Self::bare(id, "shortcut", SHORTCUT)
        }
    }

    /// A folder.
    #[must_use]
    pub fn folder(id: &str) -> Self {
        Self::bare(id, "folder", FOLDER)
    }

    /// A document of Google's own, which has no bytes.
    #[must_use]
    pub fn document(id: &str) -> Self {
        Self::bare(id, "Notes", DOCUMENT)
    }

    /// Digests the content, however large it is.
    #[must_use]
    pub fn digested(mut self) -> Self {
        self.md5 = self.content.as_ref().map(Content::md5);
        self.sha256 = self.content.as_ref().map(Content::sha256);
        self
    }

    fn bare(id: &str, name: &str, mime_type: &str) -> Self {
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            mime_type: mime_type.to_owned(),
            content: None,
            tells_size: false,
            md5: None,
            sha256: None,
            revision: None,
            trashed: false,
            can_download: true,
            resource_key: None,
            drive_id: None,
            target: None,
            readers: None,
        }
    }

    /// Puts other bytes into it; digests that were told stay true.
    pub(super) fn change(&mut self, content: Content, revision: String) {
        self.md5 = self.md5.take().map(|_old| content.md5());
        self.sha256 = self.sha256.take().map(|_old| content.sha256());
        self.revision = self.revision.take().map(|_old| revision);
        self.content = Some(content);
    }

    /// What `files.get` tells, the way `fields` chooses.
    pub(super) fn metadata(&self, fields: Option<&str>) -> Value {
        let mut chosen = Map::new();
        let all = self.everything();
        for field in fields.unwrap_or("kind,id,name,mimeType").split(',') {
            let (name, part) = field
                .split_once('/')
                .map_or((field, None), |(name, part)| (name, Some(part)));
            let Some(value) = all.get(name) else { continue };
            let told = match part {
                Some(part) => json!({ part: value.get(part) }),
                None => value.clone(),
            };
            chosen.insert(name.to_owned(), told);
        }
        chosen.into()
    }

    fn everything(&self) -> Map<String, Value> {
        let size = self
            .content
            .as_ref()
            .filter(|_content| self.tells_size)
            .map(|content| content.size_bytes().to_string());
        let target = self.target.as_ref().map(|(id, key)| {
            let mut details = Map::new();
            details.insert("targetId".to_owned(), json!(id));
            details.insert(
                "targetMimeType".to_owned(),
                json!("application/octet-stream"),
            );
            details.extend(
                key.iter()
                    .map(|key| ("targetResourceKey".to_owned(), json!(key))),
            );
            details
        });
        [
            ("kind", Some(json!("drive#file"))),
            ("id", Some(json!(self.id))),
            ("name", Some(json!(self.name))),
            ("mimeType", Some(json!(self.mime_type))),
            ("size", size.map(|size| json!(size))),
            ("md5Checksum", self.md5.as_ref().map(|md5| json!(md5))),
            (
                "sha256Checksum",
                self.sha256.as_ref().map(|sha256| json!(sha256)),
            ),
            ("trashed", Some(json!(self.trashed))),
            (
                "resourceKey",
                self.resource_key.as_ref().map(|key| json!(key)),
            ),
            ("driveId", self.drive_id.as_ref().map(|drive| json!(drive))),
            (
                "headRevisionId",
                self.revision.as_ref().map(|revision| json!(revision)),
            ),
            (
                "capabilities",
                Some(json!({"canDownload": self.can_download, "canEdit": false})),
            ),
            ("shortcutDetails", target.map(Value::from)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
    }
}
