//! Input pictures.
//!
//! - `ATELIER_MAX_INPUT_BYTES`: the largest picture.

use super::{Mistakes, or_variables};

const MAX_INPUT_BYTES: &str = "ATELIER_MAX_INPUT_BYTES";

const DEFAULT_MAX_INPUT_BYTES: u64 = 50 * 1024 * 1024;

/// How input pictures are told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct InputArguments {
    /// The largest input picture, in bytes. ComfyUI itself takes 100 MiB, unless it is told otherwise.
    ///
    /// Default: 52428800, which is 50 MiB.
    #[arg(long, env = MAX_INPUT_BYTES, value_name = "BYTES")]
    pub max_input_bytes: Option<String>,
}

/// How input pictures are taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputConfig {
    /// The largest, in bytes.
    pub max_input_bytes: u64,
}

impl InputArguments {
    /// Checks the arguments.
    pub fn check(self, mistakes: &mut Mistakes) -> Option<InputConfig> {
        let max_input_bytes = match or_variables(self.max_input_bytes, &[]) {
            None => Some(DEFAULT_MAX_INPUT_BYTES),
            Some(text) => mistakes.parse(MAX_INPUT_BYTES, &text, "a number from 1", |bytes| {
                *bytes > 0
            }),
        };
        Some(InputConfig {
            max_input_bytes: max_input_bytes?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &str) -> Result<u64, String> {
        let arguments = InputArguments {
            max_input_bytes: Some(bytes.to_owned()),
        };
        let mut mistakes = Mistakes::default();
        let config = arguments.check(&mut mistakes);
        let config = mistakes.check(config).map_err(|all| all.to_string());
        config.map(|config| config.max_input_bytes)
    }

    #[test]
    fn a_size_is_a_number_of_bytes() {
        assert_eq!(check(""), Ok(50 << 20));
        assert_eq!(check("1000"), Ok(1_000));
        for wrong in ["0", "-1", "50MiB"] {
            let told = check(wrong).expect_err(wrong);
            let expected = format!("\n  {MAX_INPUT_BYTES}: must be a number from 1, is `{wrong}`");
            assert!(told.contains(&expected), "{told}");
        }
    }
}
