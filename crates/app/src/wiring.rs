//! The composition root: the one file that names adapters and ports together.

mod patient;

use std::sync::Arc;
use std::time::Duration;

use atelier_application::catalogue::CatalogueCache;
use atelier_application::dispatch::{Backend, Worker, WorkerParts, WorkerSettings};
use atelier_application::identity::AccessSignIn;
use atelier_application::transfers::{RemoteSources, TransferSettings, Transferring};
use atelier_blob::BlobOptions;
use atelier_comfyui::{
    ComfyCredentials, ComfyHttp, ComfyOptions, ComfyOptionsError, LoraFolderOptions,
    MountedLoraFolder,
};
use atelier_domain::graph::NodePolicy;
use atelier_domain::ids::UserId;
use atelier_domain::ports::{BlobStore, Clock, ComfyClient, IdGen, RemoteSource, TokenVerifier};
use atelier_drive::{DriveCredentials, DriveOptions, DriveOptionsError, DriveVariables};
use atelier_identity::{
    AccessToken, CloudflareAccess, CloudflareOptions, RemoteKeysOptions, SignError,
    SupabaseOptions, SupabaseOptionsError, SupabaseTokens,
};
use atelier_postgres::{MigrateError, PgStore};
use atelier_web::{HostRule, WebDownloads, WebOptions};
use thiserror::Error;
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::clock::{RandomIds, RandomSecrets, SystemClock};
use crate::config::backend::{BackendConfig, ComfyuiCredentials};
use crate::config::blob::BlobConfig;
use crate::config::comfyui::ComfyuiConfig;
use crate::config::database::{DatabaseConfig, MigrateConfig};
use crate::config::drive::{self, DriveConfig};
use crate::config::identity::{self, AccessConfig, IdentityConfig, SupabaseConfig};
use crate::config::loras::{IMPORT_HOSTS, LoraConfig};
use crate::config::shutdown::ShutdownConfig;
use crate::config::work::WorkConfig;
use crate::config::worker::WorkerConfig;
use crate::config::{Mistakes, Secret};
use crate::http::health::Check;
use crate::http::{Observation, Ports};
use crate::logging::Chain;
use crate::telemetry::figures::{ConnectionFigures, FigureReader};
use crate::telemetry::{Metrics, W3cTraces};

pub(crate) use atelier_drive::GoogleDrive;
pub(crate) use atelier_postgres::{PgDiagnosis, PgOptions, diagnose};
pub(crate) use patient::patient;

/// How long a request waits for a free connection to the database.
const CONNECTION_WAIT: Duration = Duration::from_secs(5);

/// Everything that was built from a configuration.
pub(crate) struct Assembly {
    store: PgStore,
    policy: Arc<NodePolicy>,
    blobs: Arc<dyn BlobStore>,
    backends: Vec<Backend>,
    catalogue: Arc<CatalogueCache>,
    sources: RemoteSources,
    transferring: Arc<Transferring>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGen>,
    /// What this process is called in the tables: as no other.
    process: String,
    worker: WorkerConfig,
    shutdown: ShutdownConfig,
    metrics: Metrics,
    metrics_token: Option<Secret>,
    max_lora_bytes: u64,
}

impl Assembly {
    /// Builds the adapters; connects to nothing yet. Their sockets are driven by `io`.
    ///
    /// # Errors
    /// Everything that the adapters find wrong with their options.
    pub(crate) fn build(config: WorkConfig, io: &Handle) -> Result<Self, Mistakes> {
        let mut mistakes = Mistakes::default();
        let ids: Arc<dyn IdGen> = Arc::new(RandomIds);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = open_database(&config.database, io, &mut mistakes);
        let blobs = open_blobs(config.blob, io, &mut mistakes);
        let google_drive = open_drive(&config.drive, &clock, io, &mut mistakes);
        let web = open_web(&config.loras, io, &mut mistakes);
        let backends = open_backends(config.comfyui, &ids, io, &mut mistakes);
        let ((store, blobs), (google_drive, web)) =
            mistakes.check(store.zip(blobs).zip(google_drive.zip(web)))?;
        let sources = RemoteSources { google_drive, web };
        let process = format!("atelier-{}-{}", std::process::id(), ids.new_id());
        let transferring = Transferring::new(
            Arc::new(store.transfers()),
            Arc::clone(&blobs),
            Arc::new(store.signals()),
            Arc::clone(&ids),
            sources.clone(),
            TransferSettings {
                worker: process.clone(),
                max_bytes: config.loras.max_lora_bytes,
                lease: config.worker.lease,
                ..TransferSettings::default()
            },
        );
        let clients = backends
            .iter()
            .map(|backend| (backend.name.clone(), Arc::clone(&backend.client)));
        Ok(Self {
            catalogue: Arc::new(CatalogueCache::new(clients.collect())),
            transferring: Arc::new(transferring),
            policy: Arc::new(config.nodes),
            worker: config.worker,
            shutdown: config.shutdown,
            metrics: Metrics::new(),
            metrics_token: config.metrics.token,
            max_lora_bytes: config.loras.max_lora_bytes,
            store,
            blobs,
            backends,
            sources,
            clock,
            ids,
            process,
        })
    }

    /// The largest LoRA file, in bytes.
    pub(crate) fn max_lora_bytes(&self) -> u64 {
        self.max_lora_bytes
    }

    /// How many runs of one person may be under way at once.
    pub(crate) fn max_running_runs(&self) -> Option<u32> {
        self.worker.max_running
    }

    /// What the API stands on.
    pub(crate) fn ports(&self, doors: Doors) -> Ports {
        Ports {
            supabase: doors.supabase,
            access: doors.access,
            identities: Arc::new(self.store.external_identities()),
            tokens: Arc::new(self.store.api_tokens()),
            usage: Arc::new(self.store.usage()),
            inputs: Arc::new(self.store.inputs()),
            policy: Arc::clone(&self.policy),
            audit: Arc::new(self.store.audit_trail()),
            secrets: Arc::new(RandomSecrets),
            workflows: Arc::new(self.store.workflows()),
            runs: Arc::new(self.store.runs()),
            loras: Arc::new(self.store.loras()),
            transfers: Arc::new(self.store.transfers()),
            uploads: Arc::new(self.store.uploads()),
            copies: Arc::new(self.store.copies()),
            sources: self.sources.clone(),
            transferring: Arc::clone(&self.transferring),
            blobs: Arc::clone(&self.blobs),
            signals: Arc::new(self.store.signals()),
            previews: Arc::new(self.store.previews()),
            catalogue: Arc::clone(&self.catalogue),
            clock: Arc::clone(&self.clock),
            ids: Arc::clone(&self.ids),
        }
    }

    /// What is seen of it from outside.
    pub(crate) fn observation(&self) -> Observation {
        let store = self.store.clone();
        let connections = move || {
            let counted = store.connections();
            ConnectionFigures {
                idle: counted.idle,
                in_use: counted.in_use,
                waiting: counted.waiting,
            }
        };
        Observation {
            metrics: self.metrics.clone(),
            figures: Some(FigureReader::new(Arc::new(self.store.queue()), connections)),
            token: self.metrics_token.clone(),
        }
    }

    /// What the backends offer, as last known.
    pub(crate) fn catalogue(&self) -> Arc<CatalogueCache> {
        Arc::clone(&self.catalogue)
    }

    /// A worker on all the backends, under a name that no other process has.
    pub(crate) fn worker(&self) -> Worker {
        Worker::new(WorkerParts {
            inputs: Arc::new(self.store.inputs()),
            policy: Arc::clone(&self.policy),
            queue: Arc::new(self.store.queue()),
            loras: Arc::new(self.store.loras()),
            uploads: Arc::new(self.store.uploads()),
            copies: Arc::new(self.store.copies()),
            transferring: Arc::clone(&self.transferring),
            blobs: Arc::clone(&self.blobs),
            signals: Arc::new(self.store.signals()),
            previews: Arc::new(self.store.previews()),
            catalogue: Arc::clone(&self.catalogue),
            telemetry: Arc::new(self.metrics.clone()),
            traces: Arc::new(W3cTraces),
            clock: Arc::clone(&self.clock),
            ids: Arc::clone(&self.ids),
            backends: self.backends.clone(),
            settings: WorkerSettings {
                worker: self.process.clone(),
                lease: self.worker.lease,
                grace: self.shutdown.giving_up(),
                // A run that lost its worker waits for its lease, and not much longer.
                recovery: (self.worker.lease / 3)
                    .clamp(Duration::from_secs(1), Duration::from_secs(10)),
                cleaning: self.worker.cleaning,
                patience: self.worker.patience,
                affinity: self.worker.affinity,
                max_running: self.worker.max_running,
                orphan_age: self.worker.orphan_age,
                // Often enough that none is there for much longer than told.
                orphans: (self.worker.orphan_age / 168).min(Duration::from_hours(1)),
                ..WorkerSettings::default()
            },
        })
    }

    /// What the server needs to be ready. The details are for anybody, so they say no more than
    /// the port's own words, and of backends no more than their names.
    pub(crate) fn checks(&self) -> Vec<Check> {
        let (store, blobs) = (self.store.clone(), Arc::clone(&self.blobs));
        let backends = self.backends.iter().map(|backend| {
            let client = Arc::clone(&backend.client);
            Check::new(backend.name.clone(), move || {
                let client = Arc::clone(&client);
                async move { client.information().await.map(drop) }
            })
        });
        vec![
            Check::new("database", move || {
                let store = store.clone();
                async move { store.check().await }
            }),
            Check::new("blob_store", move || {
                let blobs = Arc::clone(&blobs);
                async move { blobs.check().await }
            }),
            Check::one_of("comfyui", backends.collect()),
        ]
    }

    /// The ways in.
    ///
    /// # Errors
    /// What is wrong with each of them.
    pub(crate) fn doors(&self, identity: &IdentityConfig, io: &Handle) -> Result<Doors, Mistakes> {
        let mut mistakes = Mistakes::default();
        let supabase = identity
            .supabase
            .as_ref()
            .map(|config| open_supabase(config, &self.clock, io, &mut mistakes));
        let access = identity
            .access
            .as_ref()
            .map(|config| open_access(config, &self.clock, io, &mut mistakes));
        mistakes.check(Some(Doors {
            supabase: supabase.flatten(),
            access: access.flatten(),
        }))
    }
}

/// The ways in that need no database.
pub(crate) struct Doors {
    supabase: Option<Arc<dyn TokenVerifier>>,
    access: Option<AccessSignIn>,
}

fn open_supabase(
    config: &SupabaseConfig,
    clock: &Arc<dyn Clock>,
    io: &Handle,
    mistakes: &mut Mistakes,
) -> Option<Arc<dyn TokenVerifier>> {
    let jwks = config.jwks_url.as_ref().map(|url| RemoteKeysOptions {
        allow_plain_http: config.plain_keys,
        ..RemoteKeysOptions::at(url.clone())
    });
    let options = SupabaseOptions {
        issuer: config.issuer.clone(),
        jwks,
        secret: config
            .secret
            .as_ref()
            .map(|secret| secret.expose().to_owned()),
        allow_anonymous: config.allow_anonymous,
        require_aal2: config.require_aal2,
        ..SupabaseOptions::default()
    };
    match SupabaseTokens::new(options, Arc::clone(clock), io.clone()) {
        Ok(verifier) => Some(Arc::new(verifier)),
        Err(error) => {
            let place = match &error {
                SupabaseOptionsError::ShortSecret { .. } => identity::SECRET,
                _ => identity::JWKS_URL,
            };
            mistakes.add(place, Chain(&error).to_string());
            None
        }
    }
}

fn open_access(
    config: &AccessConfig,
    clock: &Arc<dyn Clock>,
    io: &Handle,
    mistakes: &mut Mistakes,
) -> Option<AccessSignIn> {
    let options = CloudflareOptions {
        team_domain: config.team_domain.clone(),
        audiences: config.audiences.clone(),
        certs: config.certs_url.clone().map(RemoteKeysOptions::at),
    };
    match CloudflareAccess::new(options, Arc::clone(clock), io.clone()) {
        Ok(verifier) => Some(AccessSignIn {
            verifier: Arc::new(verifier),
            provision: config.provision,
            services: config.services.clone(),
        }),
        Err(error) => {
            mistakes.add(identity::TEAM_DOMAIN, Chain(&error).to_string());
            None
        }
    }
}

fn database_options(config: &DatabaseConfig) -> PgOptions {
    PgOptions {
        url: config.url.expose().to_owned(),
        root_certificate: config.root_certificate.clone(),
        max_connections: config.connections,
        wait_timeout: CONNECTION_WAIT,
    }
}

fn open_database(config: &DatabaseConfig, io: &Handle, mistakes: &mut Mistakes) -> Option<PgStore> {
    PgStore::connect(&database_options(config), io.clone())
        .map_err(|error| mistakes.add("DATABASE_URL", Chain(&error).to_string()))
        .ok()
}

fn open_blobs(
    config: BlobConfig,
    io: &Handle,
    mistakes: &mut Mistakes,
) -> Option<Arc<dyn BlobStore>> {
    let options = BlobOptions {
        url: config.url,
        endpoint: config.endpoint,
        region: config.region,
        access_key: config.access_key.map(|key| key.expose().to_owned()),
        secret_key: config.secret_key.map(|key| key.expose().to_owned()),
    };
    match atelier_blob::open(options, io.clone()) {
        Ok(store) => Some(Arc::new(store)),
        Err(error) => {
            mistakes.add("BLOB_URL", Chain(&error).to_string());
            None
        }
    }
}

/// Without credentials it still serves people who lend a token of their own.
fn open_drive(
    config: &DriveConfig,
    clock: &Arc<dyn Clock>,
    io: &Handle,
    mistakes: &mut Mistakes,
) -> Option<Arc<dyn RemoteSource>> {
    google_drive(config, clock, io, mistakes)
        .map(|drive| -> Arc<dyn RemoteSource> { Arc::new(drive) })
}

fn google_drive(
    config: &DriveConfig,
    clock: &Arc<dyn Clock>,
    io: &Handle,
    mistakes: &mut Mistakes,
) -> Option<GoogleDrive> {
    let variables = DriveVariables {
        gdoc_token: config.token.as_ref().map(Secret::expose),
        gdoc_client: config.client.as_ref().map(Secret::expose),
        client_id: config.client_id.as_deref(),
        client_secret: config.client_secret.as_ref().map(Secret::expose),
    };
    let credentials = DriveCredentials::parse(&variables)
        .map_err(|error| mistakes.add(drive::TOKEN, Chain(&error).to_string()))
        .ok()?;
    let usual = DriveOptions::default();
    let options = DriveOptions {
        credentials,
        api_base_url: config.api_base_url.clone().unwrap_or(usual.api_base_url),
        token_url: config.token_url.clone().unwrap_or(usual.token_url),
        ..DriveOptions::default()
    };
    match GoogleDrive::new(options, Arc::clone(clock), io.clone()) {
        Ok(source) => Some(source),
        Err(error) => {
            let place = match &error {
                DriveOptionsError::Url("the Drive API") => drive::API_BASE_URL,
                _ => drive::TOKEN_URL,
            };
            mistakes.add(place, Chain(&error).to_string());
            None
        }
    }
}

fn open_web(
    config: &LoraConfig,
    io: &Handle,
    mistakes: &mut Mistakes,
) -> Option<Arc<dyn RemoteSource>> {
    let mut options = WebOptions::default();
    if let Some(hosts) = &config.import_hosts {
        options.allowed_hosts.clear();
        for host in hosts {
            match HostRule::parse(host) {
                Ok(rule) => options.allowed_hosts.push(rule),
                Err(fault) => mistakes.add(IMPORT_HOSTS, format!("`{host}`: {fault}")),
            }
        }
    }
    match WebDownloads::new(options, io.clone()) {
        Ok(source) => Some(Arc::new(source)),
        Err(error) => {
            mistakes.add(IMPORT_HOSTS, Chain(&error).to_string());
            None
        }
    }
}

/// Opens each backend, even where another cannot be.
fn open_backends(
    config: ComfyuiConfig,
    ids: &Arc<dyn IdGen>,
    io: &Handle,
    mistakes: &mut Mistakes,
) -> Vec<Backend> {
    let opened = config.backends.into_iter().filter_map(|backend| {
        Some(Backend {
            client: open_comfyui(&backend, ids, io, mistakes)?,
            folder: Arc::new(MountedLoraFolder::new(LoraFolderOptions {
                folder: backend.loras_dir,
                quota_bytes: backend.lora_quota_bytes,
                keep_free_bytes: backend.lora_keep_free_bytes,
            })),
            name: backend.name,
            max_in_flight: backend.max_in_flight,
        })
    });
    opened.collect()
}

fn open_comfyui(
    config: &BackendConfig,
    ids: &Arc<dyn IdGen>,
    io: &Handle,
    mistakes: &mut Mistakes,
) -> Option<Arc<dyn ComfyClient>> {
    let credentials = match &config.credentials {
        ComfyuiCredentials::None => ComfyCredentials::None,
        ComfyuiCredentials::Basic { user, password } => ComfyCredentials::Basic {
            user: user.clone(),
            password: password.expose().to_owned(),
        },
        ComfyuiCredentials::Bearer(token) => ComfyCredentials::Bearer {
            token: token.expose().to_owned(),
        },
    };
    let options = ComfyOptions {
        base_url: config.url.clone(),
        credentials,
        ..ComfyOptions::default()
    };
    match ComfyHttp::new(options, Arc::clone(ids), io.clone()) {
        Ok(client) => Some(Arc::new(client)),
        Err(error) => {
            let place = match &error {
                ComfyOptionsError::Credentials(_) => &config.credentials_place,
                _ => &config.url_place,
            };
            mistakes.add(place.clone(), Chain(&error).to_string());
            None
        }
    }
}

/// Migrations that did not run.
#[derive(Debug, Error)]
#[error("the database could not be brought up to date")]
pub struct MigrationError(#[source] MigrateError);

/// Brings the database up to date, and says what was done.
pub(crate) async fn migrate(config: &MigrateConfig) -> Result<String, MigrationError> {
    let password = config.app_password.as_ref();
    let report = atelier_postgres::migrate(
        &database_options(&config.database),
        password.map(|password| password.expose().to_owned()),
    )
    .await
    .map_err(MigrationError)?;
    let done = match report.applied.as_slice() {
        [] => "up to date already".to_owned(),
        applied => format!("applied {}", applied.join(", ")),
    };
    Ok(if report.password_set {
        format!("{done}; the password of atelier_app is set")
    } else {
        done
    })
}

/// A token that could not be signed.
#[derive(Debug, Error)]
pub enum TokenError {
    /// There is nothing to sign with.
    #[error("SUPABASE_JWT_SECRET is required: access tokens are signed with it")]
    NoSecret,
    /// The signing failed.
    #[error(transparent)]
    Sign(SignError),
}

/// Signs an access token with the configured secret.
pub(crate) fn token(
    identity: &IdentityConfig,
    user: Uuid,
    email: Option<&str>,
    valid_for: Duration,
) -> Result<String, TokenError> {
    let supabase = identity.supabase.as_ref();
    let secret = supabase.and_then(|supabase| supabase.secret.as_ref());
    let secret = secret.ok_or(TokenError::NoSecret)?;
    let token = AccessToken {
        user_id: UserId::new(user),
        email,
        issuer: supabase.and_then(|supabase| supabase.issuer.as_deref()),
        issued_at: SystemClock.now(),
        valid_for,
    };
    atelier_identity::sign_access_token(secret.expose(), token).map_err(TokenError::Sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told<T>(mistakes: Mistakes, opened: Option<T>) -> String {
        let mistakes = mistakes.check(opened).err();
        mistakes.map_or_else(String::new, |all| all.to_string())
    }

    #[tokio::test]
    async fn every_host_that_is_none_is_told() {
        let config = LoraConfig {
            max_lora_bytes: 1,
            import_hosts: Some(vec!["https://a.example".to_owned(), "*.com".to_owned()]),
        };
        let mut mistakes = Mistakes::default();

        let web = open_web(&config, &Handle::current(), &mut mistakes);

        let told = told(mistakes, web);
        for host in ["https://a.example", "*.com"] {
            let expected = format!("\n  ATELIER_IMPORT_HOSTS: `{host}`: ");
            assert!(told.contains(&expected), "{told}");
        }
    }

    #[tokio::test]
    async fn drive_needs_no_credentials_and_takes_only_good_ones() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let open = |config: &DriveConfig| {
            let mut mistakes = Mistakes::default();
            let drive = open_drive(config, &clock, &Handle::current(), &mut mistakes);
            told(mistakes, drive)
        };

        assert_eq!(open(&DriveConfig::default()), "");
        let told = open(&DriveConfig {
            token: Some(Secret::new("hunter2")),
            ..DriveConfig::default()
        });
        assert!(
            told.contains("\n  GDOC_TOKEN: ") && !told.contains("hunter2"),
            "{told}"
        );
        let told = open(&DriveConfig {
            api_base_url: Some("http://drive.example".to_owned()),
            ..DriveConfig::default()
        });
        assert!(told.contains("\n  GOOGLE_API_BASE_URL: "), "{told}");
        let told = open(&DriveConfig {
            token_url: Some("http://drive.example".to_owned()),
            ..DriveConfig::default()
        });
        assert!(told.contains("\n  GOOGLE_TOKEN_URL: "), "{told}");
    }
}
