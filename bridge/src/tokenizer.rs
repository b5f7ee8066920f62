//! Loading, encoding and changing a tokenizer.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::json;
use tokenizers::utils::parallelism::MaybeParallelIterator;
use tokenizers::{AddedToken, ModelWrapper, PaddingDirection, PostProcessorWrapper, Tokenizer, TruncationDirection};

use crate::words::Words;
use crate::{Failure, Outcome};

/// A tokenizer, and its shorter way to ids once that was asked for.
pub struct Handle {
    tokenizer: Tokenizer,
    words: OnceLock<Option<Words>>,
}

impl Handle {
    pub fn new(tokenizer: Tokenizer) -> Self {
        Handle { tokenizer, words: OnceLock::new() }
    }

    /// To be changed: what was found out about it counts no longer.
    pub fn change(&mut self) -> &mut Tokenizer {
        self.words = OnceLock::new();
        &mut self.tokenizer
    }

    fn words(&self) -> Option<&Words> {
        self.words.get_or_init(|| Words::of(&self.tokenizer)).as_ref()
    }
}

impl std::ops::Deref for Handle {
    type Target = Tokenizer;

    fn deref(&self) -> &Tokenizer {
        &self.tokenizer
    }
}

/// The tokenizer, and what the files beside it may need to know of it.
pub fn load(json: &[u8]) -> Outcome<(Tokenizer, String)> {
    let mut tokenizer = Tokenizer::from_bytes(json).map_err(Failure::input)?;
    let model = match tokenizer.get_model() {
        ModelWrapper::BPE(_) => "BPE",
        ModelWrapper::WordPiece(_) => "WordPiece",
        ModelWrapper::WordLevel(_) => "WordLevel",
        ModelWrapper::Unigram(_) => "Unigram",
    };
    let truncates_left = tokenizer.get_truncation().is_some_and(|truncation| matches!(truncation.direction, TruncationDirection::Left));
    let padding = tokenizer.get_padding().map(|padding| {
        let side = if matches!(padding.direction, PaddingDirection::Left) { "left" } else { "right" };
        json!({"pad_token": padding.pad_token, "side": side})
    });
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(Failure::input)?;
    Ok((tokenizer, json!({"model": model, "padding": padding, "truncates_left": truncates_left}).to_string()))
}

#[derive(Deserialize)]
struct TokenToAdd {
    content: String,
    special: bool,
    normalized: Option<bool>,
    lstrip: Option<bool>,
    rstrip: Option<bool>,
    single_word: Option<bool>,
}

/// A flag that isn't given stays as it is where the token exists. One call for all of them, since each rebuilds the matcher.
pub fn add_tokens(tokenizer: &mut Tokenizer, json: &[u8]) -> Outcome<()> {
    let tokens: Vec<TokenToAdd> = serde_json::from_slice(json).map_err(Failure::input)?;
    let existing: HashMap<String, AddedToken> = tokenizer.get_added_tokens_decoder().into_values().map(|token| (token.content.clone(), token)).collect();
    let tokens = tokens.into_iter().map(|token| {
        let base = existing.get(&token.content).cloned().unwrap_or_else(|| AddedToken::from(token.content.as_str(), token.special));
        AddedToken {
            content: token.content,
            special: token.special,
            normalized: token.normalized.unwrap_or(base.normalized),
            lstrip: token.lstrip.unwrap_or(base.lstrip),
            rstrip: token.rstrip.unwrap_or(base.rstrip),
            single_word: token.single_word.unwrap_or(base.single_word),
        }
    });
    tokenizer.add_tokens(tokens.collect::<Vec<_>>()).map_err(Failure::input)?;
    Ok(())
}

pub fn set_post_processor(tokenizer: &mut Tokenizer, json: &[u8]) -> Outcome<()> {
    let processor: PostProcessorWrapper = serde_json::from_slice(json).map_err(Failure::input)?;
    tokenizer.with_post_processor(Some(processor));
    Ok(())
}

/// The tokens of several texts one after the other; `ends[i]` is where text i ends.
pub struct Encoded {
    pub ids: Vec<u32>,
    pub special: Vec<u8>,
    pub offsets: Vec<usize>,
    pub ends: Vec<usize>,
}

/// What is kept of one text: the crate's Encoding holds every token's text and more, some 150 bytes a token.
struct Tokens {
    ids: Vec<u32>,
    special: Vec<u8>,
    offsets: Vec<(usize, usize)>,
}

/// On all cores.
pub fn encode(handle: &Handle, texts: Vec<&str>, add_special_tokens: bool, offsets: bool) -> Outcome<Encoded> {
    let words = if offsets { None } else { handle.words() };
    let rows: Vec<Tokens> = texts
        .into_maybe_par_iter()
        .map(|text| {
            if let Some(ids) = words.and_then(|words| words.encode(handle, text, add_special_tokens)) {
                return Ok(Tokens { ids: ids?, special: Vec::new(), offsets: Vec::new() });
            }
            // encode_fast, which computes no offsets, is the slower one (0.23).
            let encoding = handle.encode(text, add_special_tokens)?;
            let special = if offsets { encoding.get_special_tokens_mask().iter().map(|&flag| flag as u8).collect() } else { Vec::new() };
            Ok(Tokens { ids: encoding.get_ids().to_vec(), special, offsets: if offsets { encoding.get_offsets().to_vec() } else { Vec::new() } })
        })
        .collect::<tokenizers::Result<_>>()
        .map_err(Failure::input)?;
    let tokens = rows.iter().map(|row| row.ids.len()).sum();
    let details = if offsets { tokens } else { 0 };
    let mut encoded =
        Encoded { ids: Vec::with_capacity(tokens), special: Vec::with_capacity(details), offsets: Vec::with_capacity(2 * details), ends: Vec::with_capacity(rows.len()) };
    for row in rows {
        encoded.ids.extend_from_slice(&row.ids);
        encoded.special.extend_from_slice(&row.special);
        encoded.offsets.extend(row.offsets.into_iter().flat_map(|(begin, end)| [begin, end]));
        encoded.ends.push(encoded.ids.len());
    }
    Ok(encoded)
}
