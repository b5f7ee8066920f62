//! `{% generation %}` blocks, which Transformers adds to Jinja. Before a template is compiled they become filter blocks, so that whitespace
//! control around the tags works as for any block; the filter puts markers around what was rendered, and the markers become byte ranges
//! afterwards.

use std::ops::Range;

use crate::{limits, Outcome};

pub const FILTER: &str = "oumi_generation";

/// Unicode noncharacters, which no text interchange holds. Those of them that a conversation holds all the same are passed over.
const CANDIDATES: Range<u32> = 0xFDD0..0xFDF0;

#[derive(Clone, Copy)]
pub struct Markers {
    pub begin: char,
    pub end: char,
}

impl Markers {
    /// Two characters that `texts` are free of.
    pub fn absent_from(texts: &[&str]) -> Option<Markers> {
        let mut free = CANDIDATES.filter_map(char::from_u32).filter(|&c| !texts.iter().any(|text| text.contains(c)));
        Some(Markers { begin: free.next()?, end: free.next()? })
    }
}

/// Takes the markers out of `text`; None when they don't pair up, which a template that cuts its own output can bring about.
pub fn take_spans(text: &str, markers: Markers) -> Option<(String, Vec<Range<usize>>)> {
    let mut clean = String::with_capacity(text.len());
    let mut spans = Vec::new();
    let mut open = Vec::new();
    for c in text.chars() {
        if c == markers.begin {
            open.push(spans.len());
            spans.push(clean.len()..clean.len());
        } else if c == markers.end {
            spans[open.pop()?].end = clean.len();
        } else {
            clean.push(c);
        }
    }
    open.is_empty().then_some((clean, spans))
}

/// Rewrites the generation tags of `source`, on the same lines. Also says whether there were any. Tags that are too long to be compiled
/// are refused.
pub fn rewrite(source: &str) -> Outcome<(String, bool)> {
    let mut out = String::with_capacity(source.len() + 64);
    let mut rest = source;
    let mut found = false;
    while let Some(at) = next_tag(rest) {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let length = tag_length(tag);
        let (tag, after) = tag.split_at(length);
        limits::check_tag(tag, || 1 + source[..source.len() - rest.len() + at].matches('\n').count())?;
        match block_name(tag) {
            Some((name, range)) if name == "generation" || name == "endgeneration" => {
                found = true;
                out.push_str(&tag[..range.start]);
                out.push_str(&if name == "generation" { format!("filter {FILTER}") } else { "endfilter".to_string() });
                out.push_str(&tag[range.end..]);
                rest = after;
            }
            Some((name, _)) if name == "raw" => {
                let end = end_of_raw(after).unwrap_or(after.len());
                out.push_str(tag);
                out.push_str(&after[..end]);
                rest = &after[end..];
            }
            _ => {
                out.push_str(tag);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Ok((out, found))
}

/// Where the next `{{`, `{%` or `{#` is.
fn next_tag(text: &str) -> Option<usize> {
    text.as_bytes().windows(2).position(|pair| pair[0] == b'{' && matches!(pair[1], b'{' | b'%' | b'#'))
}

/// The length of the tag that `text` begins with; quotes hide its end. A tag that never ends is the rest of the text.
fn tag_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let close: &[u8] = match bytes[1] {
        b'{' => b"}}",
        b'%' => b"%}",
        _ => b"#}",
    };
    let mut quote = None;
    let mut at = 2;
    while at < bytes.len() {
        match quote {
            Some(q) if bytes[at] == b'\\' && q != 0 => at += 1,
            Some(q) if bytes[at] == q => quote = None,
            Some(_) => {}
            None if bytes[1] != b'#' && matches!(bytes[at], b'\'' | b'"') => quote = Some(bytes[at]),
            None if bytes[at..].starts_with(close) => return at + 2,
            None => {}
        }
        at += 1;
    }
    bytes.len()
}

/// The keyword of a `{% ... %}` tag and where it stands.
fn block_name(tag: &str) -> Option<(&str, Range<usize>)> {
    let body = tag.strip_prefix("{%")?;
    let body = body.strip_prefix(['-', '+']).unwrap_or(body).trim_start();
    let start = tag.len() - body.len();
    let length = body.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(body.len());
    Some((&body[..length], start..start + length))
}

/// Where the `{% endraw %}` tag of a raw block ends.
fn end_of_raw(text: &str) -> Option<usize> {
    let mut at = 0;
    while let Some(found) = text[at..].find("{%") {
        let start = at + found;
        if matches!(block_name(&text[start..]), Some(("endraw", _))) {
            return Some(start + tag_length(&text[start..]));
        }
        at = start + 2;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewrites_tags_outside_of_strings_comments_and_raw_blocks() {
        let source = "{%- generation -%}x{%endgeneration%}{# {% generation %} #}{{ '{% generation %}' }}{% raw %}{% generation %}{% endraw %}";
        let expected = "{%- filter oumi_generation -%}x{%endfilter%}{# {% generation %} #}{{ '{% generation %}' }}{% raw %}{% generation %}{% endraw %}";
        assert_eq!(rewrite(source).ok(), Some((expected.to_string(), true)));
        assert_eq!(rewrite("{% if generation %}{{ x").ok(), Some(("{% if generation %}{{ x".to_string(), false)));
    }

    #[test]
    fn spans_are_bytes_of_the_clean_text() {
        let markers = Markers::absent_from(&["\u{fdd0}"]).unwrap();
        assert_eq!(markers.begin, '\u{fdd1}');
        let text = "é\u{fdd1}日\u{fdd2}x\u{fdd1}\u{fdd2}";
        assert_eq!(take_spans(text, markers), Some(("é日x".to_string(), vec![2..5, 6..6])));
        assert_eq!(take_spans("\u{fdd2}", markers), None);
    }
}
