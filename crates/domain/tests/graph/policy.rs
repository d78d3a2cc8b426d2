use atelier_domain::graph::{ClassPattern, ClassRefusal, NodePolicy};
use serde_json::{Value, json};

use crate::{SD15_LORA, graph, pointers, recorded};

#[test]
fn what_every_day_needs_is_not_refused() {
    let policy = NodePolicy::default();
    let everyday: Value = serde_json::from_str(SD15_LORA).unwrap();
    assert_eq!(graph(&everyday).policy_violations(&policy), []);

    let recorded_classes = recorded("core").into_iter().chain(recorded("custom_nodes"));
    for row in recorded_classes {
        let class = row["class"].as_str().unwrap();
        assert_eq!(policy.refusal(class), None, "{class}");
    }
    for class in [
        "CR Load LoRA",
        "ControlNetApplyAdvanced",
        "ETN_LoadImageBase64",
        "FluxGuidance",
        "ImpactWildcardProcessor",
        "KSampler (Efficient)",
        "LoadAudio",
        "LoadImage",
        "LoadImageMask",
        "LoadImageOutput",
        "LoadVideo",
        "MathExpression|pysssss",
        "PrimitiveString",
        "SaveImage",
        "SaveLatent",
        "SetLatentNoiseMask",
        "ShowText|pysssss",
        "UltimateSDUpscale",
        "VHS_LoadVideo",
        "VHS_VideoCombine",
    ] {
        assert_eq!(policy.refusal(class), None, "{class}");
    }
}

#[test]
fn what_reaches_further_is_refused_with_its_reason() {
    let policy = NodePolicy::default();
    for (class, reason) in [
        ("SRL Eval", "runs code"),
        ("NodePython", "runs code"),
        ("BuildColorRangeHSVAdvanced", "runs code"),
        ("LoadTrainingDataset", "runs what is stored"),
        ("VHS_LoadVideoPath", "reads any file"),
        ("VHS_LoadImages", "reads any file"),
        ("LoadImagesFromDir //Inspire", "reads any file"),
        ("LoadImageDataSetFromFolder", "reads any file"),
        ("Load Text File", "reads any file"),
        ("Save Text File", "writes to"),
        ("VHS_PruneOutputs", "writes to"),
        ("LoadImageFromUrl", "fetches any address"),
        ("Load Image From Url (mtb)", "fetches any address"),
        ("Image Send HTTP", "sends data"),
        ("RetrieveBackendDataNumberKey //Inspire", "keeps data"),
    ] {
        let refusal = policy.refusal(class).unwrap();
        assert!(matches!(refusal, ClassRefusal::Known(_)), "{class}");
        assert!(refusal.reason().contains(reason), "{class} {refusal:?}");
    }
}

#[test]
fn each_node_is_told_at_its_class() {
    let document = json!({
        "1": {"class_type": "EmptyImage", "inputs": {}},
        "a/b": {"class_type": "SRL Eval", "inputs": {"code": "return 1"}},
        "7": {"class_type": "srl eval", "inputs": {}},
    });

    let violations = graph(&document).policy_violations(&NodePolicy::default());

    assert_eq!(pointers(&violations), ["/a~1b/class_type"]);
    assert_eq!(
        violations[0].detail,
        "is \"SRL Eval\", which may not be used here: it runs code that the graph brings"
    );
}

#[test]
fn an_operator_may_allow_some_classes_alone() {
    let patterns = |texts: &[&str]| -> Vec<ClassPattern> {
        let parsed = texts.iter().map(|text| ClassPattern::parse(text).unwrap());
        parsed.collect()
    };
    let policy = NodePolicy::new(Vec::new(), Some(patterns(&["Empty*", "SaveImage"])));
    let document = json!({
        "1": {"class_type": "EmptyImage", "inputs": {}},
        "2": {"class_type": "SaveImage", "inputs": {}},
        "3": {"class_type": "LoadImage", "inputs": {}},
    });

    let violations = graph(&document).policy_violations(&policy);

    assert_eq!(pointers(&violations), ["/3/class_type"]);
    assert!(violations[0].detail.contains("allows"), "{violations:?}");
}
