//! File names that servers tell (RFC 6266, RFC 8187).

use percent_encoding::{percent_decode, percent_decode_str};
use url::Url;

/// The longest name that is told on.
const MAX_CHARACTERS: usize = 255;

/// The file name in a header `Content-Disposition`.
pub(crate) fn name_in_header(value: &[u8]) -> Option<String> {
    let value = text_of(value);
    let mut plain = None;
    for (name, value) in parameters(&value) {
        match name.as_str() {
            "filename*" => {
                if let Some(name) = extended(&value).as_deref().and_then(tidy) {
                    return Some(name);
                }
            }
            "filename" => plain = plain.or_else(|| tidy(&value)),
            _ => {}
        }
    }
    plain
}

/// The last segment of an address's path, if it looks like a file's name.
pub(crate) fn name_in_path(url: &Url) -> Option<String> {
    let segment = url.path_segments()?.next_back()?;
    let name = tidy(&percent_decode_str(segment).decode_utf8_lossy())?;
    name.contains('.').then_some(name)
}

/// Many send UTF-8, which the rules do not know.
fn text_of(value: &[u8]) -> String {
    std::str::from_utf8(value).map_or_else(
        |_latin| value.iter().copied().map(char::from).collect(),
        str::to_owned,
    )
}

/// The parameters after the kind, names in lower case.
fn parameters(value: &str) -> Vec<(String, String)> {
    let mut pieces = vec![String::new()];
    let mut quoted = false;
    let mut escaped = false;
    for character in value.chars() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => {
                escaped = true;
                continue;
            }
            '"' => {
                quoted = !quoted;
                continue;
            }
            ';' if !quoted => {
                pieces.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push(character);
        }
    }
    pieces
        .iter()
        .filter_map(|piece| piece.split_once('='))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect()
}

/// `UTF-8'en'a%20b` as `a b`.
fn extended(value: &str) -> Option<String> {
    let mut parts = value.splitn(3, '\'');
    let (charset, _language, text) = (parts.next()?, parts.next()?, parts.next()?);
    let bytes = percent_decode(text.as_bytes());
    if charset.eq_ignore_ascii_case("utf-8") {
        bytes.decode_utf8().ok().map(String::from)
    } else if charset.eq_ignore_ascii_case("iso-8859-1") {
        Some(bytes.map(char::from).collect())
    } else {
        None
    }
}

/// A name without folders, control characters and blanks around it.
fn tidy(name: &str) -> Option<String> {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = name
        .chars()
        .filter(|character| !character.is_control())
        .take(MAX_CHARACTERS)
        .collect();
    let name = name.trim();
    (!matches!(name, "" | "." | "..")).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert, proptest};

    use super::*;

    proptest! {
        #[test]
        fn whatever_a_header_holds_a_name_is_one_segment(
            start in prop::sample::select(vec!["", "a; filename=", "a; filename*=UTF-8''"]),
            rest in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let name = name_in_header(&[start.as_bytes(), &rest[..]].concat());
            if let Some(name) = name {
                prop_assert!(!name.contains(['/', '\\', '\0', '\n']), "{name:?}");
                prop_assert!(!matches!(name.as_str(), "" | "." | ".."));
            }
        }
    }

    #[test]
    fn names_are_read_in_every_form() {
        for (header, name) in [
            ("attachment; filename=a.safetensors", Some("a.safetensors")),
            (
                "attachment; filename=\"a; b.safetensors\"",
                Some("a; b.safetensors"),
            ),
            (
                r#"attachment; filename="a \"b\".safetensors""#,
                Some("a \"b\".safetensors"),
            ),
            (
                "inline; filename*=UTF-8''%E2%82%AC%20rates.safetensors; filename=\"x\"",
                Some("€ rates.safetensors"),
            ),
            (
                "inline; filename=\"x\"; filename*=utf-8'en'b.safetensors",
                Some("b.safetensors"),
            ),
            (
                "inline; FileName* = ISO-8859-1''%FC.safetensors",
                Some("ü.safetensors"),
            ),
            ("inline; filename=\"ü.safetensors\"", Some("ü.safetensors")),
            (
                "inline; filename*=UTF-8''%FF; filename=\"x.safetensors\"",
                Some("x.safetensors"),
            ),
            (
                "inline; filename*=KOI8-R''a; filename=b.safetensors",
                Some("b.safetensors"),
            ),
            (
                "attachment; filename=\"../../etc/a.safetensors\"",
                Some("a.safetensors"),
            ),
            (
                r#"attachment; filename="C:\\loras\\a.safetensors""#,
                Some("a.safetensors"),
            ),
            (
                "attachment; filename*=UTF-8''..%2F..%2Fa.safetensors",
                Some("a.safetensors"),
            ),
            (
                "attachment; filename*=UTF-8''a%00%0A.safetensors",
                Some("a.safetensors"),
            ),
            ("attachment; filename=\"..\"", None),
            ("attachment; filename=\"a/\"", None),
            ("attachment; filename=\"", None),
            ("attachment", None),
            ("", None),
        ] {
            assert_eq!(
                name_in_header(header.as_bytes()).as_deref(),
                name,
                "{header}"
            );
        }
    }

    #[test]
    fn bytes_that_are_no_utf_8_are_latin() {
        assert_eq!(
            name_in_header(b"inline; filename=\"\xfc.safetensors\"").as_deref(),
            Some("ü.safetensors")
        );
    }

    #[test]
    fn a_long_name_is_cut() {
        let header = format!("inline; filename={}", "ü".repeat(1_000));

        assert_eq!(
            name_in_header(header.as_bytes()).unwrap().chars().count(),
            255
        );
    }

    #[test]
    fn a_path_gives_the_name_if_it_ends_in_one() {
        for (url, name) in [
            (
                "https://h.test/a/b%20c.safetensors?x=1",
                Some("b c.safetensors"),
            ),
            ("https://h.test/a/..%2Fb.safetensors", Some("b.safetensors")),
            ("https://h.test/api/download/models/12", None),
            ("https://h.test/a/", None),
            ("https://h.test", None),
        ] {
            assert_eq!(name_in_path(&Url::parse(url).unwrap()).as_deref(), name);
        }
    }
}
