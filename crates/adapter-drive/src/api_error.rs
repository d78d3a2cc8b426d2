//! What Drive's errors mean: `reference/platform/PROTOCOLS.md` section 4.5.

use atelier_domain::ports::RemoteError;
use serde::Deserialize;

use crate::transport::Trouble;

/// Who asked Drive.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asker<'name> {
    /// Somebody, with a token of their own.
    Lender,
    /// This server, whose account may have a name that files can be shared
    /// with.
    Server { email: Option<&'name str> },
}

/// What to do about an answer that is no success.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Perhaps the next attempt goes better.
    Retry(Trouble),
    /// The token is not accepted.
    Unauthorized,
    /// That is how it is.
    Final(RemoteError),
}

#[derive(Deserialize)]
struct Body {
    error: ErrorBody,
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<Detail>,
    #[serde(default)]
    status: String,
}

#[derive(Deserialize)]
struct Detail {
    #[serde(default)]
    reason: String,
}

/// Judges an answer by its status and the first reason in its body, which may
/// be anything.
pub(crate) fn judge(status: u16, body: &[u8], asker: Asker<'_>) -> Verdict {
    let error = serde_json::from_slice::<Body>(body)
        .ok()
        .map(|body| body.error);
    let reason = error
        .as_ref()
        .and_then(|error| error.errors.first())
        .map_or("", |detail| detail.reason.as_str());
    let word = error.as_ref().map_or("", |error| error.status.as_str());
    match status {
        401 => Verdict::Unauthorized,
        403 => forbidden(reason, word, asker),
        404 => Verdict::Final(RemoteError::NotFound(missing(asker))),
        429 => Verdict::Retry(Trouble::Limited),
        408 | 500..=599 => Verdict::Retry(Trouble::Status(status)),
        _ => Verdict::Final(RemoteError::Backend(Box::new(Trouble::Status(status)))),
    }
}

fn forbidden(reason: &str, word: &str, asker: Asker<'_>) -> Verdict {
    let words = match reason {
        "rateLimitExceeded" | "userRateLimitExceeded" => return Verdict::Retry(Trouble::Limited),
        "insufficientPermissions" => {
            return Verdict::Final(RemoteError::Unauthorized(scope(asker).to_owned()));
        }
        "" if word == "RESOURCE_EXHAUSTED" => return Verdict::Retry(Trouble::Limited),
        "" if word == "UNAUTHENTICATED" => return Verdict::Unauthorized,
        "dailyLimitExceeded" => {
            "the daily limit for this use of Google Drive is reached (dailyLimitExceeded): try again tomorrow, or have the quota of the Google Cloud project raised"
        }
        "accessNotConfigured" => {
            "the Google Drive API is not enabled for the Google Cloud project of these credentials (accessNotConfigured): its owner must enable it"
        }
        "downloadQuotaExceeded" => {
            "this file was downloaded too often lately (downloadQuotaExceeded): try again after 24 hours, or make a copy on Drive and import that one"
        }
        "cannotDownloadAbusiveFile" | "invalidAbuseAcknowledgment" => {
            "Google holds this file to be malware or spam, and does not let it be imported"
        }
        "cannotDownloadFile" => {
            "the owner of this file does not let others download it: ask them to allow downloads for viewers"
        }
        "fileNotDownloadable" => {
            "this is no file with bytes that can be downloaded: give the link of a model file"
        }
        "exportSizeLimitExceeded" => {
            "this is a document of Google's own, and too large to be exported: give the link of a model file"
        }
        "insufficientFilePermissions" => {
            return Verdict::Final(RemoteError::Refused(closed(asker)));
        }
        "appNotAuthorizedToFile" => {
            "the application of these credentials may not open this file (appNotAuthorizedToFile): open the file with that application once, or use credentials with the scope drive.readonly"
        }
        "domainPolicy" => {
            "the administrators of the organization do not let applications read its files on Drive (domainPolicy): ask them, or copy the file to another account"
        }
        _ => {
            "Google Drive does not let this file be read, and does not say why: check how it is shared"
        }
    };
    Verdict::Final(RemoteError::Refused(words.to_owned()))
}

/// For a token that Drive does not accept.
pub(crate) fn unauthorized(asker: Asker<'_>) -> RemoteError {
    RemoteError::Unauthorized(
        match asker {
            Asker::Lender => {
                "Google does not accept the access token that was sent along: it has expired or was revoked; get a new one and try again"
            }
            Asker::Server { .. } => {
                "Google does not accept this server's Drive credentials: whoever runs it must authorize it anew and set GDOC_TOKEN"
            }
        }
        .to_owned(),
    )
}

fn scope(asker: Asker<'_>) -> &'static str {
    match asker {
        Asker::Lender => {
            "the access token that was sent along may not read files on Drive: get one with the scope drive.readonly"
        }
        Asker::Server { .. } => {
            "this server's Drive credentials may not read files: whoever runs it must authorize it anew with the scope drive.readonly and set GDOC_TOKEN"
        }
    }
}

fn missing(asker: Asker<'_>) -> String {
    format!(
        "there is no such file on Google Drive, or it is not shared: {}",
        way_in(asker)
    )
}

fn closed(asker: Asker<'_>) -> String {
    format!(
        "this file on Google Drive is not shared far enough: {}",
        way_in(asker)
    )
}

fn way_in(asker: Asker<'_>) -> String {
    match asker {
        Asker::Lender => {
            "check the link, and that the account of the access token may read it".to_owned()
        }
        Asker::Server { email: Some(email) } => format!(
            "check the link, and share the file with {email} or with anyone who has the link"
        ),
        Asker::Server { email: None } => {
            "check the link, and share the file with anyone who has the link, or send a Google access token of your own along".to_owned()
        }
    }
}
