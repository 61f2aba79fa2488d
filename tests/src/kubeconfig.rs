//! Kubeconfig files: where the API server is, and who asks.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::pki::write_private;

/// Content of a kubeconfig: all that kubectl, kube and Gatehouse need.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `https://127.0.0.1:port`
    pub server: String,
    /// The file with the API server's CA.
    pub ca: PathBuf,
    /// A bearer token.
    pub token: String,
}

impl Identity {
    /// The same user by another way, a [`crate::Proxy`] for instance.
    #[must_use]
    pub fn through(&self, address: std::net::SocketAddr) -> Self {
        Self {
            server: format!("https://{address}"),
            ..self.clone()
        }
    }

    /// Writes the file with mode 0600.
    pub fn write(&self, file: &Path) -> Result<PathBuf, Error> {
        let Self { server, ca, token } = self;
        let ca = ca.display();
        write_private(
            file,
            &format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: gatehouse\nclusters:\n- name: gatehouse\n  cluster:\n    \
                 server: {server}\n    certificate-authority: {ca}\nusers:\n- name: gatehouse\n  user:\n    token: \
                 {token}\ncontexts:\n- name: gatehouse\n  context: {{cluster: gatehouse, user: gatehouse}}\n"
            ),
        )?;
        Ok(file.to_owned())
    }
}
