use atelier_domain::graph::PromptGraph;
use atelier_domain::ids::RunId;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{OTHER, OWNER, SD15_LORA, graph, input, pointers};

const RUN: RunId = RunId::new(Uuid::from_u128(0x7777_7777_2222_4333_8444_5555_5555_abcd));

fn isolated_prefix(prefix: &str) -> Value {
    let document = json!({"1": {"class_type": "SaveImage", "inputs": {"filename_prefix": prefix}}});
    let isolated = graph(&document).isolate_outputs(OWNER, RUN).unwrap();
    input(&isolated, "1", "filename_prefix")
}

#[test]
fn prefixes_move_below_the_runs_own_folder() {
    for (prefix, kept) in [
        ("ComfyUI", "ComfyUI"),
        ("cats/%date%/img", "cats/%date%/img"),
        ("", "ComfyUI"),
        ("cats//./x/", "cats/x"),
    ] {
        assert_eq!(
            isolated_prefix(prefix),
            format!("user-{OWNER}/{RUN}/{kept}"),
            "{prefix}"
        );
    }
}

#[test]
fn isolating_again_does_not_nest() {
    let once = PromptGraph::parse(SD15_LORA)
        .unwrap()
        .isolate_outputs(OWNER, RUN)
        .unwrap();

    assert_eq!(once.isolate_outputs(OWNER, RUN), Ok(once.clone()));
    assert_eq!(
        input(&once, "9", "filename_prefix"),
        format!("user-{OWNER}/{RUN}/lora1")
    );
}

#[test]
fn saving_nodes_without_a_prefix_get_one() {
    let document = json!({
        "1": {"class_type": "SaveImage", "inputs": {}},
        "2": {"class_type": "VHS_VideoCombine", "inputs": {}},
        "3": {"class_type": "PreviewImage", "inputs": {}},
    });

    let isolated = graph(&document).isolate_outputs(OWNER, RUN).unwrap();

    assert_eq!(
        input(&isolated, "1", "filename_prefix"),
        format!("user-{OWNER}/{RUN}/ComfyUI")
    );
    assert_eq!(
        input(&isolated, "2", "filename_prefix"),
        format!("user-{OWNER}/{RUN}/ComfyUI")
    );
    assert_eq!(input(&isolated, "3", "filename_prefix"), Value::Null);
}

#[test]
fn nested_prefixes_move_too() {
    let document = json!({"1": {"class_type": "Any", "inputs": {"mode.filename_prefix": "x"}}});

    let isolated = graph(&document).isolate_outputs(OWNER, RUN).unwrap();

    assert_eq!(
        input(&isolated, "1", "mode.filename_prefix"),
        format!("user-{OWNER}/{RUN}/x")
    );
}

#[test]
fn trained_loras_do_not_land_among_everybodys() {
    let document = json!({"1": {"class_type": "SaveLoRA", "inputs": {"prefix": "loras/mine"}}});

    let isolated = graph(&document).isolate_outputs(OWNER, RUN).unwrap();

    assert_eq!(
        input(&isolated, "1", "prefix"),
        format!("user-{OWNER}/{RUN}/loras/mine")
    );
}

#[test]
fn prefixes_that_lead_elsewhere_are_refused() {
    let bad = [
        json!("../x"),
        json!("a/../../x"),
        json!("/x"),
        json!("a\\b"),
        json!("C:x"),
        json!("a\nb"),
        json!(format!("user-{OTHER}/x")),
        json!("x".repeat(201)),
        json!(["2", 0]),
        json!(5),
        json!({"__value__": "../x"}),
    ];

    for value in bad {
        let document = json!({"1": {"class_type": "Any", "inputs": {"filename_prefix": value}},
                              "2": {"class_type": "B", "inputs": {}}});
        let violations = graph(&document).isolate_outputs(OWNER, RUN).unwrap_err();
        assert_eq!(
            pointers(&violations),
            ["/1/inputs/filename_prefix"],
            "{value}"
        );
    }
}
