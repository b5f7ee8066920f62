//! What Transformers' templates expect of Python.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use crate::limits;

/// `json.dumps(value, ensure_ascii=False, indent=..., separators=..., sort_keys=...)`: Transformers' tojson.
pub fn tojson(value: &Value, kwargs: Kwargs) -> Result<Value, Error> {
    limits::check(value)?;
    let indent: Option<Value> = kwargs.get("indent")?;
    let indent = match indent {
        None => None,
        Some(indent) if indent.is_none() => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_string(),
            // Python takes a negative number as none.
            None => " ".repeat(usize::try_from(i64::try_from(indent)?.max(0)).unwrap_or(usize::MAX).min(limits::MAX_INDENT + 1)),
        }),
    };
    if indent.as_ref().is_some_and(|text| text.len() > limits::MAX_INDENT) {
        return Err(Error::new(ErrorKind::InvalidOperation, format!("tojson: refused: expected an indent of at most {}", limits::MAX_INDENT)));
    }
    let separators: Option<Value> = kwargs.get("separators")?;
    let (comma, colon) = match separators.filter(|pair| !pair.is_none()) {
        Some(pair) => (pair.get_item_by_index(0)?.to_string(), pair.get_item_by_index(1)?.to_string()),
        None => ((if indent.is_some() { "," } else { ", " }).to_string(), ": ".to_string()),
    };
    if comma.len().max(colon.len()) > limits::MAX_INDENT {
        return Err(Error::new(ErrorKind::InvalidOperation, format!("tojson: refused: expected separators of at most {} bytes", limits::MAX_INDENT)));
    }
    let ensure_ascii = kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sort_keys = kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    let mut writer = JsonWriter { out: String::new(), indent, comma, colon, ensure_ascii, sort_keys };
    writer.write(value, 0)?;
    Ok(Value::from(writer.out))
}

struct JsonWriter {
    out: String,
    indent: Option<String>,
    comma: String,
    colon: String,
    ensure_ascii: bool,
    sort_keys: bool,
}

impl JsonWriter {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => self.out.push_str(&value.to_string()),
            ValueKind::Number => self.out.push_str(&float_repr(f64::try_from(value.clone())?)),
            ValueKind::String => self.write_string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.write_items('[', ']', &items, depth, |writer, item| writer.write(item, depth + 1))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.write_items('{', '}', &keys, depth, |writer, key| {
                    writer.write_key(key);
                    writer.out.push_str(&writer.colon.clone());
                    writer.write(&value.get_item(key)?, depth + 1)
                })?;
            }
            _ => return Err(Error::new(ErrorKind::InvalidOperation, format!("tojson: a value of kind {} is not JSON", value.kind()))),
        }
        Ok(())
    }

    fn write_items(&mut self, open: char, close: char, items: &[Value], depth: usize, write: impl Fn(&mut Self, &Value) -> Result<(), Error>) -> Result<(), Error> {
        self.out.push(open);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push_str(&self.comma.clone());
            }
            self.new_line(depth + 1);
            write(self, item)?;
        }
        if !items.is_empty() {
            self.new_line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out.push_str(&indent.repeat(depth));
        }
    }

    /// Keys that aren't strings become what Python makes of them.
    fn write_key(&mut self, key: &Value) {
        match key.kind() {
            ValueKind::String => self.write_string(key.as_str().unwrap_or_default()),
            ValueKind::Bool => self.out.push_str(if key.is_true() { "\"true\"" } else { "\"false\"" }),
            ValueKind::None => self.out.push_str("\"null\""),
            _ => self.write_string(&key.to_string()),
        }
    }

    fn write_string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && !(' '..='~').contains(&c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

/// Python's repr of a float: shortest digits, exponents from 1e16 and below 1e-4.
pub fn float_repr(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_string();
    }
    if value.is_infinite() {
        return (if value > 0.0 { "Infinity" } else { "-Infinity" }).to_string();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    let text = format!("{value}");
    if text.contains('.') {
        text
    } else {
        text + ".0"
    }
}

/// What `{{ value }}` prints for a float; None for anything else.
pub fn printed_float(value: &Value) -> Option<String> {
    if value.kind() != ValueKind::Number || value.is_integer() {
        return None;
    }
    f64::try_from(value.clone()).ok().filter(|number| number.is_finite()).map(float_repr)
}

/// `str.title()`: a capital after everything that is no letter.
pub fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphabetic();
    }
    out
}

/// `datetime.now().strftime(format)`.
pub fn strftime_now(format: &str) -> Result<String, Error> {
    let bad = |what: &str| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {what}"));
    let format = std::ffi::CString::new(format).map_err(|_| bad("the format holds a NUL"))?;
    if format.as_bytes().is_empty() {
        return Ok(String::new());
    }
    let mut local: libc::tm = unsafe { std::mem::zeroed() };
    let now = unsafe { libc::time(std::ptr::null_mut()) };
    if unsafe { libc::localtime_r(&now, &mut local) }.is_null() {
        return Err(bad("the local time is unknown"));
    }
    let mut buffer = vec![0u8; 256 + 16 * format.as_bytes().len()];
    let written = unsafe { libc::strftime(buffer.as_mut_ptr().cast(), buffer.len(), format.as_ptr(), &local) };
    buffer.truncate(written);
    String::from_utf8(buffer).map_err(|_| bad("the result is not UTF-8"))
}

/// The characters that Python's str.strip() takes off; Rust's whitespace lacks the four separators.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `value | trim`, `value | trim(chars)`.
pub fn trim(value: &Value, chars: Option<String>) -> Result<String, Error> {
    limits::check(value)?;
    limits::check_trimmed(chars.as_deref())?;
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
    Ok(match chars {
        Some(chars) => text.trim_matches(|c| chars.contains(c)).to_string(),
        None => text.trim_matches(is_space).to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_read_as_in_python() {
        let pairs = [(1.0, "1.0"), (0.1, "0.1"), (1e-5, "1e-05"), (1.5e-7, "1.5e-07"), (1e16, "1e+16"), (123456789012345.0, "123456789012345.0"), (0.0, "0.0"), (-2.5e300, "-2.5e+300")];
        for (value, text) in pairs {
            assert_eq!(float_repr(value), text);
        }
    }
}
