use everstate_runtime::ports::Head;

use super::*;

const SESSION: SessionId = SessionId(7);

/// A chain of rows; every third is a frame.
fn rows(n: u64) -> Vec<Packed> {
    let mut head = Head::default();
    let row = |seq| {
        let kind = if seq % 3 == 0 { RowKind::Frame } else { RowKind::Events };
        let header =
            Header { seq, kind, version: 1, at: seq, prev: head.hash, mac: [seq as u8; 32] };
        head = header.head(SESSION);
        let salt = (seq % 5 != 0).then_some([9; 32]);
        let kept = if seq == 1 { vec![[9; 32], [8; 32]] } else { Vec::new() };
        let content =
            Content { salt, body: seq.to_string().into_bytes(), in_blob: seq % 7 == 0, kept };
        Packed { header, content }
    };
    (1..=n).map(row).collect()
}

#[test]
fn what_was_packed_comes_out_but_for_frames() {
    let rows = rows(4_000);
    let pieces = pack(SESSION, (1, 4_000), Hash::default(), &rows);
    let ends: Vec<(Seq, Seq)> = pieces.iter().map(|it| (it.from, it.to)).collect();
    assert_eq!(ends, [(1, 1_500), (1_501, 3_000), (3_001, 4_000)]);
    let unpacked: Vec<Packed> =
        pieces.iter().flat_map(|it| unpack(SESSION, &it.text).expect("just packed")).collect();
    let events: Vec<Packed> =
        rows.iter().filter(|it| it.header.kind == RowKind::Events).cloned().collect();
    assert!(unpacked == events);
    let last = events.last().expect("there are some").header.hash(SESSION);
    assert_eq!(pieces[2].hash, last);
}

#[test]
fn a_text_that_is_cut_is_no_segment() {
    let text = &pack(SESSION, (1, 9), Hash::default(), &rows(9))[0].text;
    for len in 0..text.len() {
        let cut = unpack(SESSION, &text[..len]);
        assert!(cut.is_none_or(|rows| rows.len() < 6), "cut at {len}");
    }
    assert_eq!(unpack(SESSION, &[7, 0, 0]), None);
}
