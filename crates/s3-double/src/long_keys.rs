use std::hash::{DefaultHasher, Hash, Hasher};

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput,
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, GetObjectInput,
    GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput,
    ListObjectsV2Input, ListObjectsV2Output, PutObjectInput, PutObjectOutput, UploadPartInput,
    UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result};
use s3s_fs::FileSystem;

/// `s3s-fs` makes file names out of whole keys, base64 and more around them.
const LONGEST_KEY_BYTES: usize = 120;

/// The file system, taking keys as long as S3 does: a long one is stored under
/// `long/` and a hash, and listed so.
pub(crate) struct LongKeys {
    pub(crate) files: FileSystem,
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
    complete_multipart_upload: CompleteMultipartUploadInput -> CompleteMultipartUploadOutput,
    create_multipart_upload: CreateMultipartUploadInput -> CreateMultipartUploadOutput,
    delete_object: DeleteObjectInput -> DeleteObjectOutput,
    get_object: GetObjectInput -> GetObjectOutput,
    head_object: HeadObjectInput -> HeadObjectOutput,
    put_object: PutObjectInput -> PutObjectOutput,
    upload_part: UploadPartInput -> UploadPartOutput,
}
