//! The rows of the design's table of speed.

/// One thing that is measured.
pub(crate) struct Row {
    /// What the benches call it.
    pub(crate) name: &'static str,
    /// What is measured.
    pub(crate) what: &'static str,
    /// What it is compared with, on the same machine in the same run.
    pub(crate) against: &'static str,
    /// What it should be.
    pub(crate) aim: Aim,
}

/// What a measurement should be.
#[derive(Clone, Copy)]
pub(crate) enum Aim {
    /// A ratio that should be at least this.
    AtLeast(f64),
    /// A number that should be at most this, with its unit.
    AtMost(f64, &'static str),
    /// For information.
    None,
}

impl Aim {
    pub(crate) fn words(self) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {least}"),
            Self::AtMost(most, unit) => format!("≤ {most}{unit}"),
            Self::None => "–".to_owned(),
        }
    }

    pub(crate) fn with_unit(self, measured: f64) -> String {
        match self {
            Self::AtMost(_, unit) => format!("{measured:.2}{unit}"),
            Self::AtLeast(_) | Self::None => format!("{measured:.2}"),
        }
    }

    pub(crate) fn is_met(self, measured: f64) -> Option<bool> {
        match self {
            Self::AtLeast(least) => Some(measured >= least),
            Self::AtMost(most, _) => Some(measured <= most),
            Self::None => None,
        }
    }
}

const GET: &str = "`GET /workflows/{id}`, 32 connections, 100 000 rows";
const LIST: &str = "`GET /workflows?limit=50`, 32 connections, 100 000 rows";
const CREATE: &str = "`POST /workflows`, graph of 2 KB, 32 connections";
const ONE_BY_ONE: &str = "pgbench, the same transaction, statements one by one, prepared";
const PIPELINED: &str = "pgbench, the same transaction in one pipeline";
const PEER: &str = "FastAPI and asyncpg, uvloop, 2 workers, the same transaction";
const FEW_ROWS: &str = "the same at 1 000 rows";

pub(crate) const ROWS: [Row; 24] = [
    row("get-pgbench", GET, ONE_BY_ONE, Aim::AtLeast(0.7)),
    row("get-pipelined", GET, PIPELINED, Aim::None),
    row("get-fastapi", GET, PEER, Aim::AtLeast(4.0)),
    row("list-pgbench", LIST, ONE_BY_ONE, Aim::AtLeast(0.6)),
    row("list-pipelined", LIST, PIPELINED, Aim::None),
    row("list-fastapi", LIST, PEER, Aim::AtLeast(2.5)),
    row(
        "list-predecessor",
        LIST,
        "the predecessor's recorded 200 to 300 a second, of which the larger",
        Aim::AtLeast(20.0),
    ),
    row("create-pgbench", CREATE, ONE_BY_ONE, Aim::AtLeast(0.6)),
    row("create-pipelined", CREATE, PIPELINED, Aim::None),
    row("create-fastapi", CREATE, PEER, Aim::AtLeast(2.5)),
    row(
        "many-own-first",
        "list of 50 at 1 000 000 rows, `scope=own`, first page: time",
        FEW_ROWS,
        Aim::AtMost(1.3, ""),
    ),
    row(
        "many-own-deep",
        "the same, a page half way down",
        FEW_ROWS,
        Aim::AtMost(1.3, ""),
    ),
    row(
        "many-all-first",
        "list of 50 at 1 000 000 rows, `scope=all` with 5 % public, first page: time",
        FEW_ROWS,
        Aim::AtMost(1.3, ""),
    ),
    row(
        "many-all-deep",
        "the same, a page half way down",
        FEW_ROWS,
        Aim::AtMost(1.3, ""),
    ),
    row(
        "upload",
        "upload of a LoRA of 1 GiB: rate",
        "the same bytes PUT straight to the S3 server",
        Aim::AtLeast(0.8),
    ),
    row(
        "upload-memory",
        "the same: growth of the server's peak memory",
        "before it",
        Aim::AtMost(64.0, " MiB"),
    ),
    row(
        "sync",
        "sync of that LoRA to a backend, with the run that needs it: rate",
        "`cp`, then `sha256sum`, of the file",
        Aim::AtLeast(1.0),
    ),
    row(
        "run-adds",
        "one trivial run, POST to `completed`: what it adds at the median",
        "the same straight at the same ComfyUI",
        Aim::AtMost(10.0, " ms"),
    ),
    row(
        "runs-rate",
        "trivial runs of 16 clients: rate",
        "the same straight at the same ComfyUI",
        Aim::AtLeast(0.9),
    ),
    row(
        "runs-rate-unpaced",
        "the same, against a simulator that takes no time",
        "the same straight at it",
        Aim::None,
    ),
    row(
        "claim",
        "claim of the next run, 1 000 000 waiting runs of 1 000 people: median",
        "",
        Aim::AtMost(5.0, " ms"),
    ),
    row(
        "claim-flat",
        "the same: median time",
        "the same at 10 000 waiting runs",
        Aim::AtMost(1.3, ""),
    ),
    row(
        "ready",
        "`atelier serve`, from its start until `/readyz` says yes: median",
        "",
        Aim::AtMost(1.0, " s"),
    ),
    row(
        "logged",
        "`GET /workflows/{id}` with a line in the log for each request, as by default: rate",
        "the same without",
        Aim::None,
    ),
];

const fn row(name: &'static str, what: &'static str, against: &'static str, aim: Aim) -> Row {
    Row {
        name,
        what,
        against,
        aim,
    }
}
