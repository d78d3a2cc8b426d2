//! The object store.
//!
//! - `BLOB_URL`: `s3://bucket` (or `s3://bucket/prefix`), `file:///folder`, or `memory:`.
//! - `MINIO_ENDPOINT` (or `AWS_ENDPOINT_URL`): the S3 server, unless it is AWS.
//! - `MINIO_ACCESS_KEY` (or `AWS_ACCESS_KEY_ID`), `MINIO_SECRET_KEY` (or
//!   `AWS_SECRET_ACCESS_KEY`): its keys.
//! - `AWS_REGION`: its region, `us-east-1` if not set.
#![expect(clippy::doc_markdown, reason = "clap prints these texts as they stand")]

use super::{Mistakes, Secret, or_variables};

const URL: &str = "BLOB_URL";
const ACCESS_KEY: &str = "MINIO_ACCESS_KEY";
const SECRET_KEY: &str = "MINIO_SECRET_KEY";

/// How the object store is told.
#[derive(Clone, Debug, clap::Args)]
pub struct BlobArguments {
    /// Where files go: s3://bucket, file:///folder, or memory:.
    #[arg(long, env = URL, value_name = "URL")]
    pub blob_url: Option<String>,
    /// The S3 server, unless it is AWS; AWS_ENDPOINT_URL works too.
    #[arg(long, env = "MINIO_ENDPOINT", value_name = "URL")]
    pub s3_endpoint: Option<String>,
    /// The S3 access key; AWS_ACCESS_KEY_ID works too.
    #[arg(
        long,
        env = ACCESS_KEY,
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub s3_access_key: Option<String>,
    /// The S3 secret key; AWS_SECRET_ACCESS_KEY works too.
    #[arg(
        long,
        env = SECRET_KEY,
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub s3_secret_key: Option<String>,
    /// The S3 region.
    #[arg(long, env = "AWS_REGION", value_name = "REGION")]
    pub s3_region: Option<String>,
}

/// Where objects are. What is wrong with the address itself, the adapter says when it opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobConfig {
    /// The kind of store, and the place.
    pub url: String,
    /// The S3 server.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// Its access key.
    pub access_key: Option<Secret>,
    /// Its secret key.
    pub secret_key: Option<Secret>,
}

impl BlobArguments {
    /// The address, if it is given.
    pub(crate) fn given_url(&self) -> Option<String> {
        or_variables(self.blob_url.clone(), &[])
    }

    /// Checks the arguments.
    pub fn check(self, mistakes: &mut Mistakes) -> Option<BlobConfig> {
        let Some(url) = self.given_url() else {
            mistakes.add(URL, "is required: s3://bucket, file:///folder, or memory:");
            return None;
        };
        if !["s3://", "file:///", "memory:"]
            .iter()
            .any(|kind| url.starts_with(kind))
        {
            mistakes.add(URL, "must be s3://bucket, file:///folder, or memory:");
        }
        let endpoints = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
        Some(BlobConfig {
            url,
            endpoint: or_variables(self.s3_endpoint, &endpoints),
            region: or_variables(self.s3_region, &["AWS_DEFAULT_REGION"]),
            access_key: mistakes.secret(self.s3_access_key, &[ACCESS_KEY, "AWS_ACCESS_KEY_ID"]),
            secret_key: mistakes.secret(self.s3_secret_key, &[SECRET_KEY, "AWS_SECRET_ACCESS_KEY"]),
        })
    }
}
