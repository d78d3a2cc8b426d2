//! What kind of picture a file is, and how large, by its first bytes alone.

use atelier_domain::input::InputFormat;

/// The format of a picture, and its width and height where these bytes tell them.
///
/// `None` for anything else.
pub(crate) fn picture(head: &[u8]) -> Option<(InputFormat, Option<[u32; 2]>)> {
    let format = format(head)?;
    let dimensions = match format {
        InputFormat::Png => png(head),
        InputFormat::Jpeg => jpeg(head),
        InputFormat::Gif => gif(head),
        InputFormat::Webp => webp(head),
    };
    Some((format, dimensions))
}

fn format(head: &[u8]) -> Option<InputFormat> {
    if head.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Some(InputFormat::Png);
    }
    if head.starts_with(b"\xff\xd8\xff") {
        return Some(InputFormat::Jpeg);
    }
    if head.starts_with(b"GIF87a") || head.starts_with(b"GIF89a") {
        return Some(InputFormat::Gif);
    }
    if head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP") {
        return Some(InputFormat::Webp);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn dimensions(head: &[u8]) -> Option<[u32; 2]> {
        picture(head).and_then(|(_, dimensions)| dimensions)
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
    fn other_files_are_no_pictures() {
        for head in [
            &b""[..],
            b"<svg xmlns=",
            b"<!DOCTYPE html>",
            b"\x80\x04\x95",
            b"PK\x03\x04",
            b"RIFF\0\0\0\0WAVE",
            b"BM\0\0",
            b"II*\0",
        ] {
            assert_eq!(picture(head), None, "{head:?}");
        }
    }
}
