//! How much one person may ask for and take up, and which sites' pages may ask.
//!
//! - `ATELIER_RATE_LIMIT`: how many requests a minute one person may send to one process; `off` for as many as they
//!   like. Too few, and a page with many pictures fails; too many, and one script slows everybody down.
//! - `ATELIER_MAX_LORA_BYTES_PER_USER`, `ATELIER_MAX_INPUT_BYTES_PER_USER`, `ATELIER_MAX_OUTPUT_BYTES_PER_USER`: how
//!   many bytes of LoRAs, of uploaded pictures, and of what runs left one person may have; no limit if not set.
//! - `ATELIER_CORS_ORIGINS`: the origins of pages that may use the API from a browser, separated by commas, or `*`.

use std::num::NonZeroU32;

use atelier_domain::usage::Quotas;
use url::Url;

use super::{Mistakes, comma_separated, or_variables};

const RATE_LIMIT: &str = "ATELIER_RATE_LIMIT";
const LORA_BYTES: &str = "ATELIER_MAX_LORA_BYTES_PER_USER";
const INPUT_BYTES: &str = "ATELIER_MAX_INPUT_BYTES_PER_USER";
const OUTPUT_BYTES: &str = "ATELIER_MAX_OUTPUT_BYTES_PER_USER";
const CORS_ORIGINS: &str = "ATELIER_CORS_ORIGINS";

/// A hundred a second: more than any page needs, less than hurts.
const DEFAULT_RATE_LIMIT: u32 = 6_000;

/// How the limits are told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct LimitsArguments {
    /// How many requests a minute one person may send; `off` for as many as they like.
    ///
    /// Default: 6000.
    #[arg(long, env = RATE_LIMIT, value_name = "COUNT")]
    pub rate_limit: Option<String>,
    /// How many bytes of LoRAs one person may have; no limit if not set.
    #[arg(long, env = LORA_BYTES, value_name = "BYTES")]
    pub max_lora_bytes_per_user: Option<String>,
    /// How many bytes of uploaded pictures one person may have; no limit if not set.
    #[arg(long, env = INPUT_BYTES, value_name = "BYTES")]
    pub max_input_bytes_per_user: Option<String>,
    /// How many bytes of what runs left one person may have; no limit if not set.
    #[arg(long, env = OUTPUT_BYTES, value_name = "BYTES")]
    pub max_output_bytes_per_user: Option<String>,
    /// The origins of pages that may use the API from a browser, separated by commas, or `*`.
    #[arg(long, env = CORS_ORIGINS, value_name = "ORIGINS")]
    pub cors_origins: Option<String>,
}

/// How much one person may ask for and take up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitsConfig {
    /// How many requests a minute one person may send; `None` for as many as they like.
    pub rate_limit: Option<NonZeroU32>,
    /// What one person may take up.
    pub quotas: Quotas,
    /// The origins of pages that may use the API.
    pub cors_origins: Vec<String>,
}

impl LimitsArguments {
    /// Checks the arguments.
    pub fn check(self, mistakes: &mut Mistakes) -> Option<LimitsConfig> {
        let rate_limit = match or_variables(self.rate_limit, &[]).as_deref() {
            None => Some(NonZeroU32::new(DEFAULT_RATE_LIMIT)),
            Some("off") => Some(None),
            Some(text) => mistakes
                .parse(
                    RATE_LIMIT,
                    text,
                    "a number from 1 to 10000000, or off",
                    |count: &NonZeroU32| count.get() <= 10_000_000,
                )
                .map(Some),
        };
        let lora_bytes = bytes(mistakes, LORA_BYTES, self.max_lora_bytes_per_user);
        let input_bytes = bytes(mistakes, INPUT_BYTES, self.max_input_bytes_per_user);
        let output_bytes = bytes(mistakes, OUTPUT_BYTES, self.max_output_bytes_per_user);
        let cors_origins = origins(mistakes, self.cors_origins);
        Some(LimitsConfig {
            rate_limit: rate_limit?,
            quotas: Quotas {
                lora_bytes: lora_bytes?,
                input_bytes: input_bytes?,
                output_bytes: output_bytes?,
            },
            cors_origins: cors_origins?,
        })
    }
}

#[expect(
    clippy::option_option,
    reason = "the outer one is a mistake, the inner one no limit"
)]
fn bytes(
    mistakes: &mut Mistakes,
    variable: &'static str,
    given: Option<String>,
) -> Option<Option<u64>> {
    match or_variables(given, &[]) {
        None => Some(None),
        Some(text) => mistakes
            .parse(variable, &text, "a number of bytes, at least 1", |bytes| {
                (1..=u64::MAX >> 1).contains(bytes)
            })
            .map(Some),
    }
}

fn origins(mistakes: &mut Mistakes, given: Option<String>) -> Option<Vec<String>> {
    let origins = comma_separated(given);
    let is_origin = |origin: &&String| {
        origin.as_str() == "*"
            || Url::parse(origin).is_ok_and(|url| {
                matches!(url.scheme(), "http" | "https")
                    && url.origin().ascii_serialization() == **origin
            })
    };
    let wrong: Vec<&String> = origins.iter().filter(|origin| !is_origin(origin)).collect();
    for origin in &wrong {
        mistakes.add(
            CORS_ORIGINS,
            format!("must be origins such as https://studio.example, or *; `{origin}` is none"),
        );
    }
    wrong.is_empty().then_some(origins)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arguments: LimitsArguments) -> Result<LimitsConfig, String> {
        let mut mistakes = Mistakes::default();
        let config = arguments.check(&mut mistakes);
        mistakes.check(config).map_err(|all| all.to_string())
    }

    #[test]
    fn what_is_not_set_has_a_default_or_no_limit() {
        let config = check(LimitsArguments::default()).unwrap();

        assert_eq!(config.rate_limit, NonZeroU32::new(6_000));
        assert_eq!(config.quotas, Quotas::default());
        assert_eq!(config.cors_origins, Vec::<String>::new());
    }

    #[test]
    fn the_rate_can_be_unlimited() {
        let arguments = LimitsArguments {
            rate_limit: Some("off".to_owned()),
            ..LimitsArguments::default()
        };

        assert_eq!(check(arguments).unwrap().rate_limit, None);
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let some = |text: &str| Some(text.to_owned());
        let told = check(LimitsArguments {
            rate_limit: some("0"),
            max_lora_bytes_per_user: some("10 GB"),
            max_input_bytes_per_user: some("0"),
            max_output_bytes_per_user: some("-1"),
            cors_origins: some("https://studio.example/, *, studio.example"),
        })
        .unwrap_err();

        for variable in [
            RATE_LIMIT,
            LORA_BYTES,
            INPUT_BYTES,
            OUTPUT_BYTES,
            CORS_ORIGINS,
        ] {
            assert!(
                told.contains(&format!("\n  {variable}: ")),
                "{variable}: {told}"
            );
        }
        assert_eq!(told.matches(CORS_ORIGINS).count(), 2, "{told}");
    }
}
