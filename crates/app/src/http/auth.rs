//! Who sends a request.

use actix_web::dev::Payload;
use actix_web::http::header::{
    AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue, WWW_AUTHENTICATE,
};
use actix_web::{FromRequest, HttpRequest};
use atelier_application::identity::Credentials;
use atelier_domain::actor::Actor;
use atelier_domain::api_token::Scope;
use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;

use super::api::{Api, api_of};
use super::problem::{Problem, ProblemCode};

/// What Cloudflare Access signs in with.
pub(crate) const ACCESS_ASSERTION: HeaderName = HeaderName::from_static("cf-access-jwt-assertion");

/// The cookie that it gives to browsers.
const ACCESS_COOKIE: &str = "CF_Authorization";

/// Makes the extractors by which a handler gets an [`Actor`]. A handler without
/// one cannot reach a repository, since every method there takes an actor; and
/// its signature says what it needs.
macro_rules! extractors {
    ($($(#[$documentation:meta])* $name:ident = $permitted:expr, $refusal:expr;)*) => {$(
        $(#[$documentation])*
        #[derive(Debug)]
        pub(crate) struct $name(pub(crate) Actor);

        impl FromRequest for $name {
            type Error = Problem;
            type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

            fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
                let api = api_of(request);
                let credentials = credentials(request);
                let request = request.clone();
                async move {
                    let actor = authenticate(&*api?, &credentials?, &request).await?;
                    let permitted: fn(&Actor) -> bool = $permitted;
                    if permitted(&actor) { Ok(Self(actor)) } else { Err($refusal) }
                }
                .boxed_local()
            }
        }
    )*};
}

extractors! {
    /// Somebody who may read workflows.
    ReadsWorkflows = |actor| actor.may(Scope::WorkflowsRead), beyond(Scope::WorkflowsRead);
    /// Somebody who may make, change and delete workflows.
    WritesWorkflows = |actor| actor.may(Scope::WorkflowsWrite), beyond(Scope::WorkflowsWrite);
    /// Somebody who may read runs and what they left.
    ReadsRuns = |actor| actor.may(Scope::RunsRead), beyond(Scope::RunsRead);
    /// Somebody who may start and cancel runs.
    WritesRuns = |actor| actor.may(Scope::RunsWrite), beyond(Scope::RunsWrite);
    /// Somebody who may read LoRAs.
    ReadsLoras = |actor| actor.may(Scope::LorasRead), beyond(Scope::LorasRead);
    /// Somebody who may bring LoRAs in and delete them.
    WritesLoras = |actor| actor.may(Scope::LorasWrite), beyond(Scope::LorasWrite);
    /// Somebody who signed in, and no personal token of theirs.
    SignedIn = Actor::is_signed_in, Problem::new(
        ProblemCode::Forbidden,
        "A personal token cannot do this: sign in, and use the access token of the session.",
    );
}

/// A personal token that does not reach so far (RFC 6750 section 3.1).
fn beyond(scope: Scope) -> Problem {
    let problem = Problem::new(
        ProblemCode::InsufficientScope,
        format!("This personal token has not the scope `{scope}`."),
    );
    let challenge =
        format!("Bearer realm=\"atelier\", error=\"insufficient_scope\", scope=\"{scope}\"");
    match HeaderValue::try_from(challenge) {
        Ok(challenge) => problem.with_header(WWW_AUTHENTICATE, challenge),
        Err(_impossible) => problem,
    }
}

async fn authenticate(
    api: &Api,
    credentials: &Credentials,
    request: &HttpRequest,
) -> Result<Actor, Problem> {
    let actor = api.sign_in().execute(credentials).await?;
    tracing::Span::current().record("user_id", tracing::field::display(actor.user_id()));
    if let Some(limits) = api.rate_limits() {
        limits.take(actor.user_id(), request)?;
    }
    Ok(actor)
}

/// Finds the credentials; whether they are any good is the verifier's to say.
fn credentials(request: &HttpRequest) -> Result<Credentials, Problem> {
    let headers = request.headers();
    let bearer = bearer(headers)?;
    let access_assertion = assertion(headers);
    // What a browser sends along by itself, any page can make it send.
    if bearer.is_none() && access_assertion.is_some() && is_foreign_write(request) {
        return Err(Problem::new(
            ProblemCode::Forbidden,
            "Another site asks for this, and nothing but a cookie says who you are. Send the header \
             `Authorization: Bearer <token>`.",
        ));
    }
    Ok(Credentials {
        bearer,
        access_assertion,
    })
}

fn bearer(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut authorizations = headers.get_all(AUTHORIZATION);
    match (authorizations.next(), authorizations.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => bearer_token(value).map(Some),
        (Some(_), Some(_)) => Err(refused("Send the header `Authorization` once, not twice.")),
    }
}

/// The assertion's header, or else the cookie that browsers have
/// (`reference/platform/PROTOCOLS.md` section 3).
fn assertion(headers: &HeaderMap) -> Option<String> {
    let header = headers
        .get(ACCESS_ASSERTION)
        .and_then(|value| value.to_str().ok());
    let cookies = headers
        .get_all(COOKIE)
        .filter_map(|value| value.to_str().ok());
    let mut cookies = cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .filter(|(name, _)| *name == ACCESS_COOKIE)
        .map(|(_, value)| value);
    header
        .filter(|assertion| !assertion.is_empty())
        .or_else(|| cookies.find(|assertion| !assertion.is_empty()))
        .map(str::to_owned)
}

/// Whether a page of another site makes a browser change something here (Fetch
/// Metadata: `Sec-Fetch-Site`).
fn is_foreign_write(request: &HttpRequest) -> bool {
    !request.method().is_safe()
        && request
            .headers()
            .get("sec-fetch-site")
            .is_some_and(|site| site == "cross-site")
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

    use actix_web::test::TestRequest;

    fn read(value: &'static str) -> Result<Option<String>, String> {
        let mut headers = HeaderMap::new();
        headers.append(AUTHORIZATION, HeaderValue::from_static(value));
        bearer(&headers).map_err(|problem| problem.detail().to_owned())
    }

    #[test]
    fn the_cookie_of_cloudflare_access_stands_in_for_its_header() {
        let request = |headers: &[(&'static str, &'static str)]| {
            let mut request = TestRequest::get();
            for header in headers {
                request = request.append_header(*header);
            }
            assertion(request.to_http_request().headers())
        };

        let cookie = ("cookie", "a=b; CF_Authorization=from-cookie; c=d");
        assert_eq!(request(&[cookie]).as_deref(), Some("from-cookie"));
        let header = ("cf-access-jwt-assertion", "from-header");
        assert_eq!(request(&[cookie, header]).as_deref(), Some("from-header"));
        assert_eq!(
            request(&[("cookie", "XCF_Authorization=a; CF_Authorization=")]),
            None
        );
    }

    #[test]
    fn another_site_cannot_write_with_a_cookie_alone() {
        let sent = |bearer: bool, site: &'static str| {
            let mut request = TestRequest::post()
                .append_header(("cookie", "CF_Authorization=a"))
                .append_header(("sec-fetch-site", site));
            if bearer {
                request = request.append_header((AUTHORIZATION, "Bearer b"));
            }
            credentials(&request.to_http_request()).is_ok()
        };

        assert!(!sent(false, "cross-site"));
        assert!(sent(true, "cross-site"));
        assert!(sent(false, "same-origin"));
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
