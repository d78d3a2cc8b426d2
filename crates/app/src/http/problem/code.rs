use actix_web::http::StatusCode;

macro_rules! problem_codes {
    ($($(#[$documentation:meta])* $name:ident = $slug:literal, $status:ident, $title:literal;)*) => {
        /// What sort of problem an answer reports. The words are part of the
        /// API: clients decide by them, so none is ever renamed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ProblemCode {
            $($(#[$documentation])* $name,)*
        }

        impl ProblemCode {
            /// Every code, in the order of the alphabet.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word of the member `code`.
            pub const fn slug(self) -> &'static str {
                match self {
                    $(Self::$name => $slug,)*
                }
            }

            /// The status that goes with it.
            pub const fn status(self) -> StatusCode {
                match self {
                    $(Self::$name => StatusCode::$status,)*
                }
            }

            /// The member `title`: the same for every problem of the code.
            pub const fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title,)*
                }
            }
        }
    };
}

problem_codes! {
    /// A cursor that this list did not give out.
    BadCursor = "bad-cursor", BAD_REQUEST, "The cursor is not one of this list";
    /// A request that HTTP itself does not understand.
    BadRequest = "bad-request", BAD_REQUEST, "The request is malformed";
    /// What is to be written is in the way of something that is there.
    Conflict = "conflict", CONFLICT, "The request is in conflict with what is stored";
    /// This server has no credentials for Google Drive.
    DriveNotConfigured = "drive-not-configured", SERVICE_UNAVAILABLE, "This server has no access to Google Drive";
    /// The sender sees the thing and may not change it.
    Forbidden = "forbidden", FORBIDDEN, "You may not do this";
    /// The same request is being carried out at this moment.
    IdempotencyKeyInUse = "idempotency-key-in-use", CONFLICT, "The request is being answered already";
    /// The key was used for another request.
    IdempotencyKeyReused = "idempotency-key-reused", UNPROCESSABLE_ENTITY, "The key was used for another request";
    /// A personal token that does not reach so far.
    InsufficientScope = "insufficient-scope", FORBIDDEN, "The token does not reach so far";
    /// A defect of ours.
    Internal = "internal", INTERNAL_SERVER_ERROR, "Something went wrong here";
    /// A segment of the path that should be an id and is none.
    InvalidId = "invalid-id", BAD_REQUEST, "The path holds something that is not an id";
    /// No such input picture, or not the sender's.
    InputNotFound = "input-not-found", NOT_FOUND, "There is no such input file";
    /// A body that is no JSON.
    InvalidJson = "invalid-json", BAD_REQUEST, "The body is not JSON";
    /// A body that is no `multipart/form-data`.
    InvalidMultipart = "invalid-multipart", BAD_REQUEST, "The body is not a complete form";
    /// The sender has a LoRA of that filename.
    LoraFilenameTaken = "lora-filename-taken", CONFLICT, "You have a LoRA of that filename";
    /// No such LoRA, or not the sender's.
    LoraNotFound = "lora-not-found", NOT_FOUND, "There is no such LoRA";
    /// The LoRA's bytes are not there.
    LoraNotReady = "lora-not-ready", CONFLICT, "The LoRA is not ready";
    /// The path has no such method.
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED, "The method does not exist here";
    /// No such path.
    NotFound = "not-found", NOT_FOUND, "There is nothing at this address";
    /// Something that the server needs is down.
    NotReady = "not-ready", SERVICE_UNAVAILABLE, "The server is not ready";
    /// No such output of that run.
    OutputNotFound = "output-not-found", NOT_FOUND, "The run has no such output";
    /// The body, or a part of it, is too large.
    PayloadTooLarge = "payload-too-large", PAYLOAD_TOO_LARGE, "The body is too large";
    /// `If-Match` names another revision.
    PreconditionFailed = "precondition-failed", PRECONDITION_FAILED, "It was changed in the meantime";
    /// The sender takes up as much as may be.
    QuotaExceeded = "quota-exceeded", FORBIDDEN, "You have no room left";
    /// `Range` names no byte of the thing.
    RangeNotSatisfiable = "range-not-satisfiable", RANGE_NOT_SATISFIABLE, "The range lies outside";
    /// The body came too slowly.
    RequestTimeout = "request-timeout", REQUEST_TIMEOUT, "The body came too slowly";
    /// The run is over.
    RunAlreadyFinished = "run-already-finished", CONFLICT, "The run is already over";
    /// The run is not over.
    RunNotFinished = "run-not-finished", CONFLICT, "The run is not over yet";
    /// No such run, or not the sender's.
    RunNotFound = "run-not-found", NOT_FOUND, "There is no such run";
    /// Where the file lies, it is not, or it is hidden.
    SourceNotFound = "source-not-found", UNPROCESSABLE_ENTITY, "The file to import was not found";
    /// The file can never be imported like this.
    SourceRefused = "source-refused", UNPROCESSABLE_ENTITY, "The file cannot be imported";
    /// The credential for the file is not good, or does not reach so far.
    SourceUnauthorized = "source-unauthorized", UNPROCESSABLE_ENTITY, "The credential does not open the file";
    /// The object store has no room left.
    StorageFull = "storage-full", INSUFFICIENT_STORAGE, "The storage is full";
    /// No such personal token, or not the sender's.
    TokenNotFound = "token-not-found", NOT_FOUND, "There is no such token";
    /// The sender has as many imports under way as may be.
    TooManyImports = "too-many-imports", TOO_MANY_REQUESTS, "Too many of your imports are under way";
    /// The sender has as many runs waiting as may be.
    TooManyPendingRuns = "too-many-pending-runs", TOO_MANY_REQUESTS, "Too many of your runs are waiting";
    /// The sender asks more often than may be.
    TooManyRequests = "too-many-requests", TOO_MANY_REQUESTS, "You ask too often";
    /// The sender has as many personal tokens as may be.
    TooManyTokens = "too-many-tokens", CONFLICT, "You have too many tokens";
    /// Nobody is signed in.
    Unauthenticated = "unauthenticated", UNAUTHORIZED, "You are not signed in";
    /// Something that the server needs cannot be reached just now.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "Try again in a moment";
    /// The body is of a type that the path does not take.
    UnsupportedMediaType = "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE, "The body is of another type";
    /// The request is of another version of the upload protocol, or says none.
    UnsupportedTusVersion = "unsupported-tus-version", PRECONDITION_FAILED, "The upload protocol's version is not supported";
    /// The upload has all its bytes.
    UploadComplete = "upload-complete", CONFLICT, "The upload is complete";
    /// The upload is over, and no LoRA came of it.
    UploadGone = "upload-gone", GONE, "The upload is over";
    /// No such upload, or not the sender's.
    UploadNotFound = "upload-not-found", NOT_FOUND, "There is no such upload";
    /// The bytes do not begin where the upload ends.
    UploadOffsetMismatch = "upload-offset-mismatch", CONFLICT, "The upload is at another byte";
    /// Something that the server needs answered badly.
    UpstreamFailed = "upstream-failed", BAD_GATEWAY, "A service behind this one failed";
    /// No such workflow, or not the sender's to see.
    WorkflowNotFound = "workflow-not-found", NOT_FOUND, "There is no such workflow";
    /// Something in the request is not as it should be: `errors` says what and
    /// where.
    Validation = "validation", UNPROCESSABLE_ENTITY, "The request is not valid";
}
