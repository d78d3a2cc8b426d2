use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atelier_domain::lora::LoraSource;
use atelier_domain::ports::{RemoteError, RemoteFile, RemoteReader, RemoteSource, RemoteToken};
use futures_util::stream;
use reqwest::StatusCode;
use reqwest::header::CONTENT_DISPOSITION;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::answer::{self, Part};
use crate::body::{Expected, bytes_of};
use crate::disposition::{name_in_header, name_in_path};
use crate::guard::GuardedClient;
use crate::hops::{Hops, Landing};
use crate::link;
use crate::options::{WebOptions, WebOptionsError};
use crate::trouble::{Trouble, nonsense};

/// Imports from the web: from hosts that are allowed, over connections that
/// are guarded, at every redirect anew.
///
/// A link is kept as it was given, without what a page of a known site adds to
/// it; links that carry credentials are refused. A token goes to the host of
/// the link alone. Every download begins at the link again, since the signed
/// links that it leads to run out.
pub struct WebDownloads {
    hops: Arc<Hops>,
    stall_timeout: Duration,
    io: Handle,
}

impl fmt::Debug for WebDownloads {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WebDownloads")
            .field("hops", &self.hops)
            .finish_non_exhaustive()
    }
}

impl WebDownloads {
    /// Sets up imports. All network I/O happens on the runtime of `io`, so that
    /// a connection outlives the thread that asked for it.
    pub fn new(options: WebOptions, io: Handle) -> Result<Self, WebOptionsError> {
        let client = GuardedClient::new(&options.guard())?;
        Ok(Self {
            hops: Arc::new(Hops {
                client,
                allowed_hosts: options.allowed_hosts,
                download_hosts: options.download_hosts,
                max_redirects: options.max_redirects,
                answer_timeout: options.answer_timeout,
            }),
            stall_timeout: options.stall_timeout,
            io,
        })
    }

    fn read(&self, link: &str) -> Result<Url, RemoteError> {
        link::read(link, &self.hops.client, &self.hops.allowed_hosts)
    }

    /// Follows a link on the runtime for I/O. Whoever drops the future ends the
    /// request.
    async fn follow(
        &self,
        url: Url,
        range: Option<String>,
        token: Option<RemoteToken>,
    ) -> Result<Landing, RemoteError> {
        let hops = Arc::clone(&self.hops);
        let task = AbortOnDropHandle::new(self.io.spawn(async move {
            let landing = hops.follow(url, range, token.as_ref()).await?;
            answer::judge(&landing, token.is_some())?;
            Ok(landing)
        }));
        task.await
            .map_err(|_stopped| Trouble::RuntimeGone.unavailable())?
    }
}

#[async_trait]
impl RemoteSource for WebDownloads {
    async fn metadata(
        &self,
        reference: &str,
        token: Option<RemoteToken>,
    ) -> Result<RemoteFile, RemoteError> {
        let url = self.read(reference)?;
        // Its first byte: links of storages are signed for GET, not for HEAD.
        let first_byte = Some("bytes=0-0".to_owned());
        let landing = self.follow(url.clone(), first_byte, token).await?;
        let size_bytes = size(&landing)?;
        if size_bytes == Some(0) {
            return Err(RemoteError::Refused("the file is empty".to_owned()));
        }
        let header = landing.response.headers().get(CONTENT_DISPOSITION);
        let name = header.and_then(|value| name_in_header(value.as_bytes()));
        Ok(RemoteFile {
            name: name.or_else(|| name_in_path(&url)),
            size_bytes,
            revision: answer::revision(&landing),
            md5: None,
            sha256: landing.linked.sha256(),
            resource_key: None,
            source: LoraSource::Url { url: url.into() },
        })
    }

    async fn download(
        &self,
        file: &RemoteFile,
        offset: u64,
        token: Option<RemoteToken>,
    ) -> Result<RemoteReader, RemoteError> {
        let LoraSource::Url { url } = &file.source else {
            return Err(RemoteError::Invalid(
                "the file is not on the web".to_owned(),
            ));
        };
        let url = self.read(url)?;
        let range = (offset > 0).then(|| format!("bytes={offset}-"));
        let landing = self.follow(url, range, token).await?;
        let revision = answer::revision(&landing);
        if file.revision.is_some() && revision.is_some() && file.revision != revision {
            return Err(RemoteError::Changed);
        }
        if landing.response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return at_the_end(&landing, file, offset);
        }
        self.reader(landing, file, offset)
    }
}

impl WebDownloads {
    fn reader(
        &self,
        landing: Landing,
        file: &RemoteFile,
        offset: u64,
    ) -> Result<RemoteReader, RemoteError> {
        let response = landing.response;
        let length = response.content_length();
        let (first, size_bytes, expected) = if answer::is_part(response.status()) {
            let part = Part::of(response.headers())
                .filter(|part| offset > 0 && part.first == offset)
                .ok_or_else(|| nonsense("a part of the file that was not asked for"))?;
            if length.is_some_and(|length| length != part.count) {
                return Err(nonsense(
                    "a part of the file of another length than it says",
                ));
            }
            let expected = Expected {
                count: Some(part.count),
                announced: true,
                left_out: part.left_out(),
            };
            (part.first, part.total, expected)
        } else {
            let expected = Expected {
                count: length.or(file.size_bytes),
                announced: length.is_some(),
                left_out: 0,
            };
            (0, length, expected)
        };
        refuse_another_size(file, size_bytes)?;
        Ok(RemoteReader {
            offset: first,
            size_bytes,
            bytes: bytes_of(response, expected, self.stall_timeout, self.io.clone()),
        })
    }
}

/// The size of the file, by the answer to a request for its first byte.
fn size(landing: &Landing) -> Result<Option<u64>, RemoteError> {
    let response = &landing.response;
    let told = match response.status() {
        StatusCode::RANGE_NOT_SATISFIABLE => answer::total_of_unsatisfied(response.headers()),
        StatusCode::PARTIAL_CONTENT => {
            Part::of(response.headers())
                .filter(|part| part.first == 0)
                .ok_or_else(|| nonsense("a part of the file that was not asked for"))?
                .total
        }
        _ => response.content_length(),
    };
    match (told, landing.linked.size_bytes()) {
        (Some(told), Some(linked)) if told != linked => {
            Err(nonsense("a file of another size than it said before"))
        }
        (None, _) if response.status() == StatusCode::RANGE_NOT_SATISFIABLE => {
            Err(nonsense("a file without a first byte"))
        }
        (told, linked) => Ok(told.or(linked)),
    }
}

/// There is nothing at the offset: right if all is there already.
fn at_the_end(
    landing: &Landing,
    file: &RemoteFile,
    offset: u64,
) -> Result<RemoteReader, RemoteError> {
    let total = answer::total_of_unsatisfied(landing.response.headers());
    refuse_another_size(file, total)?;
    let size_bytes = total.or(file.size_bytes);
    if size_bytes != Some(offset) {
        return Err(RemoteError::Changed);
    }
    Ok(RemoteReader {
        offset,
        size_bytes,
        bytes: Box::pin(stream::empty()),
    })
}

fn refuse_another_size(file: &RemoteFile, size_bytes: Option<u64>) -> Result<(), RemoteError> {
    match (file.size_bytes, size_bytes) {
        (Some(known), Some(told)) if known != told => Err(RemoteError::Changed),
        _ => Ok(()),
    }
}
