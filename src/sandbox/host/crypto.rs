//! `pq:host/crypto` for guests.
//!
//! Each call is paid for before it computes, and what may take longer than a moment computes on a thread of its own, so
//! that other guests of this thread go on.

use crate::{
    crypto::{self, CryptoError, Hash, KeyKind, Pbkdf2, PrivateKey, PublicKey, Scheme, Scrypt},
    sandbox::{bindings::pq::host::crypto as wit, state::SlotState},
};

type Outcome<T> = wasmtime::Result<Result<T, wit::Error>>;

/// Cost above which a call moves to another thread: some 0.5 ms.
const LONG: u64 = 2_500_000;

impl SlotState {
    async fn compute<T: Send + 'static>(
        &mut self,
        cost: u64,
        work: impl FnOnce() -> Result<T, CryptoError> + Send + 'static,
    ) -> Outcome<T> {
        self.charge(cost)?;
        let result = if cost > LONG { tokio::task::spawn_blocking(work).await? } else { work() };
        Ok(result.map_err(wit::Error::from))
    }
}

impl wit::Host for SlotState {
    async fn load_public_key(&mut self, data: Vec<u8>) -> Outcome<wit::PublicKey> {
        self.compute(PublicKey::load_cost(), move || PublicKey::load(&data).map(wit::PublicKey::from)).await
    }

    async fn load_private_key(&mut self, data: Vec<u8>) -> Outcome<wit::PrivateKey> {
        self.compute(PrivateKey::load_cost(), move || {
            let PrivateKey { der, public } = PrivateKey::load(&data)?;
            Ok(wit::PrivateKey { der: der.to_vec(), public: public.into() })
        })
        .await
    }

    async fn sign(&mut self, key: Vec<u8>, scheme: wit::Scheme, hash: wit::Hash, message: Vec<u8>) -> Outcome<Vec<u8>> {
        let scheme = Scheme::from(scheme);
        if scheme == Scheme::RsaPss {
            self.saw_random();
        }
        let cost = scheme.sign_cost(&key, &message);
        self.compute(cost, move || crypto::sign(&key, scheme, hash.into(), &message)).await
    }

    async fn verify(
        &mut self,
        key: Vec<u8>,
        scheme: wit::Scheme,
        hash: wit::Hash,
        message: Vec<u8>,
        signature: Vec<u8>,
    ) -> Outcome<bool> {
        let scheme = Scheme::from(scheme);
        let cost = scheme.verify_cost(&message);
        self.compute(cost, move || crypto::verify(&key, scheme, hash.into(), &message, &signature)).await
    }

    async fn aes_cbc_encrypt(&mut self, key: Vec<u8>, iv: Vec<u8>, data: Vec<u8>) -> Outcome<Vec<u8>> {
        self.compute(crypto::aes_cost(data.len()), move || crypto::aes_cbc(&key, &iv, data, true)).await
    }

    async fn aes_cbc_decrypt(&mut self, key: Vec<u8>, iv: Vec<u8>, data: Vec<u8>) -> Outcome<Vec<u8>> {
        self.compute(crypto::aes_cost(data.len()), move || crypto::aes_cbc(&key, &iv, data, false)).await
    }

    async fn pbkdf2_hmac(
        &mut self,
        hash: wit::Hash,
        password: Vec<u8>,
        salt: Vec<u8>,
        iterations: u32,
        length: u32,
    ) -> Outcome<Vec<u8>> {
        match Pbkdf2::new(hash.into(), iterations, length) {
            Ok(parameters) => self.compute(parameters.cost(), move || Ok(parameters.derive(&password, &salt))).await,
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn scrypt(
        &mut self,
        password: Vec<u8>,
        salt: Vec<u8>,
        n: u32,
        r: u32,
        p: u32,
        length: u32,
    ) -> Outcome<Vec<u8>> {
        match Scrypt::new(n, r, p, length) {
            Ok(parameters) => self.compute(parameters.cost(), move || Ok(parameters.derive(&password, &salt))).await,
            Err(error) => Ok(Err(error.into())),
        }
    }
}

impl From<wit::Hash> for Hash {
    fn from(hash: wit::Hash) -> Self {
        match hash {
            wit::Hash::Sha1 => Self::Sha1,
            wit::Hash::Sha224 => Self::Sha224,
            wit::Hash::Sha256 => Self::Sha256,
            wit::Hash::Sha384 => Self::Sha384,
            wit::Hash::Sha512 => Self::Sha512,
        }
    }
}

impl From<wit::Scheme> for Scheme {
    fn from(scheme: wit::Scheme) -> Self {
        match scheme {
            wit::Scheme::RsaPkcs1V15 => Self::RsaPkcs1v15,
            wit::Scheme::RsaPss => Self::RsaPss,
            wit::Scheme::Ecdsa => Self::Ecdsa,
        }
    }
}

impl From<PublicKey> for wit::PublicKey {
    fn from(key: PublicKey) -> Self {
        let PublicKey { kind, der, first, second } = key;
        let kind = match kind {
            KeyKind::Rsa => wit::KeyKind::Rsa,
            KeyKind::P256 => wit::KeyKind::P256,
            KeyKind::P384 => wit::KeyKind::P384,
        };
        Self { kind, der, first, second }
    }
}

impl From<CryptoError> for wit::Error {
    fn from(error: CryptoError) -> Self {
        let code = match &error {
            CryptoError::InvalidKey(_) => wit::ErrorCode::InvalidKey,
            CryptoError::InvalidArgument(_) => wit::ErrorCode::InvalidArgument,
        };
        Self { code, message: error.to_string() }
    }
}
