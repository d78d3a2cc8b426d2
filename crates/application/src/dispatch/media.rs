//! What kind of file an output is, judged by its first bytes.

use crate::picture::picture;

/// Bytes of a file that are looked at; a JPEG's size may come after much else.
pub(super) const HEAD_BYTES: usize = 64 * 1024;

const UNKNOWN: &str = "application/octet-stream";

/// What a file is, as far as its first bytes, its sender and its name tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Media {
    /// Never one that a browser would run, such as `text/html` or SVG.
    pub(super) content_type: String,
    /// `[width, height]` in pixels, for pictures.
    pub(super) dimensions: Option<[u32; 2]>,
}

impl Media {
    /// Believes the bytes first, then the backend, then the name.
    pub(super) fn of(head: &[u8], told: Option<&str>, filename: &str) -> Self {
        let (content_type, dimensions) = if let Some((format, dimensions)) = picture(head) {
            (format.content_type().to_owned(), dimensions)
        } else {
            let told = told.and_then(harmless);
            let content_type = told.unwrap_or_else(|| by_name(filename).to_owned());
            (content_type, None)
        };
        Self {
            content_type,
            dimensions,
        }
    }
}

/// A media type that no browser runs as a page of ours, without parameters.
fn harmless(told: &str) -> Option<String> {
    let essence = told
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let (kind, subtype) = essence.split_once('/')?;
    let is_plain = |text: &str| {
        (1..=60).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'+'))
    };
    if !is_plain(kind) || !is_plain(subtype) || subtype.contains("svg") || subtype.contains("xml") {
        return None;
    }
    let is_harmless = matches!(kind, "image" | "video" | "audio")
        || matches!(essence.as_str(), "text/plain" | "application/json");
    is_harmless.then_some(essence)
}

fn by_name(filename: &str) -> &'static str {
    let extension = filename
        .rsplit_once('.')
        .map_or("", |(_, extension)| extension);
    match extension.to_ascii_lowercase().as_str() {
        "mp4" | "m4v" => "video/mp4",
        "webm" => "video/webm",
        "mkv" => "video/x-matroska",
        "mov" => "video/quicktime",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        "flac" => "audio/flac",
        "ogg" | "opus" => "audio/ogg",
        "m4a" => "audio/mp4",
        "txt" => "text/plain",
        "json" => "application/json",
        "glb" => "model/gltf-binary",
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_browser_would_run_is_only_bytes() {
        for told in [
            "text/html",
            "image/svg+xml",
            "application/xhtml+xml",
            "text/javascript",
            "image/../x",
            "IMAGE/SVG+XML; a=b",
        ] {
            let media = Media::of(b"<script>", Some(told), "x.html");
            assert_eq!(media.content_type, UNKNOWN, "{told}");
        }
        assert_eq!(Media::of(b"", None, "drawing.svg").content_type, UNKNOWN);
    }

    #[test]
    fn the_bytes_win_over_the_backend() {
        let media = Media::of(b"GIF89a\x01\0\x01\0", Some("text/html"), "x.html");

        assert_eq!(media.content_type, "image/gif");
    }
}
