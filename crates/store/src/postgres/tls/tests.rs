use super::*;

#[test]
fn modes_mean_what_they_mean_elsewhere() {
    for (url, left, check) in [
        ("postgres://h/d", "postgres://h/d", Check::Nothing),
        ("postgres://h/d?sslmode=require", "postgres://h/d?sslmode=require", Check::Nothing),
        ("postgres://h/d?a=b&sslmode=verify-full", "postgres://h/d?a=b", Check::System),
        (
            "postgres://h/d?sslrootcert=%2Fca.pem&sslmode=verify-ca",
            "postgres://h/d?",
            Check::Roots("/ca.pem".to_owned()),
        ),
    ] {
        assert_eq!(take_options(url), Ok((left.to_owned(), check)), "{url}");
    }
    assert!(take_options("postgres://h/d?sslrootcert=x&sslmode=require").is_err());
}
