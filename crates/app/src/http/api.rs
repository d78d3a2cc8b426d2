//! What the handlers work with.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpRequest, web};
use atelier_application::allowance::Allowance;
use atelier_application::catalogue::CatalogueCache;
use atelier_application::identity::{AccessSignIn, CreateToken, SignIn};
use atelier_application::inputs::UploadInput;
use atelier_application::loras::{ImportLora, ResumableUploads, UploadLimits, UploadLora};
use atelier_application::runs::{
    AwaitRun, FollowRun, PreflightWorkflow, RetryRun, RunLimits, SubmitRun,
};
use atelier_application::transfers::{RemoteSources, Transferring};
use atelier_application::workflows::{CreateWorkflow, UpdateWorkflow};
use atelier_domain::graph::NodePolicy;
use atelier_domain::ports::{
    ApiTokens, AuditTrail, BlobStore, Clock, ExternalIdentities, IdGen, InputRepo, LoraCopies,
    LoraRepo, LoraTransfers, LoraUploads, RemoteSource, RunPreviews, RunRepo, RunSignals,
    SecretGen, TokenVerifier, UsageRepo, WorkflowRepo,
};
use atelier_domain::usage::Quotas;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::health::Readiness;
use super::metrics::Observation;
use super::problem::Problem;
use super::rate_limit::RateLimits;

/// The ports that the API stands on.
#[derive(Clone)]
pub struct Ports {
    /// Judges access tokens of Supabase Auth; `None` if nobody signs in there.
    pub supabase: Option<Arc<dyn TokenVerifier>>,
    /// Cloudflare Access, if people come in through it.
    pub access: Option<AccessSignIn>,
    /// Knows whom the identities of other providers stand for.
    pub identities: Arc<dyn ExternalIdentities>,
    /// Keeps the pictures that people upload for their graphs.
    pub inputs: Arc<dyn InputRepo>,
    /// Which nodes a graph may have.
    pub policy: Arc<NodePolicy>,
    /// Knows what people take up.
    pub usage: Arc<dyn UsageRepo>,
    /// Keeps personal tokens.
    pub tokens: Arc<dyn ApiTokens>,
    /// Writes down what matters to security.
    pub audit: Arc<dyn AuditTrail>,
    /// Makes what cannot be guessed.
    pub secrets: Arc<dyn SecretGen>,
    /// Keeps workflows.
    pub workflows: Arc<dyn WorkflowRepo>,
    /// Keeps runs.
    pub runs: Arc<dyn RunRepo>,
    /// Keeps LoRAs.
    pub loras: Arc<dyn LoraRepo>,
    /// Keeps the imports that are under way.
    pub transfers: Arc<dyn LoraTransfers>,
    /// Keeps uploads that come in pieces.
    pub uploads: Arc<dyn LoraUploads>,
    /// Knows which backends have which LoRAs.
    pub copies: Arc<dyn LoraCopies>,
    /// Where LoRAs are imported from.
    pub sources: RemoteSources,
    /// Carries out the imports whose credentials this process alone has.
    pub transferring: Arc<Transferring>,
    /// Keeps files.
    pub blobs: Arc<dyn BlobStore>,
    /// Wakes whoever waits for a run.
    pub signals: Arc<dyn RunSignals>,
    /// Brings previews from the workers.
    pub previews: Arc<dyn RunPreviews>,
    /// What the backends offer.
    pub catalogue: Arc<CatalogueCache>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Names things, requests included.
    pub ids: Arc<dyn IdGen>,
}

impl fmt::Debug for Ports {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Ports").finish_non_exhaustive()
    }
}

/// How much the API takes, and how long it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of a LoRA file.
    pub lora_bytes: u64,
    /// The most bytes of an input picture.
    pub input_bytes: u64,
    /// The most bytes of a JSON body. Larger than the largest graph that the
    /// domain takes, so that a graph which is too large is told with its
    /// pointer.
    pub json_bytes: usize,
    /// The longest wait for the next piece of a body.
    pub chunk_wait: Duration,
    /// The longest wait for a whole JSON body.
    pub body_wait: Duration,
    /// How many unfinished imports one person may have.
    pub unfinished_imports: u32,
    /// How long the next bytes of an upload in pieces are waited for.
    pub upload_expiry: Duration,
    /// How much anybody may ask of the queue.
    pub runs: RunLimits,
    /// What one person may take up.
    pub quotas: Quotas,
    /// How many runs of one person may be under way at once, for people to read:
    /// the workers see to it.
    pub running_runs: Option<u32>,
}

/// What a form has besides its file: boundaries, headers, texts.
pub(crate) const FORM_SLACK_BYTES: u64 = 1024 * 1024;

impl Limits {
    /// The most bytes of a form with a LoRA file.
    pub(crate) fn form_bytes(&self) -> u64 {
        self.lora_bytes.saturating_add(FORM_SLACK_BYTES)
    }

    /// The most bytes that any body may have.
    pub(crate) fn largest_body(&self) -> u64 {
        self.form_bytes()
            .max(self.input_bytes.saturating_add(FORM_SLACK_BYTES))
            .max(u64::try_from(self.json_bytes).unwrap_or(u64::MAX))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lora_bytes: 16 * 1024 * 1024 * 1024,
            input_bytes: 50 * 1024 * 1024,
            json_bytes: 5 * 1024 * 1024,
            chunk_wait: Duration::from_secs(30),
            body_wait: Duration::from_mins(2),
            unfinished_imports: 20,
            upload_expiry: Duration::from_hours(24),
            runs: RunLimits::default(),
            quotas: Quotas::default(),
            running_runs: None,
        }
    }
}

/// Everything that the handlers share: built once, and cloned for no request.
#[derive(Debug)]
pub struct Api {
    ports: Ports,
    limits: Limits,
    readiness: Readiness,
    observation: Observation,
    stopping: CancellationToken,
    giving_up: CancellationToken,
    io: Handle,
    rate_limits: Option<RateLimits>,
    cors_origins: Vec<String>,
    sign_in: SignIn,
    create_token: CreateToken,
    create_workflow: CreateWorkflow,
    update_workflow: UpdateWorkflow,
    submit_run: SubmitRun,
    retry_run: RetryRun,
    await_run: AwaitRun,
    follow_run: FollowRun,
    upload_input: UploadInput,
    upload_lora: UploadLora,
    resumable_uploads: ResumableUploads,
    import_from_drive: ImportLora,
    import_from_url: ImportLora,
    preflight: PreflightWorkflow,
}

impl Api {
    /// Puts the use cases together.
    ///
    /// `stopping` is cancelled when the server stops: whoever waits for a run
    /// is answered then, and whoever follows one is sent away. What must go on after its request was given up is
    /// spawned on `io`, which outlives the server's own threads.
    pub fn new(
        ports: Ports,
        limits: Limits,
        readiness: Readiness,
        stopping: CancellationToken,
        io: Handle,
    ) -> Self {
        let allowance = Allowance {
            usage: Arc::clone(&ports.usage),
            quotas: limits.quotas,
        };
        Self {
            rate_limits: None,
            cors_origins: Vec::new(),
            sign_in: SignIn::new(
                ports.supabase.clone(),
                ports.access.clone(),
                Arc::clone(&ports.tokens),
                Arc::clone(&ports.identities),
                Arc::clone(&ports.audit),
                Arc::clone(&ports.clock),
                Arc::clone(&ports.ids),
            ),
            create_token: CreateToken {
                tokens: Arc::clone(&ports.tokens),
                secrets: Arc::clone(&ports.secrets),
                clock: Arc::clone(&ports.clock),
                ids: Arc::clone(&ports.ids),
            },
            create_workflow: CreateWorkflow {
                workflows: Arc::clone(&ports.workflows),
                clock: Arc::clone(&ports.clock),
                ids: Arc::clone(&ports.ids),
            },
            update_workflow: UpdateWorkflow {
                workflows: Arc::clone(&ports.workflows),
                clock: Arc::clone(&ports.clock),
            },
            submit_run: SubmitRun {
                inputs: Arc::clone(&ports.inputs),
                policy: Arc::clone(&ports.policy),
                workflows: Arc::clone(&ports.workflows),
                loras: Arc::clone(&ports.loras),
                runs: Arc::clone(&ports.runs),
                catalogue: Arc::clone(&ports.catalogue),
                clock: Arc::clone(&ports.clock),
                ids: Arc::clone(&ports.ids),
                limits: limits.runs,
                allowance: allowance.clone(),
            },
            retry_run: RetryRun {
                inputs: Arc::clone(&ports.inputs),
                policy: Arc::clone(&ports.policy),
                runs: Arc::clone(&ports.runs),
                loras: Arc::clone(&ports.loras),
                catalogue: Arc::clone(&ports.catalogue),
                clock: Arc::clone(&ports.clock),
                ids: Arc::clone(&ports.ids),
                limits: limits.runs,
                allowance: allowance.clone(),
            },
            await_run: AwaitRun {
                runs: Arc::clone(&ports.runs),
                signals: Arc::clone(&ports.signals),
            },
            follow_run: FollowRun::new(
                Arc::clone(&ports.runs),
                Arc::clone(&ports.signals),
                io.clone(),
            ),
            upload_input: UploadInput {
                inputs: Arc::clone(&ports.inputs),
                blobs: Arc::clone(&ports.blobs),
                clock: Arc::clone(&ports.clock),
                ids: Arc::clone(&ports.ids),
                max_bytes: limits.input_bytes,
                allowance: allowance.clone(),
            },
            upload_lora: UploadLora {
                loras: Arc::clone(&ports.loras),
                blobs: Arc::clone(&ports.blobs),
                clock: Arc::clone(&ports.clock),
                ids: Arc::clone(&ports.ids),
                max_bytes: limits.lora_bytes,
                allowance: allowance.clone(),
            },
            resumable_uploads: ResumableUploads {
                uploads: Arc::clone(&ports.uploads),
                loras: Arc::clone(&ports.loras),
                blobs: Arc::clone(&ports.blobs),
                clock: Arc::clone(&ports.clock),
                ids: Arc::clone(&ports.ids),
                limits: UploadLimits {
                    max_bytes: limits.lora_bytes,
                    expiry: limits.upload_expiry,
                    ..UploadLimits::default()
                },
                allowance: allowance.clone(),
                io: io.clone(),
            },
            import_from_drive: import_from(
                &ports.sources.google_drive,
                &ports,
                &limits,
                &allowance,
                &io,
            ),
            import_from_url: import_from(&ports.sources.web, &ports, &limits, &allowance, &io),
            preflight: PreflightWorkflow {
                inputs: Arc::clone(&ports.inputs),
                policy: Arc::clone(&ports.policy),
                workflows: Arc::clone(&ports.workflows),
                loras: Arc::clone(&ports.loras),
                copies: Arc::clone(&ports.copies),
                catalogue: Arc::clone(&ports.catalogue),
                ids: Arc::clone(&ports.ids),
            },
            ports,
            limits,
            readiness,
            observation: Observation::default(),
            stopping,
            giving_up: CancellationToken::new(),
            io,
        }
    }

    /// Is observed so. Without this it measures for nobody.
    #[must_use]
    pub fn observed_by(mut self, observation: Observation) -> Self {
        self.observation = observation;
        self
    }

    pub(crate) fn ports(&self) -> &Ports {
        &self.ports
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn observation(&self) -> &Observation {
        &self.observation
    }

    pub(crate) fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Cancelled when the server stops.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Cancelled when the rest of a body is waited for no longer, because the
    /// server stops: whoever takes one in puts in order what came.
    pub(crate) fn giving_up(&self) -> &CancellationToken {
        &self.giving_up
    }

    pub(crate) fn io(&self) -> &Handle {
        &self.io
    }

    /// Lets nobody send more than so many requests a minute.
    #[must_use]
    pub fn with_rate_limit(mut self, per_minute: Option<NonZeroU32>) -> Self {
        self.rate_limits = per_minute.map(RateLimits::per_minute);
        self
    }

    /// Lets pages of these origins use the API from a browser; `*` for any.
    #[must_use]
    pub fn with_cors_origins(mut self, origins: Vec<String>) -> Self {
        self.cors_origins = origins;
        self
    }

    pub(crate) fn rate_limits(&self) -> Option<&RateLimits> {
        self.rate_limits.as_ref()
    }

    pub(crate) fn cors_origins(&self) -> &[String] {
        &self.cors_origins
    }

    pub(crate) fn sign_in(&self) -> &SignIn {
        &self.sign_in
    }

    pub(crate) fn create_token(&self) -> &CreateToken {
        &self.create_token
    }

    pub(crate) fn create_workflow(&self) -> &CreateWorkflow {
        &self.create_workflow
    }

    pub(crate) fn update_workflow(&self) -> &UpdateWorkflow {
        &self.update_workflow
    }

    pub(crate) fn submit_run(&self) -> &SubmitRun {
        &self.submit_run
    }

    pub(crate) fn retry_run(&self) -> &RetryRun {
        &self.retry_run
    }

    pub(crate) fn await_run(&self) -> &AwaitRun {
        &self.await_run
    }

    /// Follows runs, for streams of events.
    pub fn follow_run(&self) -> &FollowRun {
        &self.follow_run
    }

    pub(crate) fn upload_input(&self) -> &UploadInput {
        &self.upload_input
    }

    pub(crate) fn upload_lora(&self) -> &UploadLora {
        &self.upload_lora
    }

    pub(crate) fn resumable_uploads(&self) -> &ResumableUploads {
        &self.resumable_uploads
    }

    pub(crate) fn import_from_drive(&self) -> &ImportLora {
        &self.import_from_drive
    }

    pub(crate) fn import_from_url(&self) -> &ImportLora {
        &self.import_from_url
    }

    pub(crate) fn preflight(&self) -> &PreflightWorkflow {
        &self.preflight
    }
}

fn import_from(
    source: &Arc<dyn RemoteSource>,
    ports: &Ports,
    limits: &Limits,
    allowance: &Allowance,
    io: &Handle,
) -> ImportLora {
    ImportLora {
        source: Arc::clone(source),
        loras: Arc::clone(&ports.loras),
        transfers: Arc::clone(&ports.transfers),
        transferring: Arc::clone(&ports.transferring),
        clock: Arc::clone(&ports.clock),
        ids: Arc::clone(&ports.ids),
        max_bytes: limits.lora_bytes,
        max_unfinished: limits.unfinished_imports,
        allowance: allowance.clone(),
        io: io.clone(),
    }
}

/// The [`Api`] that a request is served by.
pub(crate) fn api_of(request: &HttpRequest) -> Result<web::Data<Api>, Problem> {
    request
        .app_data::<web::Data<Api>>()
        .cloned()
        .ok_or_else(|| Problem::internal("the application was built without its Api"))
}
