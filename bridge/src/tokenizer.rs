//! Loading, encoding and changing a tokenizer.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::json;
use tokenizers::{AddedToken, ModelWrapper, PaddingDirection, PostProcessorWrapper, Tokenizer};

use crate::{Failure, Outcome};

/// The tokenizer, and what the files beside it may need to know of it.
pub fn load(json: &[u8]) -> Outcome<(Tokenizer, String)> {
    let mut tokenizer = Tokenizer::from_bytes(json).map_err(Failure::input)?;
    let model = match tokenizer.get_model() {
        ModelWrapper::BPE(_) => "BPE",
        ModelWrapper::WordPiece(_) => "WordPiece",
        ModelWrapper::WordLevel(_) => "WordLevel",
        ModelWrapper::Unigram(_) => "Unigram",
    };
    let padding = tokenizer.get_padding().map(|padding| {
        let side = if matches!(padding.direction, PaddingDirection::Left) { "left" } else { "right" };
        json!({"pad_token": padding.pad_token, "side": side})
    });
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(Failure::input)?;
    Ok((tokenizer, json!({"model": model, "padding": padding}).to_string()))
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

pub fn encode(tokenizer: &Tokenizer, texts: Vec<&str>, add_special_tokens: bool, offsets: bool) -> Outcome<Encoded> {
    let encodings = if offsets { tokenizer.encode_batch(texts, add_special_tokens) } else { tokenizer.encode_batch_fast(texts, add_special_tokens) }
        .map_err(Failure::input)?;
    let tokens = encodings.iter().map(|encoding| encoding.len()).sum();
    let mut encoded = Encoded {
        ids: Vec::with_capacity(tokens),
        special: Vec::with_capacity(tokens),
        offsets: Vec::with_capacity(if offsets { 2 * tokens } else { 0 }),
        ends: Vec::with_capacity(encodings.len()),
    };
    for encoding in &encodings {
        encoded.ids.extend_from_slice(encoding.get_ids());
        encoded.special.extend(encoding.get_special_tokens_mask().iter().map(|&flag| flag as u8));
        if offsets {
            encoded.offsets.extend(encoding.get_offsets().iter().flat_map(|&(begin, end)| [begin, end]));
        }
        encoded.ends.push(encoded.ids.len());
    }
    Ok(encoded)
}
