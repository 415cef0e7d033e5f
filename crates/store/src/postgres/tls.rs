//! TLS to the server, by `sslmode` as PostgreSQL's own programs mean it: `disable`, `prefer` (the default) and
//! `require` do not look at the certificate; `verify-full` (and `verify-ca`, which is taken for the same) does, by the
//! system's roots, or by those in the file that `sslrootcert` names.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;

/// What is asked of a certificate.
#[derive(Debug, PartialEq)]
pub(super) enum Check {
    Nothing,
    System,
    Roots(String),
}

/// Takes those options out of the URL that the client library does not know.
pub(super) fn take_options(url: &str) -> Result<(String, Check), String> {
    let Some((base, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), Check::Nothing));
    };
    let (mut left, mut verify, mut roots) = (Vec::new(), false, None);
    for option in query.split('&') {
        match option.split_once('=') {
            Some(("sslmode", "verify-full" | "verify-ca")) => verify = true,
            Some(("sslmode", "allow")) => left.push("sslmode=prefer"),
            Some(("sslrootcert", path)) => roots = Some(path.replace("%2F", "/")),
            _ => left.push(option),
        }
    }
    let check = match (verify, roots) {
        (true, Some(path)) if path != "system" => Check::Roots(path),
        (true, _) => Check::System,
        (false, None) => Check::Nothing,
        (false, Some(_)) => {
            return Err("`sslrootcert` says whom to trust, but only `sslmode=verify-full` asks: \
                        add it to the URL of the database"
                .to_owned());
        }
    };
    Ok((format!("{base}?{}", left.join("&")), check))
}

pub(super) fn client(check: &Check) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|err| format!("TLS cannot be set up: {err}"))?;
    let config = match check {
        Check::Nothing => {
            let anyone = Arc::new(Anyone(provider));
            builder.dangerous().with_custom_certificate_verifier(anyone)
        }
        Check::System => {
            let verifier = Verifier::new(provider)
                .map_err(|err| format!("the system's certificates cannot be used: {err}"))?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
        Check::Roots(path) => builder.with_root_certificates(roots(Path::new(path))?),
    };
    Ok(Arc::new(config.with_no_client_auth()))
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let cannot = |why: String| format!("cannot use the certificates in {}: {why}", path.display());
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|it| cannot(it.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|it| cannot(it.to_string()))?;
        roots.add(certificate).map_err(|it| cannot(it.to_string()))?;
    }
    match roots.is_empty() {
        true => Err(cannot("there is none in it".to_owned())),
        false => Ok(roots),
    }
}

/// Encrypts to whoever answers.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
