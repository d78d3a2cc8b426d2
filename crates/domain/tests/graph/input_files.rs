use atelier_domain::digest::Sha256Digest;
use atelier_domain::graph::{FileInput, FileInputTable, FileValue, PromptGraph};
use atelier_domain::ids::UserId;
use atelier_domain::input::{InputFilename, InputFormat, InputName, InputPath};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::{OTHER, OWNER, graph, input};

fn path_of(owner: UserId) -> InputPath {
    InputPath::of(owner, &Sha256Digest::new([171; 32]), InputFormat::Png)
}

fn latest(filename: &str) -> FileValue {
    FileValue::Name(InputName::Latest(InputFilename::parse(filename).unwrap()))
}

fn graph_of(class_type: &str, name: &str, value: &Value) -> PromptGraph {
    graph(&json!({
        "1": {"class_type": class_type, "inputs": {name: value}},
        "2": {"class_type": "PrimitiveString", "inputs": {}},
    }))
}

fn found(class_type: &str, name: &str, value: &Value) -> Vec<FileInput> {
    graph_of(class_type, name, value).file_inputs(&FileInputTable::core(), OWNER)
}

/// What a value of `LoadImage` says.
fn value_of(value: &Value) -> FileValue {
    let mut found = found("LoadImage", "image", value);
    assert_eq!(found.len(), 1, "{value}");
    found.remove(0).value
}

#[test]
fn a_picture_is_named_as_its_owner_called_it_or_by_its_path() {
    let own = path_of(OWNER);
    for (value, expected) in [
        ("Foto (2).PNG".to_owned(), latest("Foto (2).PNG")),
        ("cat.png [input]".to_owned(), latest("cat.png")),
        (format!("user-{OWNER}/cat.png"), latest("cat.png")),
        (own.to_string(), FileValue::Name(InputName::At(own.clone()))),
        (
            format!("{own} [input]"),
            FileValue::Name(InputName::At(own)),
        ),
        (
            format!("user-{OWNER}/run/x.png [output]"),
            FileValue::OwnOutput,
        ),
    ] {
        assert_eq!(value_of(&json!(value)), expected, "{value}");
    }
}

#[test]
fn everything_else_is_refused() {
    for value in [
        json!(path_of(OTHER).as_str()),
        json!(format!("user-{OTHER}/cat.png")),
        json!(format!("USER-{OWNER}/cat.png")),
        json!(format!("user-{OWNER}/sub/cat.png")),
        json!(format!("user-{OWNER}/../cat.png")),
        json!("sub/cat.png"),
        json!("../cat.png"),
        json!("/etc/passwd"),
        json!("C:cat.png"),
        json!("a\\b.png"),
        json!("cat.png [output]"),
        json!("cat.png[temp]"),
        json!("http://a.example/cat.png"),
        json!("HTTPS://a.example/cat.png"),
        json!(" https://a.example/cat.png"),
        json!("file:/etc/passwd"),
        json!("data:image/png;base64,AAAA"),
        json!("s3://bucket/key"),
        json!(".hidden"),
        json!(["2", 0]),
        json!(7),
        json!({"__value__": "cat.png"}),
        json!(["cat.png"]),
    ] {
        let refused = value_of(&value);
        assert!(
            matches!(refused, FileValue::Refused(_)),
            "{value} {refused:?}"
        );
    }
}

#[test]
fn an_address_is_refused_with_what_to_do_instead() {
    let FileValue::Refused(words) = value_of(&json!("https://a.example/cat.png")) else {
        panic!("not refused");
    };

    assert!(words.contains("POST /inputs"), "{words}");
}

#[test]
fn no_file_is_no_name() {
    for value in [json!(""), json!("none"), json!("[None]"), json!(null)] {
        assert_eq!(found("LoadImage", "image", &value), [], "{value}");
    }
}

#[test]
fn classes_of_the_kind_are_known_by_table_catalogue_and_name() {
    let cat = json!("cat.png");
    for (class, name) in [
        ("LoadImageMask", "image"),
        ("VHS_LoadVideo", "video"),
        ("WebcamCapture", "image"),
        ("Sage_LoadImage", "image"),
        ("Some Image Loader", "mode.image"),
    ] {
        assert_eq!(found(class, name, &cat).len(), 1, "{class}");
    }
    // A remark of the editor's, a picture in the graph itself, and a model.
    assert_eq!(found("LoadImage", "upload", &json!("image")), []);
    assert_eq!(found("ETN_LoadImageBase64", "image", &json!("iVBO")), []);
    assert_eq!(found("MeshLoader", "mesh", &json!("x.safetensors")), []);
    assert_eq!(found("Sage_LoadImage", "image", &json!(["2", 0])), []);

    assert_eq!(found("OddUpload", "first", &cat), []);
    let table: FileInputTable = [("OddUpload", "first")].into_iter().collect();
    let odd = graph_of("OddUpload", "first", &cat).file_inputs(&table, OWNER);
    assert_eq!(odd.len(), 1);
    assert_eq!(odd[0].location.pointer(), "/1/inputs/first");
    assert_eq!(odd[0].not_found().pointer, "/1/inputs/first");
}

#[test]
fn names_are_rewritten_to_exact_paths_and_nothing_else_changes() {
    let own = path_of(OWNER);
    let stored = graph(&json!({
        "1": {"class_type": "LoadImage", "inputs": {"image": "cat.png", "upload": "image"}},
        "2": {"class_type": "LoadImageMask", "inputs": {"image": "cat.png", "channel": "red"}},
    }));
    let found = stored.file_inputs(&FileInputTable::core(), OWNER);
    let paths: Vec<_> = found
        .iter()
        .map(|found| (found.location.clone(), own.clone()))
        .collect();

    let rewritten = stored.with_input_files(&paths).unwrap();

    assert_eq!(input(&rewritten, "1", "image"), json!(own.as_str()));
    assert_eq!(input(&rewritten, "1", "upload"), json!("image"));
    assert_eq!(input(&rewritten, "2", "image"), json!(own.as_str()));
    assert_eq!(input(&rewritten, "2", "channel"), json!("red"));
    assert_eq!(input(&stored, "1", "image"), json!("cat.png"));
    assert_eq!(rewritten.file_name_violations(OWNER), []);
    assert!(
        graph(&json!({"9": {"class_type": "LoadImage", "inputs": {}}}))
            .with_input_files(&paths)
            .is_err()
    );
}

fn piece() -> impl Strategy<Value = String> {
    let known = select(vec![
        format!("user-{OWNER}"),
        format!("user-{OTHER}"),
        format!("USER-{OTHER}"),
        path_of(OWNER).to_string(),
        path_of(OTHER).to_string(),
        format!("user-{OWNER}/"),
        "/".to_owned(),
        "..".to_owned(),
        "../".to_owned(),
        "\\".to_owned(),
        " [output]".to_owned(),
        "[temp]".to_owned(),
        " [input]".to_owned(),
        "cat.png".to_owned(),
        "http://".to_owned(),
        "\u{1}".to_owned(),
    ]);
    prop_oneof![4 => known, 1 => "\\PC{0,4}"]
}

proptest! {
    #[test]
    fn no_foreign_path_ever_passes(
        pieces in prop::collection::vec(piece(), 0..6),
        class in select(vec!["LoadImage", "LoadImageMask", "LoadImageOutput", "LoadAudio", "VHS_LoadVideo", "XLoader"]),
    ) {
        let name = if class == "LoadAudio" { "audio" } else if class == "VHS_LoadVideo" { "video" } else { "image" };
        let text = pieces.concat();
        let stored = graph_of(class, name, &json!(text));
        let table = FileInputTable::core();
        for found in stored.file_inputs(&table, OWNER) {
            let passed = match &found.value {
                FileValue::Refused(words) => {
                    prop_assert!(!words.is_empty());
                    continue;
                }
                FileValue::OwnOutput => {
                    prop_assert!(text.starts_with(&format!("user-{OWNER}/")), "{text:?}");
                    prop_assert!(!text.split('/').any(|segment| segment.trim() == ".."));
                    stored.clone()
                }
                FileValue::Name(meant) => {
                    if let InputName::At(path) = meant {
                        prop_assert_eq!(path.folder(), format!("user-{OWNER}"));
                    }
                    stored.with_input_files(&[(found.location.clone(), path_of(OWNER))]).unwrap()
                }
            };
            // What a backend gets is below the owner's folder, and is found as that again.
            let given = input(&passed, "1", name);
            let given = given.as_str().unwrap();
            prop_assert!(given.starts_with(&format!("user-{OWNER}/")), "{given:?}");
            let foreign = format!("user-{OTHER}");
            prop_assert!(!given.to_ascii_lowercase().contains(&foreign));
            prop_assert_eq!(passed.file_inputs(&table, OWNER).len(), 1);
        }
    }

    #[test]
    fn any_value_is_taken_or_refused(text in "[^\0]{0,40}") {
        drop(found("LoadImage", "image", &json!(text)));
    }
}
