//! What there is to buy: the offers of the configuration, and those of models that are usable by their mere name
//! because a provider was found in the environment.
//!
//! Lists are kept by their revision, so that an old choice can be explained over the list it was made over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use everstate_kernel::offer::Offer;
use everstate_kernel::policy::Constraints;
use everstate_placement::offers::Offers;
use everstate_providers::found::{Found, open_offers};
use everstate_runtime::host::Host;
use everstate_runtime::market::Market;
use everstate_runtime::ports::{Clock, Document, Down, Model, Put, PutError, Registry};
use serde::{Deserialize, Serialize};

use crate::config::file::distance;
use crate::error::{ApiError, Result, codes, shown};
use crate::keys::INSTALLATION;

const NAMED: &str = "named_models";
pub(crate) const OFFERS: &str = "offers";
/// Models by their mere name, at most so many: names are cheap to invent.
const NAMED_MAX: usize = 500;
const NAME_CHARS_MAX: usize = 200;

#[derive(Debug)]
pub(crate) struct Stall {
    hosts: Vec<Arc<Host>>,
    registry: Arc<dyn Registry>,
    clock: Arc<dyn Clock>,
    models: BTreeMap<String, Arc<dyn Model>>,
    constraints: Constraints,
    configured: Vec<Offer>,
    /// Where a model that nobody wrote down is looked for.
    found: Option<Found>,
    named: tokio::sync::Mutex<Named>,
    offers: Mutex<Arc<Offers>>,
}

/// Models that were asked for by their mere name; kept, so that they are there after a restart.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Named {
    models: BTreeSet<String>,
}

/// What a stall begins with.
#[derive(Debug)]
pub(crate) struct Goods {
    pub models: BTreeMap<String, Arc<dyn Model>>,
    pub constraints: Constraints,
    pub configured: Vec<Offer>,
    pub found: Option<Found>,
}

impl Goods {
    /// Before any host is there.
    pub(crate) async fn market(
        &self,
        registry: &dyn Registry,
    ) -> std::result::Result<Market, Down> {
        let named = load(registry).await?;
        Ok(Market {
            offers: Arc::new(self.offers(&named)),
            models: self.models.clone(),
            constraints: self.constraints.clone(),
        })
    }

    fn offers(&self, named: &Named) -> Offers {
        list(&self.configured, self.found.as_ref(), named)
    }
}

fn list(configured: &[Offer], found: Option<&Found>, named: &Named) -> Offers {
    let known: BTreeSet<&str> = configured.iter().map(|it| it.model.as_str()).collect();
    let by_name = named
        .models
        .iter()
        .filter(|it| !known.contains(it.as_str()))
        .flat_map(|model| found.into_iter().flat_map(|it| open_offers(it, model)));
    Offers::new(configured.iter().cloned().chain(by_name).collect())
}

async fn load(registry: &dyn Registry) -> std::result::Result<Named, Down> {
    Ok(read(registry.get(INSTALLATION, NAMED, NAMED).await?.as_ref()))
}

fn read(found: Option<&Document>) -> Named {
    found.and_then(|it| serde_json::from_slice(&it.body).ok()).unwrap_or_default()
}

impl Stall {
    pub(crate) async fn open(
        goods: Goods,
        hosts: Vec<Arc<Host>>,
        registry: Arc<dyn Registry>,
        clock: Arc<dyn Clock>,
    ) -> std::result::Result<Stall, Down> {
        let named = load(&*registry).await?;
        let offers = Arc::new(goods.offers(&named));
        let stall = Stall {
            hosts,
            registry,
            clock,
            models: goods.models,
            constraints: goods.constraints,
            configured: goods.configured,
            found: goods.found,
            named: tokio::sync::Mutex::new(named),
            offers: Mutex::new(offers.clone()),
        };
        stall.keep(&offers).await?;
        Ok(stall)
    }

    pub(crate) fn offers(&self) -> Arc<Offers> {
        self.offers.lock().expect("nothing panics while it holds the offers").clone()
    }

    /// The list a choice was made over.
    pub(crate) async fn offers_of(
        &self,
        revision: u64,
    ) -> std::result::Result<Option<Offers>, Down> {
        let now = self.offers();
        if now.revision == revision {
            return Ok(Some((*now).clone()));
        }
        let found = self.registry.get(INSTALLATION, OFFERS, &revision.to_string()).await?;
        let list = found.and_then(|it| serde_json::from_slice::<Vec<Offer>>(&it.body).ok());
        Ok(list.map(Offers::new))
    }

    /// Makes sure that the model can be asked for, or says why not. Nothing is sent anywhere.
    pub(crate) async fn want(&self, model: &str) -> Result<()> {
        if self.has(model) {
            return Ok(());
        }
        let plausible = (1..=NAME_CHARS_MAX).contains(&model.len())
            && model.chars().all(|it| it.is_ascii_graphic());
        if self.found.is_none() || !plausible {
            return Err(self.unknown(model));
        }
        let mut named = self.named.lock().await;
        if self.has(model) {
            return Ok(());
        }
        // Other nodes write there too: what they named is named here as well.
        loop {
            let found = self.registry.get(INSTALLATION, NAMED, NAMED).await?;
            let mut more = read(found.as_ref());
            if more.models.len() >= NAMED_MAX && !more.models.contains(model) {
                return Err(self.unknown(model).why(format!(
                    "{NAMED_MAX} models were named already; write this one down as [[offers]]"
                )));
            }
            let is_new = more.models.insert(model.to_owned());
            let offers = Arc::new(list(&self.configured, self.found.as_ref(), &more));
            self.keep(&offers).await?;
            let body = serde_json::to_vec(&more).expect("names have a JSON form");
            let put = self.document(NAMED, NAMED, found.map(|it| it.revision), body);
            let put = match is_new {
                true => self.registry.put(put).await.map(drop),
                false => Ok(()),
            };
            match put {
                Ok(()) => {
                    self.show(&mut named, more, offers);
                    return Ok(());
                }
                Err(PutError::Conflict(_)) => {}
                Err(PutError::Down(down)) => return Err(down.into()),
            }
        }
    }

    /// Takes in what other nodes have named meanwhile.
    pub(crate) async fn refresh(&self) -> std::result::Result<(), Down> {
        if self.found.is_none() {
            return Ok(());
        }
        let mut named = self.named.lock().await;
        let more = load(&*self.registry).await?;
        if more.models != named.models {
            let offers = Arc::new(list(&self.configured, self.found.as_ref(), &more));
            self.keep(&offers).await?;
            self.show(&mut named, more, offers);
        }
        Ok(())
    }

    fn show(&self, named: &mut Named, more: Named, offers: Arc<Offers>) {
        for host in &self.hosts {
            host.set_market(Market {
                offers: offers.clone(),
                models: self.models.clone(),
                constraints: self.constraints.clone(),
            });
        }
        *self.offers.lock().expect("nothing panics while it holds the offers") = offers;
        *named = more;
    }

    fn has(&self, model: &str) -> bool {
        self.offers().list.iter().any(|it| it.model == model)
    }

    pub(crate) fn unknown(&self, model: &str) -> ApiError {
        let offers = self.offers();
        let known: BTreeSet<&str> = offers.list.iter().map(|it| it.model.as_str()).collect();
        let near = known
            .iter()
            .map(|it| (distance(model, it), *it))
            .filter(|(far, it)| *far <= 1 + it.len() / 4)
            .min();
        let mut error = ApiError::new(
            &codes::MODEL_NOT_FOUND,
            format!("The model '{}' does not exist; nothing was sent.", shown(model)),
        )
        .param("model");
        if let Some((_, near)) = near {
            error = error.why(format!("did you mean `{near}`?"));
        }
        error = error.why(format!(
            "there are {}",
            known.into_iter().take(20).collect::<Vec<_>>().join(", ")
        ));
        if self.found.is_none() {
            error = error.attempt("set OPENAI_API_KEY, or add [[offers]] to everstate.toml");
        }
        error
    }

    async fn keep(&self, offers: &Offers) -> std::result::Result<(), Down> {
        let body = serde_json::to_vec(&offers.list).expect("offers have a JSON form");
        self.put(OFFERS, &offers.revision.to_string(), body).await
    }

    /// Whatever stands there is replaced.
    async fn put(&self, kind: &str, id: &str, body: Vec<u8>) -> std::result::Result<(), Down> {
        let mut expect = None;
        loop {
            let put = self.document(kind, id, expect, body.clone());
            match self.registry.put(put).await {
                Ok(_) => return Ok(()),
                Err(PutError::Conflict(Some(standing))) if standing.body == body => return Ok(()),
                Err(PutError::Conflict(standing)) => expect = standing.map(|it| it.revision),
                Err(PutError::Down(down)) => return Err(down),
            }
        }
    }

    fn document(&self, kind: &str, id: &str, expect: Option<u64>, body: Vec<u8>) -> Put {
        Put {
            project: INSTALLATION.to_owned(),
            kind: kind.to_owned(),
            id: id.to_owned(),
            expect,
            body: body.into(),
            now: self.clock.now(),
            expires_at: None,
        }
    }
}
