use percent_encoding::percent_decode_str;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::Template;

#[test]
fn what_is_no_template_is_refused() {
    let check = |text: &str, expected: &str| {
        let wrong = Template::parse(text).expect_err(text);
        assert!(wrong.contains(expected), "{text}: {wrong}");
    };
    check("bank.example/refunds", "needs a scheme");
    check("ftp://bank.example/", "only https or http");
    check("{scheme}://bank.example/", "only https or http");
    check("https://{host}/refunds", "host or port");
    check("https://bank.example:{port}/", "host or port");
    check("https://me:secret@bank.example/", "use a header");
    check("https:///refunds", "host");
    check("https://bank.example/a/../b", "segment `..`");
    check("https://bank.example/a/%2e%2E/b", "segment `%2e%2E`");
    check("https://bank.example/a\\b", "`\\`");
    check("https://bank.example/a#b", "`#`");
    check("https://bank.example/{order", "not closed");
    check("https://bank.example/order}", "no `{`");
    check("https://bank.example/{}", "names no argument");
    check("https://bank.example/?{name}=1", "not its name");
}

#[test]
fn arguments_fill_it_and_stay_where_they_are_put() {
    let check = |template: &str, arguments: Value, expected: Result<&str, &str>| {
        let template = Template::parse(template).expect(template);
        let filled = template.fill(arguments.as_object().expect("an object"));
        match (filled, expected) {
            (Ok(url), Ok(expected)) => assert_eq!(url.as_str(), expected),
            (Err(wrong), Err(expected)) => assert!(wrong.0.contains(expected), "{wrong}"),
            (filled, _) => panic!("{arguments}: {filled:?}"),
        }
    };
    let refunds = "https://bank.example/refunds/{order}";
    let ok = |text| Ok(text);
    check(refunds, json!({"order": "A 7-ß"}), ok("https://bank.example/refunds/A%207-%C3%9F"));
    check(refunds, json!({"order": 42}), ok("https://bank.example/refunds/42"));
    check(
        refunds,
        json!({"order": "a?b#c&d=e;f@g:h%2e"}),
        ok("https://bank.example/refunds/a%3Fb%23c%26d%3De%3Bf%40g%3Ah%252e"),
    );
    check(refunds, json!({"order": "..."}), ok("https://bank.example/refunds/..."));
    check(refunds, json!({"order": "%2e%2e"}), ok("https://bank.example/refunds/%252e%252e"));
    check(refunds, json!({"order": ".."}), Err("may not be `.` or `..`"));
    check(refunds, json!({"order": "."}), Err("may not be `.` or `..`"));
    check(refunds, json!({"order": "a/b"}), Err("contain `/`"));
    check(refunds, json!({"order": "..\\b"}), Err("contain `/`"));
    check(refunds, json!({"order": "a\r\nb"}), Err("control"));
    check(refunds, json!({"order": ""}), Err("empty"));
    check(refunds, json!({}), Err("missing"));
    check(refunds, json!({"order": {"a": 1}}), Err("must be text"));
    check(refunds, json!({"order": null}), Err("must be text"));
    check("https://bank.example/.{a}/x", json!({"a": "."}), Err("may not be"));
    check("https://bank.example", json!({}), ok("https://bank.example/"));
    check("http://[::1]:8080/a//b/", json!({}), ok("http://[::1]:8080/a//b/"));

    let search = "https://bank.example/search?kind=all&q={q}&lang={lang}";
    check(
        search,
        json!({"q": "a&kind=none#x/../y", "lang": true}),
        ok("https://bank.example/search?kind=all&q=a%26kind%3Dnone%23x%2F..%2Fy&lang=true"),
    );
    check(search, json!({"q": ""}), ok("https://bank.example/search?kind=all&q="));
}

#[test]
fn it_knows_its_arguments() {
    let template = Template::parse("https://a.example/{x}/y-{z}?fixed=1&q={q}").expect("valid");
    assert_eq!(template.names().collect::<Vec<_>>(), ["x", "z", "q"]);
    assert_eq!(template.in_path().collect::<Vec<_>>(), ["x", "z"]);
    assert!(template.sets("fixed") && template.sets("q") && !template.sets("x"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_argument_changes_where_it_goes(
        order in prop_oneof![any::<String>(), "[./\\\\%2eEfF?#@:&;a]{0,8}"],
        query in any::<String>(),
    ) {
        let template = "https://bank.example:8443/refunds/{order}/pay?a=1&q={q}";
        let template = Template::parse(template).expect("valid");
        let arguments = json!({"order": order, "q": query});
        if let Ok(url) = template.fill(arguments.as_object().expect("an object")) {
            prop_assert_eq!(url.origin().ascii_serialization(), "https://bank.example:8443");
            let path: Vec<String> = url
                .path_segments()
                .expect("it has a path")
                .map(|it| percent_decode_str(it).decode_utf8_lossy().into_owned())
                .collect();
            prop_assert_eq!(path, ["refunds", order.as_str(), "pay"]);
            let pairs: Vec<_> = url.query_pairs().collect();
            prop_assert_eq!(pairs, [("a".into(), "1".into()), ("q".into(), query.as_str().into())]);
            prop_assert_eq!(url.fragment(), None);
        }
    }
}
