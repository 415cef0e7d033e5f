use secrecy::ExposeSecret;

use super::{BadSecretRef, SecretRef};

#[test]
fn references_are_read() {
    let check = |text: &str, expected: Result<SecretRef, BadSecretRef>| {
        assert_eq!(text.parse::<SecretRef>(), expected, "{text}");
        if let Ok(read) = expected {
            assert_eq!(read.to_string(), text);
        }
    };
    check("env:BANK_TOKEN", Ok(SecretRef::Env("BANK_TOKEN".to_owned())));
    check("file:/run/secrets/bank", Ok(SecretRef::File("/run/secrets/bank".into())));
    check("env:", Err(BadSecretRef::NoName));
    check("env: BANK", Err(BadSecretRef::NoName));
    check("file:", Err(BadSecretRef::NoPath));
    check("vault:bank", Err(BadSecretRef::NotYet));
    check("sk-very-secret", Err(BadSecretRef::Literal));
    check("", Err(BadSecretRef::Literal));
}

#[test]
fn a_refused_literal_is_not_repeated() {
    let refused = "sk-very-secret".parse::<SecretRef>().expect_err("a literal");
    assert!(!format!("{refused} {refused:?}").contains("sk-very"));
}

#[test]
fn secrets_are_read_where_the_reference_points() {
    let env = SecretRef::Env("BANK".to_owned());
    let found = env.resolve_with(|name| Some(format!("value of {name}"))).expect("it is set");
    assert_eq!(found.expose_secret(), "value of BANK");
    assert!(env.resolve_with(|_| None).is_err());
    assert!(env.resolve_with(|_| Some(String::new())).is_err());

    let path = std::env::temp_dir().join(format!("everstate-secret-{}", std::process::id()));
    let file = SecretRef::File(path.clone());
    assert!(file.resolve().is_err());
    std::fs::write(&path, "from a file\r\n").expect("the temporary directory takes files");
    let found = file.resolve().expect("it is there");
    std::fs::remove_file(&path).expect("we wrote it");
    assert_eq!(found.expose_secret(), "from a file");
}
