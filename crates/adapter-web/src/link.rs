use atelier_domain::ports::RemoteError;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::guard::{GuardedClient, UrlRefusal};
use crate::host_rule::HostRule;
use crate::sites;

/// The longest address that is read; what is made of it is kept.
const MAX_LENGTH: usize = 2_000;

/// Names of query parameters that carry credentials, and what they end in;
/// without case, hyphens and underscores.
const CREDENTIALS: [&str; 8] = [
    "auth",
    "authorization",
    "bearer",
    "jwt",
    "key",
    "pass",
    "pwd",
    "sas",
];
const CREDENTIAL_ENDINGS: [&str; 8] = [
    "accesskey",
    "apikey",
    "credential",
    "keyid",
    "password",
    "secret",
    "secretkey",
    "token",
];

/// The same for links that were signed for a while.
const SIGNATURES: [&str; 3] = ["sig", "policy", "hmac"];
const SIGNATURE_ENDINGS: [&str; 1] = ["signature"];

/// Reads what a person gave: the address of a file, on a host that is allowed,
/// without credentials. The address is the one that is kept.
pub(crate) fn read(
    text: &str,
    client: &GuardedClient,
    allowed: &[HostRule],
) -> Result<Url, RemoteError> {
    let text = text.trim();
    if text.len() > MAX_LENGTH {
        let said = format!("the link must have at most {MAX_LENGTH} characters");
        return Err(RemoteError::Invalid(said));
    }
    let mut url = Url::parse(text).map_err(|_no_url| {
        RemoteError::Invalid("the link must be an address that begins with https://".to_owned())
    })?;
    client
        .judge(&url)
        .map_err(|refusal| refused(text, refusal))?;
    // It is for browsers; servers never see it.
    url.set_fragment(None);
    refuse_credentials(&url)?;
    let url = sites::file_address(url)?;
    if !allowed.iter().any(|rule| rule.covers(&url)) {
        return Err(RemoteError::Refused(not_allowed(&url, allowed)));
    }
    if url.as_str().len() > MAX_LENGTH {
        return Err(RemoteError::Invalid("the link is too long".to_owned()));
    }
    Ok(url)
}

fn refused(text: &str, refusal: UrlRefusal) -> RemoteError {
    // Without its colon and slashes, a host with a port is an address of scheme "host".
    if refusal == UrlRefusal::Scheme && !text.contains("://") {
        return RemoteError::Invalid(
            "the link must be an address that begins with https://".to_owned(),
        );
    }
    RemoteError::Refused(format!("the link cannot be used: {refusal}"))
}

fn not_allowed(url: &Url, allowed: &[HostRule]) -> String {
    let hosts: Vec<_> = allowed.iter().map(ToString::to_string).collect();
    let host = host_and_port(url);
    if hosts.is_empty() {
        return format!("this server imports from no host, so not from {host}");
    }
    format!(
        "this server does not import from {host}; it does from {}",
        hosts.join(", ")
    )
}

/// What an address's host is called in texts for people.
pub(crate) fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or("nowhere");
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The address is stored and shown, so it must open nothing by itself.
fn refuse_credentials(url: &Url) -> Result<(), RemoteError> {
    let query = url.query().unwrap_or_default();
    let names: Vec<_> = query.split(['&', ';']).map(plain_name).collect();
    let first_of = |whole: &[&str], endings: &[&str]| {
        let is_one = |name: &&String| {
            whole.contains(&name.as_str()) || endings.iter().any(|end| name.ends_with(end))
        };
        names.iter().find(is_one)
    };
    // A signed link holds parts of a credential too, and no header does instead.
    if let Some(name) = first_of(&SIGNATURES, &SIGNATURE_ENDINGS) {
        return Err(RemoteError::Refused(format!(
            "the link is signed ({name}) and good for a short time alone: give the link that led \
             to it"
        )));
    }
    if let Some(name) = first_of(&CREDENTIALS, &CREDENTIAL_ENDINGS) {
        return Err(RemoteError::Refused(format!(
            "the link carries a credential ({name}), and links are kept: take it out, and send \
             the token in the header of the request instead, where it is used once and not kept"
        )));
    }
    Ok(())
}

/// A parameter's name without case, hyphens and underscores.
fn plain_name(pair: &str) -> String {
    let name = pair.split_once('=').map_or(pair, |(name, _)| name);
    percent_decode_str(name)
        .decode_utf8_lossy()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|character| character.to_ascii_lowercase())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::{prop_assert, proptest};

    use super::*;
    use crate::guard::GuardOptions;
    use crate::options::WebOptions;

    proptest! {
        #[test]
        fn whatever_is_given_only_allowed_hosts_come_out(
            text in "(https?:)?[/\\\\]{0,3}[a-z0-9@:.%-]{0,12}(huggingface\\.co|civitai\\.com)\\PC{0,30}",
        ) {
            if let Ok(kept) = read_by_default(&text) {
                let begins_right = ["https://huggingface.co/", "https://civitai.com/"]
                    .iter()
                    .any(|start| kept.starts_with(start));
                prop_assert!(begins_right, "{text:?} became {kept:?}");
                // What is kept is read again before each download.
                prop_assert!(read_by_default(&kept).is_ok_and(|again| again == kept), "{kept:?}");
            }
        }
    }

    fn read_by_default(text: &str) -> Result<String, RemoteError> {
        static CLIENT: LazyLock<GuardedClient> =
            LazyLock::new(|| GuardedClient::new(&GuardOptions::default()).unwrap());
        read(text, &CLIENT, &WebOptions::default_hosts()).map(String::from)
    }

    #[test]
    fn an_address_is_kept_in_its_plainest_form() {
        for (text, kept) in [
            (
                " https://HuggingFace.co:443/a/b/resolve/main/c.safetensors#readme ",
                "https://huggingface.co/a/b/resolve/main/c.safetensors",
            ),
            (
                "https://huggingface.co/a/../x/b/resolve/main/ü.safetensors?download=true",
                "https://huggingface.co/x/b/resolve/main/%C3%BC.safetensors?download=true",
            ),
            (
                "https://civitai.com/api/download/models/1?type=Model&format=SafeTensor",
                "https://civitai.com/api/download/models/1?type=Model&format=SafeTensor",
            ),
            (
                "https://hf.co/a/b/blob/main/c.safetensors",
                "https://huggingface.co/a/b/resolve/main/c.safetensors",
            ),
        ] {
            assert_eq!(read_by_default(text).unwrap(), kept);
        }
    }

    #[test]
    fn what_is_no_address_is_invalid() {
        let long = format!("https://huggingface.co/{}", "a".repeat(2_000));
        for text in [
            "",
            "huggingface.co/a",
            "localhost:8080",
            "https://",
            "https://hugging face.co/",
            "https://huggingface.co:99999/",
            &long,
        ] {
            let error = read_by_default(text).unwrap_err();
            assert!(matches!(error, RemoteError::Invalid(_)), "{text}: {error}");
        }
    }

    #[test]
    fn other_addresses_are_refused_with_the_reason() {
        for (text, reason) in [
            ("http://huggingface.co/a", "https://"),
            ("ftp://huggingface.co/a", "https://"),
            ("file:///etc/passwd", "https://"),
            ("https://me@huggingface.co/a", "user name"),
            ("https://me:very-secret@huggingface.co/a", "user name"),
            ("https://127.0.0.1/a", "IP address"),
            ("https://2130706433/a", "IP address"),
            ("https://[::1]/a", "IP address"),
            ("https://169.254.169.254/latest/meta-data", "IP address"),
            ("https://localhost/a", "not import from localhost"),
            ("https://huggingface.co:8443/a", "from huggingface.co:8443"),
            ("https://huggingface.co./a", "from huggingface.co."),
            ("https://huggingface.co.evil.test/a", "not import from"),
            ("https://huggingface.co@evil.test/a", "user name"),
            ("https://evil.test\\@huggingface.co/a", "from evil.test"),
            ("https://evil.test/huggingface.co", "from evil.test"),
            ("https://huggingfаce.co/a", "from xn--"),
            ("https://cas-bridge.xethub.hf.co/a", "not import from"),
        ] {
            let error = read_by_default(text).unwrap_err();
            assert!(matches!(error, RemoteError::Refused(_)), "{text}: {error}");
            assert!(error.to_string().contains(reason), "{text}: {error}");
            assert!(!error.to_string().contains("very-secret"), "{error}");
        }
    }

    #[test]
    fn links_with_credentials_are_refused_and_the_way_is_told() {
        for query in [
            "token=very-secret",
            "type=Model&token=very-secret",
            "TOKEN=very-secret",
            "to%6Ben=very-secret",
            "a=1;token=very-secret",
            "access_token=very-secret",
            "api_key=very-secret",
            "apikey=very-secret",
            "api-key=very-secret",
            "key=very-secret",
            "auth=very-secret",
            "Authorization=very-secret",
            "client_secret=very-secret",
            "password=very-secret",
            "X-Amz-Credential=very-secret",
            "X-Amz-Security-Token=very-secret",
            "AWSAccessKeyId=very-secret",
            "token",
        ] {
            let link = format!("https://civitai.com/api/download/models/1?{query}");
            let error = read_by_default(&link).unwrap_err();
            assert!(matches!(error, RemoteError::Refused(_)), "{query}: {error}");
            assert!(error.to_string().contains("header"), "{query}: {error}");
            assert!(!error.to_string().contains("very-secret"), "{error}");
        }
    }

    #[test]
    fn signed_links_are_refused() {
        for query in ["sig=a", "Signature=a", "X-Amz-Signature=a", "Policy=a"] {
            let link = format!("https://huggingface.co/a.safetensors?{query}");
            let error = read_by_default(&link).unwrap_err();
            assert!(error.to_string().contains("signed"), "{query}: {error}");
        }
    }

    #[test]
    fn harmless_parameters_are_let_through() {
        for query in [
            "download=true",
            "format=SafeTensor&size=pruned&fp=fp16",
            "keyword=a",
        ] {
            let link = format!("https://civitai.com/api/download/models/1?{query}");
            assert_eq!(read_by_default(&link).unwrap(), link);
        }
    }
}
