//! Training a vocabulary.

use serde::Deserialize;
use serde_json::Value;
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::models::unigram::UnigramTrainer;
use tokenizers::models::wordpiece::WordPieceTrainer;
use tokenizers::models::TrainerWrapper;
use tokenizers::{AddedToken, Tokenizer};

use crate::{Failure, Outcome};

#[derive(Deserialize)]
struct Request {
    tokenizer: Value,
    kind: String,
    vocab_size: usize,
    min_frequency: u64,
    special_tokens: Vec<String>,
    alphabet: String,
    limit_alphabet: Option<usize>,
    unk_token: Option<String>,
    files: Vec<String>,
}

pub fn train(json: &[u8]) -> Outcome<String> {
    let request: Request = serde_json::from_slice(json).map_err(Failure::input)?;
    let mut tokenizer: Tokenizer = serde_json::from_value(request.tokenizer).map_err(Failure::input)?;
    let special_tokens: Vec<AddedToken> = request.special_tokens.iter().map(|token| AddedToken::from(token.as_str(), true)).collect();
    let alphabet = request.alphabet.chars();
    let mut trainer: TrainerWrapper = match request.kind.as_str() {
        "bpe" => {
            let mut builder = BpeTrainer::builder()
                .show_progress(false)
                .vocab_size(request.vocab_size)
                .min_frequency(request.min_frequency)
                .special_tokens(special_tokens)
                .initial_alphabet(alphabet.collect());
            if let Some(limit) = request.limit_alphabet {
                builder = builder.limit_alphabet(limit);
            }
            builder.build().into()
        }
        "wordpiece" => {
            let mut builder = WordPieceTrainer::builder()
                .show_progress(false)
                .vocab_size(request.vocab_size)
                .min_frequency(request.min_frequency)
                .special_tokens(special_tokens)
                .initial_alphabet(alphabet.collect());
            if let Some(limit) = request.limit_alphabet {
                builder = builder.limit_alphabet(limit);
            }
            builder.build().into()
        }
        "unigram" => UnigramTrainer::builder()
            .show_progress(false)
            .vocab_size(request.vocab_size as u32)
            .special_tokens(special_tokens)
            .initial_alphabet(alphabet.collect())
            .unk_token(request.unk_token)
            .build()
            .map_err(Failure::input)?
            .into(),
        other => return Err(Failure::input(format!("kind: expected bpe, unigram or wordpiece, got '{other}'"))),
    };
    tokenizer.train_from_files(&mut trainer, request.files).map_err(Failure::input)?;
    tokenizer.to_string(true).map_err(Failure::input)
}
