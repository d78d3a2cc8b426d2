//! How Python would print, write and convert JSON values: the server's messages quote its own way of doing that.

use serde_json::Value;

/// `repr(value)`, for example `['a', None, 1.0]`.
pub(crate) fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => repr_text(text),
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(repr).collect::<Vec<_>>().join(", ")
        ),
        Value::Object(members) => {
            let members: Vec<_> = members
                .iter()
                .map(|(key, value)| format!("{}: {}", repr_text(key), repr(value)))
                .collect();
            format!("{{{}}}", members.join(", "))
        }
    }
}

/// `str(value)`: a string is itself, everything else is its `repr`.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr(other),
    }
}

/// `type(value).__name__`.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

/// `bool(value)`.
pub(crate) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

/// `json.dumps(value)`: ASCII only, with a space after comma and colon.
pub(crate) fn dumps(value: &Value) -> String {
    match value {
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(dumps).collect::<Vec<_>>().join(", ")
        ),
        Value::Object(members) => {
            let members: Vec<_> = members
                .iter()
                .map(|(key, value)| format!("{}: {}", dumps_text(key), dumps(value)))
                .collect();
            format!("{{{}}}", members.join(", "))
        }
        Value::String(text) => dumps_text(text),
        other => other.to_string(),
    }
}

fn dumps_text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 2);
    for character in Value::from(text).to_string().chars() {
        if character.is_ascii() {
            escaped.push(character);
        } else {
            let mut units = [0_u16; 2];
            for unit in character.encode_utf16(&mut units) {
                escaped.extend(format!("\\u{unit:04x}").chars());
            }
        }
    }
    escaped
}

fn repr_text(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(quote);
    for character in text.chars() {
        match character {
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            other if other == quote => {
                quoted.push('\\');
                quoted.push(other);
            }
            other => quoted.push(other),
        }
    }
    quoted.push(quote);
    quoted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{dumps, repr};

    #[test]
    fn values_are_printed_as_python_prints_them() {
        assert_eq!(
            repr(&json!(["a", null, 1.0, true, {"k": 'x'}])),
            "['a', None, 1.0, True, {'k': 'x'}]"
        );
        assert_eq!(repr(&json!("it's")), "\"it's\"");
        assert_eq!(repr(&json!("both ' and \"")), "'both \\' and \"'");
    }

    #[test]
    fn dumped_text_is_ascii() {
        assert_eq!(
            dumps(&json!({"a": ["ü", 1.5, "😀"]})),
            r#"{"a": ["\u00fc", 1.5, "\ud83d\ude00"]}"#
        );
    }
}
