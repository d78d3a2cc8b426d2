use std::fmt;
use std::path::PathBuf;

use atelier_domain::ports::{BlobKey, Source};
use thiserror::Error;
use url::Url;

/// Which object store to use, and how to get in. `Debug` never shows the keys.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BlobOptions {
    /// `s3://bucket` or `s3://bucket/prefix`; `file:///folder`; `memory:`.
    pub url: String,
    /// Where the S3 server is, such as `http://minio:9000`; `None` for AWS
    /// itself. Buckets are addressed by path.
    pub endpoint: Option<String>,
    /// The S3 region; `us-east-1` if absent.
    pub region: Option<String>,
    /// The S3 access key. Only AWS itself works without: there, the machine's
    /// role is taken.
    pub access_key: Option<String>,
    /// The secret that belongs to it.
    pub secret_key: Option<String>,
}

impl fmt::Debug for BlobOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let public = |text: &str| {
            if text.contains('@') {
                "[hidden]".to_owned()
            } else {
                text.to_owned()
            }
        };
        formatter
            .debug_struct("BlobOptions")
            .field("url", &public(&self.url))
            .field("endpoint", &self.endpoint.as_deref().map(public))
            .field("region", &self.region)
            .field("access_key", &self.access_key.is_some())
            .field("secret_key", &self.secret_key.is_some())
            .finish()
    }
}

/// What is wrong with [`BlobOptions`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BlobOptionsError {
    /// The address has none of the three forms.
    #[error("the blob URL must be s3://bucket, s3://bucket/prefix, file:///folder or memory:")]
    Url,
    /// The address carries a user name, a password, a query or a fragment.
    #[error(
        "the blob URL must not carry credentials, a query or a fragment: give the keys on their own"
    )]
    UrlExtras,
    /// The part after the bucket cannot begin a key.
    #[error("the prefix in the blob URL must be plain segments joined by \"/\"")]
    Prefix,
    /// The endpoint is no plain address of an HTTP server.
    #[error(
        "the S3 endpoint must be an http:// or https:// address without credentials, path, query or fragment"
    )]
    Endpoint,
    /// One key without the other.
    #[error("the S3 access key and the secret key must be given together")]
    HalfAKey,
    /// No keys for a server that is not AWS.
    #[error("an S3 endpoint needs an access key and a secret key")]
    NoKeys,
    /// The folder cannot be made or used.
    #[error("the blob folder {} cannot be used", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: Source,
    },
    /// Others may write into the folder, and could plant links there.
    #[error("the blob folder {} can be written by everybody; run chmod o-w on it", folder.display())]
    FolderOpenToAll {
        /// The folder.
        folder: PathBuf,
    },
    /// The client of the store refuses the options.
    #[error("the object store cannot be set up")]
    Store(#[source] Source),
}

/// The three kinds of stores, checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Memory,
    Folder(PathBuf),
    S3 {
        bucket: String,
        prefix: Option<BlobKey>,
    },
}

impl BlobOptions {
    pub(crate) fn place(&self) -> Result<Place, BlobOptionsError> {
        let url = Url::parse(&self.url).map_err(|_not_a_url| BlobOptionsError::Url)?;
        let has_user = !url.username().is_empty() || url.password().is_some();
        if has_user || url.query().is_some() || url.fragment().is_some() {
            return Err(BlobOptionsError::UrlExtras);
        }
        match url.scheme() {
            "memory" if url.host().is_none() && url.path().trim_matches('/').is_empty() => {
                Ok(Place::Memory)
            }
            "file" => match url.to_file_path() {
                Ok(folder) if folder.parent().is_some() => Ok(Place::Folder(folder)),
                _ => Err(BlobOptionsError::Url),
            },
            "s3" => self.bucket_place(&url),
            _ => Err(BlobOptionsError::Url),
        }
    }

    fn bucket_place(&self, url: &Url) -> Result<Place, BlobOptionsError> {
        let bucket = url
            .host_str()
            .filter(|bucket| !bucket.is_empty())
            .ok_or(BlobOptionsError::Url)?;
        if url.port().is_some() {
            return Err(BlobOptionsError::Url);
        }
        // Taken from the text, since a URL rewrites what it does not like.
        let prefix = self
            .url
            .split_once("://")
            .and_then(|(_, rest)| rest.split_once('/'))
            .map(|(_, path)| path);
        let prefix = match prefix.map(|path| path.strip_suffix('/').unwrap_or(path)) {
            None | Some("") => None,
            Some(path) => Some(BlobKey::parse(path).map_err(|_invalid| BlobOptionsError::Prefix)?),
        };
        match (&self.access_key, &self.secret_key) {
            (Some(_), None) | (None, Some(_)) => return Err(BlobOptionsError::HalfAKey),
            (None, None) if self.endpoint.is_some() => return Err(BlobOptionsError::NoKeys),
            _ => {}
        }
        Ok(Place::S3 {
            bucket: bucket.to_owned(),
            prefix,
        })
    }

    /// The endpoint without a slash at its end, and whether it is plain HTTP.
    pub(crate) fn checked_endpoint(&self) -> Result<Option<(String, bool)>, BlobOptionsError> {
        let Some(endpoint) = &self.endpoint else {
            return Ok(None);
        };
        let url = Url::parse(endpoint).map_err(|_not_a_url| BlobOptionsError::Endpoint)?;
        let plain = url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.has_host();
        if !plain || !matches!(url.scheme(), "http" | "https") {
            return Err(BlobOptionsError::Endpoint);
        }
        Ok(Some((
            url.as_str().trim_end_matches('/').to_owned(),
            url.scheme() == "http",
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> BlobOptions {
        BlobOptions {
            url: url.to_owned(),
            access_key: Some("AK".to_owned()),
            secret_key: Some("very-secret".to_owned()),
            ..BlobOptions::default()
        }
    }

    #[test]
    fn the_three_forms_are_read() {
        let bucket = |prefix: Option<&str>| Place::S3 {
            bucket: "my-bucket".to_owned(),
            prefix: prefix.map(|text| BlobKey::parse(text).unwrap()),
        };
        for (url, place) in [
            ("memory:", Place::Memory),
            ("memory://", Place::Memory),
            (
                "file:///var/lib/a%20b",
                Place::Folder("/var/lib/a b".into()),
            ),
            ("s3://my-bucket", bucket(None)),
            ("s3://my-bucket/", bucket(None)),
            ("s3://my-bucket/a/b c/", bucket(Some("a/b c"))),
        ] {
            assert_eq!(options(url).place().unwrap(), place, "{url}");
        }
    }

    #[test]
    fn other_addresses_are_refused() {
        for url in [
            "",
            "bucket",
            "s3://",
            "s3:///prefix",
            "s3://bucket:9000",
            "s3://bucket/a/../b",
            "s3://bucket//a",
            "s3://key:secret@bucket",
            "s3://bucket?region=x",
            "file://host/folder",
            "file:///",
            "https://bucket",
            "memory:x",
        ] {
            assert!(options(url).place().is_err(), "{url}");
        }
    }

    #[test]
    fn keys_come_in_pairs_and_servers_other_than_aws_need_them() {
        let half = BlobOptions {
            secret_key: None,
            ..options("s3://bucket")
        };
        let none = BlobOptions {
            access_key: None,
            secret_key: None,
            endpoint: Some("http://minio:9000".to_owned()),
            ..options("s3://bucket")
        };
        let aws = BlobOptions {
            endpoint: None,
            ..none.clone()
        };

        assert!(matches!(half.place(), Err(BlobOptionsError::HalfAKey)));
        assert!(matches!(none.place(), Err(BlobOptionsError::NoKeys)));
        assert!(aws.place().is_ok());
    }

    #[test]
    fn an_endpoint_is_the_plain_address_of_a_server() {
        let endpoint = |text: &str| {
            BlobOptions {
                endpoint: Some(text.to_owned()),
                ..options("s3://bucket")
            }
            .checked_endpoint()
        };

        assert_eq!(
            endpoint("http://minio:9000/").unwrap(),
            Some(("http://minio:9000".to_owned(), true))
        );
        assert_eq!(
            endpoint("https://s3.example").unwrap(),
            Some(("https://s3.example".to_owned(), false))
        );
        for text in [
            "minio:9000",
            "ftp://minio",
            "http://u:p@minio",
            "http://minio/path",
            "http://minio?x=1",
        ] {
            assert!(endpoint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!(
            "{:?}",
            BlobOptions {
                url: "s3://a:very-secret@b".to_owned(),
                ..options("")
            }
        );

        assert!(
            !shown.contains("very-secret") && !shown.contains("AK\""),
            "{shown}"
        );
    }
}
