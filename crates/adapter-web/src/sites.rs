//! What people copy from the address bar, and which file it stands for.

use atelier_domain::ports::RemoteError;
use url::Url;

const HUGGING_FACE: &str = "huggingface.co";
const CIVITAI: [&str; 2] = ["civitai.com", "civitai.red"];

/// Turns the address of a page about a file into that of the file, where the
/// address alone says which one it is.
pub(crate) fn file_address(url: Url) -> Result<Url, RemoteError> {
    match url.host_str() {
        Some("hf.co" | "www.huggingface.co") => {
            Ok(on_host(url, HUGGING_FACE).map_or_else(|url| url, hugging_face_file))
        }
        Some(HUGGING_FACE) => Ok(hugging_face_file(url)),
        Some(host) if CIVITAI.contains(&host) => civitai_file(url),
        _ => Ok(url),
    }
}

/// What to try when an address led to a page.
pub(crate) fn instead_of_a_page(url: &Url) -> &'static str {
    match url.host_str() {
        Some(HUGGING_FACE) => {
            "open the file on the site and copy the address of its download button"
        }
        Some(host) if CIVITAI.contains(&host) => {
            "copy the address of the version's download button"
        }
        _ => "give the address of the file itself",
    }
}

/// The same address on another host; the old one if that cannot be.
fn on_host(mut url: Url, host: &str) -> Result<Url, Url> {
    match url.set_host(Some(host)) {
        Ok(()) => Ok(url),
        Err(_refused) => Err(url),
    }
}

/// `/{repository}/blob/{revision}/{file}` shows what `resolve` in place of
/// `blob` downloads; with `raw` there, it would be a note of where the file is
/// stored. A repository has one name or two, and may have a kind before them.
fn hugging_face_file(mut url: Url) -> Url {
    let mut segments: Vec<_> = url.path().trim_start_matches('/').split('/').collect();
    let verb = segments
        .iter_mut()
        .take(4)
        .skip(1)
        .find(|segment| ["blob", "raw", "resolve"].contains(segment));
    if let Some(verb) = verb {
        *verb = "resolve";
        let path = segments.join("/");
        url.set_path(&path);
    }
    url
}

/// `/models/{model}?modelVersionId={version}` shows what
/// `/api/download/models/{version}` downloads.
fn civitai_file(mut url: Url) -> Result<Url, RemoteError> {
    let is_page = url
        .path_segments()
        .is_some_and(|mut segments| segments.next() == Some("models"));
    if !is_page {
        return Ok(url);
    }
    let version = url
        .query_pairs()
        .find(|(name, _)| name == "modelVersionId")
        .map(|(_, version)| version.into_owned())
        .filter(|version| {
            (1..=20).contains(&version.len()) && version.bytes().all(|byte| byte.is_ascii_digit())
        });
    let Some(version) = version else {
        return Err(RemoteError::Refused(
            "the link leads to a model's page and does not say which version: copy the address of \
             the version's download button"
                .to_owned(),
        ));
    };
    url.set_path(&format!("/api/download/models/{version}"));
    url.set_query(None);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> String {
        file_address(Url::parse(text).unwrap()).unwrap().to_string()
    }

    #[test]
    fn a_page_of_hugging_face_about_a_file_stands_for_the_file() {
        for (page, address) in [
            (
                "https://huggingface.co/a/b/blob/main/c/d.safetensors",
                "https://huggingface.co/a/b/resolve/main/c/d.safetensors",
            ),
            (
                "https://huggingface.co/gpt2/blob/main/blob/d.safetensors?download=true",
                "https://huggingface.co/gpt2/resolve/main/blob/d.safetensors?download=true",
            ),
            (
                "https://huggingface.co/datasets/a/b/blob/main/d%20e.safetensors",
                "https://huggingface.co/datasets/a/b/resolve/main/d%20e.safetensors",
            ),
            (
                "https://hf.co/a/b/blob/main/d.safetensors",
                "https://huggingface.co/a/b/resolve/main/d.safetensors",
            ),
            (
                "https://huggingface.co/a/b/raw/main/d.safetensors",
                "https://huggingface.co/a/b/resolve/main/d.safetensors",
            ),
            (
                "https://huggingface.co/a/b/resolve/blob/d.safetensors",
                "https://huggingface.co/a/b/resolve/blob/d.safetensors",
            ),
            (
                "https://huggingface.co/blob/b/resolve/raw/d%2Fe.safetensors",
                "https://huggingface.co/blob/b/resolve/raw/d%2Fe.safetensors",
            ),
            (
                "https://models.example/a/b/blob/main/d.safetensors",
                "https://models.example/a/b/blob/main/d.safetensors",
            ),
        ] {
            assert_eq!(file(page), address);
        }
    }

    #[test]
    fn a_page_of_civitai_about_a_version_stands_for_its_file() {
        assert_eq!(
            file("https://civitai.com/models/12/a-name?modelVersionId=345&x=1"),
            "https://civitai.com/api/download/models/345"
        );
        assert_eq!(
            file("https://civitai.red/models/12?modelVersionId=345"),
            "https://civitai.red/api/download/models/345"
        );
        assert_eq!(
            file("https://civitai.com/api/download/models/345?type=Model"),
            "https://civitai.com/api/download/models/345?type=Model"
        );
    }

    #[test]
    fn a_page_of_civitai_that_names_no_version_is_refused_with_advice() {
        for page in [
            "https://civitai.com/models/12",
            "https://civitai.com/models/12?modelVersionId=",
            "https://civitai.com/models/12?modelVersionId=../x",
        ] {
            let error = file_address(Url::parse(page).unwrap()).unwrap_err();
            assert!(error.to_string().contains("download button"), "{error}");
        }
    }
}
