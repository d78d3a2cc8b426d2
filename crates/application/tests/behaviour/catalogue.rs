use std::sync::Arc;
use std::time::Duration;

use atelier_application::catalogue::CatalogueCache;
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
