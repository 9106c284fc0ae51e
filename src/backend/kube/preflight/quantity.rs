//! Kubernetes quantities as numbers: `100m`, `1.5Gi`, `2e3`
//! (`k8s.io/apimachinery/pkg/api/resource`).

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A quantity in thousandths, rounded up; `None` if it is invalid or too large.
pub(super) fn thousandths(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.trim();
    let end = text
        .find(|letter: char| !matches!(letter, '0'..='9' | '.' | '+' | '-'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (up, down) = scale(suffix)?;
    let down = down.checked_mul(10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    let product = digits.checked_mul(up)?.checked_mul(1_000)?;
    Some(product.div_euclid(down) + i128::from(product.rem_euclid(down) != 0))
}

/// The factor and the divisor of a suffix.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1_000)),
        "k" => Some((decimal(3), 1)),
        "M" => Some((decimal(6), 1)),
        "G" => Some((decimal(9), 1)),
        "T" => Some((decimal(12), 1)),
        "P" => Some((decimal(15), 1)),
        "E" => Some((decimal(18), 1)),
        "Ki" => Some((binary(1), 1)),
        "Mi" => Some((binary(2), 1)),
        "Gi" => Some((binary(3), 1)),
        "Ti" => Some((binary(4), 1)),
        "Pi" => Some((binary(5), 1)),
        "Ei" => Some((binary(6), 1)),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
            Some(if exponent < 0 { (1, power) } else { (power, 1) })
        }
    }
}

fn decimal(power: u32) -> i128 {
    10_i128.pow(power)
}

fn binary(power: u32) -> i128 {
    1_i128 << (10 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_the_api_server_reads_them() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1", Some(1_000)),
            ("100m", Some(100)),
            ("0.5", Some(500)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("64Mi", Some(67_108_864_000)),
            ("2e3", Some(2_000_000)),
            ("2E3", Some(2_000_000)),
            ("1E", Some(1_000_000_000_000_000_000_000)),
            ("5e-1", Some(500)),
            ("1n", Some(1)),
            ("250u", Some(1)),
            ("-1", Some(-1_000)),
            ("", None),
            ("ten", None),
            ("1.2.3", None),
            ("1Qi", None),
            ("1e99", None),
        ] {
            assert_eq!(thousandths(&Quantity(text.into())), expected, "{text}");
        }
    }
}
