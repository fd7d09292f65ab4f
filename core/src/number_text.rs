//! Numbers as text, exactly as JavaScript prints them.
//!
//! Used where a value leaves as text: Carbon lines and `query`. Dashboards and scripts have seen
//! the reference daemon's text for years, so ours is the same: shortest round-trip
//! digits, plain decimals for 1e-6 <= |x| < 1e21, integers without `.0`, negative zero as `0`,
//! `NaN` and `Infinity` as words.
//!
//! Three printers share the work, the fastest that gives JavaScript's text in its range each:
//! integers below 2^53 by itoa, ordinary fractions by zmij, everything else by `ryu_js`. A property
//! test holds all of them against `ryu_js`. This module does not refuse what Carbon cannot take:
//! that is the output buffer's business.

/// Every integral double below this magnitude is exact and prints as an integer: 2^53.
const INTEGER_LIMIT: f64 = 9_007_199_254_740_992.0;

/// Fractions from here ...
const PLAIN_MIN: f64 = 1e-5;
/// ... up to here are printed by zmij without an exponent, as JavaScript does.
const PLAIN_LIMIT: f64 = 1e15;

/// Appends `value` to `out` as JavaScript's `String(value)` would print it.
///
/// # Cost
/// No allocation beyond the growth of `out`; at most 25 bytes are appended.
#[inline]
pub fn push_number(out: &mut Vec<u8>, value: f64) {
    let magnitude = value.abs();
    if magnitude < INTEGER_LIMIT {
        #[expect(clippy::cast_possible_truncation, reason = "below 2^53 every integer fits")]
        let integer = value as i64;
        #[expect(clippy::cast_precision_loss, reason = "below 2^53 every integer is exact")]
        let is_integral = integer as f64 == value;
        if is_integral {
            // Negative zero becomes the integer 0 on the way, which is JavaScript's text for it.
            out.extend_from_slice(itoa::Buffer::new().format(integer).as_bytes());
            return;
        }
        if (PLAIN_MIN..PLAIN_LIMIT).contains(&magnitude) {
            out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
            return;
        }
    }
    out.extend_from_slice(ryu_js::Buffer::new().format(value).as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::push_number;

    fn text(value: f64) -> String {
        let mut out = Vec::new();
        push_number(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_print_as_javascript_prints_them() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-3.0, "-3"),
            (0.5, "0.5"),
            (1.428_571_428_571_428_6, "1.4285714285714286"),
            (74.825_336_000_000_01, "74.82533600000001"),
            (0.000_01, "0.00001"),
            (0.000_001, "0.000001"),
            (0.000_000_1, "1e-7"),
            (9_007_199_254_740_991.0, "9007199254740991"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (1e15, "1000000000000000"),
            (999_999_999_999_999.9, "999999999999999.9"),
            (1_000_000_000_000_000.1, "1000000000000000.1"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (-1.5e300, "-1.5e+300"),
            (5e-324, "5e-324"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(text(value), expected);
        }
    }

    #[test]
    fn edges_of_the_three_printers_agree_with_ryu_js() {
        for edge in [1e-7, 1e-6, 1e-5, 1.0, 1e14, 1e15, 1e16, 9_007_199_254_740_992.0, 1e21] {
            let mut value = f64::from_bits(f64::to_bits(edge) - 64);
            for _ in 0..128 {
                assert_eq!(text(value), reference(value), "{value:e}");
                value = value.next_up();
            }
        }
    }

    fn reference(value: f64) -> String {
        ryu_js::Buffer::new().format(value).to_owned()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        #[test]
        fn any_bits_print_as_ryu_js_prints_them(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assert_eq!(text(value), reference(value));
        }

        #[test]
        fn ordinary_fractions_print_as_ryu_js_prints_them(
            mantissa in any::<i64>(),
            exponent in 0_i32..30,
        ) {
            #[expect(clippy::cast_precision_loss, reason = "any double will do")]
            let value = mantissa as f64 / 10_f64.powi(exponent);
            prop_assert_eq!(text(value), reference(value));
        }
    }
}
