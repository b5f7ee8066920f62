//! What becomes of a panic.

use std::any::Any;
use std::sync::Once;

/// The library never prints: a panic's text reaches the user through the error that it becomes.
pub fn silence_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
}

pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the tokenizer library panicked: {}", text.unwrap_or("no text"))
}
