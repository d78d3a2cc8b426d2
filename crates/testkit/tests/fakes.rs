//! The fakes pass the suites that every adapter passes.

use std::sync::Arc;

use atelier_testkit::conformance::{
    self, account_links, api_tokens, audit_trail, blob_store, external_identities, input_repo,
    lora_copies, lora_folder, lora_repo, lora_transfers, lora_uploads, run_previews, run_queue,
    run_repo, run_signals, usage_repo, workflow_repo,
};
use atelier_testkit::{FakeStore, InMemoryBlobs, InMemoryLoraFolder, InMemoryPreviews};
use proptest::prelude::*;

fn workflows() -> workflow_repo::Harness {
    let store = FakeStore::new();
    workflow_repo::Harness {
        workflows: Arc::new(store.workflows()),
        runs: Arc::new(store.runs()),
        keep_alive: Arc::new(()),
    }
}

fn runs() -> run_repo::Harness {
    let store = FakeStore::new();
    run_repo::Harness {
        runs: Arc::new(store.runs()),
        workflows: Arc::new(store.workflows()),
        age_answers: age_answers(&store),
        keep_alive: Arc::new(()),
    }
}

fn age_answers(store: &FakeStore) -> conformance::AgeAnswers {
    let store = store.clone();
    Arc::new(move |owner| {
        store.age_answers(owner);
        Box::pin(async {})
    })
}

fn previews() -> run_previews::Harness {
    let previews = InMemoryPreviews::new();
    run_previews::Harness {
        watching: Arc::new(previews.clone()),
        publishing: Arc::new(previews),
        keep_alive: Arc::new(()),
    }
}

fn queue() -> run_queue::Harness {
    let store = FakeStore::new();
    run_queue::Harness {
        queue: Arc::new(store.queue()),
        runs: Arc::new(store.runs()),
        workflows: Arc::new(store.workflows()),
        loras: Arc::new(store.loras()),
        age_answers: age_answers(&store),
        keep_alive: Arc::new(()),
    }
}

fn loras() -> lora_repo::Harness {
    let store = FakeStore::new();
    lora_repo::Harness {
        loras: Arc::new(store.loras()),
        runs: Arc::new(store.runs()),
        queue: Arc::new(store.queue()),
        workflows: Arc::new(store.workflows()),
        abandon_reservation: abandon_reservation(&store),
        keep_alive: Arc::new(()),
    }
}

fn abandon_reservation(store: &FakeStore) -> conformance::AbandonReservation {
    let store = store.clone();
    Arc::new(move |id| {
        store.abandon_reservation(id);
        Box::pin(async {})
    })
}

fn transfers() -> lora_transfers::Harness {
    let store = FakeStore::new();
    lora_transfers::Harness {
        transfers: Arc::new(store.transfers()),
        loras: Arc::new(store.loras()),
        signals: Arc::new(store.signals()),
        abandon_reservation: abandon_reservation(&store),
        age_answers: age_answers(&store),
        keep_alive: Arc::new(()),
    }
}

fn uploads() -> lora_uploads::Harness {
    let store = FakeStore::new();
    lora_uploads::Harness {
        uploads: Arc::new(store.uploads()),
        transfers: Arc::new(store.transfers()),
        loras: Arc::new(store.loras()),
        signals: Arc::new(store.signals()),
        keep_alive: Arc::new(()),
    }
}

fn copies() -> lora_copies::Harness {
    let store = FakeStore::new();
    lora_copies::Harness {
        copies: Arc::new(store.copies()),
        loras: Arc::new(store.loras()),
        queue: Arc::new(store.queue()),
        keep_alive: Arc::new(()),
    }
}

fn inputs() -> input_repo::Harness {
    let store = FakeStore::new();
    input_repo::Harness {
        inputs: Arc::new(store.inputs()),
        runs: Arc::new(store.runs()),
        queue: Arc::new(store.queue()),
        workflows: Arc::new(store.workflows()),
        keep_alive: Arc::new(()),
    }
}

fn usage() -> usage_repo::Harness {
    let store = FakeStore::new();
    usage_repo::Harness {
        usage: Arc::new(store.usage()),
        loras: Arc::new(store.loras()),
        inputs: Arc::new(store.inputs()),
        runs: Arc::new(store.runs()),
        queue: Arc::new(store.queue()),
        workflows: Arc::new(store.workflows()),
        keep_alive: Arc::new(()),
    }
}

fn tokens() -> api_tokens::Harness {
    api_tokens::Harness {
        tokens: Arc::new(FakeStore::new().api_tokens()),
        keep_alive: Arc::new(()),
    }
}

fn identities() -> external_identities::Harness {
    let store = FakeStore::new();
    external_identities::Harness {
        identities: Arc::new(store.external_identities()),
        workflows: Arc::new(store.workflows()),
        keep_alive: Arc::new(()),
    }
}

fn links() -> account_links::Harness {
    let store = FakeStore::new();
    account_links::Harness {
        identities: Arc::new(store.external_identities()),
        add_account: Arc::new(move |id, email| {
            store.add_account(id, &email);
            Box::pin(async {})
        }),
        keep_alive: Arc::new(()),
    }
}

fn trail() -> audit_trail::Harness {
    let store = FakeStore::new();
    audit_trail::Harness {
        trail: Arc::new(store.audit_trail()),
        written: Arc::new(move |person| {
            let events = store.audit_events().into_iter();
            let written = events
                .filter(|event| event.user_id == Some(person))
                .map(|event| audit_trail::WrittenEvent {
                    action: event.action.to_owned(),
                    target: event.target,
                    details: event.details.into(),
                })
                .collect();
            Box::pin(async { written })
        }),
        keep_alive: Arc::new(()),
    }
}

fn blobs() -> blob_store::Harness {
    blob_store::Harness {
        blobs: Arc::new(InMemoryBlobs::new()),
        signs_urls: false,
        keep_alive: Arc::new(()),
    }
}

fn folder() -> lora_folder::Harness {
    let folder = InMemoryLoraFolder::new();
    folder.set_quota(Some(60_000));
    lora_folder::Harness {
        folder: Arc::new(folder.clone()),
        backdoor: Arc::new(folder),
        quota_bytes: 60_000,
        keep_alive: Arc::new(()),
    }
}

fn signals() -> run_signals::Harness {
    let store = FakeStore::new();
    run_signals::Harness {
        signals: Arc::new(store.signals()),
        runs: Arc::new(store.runs()),
        queue: Arc::new(store.queue()),
        workflows: Arc::new(store.workflows()),
        keep_alive: Arc::new(()),
    }
}

atelier_testkit::workflow_repo_conformance!(async { workflows() });
atelier_testkit::run_repo_conformance!(async { runs() });
atelier_testkit::run_queue_conformance!(async { queue() });
atelier_testkit::lora_repo_conformance!(async { loras() });
atelier_testkit::lora_transfers_conformance!(async { transfers() });
atelier_testkit::lora_uploads_conformance!(async { uploads() });
atelier_testkit::lora_copies_conformance!(async { copies() });
atelier_testkit::input_repo_conformance!(async { inputs() });
atelier_testkit::usage_repo_conformance!(async { usage() });
atelier_testkit::api_tokens_conformance!(async { tokens() });
atelier_testkit::external_identities_conformance!(async { identities() });
atelier_testkit::account_links_conformance!(async { links() });
atelier_testkit::audit_trail_conformance!(async { trail() });
atelier_testkit::blob_store_conformance!(async { blobs() });
atelier_testkit::lora_folder_conformance!(async { folder() });
atelier_testkit::run_signals_conformance!(async { signals() });
atelier_testkit::run_previews_conformance!(async { previews() });

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn no_order_of_steps_leaves_a_run_stuck_or_twice_ended(steps in run_queue::orders(120)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(run_queue::check_order(&queue(), &steps));
    }
}
