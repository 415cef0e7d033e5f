//! Recipients and identities, and sealing to them: HPKE (RFC 9180) in its base mode, DHKEM(X25519, HKDF-SHA256),
//! HKDF-SHA256, AES-256-GCM. It says who can read, and nothing about who wrote.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::agreement::{PrivateKey, X25519};
use aws_lc_rs::digest;
use everstate_kernel::ids::{base32, from_base32};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as SUITE;
use rustls::crypto::hpke::{
    EncapsulatedSecret, Hpke, HpkeOpener, HpkePrivateKey, HpkePublicKey, HpkeSealer,
};

/// A public key that bundles are sealed to: `evr_`, then base 32.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient([u8; 32]);

/// The key pair of a recipient: `evi_`, then base 32. Whoever has it opens what was sealed to its recipient.
pub struct Identity {
    secret: [u8; 32],
    recipient: Recipient,
}

const CHECK: usize = 4;

/// The text is no such key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadKey(&'static str);

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BadKey {}

/// The key's bytes, then four of their hash, so that a slip of the hand is noticed.
fn write(prefix: &str, key: &[u8]) -> String {
    let check = digest::digest(&digest::SHA256, &[prefix.as_bytes(), key].concat());
    format!("{prefix}{}", base32(&[key, &check.as_ref()[..CHECK]].concat()))
}

fn read<const N: usize>(prefix: &str, text: &str) -> Option<[u8; N]> {
    let bytes = from_base32(text.strip_prefix(prefix)?)?;
    let key: [u8; N] = bytes.get(..N)?.try_into().ok()?;
    (write(prefix, &key) == text).then_some(key)
}

const RECIPIENT: &str = "evr_";
const IDENTITY: &str = "evi_";

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&write(RECIPIENT, &self.0))
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Recipient {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Recipient, BadKey> {
        let key = read(RECIPIENT, text);
        key.map(Recipient).ok_or(BadKey(
            "not a recipient: it is `evr_` and 58 letters and digits, without a slip",
        ))
    }
}

impl Identity {
    /// A new one.
    pub fn draw() -> Identity {
        let (public, secret) = SUITE.generate_key_pair().expect("the system gives random bytes");
        let bytes = |it: &[u8]| <[u8; 32]>::try_from(it).expect("an X25519 key is 32 bytes long");
        Identity { secret: bytes(secret.secret_bytes()), recipient: Recipient(bytes(&public.0)) }
    }

    /// The one that belongs to a secret. `None`: it is no key.
    pub(crate) fn of_secret(secret: [u8; 32]) -> Option<Identity> {
        let key = PrivateKey::from_private_key(&X25519, &secret).ok()?;
        let public = key.compute_public_key().ok()?;
        Some(Identity { secret, recipient: Recipient(public.as_ref().try_into().ok()?) })
    }

    pub fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    /// For its file, and nowhere else.
    pub fn reveal(&self) -> String {
        write(IDENTITY, &[self.secret, self.recipient.0].concat())
    }
}

impl FromStr for Identity {
    type Err = BadKey;

    /// The text is not repeated in the error: it may be most of a key.
    fn from_str(text: &str) -> Result<Identity, BadKey> {
        let both: Option<[u8; 64]> = read(IDENTITY, text);
        let both = both.ok_or(BadKey("not an identity: it is `evi_` and letters and digits"))?;
        let (secret, public) = both.split_at(32);
        let bytes = |it: &[u8]| <[u8; 32]>::try_from(it).expect("half of 64 bytes");
        Ok(Identity { secret: bytes(secret), recipient: Recipient(bytes(public)) })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.recipient)
    }
}

/// Seals one bundle, chunk by chunk. The suite counts the chunks: none can be left out, moved or doubled.
#[derive(Debug)]
pub(crate) struct Sealer(Box<dyn HpkeSealer>);

/// Opens one bundle.
#[derive(Debug)]
pub(crate) struct Opener(Box<dyn HpkeOpener>);

impl Sealer {
    /// And what the recipient needs to open it. `None`: the recipient is no key that can be sealed to.
    pub(crate) fn new(to: &Recipient, info: &[u8]) -> Option<(Sealer, Vec<u8>)> {
        let (enc, sealer) = SUITE.setup_sealer(info, &HpkePublicKey(to.0.to_vec())).ok()?;
        Some((Sealer(sealer), enc.0))
    }

    pub(crate) fn seal(&mut self, belongs_to: &[u8], plain: &[u8]) -> Vec<u8> {
        self.0.seal(belongs_to, plain).expect("a bundle has fewer chunks than there are numbers")
    }
}

impl Opener {
    pub(crate) fn new(identity: &Identity, enc: Vec<u8>, info: &[u8]) -> Option<Opener> {
        let secret = HpkePrivateKey::from(identity.secret.to_vec());
        SUITE.setup_opener(&EncapsulatedSecret(enc), info, &secret).ok().map(Opener)
    }

    /// `None`: it was changed, moved, or sealed to somebody else.
    pub(crate) fn open(&mut self, belongs_to: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        self.0.open(belongs_to, sealed).ok()
    }
}
