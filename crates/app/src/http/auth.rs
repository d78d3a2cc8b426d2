//! Who sends a request.

use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use actix_web::{FromRequest, HttpRequest};
use atelier_domain::actor::Actor;
use atelier_domain::ports::Credentials;
use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;

use super::api::{Api, api_of};
use super::problem::Problem;

/// What Cloudflare Access signs in with.
pub(crate) const ACCESS_ASSERTION: HeaderName = HeaderName::from_static("cf-access-jwt-assertion");

/// The signed-in person. A handler that does not ask for one cannot reach a
/// repository, since every method there takes an [`Actor`].
#[derive(Debug)]
pub(crate) struct AuthActor(pub(crate) Actor);

impl FromRequest for AuthActor {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let api = api_of(request);
        let credentials = credentials(request.headers());
        async move { authenticate(&*api?, &credentials?).await }.boxed_local()
    }
}

async fn authenticate(api: &Api, credentials: &Credentials) -> Result<AuthActor, Problem> {
    let actor = api.ports().verifier.verify(credentials).await?;
    tracing::Span::current().record("user_id", tracing::field::display(actor.user_id()));
    Ok(AuthActor(actor))
}

/// Finds the credentials; whether they are any good is the verifier's to say.
fn credentials(headers: &HeaderMap) -> Result<Credentials, Problem> {
    let mut authorizations = headers.get_all(AUTHORIZATION);
    let bearer = match (authorizations.next(), authorizations.next()) {
        (None, _) => None,
        (Some(value), None) => Some(bearer_token(value)?),
        (Some(_), Some(_)) => {
            return Err(refused("Send the header `Authorization` once, not twice."));
        }
    };
    let access_assertion = headers
        .get(ACCESS_ASSERTION)
        .and_then(|value| value.to_str().ok())
        .filter(|assertion| !assertion.is_empty())
        .map(str::to_owned);
    Ok(Credentials {
        bearer,
        access_assertion,
    })
}

fn bearer_token(value: &HeaderValue) -> Result<String, Problem> {
    let text = value.to_str().map_err(|_not_ascii| {
        refused("The header `Authorization` holds characters outside ASCII.")
    })?;
    let (scheme, token) = text.trim().split_once(' ').unwrap_or((text, ""));
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(refused(
            "The header `Authorization` must read `Bearer <token>`; other schemes are not known here.",
        ));
    }
    if token.is_empty() {
        return Err(refused(
            "The header `Authorization: Bearer` holds no token.",
        ));
    }
    Ok(token.to_owned())
}

fn refused(detail: &'static str) -> Problem {
    Problem::unauthenticated(
        "Bearer realm=\"atelier\", error=\"invalid_request\"",
        detail,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &'static str) -> Result<Option<String>, String> {
        let mut headers = HeaderMap::new();
        headers.append(AUTHORIZATION, HeaderValue::from_static(value));
        credentials(&headers)
            .map(|credentials| credentials.bearer)
            .map_err(|problem| problem.detail().to_owned())
    }

    #[test]
    fn the_scheme_is_read_in_any_case() {
        assert_eq!(read("bearer  abc "), Ok(Some("abc".to_owned())));
    }

    #[test]
    fn what_is_no_bearer_token_is_refused_with_words_that_help() {
        for value in ["Basic dTpw", "abc.def.ghi", "Bearer", "Bearer  "] {
            let refusal = read(value).unwrap_err();
            assert!(refusal.contains("Bearer"), "{value}: {refusal}");
        }
    }
}
