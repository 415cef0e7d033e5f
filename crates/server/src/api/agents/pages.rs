//! Pages of lists, as this API has them: `order`, `after`, `limit`; `first_id`, `last_id` and `has_more` always there.

use everstate_kernel::json::Json;

use crate::error::{ApiError, Result, codes, shown};
use crate::http::Answer;

const LIMIT: usize = 20;
const LIMIT_MAX: usize = 100;

/// What is asked for. Parameters that are not known are left alone: clients add their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) newest_first: bool,
    /// Exclusive, in that order.
    pub(super) after: Option<String>,
    pub(super) limit: usize,
}

/// Parameters as they stand in the address.
pub(super) type Asked = Vec<(String, String)>;

impl Page {
    pub(super) fn read(asked: &Asked) -> Result<Page> {
        let mut page = Page { newest_first: true, after: None, limit: LIMIT };
        for (name, value) in asked {
            match name.as_str() {
                "after" => page.after = Some(value.clone()),
                "limit" => {
                    let limit = value.parse().ok().filter(|it| (1..=LIMIT_MAX).contains(it));
                    page.limit = limit.ok_or_else(|| {
                        let text = format!("Invalid 'limit': it is from 1 to {LIMIT_MAX}.");
                        ApiError::new(&codes::INVALID_VALUE, text).param("limit")
                    })?;
                }
                "order" => {
                    page.newest_first = match value.as_str() {
                        "desc" => true,
                        "asc" => false,
                        _ => {
                            let text = "Invalid 'order': it is 'asc' or 'desc'.";
                            return Err(ApiError::new(&codes::INVALID_VALUE, text).param("order"));
                        }
                    };
                }
                _ => {}
            }
        }
        Ok(page)
    }

    /// One page of a list that is all there, oldest first, each row with its id; and whether there are more. The ids of
    /// rows before `after` are made on the way to it, those behind the page are not.
    pub(super) fn cut<T>(
        &self,
        mut rows: Vec<T>,
        id: impl Fn(&T) -> String,
    ) -> Result<(Vec<(String, T)>, bool)> {
        if self.newest_first {
            rows.reverse();
        }
        if let Some(after) = &self.after {
            let place = rows.iter().position(|it| id(it) == *after);
            rows.drain(..=place.ok_or_else(|| no_such(after))?);
        }
        let has_more = rows.len() > self.limit;
        rows.truncate(self.limit);
        Ok((rows.into_iter().map(|it| (id(&it), it)).collect(), has_more))
    }
}

pub(super) fn no_such(after: &str) -> ApiError {
    let text = format!("Invalid 'after': there is no '{}' in this list.", shown(after));
    ApiError::new(&codes::NOT_FOUND, text).param("after")
}

/// One page: each row with its id.
pub(super) fn answer(rows: &[(String, Json)], has_more: bool) -> Answer {
    let quoted = |it: Option<&(String, Json)>| match it {
        Some((id, _)) => serde_json::Value::from(id.as_str()).to_string(),
        None => "null".to_owned(),
    };
    let data: Vec<&str> = rows.iter().map(|(_, it)| it.text()).collect();
    Answer(format!(
        r#"{{"object":"list","data":[{}],"first_id":{},"last_id":{},"has_more":{has_more}}}"#,
        data.join(","),
        quoted(rows.first()),
        quoted(rows.last()),
    ))
}
