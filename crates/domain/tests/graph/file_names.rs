use serde_json::{Value, json};

use crate::{OTHER, OWNER, graph, pointers, recorded};

/// Whether a value in an input of a class is refused, at its own pointer.
fn is_refused(class_type: &str, input: &str, value: &Value) -> bool {
    let document = json!({
        "1": {"class_type": class_type, "inputs": {input: value}},
        "2": {"class_type": "PrimitiveString", "inputs": {}},
    });
    let violations = graph(&document).file_name_violations(OWNER);
    assert!(violations.len() <= 1, "{violations:?}");
    if !violations.is_empty() {
        assert_eq!(pointers(&violations), [format!("/1/inputs/{input}")]);
    }
    !violations.is_empty()
}

#[test]
fn every_recorded_model_input_is_guarded() {
    for row in recorded("core")
        .iter()
        .filter(|row| row["folders"] != json!(["loras"]))
    {
        let (class, input) = (
            row["class"].as_str().unwrap(),
            row["input"].as_str().unwrap(),
        );
        if row["class"] == "ModelPatchLoader" {
            // Its input is called "name", so it is known by the value.
            assert!(is_refused(class, input, &json!("../x.safetensors")));
            continue;
        }
        for value in ["../x", "/etc/passwd", "a\\b", "C:/x", "a\nb", "a/../b"] {
            assert!(
                is_refused(class, input, &json!(value)),
                "{class}.{input} {value}"
            );
        }
        for value in [
            "v1-5-pruned.safetensors",
            "sub/x.ckpt",
            "pixel_space",
            "v1..5.safetensors",
        ] {
            assert!(
                !is_refused(class, input, &json!(value)),
                "{class}.{input} {value}"
            );
        }
    }
}

#[test]
fn another_users_folder_is_refused_in_every_string() {
    for value in [
        json!(format!("user-{OTHER}/x.png")),
        json!(format!("USER-{}/x.png", OTHER.to_string().to_uppercase())),
        json!(format!("sub/user-{}/x", OTHER.to_string().replace('-', ""))),
        json!(format!("please use user-{OWNER}/a and user-{OTHER}/b")),
        json!({"deep": [{"er": format!("user-{OTHER}/x")}]}),
    ] {
        assert!(is_refused("Anything", "text", &value), "{value}");
    }
    assert!(!is_refused(
        "Anything",
        "text",
        &json!(format!("user-{OWNER}/x.png and user-friendly"))
    ));
}

#[test]
fn pictures_are_loaded_from_inputs_and_the_own_outputs_alone() {
    let own = format!("user-{OWNER}/run/x.png");
    for (value, refused) in [
        ("example.png".to_owned(), false),
        ("example.png [input]".to_owned(), false),
        ("x.png [output]".to_owned(), true),
        ("x.png[output]".to_owned(), true),
        ("ComfyUI_temp_abcde_00001_.png [temp]".to_owned(), true),
        (format!("{own} [output]"), false),
        (format!("sub/{own} [output]"), true),
        (format!("user-{OWNER}/../x.png [output]"), true),
        (format!("user-{OTHER}/x.png [output]"), true),
        ("../x.png".to_owned(), true),
    ] {
        for (class, input) in [
            ("LoadImage", "image"),
            ("LoadImageMask", "image"),
            ("LoadAudio", "audio"),
        ] {
            assert_eq!(
                is_refused(class, input, &json!(value)),
                refused,
                "{class} {value}"
            );
        }
    }
    assert!(is_refused("LoadImageOutput", "image", &json!("x.png")));
    assert!(!is_refused(
        "LoadImageOutput",
        "image",
        &json!(format!("{own} [output]"))
    ));
}

#[test]
fn a_loaded_files_name_must_be_a_literal_string() {
    assert!(is_refused("LoadImage", "image", &json!(["2", 0])));
    assert!(is_refused(
        "LoadImage",
        "image",
        &json!({"__value__": "x.png [output]"})
    ));
    assert!(is_refused("VHS_LoadVideo", "video", &json!(["2", 0])));
    assert!(!is_refused("SaveImage", "images", &json!(["2", 0])));
    assert!(!is_refused(
        "CheckpointLoaderSimple",
        "ckpt_name",
        &json!(["2", 0])
    ));
}

#[test]
fn unknown_classes_are_guarded_by_what_looks_like_a_file() {
    for (input, value) in [
        ("weights", "/root/x.safetensors"),
        ("picture", "x.png [output]"),
        ("output_path", "../../x"),
        ("directory", "/etc"),
        ("video", "/home/u/x.mp4"),
    ] {
        assert!(
            is_refused("Never Heard Of It", input, &json!(value)),
            "{input} {value}"
        );
    }
}

#[test]
fn prompts_may_say_anything_else() {
    for value in [
        "/imagine a cat.png",
        "a\\b",
        "..",
        "line\nbreak",
        "ends like a file.safetensors",
        "[output]",
    ] {
        for input in ["text", "prompt", "negative_prompt", "text_g", "value"] {
            assert!(
                !is_refused("CLIPTextEncode", input, &json!(value)),
                "{input} {value}"
            );
        }
    }
}

#[test]
fn prefixes_are_guarded_too() {
    for value in ["../x", "/x", "a\\b"] {
        assert!(
            is_refused("SaveImage", "filename_prefix", &json!(value)),
            "{value}"
        );
    }
}
