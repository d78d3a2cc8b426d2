//! Objects that belong to nothing any more, and objects that were never ours.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use atelier_testkit::wait_until;
use atelier_tests_integration::client::Client;
use atelier_tests_integration::server::ServerSetup;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::traces::{files_below, objects_of};
use atelier_tests_integration::workflows::with_lora;
use uuid::Uuid;

use crate::ATELIER;
use crate::workshop::PATIENCE;

/// An hour, the least that may be told: the objects of these tests are made to look older.
const AGE: &str = "3600";
const LONG_AGO: Duration = Duration::from_hours(2);

const STYLE: &str = "style.safetensors";

/// The object that says whose store it is.
const MARKER: &str = "atelier/installation";

/// A server whose worker looks for orphans.
fn setup(site: &Site) -> ServerSetup {
    site.setup().with("ATELIER_ORPHAN_AGE_SECONDS", AGE)
}

/// Somebody with a LoRA and a run with its picture.
async fn somebody(client: &Client) -> Uuid {
    client.add_lora(STYLE, 1).await;
    let run = client.run_to_the_end(&with_lora(STYLE)).await;
    assert_eq!(run["status"], "completed", "{run}");
    client.person().id
}

/// Puts an object into the folder as somebody else would.
fn put(objects: &Path, key: &str, text: &str) -> PathBuf {
    let path = objects.join(key);
    let folder = path.parent().expect("it is below the folder");
    fs::create_dir_all(folder).expect("the folder is ours");
    fs::write(&path, text).expect("there is room");
    path
}

/// Lets everything look as if it had lain there for hours.
fn age(objects: &Path) {
    let then = SystemTime::now() - LONG_AGO;
    for path in files_below(objects) {
        let file = File::options().write(true).open(path).expect("it is there");
        file.set_modified(then).expect("it is ours");
    }
}

async fn delete_account(site: &Site, id: Uuid) {
    let sql = format!("delete from comfyui_users where id = '{id}'");
    site.database.execute(&sql).await;
    let rows = format!("select count(*) from comfyui_lora_models where user_id = '{id}'");
    assert_eq!(site.database.count(&rows).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_objects_of_a_deleted_account_go_and_nobody_elses() {
    let site = Site::new(ATELIER).await;
    let mut server = setup(&site).start();
    let (gone, stays) = (server.client(), server.client());
    let id = somebody(&gone).await;
    somebody(&stays).await;
    let kept = objects_of(&site, stays.person());
    assert!(kept.len() >= 2, "{kept:?}");
    server.process.kill();
    let foreign = [
        put(&site.objects, "backups/2026.tar", "somebody's"),
        put(
            &site.objects,
            "user-guide/loras/x.safetensors",
            "somebody's",
        ),
        put(
            &site.objects,
            &format!("user-{id}/notes/todo.txt"),
            "theirs",
        ),
        put(
            &site.objects,
            &format!("user-{}/loras/x.safetensors", id.simple()),
            "theirs",
        ),
    ];
    delete_account(&site, id).await;
    age(&site.objects);
    // Just come: perhaps its row is on its way.
    let young = format!("user-{id}/loras/young.safetensors");
    let young = put(&site.objects, &young, "on its way");

    let _server = setup(&site).start();

    wait_until("the account's objects to go", PATIENCE * 2, async || {
        objects_of(&site, gone.person()) == ["loras/young.safetensors", "notes/todo.txt"]
    })
    .await;
    assert_eq!(objects_of(&site, stays.person()), kept);
    assert!(young.exists());
    for path in foreign {
        assert!(path.exists(), "{}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_another_databases_is_left_alone() {
    let site = Site::new(ATELIER).await;
    let marker = put(
        &site.objects,
        MARKER,
        "0a000000-0000-4000-8000-000000000001",
    );
    let mut server = setup(&site).start();
    let (gone, client) = (server.client(), server.client());
    let id = somebody(&gone).await;
    let before = objects_of(&site, gone.person());
    server.process.kill();
    delete_account(&site, id).await;
    age(&site.objects);

    let mut server = setup(&site).start();
    server.process.wait_for_line(PATIENCE * 2, |line| {
        line.contains("another database's").then_some(())
    });

    assert_eq!(objects_of(&site, gone.person()), before);
    let marked = fs::read_to_string(marker).expect("it is there");
    assert_eq!(marked, "0a000000-0000-4000-8000-000000000001");
    // What this database knows it deletes all the same.
    let client = Client::new(&server.url, Some(client.person().clone()));
    let lora = client.add_lora(STYLE, 2).await;
    let path = format!("/loras/{}", lora["id"].as_str().expect("an id"));
    client.delete(&path).await.expect(204);
    wait_until("the deleted LoRA's object to go", PATIENCE, async || {
        objects_of(&site, client.person()).is_empty()
    })
    .await;
}
