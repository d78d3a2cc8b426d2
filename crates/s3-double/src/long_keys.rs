use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput,
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, GetObjectInput,
    GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput,
    ListObjectsV2Input, ListObjectsV2Output, PutObjectInput, PutObjectOutput, StreamingBlob,
    UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Error, S3Request, S3Response, S3Result};
use s3s_fs::FileSystem;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::task::spawn_blocking;
use tokio_util::io::ReaderStream;

use crate::multipart::Assembly;

/// `s3s-fs` makes file names out of whole keys, base64 and more around them.
const LONGEST_KEY_BYTES: usize = 120;

/// `s3s-fs` reads 4 KiB at a time, each with a hop to another thread: no real
/// server would send a large object so slowly.
const READ_BYTES: usize = 256 * 1024;

/// The file system, taking keys as long as S3 does: a long one is stored under
/// `long/` and a hash, and listed so.
pub(crate) struct LongKeys {
    pub(crate) files: FileSystem,
    pub(crate) root: PathBuf,
}

impl LongKeys {
    /// The same bytes as in the answer, in larger pieces.
    async fn body(&self, path: &Path, answer: &GetObjectOutput) -> io::Result<StreamingBlob> {
        let range = answer.content_range.as_deref();
        let start = range
            .and_then(|range| range.strip_prefix("bytes "))
            .and_then(|range| range.split_once('-'))
            .and_then(|(start, _)| start.parse().ok())
            .unwrap_or(0);
        let length = answer
            .content_length
            .and_then(|length| u64::try_from(length).ok())
            .unwrap_or(0);
        let mut file = File::open(path).await?;
        file.seek(SeekFrom::Start(start)).await?;
        let pieces = ReaderStream::with_capacity(file.take(length), READ_BYTES);
        Ok(StreamingBlob::wrap(pieces))
    }
}

fn stored(key: &mut String) {
    if key.len() > LONGEST_KEY_BYTES {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        *key = format!("long/{:016x}", hasher.finish());
    }
}

macro_rules! with_stored_key {
    ($($method:ident: $input:ident -> $output:ident),+ $(,)?) => {
        #[async_trait::async_trait]
        impl S3 for LongKeys {
            $(async fn $method(&self, mut request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                stored(&mut request.input.key);
                self.files.$method(request).await
            })+

            async fn complete_multipart_upload(
                &self,
                mut request: S3Request<CompleteMultipartUploadInput>,
            ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
                stored(&mut request.input.key);
                let Some(assembly) = Assembly::of(&self.root, &request.input) else {
                    return self.files.complete_multipart_upload(request).await;
                };
                let e_tag = spawn_blocking(|| assembly.put_together()).await;
                let e_tag = e_tag
                    .map_err(S3Error::internal_error)?
                    .map_err(S3Error::internal_error)?;
                let ended = request.map_input(|input| AbortMultipartUploadInput {
                    bucket: input.bucket,
                    key: input.key,
                    upload_id: input.upload_id,
                    ..AbortMultipartUploadInput::default()
                });
                self.files.abort_multipart_upload(ended).await?;
                Ok(S3Response::new(CompleteMultipartUploadOutput {
                    e_tag: Some(e_tag),
                    ..CompleteMultipartUploadOutput::default()
                }))
            }

            async fn get_object(
                &self,
                mut request: S3Request<GetObjectInput>,
            ) -> S3Result<S3Response<GetObjectOutput>> {
                stored(&mut request.input.key);
                let path = self.root.join(&request.input.bucket).join(&request.input.key);
                let mut response = self.files.get_object(request).await?;
                let body = self.body(&path, &response.output).await;
                response.output.body = Some(body.map_err(S3Error::internal_error)?);
                Ok(response)
            }

            async fn delete_objects(
                &self,
                mut request: S3Request<DeleteObjectsInput>,
            ) -> S3Result<S3Response<DeleteObjectsOutput>> {
                for object in &mut request.input.delete.objects {
                    stored(&mut object.key);
                }
                self.files.delete_objects(request).await
            }

            async fn head_bucket(
                &self,
                request: S3Request<HeadBucketInput>,
            ) -> S3Result<S3Response<HeadBucketOutput>> {
                self.files.head_bucket(request).await
            }

            async fn list_objects_v2(
                &self,
                request: S3Request<ListObjectsV2Input>,
            ) -> S3Result<S3Response<ListObjectsV2Output>> {
                self.files.list_objects_v2(request).await
            }
        }
    };
}

with_stored_key! {
    abort_multipart_upload: AbortMultipartUploadInput -> AbortMultipartUploadOutput,
    create_multipart_upload: CreateMultipartUploadInput -> CreateMultipartUploadOutput,
    delete_object: DeleteObjectInput -> DeleteObjectOutput,
    head_object: HeadObjectInput -> HeadObjectOutput,
    put_object: PutObjectInput -> PutObjectOutput,
    upload_part: UploadPartInput -> UploadPartOutput,
}
