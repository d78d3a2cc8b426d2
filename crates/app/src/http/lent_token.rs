//! Credentials that somebody lends for one import: used once, kept nowhere.

use actix_web::http::header::{HeaderMap, HeaderName};
use atelier_domain::ports::RemoteToken;

use super::problem::{Problem, ProblemCode};

/// A Google access token, as it is.
pub(crate) const GOOGLE_ACCESS_TOKEN: HeaderName = HeaderName::from_static("x-google-access-token");

/// `Bearer <token>`, for the host of an address.
pub(crate) const SOURCE_AUTHORIZATION: HeaderName =
    HeaderName::from_static("x-source-authorization");

/// All of them.
pub(crate) const LENT_TOKENS: [HeaderName; 2] = [GOOGLE_ACCESS_TOKEN, SOURCE_AUTHORIZATION];

/// Reads the token for Google Drive, if one is lent; `Bearer ` before it does no
/// harm.
///
/// # Errors
/// `bad-request`, 400, for what is no token.
pub(crate) fn google_access_token(headers: &HeaderMap) -> Result<Option<RemoteToken>, Problem> {
    lent(
        headers,
        &GOOGLE_ACCESS_TOKEN,
        |text| Some(without_scheme(text).unwrap_or(text)),
        "Send the header `X-Google-Access-Token` once, with one access token of Google's.",
    )
}

/// Reads the token for the host of an address, if one is lent.
///
/// # Errors
/// `bad-request`, 400, for what is no `Bearer` token.
pub(crate) fn source_authorization(headers: &HeaderMap) -> Result<Option<RemoteToken>, Problem> {
    lent(
        headers,
        &SOURCE_AUTHORIZATION,
        without_scheme,
        "Send the header `X-Source-Authorization` once; it must read `Bearer <token>`.",
    )
}

fn without_scheme(text: &str) -> Option<&str> {
    let (scheme, token) = text.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start())
}

/// The value is never repeated: it may be a token with a typing error.
fn lent(
    headers: &HeaderMap,
    name: &HeaderName,
    token_of: impl FnOnce(&str) -> Option<&str>,
    refusal: &'static str,
) -> Result<Option<RemoteToken>, Problem> {
    let mut values = headers.get_all(name);
    let token = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value
            .to_str()
            .ok()
            .and_then(|text| token_of(text.trim()))
            .and_then(RemoteToken::parse),
        (Some(_), Some(_)) => None,
    };
    match token {
        Some(token) => Ok(Some(token)),
        None => Err(Problem::new(ProblemCode::BadRequest, refusal)),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    type Reading = fn(&HeaderMap) -> Result<Option<RemoteToken>, Problem>;

    fn read(
        reading: Reading,
        name: &HeaderName,
        values: &[&'static str],
    ) -> Result<Option<String>, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.clone(), HeaderValue::from_static(value));
        }
        reading(&headers)
            .map(|token| token.map(|token| token.expose().to_owned()))
            .map_err(|problem| problem.detail().to_owned())
    }

    #[test]
    fn a_google_token_comes_bare_or_as_a_bearer_token() {
        let google =
            |values: &[&'static str]| read(google_access_token, &GOOGLE_ACCESS_TOKEN, values);

        assert_eq!(google(&[]), Ok(None));
        assert_eq!(google(&["ya29.a"]), Ok(Some("ya29.a".to_owned())));
        assert_eq!(google(&["bearer ya29.a"]), Ok(Some("ya29.a".to_owned())));
    }

    #[test]
    fn a_token_for_a_host_is_a_bearer_token() {
        let source =
            |values: &[&'static str]| read(source_authorization, &SOURCE_AUTHORIZATION, values);

        assert_eq!(source(&["Bearer  hf_a"]), Ok(Some("hf_a".to_owned())));
        assert!(source(&["hf_a"]).is_err());
    }

    #[test]
    fn what_is_no_token_is_refused_without_repeating_it() {
        for values in [
            &[""][..],
            &["hunter2 hunter2"],
            &["Basic hunter2"],
            &["Bearer"],
            &["Bearer hunter2", "Bearer hunter3"],
        ] {
            let told = read(source_authorization, &SOURCE_AUTHORIZATION, values).unwrap_err();
            assert!(
                told.contains("Bearer <token>") && !told.contains("hunter"),
                "{told}"
            );
        }
        let two = &["hunter2", "hunter3"];
        let told = read(google_access_token, &GOOGLE_ACCESS_TOKEN, two).unwrap_err();
        assert!(!told.contains("hunter"), "{told}");
    }
}
