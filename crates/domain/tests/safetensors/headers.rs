use atelier_domain::safetensors::{
    ForeignFormat, HeaderReader, MAX_HEADER_BYTES, Progress, SafetensorsError, lora_facts,
};
use serde_json::json;

use crate::{file, read};

fn malformed(header: &str) -> bool {
    matches!(
        read(&file(header, 0)),
        Err(SafetensorsError::Malformed { .. })
    )
}

#[test]
fn foreign_formats_are_named() {
    for (start, format) in [
        (&b"PK\x03\x04\x14\0\0\0\x08\0"[..], ForeignFormat::Zip),
        (b"GGUF\x03\0\0\0\0\0", ForeignFormat::Gguf),
        (b"<!DOCTYPE html>", ForeignFormat::Html),
        (b"\r\n <html><body>", ForeignFormat::Html),
        (b"{\"error\": \"not found\"}", ForeignFormat::Text),
        (b"version https://git-lfs", ForeignFormat::Text),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9\x20", ForeignFormat::Pickle),
        (b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c", ForeignFormat::Pickle),
        (b"\x89PNG\r\n\x1a\n\0\0", ForeignFormat::Picture),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\0", ForeignFormat::Gzip),
        (b"<h", ForeignFormat::Html),
    ] {
        assert_eq!(
            read(start),
            Err(SafetensorsError::Foreign(format)),
            "{start:?}"
        );
    }
}

#[test]
fn a_length_that_looks_like_a_pickle_is_a_length() {
    // 640 is 80 02 00 00 00 00 00 00.
    let header = format!("{:<640}", "{}");

    assert_eq!(read(&file(&header, 0)).unwrap().header_len(), 0x280);
}

#[test]
fn a_header_of_4_gib_is_refused_after_8_bytes() {
    let mut reader = HeaderReader::new();

    let error = reader.feed(&(4_u64 << 30).to_le_bytes()).unwrap_err();

    assert_eq!(
        error,
        SafetensorsError::HeaderTooLarge {
            announced: 4 << 30,
            limit: MAX_HEADER_BYTES
        }
    );
    assert_eq!(reader.feed(b"{"), Err(error.clone()));
    assert_eq!(reader.finish(9), Err(error));
}

#[test]
fn an_announced_header_costs_no_memory_before_it_comes() {
    let mut reader = HeaderReader::new();

    assert_eq!(
        reader.feed(&MAX_HEADER_BYTES.to_le_bytes()),
        Ok(Progress::NeedsMore)
    );
    assert_eq!(reader.feed(b"{"), Ok(Progress::NeedsMore));
    assert_eq!(
        reader.finish(9),
        Err(SafetensorsError::Truncated {
            expected: MAX_HEADER_BYTES + 8,
            actual: 9
        })
    );
}

#[test]
fn bad_starts_are_refused() {
    assert_eq!(read(b""), Err(SafetensorsError::TooShort { bytes: 0 }));
    assert_eq!(
        read(&file("", 0)),
        Err(SafetensorsError::HeaderTooSmall { announced: 0 })
    );
    assert_eq!(read(&file(" {}", 0)), Err(SafetensorsError::NotAHeader));
    assert_eq!(read(&file("[]", 0)), Err(SafetensorsError::NotAHeader));
    let mut not_text = file("{\"a\"  }", 0);
    not_text[10] = 0xff;
    assert_eq!(read(&not_text), Err(SafetensorsError::NotUtf8));
}

#[test]
fn padding_is_accepted_and_anything_else_after_the_object_is_not() {
    assert!(read(&file("{}      ", 0)).is_ok());
    assert!(malformed("{}{}"));
    assert!(malformed("{} x"));
    assert!(malformed("{\"a\":"));
}

#[test]
fn tensors_must_be_complete_and_typed() {
    for header in [
        r#"{"a":5}"#,
        r#"{"a":{"shape":[1],"data_offsets":[0,1]}}"#,
        r#"{"a":{"dtype":"U8","data_offsets":[0,1]}}"#,
        r#"{"a":{"dtype":"U8","shape":[1]}}"#,
        r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#,
        r#"{"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}}"#,
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}"#,
        r#"{"__metadata__":{"a":1}}"#,
        r#"{"__metadata__":[]}"#,
    ] {
        assert!(malformed(header), "{header}");
    }
    assert!(matches!(
        read(&file(
            r#"{"a":{"dtype":"F128","shape":[1],"data_offsets":[0,16]}}"#,
            16
        )),
        Err(SafetensorsError::UnknownDtype { .. })
    ));
}

#[test]
fn members_beyond_the_format_are_passed_over() {
    let header = r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2],"note":{"x":[1]}}}"#;

    assert_eq!(read(&file(header, 2)).unwrap().data_len(), 2);
}

#[test]
fn nothing_may_be_there_twice() {
    let tensor = r#"{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
    for header in [
        format!(r#"{{"a":{tensor},"b":{tensor},"a":{tensor}}}"#),
        r#"{"__metadata__":{},"__metadata__":{}}"#.to_owned(),
        r#"{"__metadata__":{"x":"1","x":"2"}}"#.to_owned(),
        r#"{"a":{"dtype":"U8","dtype":"I8","shape":[0],"data_offsets":[0,0]}}"#.to_owned(),
        r#"{"a":{"dtype":"U8","shape":[0],"shape":[0],"data_offsets":[0,0]}}"#.to_owned(),
    ] {
        let outcome = read(&file(&header, 0));
        assert!(
            matches!(outcome, Err(SafetensorsError::Duplicate { .. })),
            "{header} {outcome:?}"
        );
    }
}

#[test]
fn sizes_are_computed_without_overflow() {
    let huge = u64::MAX;
    for (header, data) in [
        (
            format!(r#"{{"a":{{"dtype":"F32","shape":[{huge},{huge}],"data_offsets":[0,4]}}}}"#),
            4,
        ),
        (
            format!(r#"{{"a":{{"dtype":"F32","shape":[{huge}],"data_offsets":[0,{huge}]}}}}"#),
            4,
        ),
        (
            r#"{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}}"#.to_owned(),
            2,
        ),
    ] {
        let outcome = read(&file(&header, data));
        assert!(
            matches!(outcome, Err(SafetensorsError::ImpossibleShape { .. })),
            "{header} {outcome:?}"
        );
    }
    assert!(matches!(
        read(&file(
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
            4
        )),
        Err(SafetensorsError::SizeMismatch {
            needed: 8,
            given: 4,
            ..
        })
    ));
}

#[test]
fn overlapping_and_backward_tensors_are_refused() {
    for (one, other) in [("[0,4]", "[2,6]"), ("[1,5]", "[5,9]"), ("[0,4]", "[0,4]")] {
        let header = format!(
            r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":{one}}},
                 "b":{{"dtype":"U8","shape":[4],"data_offsets":{other}}}}}"#
        );
        let outcome = read(&file(&header, 9));
        assert!(
            matches!(outcome, Err(SafetensorsError::NotContiguous { .. })),
            "{header} {outcome:?}"
        );
    }
}

#[test]
fn a_tensor_that_ends_before_it_begins_is_refused() {
    let header = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}}"#;

    // Sorted by its bytes it is the first, and does not begin at 0 either.
    assert_eq!(
        read(&file(header, 4)),
        Err(SafetensorsError::Backward {
            tensor: "\"a\"".to_owned()
        })
    );
}

#[test]
fn limits_keep_a_header_small_in_memory() {
    let tensor = r#"{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
    let long_name = format!(r#"{{"{}":{tensor}}}"#, "n".repeat(513));
    let dimensions = format!(
        r#"{{"a":{{"dtype":"U8","shape":[{}0],"data_offsets":[0,0]}}}}"#,
        "1,".repeat(64)
    );
    let metadata = json!({"__metadata__": {"a": "x".repeat(17 << 20)}}).to_string();
    let many = format!(
        "{{{}}}",
        (0..200_001)
            .map(|n| format!(r#""{n}":{tensor}"#))
            .collect::<Vec<_>>()
            .join(",")
    );

    let fifty = format!("[{}0]", "1,".repeat(49));
    let dimensions_in_all = format!(
        "{{{}}}",
        (0..20_001)
            .map(|n| format!(r#""{n}":{{"dtype":"U8","shape":{fifty},"data_offsets":[0,0]}}"#))
            .collect::<Vec<_>>()
            .join(",")
    );

    for header in [long_name, dimensions, dimensions_in_all, metadata, many] {
        let outcome = read(&file(&header, 0));
        assert!(matches!(outcome, Err(SafetensorsError::TooMuch { .. })));
    }
}

#[test]
fn names_in_errors_are_short_and_printable() {
    let name = format!("\\u001b[2J{}", "x".repeat(400));
    let header = format!(r#"{{"{name}":{{"dtype":"nonsense","shape":[],"data_offsets":[0,0]}}}}"#);

    let text = read(&file(&header, 0)).unwrap_err().to_string();

    assert!(
        text.len() < 300 && !text.chars().any(char::is_control),
        "{text}"
    );
}

#[test]
fn facts_of_garbage_are_harmless() {
    let many_tags: serde_json::Map<String, serde_json::Value> =
        (0..50_000).map(|n| (format!("tag{n}"), json!(n))).collect();
    let metadata = json!({
        "ss_base_model_version": "future\u{1b}model\n",
        "ss_network_dim": "Dynamic",
        "ss_network_alpha": "NaN",
        "modelspec.title": "t".repeat(10_000),
        "modelspec.trigger_phrase": format!("a\u{7}b, , A\u{7}B,{}", "w".repeat(5_000)),
        "ss_tag_frequency": json!({"set": many_tags, "then": [1]}).to_string(),
    });
    let header = json!({"__metadata__": metadata}).to_string();

    let facts = lora_facts(&read(&file(&header, 0)).unwrap());

    assert_eq!(facts.base_model, None);
    assert_eq!(facts.rank, None);
    assert_eq!(facts.trigger_words[0], "ab");
    assert_eq!(facts.trigger_words.len(), 10);
    assert!(
        facts
            .trigger_words
            .iter()
            .all(|word| word.chars().count() <= 100)
    );
    assert!(!facts.metadata.contains_key("alpha"));
    assert_eq!(facts.title.unwrap().len(), 200);
}

#[test]
fn tags_are_ranked_over_all_data_sets() {
    let frequency = json!({"1_a": {"cat": 5, "dog": 7}, "2_b": {"cat": 4, "bird": 1}});
    let header = json!({"__metadata__": {"ss_tag_frequency": frequency.to_string()}}).to_string();

    let facts = lora_facts(&read(&file(&header, 0)).unwrap());

    assert_eq!(facts.trigger_words, ["cat", "dog", "bird"]);
}
