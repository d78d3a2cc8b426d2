use thiserror::Error;

/// Why credentials for Google Drive cannot be used. The texts are for whoever
/// runs the server; they hold no value of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DriveCredentialsError {
    /// Quotes stand around the JSON.
    #[error("GDOC_TOKEN is wrapped in quotes: give the plain JSON object, from {{ to }}")]
    Quoted,
    /// It looks like base64.
    #[error("GDOC_TOKEN seems to be base64: give the plain JSON object, from {{ to }}")]
    Base64,
    /// It is far larger than any credential.
    #[error("GDOC_TOKEN has more than {0} bytes: give the JSON of one credential")]
    TooLong(usize),
    /// It is no JSON object.
    #[error(
        "{variable} is no JSON object (line {line}, column {column}): give the plain content of the file"
    )]
    Json {
        /// Which variable.
        variable: &'static str,
        /// Where reading stopped, from 1; 0 if it is JSON but no object.
        line: usize,
        /// Where in the line.
        column: usize,
    },
    /// It is the file of an OAuth client, which is no credential yet.
    #[error(
        "GDOC_TOKEN holds an OAuth client, not a token: put it into GDOC_CLIENT, and what the client got from Google into GDOC_TOKEN"
    )]
    ClientAsToken,
    /// It is of a kind that is not supported.
    #[error(
        "GDOC_TOKEN has a \"type\" that is not supported: give an authorized user or a service account key"
    )]
    UnknownType,
    /// It says itself that it is no longer good.
    #[error(
        "GDOC_TOKEN is marked as no longer valid (\"invalid\": true): authorize the application anew"
    )]
    MarkedInvalid,
    /// Something is missing in it.
    #[error("GDOC_TOKEN holds no \"{0}\": {hint}", hint = hint(.0))]
    Missing(&'static str),
    /// Nothing says which OAuth client the token belongs to.
    #[error(
        "GDOC_TOKEN names no OAuth client: set GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET (or CLIENT_ID_GOOGLE_LOGIN and CLIENT_SECRET_GOOGLE_LOGIN), or GDOC_CLIENT"
    )]
    NoClient,
    /// The OAuth client's secret is nowhere.
    #[error(
        "the OAuth client of GDOC_TOKEN has no secret: set GOOGLE_CLIENT_SECRET (or CLIENT_SECRET_GOOGLE_LOGIN), or GDOC_CLIENT"
    )]
    NoClientSecret,
    /// The variable for the client holds something else.
    #[error(
        "GDOC_CLIENT holds no OAuth client: give {{\"installed\": {{\"client_id\": .., \"client_secret\": ..}}}}"
    )]
    Client,
    /// The key cannot sign.
    #[error(
        "the \"private_key\" in GDOC_TOKEN is no RSA key in PEM: give the service account's key file as Google made it"
    )]
    PrivateKey,
}

fn hint(field: &str) -> &'static str {
    match field {
        "refresh_token" => "authorize the application anew, for offline access",
        _ => "give the file as Google made it",
    }
}
