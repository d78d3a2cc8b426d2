use std::collections::HashMap;

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::Answer;
use super::state::State;

const ACCOUNT_EMAIL: &str = "atelier@double.iam.gserviceaccount.com";
const KEY_ID: &str = "double-key-1";
const JWT_GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const AUDIENCE: &str = "https://oauth2.googleapis.com/token";

/// How the life of an access token is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Seconds(u64),
    /// As odd servers do.
    SecondsInWords(u64),
    Untold,
}

/// A service account, made when a test first asks for it.
pub(super) struct Account {
    private_pem: String,
    public_pem: String,
}

impl Account {
    pub(super) fn generate() -> Self {
        let key =
            rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
                .expect("a key pair");
        Self {
            private_pem: key.serialize_pem(),
            public_pem: key.public_key_pem(),
        }
    }

    /// The key file that Google would hand out.
    pub(super) fn key_file(&self) -> Value {
        json!({
            "type": "service_account",
            "project_id": "double",
            "private_key_id": KEY_ID,
            "private_key": self.private_pem,
            "client_email": ACCOUNT_EMAIL,
            "client_id": "100000000000000000000",
            "token_uri": AUDIENCE,
            "universe_domain": "googleapis.com",
        })
    }

    /// Whether an assertion is one of this account's, as Google checks it.
    fn vouches_for(&self, assertion: &str) -> bool {
        #[derive(Deserialize)]
        struct Claims {
            iat: u64,
            exp: u64,
            scope: String,
        }
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[ACCOUNT_EMAIL]);
        // Tests have clocks of their own.
        validation.validate_exp = false;
        let key = DecodingKey::from_rsa_pem(self.public_pem.as_bytes()).expect("a public key");
        jsonwebtoken::decode::<Claims>(assertion, &key, &validation).is_ok_and(|token| {
            let Claims { iat, exp, scope } = token.claims;
            token.header.kid.as_deref() == Some(KEY_ID)
                && (iat..=iat + 3_600).contains(&exp)
                && scope == "https://www.googleapis.com/auth/drive.readonly"
        })
    }
}

/// What the token endpoint answers to a form.
pub(super) fn answer(state: &mut State, form: &[u8]) -> Answer {
    let form: HashMap<String, String> = url::form_urlencoded::parse(form).into_owned().collect();
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    match field("grant_type") {
        "refresh_token" => {
            let (id, secret) = &state.client;
            if (field("client_id"), field("client_secret")) != (id, secret) {
                return error(401, "invalid_client", "The OAuth client was not found.");
            }
            if field("refresh_token") != state.refresh_token {
                return error(400, "invalid_grant", "Token has been expired or revoked.");
            }
        }
        JWT_GRANT => {
            let vouched = state
                .account
                .as_ref()
                .is_some_and(|account| account.vouches_for(field("assertion")));
            if !vouched {
                return error(400, "invalid_grant", "Invalid JWT Signature.");
            }
        }
        _ => return error(400, "unsupported_grant_type", "Invalid grant_type"),
    }
    Answer::json(200, &granted(state))
}

fn granted(state: &mut State) -> Value {
    state.minted += 1;
    let token = format!("double-access-token-{}", state.minted);
    let mut body = json!({
        "access_token": token,
        "scope": "https://www.googleapis.com/auth/drive.readonly",
        "token_type": "Bearer",
    });
    match state.life {
        Life::Seconds(seconds) => set(&mut body, "expires_in", json!(seconds)),
        Life::SecondsInWords(seconds) => set(&mut body, "expires_in", json!(seconds.to_string())),
        Life::Untold => {}
    }
    if state.rotates {
        state.refresh_token = format!("double-refresh-token-{}", state.minted);
        set(&mut body, "refresh_token", json!(state.refresh_token));
    }
    state.access_tokens.insert(token);
    body
}

fn set(body: &mut Value, name: &str, value: Value) {
    let fields = body.as_object_mut().expect("the object above");
    fields.insert(name.to_owned(), value);
}

fn error(status: u16, error: &str, description: &str) -> Answer {
    Answer::json(
        status,
        &json!({"error": error, "error_description": description}),
    )
}
