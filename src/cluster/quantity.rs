//! Kubernetes quantities: `250m`, `1.5Gi`, `12e6`.
//!
//! The figures sent to the server must be those of `kubectl describe` and the scheduler, so a quantity
//! is read as Kubernetes reads it: exactly, without floating point, rounded up (away from zero) to the
//! wanted unit, and stopped at the ends of a 64-bit integer. See
//! [Quantity](https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/).

/// Reads a quantity of CPU as thousandths of a core. `None`: not a quantity.
pub(crate) fn millicores(text: &str) -> Option<i64> {
    scaled(text, 3)
}

/// Reads a quantity of CPU as billionths of a core, the unit in which usage is measured.
/// `None`: not a quantity.
pub(crate) fn nanocores(text: &str) -> Option<i64> {
    scaled(text, 9)
}

/// Reads a quantity of memory as bytes. `None`: not a quantity.
pub(crate) fn bytes(text: &str) -> Option<i64> {
    scaled(text, 0)
}

/// The value times `10^unit`, rounded away from zero, saturating.
///
/// Exact for decimal suffixes; with a binary suffix, digits after the twentieth significant one are
/// rounded up, which no quantity that a server has stored can have.
fn scaled(text: &str, unit: i32) -> Option<i64> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = rest
        .find(|c: char| c != '.' && !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (number, suffix) = rest.split_at_checked(end)?;
    let Mantissa {
        digits,
        exponent,
        inexact,
    } = Mantissa::parse(number)?;
    let (bits, power) = multiplier(suffix)?;

    // 10^20 * 2^60 is below 2^127.
    let value = digits.checked_shl(bits)?;
    let power = i64::from(exponent) + i64::from(power) + i64::from(unit);
    let ten_to = u32::try_from(power.unsigned_abs())
        .ok()
        .and_then(|power| 10_u128.checked_pow(power));
    let magnitude = match (power >= 0, ten_to) {
        _ if value == 0 => 0,
        (true, Some(factor)) => value.saturating_mul(factor),
        (true, None) => u128::MAX,
        (false, Some(divisor)) => {
            let round_up = inexact || value % divisor != 0;
            value / divisor + u128::from(round_up)
        }
        (false, None) => 1,
    };
    Some(if negative {
        i64::try_from(magnitude).map_or(i64::MIN, |magnitude| -magnitude)
    } else {
        i64::try_from(magnitude).unwrap_or(i64::MAX)
    })
}

/// `(digits + something below 1 if inexact) * 10^exponent`.
struct Mantissa {
    digits: u128,
    exponent: i32,
    inexact: bool,
}

impl Mantissa {
    /// More would not leave room for the binary suffixes in 128 bits.
    const MAX: u128 = 10_u128.pow(20);

    /// Reads `<digits>`, `<digits>.<digits>`, `<digits>.` or `.<digits>`.
    fn parse(number: &str) -> Option<Self> {
        let mut mantissa = Self {
            digits: 0,
            exponent: 0,
            inexact: false,
        };
        let mut any = false;
        let mut fraction = false;
        for byte in number.bytes() {
            if byte == b'.' {
                if fraction {
                    return None;
                }
                fraction = true;
                continue;
            }
            any = true;
            let digit = u128::from(byte.checked_sub(b'0')?);
            let longer = mantissa.digits * 10 + digit;
            if longer < Self::MAX {
                mantissa.digits = longer;
                mantissa.exponent = mantissa.exponent.checked_sub(i32::from(fraction))?;
            } else {
                mantissa.inexact |= digit != 0;
                mantissa.exponent = mantissa.exponent.checked_add(i32::from(!fraction))?;
            }
        }
        any.then_some(mantissa)
    }
}

/// What a suffix multiplies by: 2 to the first times 10 to the second.
fn multiplier(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "" => (0, 0),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            (0, exponent.parse().ok()?)
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_suffix() {
        for (text, milli) in [
            ("1n", 1),
            ("1000000n", 1),
            ("1000001n", 2),
            ("1u", 1),
            ("1500u", 2),
            ("1m", 1),
            ("1", 1_000),
            ("1k", 1_000_000),
            ("1M", 1_000_000_000),
            ("1G", 1_000_000_000_000),
            ("1T", 1_000_000_000_000_000),
            ("1P", 1_000_000_000_000_000_000),
            ("1E", i64::MAX),
        ] {
            assert_eq!(millicores(text), Some(milli), "{text}");
        }
        for (text, value) in [
            ("1Ki", 1 << 10),
            ("1Mi", 1 << 20),
            ("1Gi", 1 << 30),
            ("1Ti", 1 << 40),
            ("1Pi", 1 << 50),
            ("1Ei", 1 << 60),
            ("7Ei", 7 << 60),
            ("8Ei", i64::MAX),
            ("1E", 1_000_000_000_000_000_000),
            ("1E3", 1_000),
            ("1e3", 1_000),
            ("1E+3", 1_000),
            ("1500e-3", 2),
            ("128974848000m", 128_974_848),
        ] {
            assert_eq!(bytes(text), Some(value), "{text}");
        }
    }

    #[test]
    fn signs_and_decimals() {
        for (text, milli) in [
            ("0", 0),
            ("-0", 0),
            ("00.00", 0),
            ("0e999999999", 0),
            ("+1", 1_000),
            ("-1", -1_000),
            ("-0.1m", -1),
            ("0.1", 100),
            (".5", 500),
            ("5.", 5_000),
            ("1.2345", 1_235),
            ("0.0000000000000000000000001", 1),
            ("1e-2147483648", 1),
            ("1e2147483647", i64::MAX),
            ("-1e2147483647", i64::MIN),
            ("9223372036854775.807", i64::MAX),
            ("9223372036854775.806", i64::MAX - 1),
            ("100000000000000000000000000000e-29", 1_000),
            ("100000000000000000000000000001e-29", 1_001),
        ] {
            assert_eq!(millicores(text), Some(milli), "{text}");
        }
        assert_eq!(bytes("1.5Gi"), Some(3 << 29));
        assert_eq!(bytes("0.1Ki"), Some(103));
        assert_eq!(nanocores("573721484n"), Some(573_721_484));
    }

    #[test]
    fn illegal() {
        for text in [
            "",
            "+",
            "-",
            ".",
            "m",
            "Ki",
            "1 ",
            " 1",
            "1.2.3",
            "--1",
            "1K",
            "1ki",
            "1mi",
            "1i",
            "1e",
            "1E+",
            "1e1.5",
            "1e99999999999",
            "0x10",
            "1_000",
            "1,5",
            "NaN",
            "inf",
            "1Kim",
            "1KiB",
            "\u{0661}",
            "1\u{b5}",
            "1\0",
        ] {
            assert_eq!(millicores(text), None, "{text:?}");
            assert_eq!(bytes(text), None, "{text:?}");
        }
    }

    /// The slow model: decimal digits in a vector, least significant first.
    #[derive(Clone)]
    struct Decimal(Vec<u8>);

    impl Decimal {
        fn times(&mut self, factor: u16) {
            let mut carry = 0_u16;
            for digit in &mut self.0 {
                let product = u16::from(*digit) * factor + carry;
                *digit = u8::try_from(product % 10).unwrap();
                carry = product / 10;
            }
            while carry > 0 {
                self.0.push(u8::try_from(carry % 10).unwrap());
                carry /= 10;
            }
        }

        /// The first `places` digits cut off, rounded away from zero.
        fn without(mut self, places: usize) -> String {
            let cut: Vec<u8> = self.0.drain(..places.min(self.0.len())).collect();
            if cut.iter().any(|digit| *digit != 0) {
                let mut place = 0;
                loop {
                    match self.0.get_mut(place) {
                        Some(digit) if *digit == 9 => *digit = 0,
                        Some(digit) => {
                            *digit += 1;
                            break;
                        }
                        None => {
                            self.0.push(1);
                            break;
                        }
                    }
                    place += 1;
                }
            }
            self.0
                .iter()
                .rev()
                .map(|digit| char::from(b'0' + digit))
                .collect()
        }
    }

    fn model(negative: bool, whole: &str, fraction: &str, suffix: &str, unit: usize) -> i64 {
        let mut value = Decimal(
            format!("{whole}{fraction}")
                .bytes()
                .rev()
                .map(|b| b - b'0')
                .collect(),
        );
        // Everything in 10^-9: three units, nine places, and what the suffix adds.
        let mut places = fraction.len();
        match suffix {
            "n" => places += 9,
            "u" => places += 6,
            "m" => places += 3,
            binary if binary.ends_with('i') => {
                let at = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
                    .iter()
                    .position(|s| *s == binary)
                    .unwrap();
                for _ in 0..=at {
                    value.times(1024);
                }
            }
            decimal => {
                let exponent: i32 = match ["", "k", "M", "G", "T", "P", "E"]
                    .iter()
                    .position(|s| *s == decimal)
                {
                    Some(at) => i32::try_from(3 * at).unwrap(),
                    None => decimal[1..].parse().unwrap(),
                };
                if exponent < 0 {
                    places += usize::try_from(-exponent).unwrap();
                }
                for _ in 0..exponent.max(0) {
                    value.times(10);
                }
            }
        }
        for _ in 0..unit {
            value.times(10);
        }
        let digits = value.without(places);
        let magnitude = digits.trim_start_matches('0');
        let text = if magnitude.is_empty() { "0" } else { magnitude };
        if negative {
            format!("-{text}").parse().unwrap_or(i64::MIN)
        } else {
            text.parse().unwrap_or(i64::MAX)
        }
    }

    fn suffix() -> impl Strategy<Value = String> {
        prop_oneof![
            proptest::sample::select(vec![
                "n", "u", "m", "", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"
            ])
            .prop_map(str::to_owned),
            (
                proptest::sample::select(vec!["e", "E", "e+", "E+"]),
                0..60_u8
            )
                .prop_map(|(e, n)| format!("{e}{n}")),
            (0..60_u8).prop_map(|n| format!("e-{n}")),
        ]
    }

    proptest! {
        #[test]
        fn as_the_model(negative: bool, whole in "[0-9]{1,12}", fraction in "[0-9]{0,8}", suffix in suffix()) {
            let sign = if negative { "-" } else { "" };
            let text = format!("{sign}{whole}.{fraction}{suffix}");
            for (unit, read) in [(0, bytes as fn(&str) -> _), (3, millicores), (9, nanocores)] {
                prop_assert_eq!(read(&text), Some(model(negative, &whole, &fraction, &suffix, unit)), "{}", text);
            }
        }

        #[test]
        fn long_decimals_as_the_model(whole in "[0-9]{1,40}", fraction in "[0-9]{0,40}", exponent in -60..60_i32) {
            let suffix = format!("e{exponent}");
            let text = format!("{whole}.{fraction}{suffix}");
            prop_assert_eq!(millicores(&text), Some(model(false, &whole, &fraction, &suffix, 3)), "{}", text);
        }

        #[test]
        fn anything_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = (millicores(&text), bytes(&text), nanocores(&text));
        }
    }
}
