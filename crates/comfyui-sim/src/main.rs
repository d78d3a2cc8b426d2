//! The simulator as a program: `comfyui-sim --base-dir DIR`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use atelier_comfyui_sim::{
    Credentials, Faults, Front, PreviewMethod, Simulator, SimulatorOptions, Version,
};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A ComfyUI server without a GPU, for tests, demonstrations and continuous integration.
#[derive(Debug, Parser)]
#[command(about, disable_version_flag = true)]
struct Arguments {
    /// Address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8188", value_name = "ADDRESS")]
    listen: String,
    /// The ComfyUI version to imitate: 0.33.0 or 0.3.64.
    #[arg(long = "version", default_value = "0.33.0", value_name = "VERSION")]
    imitate: Version,
    /// Folder for models/, output/, temp/ and input/; made where missing.
    #[arg(long, default_value = "comfyui-sim", value_name = "DIR")]
    base_dir: PathBuf,
    /// LoRA folder, if it is not models/loras below the base folder.
    #[arg(long, value_name = "DIR")]
    loras_dir: Option<PathBuf>,
    /// What a prompt costs besides its nodes, in milliseconds; the real server takes 4 to 5.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    prompt_ms: u64,
    /// How long one sampler step takes, in milliseconds.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    step_ms: u64,
    /// How long loading a checkpoint takes, in milliseconds.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    load_ms: u64,
    /// A checkpoint that is offered without a file; can be given several times.
    #[arg(long, default_value = "sim-sd15.safetensors", value_name = "NAME")]
    checkpoint: Vec<String>,
    /// Largest request body in MiB.
    #[arg(long, default_value_t = 100, value_name = "MIB")]
    max_upload_size: u64,
    /// Send a preview picture after every sampler step.
    #[arg(long)]
    previews: bool,
    /// User name for Basic authentication; needs --password.
    #[arg(long, requires = "password", value_name = "NAME")]
    user: Option<String>,
    /// Password for Basic authentication; needs --user.
    #[arg(
        long,
        requires = "user",
        env = "COMFYUI_SIM_PASSWORD",
        hide_env_values = true,
        value_name = "PASSWORD"
    )]
    password: Option<String>,
    /// Token for Bearer authentication and the query parameter `token`.
    #[arg(
        long,
        env = "COMFYUI_SIM_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    token: Option<String>,
    /// Something that goes wrong; can be given several times. Numbers follow an equals sign: `slow=250`.
    #[arg(long, value_name = "FAULT", value_parser = parse_fault, long_help = FAULT_HELP)]
    fault: Vec<FaultSetting>,
    /// How long connections are refused during a simulated restart, in milliseconds.
    #[arg(long, default_value_t = 50, value_name = "MS")]
    restart_ms: u64,
    /// Open the control routes /sim/faults, /sim/executions and /sim/restart.
    #[arg(long)]
    control: bool,
}

const FAULT_HELP: &str = "Something that goes wrong; can be given several times:
  deaf-sockets         sockets never get a frame
  stalled-publisher    events of all clients hang
  cut-sockets=MS       sockets are cut after so many milliseconds
  slow=MS              every answer comes so much later
  fail=PERCENT         this share of requests is answered with 500
  lost-answer=COUNT    so many POST /prompt are processed, but not answered
  error-at=NODE        nodes of this class, or with this id, raise an error
  redirect-front       302 to a login page without the right credentials
  unauthorized-front   401 without the right credentials
  late-history=MS      history entries come so much later
  duplicate-executed   every executed event comes twice
  broken-jobs          /api/jobs answers 500";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FaultName {
    DeafSockets,
    StalledPublisher,
    CutSockets,
    Slow,
    Fail,
    LostAnswer,
    ErrorAt,
    RedirectFront,
    UnauthorizedFront,
    LateHistory,
    DuplicateExecuted,
    BrokenJobs,
}

/// One `--fault`, with its value if it has one.
#[derive(Clone, Debug)]
struct FaultSetting {
    name: FaultName,
    number: u64,
    text: String,
}

fn parse_fault(argument: &str) -> Result<FaultSetting, String> {
    let (name, text) = argument.split_once('=').unwrap_or((argument, ""));
    let name = FaultName::from_str(name, false)
        .map_err(|_unknown| format!("there is no fault {name:?}"))?;
    let number = match name {
        FaultName::CutSockets | FaultName::Slow | FaultName::Fail | FaultName::LateHistory => text
            .parse()
            .map_err(|_no_number| format!("this fault needs a number, such as {argument}=100"))?,
        FaultName::LostAnswer if text.is_empty() => 1,
        FaultName::LostAnswer => text
            .parse()
            .map_err(|_no_number| "lost-answer needs a count".to_owned())?,
        FaultName::ErrorAt if text.is_empty() => {
            return Err("error-at needs a class or node id".to_owned());
        }
        _ => 0,
    };
    Ok(FaultSetting {
        name,
        number,
        text: text.to_owned(),
    })
}

impl FaultSetting {
    fn apply(&self, faults: &mut Faults) {
        match self.name {
            FaultName::DeafSockets => faults.deaf_sockets = true,
            FaultName::StalledPublisher => faults.stall_publisher = true,
            FaultName::CutSockets => faults.cut_sockets_every_ms = Some(self.number),
            FaultName::Slow => faults.delay_answers_ms = self.number,
            FaultName::Fail => {
                faults.fail_percent = u8::try_from(self.number.min(100)).unwrap_or(100);
            }
            FaultName::LostAnswer => {
                faults.lose_prompt_answers = u32::try_from(self.number).unwrap_or(u32::MAX);
            }
            FaultName::ErrorAt => faults.error_at = Some(self.text.clone()),
            FaultName::RedirectFront => faults.front = Some(Front::Redirect),
            FaultName::UnauthorizedFront => faults.front = Some(Front::Unauthorized),
            FaultName::LateHistory => faults.history_delay_ms = self.number,
            FaultName::DuplicateExecuted => faults.duplicate_executed = true,
            FaultName::BrokenJobs => faults.jobs_api_fails = true,
        }
    }
}

impl Arguments {
    fn options(self) -> SimulatorOptions {
        let mut faults = Faults::default();
        self.fault
            .iter()
            .for_each(|setting| setting.apply(&mut faults));
        let basic = self.user.zip(self.password);
        let wanted = basic.is_some() || self.token.is_some();
        SimulatorOptions {
            listen: self.listen,
            version: self.imitate,
            loras_dir: self.loras_dir,
            prompt_delay: Duration::from_millis(self.prompt_ms),
            step_delay: Duration::from_millis(self.step_ms),
            load_delay: Duration::from_millis(self.load_ms),
            checkpoints: self.checkpoint,
            credentials: wanted.then_some(Credentials {
                basic,
                token: self.token,
            }),
            max_upload_bytes: self.max_upload_size.saturating_mul(1024 * 1024),
            preview_method: if self.previews {
                PreviewMethod::Latent2Rgb
            } else {
                PreviewMethod::None
            },
            restart_downtime: Duration::from_millis(self.restart_ms),
            faults,
            control: self.control,
            ..SimulatorOptions::in_dir(self.base_dir)
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::WARN.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match run(Arguments::parse().options()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: SimulatorOptions) -> Result<(), Box<dyn std::error::Error>> {
    // Before anybody is told: a signal that comes at once must not be lost.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let simulator = Simulator::start(options).await?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "listening on {}", simulator.url())?;
    stdout.flush()?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    simulator.stop().await;
    Ok(())
}
