use serde_json::{Value, json};

use super::content::Content;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A new access token.
    Token,
    /// A file's metadata.
    Metadata,
    /// A file's bytes.
    Download,
}

/// What goes wrong with one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Something else is answered.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The headers, `content-type` among them.
        headers: Vec<(String, String)>,
        /// The body.
        body: String,
    },
    /// The connection is closed without an answer.
    Reset,
    /// The answer never begins.
    Stall,
    /// The connection is cut after at most so many bytes of the body.
    CutAfter(u64),
    /// No byte comes after so many of the body, and the connection stays open.
    StallAfter(u64),
    /// The connection is cut after so many bytes, and the file has other bytes
    /// from then on.
    CutAndChange {
        /// How many bytes come.
        after: u64,
        /// What the file holds then.
        content: Content,
    },
    /// The body ends in good order, so many bytes too early.
    ShortBy(u64),
    /// The bytes are those that were asked for, and this is said of them.
    ContentRange(String),
    /// The whole file is sent with status 200, whatever was asked for.
    IgnoreRange,
}

impl Fault {
    /// An error in Drive's own format, for one reason
    /// (`reference/platform/PROTOCOLS.md` section 4.5).
    pub fn api(status: u16, reason: &str) -> Self {
        let told = json!({"domain": "global", "reason": reason, "message": "Told by the double."});
        Self::json(
            status,
            &json!({"error": {"code": status, "message": "Told by the double.", "errors": [told]}}),
        )
    }

    /// An error of the token endpoint (RFC 6749 section 5.2).
    pub fn oauth(status: u16, error: &str) -> Self {
        Self::json(
            status,
            &json!({"error": error, "error_description": "Told by the double."}),
        )
    }

    /// Any JSON.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::answer(status, "application/json; charset=UTF-8", body.to_string())
    }

    /// A page for people.
    pub fn page(status: u16) -> Self {
        let page = format!("<!DOCTYPE html><title>Error {status}</title>");
        Self::answer(status, "text/html; charset=UTF-8", page)
    }

    /// A status without a body.
    pub fn empty(status: u16) -> Self {
        Self::answer(status, "text/plain", String::new())
    }

    /// A redirect.
    pub fn redirect(location: &str) -> Self {
        Self::empty(302).with_header("location", location)
    }

    /// Adds a header to an answer; other faults have none and stay as they are.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    fn answer(status: u16, content_type: &str, body: String) -> Self {
        Self::Answer {
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body,
        }
    }
}
