//! One value at a time, rule by rule.

use super::*;

fn read(text: &str) -> Result<Value<'_>, Reason> {
    value(text.as_bytes(), None)
}

#[test]
fn the_type_decides_the_kind() {
    assert_eq!(read("3|c"), Ok(Value::Counter(3.0)));
    assert_eq!(read("3|ms"), Ok(Value::Timer { value: 3.0, weight: 1.0 }));
    assert_eq!(read("3|g"), Ok(Value::Gauge { value: 3.0, is_signed: false }));
    assert_eq!(read("x|s"), Ok(Value::Set(b"x")));
}

#[test]
fn an_unknown_type_is_a_counter() {
    for kind in ["", "C", "MS", "h", "d", "m", "kv", "S", "#x", "mss", "\u{fffd}"] {
        assert_eq!(read(&format!("13|{kind}")), Ok(Value::Counter(13.0)), "{kind}");
    }
}

#[test]
fn the_type_is_trimmed_after_it_was_checked() {
    assert_eq!(read("5|c\r"), Ok(Value::Counter(5.0)));
    assert_eq!(read("5| g\u{a0}"), Ok(Value::Gauge { value: 5.0, is_signed: false }));
    assert_eq!(read("5|ms\r"), Ok(Value::Timer { value: 5.0, weight: 1.0 }));
    assert_eq!(read("5|s\r"), Ok(Value::Set(b"5")));
    assert_eq!(read("Infinity|s\r"), Ok(Value::Set(b"Infinity")));
    assert_eq!(read("abc|s\r"), Err(Reason::Value));
    assert_eq!(read("|s\r"), Err(Reason::Syntax));
}

#[test]
fn a_value_needs_a_type() {
    assert_eq!(read(""), Err(Reason::Syntax));
    assert_eq!(read("1"), Err(Reason::Syntax));
    assert_eq!(read("1|"), Ok(Value::Counter(1.0)));
}

#[test]
fn a_value_must_be_a_number_but_for_sets() {
    for kind in ["c", "ms", "g", "", "h"] {
        assert_eq!(read(&format!("|{kind}")), Err(Reason::Syntax), "{kind}");
        assert_eq!(read(&format!("x|{kind}")), Err(Reason::Value), "{kind}");
        assert!(read(&format!(" |{kind}")).is_ok(), "{kind}");
    }
    assert_eq!(read("|s"), Ok(Value::Set(b"")));
}

#[test]
fn a_value_must_be_finite() {
    for text in ["Infinity|c", "-Infinity|g", "1e400|ms", "-Infinity|ms", "1|c|@1e-320"] {
        assert_eq!(read(text), Err(Reason::NotFinite), "{text}");
    }
    assert_eq!(read("0|c|@1e-320"), Err(Reason::NotFinite));
    assert_eq!(read("1|ms|@1e-320"), Err(Reason::NotFinite));
    assert_eq!(read("1e308|c|@0.1"), Err(Reason::NotFinite));
    assert_eq!(read("1|g|@1e-320"), Ok(Value::Gauge { value: 1.0, is_signed: false }));
    assert_eq!(read("x|s|@1e-320"), Ok(Value::Set(b"x")));
}

#[test]
fn a_time_is_not_negative() {
    assert_eq!(read("-1|ms"), Err(Reason::Value));
    assert_eq!(read("-1|ms\r"), Err(Reason::Value));
    assert_eq!(read("-0.001|ms"), Err(Reason::Value));
    assert_eq!(read("-0|ms"), Ok(Value::Timer { value: -0.0, weight: 1.0 }));
}

#[test]
fn a_gauge_is_signed_by_its_first_character() {
    assert_eq!(read("+5|g"), Ok(Value::Gauge { value: 5.0, is_signed: true }));
    assert_eq!(read("-5|g"), Ok(Value::Gauge { value: -5.0, is_signed: true }));
    assert_eq!(read(" -5|g"), Ok(Value::Gauge { value: -5.0, is_signed: false }));
}

#[test]
fn the_rate_is_applied_as_its_reciprocal() {
    assert_eq!(read("17|c|@0.7"), Ok(Value::Counter(24.285_714_285_714_285)));
    assert_eq!(read("49|c|@0.9"), Ok(Value::Counter(54.444_444_444_444_45)));
    assert_eq!(read("1|c|@2"), Ok(Value::Counter(0.5)));
    assert_eq!(read("3|ms|@0.5"), Ok(Value::Timer { value: 3.0, weight: 2.0 }));
    assert_eq!(read("3|g|@0.5"), Ok(Value::Gauge { value: 3.0, is_signed: false }));
    assert_eq!(read("3|c|@0.5\r"), Ok(Value::Counter(6.0)));
}

#[test]
fn the_true_number_of_a_rate_is_used() {
    assert_eq!(read("1|c|@1e-1"), Ok(Value::Counter(10.0)));
    assert_eq!(read("1|c|@5e-1"), Ok(Value::Counter(2.0)));
    assert_eq!(read("1|c|@0x10"), Ok(Value::Counter(0.0625)));
    assert_eq!(read("1|c|@.5"), Ok(Value::Counter(2.0)));
}

#[test]
fn a_rate_that_is_no_positive_number_is_refused() {
    for rate in [
        "", "x", "-1", "-0.1", "0", "0.0", "0e5", "0.1x", "0.1.1", ".", " 0.1", "+0.1", "Infinity",
        "\t", "1e400", "1e-400", "-0", "NaN", "\u{a0}1",
    ] {
        for kind in ["c", "ms", "g", "s"] {
            let text = format!("1|{kind}|@{rate}");
            assert_eq!(read(&text), Err(Reason::Rate), "{text}");
        }
    }
}

#[test]
fn the_third_field_must_be_a_rate_and_the_rest_is_ignored() {
    for text in ["1|c|", "1|c|0.1", "1|c||@0.1", "13||", "1|s|", "1|c|T5"] {
        assert_eq!(read(text), Err(Reason::Syntax), "{text}");
    }
    assert_eq!(read("2|c|@0.5|@0.1"), Ok(Value::Counter(4.0)));
    assert_eq!(read("2|c|@0.5|"), Ok(Value::Counter(4.0)));
    assert_eq!(read("5|g|@1|x|y"), Ok(Value::Gauge { value: 5.0, is_signed: false }));
}

#[test]
fn a_rate_of_its_own_goes_before_the_one_behind_the_tags() {
    assert_eq!(value(b"1|c", Some(Ok(4.0))), Ok(Value::Counter(4.0)));
    assert_eq!(value(b"1|c|@0.5", Some(Ok(4.0))), Ok(Value::Counter(2.0)));
    assert_eq!(value(b"1|c", Some(Err(Reason::Rate))), Err(Reason::Rate));
    assert_eq!(value(b"1|c|@0.5", Some(Err(Reason::Rate))), Ok(Value::Counter(2.0)));
    assert_eq!(value(b"1", Some(Err(Reason::Rate))), Err(Reason::Syntax));
}
