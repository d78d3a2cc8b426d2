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

fn add_account(database: &Arc<Database>) -> conformance::account_links::AddAccount {
    let database = Arc::clone(database);
    Arc::new(move |id, email| {
        let database = Arc::clone(&database);
        Box::pin(async move {
            let sql = format!(
                "insert into auth.users (id, email, email_confirmed_at) values ('{id}', '{email}', now())"
            );
            database.admin().await.batch_execute(&sql).await.unwrap();
        })
    })
}

fn read_trail(database: &Arc<Database>) -> conformance::audit_trail::ReadTrail {
    let database = Arc::clone(database);
    Arc::new(move |person| {
        let database = Arc::clone(&database);
        Box::pin(async move { crate::audit::written(&database.admin().await, person).await })
    })
}

/// Linking needs accounts.
mod accounts {
    use super::*;

    async fn links() -> conformance::account_links::Harness {
        let database = Arc::new(Database::new(Kind::Supabase).await);
        conformance::account_links::Harness {
            identities: Arc::new(database.store().external_identities()),
            add_account: add_account(&database),
            keep_alive: database,
        }
    }

    atelier_testkit::account_links_conformance!(links());
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

            async fn inputs() -> conformance::input_repo::Harness {
                let database = database().await;
                let store = database.store();
                conformance::input_repo::Harness {
                    inputs: Arc::new(store.inputs()),
                    runs: Arc::new(store.runs()),
                    queue: Arc::new(store.queue()),
                    workflows: Arc::new(store.workflows()),
                    keep_alive: database,
                }
            }

            async fn usage() -> conformance::usage_repo::Harness {
                let database = database().await;
                let store = database.store();
                conformance::usage_repo::Harness {
                    usage: Arc::new(store.usage()),
                    loras: Arc::new(store.loras()),
                    inputs: Arc::new(store.inputs()),
                    runs: Arc::new(store.runs()),
                    queue: Arc::new(store.queue()),
                    workflows: Arc::new(store.workflows()),
                    keep_alive: database,
                }
            }

            async fn tokens() -> conformance::api_tokens::Harness {
                let database = Database::shared($kind).await;
                conformance::api_tokens::Harness {
                    tokens: Arc::new(database.store().api_tokens()),
                    keep_alive: database,
                }
            }

            /// Nobody gets an account along the way.
            async fn identities() -> conformance::external_identities::Harness {
                let database = Arc::new(Database::new($kind).await);
                let store = database.store();
                conformance::external_identities::Harness {
                    identities: Arc::new(store.external_identities()),
                    workflows: Arc::new(store.workflows()),
                    keep_alive: database,
                }
            }

            async fn trail() -> conformance::audit_trail::Harness {
                let database = Database::shared($kind).await;
                conformance::audit_trail::Harness {
                    trail: Arc::new(database.store().audit_trail()),
                    written: read_trail(&database),
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
            atelier_testkit::input_repo_conformance!(inputs());
            atelier_testkit::usage_repo_conformance!(usage());
            atelier_testkit::api_tokens_conformance!(tokens());
            atelier_testkit::external_identities_conformance!(identities());
            atelier_testkit::audit_trail_conformance!(trail());

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
