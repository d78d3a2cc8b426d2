use atelier_domain::input::{Input, InputFilename, InputName, InputPath};

use super::{Harness, both_names};
use crate::build::{an_actor, an_input};

fn latest(filename: &str) -> InputName {
    InputName::Latest(InputFilename::parse(filename).unwrap())
}

/// Later bytes under a name take its meaning; a path means its own for ever.
pub async fn a_name_means_the_newest_and_a_path_what_is_there(h: &Harness) {
    let alice = an_actor();
    let older = h.added(&alice, "a.png", b"older").await;
    let newer = h.added(&alice, "a.png", b"newer").await;
    h.added(&alice, "b.png", b"other").await;
    let find = async |name: InputName| h.inputs.find(&alice, vec![name]).await.unwrap();

    let ids = |found: Vec<Input>| found.iter().map(|input| input.id).collect::<Vec<_>>();
    assert_eq!(ids(find(latest("a.png")).await), [newer.id]);
    let at = InputName::At(older.comfyui_path.clone());
    assert_eq!(ids(find(at.clone()).await), [older.id]);
    assert_eq!(find(latest("c.png")).await, []);
    let absent = an_input(&alice, "a.png", b"absent").comfyui_path;
    assert_eq!(find(InputName::At(absent)).await, []);
    // The newest that is there still.
    h.deleted(&alice, newer.id).await;
    assert_eq!(ids(find(latest("a.png")).await), [older.id]);
    h.deleted(&alice, older.id).await;
    assert_eq!(find(latest("a.png")).await, []);
    assert_eq!(find(at).await, []);
}

/// However often and in whatever way it is named.
pub async fn what_is_meant_twice_is_found_once(h: &Harness) {
    let alice = an_actor();
    let first = h.added(&alice, "a.png", b"a").await;
    let second = h.added(&alice, "b.png", b"b").await;
    // The same bytes under another name stand at the same path.
    let copy = h.added(&alice, "c.png", b"b").await;
    assert_eq!(copy.comfyui_path, second.comfyui_path);
    let mut names = both_names(&first);
    names.extend(both_names(&first));
    names.extend([latest("b.png"), latest("nobody's.png")]);

    let mut found = h.inputs.find(&alice, names).await.unwrap();

    found.sort_by_key(|input| input.created_at);
    assert_eq!(found, [first, second.clone()]);
    let at = InputName::At(second.comfyui_path.clone());
    let [one]: [Input; 1] = h
        .inputs
        .find(&alice, vec![at])
        .await
        .unwrap()
        .try_into()
        .unwrap();
    assert_eq!(one.sha256, second.sha256);
    let elsewhere = InputPath::parse(one.comfyui_path.as_str());
    assert_eq!(elsewhere, Some(second.comfyui_path));
}
