//! A record's headers, whatever bytes their names are.

use std::borrow::Cow;
use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use rdkafka::bindings::{rd_kafka_header_get_all, rd_kafka_message_headers};
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaRespErr;

/// Hands out name and value of each header; a name that is not UTF-8 has replacement characters.
///
/// rdkafka's own accessors (0.39) panic on such a name, and any client may write one.
pub fn each_header(message: &BorrowedMessage<'_>, mut take: impl FnMut(&str, Option<&[u8]>)) {
    for index in 0.. {
        match header(message, index) {
            Some((name, value)) => take(&name, value),
            None => break,
        }
    }
}

#[expect(unsafe_code, reason = "rdkafka has no safe access that accepts every name")]
fn header<'a>(message: &'a BorrowedMessage<'_>, index: usize) -> Option<(Cow<'a, str>, Option<&'a [u8]>)> {
    let mut headers = ptr::null_mut();
    // SAFETY: the message lives as long as the borrow, and librdkafka keeps ownership of the headers.
    let found = unsafe { rd_kafka_message_headers(message.ptr(), &mut headers) };
    if found != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return None;
    }
    let mut name: *const c_char = ptr::null();
    let mut value: *const c_void = ptr::null();
    let mut length = 0usize;
    // SAFETY: the headers were found just now; all three pointers are to our own variables.
    let found = unsafe { rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut length) };
    if found != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
        return None;
    }
    // SAFETY: librdkafka ends names with NUL, and they live as long as the message.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    // SAFETY: a value that is not null has this length, and lives as long as the message.
    let value = (!value.is_null()).then(|| unsafe { std::slice::from_raw_parts(value.cast::<u8>(), length) });
    Some((name, value))
}
