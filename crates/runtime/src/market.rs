//! What there is to buy, and through whom. Swapped whole when the configuration changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use everstate_kernel::offer::OfferId;
use everstate_kernel::policy::Constraints;
use everstate_placement::offers::Offers;

use crate::ports::Model;

#[derive(Clone, Debug)]
pub struct Market {
    pub offers: Arc<Offers>,
    /// By the provider's name.
    pub models: BTreeMap<String, Arc<dyn Model>>,
    /// In force today. Joined with those a turn recorded.
    pub constraints: Constraints,
}

impl Market {
    /// Offers whose provider is not there to be asked.
    pub(crate) fn unserved(&self) -> BTreeSet<OfferId> {
        let unserved = self.offers.list.iter().filter(|it| !self.models.contains_key(&it.provider));
        unserved.map(|it| it.id.clone()).collect()
    }
}
