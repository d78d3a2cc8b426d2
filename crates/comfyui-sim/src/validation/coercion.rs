//! How typed values become what the node wants: `"16"` and 16.9 are fine for an integer.

use serde_json::{Number, Value};

use crate::python;

/// The converted value, or Python's words for why it cannot be converted.
pub(crate) fn coerce(kind: &str, value: &Value) -> Result<Value, String> {
    match kind {
        "INT" => to_integer(value),
        "FLOAT" => to_float(value).map(Value::Number),
        "STRING" => Ok(Value::String(python::text(value))),
        "BOOLEAN" => Ok(Value::Bool(python::truth(value))),
        _ => Ok(value.clone()),
    }
}

fn to_integer(value: &Value) -> Result<Value, String> {
    match value {
        Value::Number(number) if number.is_f64() => number
            .as_f64()
            .map(f64::trunc)
            .and_then(|number| format!("{number:.0}").parse::<i128>().ok())
            .and_then(Number::from_i128)
            .map(Value::Number)
            .ok_or_else(|| "cannot convert float infinity to integer".to_owned()),
        Value::Number(_) => Ok(value.clone()),
        Value::Bool(flag) => Ok(Value::from(u8::from(*flag))),
        Value::String(text) => {
            let digits = text.trim().replace('_', "");
            let number = digits.parse::<i128>().ok().and_then(Number::from_i128);
            let invalid = || {
                format!(
                    "invalid literal for int() with base 10: {}",
                    python::repr(value)
                )
            };
            number.map(Value::Number).ok_or_else(invalid)
        }
        other => Err(format!(
            "int() argument must be a string, a bytes-like object or a real number, not '{}'",
            python::type_name(other)
        )),
    }
}

fn to_float(value: &Value) -> Result<Number, String> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        Value::String(text) => text.trim().parse().ok(),
        other => {
            return Err(format!(
                "float() argument must be a string or a real number, not '{}'",
                python::type_name(other)
            ));
        }
    };
    let invalid = || format!("could not convert string to float: {}", python::repr(value));
    number.and_then(Number::from_f64).ok_or_else(invalid)
}

/// Whether `value` is below `limit`.
pub(crate) fn is_below(value: &Value, limit: &Value) -> bool {
    match (value.as_i128(), limit.as_i128()) {
        (Some(value), Some(limit)) => value < limit,
        _ => value
            .as_f64()
            .zip(limit.as_f64())
            .is_some_and(|(value, limit)| value < limit),
    }
}

trait AsWide {
    fn as_i128(&self) -> Option<i128>;
}

impl AsWide for Value {
    fn as_i128(&self) -> Option<i128> {
        self.as_i64()
            .map(i128::from)
            .or_else(|| self.as_u64().map(i128::from))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{coerce, is_below};

    #[test]
    fn integers_come_from_text_floats_and_flags() {
        for (value, expected) in [
            (json!("16"), 16),
            (json!(8.9), 8),
            (json!(true), 1),
            (json!(-3.7), -3),
            (json!(" 5 "), 5),
        ] {
            assert_eq!(coerce("INT", &value), Ok(json!(expected)), "{value}");
        }
        assert_eq!(
            coerce("INT", &json!("abc")),
            Err("invalid literal for int() with base 10: 'abc'".to_owned())
        );
    }

    #[test]
    fn the_largest_seed_survives() {
        assert_eq!(coerce("INT", &json!(u64::MAX)), Ok(json!(u64::MAX)));
        assert!(!is_below(&json!(u64::MAX), &json!(u64::MAX)));
        assert!(is_below(&json!(u64::MAX - 1), &json!(u64::MAX)));
    }

    #[test]
    fn floats_come_from_text_and_integers() {
        assert_eq!(coerce("FLOAT", &json!("0.5")), Ok(json!(0.5)));
        assert_eq!(coerce("FLOAT", &json!(2)), Ok(json!(2.0)));
        assert!(coerce("FLOAT", &json!("x")).is_err());
    }
}
