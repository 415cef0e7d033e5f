//! Documents: compare-and-set, expiry, lists.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use everstate_runtime::ports::{Order, Page, Put, PutError, Registry};

use crate::stores::on_each;

fn document(id: &str, expect: Option<u64>, body: &str, now: u64) -> Put {
    Put {
        project: "p".to_owned(),
        kind: "key".to_owned(),
        id: id.to_owned(),
        expect,
        body: Bytes::copy_from_slice(body.as_bytes()),
        now,
        expires_at: None,
    }
}

/// Plain documents and sealed ones keep the same promises.
fn on_both(check: impl AsyncFn(&Arc<dyn Registry>)) {
    on_each(async |place| {
        for registry in [&place.store.registry, &place.store.sealed] {
            check(registry).await;
        }
    });
}

/// `2@10-20 body`, or `-`.
async fn got(registry: &Arc<dyn Registry>, id: &str) -> String {
    let found = registry.get("p", "key", id).await.unwrap();
    found.map_or("-".to_owned(), |it| {
        let body = String::from_utf8_lossy(&it.body);
        format!("{}@{}-{} {body}", it.revision, it.created_at, it.updated_at)
    })
}

#[test]
fn only_who_knows_the_revision_writes() {
    on_both(async |registry| {
        assert_eq!(got(registry, "a").await, "-");
        assert_eq!(
            registry.put(document("a", Some(1), "x", 5)).await,
            Err(PutError::Conflict(None))
        );
        assert_eq!(registry.put(document("a", None, "one", 10)).await, Ok(1));
        assert_eq!(registry.put(document("a", Some(1), "two", 20)).await, Ok(2));
        assert_eq!(got(registry, "a").await, "2@10-20 two");
        for expect in [None, Some(1), Some(3)] {
            let refused = registry.put(document("a", expect, "three", 30)).await;
            let Err(PutError::Conflict(Some(there))) = refused else { panic!("{refused:?}") };
            assert_eq!((there.revision, &there.body[..]), (2, &b"two"[..]));
        }
        registry.remove("p", "key", "a").await.unwrap();
        registry.remove("p", "key", "a").await.unwrap();
        assert_eq!(got(registry, "a").await, "-");
        assert_eq!(registry.put(document("a", None, "anew", 40)).await, Ok(1));
    });
}

#[test]
fn of_many_at_once_one_claims_it() {
    on_both(async |registry| {
        let claims: Vec<_> = (0..16)
            .map(|n| {
                let registry = Arc::clone(registry);
                let put = document("claim", None, &n.to_string(), 10);
                tokio::spawn(async move { registry.put(put).await })
            })
            .collect();
        let mut won = 0;
        for claim in claims {
            won += usize::from(claim.await.unwrap().is_ok());
        }
        assert_eq!(won, 1);
    });
}

#[test]
fn an_expired_document_is_as_good_as_gone() {
    on_each(async |place| {
        let registry = &place.store.registry;
        let put = Put { expires_at: Some(2_000), ..document("a", None, "claim", 1_000) };
        assert_eq!(registry.put(put).await, Ok(1));
        assert_eq!(got(registry, "a").await, "1@1000-1000 claim");
        place.clock.store(2_000, Ordering::SeqCst);
        assert_eq!(got(registry, "a").await, "-");
        assert_eq!(registry.documents("p", "key", None, 9).await, Ok(vec![]));
        // It may be claimed anew, as if it had never been there.
        assert_eq!(registry.put(document("a", None, "anew", 2_000)).await, Ok(2));
        assert_eq!(got(registry, "a").await, "2@2000-2000 anew");

        let put = Put { expires_at: Some(3_000), ..document("b", None, "claim", 2_000) };
        assert_eq!(registry.put(put).await, Ok(1));
        place.clock.store(3_000, Ordering::SeqCst);
        place.store.upkeep.run().await.unwrap();
        assert_eq!(got(registry, "a").await, "2@2000-2000 anew");
        place.clock.store(2_500, Ordering::SeqCst);
        assert_eq!(got(registry, "b").await, "-");
    });
}

/// The ids of what a page says, in its order.
async fn listed(
    registry: &Arc<dyn Registry>,
    order: Order,
    after: Option<(u64, &str)>,
    limit: usize,
) -> String {
    let after = after.map(|(at, id)| (at, id.to_owned()));
    let page = Page { order, after, limit };
    let found = registry.page("p", "key", page).await.unwrap();
    found.iter().map(|it| it.id.as_str()).collect()
}

#[test]
fn documents_are_listed_by_when_they_were_made() {
    use Order::{NewestFirst, OldestFirst};
    on_both(async |registry| {
        for (id, at) in [("a", 10), ("c", 20), ("b", 20), ("d", 5), ("B", 20), ("e", 0)] {
            registry.put(document(id, None, id, at)).await.unwrap();
        }
        // A later change does not move it.
        registry.put(document("d", Some(1), "d", 99)).await.unwrap();
        for (project, kind) in [("p", "kez"), ("q", "key"), ("p", "ke"), ("o", "key")] {
            let (project, kind) = (project.to_owned(), kind.to_owned());
            registry.put(Put { project, kind, ..document("x", None, "", 15) }).await.unwrap();
        }
        for (order, after, limit, says) in [
            (NewestFirst, None, 9, "cbBade"),
            (NewestFirst, None, 1, "c"),
            (NewestFirst, Some((20, "c")), 2, "bB"),
            (NewestFirst, Some((10, "a")), 9, "de"),
            (NewestFirst, Some((0, "e")), 9, ""),
            // Where nothing stands.
            (NewestFirst, Some((20, "bb")), 9, "bBade"),
            (NewestFirst, Some((7, "")), 9, "de"),
            (NewestFirst, Some((u64::MAX, "")), 1, "c"),
            (OldestFirst, None, 9, "edaBbc"),
            (OldestFirst, None, 1, "e"),
            (OldestFirst, Some((0, "e")), 2, "da"),
            (OldestFirst, Some((20, "B")), 9, "bc"),
            (OldestFirst, Some((20, "c")), 9, ""),
            (OldestFirst, Some((7, "")), 9, "aBbc"),
            (OldestFirst, Some((20, "bb")), 9, "c"),
            (OldestFirst, Some((u64::MAX, "")), 9, ""),
            (OldestFirst, None, 0, ""),
        ] {
            let listed = listed(registry, order, after, limit).await;
            assert_eq!(listed, says, "{order:?} after {after:?}, at most {limit}");
        }
        let newest = registry.documents("p", "key", Some((20, "c".to_owned())), 1).await.unwrap();
        assert_eq!(newest[0].id, "b");

        registry.remove("p", "key", "b").await.unwrap();
        assert_eq!(listed(registry, OldestFirst, None, 9).await, "edaBc");
        // One that went is a place to go on from all the same.
        assert_eq!(listed(registry, OldestFirst, Some((20, "b")), 9).await, "c");
    });
}

#[test]
fn what_expired_is_in_no_list_and_comes_back_as_new() {
    on_each(async |place| {
        let registry = &place.store.registry;
        let put = Put { expires_at: Some(2_000), ..document("a", None, "", 1_000) };
        registry.put(put).await.unwrap();
        registry.put(document("b", None, "", 1_500)).await.unwrap();
        assert_eq!(listed(registry, Order::OldestFirst, None, 9).await, "ab");
        place.clock.store(2_000, Ordering::SeqCst);
        for order in [Order::OldestFirst, Order::NewestFirst] {
            // It does not use up the page either.
            assert_eq!(listed(registry, order, None, 1).await, "b");
        }
        registry.put(document("a", None, "", 2_000)).await.unwrap();
        assert_eq!(listed(registry, Order::OldestFirst, None, 9).await, "ba");
        place.store.upkeep.run().await.unwrap();
        assert_eq!(listed(registry, Order::NewestFirst, None, 9).await, "ab");
    });
}
