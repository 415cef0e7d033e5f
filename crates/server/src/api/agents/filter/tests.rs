//! What is read from a query, as the official clients write it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use super::*;

fn read(query: &str) -> Result<Filter> {
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    Filter::read(&pairs.into_owned().collect())
}

fn takes(query: &str, metadata: &[(&str, &str)]) -> bool {
    let metadata = metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    read(query).unwrap().takes(&metadata)
}

#[test]
fn all_pairs_have_to_fit() {
    let ours = [("team", "a b"), ("x", "")];
    for (query, taken) in [
        ("", true),
        ("metadata%5Bteam%5D=a%20b", true),
        ("metadata[team]=a+b&metadata[x]=", true),
        ("metadata[team]=a+b&metadata[y]=", false),
        ("metadata[team]=A+B", false),
        ("limit=3&order=asc&after=x", true),
    ] {
        assert_eq!(takes(query, &ours), taken, "{query}");
    }
}

#[test]
fn nothing_is_archived() {
    for (query, taken) in [
        ("status=active", true),
        ("status=archived", false),
        ("status[]=active&status[]=archived", true),
        ("status%5B%5D=archived", false),
    ] {
        assert_eq!(takes(query, &[]), taken, "{query}");
    }
}

#[test]
fn limits_are_kept() {
    let many: Vec<String> = (0..17).map(|n| format!("metadata[k{n}]=v")).collect();
    for (query, said) in [
        ("metadata[]=x".to_owned(), "Invalid 'metadata.': a key has 1 to 64 letters."),
        (
            "metadata[a]=x&metadata[a]=y".to_owned(),
            "Invalid 'metadata.a': it is asked for with two values, and has only one.",
        ),
        (many.join("&"), "Invalid 'metadata.k16': a list is narrowed by at most 16 pairs."),
        (
            format!("metadata[k]={}", "e".repeat(513)),
            "Invalid 'metadata.k': a value has at most 512 letters.",
        ),
        ("status=gone".to_owned(), "Invalid 'status': it is 'active' or 'archived', not 'gone'."),
    ] {
        assert_eq!(read(&query).unwrap_err().message(), said, "{query}");
    }
}
