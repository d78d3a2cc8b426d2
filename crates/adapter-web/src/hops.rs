use std::time::Duration;

use atelier_domain::ports::{RemoteError, RemoteToken};
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, Response};
use tokio::time::timeout;
use url::Url;

use crate::answer::Linked;
use crate::guard::GuardedClient;
use crate::host_rule::HostRule;
use crate::link::host_and_port;
use crate::resolver::leads_nowhere_public;
use crate::trouble::{Trouble, nonsense};

/// The answer at the end of a chain of redirects.
#[derive(Debug)]
pub(crate) struct Landing {
    pub(crate) response: Response,
    /// Where it came from.
    pub(crate) url: Url,
    /// Whether that is a host that people know, not one that stores.
    pub(crate) is_front: bool,
    /// What the host that was asked at first told on the way.
    pub(crate) linked: Linked,
}

/// Follows redirects by hand: each hop is judged as if it were the first.
#[derive(Debug)]
pub(crate) struct Hops {
    pub(crate) client: GuardedClient,
    pub(crate) allowed_hosts: Vec<HostRule>,
    pub(crate) download_hosts: Vec<HostRule>,
    pub(crate) max_redirects: usize,
    pub(crate) answer_timeout: Duration,
}

impl Hops {
    /// Asks for bytes of a file, in the words of the header `Range`, from where
    /// a link leads.
    pub(crate) async fn follow(
        &self,
        start: Url,
        range: Option<String>,
        token: Option<&RemoteToken>,
    ) -> Result<Landing, RemoteError> {
        let walk = self.walk(start, range.as_deref(), token);
        match timeout(self.answer_timeout, walk).await {
            Ok(landing) => landing,
            Err(_elapsed) => Err(Trouble::NoAnswer(self.answer_timeout).unavailable()),
        }
    }

    async fn walk(
        &self,
        start: Url,
        range: Option<&str>,
        mut token: Option<&RemoteToken>,
    ) -> Result<Landing, RemoteError> {
        let home = start.origin();
        let mut at_home = true;
        let mut url = start;
        let mut linked = Linked::default();
        for _hop in 0..=self.max_redirects {
            let response = self.ask(&url, range, token).await?;
            if at_home {
                linked.learn(response.headers());
            }
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                let is_front = self.allowed_hosts.iter().any(|rule| rule.covers(&url));
                return Ok(Landing {
                    response,
                    url,
                    is_front,
                    linked,
                });
            }
            url = self.next(&url, &response)?;
            if url.origin() != home {
                // For good, even if a later hop leads back.
                at_home = false;
                token = None;
            }
        }
        Err(RemoteError::Refused(format!(
            "the link is redirected more than {} times",
            self.max_redirects
        )))
    }

    async fn ask(
        &self,
        url: &Url,
        range: Option<&str>,
        token: Option<&RemoteToken>,
    ) -> Result<Response, RemoteError> {
        let mut request = self
            .client
            .request(Method::GET, url.clone())
            .map_err(|refusal| RemoteError::Refused(format!("the link cannot be used: {refusal}")))?
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        if let Some(token) = token {
            let value = HeaderValue::from_str(&format!("Bearer {}", token.expose()));
            let mut value = value.map_err(|_unsendable| {
                RemoteError::Unauthorized("the token cannot be sent".to_owned())
            })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        request.send().await.map_err(|error| failure(error, url))
    }

    fn next(&self, url: &Url, response: &Response) -> Result<Url, RemoteError> {
        let location = response
            .headers()
            .get(LOCATION)
            .and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
            .ok_or_else(|| nonsense("a redirect that leads nowhere"))?;
        let mut next = url
            .join(location)
            .map_err(|_no_url| nonsense("a redirect that leads nowhere"))?;
        next.set_fragment(None);
        self.client.judge(&next).map_err(|refusal| {
            RemoteError::Refused(format!(
                "the link leads on to an address that is not gone to: {refusal}"
            ))
        })?;
        let mut rules = self.allowed_hosts.iter().chain(&self.download_hosts);
        if !rules.any(|rule| rule.covers(&next)) {
            return Err(RemoteError::Refused(format!(
                "the link leads on to {}, from where this server does not download",
                host_and_port(&next)
            )));
        }
        Ok(next)
    }
}

/// What kept a request from being answered. Addresses may be signed, so they
/// are taken out.
fn failure(error: reqwest::Error, url: &Url) -> RemoteError {
    if leads_nowhere_public(&error) {
        return RemoteError::Refused(format!(
            "{} has no address on the public Internet, so this server does not go there",
            host_and_port(url)
        ));
    }
    RemoteError::Unavailable {
        retry_after: None,
        source: Box::new(error.without_url()),
    }
}
