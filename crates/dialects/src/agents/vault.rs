//! Vaults and credentials: what they are made of, as they are kept, and as they are told, which is without secrets.
//!
//! How clients write them, and what they may hold, is `read`'s business.

pub mod read;

use std::collections::BTreeMap;
use std::fmt;

use everstate_kernel::ids::Millis;
use everstate_kernel::json::Json;
use serde::{Deserialize, Serialize};

use crate::agents::saved::Times;
use crate::json::{Obj, array, quoted};
use crate::responses::request::Complaint;
use crate::responses::request::check::invalid;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vault {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// A credential with its secrets: to be kept sealed, and never to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    pub name: String,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    pub auth: Auth,
}

/// A text that is shown nowhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Auth {
    /// Tokens for an MCP server, with what gets new ones.
    McpOauth {
        mcp_server_url: String,
        access_token: Secret,
        /// As RFC 3339 writes it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refresh: Option<Refresh>,
    },
    /// One token for an MCP server.
    StaticBearer { mcp_server_url: String, token: Secret },
    /// What stands for a placeholder in requests to some hosts.
    EnvironmentVariable { secret_name: String, secret_value: Secret, networking: Networking },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refresh {
    pub client_id: String,
    pub refresh_token: Secret,
    pub token_endpoint: String,
    pub token_endpoint_auth: TokenEndpointAuth,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TokenEndpointAuth {
    None,
    ClientSecretBasic { client_secret: Secret },
    ClientSecretPost { client_secret: Secret },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Networking {
    /// Where the environment's own network goes.
    Unrestricted,
    /// In lower case.
    Limited { allowed_hosts: Vec<String> },
}

/// Changes to a vault: what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VaultPatch {
    pub name: Option<Option<String>>,
    pub metadata: Option<BTreeMap<String, String>>,
}

/// Changes to a credential: what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialPatch {
    pub auth: Option<Rotation>,
    pub metadata: Option<BTreeMap<String, String>>,
}

/// New secrets for the way of authentication that is there. What is absent stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotation {
    McpOauth {
        access_token: Option<Secret>,
        /// Not said: it stays, unless there is a new token; then nobody knows.
        expires_at: Option<Option<String>>,
        refresh: Option<RefreshRotation>,
    },
    StaticBearer {
        token: Secret,
    },
    EnvironmentVariable {
        secret_value: Secret,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefreshRotation {
    pub refresh_token: Option<Secret>,
    pub scope: Option<Option<String>>,
    /// The method, which has to be the one that is there, and its new secret.
    pub token_endpoint_auth: Option<(&'static str, Option<Secret>)>,
}

impl Secret {
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The text itself: for the request that it authorizes, and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

// ---- changing ----------------------------------------------------------------------------

impl Vault {
    pub fn merge(&mut self, patch: VaultPatch) {
        if let Some(name) = patch.name {
            self.name = name;
        }
        if let Some(metadata) = patch.metadata {
            self.metadata = metadata;
        }
    }
}

impl Credential {
    /// Nothing of it is done if any of it cannot be.
    pub fn merge(&self, patch: CredentialPatch) -> Result<Credential, Complaint> {
        Ok(Credential {
            name: self.name.clone(),
            metadata: patch.metadata.unwrap_or_else(|| self.metadata.clone()),
            auth: match patch.auth {
                Some(rotation) => self.auth.rotate(rotation)?,
                None => self.auth.clone(),
            },
        })
    }
}

impl Auth {
    pub fn kind(&self) -> &'static str {
        match self {
            Auth::McpOauth { .. } => "mcp_oauth",
            Auth::StaticBearer { .. } => "static_bearer",
            Auth::EnvironmentVariable { .. } => "environment_variable",
        }
    }

    fn rotate(&self, rotation: Rotation) -> Result<Auth, Complaint> {
        let mut auth = self.clone();
        match (&mut auth, rotation) {
            (
                Auth::McpOauth { access_token, expires_at, refresh, .. },
                Rotation::McpOauth { access_token: token, expires_at: expires, refresh: renewed },
            ) => {
                match (expires, &token) {
                    (Some(said), _) => *expires_at = said,
                    (None, Some(_)) => *expires_at = None,
                    (None, None) => {}
                }
                set(access_token, token);
                match (refresh, renewed) {
                    (Some(refresh), Some(renewed)) => refresh.rotate(renewed)?,
                    (None, Some(_)) => {
                        let message =
                            "Invalid 'auth.refresh': the credential has no refresh configuration.";
                        return Err(invalid("auth.refresh", message.to_owned()));
                    }
                    (Some(_) | None, None) => {}
                }
            }
            (Auth::StaticBearer { token, .. }, Rotation::StaticBearer { token: new }) => {
                *token = new;
            }
            (
                Auth::EnvironmentVariable { secret_value, .. },
                Rotation::EnvironmentVariable { secret_value: new },
            ) => *secret_value = new,
            (
                Auth::McpOauth { .. }
                | Auth::StaticBearer { .. }
                | Auth::EnvironmentVariable { .. },
                _,
            ) => {
                return Err(other_kind("auth.type", self.kind()));
            }
        }
        Ok(auth)
    }
}

impl Refresh {
    fn rotate(&mut self, rotation: RefreshRotation) -> Result<(), Complaint> {
        set(&mut self.refresh_token, rotation.refresh_token);
        if let Some(scope) = rotation.scope {
            self.scope = scope;
        }
        let Some((kind, secret)) = rotation.token_endpoint_auth else { return Ok(()) };
        let ours = self.token_endpoint_auth.kind();
        match &mut self.token_endpoint_auth {
            TokenEndpointAuth::ClientSecretBasic { client_secret }
            | TokenEndpointAuth::ClientSecretPost { client_secret }
                if kind == ours =>
            {
                set(client_secret, secret);
                Ok(())
            }
            TokenEndpointAuth::None
            | TokenEndpointAuth::ClientSecretBasic { .. }
            | TokenEndpointAuth::ClientSecretPost { .. } => {
                Err(other_kind("auth.refresh.token_endpoint_auth.type", ours))
            }
        }
    }
}

impl TokenEndpointAuth {
    fn kind(&self) -> &'static str {
        match self {
            TokenEndpointAuth::None => "none",
            TokenEndpointAuth::ClientSecretBasic { .. } => "client_secret_basic",
            TokenEndpointAuth::ClientSecretPost { .. } => "client_secret_post",
        }
    }
}

fn set(secret: &mut Secret, new: Option<Secret>) {
    if let Some(new) = new {
        *secret = new;
    }
}

fn other_kind(param: &str, ours: &str) -> Complaint {
    let message = format!(
        "Invalid '{param}': the credential's is '{ours}', and stays so. Make another credential for another."
    );
    invalid(param, message)
}

// ---- telling -----------------------------------------------------------------------------

pub fn vault_object(id: &str, created_at: Millis, vault: &Vault) -> Json {
    let mut out = Obj::new();
    out.str("id", id).str("object", "vault").num("created_at", created_at / 1000);
    out.raw("metadata", Json::of(&vault.metadata).text());
    out.str_or_null("name", vault.name.as_deref());
    out.json()
}

pub fn credential_object(id: &str, vault: &str, times: Times, credential: &Credential) -> Json {
    let mut out = Obj::new();
    out.str("id", id).str("object", "vault.credential").str("vault_id", vault);
    out.num("created_at", times.created_at / 1000).num("updated_at", times.updated_at / 1000);
    out.str("name", &credential.name);
    out.raw("metadata", Json::of(&credential.metadata).text());
    out.raw("auth", &auth_object(&credential.auth));
    out.json()
}

/// Every field is named here, so that a secret can get out only by being written down.
fn auth_object(auth: &Auth) -> String {
    let mut out = Obj::of_kind(auth.kind());
    match auth {
        Auth::McpOauth { mcp_server_url, access_token: _, expires_at, refresh } => {
            out.str("mcp_server_url", mcp_server_url);
            out.str_or_null("expires_at", expires_at.as_deref());
            match refresh {
                Some(refresh) => out.raw("refresh", &refresh_object(refresh)),
                None => out.null("refresh"),
            };
        }
        Auth::StaticBearer { mcp_server_url, token: _ } => {
            out.str("mcp_server_url", mcp_server_url);
        }
        Auth::EnvironmentVariable { secret_name, secret_value: _, networking } => {
            let mut where_to = match networking {
                Networking::Unrestricted => Obj::of_kind("unrestricted"),
                Networking::Limited { .. } => Obj::of_kind("limited"),
            };
            if let Networking::Limited { allowed_hosts } = networking {
                where_to.raw("allowed_hosts", &array(allowed_hosts.iter().map(|it| quoted(it))));
            }
            out.str("secret_name", secret_name).raw("networking", &where_to.text());
        }
    }
    out.text()
}

fn refresh_object(refresh: &Refresh) -> String {
    let Refresh {
        client_id,
        refresh_token: _,
        token_endpoint,
        token_endpoint_auth,
        resource,
        scope,
    } = refresh;
    let mut out = Obj::new();
    out.str("client_id", client_id).str("token_endpoint", token_endpoint);
    out.raw("token_endpoint_auth", &Obj::of_kind(token_endpoint_auth.kind()).text());
    out.str_or_null("resource", resource.as_deref()).str_or_null("scope", scope.as_deref());
    out.text()
}
