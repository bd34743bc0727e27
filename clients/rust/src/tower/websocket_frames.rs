//! Boundaries of the WebSocket frames that a handler sends (RFC 6455, section 5.2), and the close frame.

use crate::EndCause;

/// Follows a stream of frames without reading their content.
#[derive(Debug, Default)]
pub(super) struct FrameTracker {
    /// The bytes of a header of which more bytes are still to come.
    header: Vec<u8>,
    /// How many bytes of the current frame's payload are still to come.
    payload_left: u64,
}

impl FrameTracker {
    /// Advances over bytes of the stream.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let skipped = usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(bytes.len());
                self.payload_left -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            self.header.push(bytes[0]);
            bytes = &bytes[1..];
            if let Some(length) = payload_length(&self.header) {
                self.payload_left = length;
                self.header.clear();
            }
        }
    }

    /// Whether the last frame is complete, so that another one may follow.
    pub(super) fn is_between_frames(&self) -> bool {
        self.header.is_empty() && self.payload_left == 0
    }
}

/// The length of the payload after this header; `None` if the header is incomplete.
fn payload_length(header: &[u8]) -> Option<u64> {
    let second = *header.get(1)?;
    let is_masked = second & 0x80 != 0;
    let short_length = second & 0x7f;
    // the size of the extended length, which follows these two bytes
    let extended_bytes = match short_length {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask_bytes = if is_masked { 4 } else { 0 };
    if header.len() < 2 + extended_bytes + mask_bytes {
        return None;
    }
    Some(match extended_bytes {
        0 => u64::from(short_length),
        // big-endian
        _ => header[2..2 + extended_bytes].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
    })
}

/// A close frame with the code and the name of a cause (RFC 6455, section 5.5.1).
pub(super) fn close_frame(cause: EndCause) -> Vec<u8> {
    const FINAL_CLOSE: u8 = 0x88;
    let reason = cause.as_str().as_bytes();
    // The code takes 2 bytes. The names of causes are far shorter than the 123 bytes that fit, so the fallback is never used.
    let length = u8::try_from(2 + reason.len()).unwrap_or(2);
    let mut frame = vec![FINAL_CLOSE, length];
    frame.extend(cause.close_code().to_be_bytes());
    frame.extend(&reason[..usize::from(length) - 2]);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracker_finds_frame_boundaries_however_the_bytes_are_cut() {
        // a text frame
        let mut stream = vec![0x81, 3, b'a', b'b', b'c'];
        // a binary frame of 256 bytes, with a length of 16 bits
        stream.extend([0x82, 126, 1, 0]);
        stream.extend([7; 256]);
        // a binary frame of 65,536 bytes, with a length of 64 bits
        stream.extend([0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        stream.extend([9; 65_536]);
        // a text frame of 2 bytes, with a mask of 4 bytes
        stream.extend([0x81, 0x82, 1, 2, 3, 4, 5, 6]);
        // a ping without a payload
        stream.extend([0x89, 0]);
        // the start of the stream and the end of each frame
        let boundaries = [0, 5, 265, 65_811, 65_819, 65_821];
        for chunk_len in [1, 2, 3, 7, 1000, stream.len()] {
            let mut tracker = FrameTracker::default();
            assert!(tracker.is_between_frames());
            let mut position = 0;
            for chunk in stream.chunks(chunk_len) {
                tracker.advance(chunk);
                position += chunk.len();
                let is_boundary = boundaries.contains(&position);
                assert_eq!(tracker.is_between_frames(), is_boundary, "at {position}, in chunks of {chunk_len}");
            }
        }
    }

    #[test]
    fn close_frame_has_code_and_cause() {
        // final close frame, 2 + 9 bytes, code 1013
        assert_eq!(close_frame(EndCause::FeedLost), b"\x88\x0b\x03\xf5feed_lost");
        // final close frame, 2 + 15 bytes, code 1008
        assert_eq!(close_frame(EndCause::SessionRevoked), b"\x88\x11\x03\xf0session_revoked");
    }
}
