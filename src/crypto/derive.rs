//! Keys from passwords.

use hmac::Hmac;
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use crate::crypto::{CryptoError, FUEL_PER_NS, Hash};

/// Longest derived key, in bytes.
const LENGTH_MAX: u32 = 1024;

/// Memory of one call of scrypt, in bytes: as much as an invocation may have in its sandbox.
const SCRYPT_BYTES_MAX: u64 = 64 << 20;

/// Parameters of PBKDF2 that are allowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pbkdf2 {
    hash: Hash,
    iterations: u32,
    length: u32,
}

/// Parameters of scrypt that are allowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scrypt {
    parameters: scrypt::Params,
    length: u32,
}

fn invalid(message: String) -> CryptoError {
    CryptoError::InvalidArgument(message)
}

fn check_length(length: u32) -> Result<(), CryptoError> {
    if length == 0 || length > LENGTH_MAX {
        return Err(invalid(format!("a derived key has 1 to {LENGTH_MAX} bytes, not {length}")));
    }
    Ok(())
}

impl Pbkdf2 {
    /// # Errors
    /// If a parameter is not allowed.
    pub(crate) fn new(hash: Hash, iterations: u32, length: u32) -> Result<Self, CryptoError> {
        check_length(length)?;
        if iterations == 0 {
            return Err(invalid("PBKDF2 needs at least one iteration".to_owned()));
        }
        Ok(Self { hash, iterations, length })
    }

    /// What deriving a key costs.
    pub(crate) fn cost(self) -> u64 {
        let block = match self.hash {
            Hash::Sha1 => 20,
            Hash::Sha224 => 28,
            Hash::Sha256 => 32,
            Hash::Sha384 => 48,
            Hash::Sha512 => 64,
        };
        let blocks = u64::from(self.length.div_ceil(block));
        u64::from(self.iterations).saturating_mul(blocks).saturating_mul(500 * FUEL_PER_NS)
    }

    /// Derives a key.
    pub(crate) fn derive(self, password: &[u8], salt: &[u8]) -> Vec<u8> {
        let Self { hash, iterations, length } = self;
        let mut key = vec![0; length as usize];
        let derived = match hash {
            Hash::Sha1 => pbkdf2::pbkdf2::<Hmac<Sha1>>(password, salt, iterations, &mut key),
            Hash::Sha224 => pbkdf2::pbkdf2::<Hmac<Sha224>>(password, salt, iterations, &mut key),
            Hash::Sha256 => pbkdf2::pbkdf2::<Hmac<Sha256>>(password, salt, iterations, &mut key),
            Hash::Sha384 => pbkdf2::pbkdf2::<Hmac<Sha384>>(password, salt, iterations, &mut key),
            Hash::Sha512 => pbkdf2::pbkdf2::<Hmac<Sha512>>(password, salt, iterations, &mut key),
        };
        derived.expect("HMAC takes passwords of any length");
        key
    }
}

impl Scrypt {
    /// # Errors
    /// If a parameter is not allowed.
    pub(crate) fn new(n: u32, r: u32, p: u32, length: u32) -> Result<Self, CryptoError> {
        check_length(length)?;
        if !n.is_power_of_two() || n < 2 || 128 * u64::from(n) * u64::from(r) > SCRYPT_BYTES_MAX {
            let message =
                format!("scrypt needs n as a power of 2, and 128 * n * r of at most {SCRYPT_BYTES_MAX} bytes");
            return Err(invalid(message));
        }
        // The length here is only checked against a range that matters for password hash strings.
        let parameters = u8::try_from(n.ilog2()).ok().and_then(|log_n| scrypt::Params::new(log_n, r, p, 32).ok());
        let parameters = parameters.ok_or_else(|| invalid(format!("scrypt cannot use n={n}, r={r}, p={p}")))?;
        Ok(Self { parameters, length })
    }

    /// What deriving a key costs.
    pub(crate) fn cost(self) -> u64 {
        let work = 128_u64 << self.parameters.log_n();
        let work = work.saturating_mul(self.parameters.r().into()).saturating_mul(self.parameters.p().into());
        work.saturating_mul(4 * FUEL_PER_NS)
    }

    /// Derives a key.
    pub(crate) fn derive(self, password: &[u8], salt: &[u8]) -> Vec<u8> {
        let mut key = vec![0; self.length as usize];
        scrypt::scrypt(password, salt, &self.parameters, &mut key).expect("the length is in the range of scrypt");
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6070 for SHA-1; RFC 7914, section 11, for SHA-256.
    #[test]
    fn pbkdf2_gives_the_published_results() {
        for (hash, password, salt, iterations, expected) in [
            (Hash::Sha1, "password", "salt", 1, "0c60c80f961f0e71f3a9b524af6012062fe037a6"),
            (Hash::Sha1, "password", "salt", 2, "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957"),
            (Hash::Sha1, "password", "salt", 4096, "4b007901b765489abead49d926f721d065a429c1"),
            (
                Hash::Sha1,
                "passwordPASSWORDpassword",
                "saltSALTsaltSALTsaltSALTsaltSALTsalt",
                4096,
                "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038",
            ),
            (Hash::Sha1, "pass\0word", "sa\0lt", 4096, "56fa6aa75548099dcc37d7f03425e0c3"),
            (
                Hash::Sha256,
                "passwd",
                "salt",
                1,
                "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783",
            ),
            (
                Hash::Sha256,
                "Password",
                "NaCl",
                80000,
                "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56a1d425a1225833549adb841b51c9b3176a272bdebba1d078478f62b397f33c8d",
            ),
        ] {
            let length = u32::try_from(expected.len() / 2).unwrap();
            let derived = Pbkdf2::new(hash, iterations, length).unwrap().derive(password.as_bytes(), salt.as_bytes());
            assert_eq!(hex::encode(derived), expected, "{password}");
        }
        for (iterations, length) in [(0, 20), (1, 0), (1, LENGTH_MAX + 1)] {
            assert!(Pbkdf2::new(Hash::Sha1, iterations, length).is_err());
        }
    }

    /// RFC 7914, section 12, but for the one that needs a gigabyte.
    #[test]
    fn scrypt_gives_the_published_results() {
        for (password, salt, n, r, p, expected) in [
            (
                "",
                "",
                16,
                1,
                1,
                "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906",
            ),
            (
                "password",
                "NaCl",
                1024,
                8,
                16,
                "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b3731622eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640",
            ),
            (
                "pleaseletmein",
                "SodiumChloride",
                16384,
                8,
                1,
                "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887",
            ),
        ] {
            let derived = Scrypt::new(n, r, p, 64).unwrap().derive(password.as_bytes(), salt.as_bytes());
            assert_eq!(hex::encode(derived), expected, "{password}");
        }
        for (n, r, p) in
            [(1 << 20, 8, 1), (0, 8, 1), (1, 8, 1), (3, 8, 1), (16, 0, 1), (16, 8, 0), (2, u32::MAX, u32::MAX)]
        {
            assert!(Scrypt::new(n, r, p, 64).is_err(), "{n} {r} {p}");
        }
    }

    #[test]
    fn a_default_invocation_pays_for_what_passwords_need() {
        let fuel = crate::domain::limits::Limits::default().fuel;
        assert!(Pbkdf2::new(Hash::Sha256, 1_200_000, 32).unwrap().cost() < fuel);
        assert!(Pbkdf2::new(Hash::Sha256, u32::MAX, 32).unwrap().cost() > fuel);
        assert!(Scrypt::new(1 << 16, 8, 1, 64).unwrap().cost() < fuel);
    }
}
