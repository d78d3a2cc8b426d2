//! The suites of every port, on both kinds of database.

use std::sync::Arc;

use crate::support::{Database, Kind};
use atelier_testkit::conformance;

fn age_answers(database: &Arc<Database>) -> conformance::AgeAnswers {
    let database = Arc::clone(database);
    Arc::new(move |owner| {
        let database = Arc::clone(&database);
        Box::pin(async move {
            let sql = format!(
                "update public.comfyui_idempotency_keys set created_at = created_at - interval '25 hours' \
                 where user_id = '{owner}'"
            );
            database.admin().await.batch_execute(&sql).await.unwrap();
        })
    })
}

fn abandon_reservation(database: &Arc<Database>) -> conformance::AbandonReservation {
    let database = Arc::clone(database);
    Arc::new(move |id| {
        let database = Arc::clone(&database);
        Box::pin(async move {
            let sql = format!(
                "update public.comfyui_lora_models set expires_at = now() - interval '1 second' where id = '{id}'"
            );
            database.admin().await.batch_execute(&sql).await.unwrap();
        })
    })
}

macro_rules! suites {
    ($module:ident, $kind:expr) => {
        mod $module {
            use super::*;

            async fn database() -> Arc<Database> {
                let database = Database::new($kind).await;
                database.give_everybody_accounts().await;
                Arc::new(database)
            }

            async fn workflows() -> conformance::workflow_repo::Harness {
                let database = Database::shared($kind).await;
                let store = database.store();
                conformance::workflow_repo::Harness {
                    workflows: Arc::new(store.workflows()),
                    runs: Arc::new(store.runs()),
                    keep_alive: database,
                }
            }

            /// Two processes that share a database.
            async fn previews_of_two() -> conformance::run_previews::Harness {
                let database = Database::shared($kind).await;
                conformance::run_previews::Harness {
                    watching: Arc::new(database.store().previews()),
                    publishing: Arc::new(database.store().previews()),
                    keep_alive: database,
                }
            }

            async fn previews_of_one() -> conformance::run_previews::Harness {
                let database = Database::shared($kind).await;
                let previews = database.store().previews();
                conformance::run_previews::Harness {
                    watching: Arc::new(previews.clone()),
                    publishing: Arc::new(previews),
                    keep_alive: database,
                }
            }

            async fn runs() -> conformance::run_repo::Harness {
                let database = Database::shared($kind).await;
                let store = database.store();
                conformance::run_repo::Harness {
                    runs: Arc::new(store.runs()),
                    workflows: Arc::new(store.workflows()),
                    age_answers: age_answers(&database),
                    keep_alive: database,
                }
            }

            async fn queue() -> conformance::run_queue::Harness {
                let database = database().await;
                let store = database.store();
                conformance::run_queue::Harness {
                    queue: Arc::new(store.queue()),
                    runs: Arc::new(store.runs()),
                    workflows: Arc::new(store.workflows()),
                    loras: Arc::new(store.loras()),
                    age_answers: age_answers(&database),
                    keep_alive: database,
                }
            }

            async fn signals() -> conformance::run_signals::Harness {
                let database = database().await;
                let store = database.store();
                conformance::run_signals::Harness {
                    signals: Arc::new(store.signals()),
                    runs: Arc::new(store.runs()),
                    queue: Arc::new(store.queue()),
                    workflows: Arc::new(store.workflows()),
                    keep_alive: database,
                }
            }

            async fn loras() -> conformance::lora_repo::Harness {
                // Cleaning passes over rows that another worker holds just then.
                let database = database().await;
                let store = database.store();
                conformance::lora_repo::Harness {
                    loras: Arc::new(store.loras()),
                    runs: Arc::new(store.runs()),
                    queue: Arc::new(store.queue()),
                    workflows: Arc::new(store.workflows()),
                    abandon_reservation: abandon_reservation(&database),
                    keep_alive: database,
                }
            }

            async fn transfers() -> conformance::lora_transfers::Harness {
                let database = database().await;
                let store = database.store();
                conformance::lora_transfers::Harness {
                    transfers: Arc::new(store.transfers()),
                    loras: Arc::new(store.loras()),
                    signals: Arc::new(store.signals()),
                    abandon_reservation: abandon_reservation(&database),
                    age_answers: age_answers(&database),
                    keep_alive: database,
                }
            }

            async fn uploads() -> conformance::lora_uploads::Harness {
                let database = database().await;
                let store = database.store();
                conformance::lora_uploads::Harness {
                    uploads: Arc::new(store.uploads()),
                    transfers: Arc::new(store.transfers()),
                    loras: Arc::new(store.loras()),
                    signals: Arc::new(store.signals()),
                    keep_alive: database,
                }
            }

            async fn copies() -> conformance::lora_copies::Harness {
                let database = database().await;
                let store = database.store();
                conformance::lora_copies::Harness {
                    copies: Arc::new(store.copies()),
                    loras: Arc::new(store.loras()),
                    queue: Arc::new(store.queue()),
                    keep_alive: database,
                }
            }

            atelier_testkit::workflow_repo_conformance!(workflows());
            atelier_testkit::run_repo_conformance!(runs());
            atelier_testkit::run_queue_conformance!(queue());
            atelier_testkit::run_signals_conformance!(signals());
            atelier_testkit::lora_repo_conformance!(loras());
            atelier_testkit::lora_transfers_conformance!(transfers());
            atelier_testkit::lora_uploads_conformance!(uploads());
            atelier_testkit::lora_copies_conformance!(copies());

            mod between_processes {
                use super::*;

                atelier_testkit::run_previews_conformance!(previews_of_two());
            }

            mod within_a_process {
                use super::*;

                atelier_testkit::run_previews_conformance!(previews_of_one());
            }
        }
    };
}

suites!(bare, Kind::Bare);
suites!(supabase, Kind::Supabase);
