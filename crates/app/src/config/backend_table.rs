//! One of the backends in `atelier.toml`.

use std::collections::HashMap;

use super::Mistakes;
use super::backend::{
    BackendConfig, ComfyuiCredentials, DEFAULT_IN_FLIGHT, DEFAULT_KEEP_FREE_BYTES,
    GivenCredentials, MOST_IN_FLIGHT, NAME_RULE, Setting, is_backend_name, web_address,
};
use super::secret_files::SecretMistake;
use super::toml_source::{Noted, Placed, TomlTable};

const NAME: &str = "name";
const URL: &str = "url";
const USER: &str = "user";
const PASSWORD: &str = "password";
const PASSWORD_ENV: &str = "password_env";
const TOKEN: &str = "token";
const TOKEN_ENV: &str = "token_env";
const LORAS_DIR: &str = "loras_dir";
const MAX_IN_FLIGHT: &str = "max_in_flight";
const LORA_QUOTA_BYTES: &str = "lora_quota_bytes";
const LORA_KEEP_FREE_BYTES: &str = "lora_keep_free_bytes";

const KEYS: [&str; 11] = [
    NAME,
    URL,
    LORAS_DIR,
    USER,
    PASSWORD,
    PASSWORD_ENV,
    TOKEN,
    TOKEN_ENV,
    MAX_IN_FLIGHT,
    LORA_QUOTA_BYTES,
    LORA_KEEP_FREE_BYTES,
];

/// Reads a variable, or the file that holds its value; `None` where neither is set.
pub(super) type Variables<'a> = &'a dyn Fn(&str) -> Result<Option<String>, SecretMistake>;

/// The names and addresses so far, each with the table that has it.
#[derive(Default)]
pub(super) struct Seen {
    names: HashMap<String, String>,
    urls: HashMap<String, String>,
}

/// Reads one backend to its end, whatever is wrong with any of its keys.
pub(super) fn backend(
    mut table: TomlTable<'_>,
    seen: &mut Seen,
    variables: Variables<'_>,
    mistakes: &mut Mistakes,
) -> Result<BackendConfig, Noted> {
    let name = backend_name(&mut table, &mut seen.names, mistakes);
    let url = url(&mut table, &mut seen.urls, mistakes);
    let loras_dir = table.required_text(
        LORAS_DIR,
        "its LoRA folder, as it is mounted here",
        mistakes,
    );
    let credentials = credentials(&mut table, variables, mistakes);
    let max_in_flight = table.number(MAX_IN_FLIGHT, &(1..=MOST_IN_FLIGHT), mistakes);
    let quota_bytes = table.bytes(LORA_QUOTA_BYTES, 1, mistakes);
    let keep_free_bytes = table.bytes(LORA_KEEP_FREE_BYTES, 0, mistakes);
    table.refuse_the_rest(&KEYS, mistakes)?;

    let url = url?;
    let (credentials, credentials_place) = credentials?;
    Ok(BackendConfig {
        name: name?,
        url: url.value,
        credentials,
        loras_dir: loras_dir?.value.into(),
        lora_quota_bytes: quota_bytes?,
        lora_keep_free_bytes: keep_free_bytes?.unwrap_or(DEFAULT_KEEP_FREE_BYTES),
        max_in_flight: max_in_flight?.unwrap_or(DEFAULT_IN_FLIGHT),
        url_place: url.place,
        credentials_place,
    })
}

fn backend_name(
    table: &mut TomlTable<'_>,
    seen: &mut HashMap<String, String>,
    mistakes: &mut Mistakes,
) -> Result<String, Noted> {
    let Placed { value, place } =
        table.required_text(NAME, "what runs remember it by, such as gpu-1", mistakes)?;
    if !is_backend_name(&value) {
        mistakes.add(place, NAME_RULE);
        return Err(Noted);
    }
    only_here(seen, value.clone(), table.path(), &place, "name", mistakes)?;
    Ok(value)
}

fn url(
    table: &mut TomlTable<'_>,
    seen: &mut HashMap<String, String>,
    mistakes: &mut Mistakes,
) -> Result<Placed<String>, Noted> {
    let url = table.required_text(URL, "its address, such as http://10.0.0.5:8188", mistakes)?;
    let address = web_address(&url.value).map_err(|detail| {
        mistakes.add(url.place.clone(), detail);
        Noted
    })?;
    // As the adapter reads it: with or without a slash at its end.
    let address = address.as_str().trim_end_matches('/').to_owned();
    only_here(seen, address, table.path(), &url.place, "address", mistakes)?;
    Ok(url)
}

/// Notes that a table has a value, unless another has it.
fn only_here(
    seen: &mut HashMap<String, String>,
    value: String,
    table: &str,
    place: &str,
    what: &str,
    mistakes: &mut Mistakes,
) -> Result<(), Noted> {
    if let Some(other) = seen.get(&value) {
        let detail = format!("is the {what} of {other} too; each backend needs its own");
        mistakes.add(place.to_owned(), detail);
        return Err(Noted);
    }
    seen.insert(value, table.to_owned());
    Ok(())
}

fn credentials(
    table: &mut TomlTable<'_>,
    variables: Variables<'_>,
    mistakes: &mut Mistakes,
) -> Result<(ComfyuiCredentials, String), Noted> {
    let user = table.text(USER, mistakes);
    let password = secret(table, PASSWORD, PASSWORD_ENV, variables, mistakes);
    let token = secret(table, TOKEN, TOKEN_ENV, variables, mistakes);
    let (user, password, token) = (user?, password?, token?);
    let place = |given: &Option<Placed<String>>, missing: String| {
        given.as_ref().map_or(missing, |given| given.place.clone())
    };
    let given = GivenCredentials {
        user_setting: Setting {
            name: "`user`",
            place: place(&user, table.place_of_missing(USER)),
        },
        password_setting: Setting {
            name: "`password` or `password_env`",
            place: place(&password, table.place_of_missing(PASSWORD)),
        },
        token_setting: Setting {
            name: "`token` or `token_env`",
            place: place(&token, table.place_of_missing(TOKEN)),
        },
        user: user.map(|given| given.value),
        password: password.map(|given| given.value),
        token: token.map(|given| given.value),
    };
    given.check(mistakes).ok_or(Noted)
}

/// A secret: itself, or the variable that holds it. Neither is ever shown, for who mistakes one
/// key for the other writes the secret where the variable's name should be.
fn secret(
    table: &mut TomlTable<'_>,
    key: &'static str,
    variable_key: &'static str,
    variables: Variables<'_>,
    mistakes: &mut Mistakes,
) -> Result<Option<Placed<String>>, Noted> {
    let given = table.text(key, mistakes);
    let named = table.text(variable_key, mistakes);
    match (given?, named?) {
        (given, None) => Ok(given),
        (None, Some(variable)) => {
            let value = match variables(&variable.value) {
                Ok(Some(value)) => value,
                Ok(None) => {
                    mistakes.add(
                        variable.place,
                        "names an environment variable that is not set, or set to nothing",
                    );
                    return Err(Noted);
                }
                Err((place, detail)) => {
                    mistakes.add(place, detail);
                    return Err(Noted);
                }
            };
            Ok(Some(Placed {
                value,
                place: variable.place,
            }))
        }
        (Some(_), Some(variable)) => {
            let detail = format!("cannot be used together with `{key}`");
            mistakes.add(variable.place, detail);
            Err(Noted)
        }
    }
}
