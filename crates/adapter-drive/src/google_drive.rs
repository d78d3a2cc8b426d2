use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use atelier_domain::ports::{
    Clock, RemoteError, RemoteFile, RemoteReader, RemoteSource, RemoteToken,
};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use crate::backoff::Patience;
use crate::download::download;
use crate::options::{DriveOptions, DriveOptionsError};
use crate::reference::FileReference;
use crate::requests::{Requests, not_configured};
use crate::tokens::AccessTokens;
use crate::transport::Transport;

/// Files on Google Drive. Clones share connections and access tokens.
///
/// All I/O happens on the runtime that it was made with, whichever runtime it
/// is used from. With a token that somebody lends, this server's own
/// credentials are not used at all.
#[derive(Clone)]
pub struct GoogleDrive {
    requests: Arc<Requests>,
    runtime: Handle,
}

impl fmt::Debug for GoogleDrive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("GoogleDrive")
            .field("url", &self.requests.transport.api_url().as_str())
            .finish_non_exhaustive()
    }
}

impl GoogleDrive {
    /// Prepares a client; nothing is sent yet. `clock` tells when access tokens
    /// end.
    ///
    /// # Errors
    /// What is wrong with the options.
    pub fn new(
        options: DriveOptions,
        clock: Arc<dyn Clock>,
        runtime: Handle,
    ) -> Result<Self, DriveOptionsError> {
        let transport = Transport::new(&options)?;
        let patience = Patience {
            pause: options.retry_pause,
            within: options.retry_within,
        };
        let email = options
            .credentials
            .as_ref()
            .and_then(|credentials| credentials.service_account_email())
            .map(str::to_owned);
        let tokens = options.credentials.map(|credentials| {
            AccessTokens::new(
                transport.clone(),
                patience,
                credentials,
                Arc::clone(&clock),
                runtime.clone(),
            )
        });
        Ok(Self {
            requests: Arc::new(Requests {
                transport,
                tokens,
                patience,
                clock,
                email,
            }),
            runtime,
        })
    }

    /// Whether this server was given credentials of its own.
    pub fn is_configured(&self) -> bool {
        self.requests.tokens.is_some()
    }

    /// Gets an access token with this server's own credentials, unless there
    /// is one that is still good: what a self-check asks.
    ///
    /// # Errors
    /// [`RemoteError::NotConfigured`] without credentials, and what Google says
    /// to them.
    pub async fn check_credentials(&self) -> Result<(), RemoteError> {
        let tokens = self.requests.tokens.as_ref().ok_or_else(not_configured)?;
        tokens.current().await?;
        Ok(())
    }

    async fn run<T, F>(&self, work: F) -> Result<T, RemoteError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, RemoteError>> + Send + 'static,
    {
        AbortOnDropHandle::new(self.runtime.spawn(work))
            .await
            .unwrap_or_else(|error| {
                Err(RemoteError::Unavailable {
                    retry_after: None,
                    source: Box::new(error),
                })
            })
    }
}

#[async_trait]
impl RemoteSource for GoogleDrive {
    async fn metadata(
        &self,
        reference: &str,
        token: Option<RemoteToken>,
    ) -> Result<RemoteFile, RemoteError> {
        let reference = FileReference::parse(reference)?;
        let requests = Arc::clone(&self.requests);
        self.run(async move { requests.file(reference, token.as_ref()).await })
            .await
    }

    async fn download(
        &self,
        file: &RemoteFile,
        offset: u64,
        token: Option<RemoteToken>,
    ) -> Result<RemoteReader, RemoteError> {
        let requests = Arc::clone(&self.requests);
        self.run(download(requests, file.clone(), offset, token))
            .await
    }
}
