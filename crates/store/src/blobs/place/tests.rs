use std::path::Path;

use expect_test::{Expect, expect};

use super::*;

fn none(_: &str) -> Option<String> {
    None
}

fn check(text: &str, expected: Expect) {
    check_with(text, &none, expected);
}

fn check_with(text: &str, env: &dyn Fn(&str) -> Option<String>, expected: Expect) {
    let told = match Place::from_url(text, Path::new("/home"), env) {
        Ok(place) => match place.kind {
            Kind::Folder(_) => format!("folder {place}"),
            Kind::Bucket { .. } => {
                place.open().expect("it can be built");
                format!("bucket {place}")
            }
        },
        Err(bad) => format!("bad: {bad}"),
    };
    assert!(!told.contains("hush"), "{told}");
    expected.assert_eq(&told);
}

#[test]
fn folders_are_relative_to_where_they_were_named() {
    check("blobs", expect!["folder /home/blobs"]);
    check("file:blobs", expect!["folder /home/blobs"]);
    check("file:///var/blobs", expect!["folder /var/blobs"]);
    check("/var/blobs", expect!["folder /var/blobs"]);
    check("", expect!["bad: blobs need a place; try a folder, or `s3://BUCKET/PREFIX`"]);
    check(
        "gs://hush/blobs",
        expect!["bad: blobs cannot live at such a URL; try a folder, or `s3://BUCKET/PREFIX`"],
    );
}

#[test]
fn buckets_say_where_they_are() {
    check("s3://ours", expect!["bucket s3://ours"]);
    check("s3://ours/a/b/", expect!["bucket s3://ours/a/b"]);
    check("s3://ours/a?region=eu-central-1", expect!["bucket s3://ours/a in eu-central-1"]);
    check(
        "s3://ours/a?endpoint=https://s3.example.com&path_style=false&timeout_s=3&retries_max=1",
        expect!["bucket s3://ours/a at https://s3.example.com"],
    );
    let env = |name: &str| match name {
        "AWS_ENDPOINT_URL" => Some("http://other:9000".to_owned()),
        "AWS_ENDPOINT_URL_S3" => Some("http://minio:9000".to_owned()),
        "AWS_ALLOW_HTTP" => Some("true".to_owned()),
        "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("hush".to_owned()),
        _ => None,
    };
    check_with("s3://ours/a", &env, expect!["bucket s3://ours/a at http://minio:9000"]);
    check_with(
        "s3://ours/a?allow_http=false",
        &env,
        expect![[
            "bad: the endpoint of the bucket speaks plain http; where nobody else can listen, allow it with `?allow_http=true` or AWS_ALLOW_HTTP=true"
        ]],
    );
}

#[test]
fn what_is_wrong_is_told_and_no_secret_with_it() {
    check("s3://", expect!["bad: `s3://` needs a bucket: s3://BUCKET/PREFIX"]);
    check(
        "s3://me:hush@ours/a",
        expect![[
            "bad: the URL of a bucket holds no credentials and no port: give the credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the server in `?endpoint=URL`"
        ]],
    );
    check(
        "s3://ours?secret_access_key=hush",
        expect![[
            "bad: credentials do not belong into a URL: give them in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ]],
    );
    check(
        "s3://ours?endpoint=https://me:hush@host",
        expect![[
            "bad: the endpoint of a bucket holds no credentials: give them in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ]],
    );
    check(
        "s3://ours?endpoint=host:9000",
        expect!["bad: the endpoint of a bucket is a URL: https://HOST or https://HOST:PORT"],
    );
    check(
        "s3://ours?style=path",
        expect![[
            "bad: `style` is no option of a bucket; there are: endpoint, region, path_style, allow_http, timeout_s, retries_max"
        ]],
    );
    check("s3://ours?allow_http=maybe", expect!["bad: `allow_http` is `true` or `false`"]);
    check("s3://ours?timeout_s=soon", expect!["bad: `timeout_s` is a whole number up to 3600"]);
}

#[test]
fn debug_shows_no_secret() {
    let env = |_: &str| Some("true".to_owned());
    let secret = |name: &str| match name {
        "AWS_SECRET_ACCESS_KEY" => Some("hush".to_owned()),
        "AWS_ACCESS_KEY_ID" => Some("key".to_owned()),
        _ => None,
    };
    let place = Place::from_url("s3://ours", Path::new("/"), &secret).expect("it is fine");
    assert_eq!(format!("{place:?}"), "Place(s3://ours)");
    assert!(Place::from_url("s3://ours", Path::new("/"), &env).is_err());
}
