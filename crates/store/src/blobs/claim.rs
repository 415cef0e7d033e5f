//! Whose a place is. Objects that an installation does not know, it removes: two of them in one place would remove
//! each other's. So the place holds the name of its owner, and everybody else is refused.

use everstate_runtime::ports::{Down, Put};
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, PutMode, PutPayload};

use crate::blobs::Blobs;
use crate::blobs::trouble::{is_absent, told};
use crate::seal::random;
use crate::shelf::{Change, Shelf, Wrote};

/// The object that holds the name.
const OWNER: &str = "owner";
/// The document that holds it in the store.
const KIND: &str = "blobs";

/// The place works, and is of the installation that this shelf belongs to: it is made so if it was nobody's.
pub(crate) async fn claim(blobs: &Blobs, shelf: &dyn Shelf, now: u64) -> Result<(), Down> {
    blobs.probe().await?;
    let ours = name(shelf, now).await?;
    let cannot = |err: &Error| Down(format!("cannot use {}: {}", blobs.place, told(err)));
    let path = Path::from(OWNER);
    for _ in 0..2 {
        match blobs.objects.get(&path).await {
            Ok(got) => {
                let theirs = got.bytes().await.map_err(|err| cannot(&err))?;
                if theirs == ours.as_bytes() {
                    return Ok(());
                }
                return Err(Down(format!(
                    "the blobs in {} are another installation's, and each would remove the other's; \
                     use another prefix",
                    blobs.place
                )));
            }
            Err(err) if is_absent(&err) => {}
            Err(err) => return Err(cannot(&err)),
        }
        let payload = PutPayload::from(ours.clone());
        match blobs.objects.put_opts(&path, payload.clone(), PutMode::Create.into()).await {
            // Read again: a server that knows no conditions may have let two of them through.
            Ok(_) | Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
            Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
                blobs.objects.put(&path, payload).await.map_err(|err| cannot(&err))?;
            }
            Err(err) => return Err(cannot(&err)),
        }
    }
    Err(Down(format!("cannot use {}: an object just written there is gone", blobs.place)))
}

/// Drawn once in the life of a store.
async fn name(shelf: &dyn Shelf, now: u64) -> Result<String, Down> {
    let id: [u8; 16] = random();
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let put = Put {
        project: String::new(),
        kind: KIND.to_owned(),
        id: OWNER.to_owned(),
        expect: None,
        body: id.clone().into(),
        now,
        expires_at: None,
    };
    let there = match shelf.document("", KIND, OWNER).await? {
        Some(there) => there,
        None => match shelf.write(Change::PutDocument(put), None).await? {
            Wrote::Conflict(Some(there)) => there,
            Wrote::Revision(_) => return Ok(id),
            other => return Err(Down(format!("a document became {other:?}"))),
        },
    };
    String::from_utf8(there.body.to_vec())
        .map_err(|_| Down("the name of the blobs' owner is damaged".to_owned()))
}

/// Is it time for `what`, and is it this node that does it? Who writes it down, does.
pub(crate) async fn is_my_turn(
    shelf: &dyn Shelf,
    what: &str,
    now: u64,
    every_ms: u64,
) -> Result<bool, Down> {
    let last = shelf.document("", KIND, what).await?;
    if last.as_ref().is_some_and(|it| it.updated_at <= now && now - it.updated_at < every_ms) {
        return Ok(false);
    }
    let put = Put {
        project: String::new(),
        kind: KIND.to_owned(),
        id: what.to_owned(),
        expect: last.map(|it| it.revision),
        body: Vec::new().into(),
        now,
        expires_at: None,
    };
    Ok(matches!(shelf.write(Change::PutDocument(put), None).await?, Wrote::Revision(_)))
}
