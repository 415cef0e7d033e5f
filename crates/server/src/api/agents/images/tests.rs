use super::inside;

#[test]
fn only_addresses_outside_are_passed_on() {
    for fine in [
        "https://example.com/a.png",
        "https://93.184.216.34/a.png",
        "https://[2606:2800:220:1:248:1893:25c8:1946]/a.png",
        "data:image/png;base64,QUJD",
    ] {
        assert_eq!(inside(fine), None, "{fine}");
    }
    for bad in [
        "https://127.0.0.1/a.png",
        "https://2130706433/a.png",
        "https://0x7f.1/a.png",
        "https://[::1]/a.png",
        "https://[::ffff:10.0.0.1]/a.png",
        "https://169.254.169.254/latest/meta-data",
        "https://10.1.2.3/",
        "https://localhost/",
        "https://db.localhost./",
        "https://metadata.google.internal/",
        "https://intranet/",
        "https://user:password@example.com/",
        "https://",
    ] {
        assert!(inside(bad).is_some(), "{bad}");
    }
}
