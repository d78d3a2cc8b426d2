//! Traces: which requests became which runs, and where the time went. Nothing is traced unless a
//! collector is named.
//!
//! - `OTEL_EXPORTER_OTLP_ENDPOINT`: the collector, such as `http://collector:4318`; spans go to
//!   `/v1/traces` below it, as OTLP over HTTP in protobuf.
//! - `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`: the whole address for spans; it counts where both are set.
//! - `OTEL_SERVICE_NAME`: what this service is called; `atelier` if nobody says.
//! - `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG`: which requests are traced;
//!   `parentbased_always_on` if not set.
//! - `OTEL_SDK_DISABLED`: `true` for no traces, whatever else is set.
//! - `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_COMPRESSION` and the
//!   `OTEL_BSP_*` variables: as OpenTelemetry says; its library reads them.
#![expect(clippy::doc_markdown, reason = "clap prints these texts as they stand")]

use url::Url;

use super::backend::web_address;
use super::{Mistakes, or_variables};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
const DISABLED: &str = "OTEL_SDK_DISABLED";
const PROTOCOLS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
];

/// The only protocol that is spoken.
const HTTP_PROTOBUF: &str = "http/protobuf";

/// How traces are told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TraceArguments {
    /// The OpenTelemetry collector that gets traces, over HTTP: http://collector:4318.
    ///
    /// Nothing is traced if not set. OTEL_RESOURCE_ATTRIBUTES and OTEL_EXPORTER_OTLP_HEADERS work as
    /// OpenTelemetry says.
    #[arg(long, env = ENDPOINT, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// The whole address for traces, if it is another one.
    #[arg(long, env = TRACES_ENDPOINT, value_name = "URL")]
    pub otlp_traces_endpoint: Option<String>,
    /// What this service is called in traces.
    ///
    /// Default: atelier.
    #[arg(long, env = SERVICE_NAME, value_name = "NAME")]
    pub otel_service_name: Option<String>,
    /// Which requests are traced: always_on, always_off, traceidratio, or one of these after
    /// parentbased_.
    ///
    /// Default: parentbased_always_on.
    #[arg(long, env = SAMPLER, value_name = "SAMPLER")]
    pub traces_sampler: Option<String>,
    /// The share that traceidratio takes, from 0 to 1.
    #[arg(long, env = SAMPLER_ARGUMENT, value_name = "RATIO")]
    pub traces_sampler_arg: Option<String>,
    /// `true` for no traces, whatever else is set.
    #[arg(long, env = DISABLED, value_name = "BOOLEAN")]
    pub otel_sdk_disabled: Option<String>,
}

/// Where traces go, and which.
#[derive(Clone, Debug, PartialEq)]
pub struct TracesConfig {
    /// The whole address for spans.
    pub endpoint: Url,
    /// What this service is called, if anybody says.
    pub service_name: Option<String>,
    /// Which requests are traced.
    pub sampler: TraceSampler,
}

/// Which requests are traced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceSampler {
    /// Whether a request that belongs to somebody's trace is traced if that is.
    pub follows_parent: bool,
    /// The share of the others, from 0 to 1.
    pub ratio: f64,
}

impl Default for TraceSampler {
    fn default() -> Self {
        Self {
            follows_parent: true,
            ratio: 1.0,
        }
    }
}

impl TraceArguments {
    /// Checks the arguments; `Some(None)` where nothing is to be traced.
    pub fn check(self, mistakes: &mut Mistakes) -> Option<Option<TracesConfig>> {
        let disabled = or_variables(self.otel_sdk_disabled, &[]);
        if disabled.is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            return Some(None);
        }
        let endpoint = match or_variables(self.otlp_traces_endpoint, &[]) {
            Some(text) => address(TRACES_ENDPOINT, &text, mistakes)?,
            None => match or_variables(self.otlp_endpoint, &[]) {
                Some(text) => below(&address(ENDPOINT, &text, mistakes)?),
                None => return Some(None),
            },
        };
        let protocol = or_variables(None, &PROTOCOLS);
        if protocol.is_some_and(|protocol| protocol != HTTP_PROTOBUF) {
            let detail = format!("must be {HTTP_PROTOBUF}: no other protocol is spoken");
            mistakes.add("OTEL_EXPORTER_OTLP_PROTOCOL", detail);
        }
        let share = or_variables(self.traces_sampler_arg, &[]);
        let sampler = match or_variables(self.traces_sampler, &[]) {
            None => TraceSampler::default(),
            Some(word) => sampler(&word, share, mistakes)?,
        };
        Some(Some(TracesConfig {
            endpoint,
            service_name: or_variables(self.otel_service_name, &[]),
            sampler,
        }))
    }
}

fn address(variable: &'static str, text: &str, mistakes: &mut Mistakes) -> Option<Url> {
    web_address(text)
        .map_err(|detail| mistakes.add(variable, detail))
        .ok()
}

/// The address for spans at a collector.
fn below(collector: &Url) -> Url {
    let mut address = collector.clone();
    let path = format!("{}/v1/traces", collector.path().trim_end_matches('/'));
    address.set_path(&path);
    address
}

fn sampler(word: &str, share: Option<String>, mistakes: &mut Mistakes) -> Option<TraceSampler> {
    let (follows_parent, kind) = match word.strip_prefix("parentbased_") {
        Some(kind) => (true, kind),
        None => (false, word),
    };
    let ratio = match kind {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => match share {
            None => 1.0,
            Some(text) => mistakes.parse(
                SAMPLER_ARGUMENT,
                &text,
                "a number from 0 to 1",
                |share: &f64| (0.0..=1.0).contains(share),
            )?,
        },
        _ => {
            mistakes.add(
                SAMPLER,
                format!(
                    "must be always_on, always_off, traceidratio, or one of these after \
                     parentbased_, is `{word}`"
                ),
            );
            return None;
        }
    };
    Some(TraceSampler {
        follows_parent,
        ratio,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arguments: TraceArguments) -> Result<Option<TracesConfig>, String> {
        let mut mistakes = Mistakes::default();
        let config = arguments.check(&mut mistakes);
        mistakes.check(config).map_err(|all| all.to_string())
    }

    fn to(endpoint: &str) -> TraceArguments {
        TraceArguments {
            otlp_endpoint: Some(endpoint.to_owned()),
            ..TraceArguments::default()
        }
    }

    #[test]
    fn nothing_is_traced_unless_a_collector_is_named() {
        assert_eq!(check(TraceArguments::default()), Ok(None));
        let disabled = TraceArguments {
            otel_sdk_disabled: Some("TRUE".to_owned()),
            ..to("http://collector:4318")
        };
        assert_eq!(check(disabled), Ok(None));
    }

    #[test]
    fn spans_go_below_the_collector_or_where_they_are_told_to() {
        let endpoint = |arguments| {
            let config = check(arguments).expect("nothing is wrong");
            config.expect("they are traced").endpoint.to_string()
        };

        assert_eq!(
            endpoint(to("http://collector:4318")),
            "http://collector:4318/v1/traces"
        );
        assert_eq!(
            endpoint(to("https://a.example/otlp/")),
            "https://a.example/otlp/v1/traces"
        );
        let told = TraceArguments {
            otlp_traces_endpoint: Some("http://spans/here".to_owned()),
            ..to("http://collector:4318")
        };
        assert_eq!(endpoint(told), "http://spans/here");
    }

    #[test]
    fn samplers_go_by_the_names_of_open_telemetry() {
        let sampler = |word: &str, share: Option<&str>| {
            let arguments = TraceArguments {
                traces_sampler: Some(word.to_owned()),
                traces_sampler_arg: share.map(str::to_owned),
                ..to("http://collector:4318")
            };
            check(arguments).map(|config| config.expect("they are traced").sampler)
        };
        let is = |follows_parent, ratio| {
            Ok(TraceSampler {
                follows_parent,
                ratio,
            })
        };

        assert_eq!(sampler("", None), is(true, 1.0));
        assert_eq!(sampler("always_off", None), is(false, 0.0));
        assert_eq!(
            sampler("parentbased_traceidratio", Some("0.25")),
            is(true, 0.25)
        );
        for (word, share, expected) in [
            ("xray", None, "\n  OTEL_TRACES_SAMPLER: must be always_on"),
            (
                "traceidratio",
                Some("2"),
                "\n  OTEL_TRACES_SAMPLER_ARG: must be a number from 0 to 1, is `2`",
            ),
        ] {
            let told = sampler(word, share).expect_err("it is wrong");
            assert!(told.contains(expected), "{told}");
        }
    }

    #[test]
    fn an_address_that_is_none_is_told_without_showing_it() {
        let told = check(to("http://user:hunter2@collector")).expect_err("it holds a password");

        assert!(
            told.contains("\n  OTEL_EXPORTER_OTLP_ENDPOINT: must hold no user"),
            "{told}"
        );
        assert!(!told.contains("hunter2"), "{told}");
    }
}
