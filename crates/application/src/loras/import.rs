use std::fmt;
use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::idempotency::{EarlierRequest, IdempotentRequest, StoredAnswer};
use atelier_domain::ids::LoraId;
use atelier_domain::lora::{Lora, LoraFilename, NewLora};
use atelier_domain::ports::{
    Clock, Conflict, IdGen, ImportOutcome, ImportTerms, LoraRepo, LoraTransfers, NewImport,
    RemoteError, RemoteFile, RemoteSource, RemoteToken, RepoError,
};
use atelier_domain::usage::QuotaExceeded;
use atelier_domain::validation::Violation;
use thiserror::Error;
use tokio::runtime::Handle;
use tracing::Instrument as _;

use super::UploadLoraError;
use super::details::LoraDetails;
use super::upload::{default_name, latest};
use crate::allowance::{Allowance, AllowanceError};
use crate::opaque::opaque_debug;
use crate::transfers::Transferring;

/// Characters that are kept of what a file is called where it lies.
const MAX_NAME_CHARS: usize = 1_000;

/// Makes the answer to a request out of the LoRA that it asked for.
pub type LoraAnswer<'a> = &'a (dyn Fn(&Lora) -> StoredAnswer + Send + Sync);

/// What is to be imported, and as what.
#[derive(Clone)]
pub struct ImportRequest<'a> {
    /// An id, a share link or an address.
    pub reference: String,
    /// The name that workflows use; the file's own where there is none.
    pub filename: Option<String>,
    /// What the owner says of it.
    pub details: LoraDetails,
    /// Whether it takes the place of a LoRA of that filename.
    pub replaces: bool,
    /// The person's own credential for the file; never stored.
    pub token: Option<RemoteToken>,
    /// If the request is to be carried out once, however often it comes: what
    /// names it, and what makes its answer.
    pub once: Option<(IdempotentRequest, LoraAnswer<'a>)>,
}

impl fmt::Debug for ImportRequest<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ImportRequest")
            .field("filename", &self.filename)
            .field("replaces", &self.replaces)
            .finish_non_exhaustive()
    }
}

/// What became of a request for an import.
#[derive(Clone, Debug, PartialEq)]
pub enum Imported {
    /// It is under way.
    Begun {
        /// What it becomes.
        lora: Box<Lora>,
        /// The answer that was stored with it, if the request is carried out
        /// once: this very text is to be sent.
        answer: Option<StoredAnswer>,
    },
    /// Nothing: the actor has these very bytes under this filename.
    Same(Box<Lora>),
    /// The request came before; this was its answer, and is again.
    Replayed(StoredAnswer),
}

/// Why an import was not begun.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImportLoraError {
    /// Everything that is wrong with the request; pointers `/filename`,
    /// `/name`, `/description`, `/tags/0`.
    #[error("the import is not valid")]
    Invalid(Vec<Violation>),
    /// Where the file lies, it cannot be had.
    #[error(transparent)]
    Remote(RemoteError),
    /// The file is larger than allowed.
    #[error("the file has more than {limit_bytes} bytes")]
    TooLarge {
        /// How many bytes a file may have.
        limit_bytes: u64,
    },
    /// The actor's LoRAs would take more than they may.
    #[error(transparent)]
    Quota(QuotaExceeded),
    /// The actor has a LoRA of that filename.
    #[error("there is a LoRA of that filename already")]
    FilenameTaken {
        /// Which, unless its bytes are still on their way.
        existing: Option<LoraId>,
    },
    /// The actor has as many unfinished imports as they may.
    #[error("{limit} imports are under way already")]
    TooMany {
        /// How many there may be.
        limit: u32,
    },
    /// The key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The same request is being carried out at this moment.
    #[error("a request under this idempotency key is being answered")]
    KeyUnderway,
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

impl From<AllowanceError> for ImportLoraError {
    fn from(error: AllowanceError) -> Self {
        match error {
            AllowanceError::Exceeded(exceeded) => Self::Quota(exceeded),
            AllowanceError::Repo(error) => Self::Repo(error),
        }
    }
}

impl From<UploadLoraError> for ImportLoraError {
    fn from(error: UploadLoraError) -> Self {
        match error {
            UploadLoraError::Invalid(violations) => Self::Invalid(violations),
            UploadLoraError::Repo(error) => Self::Repo(error),
            other => Self::Invalid(vec![Violation::new("", other.to_string())]),
        }
    }
}

/// Begins to bring a LoRA from somewhere else: looks at the file, keeps a place
/// for it, and leaves the bytes to whoever carries transfers out.
#[derive(Clone)]
pub struct ImportLora {
    /// Where the files lie.
    pub source: Arc<dyn RemoteSource>,
    /// Where LoRAs are looked up.
    pub loras: Arc<dyn LoraRepo>,
    /// Where the place is kept and the transfer waits.
    pub transfers: Arc<dyn LoraTransfers>,
    /// Carries out what needs the person's own credential, in this process.
    pub transferring: Arc<Transferring>,
    /// Tells when.
    pub clock: Arc<dyn Clock>,
    /// Names it.
    pub ids: Arc<dyn IdGen>,
    /// How many bytes a file may have.
    pub max_bytes: u64,
    /// How many unfinished imports one person may have.
    pub max_unfinished: u32,
    /// What one person may take up.
    pub allowance: Allowance,
    /// What goes on after the request is spawned here.
    pub io: Handle,
}

opaque_debug!(ImportLora);

impl ImportLora {
    /// Looks at the file where it lies, and begins to bring it.
    ///
    /// # Errors
    /// [`ImportLoraError::Remote`] for whatever can be told without the bytes:
    /// the file is not there, or not shared, or can never be imported.
    #[tracing::instrument(skip_all, fields(user.id = %actor.user_id(), lora.id = tracing::field::Empty))]
    pub async fn execute(
        &self,
        actor: &Actor,
        request: ImportRequest<'_>,
    ) -> Result<Imported, ImportLoraError> {
        if let Some((once, _)) = &request.once
            && let Some(earlier) = self.transfers.earlier_request(actor, once).await?
        {
            return replay(earlier);
        }
        let details = request.details.check()?;
        let filename = request
            .filename
            .as_deref()
            .map(given_filename)
            .transpose()?;
        let mut file = self
            .source
            .metadata(&request.reference, request.token.clone())
            .await
            .map_err(ImportLoraError::Remote)?;
        // Elsewhere names may have any length; no filename is made of more than this.
        file.name = file
            .name
            .map(|name| name.chars().take(MAX_NAME_CHARS).collect());
        if file.size_bytes.is_some_and(|bytes| bytes > self.max_bytes) {
            return Err(ImportLoraError::TooLarge {
                limit_bytes: self.max_bytes,
            });
        }
        let filename = match filename {
            Some(filename) => filename,
            None => own_filename(&file)?,
        };
        let id = LoraId::new(self.ids.new_id());
        tracing::Span::current().record("lora.id", tracing::field::display(id));
        let name = match details.name {
            Some(name) => name,
            None => default_name(&filename, "/filename")?,
        };
        let new = NewLora {
            id,
            name,
            filename,
            description: details.description,
            tags: details.tags,
            source: file.source.clone(),
            bytes_total: file.size_bytes,
            replaces: request.replaces,
            created_at: self.clock.now(),
        };
        self.begin(actor, new, file, request.token, request.once)
            .await
    }

    async fn begin(
        &self,
        actor: &Actor,
        new: NewLora,
        file: RemoteFile,
        token: Option<RemoteToken>,
        once: Option<(IdempotentRequest, LoraAnswer<'_>)>,
    ) -> Result<Imported, ImportLoraError> {
        let existing = latest(self.loras.as_ref(), actor, new.filename.clone()).await?;
        let is_same = |lora: &Lora| {
            let known = lora.content.as_ref().map(|content| content.hashes.sha256);
            known.is_some() && known == file.sha256
        };
        let existing_id = match existing {
            Some(lora) if is_same(&lora) => return Ok(Imported::Same(Box::new(lora))),
            other => other.map(|lora| lora.id),
        };
        self.allowance
            .loras(actor, file.size_bytes.unwrap_or(1))
            .await?;
        let idempotency = once.map(|(request, answer)| {
            let answer = answer(&new.reserved(actor.user_id()));
            (request, answer)
        });
        let answer = idempotency.as_ref().map(|(_, answer)| answer.clone());
        let held = token.is_some().then(|| self.transferring.new_claim());
        let import = NewImport {
            lora: new,
            file: file.clone(),
            held: held.clone(),
        };
        let terms = ImportTerms {
            max_unfinished: self.max_unfinished,
            idempotency,
        };
        match self.transfers.begin(actor, import, terms).await {
            Ok(ImportOutcome::Begun(lora)) => {
                if let (Some(claim), Some(token)) = (held, token) {
                    let transferring = Arc::clone(&self.transferring);
                    let lora = Lora::clone(&lora);
                    let bringing = async move {
                        transferring.carry_out_held(claim, lora, file, token).await;
                    };
                    drop(self.io.spawn(bringing.in_current_span()));
                }
                Ok(Imported::Begun { lora, answer })
            }
            Ok(ImportOutcome::Earlier(earlier)) => replay(earlier),
            Ok(ImportOutcome::TooMany) => Err(ImportLoraError::TooMany {
                limit: self.max_unfinished,
            }),
            Err(RepoError::Conflict(Conflict::LoraFilename)) => {
                Err(ImportLoraError::FilenameTaken {
                    existing: existing_id,
                })
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn given_filename(filename: &str) -> Result<LoraFilename, ImportLoraError> {
    LoraFilename::parse(filename).map_err(|fault| {
        ImportLoraError::Invalid(vec![Violation::new("/filename", fault.to_string())])
    })
}

/// The name that the file has where it lies, with the extension that a title
/// lacks.
fn own_filename(file: &RemoteFile) -> Result<LoraFilename, ImportLoraError> {
    let name = file.name.as_deref().unwrap_or_default();
    LoraFilename::suggested_by(name).map_err(|fault| {
        let detail = format!(
            "is needed: what the file is called where it lies cannot be a LoRA's file name; it {fault}"
        );
        ImportLoraError::Invalid(vec![Violation::new("/filename", detail)])
    })
}

fn replay(earlier: EarlierRequest) -> Result<Imported, ImportLoraError> {
    match earlier {
        EarlierRequest::Answered(answer) => Ok(Imported::Replayed(answer)),
        EarlierRequest::Different => Err(ImportLoraError::KeyReused),
        EarlierRequest::Underway => Err(ImportLoraError::KeyUnderway),
    }
}
