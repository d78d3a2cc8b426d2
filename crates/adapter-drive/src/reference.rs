//! What people paste when they mean a file on Drive:
//! `reference/platform/PROTOCOLS.md` section 4.6.

use atelier_domain::ports::RemoteError;
use url::Url;

const HOSTS: [&str; 4] = [
    "drive.google.com",
    "docs.google.com",
    "drive.usercontent.google.com",
    "www.googleapis.com",
];

/// A longer text is no link of Drive's.
const MAX_BYTES: usize = 2_048;

/// A file, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileReference {
    pub(crate) id: String,
    pub(crate) resource_key: Option<String>,
}

impl FileReference {
    /// Reads an id or a link.
    pub(crate) fn parse(text: &str) -> Result<Self, RemoteError> {
        let text = text.trim();
        if is_id(text) {
            return Ok(Self {
                id: text.to_owned(),
                resource_key: None,
            });
        }
        let url = link(text).ok_or_else(no_reference)?;
        let path: Vec<&str> = url
            .path_segments()
            .map(|segments| segments.filter(|segment| !segment.is_empty()).collect())
            .unwrap_or_default();
        let id = match without_account(&path).as_slice() {
            ["drive", "folders", ..] | ["folderview", ..] => return Err(folder()),
            [
                "document" | "spreadsheets" | "presentation" | "forms" | "drawings",
                ..,
            ] => {
                return Err(native());
            }
            ["file", "d", id, ..]
            | ["drive", "v2" | "v3", "files", id]
            | ["download", "drive", "v2" | "v3", "files", id] => Some((*id).to_owned()),
            ["open" | "uc" | "download"] => parameter(&url, "id"),
            _ => None,
        };
        let id = id.filter(|id| is_id(id)).ok_or_else(no_reference)?;
        let resource_key = match parameter(&url, "resourcekey") {
            Some(key) if is_resource_key(&key) => Some(key),
            Some(key) if !key.is_empty() => return Err(no_reference()),
            _ => None,
        };
        Ok(Self { id, resource_key })
    }
}

/// Whether a text has the form of Drive's ids; their lengths vary.
pub(crate) fn is_id(text: &str) -> bool {
    (10..=128).contains(&text.len()) && text.bytes().all(is_plain)
}

/// Whether a text has the form of a resource key: it stands in a header.
pub(crate) fn is_resource_key(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(is_plain)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn link(text: &str) -> Option<Url> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let url = match Url::parse(text) {
        Ok(url) => url,
        // Browsers hide the scheme, and so people copy without it.
        Err(url::ParseError::RelativeUrlWithoutBase) => {
            Url::parse(&format!("https://{text}")).ok()?
        }
        Err(_) => return None,
    };
    let is_ours = matches!(url.scheme(), "https" | "http")
        && url.host_str().is_some_and(|host| HOSTS.contains(&host))
        && url.port().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    is_ours.then_some(url)
}

/// The path without what says which of their accounts somebody is using: `u/0`
/// anywhere, and `a/{domain}` in front.
fn without_account<'path>(path: &[&'path str]) -> Vec<&'path str> {
    let path = match path {
        ["a", _domain, rest @ ..] => rest,
        all => all,
    };
    match path {
        ["u", number, rest @ ..] if is_number(number) => rest.to_vec(),
        [first, "u", number, rest @ ..] if is_number(number) => std::iter::once(*first)
            .chain(rest.iter().copied())
            .collect(),
        all => all.to_vec(),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.into_owned())
}

fn no_reference() -> RemoteError {
    RemoteError::Invalid(
        "this is no file on Google Drive: give its id, or the link that \"Copy link\" gives, such as https://drive.google.com/file/d/.../view".to_owned(),
    )
}

fn folder() -> RemoteError {
    RemoteError::Refused(
        "this link leads to a folder: open it and give the link of one file in it".to_owned(),
    )
}

fn native() -> RemoteError {
    RemoteError::Refused(
        "this link leads to a document of Google's own, not to a file with bytes: give the link of a model file".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "1AbCdEfGhIjKlMnOpQrStUvWxYz012345";

    #[test]
    fn every_form_of_a_link_names_the_file() {
        for given in [
            "{id}",
            "  {id}\n",
            "https://drive.google.com/file/d/{id}/view?usp=sharing",
            "https://drive.google.com/file/d/{id}",
            "http://drive.google.com/file/d/{id}/edit",
            "drive.google.com/file/d/{id}/view",
            "https://drive.google.com/file/u/1/d/{id}/view",
            "https://drive.google.com/a/example.org/file/d/{id}/view",
            "https://drive.google.com/open?id={id}",
            "https://drive.google.com/a/example.org/open?id={id}",
            "https://drive.google.com/uc?id={id}&export=download",
            "https://drive.google.com/u/0/uc?export=download&id={id}",
            "https://drive.usercontent.google.com/download?id={id}&export=download&confirm=t",
            "https://docs.google.com/uc?id={id}",
            "https://docs.google.com/file/d/{id}/preview",
            "https://www.googleapis.com/drive/v3/files/{id}?alt=media",
            "https://www.googleapis.com/drive/v2/files/{id}",
            "https://www.googleapis.com/download/drive/v3/files/{id}?alt=media",
            "https://DRIVE.google.com:443/file/d/{id}/view",
        ] {
            let given = given.replace("{id}", ID);
            let reference = FileReference::parse(&given).unwrap();
            assert_eq!(reference.id, ID, "{given}");
            assert_eq!(reference.resource_key, None, "{given}");
        }
    }

    #[test]
    fn a_resource_key_is_kept() {
        for name in ["resourcekey", "resourceKey"] {
            let link = format!("https://drive.google.com/file/d/{ID}/view?usp=x&{name}=0-Ab_C");
            let reference = FileReference::parse(&link).unwrap();
            assert_eq!(reference.resource_key.as_deref(), Some("0-Ab_C"));
        }
    }

    #[test]
    fn folders_and_documents_are_refused_with_the_reason() {
        for (given, word) in [
            ("https://drive.google.com/drive/folders/{id}", "folder"),
            (
                "https://drive.google.com/drive/u/2/folders/{id}?usp=x",
                "folder",
            ),
            ("https://drive.google.com/folderview?id={id}", "folder"),
            ("https://docs.google.com/document/d/{id}/edit", "document"),
            (
                "https://docs.google.com/spreadsheets/d/{id}/edit",
                "document",
            ),
            (
                "https://docs.google.com/spreadsheets/u/0/d/{id}/edit",
                "document",
            ),
            (
                "https://docs.google.com/a/example.org/presentation/d/{id}",
                "document",
            ),
            ("https://docs.google.com/forms/d/{id}/viewform", "document"),
        ] {
            let given = given.replace("{id}", ID);
            let refused = FileReference::parse(&given);
            assert!(
                matches!(&refused, Err(RemoteError::Refused(text)) if text.contains(word)),
                "{given}: {refused:?}"
            );
        }
    }

    #[test]
    fn anything_else_is_no_reference() {
        for given in [
            "",
            "short",
            "1AbCdEfGhIjK/../secret",
            "1AbCdEfGhIjK?alt=media",
            "https://evil.example/file/d/{id}/view",
            "https://drive.google.com.evil.example/file/d/{id}/view",
            "https://evil-drive.google.com/file/d/{id}/view",
            "https://drive.google.com@evil.example/file/d/{id}/view",
            "https://user:pass@drive.google.com/file/d/{id}/view",
            "https://drive.google.com:8443/file/d/{id}/view",
            "ftp://drive.google.com/file/d/{id}",
            "file:///file/d/{id}",
            "javascript:alert(1)",
            "https://drive.google.com/",
            "https://drive.google.com/open",
            "https://drive.google.com/open?id=..",
            "https://drive.google.com/file/d/a%2Fb/view",
            "https://drive.google.com/file/d/{id}/view?resourcekey=a,b/c",
            "https://www.googleapis.com/drive/v3/files/{id}/export",
        ] {
            let given = given.replace("{id}", ID);
            let refused = FileReference::parse(&given);
            assert!(matches!(refused, Err(RemoteError::Invalid(_))), "{given}");
        }
        let long = format!("https://drive.google.com/file/d/{ID}/{}", "x".repeat(3_000));
        assert!(FileReference::parse(&long).is_err());
        assert!(FileReference::parse(&"x".repeat(129)).is_err());
    }
}
