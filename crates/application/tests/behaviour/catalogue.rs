use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use atelier_application::catalogue::CatalogueCache;
use atelier_domain::lora::BaseModelFamily;
use atelier_domain::ports::{ComfyClient, ComfyError, LoraCatalogue, MockComfyClient};
use atelier_testkit::ScriptedComfy;

fn offering(files: &[&str]) -> ScriptedComfy {
    let comfy = ScriptedComfy::new();
    comfy.set_catalogue(LoraCatalogue {
        files: files.iter().map(|file| (*file).to_owned()).collect(),
        ..LoraCatalogue::default()
    });
    comfy
}

fn named(name: &str, client: impl ComfyClient + 'static) -> (String, Arc<dyn ComfyClient>) {
    (name.to_owned(), Arc::new(client))
}

fn files(cache: &CatalogueCache) -> Vec<String> {
    cache
        .known()
        .map(|known| known.files.iter().cloned().collect())
        .unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn the_whole_is_what_all_backends_offer_without_users_files() {
    let first = offering(&[
        "a.safetensors",
        "user-x/secret.safetensors",
        "USER-x/sub/secret.safetensors",
    ]);
    let second = offering(&["b.safetensors", "styles/user-guide.safetensors"]);
    let cache = CatalogueCache::new(vec![named("first", first), named("second", second)]);
    assert!(cache.known().is_none());

    cache.refresh().await;

    assert_eq!(
        files(&cache),
        [
            "a.safetensors",
            "b.safetensors",
            "styles/user-guide.safetensors"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_away_keeps_what_was_known_of_it() {
    let first = offering(&["a.safetensors"]);
    let second = offering(&["b.safetensors"]);
    let cache = CatalogueCache::new(vec![
        named("first", first.clone()),
        named("second", second.clone()),
    ]);
    cache.refresh().await;

    first.outage().begin();
    second.set_catalogue(LoraCatalogue::default());
    cache.refresh().await;

    assert_eq!(files(&cache), ["a.safetensors"]);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_fails_is_not_asked_by_everybody() {
    let mut client = MockComfyClient::new();
    client
        .expect_lora_catalogue()
        .times(1)
        .returning(|| Err(ComfyError::ServerError { status: 502 }));
    let cache = CatalogueCache::new(vec![named("main", client)]);

    tokio::join!(
        cache.refresh_if_older_than(Duration::from_secs(5)),
        cache.refresh_if_older_than(Duration::from_secs(5)),
    );
    cache.refresh_if_older_than(Duration::from_secs(5)).await;

    assert!(cache.known().is_none());
}

/// A backend that offers a checkpoint and says this of it, so often.
fn telling(file: &str, metadata: &[(&str, &str)], times: usize) -> MockComfyClient {
    let mut client = MockComfyClient::new();
    let key = ("CheckpointLoaderSimple".to_owned(), "ckpt_name".to_owned());
    let catalogue = LoraCatalogue {
        models: [(key, [file.to_owned()].into())].into(),
        ..LoraCatalogue::default()
    };
    client
        .expect_lora_catalogue()
        .returning(move || Ok(catalogue.clone()));
    let metadata: BTreeMap<String, String> = metadata
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    client
        .expect_checkpoint_metadata()
        .times(times)
        .returning(move |_| Ok(metadata.clone()));
    client
}

const SDXL: [(&str, &str); 1] = [("modelspec.architecture", "stable-diffusion-xl-v1-base")];

#[tokio::test(start_paused = true)]
async fn a_checkpoints_family_is_asked_of_a_backend_that_has_it_now_and_then() {
    let first = telling("other.safetensors", &[], 0);
    let second = telling("xl.safetensors", &SDXL, 2);
    let cache = CatalogueCache::new(vec![named("first", first), named("second", second)]);
    cache.refresh().await;
    let family = async || cache.checkpoint_family("xl.safetensors").await;

    assert_eq!(family().await, Some(BaseModelFamily::StableDiffusionXl));
    assert_eq!(family().await, Some(BaseModelFamily::StableDiffusionXl));
    // The file may be another one by then.
    tokio::time::advance(Duration::from_mins(11)).await;
    assert_eq!(family().await, Some(BaseModelFamily::StableDiffusionXl));

    assert_eq!(cache.checkpoint_family("no-such.safetensors").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_says_nothing_is_remembered_too() {
    let client = telling("xl.safetensors", &[], 1);
    let cache = CatalogueCache::new(vec![named("main", client)]);
    cache.refresh().await;

    for _ in 0..2 {
        assert_eq!(cache.checkpoint_family("xl.safetensors").await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_away_is_asked_for_a_family_again() {
    let comfy = ScriptedComfy::new();
    comfy.offer_models("CheckpointLoaderSimple", "ckpt_name", ["xl.safetensors"]);
    comfy.set_checkpoint_metadata("xl.safetensors", SDXL);
    let cache = CatalogueCache::new(vec![named("main", comfy.clone())]);
    cache.refresh().await;
    comfy.outage().begin();
    assert_eq!(cache.checkpoint_family("xl.safetensors").await, None);

    comfy.outage().end();

    let family = cache.checkpoint_family("xl.safetensors").await;
    assert_eq!(family, Some(BaseModelFamily::StableDiffusionXl));
}

#[tokio::test(start_paused = true)]
async fn each_backend_is_known_by_its_name() {
    let first = offering(&["a.safetensors"]);
    let away = ScriptedComfy::new();
    away.outage().begin();
    let cache = CatalogueCache::new(vec![named("first", first), named("away", away)]);

    cache.refresh().await;

    let each = cache.each();
    let names: Vec<&str> = each.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["first", "away"]);
    let files = each[0].1.as_ref().map(|known| known.files.len());
    assert_eq!((files, each[1].1.is_none()), (Some(1), true));
}
