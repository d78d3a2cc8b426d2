//! The one worker of the server: takes prompts from the queue and runs them, one at a time, on a thread of its own.

mod cache;
mod plan;
mod run;
mod telling;

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

pub(crate) use cache::Cache;
pub(crate) use run::Run;

use crate::instance::Instance;

/// Validation allows chains of nodes; walking them is recursive.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// Starts the worker. It ends when the queue is closed.
pub(crate) fn start(instance: Arc<Instance>) -> io::Result<JoinHandle<()>> {
    Builder::new()
        .name("comfyui-sim-executor".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || work(&instance))
}

fn work(instance: &Instance) {
    let mut cache = Cache::default();
    while let Some(item) = instance.queue.take() {
        // What POST /free asked for is done between prompts.
        if instance.take_free_request() {
            cache = Cache::default();
            instance.forget_loras();
        }
        instance.publish_status();
        instance.tally.executed(&item.prompt_id);
        let run = Run::new(instance, &item);
        let Some(entry) = run.execute(&mut cache) else {
            return;
        };
        instance.set_running_node(None);
        instance.queue.finish(entry);
        instance.publish_status();
        run.announce_end();
    }
}
