/// What goes wrong with requests for keys.
#[derive(Clone, Debug)]
pub enum KeysFault {
    /// Something else is answered.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The headers.
        headers: Vec<(String, String)>,
        /// The body.
        body: String,
    },
    /// The connection is closed without an answer.
    Reset,
    /// The answer never begins.
    Stall,
    /// The answer begins, and its body never ends.
    StallInBody,
}

impl KeysFault {
    /// A status with a body of JSON.
    pub fn json(status: u16, body: impl Into<String>) -> Self {
        Self::answer(status, "application/json", body.into())
    }

    /// A page for people.
    pub fn page(status: u16) -> Self {
        let page = format!("<!DOCTYPE html><title>Answer {status}</title>");
        Self::answer(status, "text/html; charset=UTF-8", page)
    }

    /// A redirect.
    pub fn redirect(location: &str) -> Self {
        Self::Answer {
            status: 302,
            headers: vec![("location".to_owned(), location.to_owned())],
            body: String::new(),
        }
    }

    fn answer(status: u16, content_type: &str, body: String) -> Self {
        Self::Answer {
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body,
        }
    }
}
