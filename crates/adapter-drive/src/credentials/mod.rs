mod error;
mod shapes;

use std::fmt;

use chrono::{DateTime, Utc};
use jsonwebtoken::EncodingKey;

pub use error::DriveCredentialsError;

/// The environment variables that credentials for Google Drive come from, as
/// they stand there; what is blank counts as absent. `Debug` shows none of
/// their values.
#[derive(Clone, Copy, Default)]
pub struct DriveVariables<'text> {
    /// `GDOC_TOKEN`: the JSON of an authorized user or of a service account.
    pub gdoc_token: Option<&'text str>,
    /// `GDOC_CLIENT`: the JSON of an OAuth client, `{"installed": {..}}` or
    /// `{"web": {..}}`.
    pub gdoc_client: Option<&'text str>,
    /// `GOOGLE_CLIENT_ID`, or `CLIENT_ID_GOOGLE_LOGIN`.
    pub client_id: Option<&'text str>,
    /// `GOOGLE_CLIENT_SECRET`, or `CLIENT_SECRET_GOOGLE_LOGIN`.
    pub client_secret: Option<&'text str>,
}

impl fmt::Debug for DriveVariables<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DriveVariables")
            .field("gdoc_token", &self.gdoc_token.is_some())
            .field("gdoc_client", &self.gdoc_client.is_some())
            .field("client_id", &self.client_id.is_some())
            .field("client_secret", &self.client_secret.is_some())
            .finish()
    }
}

/// What this server shows Google for an access token. `Debug` shows none of
/// it.
#[derive(Clone)]
pub struct DriveCredentials(pub(crate) Kind);

#[derive(Clone)]
pub(crate) enum Kind {
    User(AuthorizedUser),
    Account(ServiceAccount),
}

/// Somebody who let an OAuth client act for them.
#[derive(Clone)]
pub(crate) struct AuthorizedUser {
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) refresh_token: String,
    /// The access token that is known already, and until when it is good. One
    /// that nobody says this of is as good as none.
    pub(crate) access: Option<(String, DateTime<Utc>)>,
}

/// An account that nobody signs in to.
#[derive(Clone)]
pub(crate) struct ServiceAccount {
    pub(crate) client_email: String,
    pub(crate) key_id: Option<String>,
    pub(crate) private_key: EncodingKey,
}

impl DriveCredentials {
    /// Reads credentials in every form of `reference/platform/PROTOCOLS.md`
    /// sections 4.2 and 4.7; `None` if `GDOC_TOKEN` is absent. Whatever a file
    /// says about where tokens are is ignored.
    ///
    /// Client id and secret are taken from `GDOC_TOKEN` itself, else from
    /// `GDOC_CLIENT`, else from the variables on their own.
    ///
    /// # Errors
    /// What is wrong, naming the variable and never its value.
    pub fn parse(variables: &DriveVariables<'_>) -> Result<Option<Self>, DriveCredentialsError> {
        shapes::parse(variables).map(|kind| kind.map(Self))
    }

    /// The e-mail address that files must be shared with, if these are a
    /// service account's.
    pub fn service_account_email(&self) -> Option<&str> {
        match &self.0 {
            Kind::User(_) => None,
            Kind::Account(account) => Some(&account.client_email),
        }
    }
}

impl fmt::Debug for DriveCredentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match &self.0 {
            Kind::User(_) => "AuthorizedUser([hidden])",
            Kind::Account(_) => "ServiceAccount([hidden])",
        })
    }
}
