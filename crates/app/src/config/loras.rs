//! LoRAs, wherever their bytes come from.
//!
//! - `ATELIER_MAX_LORA_BYTES`: the largest LoRA file.
//! - `ATELIER_IMPORT_HOSTS`: whose addresses people may give to import from, as a list with commas:
//!   `models.example`, `*.models.example` (every host below it), either with a port. It goes in
//!   place of the default, which is Hugging Face and Civitai; `none` lets nobody import from
//!   addresses. The storage hosts that Hugging Face and Civitai redirect to are known besides.

use super::{Mistakes, or_variables};

const MAX_LORA_BYTES: &str = "ATELIER_MAX_LORA_BYTES";
pub(crate) const IMPORT_HOSTS: &str = "ATELIER_IMPORT_HOSTS";

const DEFAULT_MAX_LORA_BYTES: u64 = 8 * 1024 * 1024 * 1024;

/// The word for a list without hosts: an empty one counts as not set.
const NO_HOSTS: &str = "none";

/// How LoRAs are told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct LoraArguments {
    /// The largest LoRA file, in bytes.
    ///
    /// Default: 8589934592, which is 8 GiB.
    #[arg(long, env = MAX_LORA_BYTES, value_name = "BYTES")]
    pub max_lora_bytes: Option<String>,
    /// The hosts that LoRAs may be imported from, separated by commas; *.name for all below a name.
    ///
    /// Default: huggingface.co,civitai.com,civitai.red. `none` for no imports from addresses.
    #[arg(long, env = IMPORT_HOSTS, value_name = "HOSTS")]
    pub import_hosts: Option<String>,
}

/// How LoRAs are brought in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoraConfig {
    /// The largest LoRA file, in bytes.
    pub max_lora_bytes: u64,
    /// Whose addresses people may give; `None` for the usual ones. What is wrong with one of them,
    /// the adapter says when it reads it.
    pub import_hosts: Option<Vec<String>>,
}

impl LoraArguments {
    /// Checks the arguments.
    pub fn check(self, mistakes: &mut Mistakes) -> Option<LoraConfig> {
        let max_lora_bytes = match or_variables(self.max_lora_bytes, &[]) {
            None => Some(DEFAULT_MAX_LORA_BYTES),
            Some(text) => {
                mistakes.parse(MAX_LORA_BYTES, &text, "a number from 1", |bytes| *bytes > 0)
            }
        };
        Some(LoraConfig {
            max_lora_bytes: max_lora_bytes?,
            import_hosts: or_variables(self.import_hosts, &[]).map(|list| hosts(&list)),
        })
    }
}

fn hosts(list: &str) -> Vec<String> {
    if list.trim() == NO_HOSTS {
        return Vec::new();
    }
    list.split(',').map(|host| host.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: Option<&str>, hosts: Option<&str>) -> Result<LoraConfig, String> {
        let arguments = LoraArguments {
            max_lora_bytes: bytes.map(str::to_owned),
            import_hosts: hosts.map(str::to_owned),
        };
        let mut mistakes = Mistakes::default();
        let config = arguments.check(&mut mistakes);
        mistakes.check(config).map_err(|all| all.to_string())
    }

    #[test]
    fn what_is_not_set_or_empty_has_a_default() {
        let expected = LoraConfig {
            max_lora_bytes: 8 << 30,
            import_hosts: None,
        };

        assert_eq!(check(None, None), Ok(expected.clone()));
        assert_eq!(check(Some(""), Some("")), Ok(expected));
    }

    #[test]
    fn hosts_are_a_list_or_none() {
        let hosts = |list| check(None, Some(list)).map(|config| config.import_hosts);

        assert_eq!(
            hosts("a.example, *.b.example:8443"),
            Ok(Some(vec![
                "a.example".to_owned(),
                "*.b.example:8443".to_owned()
            ]))
        );
        assert_eq!(hosts("none"), Ok(Some(Vec::new())));
    }

    #[test]
    fn a_size_is_a_number_of_bytes() {
        for wrong in ["0", "-1", "8GiB"] {
            let told = check(Some(wrong), None).expect_err(wrong);

            let expected = format!("\n  {MAX_LORA_BYTES}: must be a number from 1, is `{wrong}`");
            assert!(told.contains(&expected), "{told}");
        }
    }
}
