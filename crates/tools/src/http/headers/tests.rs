use std::collections::BTreeMap;

use everstate_runtime::secret::SecretMissing;
use secrecy::SecretString;

use super::read;

#[test]
fn secrets_are_references() {
    let check = |name: &str, value: &str, expected: Result<&str, &str>| {
        let headers = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let read = read(&headers, &|it| match it.to_string().as_str() {
            "env:GONE" => Err(SecretMissing("`GONE` is not set".to_owned())),
            name => Ok(SecretString::from(format!("<{name}>"))),
        });
        match (read, expected) {
            (Ok(read), Ok(expected)) => {
                let all = read.plain.get(name).or(read.credentials.get(name));
                assert_eq!(all.expect(name).to_str().expect("text"), expected);
                assert!(!format!("{read:?}").contains("<env:"), "{read:?}");
            }
            (Err(wrong), Err(expected)) => {
                assert!(wrong.contains(expected), "{wrong}");
                assert!(!wrong.contains("sk-1234"), "{wrong}");
            }
            (read, _) => panic!("{name}: {value}: {read:?}"),
        }
    };
    check("authorization", "env:BANK", Ok("<env:BANK>"));
    check("authorization", "Bearer env:BANK", Ok("Bearer <env:BANK>"));
    check("x-bank-token", "file:/run/bank", Ok("<file:/run/bank>"));
    check("x-region", "eu", Ok("eu"));
    check("x-note", "see: env:BANK", Ok("see: env:BANK"));
    check("authorization", "Bearer sk-1234", Err("write `env:NAME`"));
    check("x-api-key", "sk-1234", Err("write `env:NAME`"));
    check("Cookie", "sk-1234", Err("write `env:NAME`"));
    check("key", "sk-1234", Err("write `env:NAME`"));
    check("authorization", "vault:bank", Err("not available yet"));
    check("authorization", "env:", Err("needs the name"));
    check("authorization", "env:GONE", Err("`GONE` is not set"));
    check("Idempotency-Key", "1", Err("set by everstate itself"));
    check("Host", "bank.example", Err("set by everstate itself"));
    check("a b", "1", Err("no name of a header"));
    check("x-note", "a\nb", Err("no header may have"));
}
