//! One request for an access token: `reference/platform/PROTOCOLS.md` sections
//! 4.1 and 4.7.

use std::time::Duration;

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::{Deserialize, Serialize};

use crate::credentials::{AuthorizedUser, ServiceAccount};
use crate::transport::{Transport, Trouble, retry_after};

/// All that importing needs.
const SCOPE: &str = "https://www.googleapis.com/auth/drive.readonly";

/// Whom assertions are for, wherever they are sent.
const AUDIENCE: &str = "https://oauth2.googleapis.com/token";

/// What `invalid_grant` means, for a refresh token and for an assertion.
const USER_GONE: &str = "Google no longer takes this server's Drive credentials (invalid_grant: revoked, unused for months, or older than 7 days while the consent screen is in testing): whoever runs it must authorize it anew and set GDOC_TOKEN";
const ACCOUNT_GONE: &str = "Google does not take this server's service account key (invalid_grant: deleted or disabled, or this machine's clock is wrong): whoever runs it must check both and set GDOC_TOKEN";

const JWT_GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// The longest that Google takes.
const ASSERTION_SECONDS: i64 = 3_600;

/// How long a token is taken to be good whose answer does not say it.
const UNTOLD_LIFE: Duration = Duration::from_mins(5);

/// The longest life that is believed: no token of Google's lives longer.
const LONGEST_LIFE: Duration = Duration::from_hours(12);

/// A new access token.
pub(crate) struct Granted {
    pub(crate) access_token: String,
    pub(crate) life: Duration,
    /// The refresh token that replaces the old one.
    pub(crate) refresh_token: Option<String>,
}

/// Why there is none.
pub(crate) enum Denied {
    /// Asking again changes nothing; why, in words.
    ForGood(String),
    /// Perhaps later.
    ForNow {
        trouble: Trouble,
        retry_after: Option<Duration>,
    },
    /// The answer makes no sense.
    Nonsense(&'static str),
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<Seconds>,
    refresh_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(u64),
    /// Odd servers do that.
    Text(String),
}

impl Seconds {
    fn duration(self) -> Option<Duration> {
        match self {
            Self::Number(seconds) => Some(Duration::from_secs(seconds)),
            Self::Text(text) => text.trim().parse().ok().map(Duration::from_secs),
        }
    }
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

#[derive(Serialize)]
struct Claims<'text> {
    iss: &'text str,
    scope: &'text str,
    aud: &'text str,
    iat: i64,
    exp: i64,
}

impl Transport {
    /// Trades a refresh token.
    pub(crate) async fn refresh(
        &self,
        user: &AuthorizedUser,
        refresh_token: &str,
        now: DateTime<Utc>,
    ) -> Result<Granted, Denied> {
        let form = [
            ("client_id", user.client_id.as_str()),
            ("client_secret", user.client_secret.as_str()),
            ("refresh_token", refresh_token),
            ("grant_type", "refresh_token"),
        ];
        self.grant(&form, now, USER_GONE).await
    }

    /// Trades an assertion.
    pub(crate) async fn vouch(
        &self,
        account: &ServiceAccount,
        now: DateTime<Utc>,
    ) -> Result<Granted, Denied> {
        let assertion = assertion(account, now).map_err(|_detail| {
            // The detail may quote the key.
            Denied::ForGood(
                "this server cannot sign with the private_key in GDOC_TOKEN: whoever runs it must put a new key there".to_owned(),
            )
        })?;
        self.grant(
            &[("grant_type", JWT_GRANT), ("assertion", &assertion)],
            now,
            ACCOUNT_GONE,
        )
        .await
    }

    async fn grant(
        &self,
        form: &[(&str, &str)],
        now: DateTime<Utc>,
        invalid_grant: &str,
    ) -> Result<Granted, Denied> {
        let for_now = |trouble| Denied::ForNow {
            trouble,
            retry_after: None,
        };
        let request = self.client.post(self.token_url()).form(form);
        let response = self.send(request).await.map_err(for_now)?;
        let status = response.status();
        let pause = retry_after(response.headers(), now);
        let body = self.body(response).await.map_err(for_now)?;
        if status.is_success() {
            return granted(&body);
        }
        Err(denied(status.as_u16(), &body, pause, invalid_grant))
    }
}

fn granted(body: &[u8]) -> Result<Granted, Denied> {
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|_detail| Denied::Nonsense("Google's answer holds no access token"))?;
    let sendable =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !sendable(&answer.access_token) {
        return Err(Denied::Nonsense("Google's access token cannot be sent"));
    }
    Ok(Granted {
        access_token: answer.access_token,
        life: answer
            .expires_in
            .and_then(Seconds::duration)
            .unwrap_or(UNTOLD_LIFE)
            .min(LONGEST_LIFE),
        refresh_token: answer.refresh_token.filter(|token| !token.is_empty()),
    })
}

fn denied(status: u16, body: &[u8], retry_after: Option<Duration>, invalid_grant: &str) -> Denied {
    let refusal = serde_json::from_slice::<Refusal>(body).ok();
    let error = refusal.as_ref().map_or("", |refusal| &refusal.error);
    let may_pass = matches!(status, 408 | 429 | 500..=599)
        || matches!(
            error,
            "internal_failure" | "server_error" | "temporarily_unavailable"
        );
    if may_pass {
        return Denied::ForNow {
            trouble: Trouble::Status(status),
            retry_after,
        };
    }
    let words = match error {
        "invalid_grant" => invalid_grant,
        "invalid_client" => {
            "Google does not know this server's OAuth client (invalid_client): whoever runs it must check the client id and secret in GDOC_TOKEN, GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET"
        }
        "invalid_scope" => {
            "this server's Drive credentials may not read files (invalid_scope): whoever runs it must authorize it anew with drive.readonly and set GDOC_TOKEN"
        }
        "unauthorized_client" => {
            "this server's OAuth client may not do this (unauthorized_client): whoever runs it must authorize it anew and set GDOC_TOKEN"
        }
        "" if (300..400).contains(&status) => {
            return Denied::Nonsense("Google's token endpoint redirects");
        }
        _ => {
            "Google refuses this server's Drive credentials: whoever runs it must authorize it anew and set GDOC_TOKEN"
        }
    };
    Denied::ForGood(words.to_owned())
}

fn assertion(
    account: &ServiceAccount,
    now: DateTime<Utc>,
) -> Result<String, jsonwebtoken::errors::Error> {
    let mut header = Header::new(Algorithm::RS256);
    header.kid.clone_from(&account.key_id);
    let claims = Claims {
        iss: &account.client_email,
        scope: SCOPE,
        aud: AUDIENCE,
        iat: now.timestamp(),
        exp: now.timestamp() + ASSERTION_SECONDS,
    };
    encode(&header, &claims, &account.private_key)
}

/// Whether a key is one that signs: a PEM may hold anything.
pub(crate) fn can_sign(key: &EncodingKey) -> bool {
    encode(&Header::new(Algorithm::RS256), &(), key).is_ok()
}
