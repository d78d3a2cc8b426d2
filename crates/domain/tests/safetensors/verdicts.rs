//! Our verdict on odd and broken files against that of the reference implementation.

use atelier_domain::safetensors::{Dtype, SafetensorsError, SafetensorsHeader};
use safetensors::SafeTensors;
use serde_json::json;

use crate::{file, read, read_in_chunks};

const CHUNKS: [usize; 3] = [1, 7, 65_536];

fn outcome(file: &[u8]) -> Result<SafetensorsHeader, SafetensorsError> {
    let [one, rest @ ..] = CHUNKS.map(|size| read_in_chunks(file.chunks(size), file.len()));
    for other in rest {
        assert_eq!(other, one, "the outcome depends on the chunks");
    }
    one
}

fn is_good_to_the_reference(file: &[u8]) -> bool {
    SafeTensors::read_metadata(file).is_ok()
}

fn tensor(dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
}

/// A file with one tensor.
fn one(dtype: &str, shape: &str, offsets: &str, data: usize) -> Vec<u8> {
    file(&tensor(dtype, shape, offsets), data)
}

/// A file with one tensor of nothing that has a further member.
fn with_member(member: &str) -> Vec<u8> {
    file(
        &format!(r#"{{"a":{{"dtype":"U8","shape":[0],"data_offsets":[0,0],"note":{member}}}}}"#),
        0,
    )
}

fn two(first: &str, second: &str, data: usize) -> Vec<u8> {
    file(
        &format!(
            r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":{first}}},
                 "b":{{"dtype":"U8","shape":[4],"data_offsets":{second}}}}}"#
        ),
        data,
    )
}

fn odd_but_valid() -> Vec<(&'static str, Vec<u8>)> {
    let nested = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    vec![
        ("nothing at all", file("{}", 0)),
        ("blanks after the header", file("{}      ", 0)),
        (
            "blanks and line ends within",
            file("{\n\t\"__metadata__\" : { } \r\n}", 0),
        ),
        (
            "a length like a pickle's start",
            file(&format!("{:<640}", "{}"), 0),
        ),
        (
            "metadata that are null",
            file(r#"{"__metadata__":null}"#, 0),
        ),
        (
            "metadata alone",
            file(r#"{"__metadata__":{"format":"pt"}}"#, 0),
        ),
        (
            "metadata behind the tensors",
            file(
                r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"__metadata__":{"x":""}}"#,
                1,
            ),
        ),
        ("a single number", one("F32", "[]", "[0,4]", 4)),
        ("an empty tensor", one("F32", "[0]", "[0,0]", 0)),
        (
            "empty by one dimension",
            one("F32", "[3,0,18446744073709551615]", "[0,0]", 0),
        ),
        (
            "many dimensions of one",
            one("U8", "[1,1,1,1,1,1,1,1,1,2]", "[0,2]", 2),
        ),
        ("half bytes that add up", one("F4", "[2]", "[0,1]", 1)),
        ("six bits that add up", one("F6_E2M3", "[2,2]", "[0,3]", 3)),
        ("tensors in another order", two("[4,8]", "[0,4]", 8)),
        (
            "empty tensors between others",
            file(
                r#"{"b":{"dtype":"U8","shape":[0],"data_offsets":[2,2]},
                "a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},
                "c":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}}"#,
                2,
            ),
        ),
        (
            "a name of nothing",
            file(r#"{"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, 1),
        ),
        (
            "names with escapes",
            file(
                r#"{"\u00e4\n\ud83d\ude00":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#,
                1,
            ),
        ),
        (
            "names in other scripts",
            file(
                r#"{"層":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#,
                1,
            ),
        ),
        (
            "members in another order",
            file(
                r#"{"a":{"data_offsets":[0,1],"shape":[1],"dtype":"I8"}}"#,
                1,
            ),
        ),
        (
            "a member of its own",
            with_member(r#"{"x":[1,2.5,null,true,"é"]}"#),
        ),
        ("a member that is there twice", with_member(r#"1,"note":2"#)),
        ("a deep member", with_member(&nested)),
    ]
}

fn refused_by_both() -> Vec<(&'static str, Vec<u8>)> {
    let huge = u64::MAX.to_string();
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    let mut not_text = file("{\"a\"  }", 0);
    not_text[10] = 0xff;
    let mut announced = u64::MAX.to_le_bytes().to_vec();
    announced.extend_from_slice(b"{}");
    let mut cut = file("{}      ", 0);
    cut.truncate(12);
    let mut with_pickle = one("U8", "[2]", "[0,2]", 2);
    with_pickle.extend_from_slice(b"\x80\x04K\x01.");
    vec![
        ("no bytes", Vec::new()),
        ("a length cut short", vec![2, 0, 0, 0, 0, 0, 0]),
        ("a length alone", vec![2, 0, 0, 0, 0, 0, 0, 0]),
        ("a header of no bytes", file("", 0)),
        (
            "a header of 100 MB and a byte",
            [&100_000_001_u64.to_le_bytes()[..], b"{}"].concat(),
        ),
        ("the longest header", announced),
        ("a header cut short", cut),
        ("no UTF-8", not_text),
        ("half of an object", file("{\"a\":", 0)),
        ("two objects", file("{}{}", 0)),
        ("zeros as padding", file("{}\0\0", 0)),
        ("a list", file("[]", 0)),
        ("a comma too many", file(r#"{"__metadata__":{},}"#, 0)),
        ("a tensor that is a number", file(r#"{"a":5}"#, 0)),
        ("a tensor that is null", file(r#"{"a":null}"#, 0)),
        (
            "no dtype",
            file(r#"{"a":{"shape":[1],"data_offsets":[0,1]}}"#, 1),
        ),
        (
            "no shape",
            file(r#"{"a":{"dtype":"U8","data_offsets":[0,1]}}"#, 1),
        ),
        ("no offsets", file(r#"{"a":{"dtype":"U8","shape":[1]}}"#, 1)),
        (
            "dtype twice",
            file(
                r#"{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#,
                1,
            ),
        ),
        ("an unknown type", one("F128", "[1]", "[0,16]", 16)),
        ("a type in small letters", one("f32", "[1]", "[0,4]", 4)),
        ("a negative length", one("U8", "[-1]", "[0,1]", 1)),
        ("half a length", one("U8", "[1.5]", "[0,1]", 1)),
        ("a length with an exponent", one("U8", "[1e0]", "[0,1]", 1)),
        (
            "a length beyond 64 bits",
            one("U8", "[18446744073709551616]", "[0,1]", 1),
        ),
        ("a shape that is a number", one("U8", "1", "[0,1]", 1)),
        ("one offset", one("U8", "[1]", "[0]", 1)),
        ("three offsets", one("U8", "[1]", "[0,1,2]", 1)),
        (
            "offsets that are texts",
            one("U8", "[1]", r#"["0","1"]"#, 1),
        ),
        (
            "metadata of numbers",
            file(r#"{"__metadata__":{"a":1}}"#, 0),
        ),
        (
            "metadata of null",
            file(r#"{"__metadata__":{"a":null}}"#, 0),
        ),
        ("metadata in a list", file(r#"{"__metadata__":[]}"#, 0)),
        (
            "metadata twice",
            file(r#"{"__metadata__":{},"__metadata__":{}}"#, 0),
        ),
        ("a hole before all", one("U8", "[1]", "[1,2]", 2)),
        ("a hole between", two("[0,4]", "[5,9]", 9)),
        ("an overlap", two("[0,4]", "[2,6]", 6)),
        ("the same bytes twice", two("[0,4]", "[0,4]", 4)),
        ("backwards", one("U8", "[4]", "[4,0]", 4)),
        ("backwards behind another", two("[0,4]", "[4,0]", 4)),
        (
            "a shape beyond 64 bits",
            one("U8", &format!("[{huge},{huge}]"), "[0,1]", 1),
        ),
        (
            "bits beyond 64 bits",
            one("F32", &format!("[{huge}]"), &format!("[0,{huge}]"), 1),
        ),
        ("half a byte", one("F4", "[3]", "[0,2]", 2)),
        ("six bits alone", one("F6_E3M2", "[1]", "[0,1]", 1)),
        ("fewer bytes than its shape", one("F32", "[2]", "[0,4]", 4)),
        ("more bytes than its shape", one("F32", "[1]", "[0,8]", 8)),
        ("data cut short", one("F32", "[2]", "[0,8]", 7)),
        ("no data", one("F32", "[2]", "[0,8]", 0)),
        ("a byte appended", one("F32", "[2]", "[0,8]", 9)),
        ("a pickle appended", with_pickle),
        ("a byte behind nothing", file("{}", 1)),
        ("a member too deep", with_member(&deep)),
        ("half a surrogate in a member", with_member(r#""\ud800""#)),
        ("a number beyond all in a member", with_member("1e999")),
        (
            "a pickle",
            b"\x80\x02\x8a\x0al\xfc\x9cF\xf9\x20j\xa8P\x19.".to_vec(),
        ),
        ("a zip", b"PK\x03\x04\x14\0\0\0\x08\0\0\0\0\0".to_vec()),
        ("a GGUF", b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0".to_vec()),
        ("a web page", b"<!DOCTYPE html><html></html>".to_vec()),
        ("an answer in JSON", br#"{"error":{"code":404}}"#.to_vec()),
    ]
}

type Stricter = (&'static str, Vec<u8>, fn(&SafetensorsError) -> bool);

/// What we refuse and the reference implementation does not, each for its reason.
fn refused_by_us_alone() -> Vec<Stricter> {
    let empty = r#"{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
    let long = format!(r#"{{"{}":{empty}}}"#, "n".repeat(513));
    let metadata = json!({"__metadata__": {"a": "x".repeat(17 << 20)}}).to_string();
    let many: Vec<_> = (0..200_001).map(|n| format!(r#""{n}":{empty}"#)).collect();
    let flat = format!("[{}0]", "1,".repeat(64));
    let is_malformed =
        |error: &SafetensorsError| matches!(error, SafetensorsError::Malformed { .. });
    let is_duplicate =
        |error: &SafetensorsError| matches!(error, SafetensorsError::Duplicate { .. });
    let is_too_much = |error: &SafetensorsError| matches!(error, SafetensorsError::TooMuch { .. });
    vec![
        ("a first byte that is no brace", file(" {}", 0), |error| {
            *error == SafetensorsError::NotAHeader
        }),
        (
            "a header above our limit",
            file(&format!("{{}}{}", " ".repeat(32 << 20)), 0),
            |error| matches!(error, SafetensorsError::HeaderTooLarge { .. }),
        ),
        (
            "a tensor twice",
            file(&format!(r#"{{"a":{empty},"a":{empty}}}"#), 0),
            is_duplicate,
        ),
        (
            "a metadata entry twice",
            file(r#"{"__metadata__":{"x":"1","x":"2"}}"#, 0),
            is_duplicate,
        ),
        ("a name of 513 bytes", file(&long, 0), is_too_much),
        ("65 dimensions", one("U8", &flat, "[0,0]", 0), is_too_much),
        ("17 MiB of metadata", file(&metadata, 0), is_too_much),
        (
            "200 001 tensors",
            file(&format!("{{{}}}", many.join(",")), 0),
            is_too_much,
        ),
        (
            "a tensor that is a list",
            file(r#"{"a":["U8",[1],[0,1]]}"#, 1),
            is_malformed,
        ),
        (
            "a type that is an object",
            file(
                r#"{"a":{"dtype":{"U8":null},"shape":[1],"data_offsets":[0,1]}}"#,
                1,
            ),
            is_malformed,
        ),
    ]
}

#[test]
fn odd_but_valid_files_are_read_as_by_the_reference() {
    for (case, file) in odd_but_valid() {
        let header = outcome(&file).unwrap_or_else(|error| panic!("{case}: {error}"));
        let (header_len, theirs) = SafeTensors::read_metadata(&file).unwrap();

        assert_eq!(header.header_len(), header_len as u64, "{case}");
        assert_eq!(header.data_len(), theirs.data_len() as u64, "{case}");
        assert_eq!(header.tensors().len(), theirs.tensors().len(), "{case}");
        for tensor in header.tensors() {
            let info = theirs.info(&tensor.name).unwrap();
            assert_eq!(
                (tensor.dtype, &*tensor.shape, (tensor.begin, tensor.end)),
                (info.dtype, info.shape.as_slice(), info.data_offsets),
                "{case}"
            );
        }
    }
}

#[test]
fn broken_files_are_refused_as_by_the_reference() {
    for (case, file) in refused_by_both() {
        assert!(
            !is_good_to_the_reference(&file),
            "{case}: the reference reads it"
        );
        let error = outcome(&file).expect_err(case);
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn we_are_stricter_in_these_cases_alone() {
    for (case, file, is_expected) in refused_by_us_alone() {
        assert!(
            is_good_to_the_reference(&file),
            "{case}: the reference refuses it"
        );
        let error = outcome(&file).expect_err(case);
        assert!(is_expected(&error), "{case}: {error:?}");
    }
}

#[test]
fn every_type_is_sized_as_by_the_reference() {
    for dtype in [
        Dtype::BOOL,
        Dtype::F4,
        Dtype::F6_E2M3,
        Dtype::F6_E3M2,
        Dtype::U8,
        Dtype::I8,
        Dtype::F8_E5M2,
        Dtype::F8_E4M3,
        Dtype::F8_E8M0,
        Dtype::F8_E4M3FNUZ,
        Dtype::F8_E5M2FNUZ,
        Dtype::I16,
        Dtype::U16,
        Dtype::F16,
        Dtype::BF16,
        Dtype::I32,
        Dtype::U32,
        Dtype::F32,
        Dtype::C64,
        Dtype::F64,
        Dtype::I64,
        Dtype::U64,
    ] {
        for bytes in 0..=16 {
            let file = one(&dtype.to_string(), "[4]", &format!("[0,{bytes}]"), bytes);
            assert_eq!(
                read(&file).is_ok(),
                is_good_to_the_reference(&file),
                "{dtype} {bytes}"
            );
        }
    }
}
