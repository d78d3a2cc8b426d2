//! Google Drive. Nothing of it need be set: people may lend a token of their own with a request.
//!
//! - `GDOC_TOKEN`: the credentials of this server, as the JSON that Google's libraries write: of an
//!   authorized user, or a service account's key.
//! - `GDOC_CLIENT`: the JSON of the OAuth client, where the token does not name it.
//! - `GOOGLE_CLIENT_ID` (or `CLIENT_ID_GOOGLE_LOGIN`) and `GOOGLE_CLIENT_SECRET` (or
//!   `CLIENT_SECRET_GOOGLE_LOGIN`): the same as two plain texts.
//! - `GOOGLE_API_BASE_URL`, `GOOGLE_TOKEN_URL`: other places than Google's, for tests.
#![expect(clippy::doc_markdown, reason = "clap prints these texts as they stand")]

use super::{Mistakes, Secret, or_variables};

pub(crate) const TOKEN: &str = "GDOC_TOKEN";
const CLIENT: &str = "GDOC_CLIENT";
const CLIENT_ID: &str = "GOOGLE_CLIENT_ID";
const CLIENT_SECRET: &str = "GOOGLE_CLIENT_SECRET";
pub(crate) const API_BASE_URL: &str = "GOOGLE_API_BASE_URL";
pub(crate) const TOKEN_URL: &str = "GOOGLE_TOKEN_URL";

/// How Google Drive is told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct DriveArguments {
    /// This server's credentials for Google Drive: the JSON of an authorized user or of a service
    /// account.
    #[arg(long, env = TOKEN, hide_env_values = true, value_name = "JSON")]
    pub gdoc_token: Option<String>,
    /// The JSON of the OAuth client, where the credentials do not name it.
    #[arg(long, env = CLIENT, hide_env_values = true, value_name = "JSON")]
    pub gdoc_client: Option<String>,
    /// The id of the OAuth client; CLIENT_ID_GOOGLE_LOGIN works too.
    #[arg(long, env = CLIENT_ID, value_name = "ID")]
    pub google_client_id: Option<String>,
    /// Its secret; CLIENT_SECRET_GOOGLE_LOGIN works too.
    #[arg(long, env = CLIENT_SECRET, hide_env_values = true, value_name = "SECRET")]
    pub google_client_secret: Option<String>,
    /// Where the Drive API is, for tests.
    ///
    /// Default: Google's own.
    #[arg(long, env = API_BASE_URL, value_name = "URL")]
    pub google_api_base_url: Option<String>,
    /// Where Google's access tokens are, for tests.
    ///
    /// Default: Google's own.
    #[arg(long, env = TOKEN_URL, value_name = "URL")]
    pub google_token_url: Option<String>,
}

/// How Google Drive is reached. What is wrong with credentials and addresses, the adapter says when
/// it reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriveConfig {
    /// The JSON of this server's credentials.
    pub token: Option<Secret>,
    /// The JSON of the OAuth client.
    pub client: Option<Secret>,
    /// The client's id.
    pub client_id: Option<String>,
    /// The client's secret.
    pub client_secret: Option<Secret>,
    /// Another place of the API than Google's.
    pub api_base_url: Option<String>,
    /// Another place of the access tokens than Google's.
    pub token_url: Option<String>,
}

impl DriveArguments {
    /// Reads the arguments. All of them may be missing.
    pub fn read(self, mistakes: &mut Mistakes) -> DriveConfig {
        DriveConfig {
            token: mistakes.secret(self.gdoc_token, &[TOKEN]),
            client: mistakes.secret(self.gdoc_client, &[CLIENT]),
            client_id: or_variables(self.google_client_id, &["CLIENT_ID_GOOGLE_LOGIN"]),
            client_secret: mistakes.secret(
                self.google_client_secret,
                &[CLIENT_SECRET, "CLIENT_SECRET_GOOGLE_LOGIN"],
            ),
            api_base_url: or_variables(self.google_api_base_url, &[]),
            token_url: or_variables(self.google_token_url, &[]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_is_not_set() {
        let arguments = DriveArguments {
            gdoc_token: Some(String::new()),
            google_api_base_url: Some(String::new()),
            ..DriveArguments::default()
        };

        let config = arguments.read(&mut Mistakes::default());

        assert_eq!(
            (config.token, config.api_base_url, config.token_url),
            (None, None, None)
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let config = DriveArguments {
            gdoc_token: Some("hunter2".to_owned()),
            gdoc_client: Some("hunter2".to_owned()),
            google_client_id: Some("a-client".to_owned()),
            google_client_secret: Some("hunter2".to_owned()),
            ..DriveArguments::default()
        }
        .read(&mut Mistakes::default());

        let shown = format!("{config:?}");

        assert!(shown.contains("a-client"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
