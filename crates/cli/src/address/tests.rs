use super::Address;

#[test]
fn addresses() {
    let read = |text| Address::read(text).map(|it| (it.session, it.step));
    assert_eq!(read("@"), Some(("@".into(), None)));
    assert_eq!(read("@/1.3"), Some(("@".into(), Some("1.3".into()))));
    assert_eq!(read("ses_4kq7/2"), Some(("ses_4kq7".into(), Some("2".into()))));
    for wrong in ["", "ses_", "ses_A", "@/", "@/1.", "@/x", "invalid_json", "resp_1", "@/1.2.3"] {
        assert_eq!(read(wrong), None, "{wrong}");
    }
}
