//! Properties of the encodings of refresh tokens and session records.

use std::net::IpAddr;

use latchkey::{
    crypto::refresh_token::{PREFIX, RefreshClaims, RefreshTokens},
    domain::{
        clock::Timestamp,
        ids::{AccountId, SessionId},
        session::{Generation, SessionOrigin},
    },
    store::redis::record::{DETAIL_PARTS, Record, decode_all, decode_details, encode_details},
};

use super::take;

/// A text decodes only if encoding the decoded claims gives the same text. An encoded token decodes with its key only, and
/// does not decode after a change.
pub fn refresh_token(bytes: &[u8]) {
    let tokens = RefreshTokens::new(&[7; 32], []);
    // The current key is new, and the key of `tokens` is the previous one.
    let after_rotation = RefreshTokens::new(&[8; 32], [&[7; 32]]);
    let with_other_key = RefreshTokens::new(&[9; 32], []);
    // the input as a token
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(claims) = tokens.decode(text) {
            assert_eq!(tokens.encode(&claims).expose(), text);
        }
        assert!(with_other_key.decode(text).is_err());
    }
    // the input as the claims of a token
    let mut rest = bytes;
    let claims = RefreshClaims {
        account: AccountId::from_bytes(take(&mut rest)),
        session: SessionId::from_bytes(take(&mut rest)),
        generation: Generation(u32::from_be_bytes(take(&mut rest))),
        // a token holds 48 bits of the time, without a sign
        expires_at: Timestamp::from_millis((i64::from_be_bytes(take(&mut rest)) >> 17).abs()),
    };
    let token = tokens.encode(&claims);
    let text = token.expose();
    let decoded = tokens.decode(text).expect("an encoded token decodes");
    assert_eq!(decoded.account, claims.account);
    assert_eq!(decoded.session, claims.session);
    assert_eq!(decoded.generation, claims.generation);
    assert_eq!(tokens.encode(&decoded).expose(), text);
    assert_eq!(after_rotation.decode(text), Ok(decoded));
    assert!(with_other_key.decode(text).is_err());
    let [position, replacement] = take::<2>(&mut rest);
    let position = usize::from(position) % text.len();
    let mut changed = text.as_bytes().to_vec();
    let ascii = replacement & 0x7f;
    changed[position] = ascii;
    if changed != text.as_bytes() {
        let changed = std::str::from_utf8(&changed).expect("ASCII");
        assert!(tokens.decode(changed).is_err());
    }
    assert!(tokens.decode(&text[..position]).is_err());
    assert!(tokens.decode(&text[PREFIX.len()..]).is_err());
}

/// Bytes decode as a record only if encoding the record gives the same bytes, except for fields that only Redis reads.
/// Damaged records are skipped.
pub fn session_record(bytes: &[u8]) {
    if let Ok(record) = Record::decode(bytes) {
        let encoded = record.encode();
        assert_eq!(Record::decode(&encoded), Ok(record));
        // the second byte has four flags: 1 cookie, 2 last use, 4 browser (ignored without 1), 8 step-up
        let is_cookie = bytes[1] & 1 != 0;
        let known_flags = if is_cookie { 0b1111 } else { 0b1011 };
        assert_eq!(encoded[0], bytes[0]);
        assert_eq!(encoded[1], bytes[1] & known_flags);
        assert_eq!(encoded[2..], bytes[2..encoded.len()]);
    }
    let account = AccountId::from_bytes([1; 16]);
    // fields of the account's hash: a name of at most 17 bytes, and a value with the 36 bytes of a record
    let fields: Vec<_> = bytes
        .chunks(17 + 36)
        .map(|chunk| {
            let (name, value) = chunk.split_at(chunk.len().min(17));
            // the last byte chooses whether the field has a session's name (16 bytes) or a detail's (17 bytes)
            let name = if name.last().is_some_and(|last| last % 2 == 0) { &name[..name.len() - 1] } else { name };
            (name.to_vec().into(), value.to_vec().into())
        })
        .collect();
    assert!(decode_all(account, &fields).len() <= fields.len());

    let origin = decode_details(bytes);
    // A session without a grant has only the details of its origin.
    let no_grant = || None;
    let parts = encode_details(no_grant(), &origin);
    assert!(parts.len() <= DETAIL_PARTS);
    // Redis keeps the account's hash compact if no value is longer
    assert!(parts.iter().all(|part| part.len() <= 64));
    assert_eq!(decode_details(&parts.concat()).ip, origin.ip);
    // The address survives a user agent and a device of any length.
    let mut rest = bytes;
    let device = String::from_utf8_lossy(bytes).into_owned();
    let origin = SessionOrigin {
        ip: Some(IpAddr::from(take::<16>(&mut rest))),
        user_agent: Some(device.clone()),
        device: Some(device),
    };
    let parts = encode_details(no_grant(), &origin);
    assert_eq!(decode_details(&parts.concat()).ip, origin.ip);
}
