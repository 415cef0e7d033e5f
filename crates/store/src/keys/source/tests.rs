use super::*;

#[test]
fn a_key_is_read_in_both_spellings() {
    let key: [u8; 32] = std::array::from_fn(|n| n as u8 * 7);
    assert_eq!(key_of(&hex(&key)), Some(key));
    assert_eq!(key_of(&hex(&key).to_uppercase()), Some(key));
    assert_eq!(key_of("AAcOFRwjKjE4P0ZNVFtiaXB3foWMk5qhqK+2vcTL0tk="), Some(key));
    assert_eq!(key_of("AAcOFRwjKjE4P0ZNVFtiaXB3foWMk5qhqK+2vcTL0tk"), Some(key));
    for wrong in ["", "00", "AAcO", &"g".repeat(64), &"0".repeat(62)] {
        assert_eq!(key_of(wrong), None, "{wrong}");
    }
}

#[test]
fn a_file_is_made_once_and_kept_from_others() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("deep").join("master.key");
    let source = KeySource::File(path.clone());
    let wrapped = source.wrap(&[7; 32]).expect("made on first use");
    assert_eq!(source.unwrap(&wrapped), Ok([7; 32]));
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);

    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("ours");
    let said = source.unwrap(&wrapped).expect_err("others may read it");
    assert!(said.contains("can be read by others (mode 0640)"), "{said}");
    assert!(said.contains("chmod 600"), "{said}");

    fs::remove_file(&path).expect("ours");
    let said = source.unwrap(&wrapped).expect_err("it is gone");
    assert!(said.contains("is missing"), "{said}");
    assert!(!path.exists(), "a new key would open nothing");
}

#[test]
fn a_command_wraps_and_unwraps() {
    let dir = tempfile::tempdir().expect("a folder");
    let script = dir.path().join("kms");
    let text = "case $1 in wrap) printf 'sealed:'; cat;; unwrap) sed s/^sealed://;; esac\n";
    fs::write(&script, text).expect("ours");
    let source = KeySource::Command(format!("sh {}", script.display()));
    let wrapped = source.wrap(&[9; 32]).expect("it wraps");
    assert!(wrapped.starts_with(b"sealed:0909"));
    assert_eq!(source.unwrap(&wrapped), Ok([9; 32]));

    let source = KeySource::Command("echo no such key >&2; exit 3; true".to_owned());
    let said = source.unwrap(&wrapped).expect_err("it fails");
    assert!(said.contains("no such key"), "{said}");
}

#[test]
fn a_source_is_named_by_its_kind() {
    for (text, source) in [
        ("env:KEY", KeySource::Env("KEY".to_owned())),
        ("file:/etc/key", KeySource::File("/etc/key".into())),
        ("command:kms --key a:b", KeySource::Command("kms --key a:b".to_owned())),
    ] {
        assert_eq!(text.parse(), Ok(source));
    }
    for text in ["", "env:", "KEY", "vault:x", &"0".repeat(64)] {
        let refused = text.parse::<KeySource>().expect_err(text);
        assert!(!refused.contains("00"), "{refused}");
    }
}
