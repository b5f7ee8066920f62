//! The ids of byte-level BPE word by word, for callers that need no offsets. The crate keeps a string, its original and an offset for each
//! byte of every word; here a text is cut by the same patterns, and the crate's model is asked once for each word, whose ids are remembered.
//! Tokenizers and texts that need more than that (normalizers, added tokens) are left to the crate, which gives the same ids.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::LazyLock;

use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::utils::SysRegex;
use tokenizers::{Model, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

/// What ByteLevel cuts by with `use_regex`.
const GPT2_PATTERN: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Ids that a thread remembers, and the longest word (bytes) that is worth it.
const REMEMBERED_IDS: usize = 1 << 20;
const REMEMBERED_WORD: usize = 64;

/// GPT-2's character for each byte: itself where it is one to see, else one from U+0100 on.
static BYTE_CHARACTERS: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut next = 256u32;
    std::array::from_fn(|byte| {
        let visible = matches!(byte as u8, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let code = if visible { byte as u32 } else { next };
        next += u32::from(!visible);
        char::from_u32(code).unwrap_or_default()
    })
});

enum Cut {
    /// Matches and what lies between them.
    Pattern(SysRegex),
    /// Numeric characters one by one, or runs of them.
    Digits { individual: bool },
}

impl Cut {
    fn of(pre_tokenizer: &PreTokenizerWrapper) -> Option<Option<Cut>> {
        match pre_tokenizer {
            PreTokenizerWrapper::Split(split) => match (&split.pattern, split.behavior, split.invert) {
                (SplitPattern::Regex(pattern), SplitDelimiterBehavior::Isolated, false) => Some(Some(Cut::Pattern(SysRegex::new(pattern).ok()?))),
                _ => None,
            },
            PreTokenizerWrapper::Digits(digits) => Some(Some(Cut::Digits { individual: digits.individual_digits })),
            PreTokenizerWrapper::ByteLevel(level) if !level.add_prefix_space => {
                Some(if level.use_regex { Some(Cut::Pattern(SysRegex::new(GPT2_PATTERN).ok()?)) } else { None })
            }
            _ => None,
        }
    }
}

/// Calls `visit` for every word that `cuts`, each within the pieces of the one before, leave of `text`.
fn for_each_word<'t, E>(cuts: &[Cut], text: &'t str, visit: &mut impl FnMut(&'t str) -> Result<(), E>) -> Result<(), E> {
    if text.is_empty() {
        return Ok(());
    }
    let Some((first, rest)) = cuts.split_first() else {
        return visit(text);
    };
    let mut end = 0;
    match first {
        Cut::Pattern(pattern) => {
            for (from, to) in pattern.find_iter(text) {
                for_each_word(rest, &text[end..from], visit)?;
                for_each_word(rest, &text[from..to], visit)?;
                end = to;
            }
        }
        Cut::Digits { individual } => {
            let mut numeric_before = false;
            for (at, character) in text.char_indices() {
                let numeric = character.is_numeric();
                if numeric != numeric_before || (numeric && *individual) {
                    for_each_word(rest, &text[end..at], visit)?;
                    end = at;
                }
                numeric_before = numeric;
            }
        }
    }
    for_each_word(rest, &text[end..], visit)
}

/// A thread's words. One tokenizer at a time: runs have one.
#[derive(Default)]
struct Memory {
    owner: u64,
    known: HashMap<Box<str>, Range<u32>>,
    ids: Vec<u32>,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

pub struct Words {
    owner: u64,
    cuts: Vec<Cut>,
    ascii_only: bool,
    /// Contents of added tokens by their first byte.
    added: Vec<Vec<Box<str>>>,
    before: Vec<u32>,
    after: Vec<u32>,
}

impl Words {
    /// None where the tokenizer does more than cut and merge.
    pub fn of(tokenizer: &Tokenizer) -> Option<Words> {
        static OWNERS: AtomicU64 = AtomicU64::new(1);
        model_of(tokenizer)?;
        let mut added = vec![Vec::new(); 256];
        for token in tokenizer.get_added_tokens_decoder().into_values() {
            added[usize::from(*token.content.as_bytes().first()?)].push(token.content.into_boxed_str());
        }
        // Normalizing to composed characters leaves ASCII as it is.
        let ascii_only = match tokenizer.get_normalizer() {
            None => false,
            Some(NormalizerWrapper::NFC(_)) if added.iter().flatten().all(|content| content.is_ascii()) => true,
            Some(_) => return None,
        };
        let parts = match tokenizer.get_pre_tokenizer()? {
            PreTokenizerWrapper::Sequence(sequence) => sequence.as_ref(),
            one => std::slice::from_ref(one),
        };
        // What a ByteLevel has mapped to characters is cut no further.
        let (last, others) = parts.split_last()?;
        let is_byte_level = |part: &PreTokenizerWrapper| matches!(part, PreTokenizerWrapper::ByteLevel(_));
        if !is_byte_level(last) || others.iter().any(is_byte_level) {
            return None;
        }
        let cuts: Vec<Option<Cut>> = parts.iter().map(Cut::of).collect::<Option<_>>()?;
        // What the post-processor puts around any text.
        let (framed, plain) = (tokenizer.encode("a", true).ok()?, tokenizer.encode("a", false).ok()?);
        let special = framed.get_special_tokens_mask();
        let before = special.iter().take_while(|&&flag| flag == 1).count();
        let after = special[before..].iter().rev().take_while(|&&flag| flag == 1).count();
        let inner = before..framed.len() - after;
        if plain.is_empty() || framed.get_ids()[inner.clone()] != *plain.get_ids() {
            return None;
        }
        Some(Words {
            owner: OWNERS.fetch_add(1, Ordering::Relaxed),
            cuts: cuts.into_iter().flatten().collect(),
            ascii_only,
            added,
            before: framed.get_ids()[..before].to_vec(),
            after: framed.get_ids()[inner.end..].to_vec(),
        })
    }

    /// None where `text` is one for the crate.
    pub fn encode(&self, tokenizer: &Tokenizer, text: &str, add_special_tokens: bool) -> Option<tokenizers::Result<Vec<u32>>> {
        if text.is_empty() || (self.ascii_only && !text.is_ascii()) || self.has_added_token(text) {
            return None;
        }
        let model = model_of(tokenizer)?;
        // About four bytes a token.
        let mut ids = Vec::with_capacity(text.len() / 3 + self.before.len() + self.after.len());
        if add_special_tokens {
            ids.extend_from_slice(&self.before);
        }
        let done = MEMORY.with_borrow_mut(|memory| {
            if memory.owner != self.owner || memory.ids.len() > REMEMBERED_IDS {
                *memory = Memory { owner: self.owner, ..Memory::default() };
            }
            for_each_word(&self.cuts, text, &mut |word| memory.append(model, word, &mut ids))
        });
        if add_special_tokens {
            ids.extend_from_slice(&self.after);
        }
        Some(done.map(|()| ids))
    }

    fn has_added_token(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        bytes.iter().enumerate().any(|(at, &byte)| self.added[usize::from(byte)].iter().any(|content| bytes[at..].starts_with(content.as_bytes())))
    }
}

impl Memory {
    fn append(&mut self, model: &BPE, word: &str, ids: &mut Vec<u32>) -> tokenizers::Result<()> {
        if let Some(range) = self.known.get(word) {
            ids.extend_from_slice(&self.ids[range.start as usize..range.end as usize]);
            return Ok(());
        }
        let characters: String = word.bytes().map(|byte| BYTE_CHARACTERS[usize::from(byte)]).collect();
        let begin = ids.len();
        ids.extend(model.tokenize(&characters)?.into_iter().map(|token| token.id));
        if word.len() <= REMEMBERED_WORD {
            let start = self.ids.len() as u32;
            self.ids.extend_from_slice(&ids[begin..]);
            self.known.insert(word.into(), start..self.ids.len() as u32);
        }
        Ok(())
    }
}

/// Merges at random (dropout) are another draw each time.
fn model_of(tokenizer: &Tokenizer) -> Option<&BPE> {
    match tokenizer.get_model() {
        ModelWrapper::BPE(model) if model.dropout.is_none() || model.dropout == Some(0.0) => Some(model),
        _ => None,
    }
}
