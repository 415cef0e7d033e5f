//! Reports as the two runners write them.

use super::{Counts, count};

#[test]
fn nextest_report() {
    let report = r#"<testsuites name="nextest-run" tests="4">
    <testsuite name="store">
        <testcase name="a" classname="store"><system-out>
running 1 test
skipped: no &lt;recorded&gt; traffic
test a ... ok
</system-out><system-err></system-err></testcase>
        <testcase name="b" classname="store"><system-err>skipped: said on the other stream
</system-err></testcase>
        <testcase name="c" classname="store"><failure message="it panicked">...</failure>
            <system-out>skipped: said before it failed</system-out></testcase>
        <testcase name="d" classname="store"><system-out>nothing was skipped: fine</system-out></testcase>
    </testsuite></testsuites>"#;
    let (counts, skips) = count(report);
    assert_eq!(counts, Counts { passed: 1, failed: 1, skipped: 2 });
    assert_eq!(skips, ["a: no <recorded> traffic", "b: said on the other stream"]);
}

#[test]
fn pytest_report() {
    let report = r#"<testsuites><testsuite name="pytest" tests="3"><testcase classname="t" name="a" time="0" />
    <testcase classname="t" name="b"><skipped type="pytest.skip" message="not today">t.py:3: not today</skipped></testcase>
    <testcase classname="t" name="c"><failure message="assert 0">...</failure></testcase></testsuite></testsuites>"#;
    let (counts, skips) = count(report);
    assert_eq!(counts, Counts { passed: 1, failed: 1, skipped: 1 });
    assert_eq!(skips, ["b: not today"]);
}
