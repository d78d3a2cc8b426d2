//! What somebody may try who wants another person's file.

use serde_json::{Value, json};

use crate::conventions::{Convention, UNKNOWN};
use crate::neighbours::Aim;

/// Names of a file, right and wrong, straight and crooked; `own` is the folder of whoever tries.
pub(crate) fn names(aim: &Aim, own: &str) -> Vec<String> {
    let Aim {
        owner,
        stem,
        digest8,
        loras_dir,
    } = aim;
    let file = format!("{stem}.safetensors");
    let folder = format!("user-{owner}");
    let simple = owner.replace('-', "");
    let prefix = stem.get(..stem.len() - 2).expect("a long stem");
    let within = stem.get(3..stem.len() - 2).expect("a long stem");
    vec![
        // By name.
        file.clone(),
        format!("{stem}.{digest8}.safetensors"),
        file.to_uppercase(),
        format!("{file}@1"),
        format!("{file}@2"),
        // By what a fuzzy match takes.
        stem.clone(),
        prefix.to_owned(),
        format!("{prefix}.safetensors"),
        within.to_owned(),
        format!("{within}*"),
        stem.to_uppercase(),
        // By the folder.
        format!("{folder}/{file}"),
        format!("{folder}/{stem}.{digest8}.safetensors"),
        format!("{folder}/{stem}"),
        format!("{folder}/{file}@1"),
        format!("{folder}/{prefix}"),
        folder.clone(),
        format!("{folder}/"),
        format!("user-*/{file}"),
        // By ways into the folder.
        format!("../{folder}/{file}"),
        format!("./{folder}/{file}"),
        format!("../loras/{folder}/{file}"),
        format!("styles/../{folder}/{file}"),
        format!("{own}/../{folder}/{file}"),
        format!("{own}/{folder}/{file}"),
        format!("{own}/{file}"),
        format!("{own}/{stem}.{digest8}.safetensors"),
        format!("{own}/{file}@1"),
        format!("{folder}/./{file}"),
        format!("{folder}//{file}"),
        format!("//{folder}/{file}"),
        format!("/{folder}/{file}"),
        format!("{loras_dir}/{folder}/{file}"),
        format!("file://{loras_dir}/{folder}/{file}"),
        format!("C:{folder}/{file}"),
        // By other spellings.
        format!("{folder}\\{file}"),
        format!("..\\{folder}\\{file}"),
        format!("User-{owner}/{file}"),
        format!("user-{}/{file}", owner.to_uppercase()),
        format!("user-{simple}/{file}"),
        format!("{folder}%2F{file}"),
        format!("user%2D{owner}/{file}"),
        format!("%2e%2e/{folder}/{file}"),
        format!("{folder}\u{2215}{file}"),
        format!("{folder}\u{ff0f}{file}"),
        format!("\u{ff55}ser-{owner}/{file}"),
        format!("user\u{2010}{owner}/{file}"),
        format!("{folder}/\u{200b}{file}"),
        format!("\u{feff}{folder}/{file}"),
        format!(" {folder}/{file}"),
        format!("{folder}/{file} "),
        format!("{folder} /{file}"),
        format!("{folder}/{file}\n"),
        // By what we keep beside it.
        format!(".atelier/{folder}/{file}.json"),
        format!(".atelier/../{folder}/{file}"),
        format!("{folder}/{file}.atelier.part"),
        // Nothing at all, which some take for the first file.
        String::new(),
        " ".to_owned(),
    ]
}

/// Values of other shapes than the class's own that end in the file.
///
/// Links are left out where the class is unknown and the input's name says nothing: what comes over
/// them is looked at where it comes from, and a link into an input called `lora` is how a graph saves
/// what it has trained itself.
pub(crate) fn values(convention: &Convention, aim: &Aim) -> Vec<Value> {
    let path = format!("user-{}/{}.safetensors", aim.owner, aim.stem);
    let mut values = Vec::new();
    for name in [path.as_str(), aim.stem.as_str()] {
        let value = convention.value(name);
        values.push(json!({"__value__": value}));
        values.push(json!({"__value__": [value]}));
    }
    values.push(json!([convention.value(&path)]));
    let says_nothing = !convention.takes_paths || convention.input == "lora";
    if convention.class_type != UNKNOWN || !says_nothing {
        values.push(json!(["4", 0]));
    }
    values
}
