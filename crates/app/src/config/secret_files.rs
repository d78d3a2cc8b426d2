//! Secrets in files: whoever may read a process's environment, or a container's description, reads
//! the secrets in it.
//!
//! Every variable that holds a secret may be given as `{NAME}_FILE` instead, which names a file
//! that holds nothing else. A line break at the file's end is not part of the secret.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::{Mistakes, Secret, or_variables};

/// What a variable with a secret is called where a file holds it.
const SUFFIX: &str = "_FILE";

/// The most bytes of such a file: a wrong path may lead to anything.
const MAX_BYTES: u64 = 1024 * 1024;

/// Told by every command that takes secrets.
pub(crate) const HELP: &str = "\
Secrets in files: every variable that holds a secret may be given as its name and _FILE, which \
names a file that holds it, such as DATABASE_URL_FILE=/run/secrets/database-url. These are \
DATABASE_URL, SUPABASE_DB_URL, ATELIER_MIGRATE_URL, ATELIER_APP_PASSWORD, SUPABASE_JWT_SECRET, \
MINIO_ACCESS_KEY, MINIO_SECRET_KEY, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, \
COMFYUI_WEB_PASSWORD, COMFYUI_WEB_TOKEN, GDOC_TOKEN, GDOC_CLIENT, GOOGLE_CLIENT_SECRET, \
CLIENT_SECRET_GOOGLE_LOGIN and ATELIER_METRICS_TOKEN, and the variables that atelier.toml names.";

/// What is wrong with a secret: which variable, and what.
pub(crate) type SecretMistake = (String, String);

/// Reads a variable.
type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The secret of the first of `names` that is given: by itself, or as a file. `given` is the value
/// of the first, as a flag or variable.
///
/// # Errors
/// A secret that is given twice, and a file that cannot be read.
pub(crate) fn find_secret(
    given: Option<String>,
    names: &[&str],
) -> Result<Option<String>, SecretMistake> {
    find_among(given, names, &|name| or_variables(None, &[name]))
}

fn find_among(
    given: Option<String>,
    names: &[&str],
    variables: Variables<'_>,
) -> Result<Option<String>, SecretMistake> {
    let mut given = given.filter(|value| !value.is_empty());
    for name in names {
        let value = given.take().or_else(|| variables(name));
        let file_name = format!("{name}{SUFFIX}");
        match (value, variables(&file_name)) {
            (None, None) => {}
            (Some(value), None) => return Ok(Some(value)),
            (None, Some(path)) => {
                return match read(Path::new(&path)) {
                    Ok(secret) => Ok(Some(secret)),
                    Err(detail) => Err((file_name, format!("`{path}` {detail}"))),
                };
            }
            (Some(_), Some(_)) => {
                let detail = format!("cannot be used together with {name}: drop one of the two");
                return Err((file_name, detail));
            }
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if u64::try_from(bytes.len()).is_ok_and(|read| read > MAX_BYTES) {
        return Err(format!("is longer than {MAX_BYTES} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_not_shown| "is not UTF-8".to_owned())?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    Ok(text.to_owned())
}

impl Mistakes {
    /// A secret under one of its names, or in a file that one of them names. What is wrong is noted, and
    /// such a secret counts as not given.
    pub(super) fn secret(&mut self, given: Option<String>, names: &[&str]) -> Option<Secret> {
        match find_secret(given, names) {
            Ok(secret) => secret.map(Secret::new),
            Err((place, detail)) => {
                self.add(place, detail);
                None
            }
        }
    }
}

/// Whether a secret is given in any way, a wrong one included.
pub(crate) fn is_secret_given(given: Option<&String>, names: &[&str]) -> bool {
    !matches!(find_secret(given.cloned(), names), Ok(None))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tempfile::NamedTempFile;

    use super::*;

    fn file(content: &[u8]) -> NamedTempFile {
        let mut file = NamedTempFile::new().expect("there is room");
        file.write_all(content).expect("there is room");
        file
    }

    /// What is found where `MAIN_FILE` and `OTHER_FILE` name these.
    fn found(
        given: Option<&str>,
        main: Option<&NamedTempFile>,
        other: Option<&NamedTempFile>,
    ) -> Result<Option<String>, SecretMistake> {
        let path = |file: Option<&NamedTempFile>| Some(file?.path().display().to_string());
        let variables = |name: &str| match name {
            "MAIN_FILE" => path(main),
            "OTHER_FILE" => path(other),
            "OTHER" => Some("other".to_owned()),
            _ => None,
        };
        find_among(given.map(str::to_owned), &["MAIN", "OTHER"], &variables)
    }

    #[test]
    fn a_file_holds_the_secret_but_not_its_line_break() {
        for (content, secret) in [
            (&b"hunter2"[..], "hunter2"),
            (b"hunter2\n", "hunter2"),
            (b"hunter2\r\n", "hunter2"),
            (b" hunter2 \n\n", " hunter2 \n"),
        ] {
            let file = file(content);

            assert_eq!(
                found(None, Some(&file), None),
                Ok(Some(secret.to_owned())),
                "{content:?}"
            );
        }
    }

    #[test]
    fn the_first_name_that_is_given_counts() {
        assert_eq!(found(Some("main"), None, None), Ok(Some("main".to_owned())));
        assert_eq!(found(None, None, None), Ok(Some("other".to_owned())));
        assert_eq!(found(Some(""), None, None), Ok(Some("other".to_owned())));
    }

    #[test]
    fn a_secret_is_given_once() {
        let file = file(b"hunter2");

        let (place, detail) = found(Some("hunter3"), Some(&file), None).expect_err("twice");
        assert_eq!(place, "MAIN_FILE");
        assert_eq!(
            detail,
            "cannot be used together with MAIN: drop one of the two"
        );
        let (place, _) = found(None, None, Some(&file)).expect_err("twice");
        assert_eq!(place, "OTHER_FILE");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_with_its_name_and_without_its_content() {
        for (content, expected) in [
            (&b""[..], "is empty"),
            (b"\n", "is empty"),
            (b"\xff", "UTF-8"),
        ] {
            let file = file(content);

            let (place, detail) = found(None, Some(&file), None).expect_err("it is no secret");

            assert_eq!(place, "MAIN_FILE");
            let path = file.path().display().to_string();
            assert!(
                detail.contains(&path) && detail.contains(expected),
                "{detail}"
            );
        }
        let gone = file(b"x");
        let path = gone.path().to_owned();
        drop(gone);
        let variables = |name: &str| (name == "MAIN_FILE").then(|| path.display().to_string());
        let (_, detail) = find_among(None, &["MAIN"], &variables).expect_err("it is gone");
        assert!(detail.contains("cannot be read: No such file"), "{detail}");
    }

    #[test]
    fn the_help_names_every_secret() {
        // What hides its value in the help of a command holds a secret.
        for command in crate::cli::command_for_tests().get_subcommands() {
            for flag in command
                .get_arguments()
                .filter(|flag| flag.is_hide_env_values_set())
            {
                let name = flag.get_env().expect("it is a variable").to_string_lossy();
                assert!(HELP.contains(name.as_ref()), "{name}");
            }
        }
    }
}
