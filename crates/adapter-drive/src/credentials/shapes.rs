//! The forms that credentials come in: `reference/platform/PROTOCOLS.md`
//! sections 4.2 and 4.7.

use atelier_domain::ports::RemoteToken;
use chrono::{DateTime, NaiveDateTime, Utc};
use jsonwebtoken::EncodingKey;
use serde_json::{Map, Value};

use super::{AuthorizedUser, DriveCredentialsError, DriveVariables, Kind, ServiceAccount};
use crate::token_endpoint::can_sign;

const TOKEN: &str = "GDOC_TOKEN";
const CLIENT: &str = "GDOC_CLIENT";

/// Key files have 2 to 3 KiB.
const MAX_BYTES: usize = 64 * 1024;

type Object = Map<String, Value>;

pub(super) fn parse(variables: &DriveVariables<'_>) -> Result<Option<Kind>, DriveCredentialsError> {
    let Some(token) = present(variables.gdoc_token) else {
        return Ok(None);
    };
    if token.len() > MAX_BYTES {
        return Err(DriveCredentialsError::TooLong(MAX_BYTES));
    }
    if token.starts_with(['"', '\'']) {
        return Err(DriveCredentialsError::Quoted);
    }
    if !token.starts_with('{') && is_base64(token) {
        return Err(DriveCredentialsError::Base64);
    }
    let token = object(TOKEN, token)?;
    if token.contains_key("installed") || token.contains_key("web") {
        return Err(DriveCredentialsError::ClientAsToken);
    }
    if token.get("invalid") == Some(&Value::Bool(true)) {
        return Err(DriveCredentialsError::MarkedInvalid);
    }
    match token.get("type").and_then(Value::as_str) {
        Some("service_account") => service_account(&token).map(Kind::Account),
        Some("authorized_user") | None => authorized_user(&token, variables).map(Kind::User),
        Some(_) => Err(DriveCredentialsError::UnknownType),
    }
    .map(Some)
}

fn authorized_user(
    token: &Object,
    variables: &DriveVariables<'_>,
) -> Result<AuthorizedUser, DriveCredentialsError> {
    let refresh_token = required(token, "refresh_token")?;
    let (client_id, client_secret) = client(token, variables)?;
    let access_token = text(token, "token").or_else(|| text(token, "access_token"));
    let expiry = text(token, "expiry").or_else(|| text(token, "token_expiry"));
    Ok(AuthorizedUser {
        client_id,
        client_secret,
        refresh_token,
        access: access_token
            .filter(|token| RemoteToken::parse(token).is_some())
            .map(str::to_owned)
            .zip(expiry.and_then(instant)),
    })
}

/// The client that the refresh token belongs to: none but that one may use it.
fn client(
    token: &Object,
    variables: &DriveVariables<'_>,
) -> Result<(String, String), DriveCredentialsError> {
    let file = match present(variables.gdoc_client) {
        Some(json) => Some(client_file(json)?),
        None => None,
    };
    let places = [
        (text(token, "client_id"), text(token, "client_secret")),
        file.as_ref().map_or((None, None), |(id, secret)| {
            (Some(id.as_str()), Some(secret.as_str()))
        }),
        (
            present(variables.client_id),
            present(variables.client_secret),
        ),
    ];
    let id = places
        .iter()
        .find_map(|(id, _)| *id)
        .ok_or(DriveCredentialsError::NoClient)?;
    let secret = places
        .iter()
        .filter(|(other, _)| other.is_none_or(|other| other == id))
        .find_map(|(_, secret)| *secret)
        .ok_or(DriveCredentialsError::NoClientSecret)?;
    Ok((id.to_owned(), secret.to_owned()))
}

fn client_file(json: &str) -> Result<(String, String), DriveCredentialsError> {
    let file = object(CLIENT, json)?;
    let client = file
        .get("installed")
        .or_else(|| file.get("web"))
        .and_then(Value::as_object)
        .ok_or(DriveCredentialsError::Client)?;
    let part = |name| text(client, name).map(str::to_owned);
    part("client_id")
        .zip(part("client_secret"))
        .ok_or(DriveCredentialsError::Client)
}

fn service_account(token: &Object) -> Result<ServiceAccount, DriveCredentialsError> {
    let client_email = required(token, "client_email")?;
    let private_key = required(token, "private_key")?;
    let private_key = EncodingKey::from_rsa_pem(private_key.as_bytes())
        .ok()
        .filter(can_sign)
        .ok_or(DriveCredentialsError::PrivateKey)?;
    Ok(ServiceAccount {
        client_email,
        key_id: text(token, "private_key_id").map(str::to_owned),
        private_key,
    })
}

fn object(variable: &'static str, json: &str) -> Result<Object, DriveCredentialsError> {
    // What serde says quotes the text.
    let at = |line, column| DriveCredentialsError::Json {
        variable,
        line,
        column,
    };
    match serde_json::from_str::<Value>(json) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(at(0, 0)),
        Err(error) => Err(at(error.line(), error.column())),
    }
}

fn present(variable: Option<&str>) -> Option<&str> {
    variable.map(str::trim).filter(|text| !text.is_empty())
}

fn text<'object>(object: &'object Object, name: &str) -> Option<&'object str> {
    present(object.get(name).and_then(Value::as_str))
}

fn required(object: &Object, name: &'static str) -> Result<String, DriveCredentialsError> {
    text(object, name)
        .map(str::to_owned)
        .ok_or(DriveCredentialsError::Missing(name))
}

fn is_base64(text: &str) -> bool {
    text.bytes().all(|byte| {
        byte.is_ascii_alphanumeric()
            || byte.is_ascii_whitespace()
            || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_')
    })
}

/// Libraries write UTC, and not all of them say so.
fn instant(text: &str) -> Option<DateTime<Utc>> {
    let told = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc());
    told.or_else(|_untold| {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").map(|time| time.and_utc())
    })
    .ok()
}
