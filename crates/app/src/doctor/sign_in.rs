use std::time::Duration;

use serde::Deserialize;

use super::report::Finding;
use crate::config::identity::{IdentityConfig, JWKS_URL, SECRET, TEAM_DOMAIN};
use crate::logging::Chain;

/// How long published keys may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most bytes of published keys.
const MAX_BYTES: usize = 1024 * 1024;

/// A set of keys (RFC 7517), as far as it matters here.
#[derive(Deserialize)]
struct Keys {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    kty: String,
    crv: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
}

impl Key {
    /// Whether signatures can be checked with it: ES256 or RS256.
    fn is_usable(&self) -> bool {
        let signs = self.usage.as_deref().is_none_or(|usage| usage == "sig");
        let is_known = match self.kty.as_str() {
            "EC" => self.crv.as_deref() == Some("P-256"),
            "RSA" => true,
            _ => false,
        };
        signs && is_known
    }
}

/// Whether those who sign in can be told apart from those who only say so.
pub(super) async fn examine(identity: &IdentityConfig) -> Vec<Finding> {
    let mut all = Vec::new();
    if let Some(supabase) = &identity.supabase {
        if supabase.secret.is_some() {
            all.push(Finding::fine(
                "Supabase sign-in",
                "tokens of the legacy secret (HS256) are taken",
            ));
            if supabase.issuer.is_none() {
                all.push(Finding::doubtful(
                    "Supabase issuer",
                    "tokens of any issuer are taken that has the secret",
                    "set SUPABASE_URL, or SUPABASE_JWT_ISSUER",
                ));
            }
        }
        if let Some(url) = &supabase.jwks_url {
            let legacy = supabase.secret.is_some();
            all.push(published(url, "Supabase keys", JWKS_URL, legacy).await);
        }
    }
    if let Some(access) = &identity.access {
        let team = access.team_domain.trim_start_matches("https://");
        let team = team.trim_end_matches('/');
        let certs = access.certs_url.clone();
        let url = certs.unwrap_or_else(|| format!("https://{team}/cdn-cgi/access/certs"));
        all.push(published(&url, "Cloudflare Access keys", TEAM_DOMAIN, false).await);
    }
    if all.is_empty() {
        all.push(Finding::broken(
            "sign-in",
            "nobody can sign in",
            format!("set SUPABASE_URL, or {SECRET}, or {TEAM_DOMAIN}"),
        ));
    }
    all
}

/// Whether keys are published at an address. Without any, those of another way still work if there
/// is one.
async fn published(
    url: &str,
    check: &'static str,
    variable: &'static str,
    has_another_way: bool,
) -> Finding {
    let remedy = format!("check {variable}, and that this machine reaches it");
    match fetch(url).await {
        Err(fault) => Finding::broken(check, format!("{url}: {fault}"), remedy),
        Ok(keys) => match keys.keys.iter().filter(|key| key.is_usable()).count() {
            0 if has_another_way => Finding::fine(
                check,
                format!("{url} publishes no key yet: the project signs with its legacy secret"),
            ),
            0 => Finding::broken(
                check,
                format!("{url} publishes no key that signs with ES256 or RS256"),
                "let the project sign with asymmetric keys, or set its legacy secret",
            ),
            count => Finding::fine(check, format!("{url} publishes {count}")),
        },
    }
}

async fn fetch(url: &str) -> Result<Keys, String> {
    let told = |error: reqwest::Error| Chain(&error.without_url()).to_string();
    let client = reqwest::Client::builder()
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(told)?;
    let mut answer = client.get(url).send().await.map_err(told)?;
    if !answer.status().is_success() {
        return Err(format!("answered {}", answer.status()));
    }
    let mut read = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(told)? {
        if read.len() + piece.len() > MAX_BYTES {
            return Err("the answer is too long".to_owned());
        }
        read.extend_from_slice(&piece);
    }
    serde_json::from_slice(&read).map_err(|_not_shown| "the answer is no set of keys".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    #[test]
    fn only_keys_that_sign_count() {
        let keys: Keys = serde_json::from_str(
            r#"{"keys": [
                {"kty": "EC", "crv": "P-256", "use": "sig"},
                {"kty": "EC", "crv": "P-384"},
                {"kty": "RSA", "use": "enc"},
                {"kty": "RSA"},
                {"kty": "oct"}
            ]}"#,
        )
        .expect("it is a set of keys");

        let usable: Vec<bool> = keys.keys.iter().map(Key::is_usable).collect();

        assert_eq!(usable, [true, false, false, true, false]);
    }

    #[tokio::test]
    async fn nobody_to_sign_in_is_broken() {
        let found = examine(&IdentityConfig::default()).await;

        assert_eq!(found[0].verdict, Verdict::Failed);
    }

    #[tokio::test]
    async fn keys_that_cannot_be_reached_are_told_with_their_address() {
        let url = "http://127.0.0.1:1/jwks.json";

        let found = published(url, "Supabase keys", JWKS_URL, false).await;

        assert_eq!(found.verdict, Verdict::Failed);
        assert!(found.detail.starts_with(url), "{found:?}");
    }
}
