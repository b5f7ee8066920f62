//! Chat templates as Transformers' `apply_chat_template` renders them.

use std::collections::BTreeMap;
use std::ops::Range;

use minijinja::machinery::{self, CodeGenerator, Instructions};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, StringInput, ValueKind};
use minijinja::{escape_formatter, filters, AutoEscape, Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use crate::generation::{self, Markers};
use crate::{guard, limits, python, Failure, Outcome, INPUT, RAISED};

const NAME: &str = "chat";
/// Marks the errors that a template raises itself.
const RAISE: &str = "raise_exception: ";
/// The variable that carries the markers of one rendering to the filter.
const BEGIN: &str = "__oumi_begin";
const END: &str = "__oumi_end";

pub struct Template {
    // Refers to `text`, which neither moves nor changes, and goes before it.
    instructions: Instructions<'static>,
    #[allow(dead_code)]
    text: Box<str>,
    environment: Environment<'static>,
    source: String,
    recurses: bool,
    pub generates: bool,
}

impl Template {
    pub fn new(source: &str) -> Outcome<Template> {
        limits::check_source(source)?;
        limits::compiling(|| Template::compile(source))
    }

    fn compile(source: &str) -> Outcome<Template> {
        // Jinja reads all three kinds of line ends as one.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        let (rewritten, generates) = generation::rewrite(&source)?;
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(failure)?;
        environment.set_syntax(syntax.clone());
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(method);
        environment.add_filter("tojson", python::tojson);
        environment.add_filter("trim", python::trim);
        limit(&mut environment);
        environment.add_filter(generation::FILTER, mark);
        // Whatever has a length and items: Jinja counts strings and dicts in.
        environment.add_test("sequence", |value: &Value| matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map));
        environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
        environment.add_filter("string", |value: &Value| {
            limits::check(value).map(|()| python::printed_float(value).map_or_else(|| Value::from(value.to_string()), Value::from))
        });
        environment.set_formatter(|out, state, value| {
            limits::check(value)?;
            match python::printed_float(value) {
                Some(text) => out.write_str(&text).map_err(Error::from),
                None => escape_formatter(out, state, value),
            }
        });
        environment.add_function("strftime_now", |format: &str| python::strftime_now(format));
        environment.add_function("raise_exception", |message: &Value| -> Result<Value, Error> {
            limits::check(message)?;
            Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISE}{message}")))
        });
        let text = rewritten.into_boxed_str();
        let borrowed: &'static str = unsafe { &*(text.as_ref() as *const str) };
        let parsed = machinery::parse(borrowed, NAME, syntax).map_err(failure)?;
        let mut generator = CodeGenerator::new(NAME, borrowed);
        generator.compile_stmt(&parsed);
        let instructions = guard::guard(&generator.finish().0);
        let recurses = ["macro", "recursive", "call"].iter().any(|word| source.contains(word));
        Ok(Template { instructions, text, environment, source, recurses, generates })
    }

    /// The text, and the byte ranges that generation blocks gave.
    pub fn render(&self, context: &str) -> Outcome<(String, Vec<Range<usize>>)> {
        limits::rendering(self.recurses, || self.render_here(context))
    }

    fn render_here(&self, context: &str) -> Outcome<(String, Vec<Range<usize>>)> {
        let values: BTreeMap<String, serde_json::Value> = serde_json::from_str(context).map_err(Failure::input)?;
        let mut variables: BTreeMap<String, Value> = values.into_iter().map(|(name, value)| (name, from_json(value))).collect();
        let markers = if self.generates { Markers::absent_from(&[context, &self.source]) } else { None };
        if let Some(markers) = markers {
            variables.insert(BEGIN.to_string(), Value::from(markers.begin.to_string()));
            variables.insert(END.to_string(), Value::from(markers.end.to_string()));
        }
        let mut text = String::new();
        let mut output = machinery::make_string_output(&mut text);
        let root = Value::from_pairs(variables);
        machinery::eval(&self.environment, &self.instructions, root, &BTreeMap::new(), &mut output, AutoEscape::None).map_err(failure)?;
        match markers {
            None => Ok((text, Vec::new())),
            Some(markers) => generation::take_spans(&text, markers)
                .ok_or_else(|| Failure::input("the text of a {% generation %} block was cut apart by the template around it")),
        }
    }
}

/// What a template may cost: its fuel, the filters that [`guard`] puts in, and those of minijinja's filters that walk through values
/// without charging for all of it.
fn limit(environment: &mut Environment) {
    environment.set_fuel(Some(limits::FUEL));
    environment.add_filter(limits::KEEP, limits::keep);
    environment.add_filter(limits::KEEP_ATTRIBUTE, limits::keep_attribute);
    environment.add_filter(limits::COST, |state: &State, value: &Value| limits::charge(state, value));
    environment.add_filter(limits::TOUCH, |_: &Value| limits::check_time());
    type Walking = fn(&State, Value, Kwargs) -> Result<Value, Error>;
    let walking: [(&str, Walking); 4] = [("sort", filters::sort), ("unique", filters::unique), ("min", filters::min), ("max", filters::max)];
    for (name, filter) in walking {
        environment.add_filter(name, move |state: &State, value: Value, options: Kwargs| {
            limits::charge(state, &value)?;
            filter(state, value, options)
        });
    }
    environment.add_filter("sum", |state: &State, values: Value, attribute: Option<&str>, start: Option<Value>, options: Kwargs| {
        limits::check_summands(state, &values)?;
        filters::sum(state, values, attribute, start, options)
    });
    environment.add_filter("join", |state: &mut State, values: &Value, separator: Option<Value>, attribute: Option<&str>, options: Kwargs| {
        let separator = separator.as_ref().map(|text| StringInput::new(state, text)).transpose()?;
        limits::check_joined(separator.as_ref().map_or("", |text| text.as_str()), values)?;
        filters::join(state, values, separator, attribute, options)
    });
}

fn from_json(value: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::from(value),
            (None, Some(value)) => Value::from(value),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text),
        Json::Array(items) => items.into_iter().map(from_json).collect(),
        Json::Object(entries) => Value::from_pairs(entries.into_iter().map(|(key, value)| (key, from_json(value)))),
    }
}

fn mark(state: &State, text: &str) -> String {
    let marker = |name: &str| state.lookup(name).and_then(|value| value.as_str().map(str::to_string)).unwrap_or_default();
    format!("{}{text}{}", marker(BEGIN), marker(END))
}

/// Python's methods: ours where pycompat differs from Python or lacks them.
fn method(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    if let (ValueKind::String, Some(text)) = (value.kind(), value.as_str()) {
        match (method, args) {
            ("strip", []) => return Ok(Value::from(text.trim_matches(python::is_space))),
            ("lstrip", []) => return Ok(Value::from(text.trim_start_matches(python::is_space))),
            ("rstrip", []) => return Ok(Value::from(text.trim_end_matches(python::is_space))),
            ("strip" | "lstrip" | "rstrip", [chars]) => limits::check_trimmed(chars.as_str())?,
            ("format", _) if wide(text) => return Err(Error::new(ErrorKind::InvalidOperation, "format: refused: a width or precision of more than four digits")),
            ("join", [list]) => limits::check_joined(text, list)?,
            ("title", []) => return Ok(Value::from(python::title(text))),
            ("removeprefix", [prefix]) => return Ok(Value::from(text.strip_prefix(prefix.as_str().unwrap_or_default()).unwrap_or(text))),
            ("removesuffix", [suffix]) => return Ok(Value::from(text.strip_suffix(suffix.as_str().unwrap_or_default()).unwrap_or(text))),
            _ => {}
        }
    }
    pycompat::unknown_method_callback(state, value, method, args)
}

/// Whether a format string asks for a width of five digits or more.
fn wide(format: &str) -> bool {
    format.as_bytes().windows(5).any(|digits| digits.iter().all(u8::is_ascii_digit))
}

fn failure(error: Error) -> Failure {
    // The innermost cause says what happened; the line of the outermost says where.
    let line = error.line();
    let mut text = error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()));
    if error.kind() == ErrorKind::OutOfFuel {
        text = limits::out_of_fuel();
    }
    let mut status = INPUT;
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(current) = cause {
        if let Some(raised) = current.downcast_ref::<Error>().and_then(|e| e.detail()).and_then(|detail| detail.strip_prefix(RAISE)) {
            status = RAISED;
            text = raised.to_string();
        }
        cause = current.source();
    }
    Failure { status, message: line.map_or(text.clone(), |line| format!("line {line}: {text}")) }
}

