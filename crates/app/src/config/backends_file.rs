//! The backends in `atelier.toml`.
//!
//! ```toml
//! [[backends]]
//! name = "gpu-1"                   # runs remember it: it must not change
//! url = "http://10.0.0.5:8188"
//! loras_dir = "/mnt/gpu-1/loras"   # its LoRA folder, as it is mounted here
//! user = "atelier"                 # with `password` or `password_env`; or `token` or `token_env`
//! password_env = "GPU1_PASSWORD"   # the variable that holds the password
//! max_in_flight = 4                # how many runs it is given at once, 1 to 64
//! lora_quota_bytes = 500000000000  # how many bytes our LoRAs may have there; else as many as fit
//! lora_keep_free_bytes = 1073741824  # how many bytes of its disk are left free
//! ```
//!
//! Several backends may share a LoRA folder (a network disk); no two may share an address.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::Mistakes;
use super::backend::BackendConfig;
use super::backend_table::{Seen, Variables, backend};
use super::toml_source::{Noted, TomlSource};

/// The largest file that is read: a wrong path may lead to anything.
const MAX_BYTES: u64 = 1024 * 1024;

const BACKENDS: &str = "backends";

/// The backends of a file.
pub(super) fn read(
    path: &Path,
    variables: Variables<'_>,
    mistakes: &mut Mistakes,
) -> Option<Vec<BackendConfig>> {
    let name = path.display().to_string();
    let text = text_of(path)
        .map_err(|detail| mistakes.add(name.clone(), detail))
        .ok()?;
    parse(&name, &text, variables, mistakes).ok()
}

fn text_of(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if u64::try_from(bytes.len()).is_ok_and(|read| read > MAX_BYTES) {
        return Err(format!("is longer than {MAX_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|_other_encoding| "is not UTF-8".to_owned())
}

fn parse(
    name: &str,
    text: &str,
    variables: Variables<'_>,
    mistakes: &mut Mistakes,
) -> Result<Vec<BackendConfig>, Noted> {
    let mut file = TomlSource::new(name, text).table(mistakes)?;
    let tables = file.tables(BACKENDS, mistakes);
    let rest = file.refuse_the_rest(&["[[backends]]"], mistakes);
    let tables = tables?;
    if tables.is_empty() {
        mistakes.add(
            name.to_owned(),
            "names no backend: add [[backends]] with name, url and loras_dir",
        );
        return Err(Noted);
    }
    let mut seen = Seen::default();
    let mut backends = Vec::new();
    let mut outcome = rest;
    for table in tables {
        match backend(table, &mut seen, variables, mistakes) {
            Ok(backend) => backends.push(backend),
            Err(noted) => outcome = Err(noted),
        }
    }
    outcome.map(|()| backends)
}

#[cfg(test)]
mod tests {
    use super::super::Secret;
    use super::super::backend::ComfyuiCredentials;
    use super::super::secret_files::SecretMistake;
    use super::*;

    const FILE: &str = "atelier.toml";

    /// The only variables there are.
    #[expect(clippy::unnecessary_wraps, reason = "others cannot be read")]
    fn variables(name: &str) -> Result<Option<String>, SecretMistake> {
        Ok((name == "GPU_SECRET").then(|| "hunter2".to_owned()))
    }

    fn backends_of(text: &str) -> Result<Vec<BackendConfig>, String> {
        let mut mistakes = Mistakes::default();
        let backends = parse(FILE, text, &variables, &mut mistakes);
        mistakes
            .check(backends.ok())
            .map_err(|mistakes| mistakes.to_string())
    }

    fn mistakes_of(text: &str) -> String {
        backends_of(text).expect_err("something is wrong with it")
    }

    /// A backend that is fine, and `more` of it.
    fn one(number: u32, more: &str) -> String {
        format!(
            "[[backends]]\nname = \"gpu-{number}\"\nurl = \"http://gpu-{number}:8188\"\n\
             loras_dir = \"/mnt/gpu-{number}\"\n{more}\n"
        )
    }

    #[test]
    fn every_backend_is_read_in_its_order() {
        let text = one(1, "")
            + &one(
                2,
                "user = \"u\"\npassword_env = \"GPU_SECRET\"\nmax_in_flight = 9\n\
                 lora_quota_bytes = 500_000_000_000\nlora_keep_free_bytes = 0",
            );

        let backends = backends_of(&text).expect("nothing is wrong");

        let expected = [
            BackendConfig {
                name: "gpu-1".to_owned(),
                url: "http://gpu-1:8188".to_owned(),
                credentials: ComfyuiCredentials::None,
                loras_dir: "/mnt/gpu-1".into(),
                lora_quota_bytes: None,
                lora_keep_free_bytes: 1 << 30,
                max_in_flight: 4,
                url_place: "atelier.toml: backends[0].url (line 3)".to_owned(),
                credentials_place: "atelier.toml: backends[0].user (line 1)".to_owned(),
            },
            BackendConfig {
                name: "gpu-2".to_owned(),
                url: "http://gpu-2:8188".to_owned(),
                credentials: ComfyuiCredentials::Basic {
                    user: "u".to_owned(),
                    password: Secret::new("hunter2"),
                },
                loras_dir: "/mnt/gpu-2".into(),
                lora_quota_bytes: Some(500_000_000_000),
                lora_keep_free_bytes: 0,
                max_in_flight: 9,
                url_place: "atelier.toml: backends[1].url (line 8)".to_owned(),
                credentials_place: "atelier.toml: backends[1].user (line 10)".to_owned(),
            },
        ];
        assert_eq!(backends, expected);
    }

    #[test]
    fn a_secret_is_given_or_named() {
        for (more, expected) in [
            ("token = \"hunter3\"", "hunter3"),
            ("token_env = \"GPU_SECRET\"", "hunter2"),
        ] {
            let backends = backends_of(&one(1, more)).expect("nothing is wrong");

            let expected = ComfyuiCredentials::Bearer(Secret::new(expected));
            assert_eq!(backends[0].credentials, expected);
            assert!(!format!("{backends:?}").contains("hunter"));
        }
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_place() {
        let told = mistakes_of(
            "colour = \"blue\"\n\
             [[backends]]\nname = \"GPU 1\"\nurl = \"ftp://somebody:hunter2@gpu\"\n\
             max_in_flight = 65\nuser = \"u\"\n\
             [[backends]]\nurl = \"\"\nloras_dir = 7\ntoken_env = \"hunter2\"\n\
             pasword = \"hunter2\"\npassword = 5\n\
             lora_quota_bytes = 0\nlora_keep_free_bytes = -1\n",
        );

        for expected in [
            "atelier.toml: colour (line 1): is not known",
            "atelier.toml: backends[0].name (line 3): must be 1 to 64 of",
            "atelier.toml: backends[0].url (line 4): must begin with http:// or https://",
            "atelier.toml: backends[0].loras_dir (line 2): is required",
            "atelier.toml: backends[0].max_in_flight (line 5): must be a number from 1 to 64",
            "atelier.toml: backends[0].password (line 2): is required where `user` is set",
            "atelier.toml: backends[1].name (line 7): is required",
            "atelier.toml: backends[1].url (line 8): must not be empty",
            "atelier.toml: backends[1].loras_dir (line 9): must be a text",
            "atelier.toml: backends[1].token_env (line 10): names an environment variable",
            "atelier.toml: backends[1].pasword (line 11): is not known",
            "atelier.toml: backends[1].password (line 12): must be a text",
            "atelier.toml: backends[1].lora_quota_bytes (line 13): must be a number of bytes, from 1",
            "atelier.toml: backends[1].lora_keep_free_bytes (line 14): must be a number of bytes",
        ] {
            assert!(
                told.contains(&format!("\n  {expected}")),
                "{expected}: {told}"
            );
        }
        assert_eq!(told.lines().count(), 15, "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }

    #[test]
    fn names_are_such_as_last() {
        let longest = "a".repeat(64);
        for fine in ["a", "0", "gpu-1.rack_2", &longest] {
            let text = one(1, "").replace("gpu-1\"\nurl", &format!("{fine}\"\nurl"));
            assert_eq!(backends_of(&text).expect("a name")[0].name, fine);
        }
        let too_long = "a".repeat(65);
        for wrong in [".a", "-a", "A", "a b", "a/b", "ä", " a", &too_long] {
            let text = one(1, "").replace("gpu-1\"\nurl", &format!("{wrong}\"\nurl"));
            assert!(mistakes_of(&text).contains("backends[0].name"), "{wrong}");
        }
    }

    #[test]
    fn no_two_have_one_name_or_one_address() {
        let text = one(1, "") + &one(1, "").replace("http://gpu-1:8188", "HTTP://GPU-1:8188/");

        let told = mistakes_of(&text);

        for expected in [
            "atelier.toml: backends[1].name (line 7): is the name of backends[0] too",
            "atelier.toml: backends[1].url (line 8): is the address of backends[0] too",
        ] {
            assert!(
                told.contains(&format!("\n  {expected}")),
                "{expected}: {told}"
            );
        }
    }

    #[test]
    fn a_disk_may_be_shared() {
        let text = one(1, "") + &one(2, "").replace("/mnt/gpu-2", "/mnt/gpu-1");

        let backends = backends_of(&text).expect("nothing is wrong");

        assert_eq!(backends[0].loras_dir, backends[1].loras_dir);
    }

    #[test]
    fn credentials_are_given_in_one_way() {
        for (more, expected) in [
            (
                "user = \"u\"\npassword = \"hunter2\"\npassword_env = \"GPU_SECRET\"",
                "backends[0].password_env (line 7): cannot be used together with `password`",
            ),
            (
                "token = \"hunter2\"\ntoken_env = \"GPU_SECRET\"",
                "backends[0].token_env (line 6): cannot be used together with `token`",
            ),
            (
                "user = \"u\"\npassword = \"hunter2\"\ntoken_env = \"GPU_SECRET\"",
                "backends[0].token_env (line 7): cannot be used together with `user`",
            ),
            (
                "password_env = \"GPU_SECRET\"",
                "backends[0].user (line 1): is required where `password` or `password_env` is set",
            ),
        ] {
            let told = mistakes_of(&one(1, more));

            assert!(told.contains(expected), "{expected}: {told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn a_file_without_a_backend_is_a_mistake() {
        for text in ["", "# nothing\n", "backends = []\n"] {
            let told = mistakes_of(text);

            assert!(
                told.contains("\n  atelier.toml: names no backend"),
                "{told}"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let folder = tempfile::tempdir().expect("there is room");
        let binary = folder.path().join("binary.toml");
        std::fs::write(&binary, [0xff, 0xfe]).expect("there is room");
        for (path, expected) in [
            (
                folder.path().join("missing.toml"),
                "missing.toml: cannot be read: ",
            ),
            (folder.path().to_owned(), ": cannot be read: "),
            (binary, "binary.toml: is not UTF-8"),
            (
                "/dev/zero".into(),
                "/dev/zero: is longer than 1048576 bytes",
            ),
        ] {
            let mut mistakes = Mistakes::default();

            let backends = read(&path, &variables, &mut mistakes);

            let told = mistakes.check(backends).expect_err("no file").to_string();
            assert!(told.contains(expected), "{told}");
        }
    }
}
