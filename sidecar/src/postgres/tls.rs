//! TLS to the database as libpq's `sslmode` means it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::{TlsMode, TlsSettings};

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file is missing or is not PEM.
    #[error("{path} holds no usable certificate or key: {reason}; name a PEM file that this user may read")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The machine has no list of authorities.
    #[error("this machine has no trusted authorities; install ca-certificates or set sslrootcert")]
    NoRoots,
    /// The authorities or our own certificate do not fit together.
    #[error("the certificates cannot be used")]
    Rustls(#[from] rustls::Error),
    /// The authorities cannot be used.
    #[error("the trusted authorities cannot be used")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

/// A connector for these settings.
pub(super) fn connector(settings: &TlsSettings) -> Result<MakeRustlsConnect, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = verifier(settings, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let config = match &settings.identity {
        Some((certificate, key)) => builder.with_client_auth_cert(certificates(certificate)?, private_key(key)?)?,
        None => builder.with_no_client_auth(),
    };
    Ok(MakeRustlsConnect::new(config))
}

fn verifier(settings: &TlsSettings, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    // As libpq: naming authorities turns `require` into `verify-ca`.
    let mode = match settings.mode {
        TlsMode::Require if settings.roots.is_some() => TlsMode::VerifyCa,
        mode => mode,
    };
    if matches!(mode, TlsMode::Disable | TlsMode::Prefer | TlsMode::Require) {
        return Ok(Arc::new(Unverified(provider.signature_verification_algorithms)));
    }
    let named = settings.roots.as_deref().map(certificates).transpose()?;
    let roots = Arc::new(roots(named.as_deref())?);
    let chain = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build()?;
    Ok(Arc::new(Verified { chain, named: named.unwrap_or_default(), any_name: mode == TlsMode::VerifyCa }))
}

fn roots(named: Option<&[CertificateDer<'static>]>) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    match named {
        Some(certificates) => {
            for certificate in certificates {
                store.add(certificate.clone())?;
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if store.is_empty() { Err(TlsError::NoRoots) } else { Ok(store) }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let broken = |reason: String| TlsError::File { path: path.to_path_buf(), reason };
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(certificates) if certificates.is_empty() => Err(broken("it is empty".to_owned())),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(broken(error.to_string())),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|error| TlsError::File { path: path.to_path_buf(), reason: error.to_string() })
}

/// Encrypts without knowing to whom: `prefer` and `require` promise no more.
#[derive(Debug)]
struct Unverified(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// `verify-ca` and `verify-full`: the authority must be trusted; the former does not compare the host's name.
#[derive(Debug)]
struct Verified {
    chain: Arc<WebPkiServerVerifier>,
    /// The certificates of `sslrootcert`.
    named: Vec<CertificateDer<'static>>,
    any_name: bool,
}

impl Verified {
    /// A server may show the very certificate that `sslrootcert` names: `openssl req -x509` makes one that is its own
    /// authority, and libpq takes it. Webpki calls that an authority in the wrong place, after it has looked at the dates.
    fn verify_named(
        &self,
        end_entity: &CertificateDer<'_>,
        server_name: &ServerName<'_>,
        error: rustls::Error,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !self.named.iter().any(|it| it == end_entity) {
            return Err(error);
        }
        if !self.any_name {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }
}

impl ServerCertVerifier for Verified {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext, Other};
        match self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last, so this error means that all the rest was good.
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }))
                if self.any_name =>
            {
                Ok(ServerCertVerified::assertion())
            }
            Err(error @ rustls::Error::InvalidCertificate(Other(_))) => {
                self.verify_named(end_entity, server_name, error)
            }
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
