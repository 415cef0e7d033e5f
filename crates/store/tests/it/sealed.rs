//! Sealed documents: what stands in the tables says nothing, and what was replaced or removed cannot be read any more,
//! in whatever copy it is found.

use bytes::Bytes;
use everstate_runtime::ports::{Order, Page, Put, PutError, Registry};
use everstate_store::open::{Settings, open};
use rusqlite::Connection;

use crate::files::finds;
use crate::stores::{Place, on_each};

fn document(id: &str, expect: Option<u64>, body: &str) -> Put {
    Put {
        project: "p".to_owned(),
        kind: "credential".to_owned(),
        id: id.to_owned(),
        expect,
        body: Bytes::copy_from_slice(body.as_bytes()),
        now: 10,
        expires_at: None,
    }
}

/// What stands in the tables, and at which revision.
async fn in_table(place: &Place, id: &str) -> (Bytes, u64) {
    let found = place.store.registry.get("p", "sealed/credential", id).await.unwrap().unwrap();
    (found.body, found.revision)
}

/// Puts back what stood in the tables before, as from a backup of them.
async fn put_back(place: &Place, id: &str, body: &Bytes, expect: Option<u64>) {
    let put = Put { kind: "sealed/credential".to_owned(), ..document(id, expect, "") };
    place.store.registry.put(Put { body: body.clone(), ..put }).await.unwrap();
}

async fn read(place: &Place, id: &str) -> Option<String> {
    let found = place.store.sealed.get("p", "credential", id).await.unwrap();
    found.map(|it| String::from_utf8(it.body.to_vec()).unwrap())
}

async fn listed(registry: &dyn Registry) -> String {
    let page = Page { order: Order::OldestFirst, after: None, limit: 2 };
    let found = registry.page("p", "credential", page).await.unwrap();
    found.iter().map(|it| format!("{}={} ", it.id, String::from_utf8_lossy(&it.body))).collect()
}

#[test]
fn the_tables_say_nothing() {
    on_each(async |place| {
        place.store.sealed.put(document("a", None, "hunter2")).await.unwrap();
        assert_eq!(read(place, "a").await.as_deref(), Some("hunter2"));
        let (body, _) = in_table(place, "a").await;
        assert!(!body.windows(7).any(|it| it == b"hunter2"), "{body:?}");
        assert_eq!(place.store.registry.get("p", "credential", "a").await, Ok(None));
        // Whose content it is is part of the seal.
        put_back(place, "b", &body, None).await;
        let moved = place.store.sealed.get("p", "credential", "b").await.unwrap_err();
        assert_eq!(moved.0, "the sealed document credential/b is damaged");
        let expiring = Put { expires_at: Some(99), ..document("c", None, "") };
        let refused = place.store.sealed.put(expiring).await;
        assert!(matches!(refused, Err(PutError::Down(_))), "{refused:?}");
    });
}

#[test]
fn what_was_replaced_cannot_be_read_from_a_backup() {
    on_each(async |place| {
        let sealed = &place.store.sealed;
        sealed.put(document("a", None, "first")).await.unwrap();
        let (first, revision) = in_table(place, "a").await;
        assert_eq!(sealed.put(document("a", Some(revision), "second")).await, Ok(2));
        // Who lost the race has destroyed nothing.
        let late = sealed.put(document("a", Some(revision), "third")).await;
        let Err(PutError::Conflict(Some(there))) = late else { panic!("{late:?}") };
        assert_eq!((there.revision, &there.body[..]), (2, &b"second"[..]));
        assert_eq!(read(place, "a").await.as_deref(), Some("second"));

        put_back(place, "a", &first, Some(2)).await;
        assert_eq!(read(place, "a").await, None);
        assert_eq!(listed(&**sealed).await, "");
        // It is as if it were not there.
        assert_eq!(sealed.put(document("a", Some(2), "x")).await, Err(PutError::Conflict(None)));
        assert_eq!(sealed.put(document("a", None, "anew")).await, Ok(4));
        assert_eq!(read(place, "a").await.as_deref(), Some("anew"));
    });
}

#[test]
fn what_was_removed_cannot_be_read_from_a_backup() {
    on_each(async |place| {
        let sealed = &place.store.sealed;
        for (id, body) in [("a", "one"), ("b", "two"), ("c", "three"), ("d", "four")] {
            sealed.put(document(id, None, body)).await.unwrap();
        }
        let ((a, _), (b, _)) = (in_table(place, "a").await, in_table(place, "b").await);
        for id in ["a", "b", "a"] {
            sealed.remove("p", "credential", id).await.unwrap();
        }
        for (id, body) in [("a", &a), ("b", &b)] {
            put_back(place, id, body, None).await;
            assert_eq!(read(place, id).await, None);
        }
        // They do not take up a page either.
        assert_eq!(listed(&**sealed).await, "c=three d=four ");
        place.store.upkeep.run().await.unwrap();
        assert_eq!(listed(&**sealed).await, "c=three d=four ");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_key_is_in_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("state.db").display());
    let store = open(&url, Settings::default()).await.unwrap();
    let key_of = || async {
        let found = store.registry.get("p", "sealed/credential", "a").await.unwrap().unwrap();
        let id = i64::from_be_bytes(*found.body.first_chunk().unwrap());
        let keys = Connection::open(folder.path().join("keys.db")).unwrap();
        let find = "SELECT wrapped FROM data_key WHERE id = ?1";
        keys.query_row(find, [id], |it| it.get::<_, Vec<u8>>(0)).unwrap()
    };
    store.sealed.put(document("a", None, "hunter2 and so on")).await.unwrap();
    let first = key_of().await;
    assert!(finds(folder.path(), &first) && !finds(folder.path(), b"hunter2"));
    store.sealed.put(document("a", Some(1), "hunter3 and so on")).await.unwrap();
    let second = key_of().await;
    assert!(!finds(folder.path(), &first) && finds(folder.path(), &second));
    store.sealed.remove("p", "credential", "a").await.unwrap();
    assert!(!finds(folder.path(), &second));
}
