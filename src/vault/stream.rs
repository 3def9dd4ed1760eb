//! Sealed streams: files of any size that open only whole and unchanged, with the key that sealed them.
//!
//! A stream is `magic (16 bytes) | format (1) | key id (4) | salt (32)` and then pieces, each `is it the last (1) | length (4,
//! little endian) | ciphertext and tag`, XChaCha20-Poly1305. Its key is derived from the key in the file and the salt; a
//! piece's nonce is its place and whether it is the last; the header is authenticated with every piece. So pieces can be
//! neither changed, left out, moved nor taken from another stream, and a stream that was cut off lacks its last piece.

use std::{
    fmt,
    io::{self, Read, Write},
    path::Path,
};

use chacha20poly1305::{
    Key, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use zeroize::Zeroizing;

use crate::vault::{
    KEY_ID_BYTES, VaultError,
    key_file::{self, KeyBytes},
    key_id,
};

const MAGIC: &[u8; 16] = b"pqhost export\r\n\0";
const FORMAT: u8 = 1;
const SALT_BYTES: usize = 32;
const HEADER_BYTES: usize = MAGIC.len() + 1 + KEY_ID_BYTES + SALT_BYTES;
const PIECE_HEADER_BYTES: usize = 1 + 4;

/// Longest piece, in bytes: the largest file of a script or draft fits, and a damaged length takes no more memory than this.
const PIECE_BYTES_MAX: usize = 64 << 20;

/// Why a stream cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is something else.
    #[error("this is no export of pqhost")]
    NotAStream,
    /// A newer pqhost has written it.
    #[error(
        "the export has format {format}, and this pqhost knows {FORMAT}: use the pqhost that wrote it, or a newer one"
    )]
    NewerFormat {
        /// The format.
        format: u8,
    },
    /// Another key has sealed it.
    #[error("the export is sealed with key {sealed_with}, and the key file holds {holds}")]
    WrongKey {
        /// Id of the key that it needs.
        sealed_with: String,
        /// Id of the key in the file.
        holds: String,
    },
    /// The end is missing.
    #[error("the export is incomplete: it was cut off")]
    CutOff,
    /// It is not what was written.
    #[error("the export was changed or damaged")]
    Tampered,
    /// More than fits in a piece.
    #[error("a single value of {bytes} bytes is too large for an export")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// The key of streams, in a file like that of the vault's key.
pub struct StreamKey(KeyBytes);

impl StreamKey {
    /// Creates a key file, mode 0600.
    ///
    /// # Errors
    /// There is such a file, or it cannot be written.
    pub fn create(path: &Path) -> Result<(), VaultError> {
        key_file::create_new(path)
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// There is none, others may read it, or it is not valid.
    pub fn read(path: &Path) -> Result<Self, VaultError> {
        key_file::read_existing(path).map(Self)
    }

    fn cipher(&self, salt: &[u8]) -> XChaCha20Poly1305 {
        let material = Zeroizing::new([self.0.as_ref(), salt].concat());
        let derived = Zeroizing::new(blake3::derive_key("pqhost 2026 sealed stream", &material));
        XChaCha20Poly1305::new(Key::from_slice(derived.as_ref()))
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamKey").field("id", &hex::encode(key_id(&self.0))).finish_non_exhaustive()
    }
}

/// What makes the pieces of one stream belong together.
struct Pieces {
    cipher: XChaCha20Poly1305,
    header: [u8; HEADER_BYTES],
    next: u64,
}

impl Pieces {
    fn new(key: &StreamKey, header: [u8; HEADER_BYTES]) -> Self {
        Self { cipher: key.cipher(&header[HEADER_BYTES - SALT_BYTES..]), header, next: 0 }
    }

    fn nonce(&mut self, is_last: bool) -> XNonce {
        let mut nonce = XNonce::default();
        nonce[..8].copy_from_slice(&self.next.to_le_bytes());
        nonce[8] = u8::from(is_last);
        self.next += 1;
        nonce
    }
}

/// Seals a stream while it is written.
pub(crate) struct StreamSealer<W> {
    output: W,
    pieces: Pieces,
}

impl<W: Write> StreamSealer<W> {
    /// Begins a stream.
    ///
    /// # Errors
    /// The output cannot be written.
    pub(crate) fn new(mut output: W, key: &StreamKey) -> Result<Self, StreamError> {
        let mut header = [0; HEADER_BYTES];
        let (magic, rest) = header.split_at_mut(MAGIC.len());
        magic.copy_from_slice(MAGIC);
        rest[0] = FORMAT;
        rest[1..=KEY_ID_BYTES].copy_from_slice(&key_id(&key.0));
        let salt = getrandom::fill(&mut rest[1 + KEY_ID_BYTES..]);
        salt.map_err(|error| io::Error::other(error.to_string()))?;
        output.write_all(&header)?;
        Ok(Self { output, pieces: Pieces::new(key, header) })
    }

    /// Writes a piece.
    ///
    /// # Errors
    /// It is too large, or the output cannot be written.
    pub(crate) fn write(&mut self, plain: &[u8]) -> Result<(), StreamError> {
        self.write_piece(plain, false)
    }

    /// Writes the last piece, and gives the output back.
    ///
    /// # Errors
    /// As for [`Self::write`].
    pub(crate) fn finish(mut self, plain: &[u8]) -> Result<W, StreamError> {
        self.write_piece(plain, true)?;
        Ok(self.output)
    }

    fn write_piece(&mut self, plain: &[u8], is_last: bool) -> Result<(), StreamError> {
        if plain.len() > PIECE_BYTES_MAX {
            return Err(StreamError::TooLarge { bytes: plain.len() });
        }
        let nonce = self.pieces.nonce(is_last);
        let payload = Payload { msg: plain, aad: &self.pieces.header };
        let sealed = self.pieces.cipher.encrypt(&nonce, payload).expect("only a plaintext of 256 GiB is refused");
        let length = u32::try_from(sealed.len()).expect("a piece is small");
        self.output.write_all(&[u8::from(is_last)])?;
        self.output.write_all(&length.to_le_bytes())?;
        Ok(self.output.write_all(&sealed)?)
    }
}

/// Opens a stream while it is read.
pub(crate) struct StreamOpener<R> {
    input: R,
    pieces: Pieces,
}

/// A piece of a stream.
pub(crate) struct Piece {
    /// What was written.
    pub(crate) plain: Zeroizing<Vec<u8>>,
    /// Whether the stream ends with it, and is all there.
    pub(crate) is_last: bool,
}

impl<R: Read> StreamOpener<R> {
    /// Looks at the beginning of a stream.
    ///
    /// # Errors
    /// It is none, is of a newer format, or is sealed with another key.
    pub(crate) fn new(mut input: R, key: &StreamKey) -> Result<Self, StreamError> {
        let mut header = [0; HEADER_BYTES];
        let n_read = read_up_to(&mut input, &mut header)?;
        let (magic, rest) = header.split_at(MAGIC.len());
        if !MAGIC.starts_with(&magic[..n_read.min(MAGIC.len())]) || n_read == 0 {
            return Err(StreamError::NotAStream);
        }
        if n_read > MAGIC.len() && rest[0] != FORMAT {
            return Err(StreamError::NewerFormat { format: rest[0] });
        }
        if n_read < HEADER_BYTES {
            return Err(StreamError::CutOff);
        }
        let (sealed_with, holds) = (&rest[1..=KEY_ID_BYTES], key_id(&key.0));
        if sealed_with != holds {
            return Err(StreamError::WrongKey { sealed_with: hex::encode(sealed_with), holds: hex::encode(holds) });
        }
        Ok(Self { input, pieces: Pieces::new(key, header) })
    }

    /// The next piece. To be called until it gives the last one.
    ///
    /// # Errors
    /// The stream was cut off or changed.
    pub(crate) fn read(&mut self) -> Result<Piece, StreamError> {
        let mut head = [0; PIECE_HEADER_BYTES];
        if read_up_to(&mut self.input, &mut head)? < head.len() {
            return Err(StreamError::CutOff);
        }
        let [is_last @ (0 | 1), length @ ..] = head else { return Err(StreamError::Tampered) };
        let length = u32::from_le_bytes(length) as usize;
        if length > PIECE_BYTES_MAX + 16 {
            return Err(StreamError::Tampered);
        }
        let mut sealed = Vec::new(); // grows with what is there, not with what a damaged length says
        if (&mut self.input).take(length as u64).read_to_end(&mut sealed)? < length {
            return Err(StreamError::CutOff);
        }
        let nonce = self.pieces.nonce(is_last == 1);
        let payload = Payload { msg: &sealed, aad: &self.pieces.header };
        let plain = self.pieces.cipher.decrypt(&nonce, payload).map_err(|_| StreamError::Tampered)?;
        if is_last == 1 && read_up_to(&mut self.input, &mut [0])? > 0 {
            return Err(StreamError::Tampered);
        }
        Ok(Piece { plain: Zeroizing::new(plain), is_last: is_last == 1 })
    }
}

/// Fills the buffer, or as much of it as there is.
fn read_up_to(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut n_read = 0;
    while n_read < buffer.len() {
        match input.read(&mut buffer[n_read..]) {
            Ok(0) => break,
            Ok(n) => n_read += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(n_read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> StreamKey {
        StreamKey(Zeroizing::new([byte; 32]))
    }

    fn sealed(pieces: &[&[u8]]) -> Vec<u8> {
        let mut sealer = StreamSealer::new(Vec::new(), &key(1)).unwrap();
        let (last, others) = pieces.split_last().unwrap();
        for piece in others {
            sealer.write(piece).unwrap();
        }
        sealer.finish(last).unwrap()
    }

    fn opened(stream: &[u8], key: &StreamKey) -> Result<Vec<Vec<u8>>, StreamError> {
        let mut opener = StreamOpener::new(stream, key)?;
        let mut pieces = Vec::new();
        loop {
            let Piece { plain, is_last } = opener.read()?;
            pieces.push(plain.to_vec());
            if is_last {
                return Ok(pieces);
            }
        }
    }

    #[test]
    fn a_stream_comes_back_and_no_two_are_alike() {
        let pieces: [&[u8]; 4] = [b"one", b"", &[7; 100_000], b"last"];
        assert_eq!(opened(&sealed(&pieces), &key(1)).unwrap(), pieces);
        assert_ne!(sealed(&pieces), sealed(&pieces));
        assert!(!sealed(&pieces).windows(4).any(|window| window == b"last"));
    }

    #[test]
    fn every_cut_and_every_changed_bit_is_noticed() {
        let stream = sealed(&[b"one", b"two", b"three"]);
        for end in 0..stream.len() {
            let error = opened(&stream[..end], &key(1)).unwrap_err();
            let expected = matches!(error, StreamError::CutOff) || end == 0 && matches!(error, StreamError::NotAStream);
            assert!(expected, "{end}: {error}");
        }
        for place in 0..stream.len() {
            let mut changed = stream.clone();
            changed[place] ^= 0x40;
            assert!(opened(&changed, &key(1)).is_err(), "{place}");
        }
        assert!(opened(&[&stream[..], b"x"].concat(), &key(1)).is_err());
    }

    #[test]
    fn pieces_cannot_be_moved_left_out_or_borrowed() {
        let (stream, other) = (sealed(&[b"one", b"two", b"end"]), sealed(&[b"one", b"two", b"end"]));
        let size = PIECE_HEADER_BYTES + 3 + 16;
        let (header, pieces) = stream.split_at(HEADER_BYTES);
        let piece = |n: usize| &pieces[n * size..(n + 1) * size];
        let foreign = &other[HEADER_BYTES + size..HEADER_BYTES + 2 * size];
        for stream in [
            [header, piece(1), piece(0), piece(2)].concat(),
            [header, piece(0), piece(2)].concat(),
            [header, piece(0), piece(0), piece(1), piece(2)].concat(),
            [header, piece(0), foreign, piece(2)].concat(),
            [&other[..HEADER_BYTES], pieces].concat(),
        ] {
            assert!(matches!(opened(&stream, &key(1)), Err(StreamError::Tampered)));
        }
    }

    #[test]
    fn what_cannot_be_opened_says_why() {
        let stream = sealed(&[b"x"]);
        assert!(matches!(opened(&stream, &key(2)), Err(StreamError::WrongKey { .. })));
        assert!(matches!(opened(b"PK\x03\x04 something else altogether", &key(1)), Err(StreamError::NotAStream)));
        let mut newer = stream;
        newer[MAGIC.len()] = FORMAT + 1;
        assert!(matches!(opened(&newer, &key(1)), Err(StreamError::NewerFormat { format: 2 })));
    }
}
