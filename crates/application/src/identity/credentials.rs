use std::fmt;

/// What a request brings to say who sends it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The token of `Authorization: Bearer`.
    pub bearer: Option<String>,
    /// The assertion of Cloudflare Access (`Cf-Access-Jwt-Assertion`, or the
    /// cookie `CF_Authorization`).
    pub access_assertion: Option<String>,
}

/// Says which are there, never what they are.
impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Credentials")
            .field("bearer", &self.bearer.is_some())
            .field("access_assertion", &self.access_assertion.is_some())
            .finish()
    }
}
