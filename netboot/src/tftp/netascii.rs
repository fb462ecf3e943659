//! Text as netascii: the line ends of the network's own terminal (RFC 1350 section 1, RFC 764). Pure.

/// A text with LF as CR LF, and CR, which is none of a line's end, as CR NUL.
pub(super) fn encode(text: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(text.len() + text.len() / 32);
    for byte in text {
        match byte {
            b'\n' => encoded.extend(b"\r\n"),
            b'\r' => encoded.extend(b"\r\0"),
            other => encoded.push(*other),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::encode;

    /// What a client does, or nothing if it is no netascii.
    fn decode(encoded: &[u8]) -> Option<Vec<u8>> {
        let (mut text, mut bytes) = (Vec::new(), encoded.iter());
        while let Some(byte) = bytes.next() {
            text.push(match byte {
                b'\r' => match bytes.next()? {
                    b'\n' => b'\n',
                    0 => b'\r',
                    _ => return None,
                },
                b'\n' => return None,
                other => *other,
            });
        }
        Some(text)
    }

    #[test]
    fn line_ends_are_those_of_the_network() {
        for (text, encoded) in [
            ("", ""),
            ("a", "a"),
            ("a\nb\n", "a\r\nb\r\n"),
            ("\r", "\r\0"),
            ("a\r\nb", "a\r\0\r\nb"),
            ("\0é", "\0é"),
        ] {
            assert_eq!(encode(text.as_bytes()), encoded.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn a_client_gets_back_what_was_there(text in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'\r')], 0..200)) {
            prop_assert_eq!(decode(&encode(&text)), Some(text));
        }
    }
}
