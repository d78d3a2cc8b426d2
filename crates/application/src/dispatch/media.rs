//! What kind of file an output is, judged by its first bytes.

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
        let (content_type, dimensions) = if let Some((content_type, dimensions)) = picture(head) {
            (content_type.to_owned(), dimensions)
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

fn picture(head: &[u8]) -> Option<(&'static str, Option<[u32; 2]>)> {
    if head.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Some(("image/png", png(head)));
    }
    if head.starts_with(b"\xff\xd8\xff") {
        return Some(("image/jpeg", jpeg(head)));
    }
    if head.starts_with(b"GIF87a") || head.starts_with(b"GIF89a") {
        return Some(("image/gif", gif(head)));
    }
    if head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP") {
        return Some(("image/webp", webp(head)));
    }
    None
}

fn png(head: &[u8]) -> Option<[u32; 2]> {
    let side = |at| Some(u32::from_be_bytes(bytes(head, at)?));
    (head.get(12..16)? == b"IHDR").then_some(())?;
    Some([side(16)?, side(20)?])
}

fn gif(head: &[u8]) -> Option<[u32; 2]> {
    let side = |at| Some(u32::from(u16::from_le_bytes(bytes(head, at)?)));
    Some([side(6)?, side(8)?])
}

fn webp(head: &[u8]) -> Option<[u32; 2]> {
    match head.get(12..16)? {
        b"VP8X" => {
            let side = |at| {
                let [low, middle, high] = bytes(head, at)?;
                Some(u32::from_le_bytes([low, middle, high, 0]) + 1)
            };
            Some([side(24)?, side(27)?])
        }
        b"VP8L" => {
            let packed = u32::from_le_bytes(bytes(head, 21)?);
            Some([(packed & 0x3fff) + 1, (packed >> 14 & 0x3fff) + 1])
        }
        b"VP8 " => {
            let side = |at| Some(u32::from(u16::from_le_bytes(bytes(head, at)?) & 0x3fff));
            Some([side(26)?, side(28)?])
        }
        _ => None,
    }
}

/// Walks the segments up to the frame header, which tells height before width.
fn jpeg(head: &[u8]) -> Option<[u32; 2]> {
    let mut at = 2;
    loop {
        let [mark, kind] = bytes(head, at)?;
        if mark != 0xff {
            return None;
        }
        match kind {
            // Padding, and marks without a length.
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            // C4, C8 and CC are tables, not frames.
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                let side = |at| Some(u32::from(u16::from_be_bytes(bytes(head, at)?)));
                return Some([side(at + 7)?, side(at + 5)?]);
            }
            _ => at += 2 + usize::from(u16::from_be_bytes(bytes(head, at + 2)?)),
        }
    }
}

fn bytes<const N: usize>(head: &[u8], at: usize) -> Option<[u8; N]> {
    head.get(at..)?.first_chunk().copied()
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

    fn dimensions(head: &[u8]) -> Option<[u32; 2]> {
        Media::of(head, None, "x").dimensions
    }

    #[test]
    fn pictures_tell_their_size() {
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        png.extend([0, 0, 2, 0, 0, 0, 1, 0]);
        assert_eq!(dimensions(&png), Some([512, 256]));

        assert_eq!(dimensions(b"GIF89a\x10\0\x20\0"), Some([16, 32]));

        let mut jpeg = b"\xff\xd8\xff\xe0\0\x04ab".to_vec();
        jpeg.extend(b"\xff\xc2\0\x11\x08\0\x40\0\x80");
        assert_eq!(dimensions(&jpeg), Some([128, 64]));

        let mut webp = b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0".to_vec();
        webp.extend([0xff, 1, 0, 0x7f, 0, 0]);
        assert_eq!(dimensions(&webp), Some([512, 128]));
    }

    #[test]
    fn a_picture_that_is_cut_short_has_no_size() {
        for head in [
            &b"\x89PNG\r\n\x1a\n"[..],
            b"\xff\xd8\xff",
            b"\xff\xd8\xff\xe0\xff\xff",
            b"GIF89a",
            b"RIFF\0\0\0\0WEBP",
        ] {
            assert_eq!(dimensions(head), None);
        }
    }

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
