//! What a chat template may cost. Templates come with models from anywhere: one that is hostile or broken gets an error, and neither
//! ends the process nor keeps it busy.

use std::cell::Cell;
use std::time::{Duration, Instant};

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

use crate::{Failure, Outcome};

/// The largest published templates have about 30 KB.
const MAX_SOURCE: usize = 128 << 10;
/// minijinja's fuel: an instruction, or 64 bytes of data that are made. About a second, and 512 MB at most.
pub const FUEL: u64 = 8_000_000;
/// Of processor time.
const MAX_SECONDS: u64 = 5;
/// In one `{{ }}` or `{% %}`. Published templates have 40; minijinja's compiler takes time by the square of it.
const MAX_OPERATORS: usize = 2000;
const MAX_DEPTH: usize = 64;
/// Of one value, with everything inside counted as often as it would be printed.
const MAX_ITEMS: usize = 1 << 20;
const MAX_BYTES: usize = 64 << 20;
pub const MAX_INDENT: usize = 64;
const MAX_SUMMANDS: usize = 1000;
const MAX_TRIMMED: usize = 1000;

/// minijinja's parser and compiler recurse along chains of operators: at most one frame of about 2 KB for each byte of the source.
const COMPILE_STACK: usize = 512 << 20;
/// 125 calls of macros inside each other, with values of MAX_DEPTH and what literals of one expression add.
const RENDER_STACK: usize = 64 << 20;

/// The filter for values that are stored or were put together: checks them, and makes plain lists of what is concatenated lazily.
pub const KEEP: &str = "oumi_kept";
/// The same where an attribute of a namespace is set.
pub const KEEP_ATTRIBUTE: &str = "oumi_kept_attribute";
/// The filter that charges for walking through a value.
pub const COST: &str = "oumi_cost";
/// The filter for values that are read as a whole when they are text; minijinja charges for the bytes of a text that a filter gets.
pub const TOUCH: &str = "oumi_touch";

struct Deadline {
    wall: Instant,
    processor: Duration,
}

thread_local! {
    static DEADLINE: Cell<Option<Deadline>> = const { Cell::new(None) };
}

fn refused(what: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

pub fn check_source(source: &str) -> Outcome<()> {
    if source.len() > MAX_SOURCE {
        return Err(Failure::input(format!("refused: expected a template of at most {MAX_SOURCE} bytes, got {}", source.len())));
    }
    Ok(())
}

/// Operators, calls and subscripts of a tag: everything but names, numbers, texts, commas and colons.
fn operators(tag: &str) -> usize {
    let (mut count, mut quote, mut escaped) = (0, None, false);
    let mut word = false;
    let bytes = tag.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        if let Some(open) = quote {
            if !escaped && byte == open {
                quote = None;
            }
            escaped = !escaped && byte == b'\\';
            continue;
        }
        let in_word = byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
        if in_word && !word {
            count += usize::from([&b"not"[..], b"and", b"or", b"in", b"is", b"if"].iter().any(|name| {
                bytes[at..].starts_with(name) && !bytes.get(at + name.len()).is_some_and(|next| next.is_ascii_alphanumeric() || *next == b'_')
            }));
        }
        word = in_word;
        match byte {
            b'\'' | b'"' => quote = Some(byte),
            b',' | b':' | b')' | b']' | b'}' => {}
            _ => count += usize::from(!in_word && !byte.is_ascii_whitespace()),
        }
    }
    count
}

/// Refuses tags whose compilation takes too long; `line` says where the tag is.
pub fn check_tag(tag: &str, line: impl Fn() -> usize) -> Outcome<()> {
    if tag.len() > MAX_OPERATORS && !tag.starts_with("{#") && operators(tag) > MAX_OPERATORS {
        return Err(Failure::input(format!("line {}: refused: expected at most {MAX_OPERATORS} operators in one tag, got {}", line(), operators(tag))));
    }
    Ok(())
}

fn on_stack<T: Send>(size: usize, body: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(size).spawn_scoped(scope, body);
        match thread.map_err(|error| Failure::input(format!("no thread for the template could be started: {error}")))?.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

pub fn compiling<T: Send>(body: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
    on_stack(COMPILE_STACK, body)
}

/// Runs a rendering against the clock; on a stack of its own when the template can call itself.
pub fn rendering<T: Send>(recurses: bool, body: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
    let timed = || {
        let allowed = Duration::from_secs(MAX_SECONDS);
        DEADLINE.set(Some(Deadline { wall: Instant::now() + allowed, processor: processor_time() + allowed }));
        let outcome = body();
        DEADLINE.set(None);
        outcome
    };
    if recurses {
        on_stack(RENDER_STACK, timed)
    } else {
        timed()
    }
}

pub fn out_of_fuel() -> String {
    format!("refused: the template takes more than {FUEL} steps for one conversation (a loop, a recursion or a text without end)")
}

fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

pub fn check_time() -> Result<(), Error> {
    let Some(deadline) = DEADLINE.take() else { return Ok(()) };
    // The clock of the processor is slow to ask; the other is always ahead of it.
    let late = Instant::now() > deadline.wall && processor_time() > deadline.processor;
    DEADLINE.set(Some(deadline));
    if late {
        return Err(refused(format!("refused: the template takes longer than {MAX_SECONDS} s for one conversation")));
    }
    Ok(())
}

fn cost_of(value: &Value, namespaces: bool) -> Result<Cost, Error> {
    check_time()?;
    let mut cost = Cost { items: 0, bytes: 0, namespaces };
    cost.walk(value, 0)?;
    Ok(cost)
}

/// Checks that `value` can be walked, printed and dropped at a bounded cost.
pub fn check(value: &Value) -> Result<(), Error> {
    cost_of(value, false).map(|_| ())
}

/// [`check`], and takes what walking through `value` costs out of the fuel.
pub fn charge(state: &State, value: &Value) -> Result<(), Error> {
    if !is_container(value) {
        return check_time();
    }
    cost_of(value, false)?.charge(state)
}

/// The same; and a list that only refers to other lists becomes one of its own.
pub fn keep(state: &State, value: Value) -> Result<Value, Error> {
    charge(state, &value)?;
    Ok(if value.kind() == ValueKind::Iterable { Value::from(value.try_iter()?.collect::<Vec<_>>()) } else { value })
}

/// [`keep`], for what becomes an attribute of a namespace: with a namespace inside it could contain itself.
pub fn keep_attribute(state: &State, value: Value) -> Result<Value, Error> {
    cost_of(&value, true)?;
    keep(state, value)
}

/// Checks what `separator.join(list)` would make; the same text may stand in the list many times.
pub fn check_joined(separator: &str, list: &Value) -> Result<(), Error> {
    check(list)?;
    let separators = list.len().unwrap_or(0).saturating_mul(separator.len());
    if separators > MAX_BYTES {
        return Err(refused(format!("join: refused: a text of more than {MAX_BYTES} bytes")));
    }
    Ok(())
}

/// Checks the characters to strip, each of which every character of the text is compared with.
pub fn check_trimmed(chars: Option<&str>) -> Result<(), Error> {
    match chars {
        Some(chars) if chars.len() > MAX_TRIMMED => Err(refused(format!("strip: refused: expected at most {MAX_TRIMMED} bytes of characters, got {}", chars.len()))),
        _ => Ok(()),
    }
}

fn is_container(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable)
}

/// Checks what `sum` adds up: numbers, or few lists, since each addition of lists copies what came before.
pub fn check_summands(state: &State, values: &Value) -> Result<(), Error> {
    charge(state, values)?;
    let lists = if is_container(values) { values.try_iter()?.filter(is_container).count() } else { 0 };
    if lists > MAX_SUMMANDS {
        return Err(refused(format!("sum: refused: expected at most {MAX_SUMMANDS} lists, got {lists}")));
    }
    Ok(())
}

struct Cost {
    items: usize,
    bytes: usize,
    /// Whether to refuse them.
    namespaces: bool,
}

impl Cost {
    fn charge(&self, state: &State) -> Result<(), Error> {
        state.consume_fuel((self.items / 2 + self.bytes / 256) as u64)
    }

    fn walk(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.items += 1;
        self.bytes = self.bytes.saturating_add(value.as_str().map_or(0, str::len));
        if self.items > MAX_ITEMS || self.bytes > MAX_BYTES {
            return Err(refused(format!("refused: a value of more than {MAX_ITEMS} items or {MAX_BYTES} bytes")));
        }
        if !is_container(value) {
            return Ok(());
        }
        if depth == MAX_DEPTH {
            return Err(refused(format!("refused: a value nested deeper than {MAX_DEPTH} levels, or one that contains itself")));
        }
        if self.namespaces && value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace")) {
            return Err(refused("refused: a namespace as an attribute of a namespace, which could contain itself".to_string()));
        }
        let is_map = value.kind() == ValueKind::Map;
        for item in value.try_iter()? {
            if is_map {
                self.walk(&item, depth + 1)?;
                self.walk(&value.get_item(&item)?, depth + 1)?;
            } else {
                self.walk(&item, depth + 1)?;
            }
        }
        Ok(())
    }
}
