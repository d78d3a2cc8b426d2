use std::collections::HashSet;

use atelier_domain::actor::Actor;
use atelier_domain::ids::WorkflowId;
use atelier_domain::text::Description;
use atelier_domain::workflow::{NewWorkflow, WorkflowFilter, WorkflowScope, WorkflowSummary};

use super::{Harness, a_tag};
use crate::build::{a_workflow, an_actor, name, next_time, tags};
use crate::conformance::{LIMITS, all_pages, page};

impl Harness {
    async fn listed(&self, actor: &Actor, filter: &WorkflowFilter, limit: u16) -> Vec<WorkflowId> {
        let summaries = all_pages(limit, async |request| {
            let listed = self.workflows.list(actor, filter.clone(), request).await;
            listed.unwrap()
        })
        .await;
        summaries.iter().map(|summary| summary.id).collect()
    }

    async fn named(&self, owner: &Actor, text: &str, described: Option<&str>) -> WorkflowId {
        let new = NewWorkflow {
            name: name(text),
            description: described.map(|text| Description::parse(text).unwrap()),
            ..a_workflow()
        };
        self.stored(owner, new).await.id
    }

    async fn found_by_text(&self, actor: &Actor, text: &str) -> HashSet<WorkflowId> {
        let filter = WorkflowFilter {
            scope: WorkflowScope::Own,
            text: Some(text.to_owned()),
            ..WorkflowFilter::default()
        };
        self.listed(actor, &filter, 50).await.into_iter().collect()
    }
}

fn scoped(scope: WorkflowScope, tag: &str) -> WorkflowFilter {
    WorkflowFilter {
        scope,
        tag: Some(tag.to_owned()),
        text: None,
    }
}

/// Own workflows in `own`, public ones in `public`, both in `all`, each once,
/// newest first, as summaries of the rows; nothing private of others.
pub async fn scopes_hold_own_and_public_workflows(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let tag = a_tag();
    let mut ids = Vec::new();
    let mut newest = None;
    for (owner, is_public) in [(&alice, false), (&alice, true), (&bob, false), (&bob, true)] {
        let new = NewWorkflow {
            is_public,
            tags: tags(&["first", &tag]),
            description: Some(Description::parse("d").unwrap()),
            ..a_workflow()
        };
        let workflow = h.stored(owner, new).await;
        ids.push(workflow.id);
        newest = Some(workflow);
    }
    let [alice_private, alice_public, _, bob_public] = *ids.as_slice() else {
        panic!("four were stored");
    };

    for (scope, expected) in [
        (WorkflowScope::Own, vec![alice_public, alice_private]),
        (WorkflowScope::Public, vec![bob_public, alice_public]),
        (
            WorkflowScope::All,
            vec![bob_public, alice_public, alice_private],
        ),
    ] {
        for limit in LIMITS {
            let listed = h.listed(&alice, &scoped(scope, &tag), limit).await;
            assert_eq!(listed, expected, "scope {scope:?}, limit {limit}");
        }
    }

    let newest = newest.unwrap();
    let listed = h
        .workflows
        .list(&alice, scoped(WorkflowScope::All, &tag), page(1))
        .await
        .unwrap();
    let summary = WorkflowSummary {
        id: newest.id,
        user_id: bob.user_id(),
        name: newest.name,
        description: newest.description,
        is_public: true,
        tags: newest.tags,
        created_at: newest.created_at,
        updated_at: newest.updated_at,
    };
    assert_eq!(listed.items, [summary]);
}

/// The pages of a list are the list, for every limit.
pub async fn pages_join_to_the_whole_list(h: &Harness) {
    let alice = an_actor();
    let mut expected = Vec::new();
    for _ in 0..9 {
        expected.insert(0, h.private(&alice).await.id);
    }
    let own = WorkflowFilter {
        scope: WorkflowScope::Own,
        ..WorkflowFilter::default()
    };
    for limit in [1, 2, 3, 4, 8, 9, 10, 200] {
        assert_eq!(
            h.listed(&alice, &own, limit).await,
            expected,
            "limit {limit}"
        );
    }
    let exact = h.workflows.list(&alice, own, page(9)).await.unwrap();
    assert_eq!(exact.next, None, "a full last page has no next one");
}

/// Rows of the same microsecond, own and public mixed, come once each, by
/// falling ids.
pub async fn rows_of_one_moment_are_paged_without_loss(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let tag = a_tag();
    let moment = next_time();
    let mut expected = Vec::new();
    for count in 0..12 {
        let owner = if count % 3 == 0 { &bob } else { &alice };
        let new = NewWorkflow {
            is_public: count % 3 == 0 || count % 2 == 0,
            tags: tags(&[&tag]),
            created_at: moment,
            ..a_workflow()
        };
        expected.push(h.stored(owner, new).await.id);
    }
    expected.sort_by_key(|id| std::cmp::Reverse(id.as_uuid()));
    for limit in LIMITS {
        let listed = h
            .listed(&alice, &scoped(WorkflowScope::All, &tag), limit)
            .await;
        assert_eq!(listed, expected, "limit {limit}");
    }
}

/// New rows come before the first page and move no later one; deleted rows,
/// the cursor's own included, lose nothing else.
pub async fn pages_stay_in_place_while_rows_come(h: &Harness) {
    let alice = an_actor();
    let mut stored = Vec::new();
    for _ in 0..5 {
        stored.insert(0, h.private(&alice).await.id);
    }
    let own = || WorkflowFilter {
        scope: WorkflowScope::Own,
        ..WorkflowFilter::default()
    };
    let first = h.workflows.list(&alice, own(), page(2)).await.unwrap();
    h.private(&alice).await;
    let last_seen = first.items.last().unwrap().id;
    let deleted = h.workflows.delete(&alice, last_seen, None).await;
    assert!(deleted.is_ok(), "{deleted:?}");

    let mut request = page(200);
    request.after = first.next;
    let rest = h.workflows.list(&alice, own(), request).await.unwrap();

    let rest: Vec<_> = rest.items.iter().map(|summary| summary.id).collect();
    assert_eq!(Some(rest.as_slice()), stored.get(2..));
}

/// A tag matches whole and in its case only.
pub async fn a_tag_filter_takes_the_whole_tag(h: &Harness) {
    let alice = an_actor();
    let tag = a_tag();
    let mut tagged = Vec::new();
    for words in [
        vec![format!("{tag}x")],
        vec![tag.to_uppercase() + "A"],
        vec!["other".to_owned(), tag.clone()],
        vec![],
    ] {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let new = NewWorkflow {
            tags: tags(&words),
            ..a_workflow()
        };
        tagged.push(h.stored(&alice, new).await.id);
    }

    let by = async |tag: &str| {
        let filter = scoped(WorkflowScope::Own, tag);
        h.listed(&alice, &filter, 50).await
    };

    assert_eq!(Some(by(&tag).await.as_slice()), tagged.get(2..3));
    assert_eq!(by(&format!("{tag}%")).await, []);
    assert_eq!(by(&(tag.to_uppercase() + "a")).await, []);
    assert_eq!(by("").await, []);
}

/// The text is looked for in name and description, in any case, anywhere.
pub async fn a_text_filter_looks_at_name_and_description_whatever_the_case(h: &Harness) {
    let alice = an_actor();
    let by_name = h.named(&alice, "Grüner Hügel", None).await;
    let by_description = h
        .named(&alice, "Two", Some("am GRÜNEN Hügel\nvorbei"))
        .await;
    h.named(&alice, "Three", Some("nothing")).await;

    let both = HashSet::from([by_name, by_description]);
    assert_eq!(h.found_by_text(&alice, "grüne").await, both);
    assert_eq!(h.found_by_text(&alice, "HÜGEL").await, both);
    assert_eq!(
        h.found_by_text(&alice, "vorbei").await,
        HashSet::from([by_description])
    );
    assert_eq!(h.found_by_text(&alice, "absent").await, HashSet::new());
}

/// `%`, `_` and `\` stand for themselves.
pub async fn a_text_filter_takes_wildcards_for_what_they_are(h: &Harness) {
    let alice = an_actor();
    let percent = h.named(&alice, "100% sure", None).await;
    let underscore = h.named(&alice, "snake_case", None).await;
    let backslash = h.named(&alice, "C:\\pictures", None).await;
    h.named(&alice, "plain 100 snake case", None).await;

    for (text, expected) in [
        ("%", Some(percent)),
        ("100%", Some(percent)),
        ("_", Some(underscore)),
        ("snake_", Some(underscore)),
        ("\\", Some(backslash)),
        ("C:\\p", Some(backslash)),
        ("\\_", None),
        ("\\%", None),
        ("1%s", None),
        ("'", None),
        ("(", None),
        ("[", None),
        ("*", None),
    ] {
        let expected: HashSet<_> = expected.into_iter().collect();
        assert_eq!(h.found_by_text(&alice, text).await, expected, "{text:?}");
    }
}

/// Scope, tag and text narrow the list together, on every page.
pub async fn filters_hold_together(h: &Harness) {
    let alice = an_actor();
    let tag = a_tag();
    let mut expected = Vec::new();
    for count in 0..12 {
        let tagged = count % 2 == 0;
        let named = count % 3 == 0;
        let new = NewWorkflow {
            tags: if tagged { tags(&[&tag]) } else { tags(&[]) },
            name: name(if named { "needle" } else { "hay" }),
            ..a_workflow()
        };
        let id = h.stored(&alice, new).await.id;
        if tagged && named {
            expected.insert(0, id);
        }
    }
    let filter = WorkflowFilter {
        text: Some("needle".to_owned()),
        ..scoped(WorkflowScope::All, &tag)
    };
    for limit in LIMITS {
        assert_eq!(h.listed(&alice, &filter, limit).await, expected);
    }
}
