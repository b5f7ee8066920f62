//! The C ABI that `oumi_bridge.h` declares. Every entry point goes through [`guard`], so that no panic crosses it.

mod chat;
mod generation;
mod guard;
mod limits;
mod panics;
mod python;
mod tokenizer;
mod training;
mod words;

use std::ffi::c_void;
use std::panic::{catch_unwind, AssertUnwindSafe};

use chat::Template;
use tokenizer::{Encoded, Handle};

pub const OK: i32 = 0;
pub const INPUT: i32 = 1;
pub const BUG: i32 = 2;
pub const RAISED: i32 = 3;

/// What went wrong: the status to return and the text for the user.
pub struct Failure {
    pub status: i32,
    pub message: String,
}

impl Failure {
    pub fn input(message: impl std::fmt::Display) -> Self {
        Failure { status: INPUT, message: message.to_string() }
    }
}

pub type Outcome<T> = Result<T, Failure>;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Bytes {
    data: *const u8,
    size: usize,
}

impl Bytes {
    /// # Safety
    /// The caller keeps `data` alive and unchanged for the call.
    unsafe fn slice<'a>(self) -> &'a [u8] {
        if self.size == 0 {
            &[]
        } else {
            unsafe { std::slice::from_raw_parts(self.data, self.size) }
        }
    }

    unsafe fn text<'a>(self) -> Outcome<&'a str> {
        std::str::from_utf8(unsafe { self.slice() }).map_err(|error| Failure::input(format!("not valid UTF-8 at byte {}", error.valid_up_to())))
    }
}

#[repr(C)]
pub struct Buffer {
    data: *mut u8,
    size: usize,
    capacity: usize,
}

impl Buffer {
    const EMPTY: Buffer = Buffer { data: std::ptr::null_mut(), size: 0, capacity: 0 };

    fn from_bytes(bytes: Vec<u8>) -> Self {
        let mut bytes = std::mem::ManuallyDrop::new(bytes);
        Buffer { data: bytes.as_mut_ptr(), size: bytes.len(), capacity: bytes.capacity() }
    }
}

#[repr(C)]
pub struct Encodings {
    ids: *const u32,
    special: *const u8,
    offsets: *const usize,
    ends: *const usize,
    count: usize,
    tokens: usize,
    owner: *mut c_void,
}

/// Runs `body`, writes its text or its error to `out`, and turns a panic into `BUG`.
unsafe fn guard(out: *mut Buffer, body: impl FnOnce() -> Outcome<Vec<u8>>) -> i32 {
    let (status, bytes) = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(bytes)) => (OK, bytes),
        Ok(Err(failure)) => (failure.status, failure.message.into_bytes()),
        Err(panic) => (BUG, panics::panic_text(panic.as_ref()).into_bytes()),
    };
    unsafe { out.write(if bytes.capacity() == 0 { Buffer::EMPTY } else { Buffer::from_bytes(bytes) }) };
    status
}

#[no_mangle]
pub extern "C" fn oumi_bridge_abi() -> u32 {
    panics::silence_panics();
    1
}

#[no_mangle]
pub unsafe extern "C" fn oumi_bridge_release(buffer: Buffer) {
    if !buffer.data.is_null() {
        drop(unsafe { Vec::from_raw_parts(buffer.data, buffer.size, buffer.capacity) });
    }
}

#[no_mangle]
pub unsafe extern "C" fn oumi_bridge_tokenizer_new(json: Bytes, handle: *mut *mut Handle, out: *mut Buffer) -> i32 {
    unsafe {
        guard(out, || {
            let (tokenizer, about) = tokenizer::load(json.slice())?;
            handle.write(Box::into_raw(Box::new(Handle::new(tokenizer))));
            Ok(about.into_bytes())
        })
    }
}

#[no_mangle]
pub unsafe extern "C" fn oumi_bridge_tokenizer_free(handle: *mut Handle) {
    if !handle.is_null() {
        drop(unsafe { Box::from_raw(handle) });
    }
}

#[no_mangle]
pub unsafe extern "C" fn oumi_bridge_tokenizer_add_tokens(handle: *mut Handle, json: Bytes, out: *mut Buffer) -> i32 {
    unsafe { guard(out, || tokenizer::add_tokens((*handle).change(), json.slice()).map(|()| Vec::new())) }
}

#[no_mangle]
pub unsafe extern "C" fn oumi_bridge_tokenizer_set_post_processor(handle: *mut Handle, json: Bytes, out: *mut Buffer) -> i32 {
    unsafe { guard(out, || tokenizer::set_post_processor((*handle).change(), json.slice()).map(|()| Vec::new())) }
}

#[no_mangle]
pub unsafe extern "C" fn oumi_bridge_tokenizer_json(handle: *const Handle, out: *mut Buffer) -> i32 {
    unsafe { guard(out, || (*handle).to_string(true).map(String::into_bytes).map_err(Failure::input)) }
}

#[no_mangle]
pub unsafe extern "C" fn oumi_bridge_vocab_size(handle: *const Handle) -> usize {
    catch_unwind(AssertUnwindSafe(|| unsafe { (*handle).get_vocab_size(true) })).unwrap_or(0)
}

#[no_mangle]
pub unsafe extern "C" fn oumi_bridge_token_to_id(handle: *const Handle, token: Bytes) -> i64 {
    catch_unwind(AssertUnwindSafe(|| unsafe {
        let token = std::str::from_utf8(token.slice()).ok()?;
        (*handle).token_to_id(token).map(i64::from)
    }))
    .ok()
    .flatten()
    .unwrap_or(-1)
}

#[no_mangle]
pub unsafe extern "C" fn oumi_bridge_id_to_token(handle: *const Handle, id: u32, out: *mut Buffer) -> i32 {
    let mut found = 0;
    let status = unsafe {
        guard(out, || {
            let token = (*handle).id_to_token(id);
            found = i32::from(token.is_some());
            Ok(token.map(String::into_bytes).unwrap_or_default())
        })
    };
    if status == OK {
        found
    } else {
        0
    }
}

#[no_mangle]
pub unsafe extern "C" fn oumi_bridge_encode(
    handle: *const Handle,
    texts: *const Bytes,
    count: usize,
    flags: u32,
    encodings: *mut Encodings,
    out: *mut Buffer,
) -> i32 {
    unsafe {
        guard(out, || {
            let texts: &[Bytes] = if count == 0 { &[] } else { std::slice::from_raw_parts(texts, count) };
            let mut views = Vec::with_capacity(count);
            for (index, bytes) in texts.iter().enumerate() {
                views.push(bytes.text().map_err(|failure| Failure::input(if count > 1 { format!("text {index}: {}", failure.message) } else { failure.message }))?);
            }
            let encoded = Box::new(tokenizer::encode(&*handle, views, flags & 1 != 0, flags & 2 != 0)?);
            encodings.write(Encodings {
                ids: encoded.ids.as_ptr(),
                special: if flags & 2 != 0 { encoded.special.as_ptr() } else { std::ptr::null() },
                offsets: if flags & 2 != 0 { encoded.offsets.as_ptr() } else { std::ptr::null() },
                ends: encoded.ends.as_ptr(),
                count,
                tokens: encoded.ids.len(),
                owner: Box::into_raw(encoded) as *mut c_void,
            });
            Ok(Vec::new())
        })
    }
}

#[no_mangle]
pub unsafe extern "C" fn oumi_bridge_encodings_release(encodings: Encodings) {
    if !encodings.owner.is_null() {
        drop(unsafe { Box::from_raw(encodings.owner as *mut Encoded) });
    }
}

#[no_mangle]
pub unsafe extern "C" fn oumi_bridge_decode(handle: *const Handle, ids: *const u32, count: usize, skip_special_tokens: i32, out: *mut Buffer) -> i32 {
    unsafe {
        guard(out, || {
            let ids: &[u32] = if count == 0 { &[] } else { std::slice::from_raw_parts(ids, count) };
            (*handle).decode(ids, skip_special_tokens != 0).map(String::into_bytes).map_err(Failure::input)
        })
    }
}

#[no_mangle]
pub unsafe extern "C" fn oumi_bridge_train(json: Bytes, out: *mut Buffer) -> i32 {
    unsafe { guard(out, || training::train(json.slice()).map(String::into_bytes)) }
}

#[no_mangle]
pub unsafe extern "C" fn oumi_bridge_template_new(source: Bytes, handle: *mut *mut Template, out: *mut Buffer) -> i32 {
    unsafe {
        guard(out, || {
            handle.write(Box::into_raw(Box::new(Template::new(source.text()?)?)));
            Ok(Vec::new())
        })
    }
}

#[no_mangle]
pub unsafe extern "C" fn oumi_bridge_template_free(handle: *mut Template) {
    if !handle.is_null() {
        drop(unsafe { Box::from_raw(handle) });
    }
}

#[no_mangle]
pub unsafe extern "C" fn oumi_bridge_template_generates(handle: *const Template) -> i32 {
    i32::from(unsafe { (*handle).generates })
}

#[no_mangle]
pub unsafe extern "C" fn oumi_bridge_render(handle: *const Template, context: Bytes, spans: *mut Buffer, out: *mut Buffer) -> i32 {
    unsafe {
        spans.write(Buffer::EMPTY);
        guard(out, || {
            let (text, ranges) = (*handle).render(context.text()?)?;
            if !ranges.is_empty() {
                let bytes: Vec<u8> = ranges.iter().flat_map(|range| [range.start, range.end]).flat_map(usize::to_ne_bytes).collect();
                spans.write(Buffer::from_bytes(bytes));
            }
            Ok(text.into_bytes())
        })
    }
}
