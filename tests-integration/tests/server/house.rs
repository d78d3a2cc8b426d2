//! The server that tests share.

use atelier_tests_integration::server::Server;
use atelier_tests_integration::site::Site;
use tokio::sync::OnceCell;

/// The server as it ships.
pub(crate) const ATELIER: &str = env!("CARGO_BIN_EXE_atelier-under-test");

/// A LoRA that the shared ComfyUI offers to everybody.
pub(crate) const SYSTEM_LORA: &str = "house-style.safetensors";

/// A site with a server on it.
#[derive(Debug)]
pub(crate) struct House {
    pub(crate) server: Server,
    pub(crate) site: Site,
}

/// The shared server; it stays until the test process ends.
pub(crate) async fn house() -> &'static House {
    static HOUSE: OnceCell<House> = OnceCell::const_new();
    HOUSE
        .get_or_init(|| async {
            let site = Site::new(ATELIER).await;
            let system_lora = atelier_testkit::build::safetensors_bytes(200);
            std::fs::write(site.backend.loras.join(SYSTEM_LORA), system_lora)
                .expect("the LoRA folder is there");
            House {
                server: site.serve(),
                site,
            }
        })
        .await
}
