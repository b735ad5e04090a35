//! Times and shapes, as they are given on the command line.

use std::time::Duration;

/// An input, and its sizes: -1 for what stays free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    pub input: String,
    pub sizes: Vec<i64>,
}

/// `10ms`, `500us`, `1.5s`.
pub fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number with its unit, such as 10ms, 500us or 1.5s".to_owned();
    let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit);
    let seconds = match unit {
        "s" => 1.0,
        "ms" => 1e-3,
        "us" | "µs" => 1e-6,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * seconds).ok().filter(|time| !time.is_zero()).ok_or_else(wrong)
}

/// `pixels=-1,3,224,224`.
pub fn shape(text: &str) -> Result<Shape, String> {
    // Names may have a `=` in them; sizes have none.
    let (input, sizes) = text.rsplit_once('=').ok_or("write INPUT=SIZES, such as pixels=-1,3,224,224")?;
    let size = |text: &str| match text.trim().parse() {
        Ok(size) if size == -1 || size > 0 => Ok(size),
        _ => Err(format!("'{text}' is no size: write a whole number, or -1 for the batch")),
    };
    let sizes = sizes.split(',').map(size).collect::<Result<_, _>>()?;
    Ok(Shape { input: input.to_owned(), sizes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[test]
    fn times_have_units() {
        let check = |text: &str, expect: Expect| expect.assert_eq(&format!("{:?}", time(text)));
        check("10ms", expect!["Ok(10ms)"]);
        check("1.5s", expect!["Ok(1.5s)"]);
        check("500us", expect!["Ok(500µs)"]);
        check("2µs", expect!["Ok(2µs)"]);
        for wrong in
            ["", "10", "ms", "10 ms", "-1ms", "0ms", "1e3ms", "1.2.3s", "10m", "999999999999999999999s"]
        {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shapes_are_names_and_sizes() {
        let check = |text: &str, expect: Expect| {
            let shown =
                shape(text).map_or_else(|error| error, |shape| format!("{} {:?}", shape.input, shape.sizes));
            expect.assert_eq(&shown);
        };
        check("x=-1,3,224", expect!["x [-1, 3, 224]"]);
        check("a=b=4", expect!["a=b [4]"]);
        check("x", expect!["write INPUT=SIZES, such as pixels=-1,3,224,224"]);
        check("x=", expect!["'' is no size: write a whole number, or -1 for the batch"]);
        check("x=4,0", expect!["'0' is no size: write a whole number, or -1 for the batch"]);
        check("x=-2", expect!["'-2' is no size: write a whole number, or -1 for the batch"]);
    }
}
