//! Guards the arrows between the crates (ARCHITECTURE.md): who may depend on whom.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Each crate of ours, and the crates of ours that its shipped code may know.
const ARROWS: &[(&str, &[&str])] = &[
    ("atelier-domain", &[]),
    ("atelier-application", &["atelier-domain"]),
    ("atelier-blob", &["atelier-domain"]),
    ("atelier-comfyui", &["atelier-domain"]),
    ("atelier-drive", &["atelier-domain"]),
    ("atelier-identity", &["atelier-domain"]),
    ("atelier-postgres", &["atelier-domain"]),
    ("atelier-testkit", &["atelier-domain"]),
    ("atelier-web", &["atelier-domain"]),
    ("atelier-comfyui-sim", &[]),
    ("atelier-local-postgres", &[]),
    ("atelier-s3-double", &[]),
    (
        "atelier",
        &[
            "atelier-application",
            "atelier-blob",
            "atelier-comfyui",
            "atelier-comfyui-sim",
            "atelier-domain",
            "atelier-drive",
            "atelier-identity",
            "atelier-local-postgres",
            "atelier-postgres",
            "atelier-web",
        ],
    ),
];

/// The test package itself, which may know everything.
const TESTS: &str = "atelier-tests-integration";

/// What the domain may know of the world: no I/O, no framework.
const DOMAIN_MAY_USE: &[&str] = &[
    "async-trait",
    "bytes",
    "chrono",
    "futures-core",
    "mockall",
    "safetensors",
    "serde",
    "serde_json",
    "thiserror",
    "unicode-normalization",
    "uuid",
];

/// What would bind the use cases to a framework or a driver.
const APPLICATION_MAY_NOT_USE: &[&str] = &[
    "actix-web",
    "axum",
    "diesel",
    "diesel-async",
    "hyper",
    "object_store",
    "reqwest",
    "tokio-postgres",
    "tokio-tungstenite",
];

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
        .exec()
        .unwrap()
}

fn shipped_dependencies(package: &Package) -> BTreeSet<&str> {
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind != DependencyKind::Development)
        .map(|dependency| dependency.name.as_str())
        .collect()
}

/// Everything that ends up in the binary of `root` with its default features, by name.
///
/// `cargo tree` answers that; `cargo metadata` unites the features of all tests with those of the
/// binary.
fn shipped_with(root: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", root, "--edges", "normal,build"])
        .args(["--prefix", "none", "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo tree failed");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_crate_of_ours_has_its_place_and_keeps_it() {
    let metadata = metadata();
    let ours: BTreeSet<_> = metadata
        .workspace_packages()
        .iter()
        .map(|package| package.name.to_string())
        .collect();
    let placed: BTreeSet<_> = ARROWS
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .chain([TESTS.to_owned()])
        .collect();

    assert_eq!(ours, placed, "a crate without a place in ARCHITECTURE.md");

    for package in metadata.workspace_packages() {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| package.name == *name) else {
            continue;
        };
        let known: BTreeSet<_> = shipped_dependencies(package)
            .into_iter()
            .filter(|name| ours.contains(*name))
            .collect();
        let allowed: BTreeSet<_> = allowed.iter().copied().collect();

        assert!(
            known.is_subset(&allowed),
            "{} knows {:?}, it may know {allowed:?}",
            package.name,
            known.difference(&allowed)
        );
    }
}

#[test]
fn the_domain_knows_no_framework_and_no_input_or_output() {
    let metadata = metadata();
    let packages = metadata.workspace_packages();
    let package = |name: &str| {
        *packages
            .iter()
            .find(|package| package.name == name)
            .unwrap()
    };
    let allowed: BTreeSet<_> = DOMAIN_MAY_USE.iter().copied().collect();

    let domain = shipped_dependencies(package("atelier-domain"));
    assert!(domain.is_subset(&allowed), "{domain:?}");

    let application = shipped_dependencies(package("atelier-application"));
    for forbidden in APPLICATION_MAY_NOT_USE {
        assert!(!application.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn only_the_wiring_names_adapters() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/app/src");
    let adapters = [
        "atelier_blob",
        "atelier_comfyui::",
        "atelier_drive",
        "atelier_identity",
        "atelier_postgres",
        "atelier_web",
    ];
    let mut waiting = vec![source.clone()];
    let mut naming = BTreeSet::new();
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                if adapters.iter().any(|adapter| text.contains(adapter)) {
                    naming.insert(path.strip_prefix(&source).unwrap().to_owned());
                }
            }
        }
    }

    assert_eq!(naming, BTreeSet::from([Path::new("wiring.rs").to_owned()]));
}

#[test]
fn test_tools_never_reach_the_shipped_binary() {
    let shipped = shipped_with("atelier");

    assert!(shipped.contains("atelier-domain"), "the tree is empty");
    for tool in [
        "atelier-testkit",
        "atelier-s3-double",
        "mockall",
        "proptest",
    ] {
        assert!(!shipped.contains(tool), "{tool} reaches the shipped binary");
    }
}
