use super::take;

#[test]
fn an_event_is_taken_when_it_is_whole() {
    let mut buffer = b": ping\n\nid: 4\ndata: {\"a\":1}\n\ndata: ha".to_vec();
    let told = std::iter::from_fn(|| take(&mut buffer)).map(|it| it.data);
    assert_eq!(told.collect::<Vec<_>>(), ["", "{\"a\":1}"]);
    assert_eq!(buffer, b"data: ha");
}
