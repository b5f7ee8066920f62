//! What a chat template may cost. Templates come with models from anywhere: one that is hostile or broken gets an error, and neither
//! ends the process nor keeps it busy.

use std::cell::Cell;
use std::time::{Duration, Instant};

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use crate::{Failure, Outcome};

/// The largest published templates have about 30 KB.
const MAX_SOURCE: usize = 128 << 10;
/// minijinja's fuel: an instruction, or 64 bytes of data that are made. About a second, and 512 MB at most.
pub const FUEL: u64 = 8_000_000;
const MAX_SECONDS: u64 = 20;
const MAX_DEPTH: usize = 64;
/// Of one value, with everything inside counted as often as it would be printed.
const MAX_ITEMS: usize = 1 << 20;
const MAX_BYTES: usize = 64 << 20;
pub const MAX_INDENT: usize = 64;

/// minijinja's parser and compiler recurse along chains of operators: at most one frame of about 2 KB for each byte of the source.
const COMPILE_STACK: usize = 512 << 20;
/// 125 calls of macros inside each other, with values of MAX_DEPTH and what literals of one expression add.
const RENDER_STACK: usize = 64 << 20;

/// The filter that `{% set %}` statements are rewritten to pass their value through.
pub const KEEP: &str = "oumi_kept";
/// The same where an attribute of a namespace is set.
pub const KEEP_ATTRIBUTE: &str = "oumi_kept_attribute";

thread_local! {
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
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
        DEADLINE.set(Some(Instant::now() + Duration::from_secs(MAX_SECONDS)));
        body()
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

/// Checks that `value` can be walked, printed and dropped at a bounded cost.
pub fn check(value: &Value) -> Result<(), Error> {
    if DEADLINE.get().is_some_and(|deadline| Instant::now() > deadline) {
        return Err(refused(format!("refused: the template takes longer than {MAX_SECONDS} s for one conversation")));
    }
    let mut cost = Cost { items: 0, bytes: 0, namespaces: false };
    cost.walk(value, 0)
}

/// Checks what `separator.join(list)` would make; the same text may stand in the list many times.
pub fn check_joined(separator: &str, list: &Value) -> Result<(), Error> {
    check(list)?;
    let separators = list.len().unwrap_or(0).saturating_mul(separator.len());
    if separators > MAX_BYTES {
        return Err(refused(format!("refused: a text of more than {MAX_BYTES} bytes")));
    }
    Ok(())
}

/// [`check`], for what becomes an attribute of a namespace: with a namespace inside it could contain itself.
pub fn check_attribute(value: &Value) -> Result<(), Error> {
    check(value)?;
    let mut cost = Cost { items: 0, bytes: 0, namespaces: true };
    cost.walk(value, 0)
}

struct Cost {
    items: usize,
    bytes: usize,
    /// Whether to refuse them.
    namespaces: bool,
}

impl Cost {
    fn walk(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.items += 1;
        self.bytes = self.bytes.saturating_add(value.as_str().map_or(0, str::len));
        if self.items > MAX_ITEMS || self.bytes > MAX_BYTES {
            return Err(refused(format!("refused: a value of more than {MAX_ITEMS} items or {MAX_BYTES} bytes")));
        }
        if !matches!(value.kind(), ValueKind::Seq | ValueKind::Map) {
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
