use actix_web::http::header::HeaderMap;
use atelier_application::loras::{LoraDetails, NewUpload};
use atelier_domain::validation::{Violation, pointer_token};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::http::problem::Problem;
use crate::http::query::flag;
use crate::http::tus::UPLOAD_METADATA;

/// What a client says of an upload: the header `Upload-Metadata`, pairs of a key
/// and a value in base64.
///
/// Keys that we do not know are left alone: clients add some of their own.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    header: String,
    pairs: Vec<(String, String)>,
    violations: Vec<Violation>,
}

impl Metadata {
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(UPLOAD_METADATA);
        let mut metadata = match (values.next(), values.next()) {
            (None, _) => Self::default(),
            (Some(value), None) => match value.to_str() {
                Ok(header) => Self::parse(header),
                Err(_not_ascii) => Self::refused("must be ASCII, its values in base64"),
            },
            (Some(_), Some(_)) => Self::refused("must be there once"),
        };
        metadata.violations.dedup();
        metadata
    }

    fn refused(detail: &str) -> Self {
        Self {
            violations: vec![Violation::new("", format!("Upload-Metadata {detail}"))],
            ..Self::default()
        }
    }

    fn parse(header: &str) -> Self {
        let mut metadata = Self {
            header: header.to_owned(),
            ..Self::default()
        };
        for pair in header
            .split(',')
            .map(str::trim)
            .filter(|pair| !pair.is_empty())
        {
            let (key, encoded) = pair.split_once(' ').unwrap_or((pair, ""));
            let decoded = BASE64_STANDARD.decode(encoded.trim()).ok();
            let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
            let is_repeated = metadata.pairs.iter().any(|(known, _)| known == key);
            match text {
                _ if is_repeated => metadata.refuse(key, "is there more than once"),
                Some(text) => metadata.pairs.push((key.to_owned(), text)),
                None => metadata.refuse(key, "must be UTF-8 text in base64, with its padding"),
            }
        }
        metadata
    }

    fn refuse(&mut self, key: &str, detail: &str) {
        let pointer = format!("/{}", pointer_token(key));
        self.violations.push(Violation::new(pointer, detail));
    }

    fn take(&mut self, key: &str) -> Option<String> {
        let place = self.pairs.iter().position(|(known, _)| known == key)?;
        Some(self.pairs.swap_remove(place).1).filter(|text| !text.is_empty())
    }

    /// What is to be uploaded: `filename`, and if they are there `name`,
    /// `description`, `tags` with commas between, and `replace`.
    ///
    /// # Errors
    /// `validation`, 422, with everything that is wrong.
    pub(super) fn into_upload(mut self, length: u64) -> Result<NewUpload, Problem> {
        let filename = self.take("filename");
        let is_told = self
            .violations
            .iter()
            .any(|fault| matches!(fault.pointer.as_str(), "" | "/filename"));
        if filename.is_none() && !is_told {
            self.refuse("filename", "is missing in the header Upload-Metadata");
        }
        let replaces = self.take("replace").map(|text| flag(&text));
        if replaces == Some(None) {
            self.refuse("replace", "must be true or false");
        }
        let details = LoraDetails {
            name: self.take("name"),
            description: self.take("description"),
            tags: words(&self.take("tags").unwrap_or_default()),
        };
        if !self.violations.is_empty() {
            return Err(Problem::validation(self.violations));
        }
        Ok(NewUpload {
            filename: filename.unwrap_or_default(),
            length,
            details,
            replaces: replaces.flatten().unwrap_or_default(),
            metadata: self.header,
        })
    }
}

fn words(list: &str) -> Vec<String> {
    let words = list.split(',').map(str::trim);
    words
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, value: &str) -> String {
        format!("{key} {}", BASE64_STANDARD.encode(value))
    }

    #[test]
    fn all_that_we_know_is_read_and_the_rest_left_alone() {
        let header = [
            pair("filename", "ünder.safetensors"),
            pair("filetype", "application/octet-stream"),
            pair("tags", "ink, , style"),
            pair("replace", "true"),
            "relativePath".to_owned(),
        ]
        .join(", ");

        let upload = Metadata::parse(&header).into_upload(7).unwrap();

        assert_eq!(
            upload,
            NewUpload {
                filename: "ünder.safetensors".to_owned(),
                length: 7,
                details: LoraDetails {
                    name: None,
                    description: None,
                    tags: vec!["ink".to_owned(), "style".to_owned()],
                },
                replaces: true,
                metadata: header,
            }
        );
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let header = format!(
            "filename !,name {},name {},replace {}",
            BASE64_STANDARD.encode("a"),
            BASE64_STANDARD.encode("b"),
            BASE64_STANDARD.encode("perhaps")
        );

        let problem = Metadata::parse(&header).into_upload(7).unwrap_err();

        let pointers: Vec<_> = problem.to_json()["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["pointer"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(pointers, ["/filename", "/name", "/replace"]);
    }

    #[test]
    fn a_filename_must_be_there() {
        for header in ["", "filename", "filename ", "name YQ=="] {
            let problem = Metadata::parse(header).into_upload(7).unwrap_err();
            assert!(
                problem.detail().contains("/filename is missing"),
                "{header:?}"
            );
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        let header = format!("filename {}", BASE64_STANDARD.encode([0xff, 0xfe]));

        assert!(Metadata::parse(&header).into_upload(7).is_err());
    }
}
