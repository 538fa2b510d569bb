//! Bytes as base64 text, and back.

/// Standard alphabet, padded.
pub fn push_base64(out: &mut String, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4 {
            let is_padding = i > chunk.len();
            let letter = ALPHABET[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if is_padding { '=' } else { letter as char });
        }
    }
}

/// Standard or URL alphabet, padded or not.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    let (mut out, mut bits, mut count) = (Vec::with_capacity(text.len() * 3 / 4), 0u32, 0);
    for b in text.trim_end_matches('=').bytes() {
        let v = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(v);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back() {
        for n in 0..40u8 {
            let bytes: Vec<u8> = (0..n).map(|i| i.wrapping_mul(97)).collect();
            let mut text = String::new();
            push_base64(&mut text, &bytes);
            assert_eq!(text.len() % 4, 0);
            assert_eq!(from_base64(&text), Some(bytes.clone()));
            let bare = text.trim_end_matches('=').replace('+', "-").replace('/', "_");
            assert_eq!(from_base64(&bare), Some(bytes));
        }
        assert_eq!(from_base64("a b"), None);
    }
}
