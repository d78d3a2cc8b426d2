use atelier_domain::output::BackendFile;
use atelier_domain::ports::{ComfyError, OutputReader};
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;

use super::backend::Backend;

const MAX_CONTENT_TYPE_BYTES: usize = 200;

impl Backend {
    pub(crate) async fn fetch_output(
        &self,
        file: &BackendFile,
    ) -> Result<OutputReader, ComfyError> {
        if !names_a_file(file) {
            return Err(gone());
        }
        let mut url = self.transport.url(&["view"]);
        url.query_pairs_mut()
            .append_pair("filename", &file.filename)
            .append_pair("subfolder", &file.subfolder)
            .append_pair("type", file.folder.as_str());
        let response = self.transport.open(url).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => return Err(gone()),
            status => {
                return Err(ComfyError::Protocol(format!(
                    "a file came with status {}",
                    status.as_u16()
                )));
            }
        }
        let content_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        Ok(OutputReader {
            content_type: content_type
                .filter(|text| text.len() <= MAX_CONTENT_TYPE_BYTES)
                .map(str::to_owned),
            size_bytes: response.content_length(),
            bytes: Box::pin(self.transport.stream(response)),
        })
    }
}

fn gone() -> ComfyError {
    ComfyError::NotFound("such file".to_owned())
}

/// Whether a file that a history names can be one of its prompt's: `/view`
/// reads `name [input]` as a file of another folder, and answers 403, which
/// looks like wrong credentials, to a way out of the folder
/// (`reference/comfyui/PROTOCOL.md` section 2).
fn names_a_file(file: &BackendFile) -> bool {
    let name = &file.filename;
    let has_control = |text: &str| text.chars().any(char::is_control);
    let is_annotated = [" [input]", " [output]", " [temp]"]
        .iter()
        .any(|mark| name.ends_with(mark));
    let leaves = file.subfolder.starts_with(['/', '\\'])
        || file.subfolder.split(['/', '\\']).any(|part| part == "..");
    !name.is_empty()
        && name != "."
        && !name.contains("..")
        && !name.contains(['/', '\\'])
        && !has_control(name)
        && !is_annotated
        && !has_control(&file.subfolder)
        && !leaves
}

#[cfg(test)]
mod tests {
    use super::*;
    use atelier_domain::output::BackendFolder;

    fn file(filename: &str, subfolder: &str) -> BackendFile {
        BackendFile {
            filename: filename.to_owned(),
            subfolder: subfolder.to_owned(),
            folder: BackendFolder::Output,
        }
    }

    #[test]
    fn ordinary_names_are_asked_for() {
        for (name, folder) in [
            ("a b&c.png", ""),
            ("é#1.png", "user-1/run-2"),
            ("x.png", "a/./b"),
            (".hidden.png", ""),
        ] {
            assert!(names_a_file(&file(name, folder)), "{name} {folder}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_not() {
        for (name, folder) in [
            ("", ""),
            ("..", ""),
            ("../x.png", ""),
            ("/etc/passwd", ""),
            ("a\\b.png", ""),
            ("x.png [input]", ""),
            ("x.png", "../input"),
            ("x.png", "a/../../b"),
            ("x.png", "/etc"),
            ("x\n.png", ""),
        ] {
            assert!(!names_a_file(&file(name, folder)), "{name} {folder}");
        }
    }
}
