use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use atelier_domain::ports::{Clock, RemoteError, RemoteToken};
use bytes::Bytes;
use reqwest::header::{ACCEPT_ENCODING, HeaderValue, RANGE};
use reqwest::{RequestBuilder, Response, StatusCode};

use crate::api_error::{Asker, Verdict, judge, unauthorized};
use crate::backoff::{Backoff, Patience};
use crate::reference::FileReference;
use crate::tokens::AccessTokens;
use crate::transport::{Transport, Trouble, retry_after};

const RESOURCE_KEYS: &str = "x-goog-drive-resource-keys";

/// Requests to Drive, with whoever's token they need, tried again while that
/// may help.
pub(crate) struct Requests {
    pub(crate) transport: Transport,
    pub(crate) tokens: Option<AccessTokens>,
    pub(crate) patience: Patience,
    pub(crate) clock: Arc<dyn Clock>,
    /// Whom files are to be shared with.
    pub(crate) email: Option<String>,
}

impl fmt::Debug for Requests {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Requests")
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}

/// What is wanted of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted<'text> {
    /// These metadata.
    Fields(&'text str),
    /// The bytes from there on.
    Bytes(u64),
}

impl Requests {
    /// Begins the attempts at one request.
    ///
    /// # Errors
    /// `NotConfigured` if there are no credentials to ask with.
    pub(crate) fn attempts<'these>(
        &'these self,
        lent: Option<&'these RemoteToken>,
    ) -> Result<Attempts<'these>, RemoteError> {
        let bearer = match (lent, &self.tokens) {
            (Some(lent), _) => Bearer::Lent(lent),
            (None, Some(tokens)) => Bearer::Own(tokens),
            (None, None) => return Err(not_configured()),
        };
        Ok(Attempts {
            requests: self,
            bearer,
            backoff: Backoff::new(self.patience),
            renewed: false,
        })
    }

    fn build(&self, file: &FileReference, wanted: Wanted<'_>) -> RequestBuilder {
        let mut url = self.transport.file_url(&file.id);
        let mut query = url.query_pairs_mut();
        query.append_pair("supportsAllDrives", "true");
        match wanted {
            Wanted::Fields(fields) => query.append_pair("fields", fields),
            Wanted::Bytes(_) => query.append_pair("alt", "media"),
        };
        drop(query);
        let mut request = self.transport.client.get(url);
        if let Some(key) = &file.resource_key {
            request = request.header(RESOURCE_KEYS, format!("{}/{key}", file.id));
        }
        if let Wanted::Bytes(offset) = wanted {
            request = request.header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            if offset > 0 {
                request = request.header(RANGE, format!("bytes={offset}-"));
            }
        }
        request
    }
}

pub(crate) fn not_configured() -> RemoteError {
    RemoteError::NotConfigured(
        "this server has no credentials for Google Drive: whoever runs it must set GDOC_TOKEN, and GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET if that names no client; or send a Google access token of your own along".to_owned(),
    )
}

/// Whose token is shown.
#[derive(Clone, Copy)]
enum Bearer<'these> {
    Lent(&'these RemoteToken),
    Own(&'these AccessTokens),
}

/// The attempts at one request.
pub(crate) struct Attempts<'these> {
    requests: &'these Requests,
    bearer: Bearer<'these>,
    backoff: Backoff,
    renewed: bool,
}

impl Attempts<'_> {
    /// Asks for a file until the answer is a success, or status 416, or
    /// nothing more is to be hoped for.
    pub(crate) async fn response(
        &mut self,
        file: &FileReference,
        wanted: Wanted<'_>,
    ) -> Result<Response, RemoteError> {
        let transport = &self.requests.transport;
        loop {
            let token = match self.bearer {
                Bearer::Lent(token) => token.expose().to_owned(),
                Bearer::Own(tokens) => tokens.current().await?,
            };
            let request = self.requests.build(file, wanted).bearer_auth(&token);
            let (trouble, pause) = match transport.send(request).await {
                Ok(response) if is_answer(response.status()) => return Ok(response),
                Ok(response) => {
                    let pause = retry_after(response.headers(), self.requests.clock.now());
                    match self.verdict(response).await {
                        Verdict::Retry(trouble) => (trouble, pause),
                        Verdict::Unauthorized => {
                            self.renew(&token).await?;
                            continue;
                        }
                        Verdict::Final(error) => return Err(error),
                    }
                }
                Err(trouble) => (trouble, None),
            };
            self.again(trouble, pause).await?;
        }
    }

    /// Asks for metadata, and reads them.
    pub(crate) async fn body(
        &mut self,
        file: &FileReference,
        fields: &str,
    ) -> Result<Bytes, RemoteError> {
        loop {
            let response = self.response(file, Wanted::Fields(fields)).await?;
            if response.status() != StatusCode::OK {
                let status = response.status().as_u16();
                return Err(RemoteError::Backend(Box::new(Trouble::Status(status))));
            }
            match self.requests.transport.body(response).await {
                Ok(body) => return Ok(body),
                Err(trouble @ Trouble::TooLong) => {
                    return Err(RemoteError::Backend(Box::new(trouble)));
                }
                Err(trouble) => self.again(trouble, None).await?,
            }
        }
    }

    async fn verdict(&self, response: Response) -> Verdict {
        let status = response.status().as_u16();
        // Without its body, an error is judged by its status.
        let body = self.requests.transport.body(response).await;
        judge(status, &body.unwrap_or_default(), self.asker())
    }

    fn asker(&self) -> Asker<'_> {
        match self.bearer {
            Bearer::Lent(_) => Asker::Lender,
            Bearer::Own(_) => Asker::Server {
                email: self.requests.email.as_deref(),
            },
        }
    }

    /// Gets a new token, once, and only for this server itself.
    async fn renew(&mut self, token: &str) -> Result<(), RemoteError> {
        match self.bearer {
            Bearer::Own(tokens) if !self.renewed => {
                self.renewed = true;
                tokens.refused(token).await;
                Ok(())
            }
            Bearer::Own(_) | Bearer::Lent(_) => Err(unauthorized(self.asker())),
        }
    }

    /// Waits before the next attempt, if there is to be one.
    async fn again(
        &mut self,
        trouble: Trouble,
        retry_after: Option<Duration>,
    ) -> Result<(), RemoteError> {
        let Some(pause) = self.backoff.next(retry_after) else {
            return Err(RemoteError::Unavailable {
                retry_after,
                source: Box::new(trouble),
            });
        };
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

fn is_answer(status: StatusCode) -> bool {
    status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE
}
