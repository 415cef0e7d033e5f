//! What is no name is found nowhere and kept nowhere, in every store alike, and its neighbours do not notice.

use std::time::{Duration, Instant};

use bytes::Bytes;
use everstate_kernel::ids::SessionId;
use everstate_runtime::ports::{AppendError, NewRow, PostOutcome, Put, PutError, RowKind};

use crate::stores::{Owner, on_each, verified};

/// It is known at once that it cannot be: nobody tries again.
const AT_ONCE: Duration = Duration::from_secs(2);

fn put(project: &str, kind: &str, id: &str) -> Put {
    Put {
        project: project.to_owned(),
        kind: kind.to_owned(),
        id: id.to_owned(),
        expect: None,
        body: Bytes::from_static(b"x"),
        now: 1,
        expires_at: None,
    }
}

#[test]
fn what_is_no_name_is_refused() {
    let long = "x".repeat(4_000);
    let longest = "x".repeat(512);
    on_each(async |place| {
        let (registry, log) = (&place.store.registry, place.log());
        let began = Instant::now();
        for bad in ["a\0b", long.as_str()] {
            for (project, kind, id) in [(bad, "k", "i"), ("p", bad, "i"), ("p", "k", bad)] {
                assert_eq!(registry.get(project, kind, id).await, Ok(None));
                assert_eq!(registry.remove(project, kind, id).await, Ok(()));
                let refused = registry.put(put(project, kind, id)).await;
                assert!(
                    matches!(&refused, Err(PutError::Down(why)) if why.0.starts_with("not a name")),
                    "{refused:?}"
                );
            }
            assert_eq!(registry.documents(bad, "k", None, 9).await, Ok(Vec::new()));
            assert_eq!(log.list(bad, None, 9).await, Ok(Vec::new()));

            let mut owner = Owner::new(7);
            let row = owner.row(RowKind::Events, b"x");
            let session = owner.session;
            assert_eq!(log.seen(session, bad).await, Ok(None));
            assert_eq!(log.outcome(session, bad).await, Ok(None));
            let (keyed, consumed) = (Some(bad.to_owned()), vec![bad.to_owned()]);
            for row in [
                NewRow { key: keyed.clone(), ..row.clone() },
                NewRow { consumed: consumed.clone(), ..row.clone() },
            ] {
                let refused = owner.try_append(log, row).await;
                assert!(
                    matches!(&refused, Err(AppendError::Down(why)) if why.0.starts_with("not a name")),
                    "{refused:?}"
                );
            }
            assert!(log.post(session, bad, Bytes::from_static(b"x")).await.is_err());
            assert!(log.settle(session, bad, PostOutcome::Landed(1)).await.is_err());
            assert_eq!(log.head(session).await, Ok(None));
        }
        assert!(began.elapsed() < AT_ONCE, "it took {:?}", began.elapsed());

        // The longest there is.
        assert_eq!(registry.put(put(&longest, &longest, &longest)).await, Ok(1));
        let mut owner = Owner::new(8);
        log.post(SessionId(8), &longest, Bytes::from_static(b"x")).await.unwrap();
        let row = owner.row(RowKind::Events, b"x");
        let row = NewRow { key: Some(longest.clone()), consumed: vec![longest.clone()], ..row };
        assert_eq!(owner.try_append(log, row).await, Ok(1));
        assert_eq!(log.seen(owner.session, &longest).await, Ok(Some(1)));
        assert_eq!(log.outcome(owner.session, &longest).await, Ok(Some(PostOutcome::Landed(1))));
        assert_eq!(verified(log, owner.session).await, "rows 1, erased 0, head 1");
    });
}
