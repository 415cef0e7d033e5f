//! The list a choice is made over. Reading it from a configuration is left to the providers and the server.

use everstate_kernel::json::Json;
use everstate_kernel::offer::Offer;

/// Offers in a fixed order, named by what they say.
#[derive(Clone, Debug, PartialEq)]
pub struct Offers {
    /// Changes when any offer does, and is the same on every machine. Fits a JSON number of any reader (53 bits).
    pub revision: u64,
    /// By model, then by id: a plan names offers by their places here, and those of one model are neighbours.
    pub list: Vec<Offer>,
}

impl Offers {
    pub fn new(mut list: Vec<Offer>) -> Offers {
        list.sort_by(|a, b| (&a.model, &a.id).cmp(&(&b.model, &b.id)));
        Offers { revision: revision(&list), list }
    }

    pub fn get(&self, id: &str) -> Option<&Offer> {
        self.list.iter().find(|it| it.id == id)
    }
}

/// FNV-1a over the offers as JSON. It has to be stable, not secret.
fn revision(list: &[Offer]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for offer in list {
        for byte in Json::of(offer).text().bytes().chain([b'\n']) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    (hash ^ hash >> 53) & ((1 << 53) - 1)
}
