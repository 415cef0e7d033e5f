//! What a long session takes on disk, before and after its history is packed.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use everstate_kernel::input::Input;

use crate::Around;
use crate::figures::{kib, table};
use crate::world::{self, Hands, Runner, Says};

const MESSAGE: usize = 1_024;

pub(crate) fn run(around: &Around) -> String {
    let turns = if around.quick { 5 } else { 200 };
    let mut rows = Vec::new();
    for (words, says, resumable) in [
        ("prose", Says::Text(MESSAGE), false),
        ("prose, stream kept", Says::Text(MESSAGE), true),
        ("noise", Says::Noise(MESSAGE), false),
        ("noise, stream kept", Says::Noise(MESSAGE), true),
    ] {
        let folder = around.folder.join(words);
        fs::create_dir_all(&folder).unwrap();
        let say = match says {
            Says::Noise(_) => world::noise,
            _ => world::text,
        };
        let sizes = crate::runtime().block_on(measure(&folder, &says, say, turns, resumable));
        let payload = (2 * turns + 1) * MESSAGE as u64;
        let ratio = |bytes: u64| format!("{:.2}", bytes as f64 / payload as f64);
        let Sizes { empty, before, packed } = sizes;
        rows.push(vec![
            words.to_owned(),
            kib(payload),
            kib(empty),
            kib(before),
            ratio(before),
            kib(packed),
            ratio(packed),
            ratio(packed.saturating_sub(empty)),
        ]);
    }
    let head = [
        "messages",
        "payload KiB",
        "empty store KiB",
        "before KiB",
        "ratio",
        "after KiB",
        "ratio",
        "without the empty store",
    ];
    format!(
        "One session of 401 messages of 1 KiB: 200 turns, and one message more at the beginning. All files of the \
         store: state, keys, blobs; the write-ahead log is moved into place first. Prose is made of words and \
         compresses to about a third; noise is random letters, which compress to three quarters. *Stream kept*: what \
         clients were shown is kept so that they can resume it, until it is packed.\n\n{}\n",
        table(&head, &rows)
    )
}

struct Sizes {
    empty: u64,
    before: u64,
    packed: u64,
}

async fn measure(
    folder: &Path,
    says: &Says,
    say: fn(u64, usize) -> String,
    turns: u64,
    resumable: bool,
) -> Sizes {
    let store = world::store(folder).await;
    let hands = Arc::new(Hands::default());
    let host = world::host(&store, &[("model", says.clone())], hands).await;
    store.upkeep.compact().await.unwrap();
    let empty = size(folder);
    let id = world::session(1);
    for turn in 0..turns {
        let said = say(1 << 40 | turn, MESSAGE);
        let mut begin = world::begin("model", said, Runner::Client, resumable);
        let mut inputs = Vec::new();
        if turn == 0 {
            begin.items.push(world::message(say(1 << 41, MESSAGE)));
            inputs.push(world::create(id));
        }
        inputs.push(Input::Begin(begin));
        world::feed(&host, id, inputs).await;
        world::quiet(&host).await;
    }
    store.upkeep.compact().await.unwrap();
    let before = size(folder);
    let head = store.log.head(id).await.unwrap().unwrap();
    store.log.roll_up(id, head.seq).await.unwrap();
    store.upkeep.compact().await.unwrap();
    let packed = size(folder);
    assert_eq!(store.log.verify(id).await.unwrap().broken, None);
    Sizes { empty, before, packed }
}

/// Of everything below the folder.
fn size(folder: &Path) -> u64 {
    let of = |entry: fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true => size(&entry.path()),
        false => entry.metadata().unwrap().len(),
    };
    fs::read_dir(folder).unwrap().map(|it| of(it.unwrap())).sum()
}
